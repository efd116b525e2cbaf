"""Which libraries a run loaded from a copy, by the errors of the loader and of the runtime that restores pages."""

import pytest

from layer_minimizer.execution.facts import Facts
from layer_minimizer.model.plan import Decision, KeepPlan, Reason, Verdict
from layer_minimizer.model.trace import Use
from layer_minimizer.verify.alone import displaced_libraries

PLAN = KeepPlan(
    "3.11.7",
    tuple(
        Decision(path, 1, "pkg", verdict, Reason.TRACED, "")
        for path, verdict in (
            ("pkg/one.so", Verdict.KEPT),
            ("pkg/two.so.1", Verdict.COLD),
            ("pkg/three.so", Verdict.DROPPED),
            ("pkg/__init__.py", Verdict.KEPT),
        )
    ),
    folders=(),
    chains=(),
)
NO_RUNTIME = "OSError: /tmp/x/../layer_minimizer.libs/liblayercold-12.so: cannot open shared object file: No such file"


@pytest.mark.parametrize(
    ("output", "read", "loaded", "found"),
    [
        ("OSError: other.so: cannot open shared object file", ["pkg/one.so"], [], []),
        (NO_RUNTIME, ["pkg/one.so", "pkg/__init__.py"], [], ["pkg/one.so"]),
        (NO_RUNTIME, [], ["/tmp/x/two.so.1"], ["pkg/two.so.1"]),
        (NO_RUNTIME, [], ["/tmp/x/renamed"], ["pkg/one.so", "pkg/two.so.1"]),
        (
            "layer_minimizer: cannot restore page 0x1000 of pkg/two.so.1: its cold store is missing; if the library",
            ["pkg/one.so"],
            [],
            ["pkg/two.so.1"],
        ),
        ("layer_minimizer: cannot restore page 0x1000 of pkg/one.so: its cold store is damaged", [], [], []),
    ],
)
def test_displaced_libraries(output: str, read: list[str], loaded: list[str], found: list[str]) -> None:
    facts = Facts(uses={path: {Use.OPEN} for path in read}, absolute_paths=set(loaded))
    assert displaced_libraries(output, facts, PLAN) == tuple(found)
