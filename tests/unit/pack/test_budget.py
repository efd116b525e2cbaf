"""What is left out of a layer that is too large: of recorded ones, and of any."""

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from layer_minimizer.core.errors import PackError
from layer_minimizer.model.adjustments import Adjustments, OmittedChunk
from layer_minimizer.model.plan import Cold, Decision, KeepPlan, Reason, Verdict
from layer_minimizer.pack.budget import NOTHING_RESERVED, EvictableFile, Oversized, evictable_files, reduced
from layer_minimizer.pack.libraries import EvictableChunk
from layer_minimizer.settings import Settings
from tests.support import attempts

REDUCTIONS = [
    pytest.param(call, id=f"{name}-{number}")
    for name in attempts.names()
    for number, call in enumerate(attempts.read(name))
    if isinstance(call, attempts.Reduction)
]


def calls(name: str) -> list[attempts.Reduction]:
    return [call for call in attempts.read(name) if isinstance(call, attempts.Reduction)]


def fit(call: attempts.Reduction, **changes: Any) -> Adjustments:
    given = {"before": call.before, "plan": call.plan, "layer": call.layer, "settings": call.settings, **changes}
    return reduced(given["before"], given["plan"], given["layer"], given["settings"], call.reserved)


def planned(*rows: tuple[str, Verdict, Reason]) -> KeepPlan:
    return KeepPlan(
        "3.11.7", tuple(Decision(path, 10, path.split("/")[0], verdict, why, "") for path, verdict, why in rows), (), ()
    )


# ---- recorded runs ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("call", REDUCTIONS)
def test_what_real_layers_were_reduced_by(call: attempts.Reduction) -> None:
    if call.after is None:
        with pytest.raises(PackError) as refused:
            fit(call)
        assert str(refused.value) == call.refused
    else:
        assert fit(call) == call.after
        assert call.before < call.after


def test_what_code_merely_names_goes_before_sources_do_and_then_it_is_refused() -> None:
    first, second, last = calls("too_large")
    assert fit(first).omitted_distributions == {"extra"}
    assert fit(first).omitted_cold == frozenset()
    assert (
        fit(second).omitted_cold
        == second.layer.bytecode_only
        == {"base.py", "pkg/__init__.py", "pkg/one.py", "pkg/helper.py"}
    )
    with pytest.raises(PackError, match="the layer would be"):
        fit(last)


def test_with_auto_so_much_goes_as_is_too_much_and_the_least_likely_first() -> None:
    (call,) = calls("too_large_auto")
    after = fit(call)
    gone = {(each.path, each.chunk) for each in after.omitted_chunks}
    chunks = [each for each in call.layer.evictable if isinstance(each, EvictableChunk)]
    assert gone
    assert len(gone) < len(chunks)
    stay = [each.likelihood for each in chunks if (each.path, each.chunk) not in gone]
    assert max(each.likelihood for each in chunks if (each.path, each.chunk) in gone) <= min(stay)
    sizes = {(each.path, each.chunk): each.size for each in chunks}
    files = {each.path: each.size for each in call.layer.evictable if isinstance(each, EvictableFile)}
    assert sum(sizes[each] for each in gone) + sum(files[path] for path in after.omitted_cold) >= call.layer.excess


# ---- each kind ----------------------------------------------------------------------------------------------------

KEPT, COLD = Verdict.KEPT, Verdict.COLD


def test_the_largest_of_the_named_distributions_go_first() -> None:
    plan = planned(*((f"{name}/x.py", COLD, Reason.REACHABLE) for name in ("small", "large", "middle")))
    shipped = {"small/x.py": 1, "large/x.py": 9, "middle/x.py": 5}
    for excess, gone in ((1, {"large"}), (9, {"large"}), (10, {"large", "middle"}), (15, {"small", "large", "middle"})):
        after = reduced(Adjustments(), plan, Oversized(excess, Counter(), shipped), Settings(), NOTHING_RESERVED)
        assert (after.omitted_distributions, after.keep_c_opened) == (gone, True)
    after = reduced(Adjustments(), plan, Oversized(16, Counter(), shipped), Settings(), NOTHING_RESERVED)
    assert not after.keep_c_opened


def test_then_what_only_c_could_open_becomes_cold() -> None:
    plan = planned(("a/data.db", KEPT, Reason.LOADABLE))
    after = reduced(Adjustments(), plan, Oversized(1, Counter(), {"a/data.db": 10}), Settings(), NOTHING_RESERVED)
    assert after == Adjustments(keep_c_opened=False)


def test_sources_go_only_where_files_are_kept_cold() -> None:
    layer = Oversized(1, Counter(a=10**9), bytecode_only=frozenset({"a/x.py"}))
    plan = planned(("a/x.py", KEPT, Reason.TRACED))
    assert reduced(Adjustments(), plan, layer, Settings(), NOTHING_RESERVED).omitted_cold == {"a/x.py"}
    for settings, before in (
        (Settings(cold=Cold.DROP), Adjustments()),
        (Settings(cold=Cold.AUTO), Adjustments()),
        (Settings(), Adjustments(omitted_cold=frozenset({"a/x.py"}))),
    ):
        with pytest.raises(PackError, match="the layer would be 1,000,000,000 bytes"):
            reduced(before, plan, layer, settings, NOTHING_RESERVED)


def test_chunks_are_left_out_as_the_library_is_by_now() -> None:
    layer = Oversized(
        1, Counter(), evictable=(EvictableChunk(0.5, 10, "a/b.so", 3), EvictableFile(0.7, 5, "a/late.py"))
    )
    before = Adjustments(refills={"a/b.so": 2})
    after = reduced(before, planned(("a/b.so", KEPT, Reason.TRACED)), layer, Settings(cold=Cold.AUTO), NOTHING_RESERVED)
    assert after == replace(before, omitted_chunks=frozenset({OmittedChunk("a/b.so", 2, 3)}))


def test_what_lies_beside_much_that_is_used_is_likely_to_be_needed() -> None:
    plan = planned(
        ("a/used.py", KEPT, Reason.TRACED),
        ("a/near.py", COLD, Reason.UNTOUCHED),
        ("b/far.py", COLD, Reason.UNTOUCHED),
        ("b/replaced.py", COLD, Reason.STAND_IN),
        ("b/nothing.py", COLD, Reason.UNTOUCHED),
    )
    shares = {"a/near.py": 7, "b/far.py": 8, "b/replaced.py": 9}
    found = {each.path: (each.likelihood, each.size) for each in evictable_files(plan, shares)}
    assert found == {"a/near.py": (0.25, 7), "b/far.py": (0.001, 8), "b/replaced.py": (0.5, 9)}


# ---- the end of it ------------------------------------------------------------------------------------------------

PATHS = ["a/one.py", "a/two.so", "b/three.py", "c/four.db"]


@st.composite
def situations(draw: st.DrawFn, lessons: Adjustments, settings: Settings) -> tuple[KeepPlan, Oversized]:
    """Make a plan and a layer as they could follow from these lessons."""
    reasons = {Reason.TRACED: KEPT, Reason.UNTOUCHED: COLD, Reason.REACHABLE: COLD, Reason.LOADABLE: KEPT}
    rows = []
    for path in PATHS:
        why = draw(st.sampled_from([*reasons]))
        why = Reason.UNTOUCHED if why is Reason.LOADABLE and not lessons.keep_c_opened else why
        why = Reason.TRACED if why is Reason.REACHABLE and path[0] in lessons.omitted_distributions else why
        rows.append((path, reasons[why], why))
    plan = planned(*rows)
    shipped = {path: draw(st.integers(0, 50)) for path in PATHS}
    cold = [decision.path for decision in plan.cold if decision.path not in lessons.omitted_cold]
    omitted = {(each.path, each.chunk) for each in lessons.omitted_chunks}
    evictable = (
        *(EvictableFile(draw(st.floats(0, 1)), shipped[path], path) for path in cold),
        *(EvictableChunk(draw(st.floats(0, 1)), 9, PATHS[1], n) for n in range(3) if (PATHS[1], n) not in omitted),
    )
    layer = Oversized(
        excess=draw(st.integers(1, 100)),
        sizes=Counter(a=10**9),
        shipped=shipped,
        bytecode_only=frozenset(draw(st.sets(st.sampled_from(PATHS)))) if settings.cold is Cold.KEEP else frozenset(),
        evictable=evictable,
    )
    return plan, layer


@given(st.data(), st.sampled_from(Cold))
def test_each_step_leaves_out_more_or_refuses(data: st.DataObject, cold: Cold) -> None:
    settings, lessons = Settings(cold=cold), Adjustments()
    for _ in range(4 * len(PATHS)):
        plan, layer = data.draw(situations(lessons, settings))
        try:
            smaller = reduced(lessons, plan, layer, settings, NOTHING_RESERVED)
        except PackError:
            return
        assert lessons < smaller
        assert smaller.repaired == lessons.repaired
        lessons = smaller
    pytest.fail("it did not end")
