"""Why a file is kept or dropped: the chain to the entry."""

from typing import Any

import pytest

from layer_minimizer.core.errors import PlanError
from layer_minimizer.model.installed import InstalledFile
from layer_minimizer.model.plan import KeepPlan
from layer_minimizer.plan.planner import PlanRequest, plan
from layer_minimizer.report.explain import explain


@pytest.fixture
def planned(build: Any) -> KeepPlan:
    """A handler that imports ``top``, which imports ``a.deep``; ``b`` is a library that ``a`` needs."""
    files = {
        "top.py": ("top-dist", 10), "a/__init__.py": ("a", 1), "a/deep.py": ("a", 2000), "a/ext.so": ("a", 30),
        "a/unused.py": ("a", 5), "b/lib.so": ("b", 7), "c/one/x.txt": ("c", 1), "c/two/y.txt": ("c", 2),
        "lonely.txt": ("alone", 3),
    }  # fmt: skip
    modules = [
        ("handler", "", "__main__", 176),
        ("top", "top.py", "handler", 1),
        ("a", "a/__init__.py", "top", 3),
        ("a.deep", "a/deep.py", "top", 3),
        ("a.ext", "a/ext.so", "a.deep", 9),
    ]
    trace = build.trace([path for _, path, _, _ in modules if path], modules)
    inventory = build.inventory(files, shadowed=[InstalledFile("top.py", 99, "old", "/lower/top.py")])
    made: KeepPlan = plan(
        trace, inventory, PlanRequest(),
        library_needs=lambda paths: [("b/lib.so", path) for path in paths if path == "a/ext.so"],
    )  # fmt: skip
    return made


def test_a_file_is_explained_up_to_the_entry(planned: KeepPlan) -> None:
    assert explain(planned, "b/lib.so").splitlines() == [
        "b/lib.so (7 bytes of b) is kept: NEEDED",
        "  a/ext.so is linked against it (DT_NEEDED)",
        "  \u2190 a/ext.so: imported as a.ext by a.deep, line 9",
        "  \u2190 a.deep is imported by top, line 3",
        "  \u2190 top is imported by handler, line 1",
        "  \u2190 handler is imported by __main__, line 176",
        "  \u2190 __main__ (the entry)",
    ]


def test_a_dropped_file_is_explained(planned: KeepPlan) -> None:
    assert explain(planned, "a/unused.py") == "a/unused.py (5 bytes of a) is dropped: UNUSED\n  nothing asked for it"


def test_a_module_is_explained_by_its_file(planned: KeepPlan) -> None:
    assert explain(planned, "a.deep") == explain(planned, "a/deep.py")


def test_a_file_that_shadows_another_is_explained_and_not_the_other(planned: KeepPlan) -> None:
    assert explain(planned, "top.py").startswith("top.py (10 bytes of top-dist) is kept: TRACED")


def test_a_distribution_is_explained_by_its_files(planned: KeepPlan) -> None:
    text = explain(planned, "C")
    assert "dropped: 2 files, 3 bytes (UNUSED 2)" in text
    assert "c/one/x.txt" in text


def test_a_distribution_that_is_a_module_too_is_explained_as_both(planned: KeepPlan) -> None:
    text = explain(planned, "a")
    assert "a/__init__.py (1 bytes of a) is kept: TRACED" in text
    assert "kept: 3 files, 2,031 bytes (TRACED 3)" in text
    assert "dropped: 1 files, 5 bytes (UNUSED 1)" in text


def test_folders_and_globs_are_explained(planned: KeepPlan) -> None:
    assert "dropped: 2 files" in explain(planned, "c/")
    text = explain(planned, "a/*")
    assert "kept: 3 files" in text
    assert "The first of them, a/__init__.py:" in text


@pytest.mark.parametrize("subject", ["c/one", "c/one/", "c/one/*", "**/x.txt", "alone", "lonely.*"])
def test_a_group_of_a_single_file_is_explained(planned: KeepPlan, subject: str) -> None:
    text = explain(planned, subject)
    assert "c/one/x.txt" in text or "lonely.txt" in text
    assert "UNUSED" in text


@pytest.mark.parametrize("subject", ["absent", "a.absent", "absent/*", "a/deep.p"])
def test_what_is_not_installed_is_an_error(planned: KeepPlan, subject: str) -> None:
    with pytest.raises(PlanError, match="--explain"):
        explain(planned, subject)


def test_imports_in_a_circle_end(build: Any) -> None:
    modules = [("a", "a.py", "b", 1), ("b", "b.py", "a", 2)]
    circle = plan(
        build.trace(["a.py", "b.py"], modules), build.inventory({"a.py": "a", "b.py": "b"}), PlanRequest(),
        library_needs=lambda _paths: [],
    )  # fmt: skip
    assert "a is imported by b, line 1" in explain(circle, "b.py")


def test_the_saved_plan_answers_the_same(planned: KeepPlan) -> None:
    again = KeepPlan.from_json(planned.to_json())
    for subject in ("a", "b/lib.so", "c/"):
        assert explain(again, subject) == explain(planned, subject)
