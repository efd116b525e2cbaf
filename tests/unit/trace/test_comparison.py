"""Differences between traces, and the distributions that they belong to."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from layer_minimizer.model.trace import TracedDistribution, TracedStandIn
from layer_minimizer.trace.comparison import compare_traces, summarize_trace


def test_what_is_counted_and_what_is_not(build: Any) -> None:
    modules = [
        ("a", "a/__init__.py", "", 0),
        ("a.ext", "a/ext.so", "a", 1),
        ("start", "start.py", "", 0, True),
        ("json", "", "a", 2),
    ]
    files = {
        "a/__init__.py": "open spec",
        "a/ext.so": "map spec",
        "a.libs/libx.so": "map",
        "a/data.txt": "open",
        "a/asked.txt": "stat",
        "a": "list",
        "a-1.0.dist-info/METADATA": "open",
        "start.py": "open",
    }
    (only,) = compare_traces([("one", build.trace(files, modules)), ("two", build.trace())])
    assert (only.names, only.distribution) == (("one",), "a")
    assert (only.modules, only.libraries, only.files) == (("a", "a.ext"), ("a.libs/libx.so",), ("a/data.txt",))
    assert str(only) == "only in one: a: a, a.ext, a.libs/libx.so, a/data.txt"


def test_a_distribution_is_named_by_the_environment_or_by_the_trace(build: Any) -> None:
    trace = build.trace(["PIL/x.dat", "shared/x.dat", "plain/x.dat"])
    known = replace(
        trace,
        distributions=(
            TracedDistribution("pillow", "12.0", ("PIL", "pillow.libs")),
            TracedDistribution("shared-one", "1", ("shared",)),
            TracedDistribution("shared-two", "1", ("shared",)),
        ),
    )
    assert {each.distribution for each in compare_traces([("one", known), ("two", build.trace())])} == {
        "pillow", "shared", "plain"
    }  # fmt: skip
    owners = {"PIL/x.dat": "pillow-simd", "shared/x.dat": "shared-two", "plain/x.dat": "flat"}
    found = compare_traces([("one", known), ("two", build.trace())], owners)
    assert {each.distribution for each in found} == {"pillow-simd", "shared-two", "flat"}


def test_three_traces_are_grouped_by_the_traces_that_contain_an_item(build: Any) -> None:
    one, two, three = (
        build.trace(["a/x.txt", "a/y.txt", "a/z.txt"]),
        build.trace(["a/x.txt", "a/y.txt"]),
        build.trace(["a/x.txt"]),
    )
    found = compare_traces([("one", one), ("two", two), ("three", three)])
    assert [(each.names, each.files) for each in found] == [(("one",), ("a/z.txt",)), (("one", "two"), ("a/y.txt",))]
    assert compare_traces([("one", one), ("again", one)]) == ()


def test_a_long_list_is_cut(build: Any) -> None:
    (only,) = compare_traces([("one", build.trace([f"a/{n}.txt" for n in range(1_006)])), ("two", build.trace())])
    assert str(only).endswith("a/1.txt, a/10.txt, a/100.txt and 1,002 more")
    assert len(only.to_json()["files"]) == 1_006


def test_a_module_with_a_stand_in_counts_as_imported(build: Any) -> None:
    real = build.trace(modules=[("a", "a.py", "", 0)])
    replaced = replace(build.trace(), stand_ins=(TracedStandIn("a", "a.py", {}),))
    assert compare_traces([("one", real), ("two", replaced)]) == ()
    assert "1 modules" in summarize_trace(replaced)
    assert "1 of the modules unused" in summarize_trace(replaced)
