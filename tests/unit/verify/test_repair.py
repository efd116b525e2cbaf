"""Adjustments that follow from failed runs: from recorded ones, and from generated ones."""

import logging
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from layer_minimizer.core.errors import VerifyError
from layer_minimizer.model.adjustments import NOTHING, Adjustments, Coverage
from layer_minimizer.model.outcome import LibrarySizes
from layer_minimizer.model.results import Mismatch
from layer_minimizer.pack.libraries import REFILL_BYTES, PackedLibrary
from layer_minimizer.verify import repair
from layer_minimizer.verify.alone import Attempt
from tests.support import attempts

REPAIRS = [
    pytest.param(call, id=f"{name}-{number}")
    for name in attempts.names()
    for number, call in enumerate(attempts.read(name))
    if isinstance(call, attempts.Repair)
]


def calls(name: str) -> list[attempts.Repair]:
    return [call for call in attempts.read(name) if isinstance(call, attempts.Repair)]


def only(name: str) -> attempts.Repair:
    (call,) = calls(name)
    return call


def learn(call: attempts.Repair, **changes: Any) -> Adjustments:
    tried = {key: value for key, value in changes.items() if key not in ("before", "attempt")}
    before, attempt = changes.get("before", call.before), changes.get("attempt", call.attempt)
    return repair.learn(before, attempt, replace(call.tried, **tried))


# ---- recorded runs ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("call", REPAIRS)
def test_recorded_failures_give_the_recorded_adjustments(call: attempts.Repair) -> None:
    if call.after is None:
        with pytest.raises(VerifyError) as refused:
            learn(call)
        assert str(refused.value) == call.refused
    else:
        assert learn(call) == call.after
        assert call.before < call.after


def test_a_missed_module_adds_its_imports_and_a_second_one_its_whole_distribution() -> None:
    first, second = calls("missed_modules")
    assert first.attempt.missed == ("pkg/one.py",)
    assert learn(first).repaired == {"pkg/__init__.py", "pkg/one.py", "pkg/helper.py"} - {
        d.path for d in first.tried.plan.kept
    }
    assert second.attempt.missed == ("pkg/two.py",)
    assert {"pkg/three.py", "pkg/data.txt"} <= learn(second).repaired


def test_files_of_base_layers_do_not_count_as_second_miss() -> None:
    _, second = calls("missed_modules")
    below = dict.fromkeys(second.before.repaired, "lower.zip")
    assert learn(second, provided=below).repaired == second.before.repaired | {"pkg/two.py"}


def test_files_that_options_exclude_are_not_added() -> None:
    last = calls("excluded")[-1]
    with pytest.raises(
        VerifyError,
        match=r"No module named 'pkg'[\s\S]*Nothing is added that these options exclude: --exclude pkg/\*\.py",
    ):
        learn(last)


def test_a_nondeterministic_workload_and_a_wrong_layer_have_different_errors() -> None:
    with pytest.raises(VerifyError, match="the entry is nondeterministic"):
        learn(only("nondeterministic"))
    with pytest.raises(VerifyError, match="the results differ"):
        learn(only("other_result"))


def test_the_workload_is_checked_only_once() -> None:
    call = only("other_result")

    def again() -> None:
        raise AssertionError

    with pytest.raises(VerifyError, match="the results differ"):
        learn(call, before=replace(call.before, deterministic=True), check_deterministic=again)


def test_dropped_files_of_the_trace_are_added_if_only_the_result_differs() -> None:
    call = only("other_result")
    used = next(d.path for d in call.tried.plan.decisions if d.path.startswith("base-"))
    trace = replace(call.tried.trace, files=tuple(replace(file, path=used) for file in call.tried.trace.files[:1]))
    grown = learn(call, trace=trace)
    assert (grown.repaired, grown.deterministic) == ({used}, True)


def test_docstrings_are_added_by_package_and_then_all(caplog: pytest.LogCaptureFixture) -> None:
    call = only("docstrings")
    first = learn(call)
    assert first.with_docstrings == Coverage(frozenset({"docs"}))
    with caplog.at_level(logging.WARNING):
        assert learn(call, before=first).with_docstrings.everything
    assert "those of all are kept" in caplog.text


def test_sources_are_added_by_module_then_by_package_and_then_all() -> None:
    first, second, *_ = calls("sources")
    assert learn(first).with_source == Coverage(frozenset({"texts/a.py"}))
    assert learn(second).with_source == Coverage(frozenset({"texts/__init__.py", "texts/a.py", "texts/b.py"}))
    everything = learn(second, before=learn(second)).with_source
    assert everything.everything


def test_the_function_gets_all_files_of_its_folder() -> None:
    call = only("left_out_of_the_function")
    assert learn(call).whole_function
    with pytest.raises(VerifyError, match=r"late\.txt"):
        learn(call, before=learn(call))
    with pytest.raises(VerifyError, match=r"late\.txt"):
        learn(call, left_out=False)


def test_a_library_gets_pages_around_the_missing_ones_and_finally_all() -> None:
    call = only("pages")
    ((path, addresses),) = call.attempt.missing_pages.items()
    adjustments = call.before
    for times, size in enumerate(REFILL_BYTES):
        grown = learn(call, before=adjustments)
        assert adjustments < grown
        assert grown.refills == {path: times + 1}
        (address,) = addresses
        start = address - address % size
        assert set(range(start // 4096, (start + size) // 4096)) <= grown.extra_pages[path]
        assert grown.rounds == 0
        adjustments = grown
    assert learn(call, before=adjustments).whole_libraries == {path}


def test_copies_of_a_library_get_the_same_pages_at_once() -> None:
    call = only("pages")
    ((path, library),) = call.tried.libraries.items()
    copies = frozenset({path, "copy.so", "not/in/the/layer.so"})
    libraries = {name: replace(library, copies=copies) for name in (path, "copy.so")}
    both = replace(
        call.attempt, missing_pages=dict.fromkeys(libraries, next(iter(call.attempt.missing_pages.values())))
    )
    grown = learn(call, attempt=both, libraries=libraries)
    assert grown.refills == dict.fromkeys(libraries, 1)
    assert grown.extra_pages[path] == grown.extra_pages["copy.so"]


def test_a_library_that_is_shipped_whole_gets_no_pages() -> None:
    call = only("pages")
    ((path, library),) = call.tried.libraries.items()
    whole = {path: PackedLibrary(LibrarySizes(path, 1, 1, 1, 1, 0, 0, "shipped whole"), library.copies)}
    grown, more = repair.refilled(call.before, whole, call.attempt.missing_pages)
    assert (grown, more) == (call.before, ())
    # Pages of another layer's library are ignored.
    assert repair.refilled(call.before, {}, call.attempt.missing_pages)[1] == ()


def test_a_library_that_was_loaded_from_a_copy_is_shipped_whole() -> None:
    call = only("pages")
    ((path, library),) = call.tried.libraries.items()
    libraries = {path: replace(library, copies=frozenset({path, "link.so"}))}
    for displaced in (path, "link.so"):
        tried = replace(call.attempt, missing_pages={}, error="OSError", displaced=(displaced,))
        assert learn(call, attempt=tried, libraries=libraries) == replace(call.before, whole_libraries={path})
    whole = replace(call.before, whole_libraries=frozenset({path}), deterministic=True)
    elsewhere = replace(call.attempt, missing_pages={}, error="OSError", displaced=("gone.so",), missed=())
    with pytest.raises(VerifyError):
        learn(call, before=whole, attempt=elsewhere, settings=replace(call.tried.settings, bytecode="both"))


def test_before_it_gives_up_all_libraries_are_shipped_whole() -> None:
    call = only("pages")
    settings = replace(call.tried.settings, bytecode="both")
    tried = replace(call.attempt, missing_pages={}, error="it is another file", missed=())
    before = replace(call.before, deterministic=True)
    grown = learn(call, before=before, attempt=tried, settings=settings)
    assert grown.whole_libraries == call.tried.libraries.keys()
    with pytest.raises(VerifyError, match="it is another file"):
        learn(call, before=grown, attempt=tried, settings=settings)
    with pytest.raises(VerifyError, match="it is another file"):
        learn(call, before=before, attempt=tried, settings=replace(settings, max_size=1))


def test_the_error_after_the_last_round_has_the_number_of_rounds() -> None:
    first = calls("missed_modules")[0]
    before = replace(first.before, rounds=repair.ROUNDS - 1)
    with pytest.raises(VerifyError, match="after 8 rounds of adding files"):
        learn(first, before=before)


# ---- verified -----------------------------------------------------------------------------------------------------

GOOD = Attempt(1, "", (), (), {}, (), isolated=True, cold_faults=0)


def test_a_layer_is_verified_if_nothing_is_missed_or_in_the_last_round() -> None:
    assert repair.is_verified(Adjustments(), GOOD)
    missing = replace(GOOD, missed=("a.py",))
    assert not repair.is_verified(Adjustments(), missing)
    assert repair.is_verified(Adjustments(rounds=repair.ROUNDS - 1), missing)
    assert not repair.is_verified(Adjustments(), replace(GOOD, error="no"))
    assert not repair.is_verified(Adjustments(), replace(GOOD, missing_pages={"a.so": frozenset({4096})}))
    assert not repair.is_repairable(Adjustments(rounds=repair.ROUNDS - 1))


# ---- termination --------------------------------------------------------------------------------------------------


@st.composite
def failures(draw: st.DrawFn, call: attempts.Repair, adjustments: Adjustments) -> Attempt:
    """Return a failed attempt with a layer of these adjustments: it misses no file that they keep."""
    here = [d.path for d in call.tried.plan.decisions if d.reason not in repair.FINAL_REASONS]
    kept = {d.path for d in call.tried.plan.kept} | adjustments.repaired
    missed = draw(st.sets(st.sampled_from(sorted(here))))
    place = "/opt/" + call.tried.settings.layout.prefix(call.tried.trace.python)
    named = draw(st.sets(st.sampled_from(["pkg/one.py", "docs/__init__.py", "texts/a.py", "texts/b.py"])))
    traceback = "".join(f'File "{place}/{path}", line 1\n' for path in sorted(named))
    return replace(
        GOOD,
        error=draw(st.sampled_from(["", traceback, "MemoryError"])),
        mismatches=(Mismatch("event", "1", "2"),),
        missed=tuple(sorted(missed - kept)),
        missing_pages=draw(st.sampled_from([{}, dict(call.attempt.missing_pages), {"gone.so": frozenset({1})}])),
    )


@given(st.data())
def test_each_failure_adds_adjustments_or_raises(data: st.DataObject) -> None:
    call = data.draw(st.sampled_from([param.values[0] for param in REPAIRS]))
    assert isinstance(call, attempts.Repair)
    adjustments, most = call.before, repair.ROUNDS + len(call.tried.libraries) * (len(REFILL_BYTES) + 1)
    tried = call.tried
    for _ in range(most + 1):
        attempt = data.draw(failures(call, adjustments))
        try:
            grown = repair.learn(adjustments, attempt, tried)
        except VerifyError:
            return
        # Not only the number of rounds grows.
        assert replace(adjustments, rounds=0) < replace(grown, rounds=0)
        whole = {
            path: replace(each, file=None) for path, each in tried.libraries.items() if path in grown.whole_libraries
        }
        tried = replace(tried, libraries={**tried.libraries, **whole})
        adjustments = grown
    pytest.fail("it did not end")


def test_only_omitted_parts_are_added() -> None:
    call = only("docstrings")
    everything = replace(call.tried.settings, strip_docstrings=False, bytecode="both")
    with pytest.raises(VerifyError):
        learn(call, settings=everything)
    assert call.before.with_docstrings == NOTHING
