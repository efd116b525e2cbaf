"""What is omitted from layers that are too large: recorded cases and generated ones."""

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from layer_minimizer.core.errors import PackError
from layer_minimizer.model.adjustments import Adjustments, OmittedChunk
from layer_minimizer.model.plan import Cold, Decision, KeepPlan, Reason, Verdict
from layer_minimizer.pack.budget import (
    NOTHING_RESERVED,
    Budget,
    EvictableFile,
    Oversized,
    ReservedBytes,
    adjust_to_limit,
    evictable_files,
)
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
    return adjust_to_limit(given["before"], given["plan"], given["layer"], given["settings"], call.reserved)


def planned(*rows: tuple[str, Verdict, Reason]) -> KeepPlan:
    return KeepPlan(
        "3.11.7", tuple(Decision(path, 10, path.split("/")[0], verdict, why, "") for path, verdict, why in rows), (), ()
    )


# ---- recorded runs ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("call", REDUCTIONS)
def test_how_recorded_layers_were_reduced(call: attempts.Reduction) -> None:
    if call.after is None:
        with pytest.raises(PackError) as refused:
            fit(call)
        assert str(refused.value) == call.refused
    else:
        assert fit(call) == call.after
        assert call.before < call.after


def test_named_distributions_are_omitted_before_sources_and_then_it_is_refused() -> None:
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


def test_with_auto_only_the_excess_is_omitted_the_least_likely_first() -> None:
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

KEPT, COLD, DROPPED = Verdict.KEPT, Verdict.COLD, Verdict.DROPPED


def test_the_largest_named_distributions_are_omitted_first() -> None:
    plan = planned(*((f"{name}/x.py", COLD, Reason.REACHABLE) for name in ("small", "large", "middle")))
    shipped = {"small/x.py": 1, "large/x.py": 9, "middle/x.py": 5}
    every = {"small", "large", "middle"}
    for excess, gone in ((1, {"large"}), (9, {"large"}), (10, {"large", "middle"}), (15, every), (16, every)):
        after = adjust_to_limit(
            Adjustments(), plan, Oversized(excess, Counter(), shipped), Settings(), NOTHING_RESERVED
        )
        assert after == Adjustments(omitted_distributions=frozenset(gone))


def test_more_is_compressed_before_anything_is_omitted() -> None:
    plan = planned(("a/x.py", COLD, Reason.REACHABLE))

    def density(excess: int, before: int = 0, stored: int = 1000, uncompressed: int = 0) -> int:
        layer = Oversized(excess, Counter(), {"a/x.py": 9}, stored=stored, uncompressed=uncompressed)
        after = adjust_to_limit(Adjustments(density=before), plan, layer, Settings(), NOTHING_RESERVED)
        assert after == Adjustments(density=after.density)
        return after.density

    # Compressing all of it more saves at least 60 of 1,000 bytes.
    assert [density(excess) for excess in (1, 30, 60, 61, 250)] == [2, 50, 100, 100, 100]
    assert density(30, before=50) == 100
    # Half of the bytecode can be saved.
    assert [density(excess, uncompressed=500) for excess in (250, 280)] == [1, 50]
    assert density(251, stored=0, uncompressed=500) == 100
    layer = Oversized(1, Counter(), {"a/x.py": 9}, stored=1000)
    after = adjust_to_limit(Adjustments(density=100), plan, layer, Settings(), NOTHING_RESERVED)
    assert after == Adjustments(density=100, omitted_distributions=frozenset({"a"}))


def test_what_no_compression_can_make_fit_is_omitted_before_the_rest_is_compressed() -> None:
    plan = planned(("a/x.py", COLD, Reason.REACHABLE), ("b/x.py", COLD, Reason.REACHABLE))
    layer = Oversized(600, Counter(), {"a/x.py": 30, "b/x.py": 20}, stored=1000, uncompressed=500)

    def omitted(excess: int) -> Adjustments:
        return adjust_to_limit(Adjustments(), plan, replace(layer, excess=excess), Settings(), NOTHING_RESERVED)

    # Compression saves 600 bytes at best.
    assert omitted(600) == Adjustments(density=100)
    assert omitted(630) == Adjustments(density=100, omitted_distributions=frozenset({"a"}))
    assert omitted(631) == Adjustments(density=100, omitted_distributions=frozenset({"a", "b"}))


def test_larger_chunks_are_the_last_resort_of_cold_keep() -> None:
    plan = planned(("a/b.so", KEPT, Reason.TRACED))
    dense = Adjustments(density=100, omitted_cold=frozenset({"a/x.py"}))
    chunks = (EvictableChunk(0.5, 600, "a/b.so", 0), EvictableChunk(0.1, 400, "a/b.so", 1))

    def adjusted(excess: int, before: Adjustments = dense, cold: Cold = Cold.KEEP) -> Adjustments:
        layer = Oversized(excess, Counter(a=10**9), bytecode_only=frozenset({"a/x.py"}), evictable=chunks, stored=9999)
        return adjust_to_limit(before, plan, layer, Settings(cold=cold), NOTHING_RESERVED)

    assert adjusted(100) == replace(dense, large_chunks=True)
    assert not adjusted(100, Adjustments(density=100)).large_chunks
    assert not adjusted(100, cold=Cold.AUTO).large_chunks
    for excess, before in ((200, dense), (1, replace(dense, large_chunks=True))):
        with pytest.raises(PackError, match="the layer would be"):
            adjusted(excess, before)


def test_sources_are_omitted_only_with_cold_keep() -> None:
    layer = Oversized(1, Counter(a=10**9), bytecode_only=frozenset({"a/x.py"}))
    plan = planned(("a/x.py", KEPT, Reason.TRACED))
    assert adjust_to_limit(Adjustments(), plan, layer, Settings(), NOTHING_RESERVED).omitted_cold == {"a/x.py"}
    for settings, before in (
        (Settings(cold=Cold.DROP), Adjustments()),
        (Settings(cold=Cold.AUTO), Adjustments()),
        (Settings(), Adjustments(omitted_cold=frozenset({"a/x.py"}))),
    ):
        with pytest.raises(PackError, match="the layer would be 1,000,000,000 bytes"):
            adjust_to_limit(before, plan, layer, settings, NOTHING_RESERVED)


def test_omitted_chunks_are_those_of_the_library_with_its_refills() -> None:
    layer = Oversized(
        1, Counter(), evictable=(EvictableChunk(0.5, 10, "a/b.so", 3), EvictableFile(0.7, 5, "a/late.py"))
    )
    before = Adjustments(refills={"a/b.so": 2})
    after = adjust_to_limit(
        before, planned(("a/b.so", KEPT, Reason.TRACED)), layer, Settings(cold=Cold.AUTO), NOTHING_RESERVED
    )
    assert after == replace(before, omitted_chunks=frozenset({OmittedChunk("a/b.so", 2, 3)}))


def test_cold_files_next_to_used_files_are_likely_to_be_needed() -> None:
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


# ---- termination --------------------------------------------------------------------------------------------------

PATHS = ["a/one.py", "a/two.so", "b/three.py", "c/four.db"]


@st.composite
def situations(draw: st.DrawFn, adjustments: Adjustments, settings: Settings) -> tuple[KeepPlan, Oversized]:
    """Generate a plan and a layer that are consistent with these adjustments."""
    reasons = {Reason.TRACED: KEPT, Reason.UNTOUCHED: COLD, Reason.REACHABLE: COLD}
    rows = []
    for path in PATHS:
        why = draw(st.sampled_from([*reasons]))
        why = Reason.TRACED if why is Reason.REACHABLE and path[0] in adjustments.omitted_distributions else why
        rows.append((path, reasons[why], why))
    plan = planned(*rows)
    shipped = {path: draw(st.integers(0, 50)) for path in PATHS}
    cold = [decision.path for decision in plan.cold if decision.path not in adjustments.omitted_cold]
    omitted = {(each.path, each.chunk) for each in adjustments.omitted_chunks}
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
    settings, adjustments = Settings(cold=cold), Adjustments()
    for _ in range(4 * len(PATHS)):
        plan, layer = data.draw(situations(adjustments, settings))
        try:
            smaller = adjust_to_limit(adjustments, plan, layer, settings, NOTHING_RESERVED)
        except PackError:
            return
        assert adjustments < smaller
        assert smaller.repaired == adjustments.repaired
        adjustments = smaller
    pytest.fail("the adjustments never ended")


# ---- estimates ----------------------------------------------------------------------------------------------------


def test_only_what_certainly_does_not_fit_is_omitted_for_an_estimate() -> None:
    plan = planned(("a/x.py", COLD, Reason.REACHABLE), ("b/x.py", COLD, Reason.REACHABLE))
    layer = Oversized(0, Counter(), {"a/x.py": 30, "b/x.py": 20}, stored=1000, uncompressed=500, estimated=True)

    def adjusted(excess: int) -> Adjustments:
        return adjust_to_limit(Adjustments(), plan, replace(layer, excess=excess), Settings(), NOTHING_RESERVED)

    # The estimate of 1,000 bytes may be wrong by 20, that of 30 by 8.
    assert adjusted(20) == Adjustments(density=100)
    assert adjusted(21) == Adjustments(density=100, omitted_distributions=frozenset({"a"}))
    assert adjusted(58) == Adjustments(density=100, omitted_distributions=frozenset({"a"}))
    assert adjusted(59) == Adjustments(density=100, omitted_distributions=frozenset({"a", "b"}))


def test_a_limit_is_far_exceeded_by_many_times_what_is_left_of_it() -> None:
    plan = planned(
        ("a/x.py", KEPT, Reason.TRACED), ("b/x.py", COLD, Reason.UNTOUCHED), ("c/x.py", DROPPED, Reason.UNUSED)
    )
    size = sum(decision.size for decision in plan.decisions[:2])
    for reserved, limit, far in (
        (0, size // 3 + 1, False),
        (0, size // 3 - 1, True),
        (size, size + size // 3 - 1, True),
    ):
        assert Budget(limit).is_far_exceeded(plan, ReservedBytes(code=reserved)) is far
