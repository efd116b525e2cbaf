"""Run the workload on the layer alone, and compare its results and the files that it used with those of the trace."""

from __future__ import annotations

import itertools
import os
import re
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from layer_minimizer.core.errors import VerifyError
from layer_minimizer.execution.observed_run import Observer, RunOptions, RunRecord, run_observed
from layer_minimizer.layer import cold_store, log_messages
from layer_minimizer.layer.layout import NATIVE_FOLDER
from layer_minimizer.layer.snapshot_list import has_list
from layer_minimizer.model import modules
from layer_minimizer.model.installed import ALWAYS_METADATA, METADATA_FOLDERS
from layer_minimizer.model.plan import FINAL_REASONS, Decision, KeepPlan, Reason, Verdict
from layer_minimizer.model.results import Mismatch, compare_results, explain_nondeterminism
from layer_minimizer.model.trace import Use
from layer_minimizer.trace.tracer import run_facts
from layer_minimizer.verify.place import Place, RunContext, prepare_run, provided_paths

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from layer_minimizer.execution.facts import Facts
    from layer_minimizer.model.outcome import LayerArchive

# The name is matched from its first character only: output may have megabytes without a space.
_LIBRARY_ABSENT = re.compile(r"(?<![^\s:'\"/])(?P<name>[^\s:'\"/]+\.so[.\d]*): cannot open shared object file")


# The runtime that restores a library's cold pages is found by its place relative to the library.
_RUNTIME_ABSENT = re.compile(rf"/{re.escape(NATIVE_FOLDER)}/[^/\s]+: cannot open shared object file")


@dataclass(frozen=True, slots=True)
class Attempt:
    """The result of one run on a layer.

    Attributes:
        events: number of events with a result in the trace.
        error: the error with which the entry ended, or empty.
        mismatches: results that differ from those of the trace.
        missed: files that the plan dropped and the run looked up.
        missing_pages: for each library the addresses that were accessed in dropped pages.
        leaked: files of the original environment that the run used.
        isolated: whether the original environment was hidden.
        cold_faults: how often a page of a library was restored from the cold store.
        displaced: compacted libraries that were loaded from elsewhere, where they do not find their cold pages.
    """

    events: int
    error: str
    mismatches: tuple[Mismatch, ...]
    missed: tuple[str, ...]
    missing_pages: Mapping[str, frozenset[int]]
    leaked: tuple[str, ...]
    isolated: bool
    cold_faults: int
    displaced: tuple[str, ...] = ()

    @property
    def succeeded(self) -> bool:
        """Whether the layer alone gave the expected results."""
        return not (self.error or self.mismatches or self.leaked or self.missing_pages)

    def explain(self) -> str:
        """Return a message about the failure."""
        if self.leaked:
            return "the run on the layer used files of the original environment:\n  " + "\n  ".join(self.leaked[:10])
        if self.error:
            copied = ", ".join(self.displaced)
            hint = f"\n{copied}: loaded from a copy, which lacks its cold pages; --native off ships libraries whole"
            return f"on the layer alone the entry does not run:\n{self.error}{hint if copied else ''}"
        if self.missing_pages:
            return (
                f"on the layer alone a child process needed pages that were dropped, of {', '.join(self.missing_pages)}"
            )
        return "on the layer alone the results differ:\n  " + "\n  ".join(map(str, self.mismatches[:10]))


def run_attempts(context: RunContext, plan: KeepPlan, archive: LayerArchive, scratch: Path) -> Iterator[Attempt]:
    """Unpack ``archive`` below ``scratch``, and yield the results of runs with it and the standard library alone.

    Runs differ in the pages that they touch: in the order of threads, or when hash tables keyed by addresses grow.
    Every second run begins its events as after a snapshot: for a layer that puts something back before one.

    Raises:
        PackError: the disk is too full to unpack it.
        RunnerError: the interpreter cannot be started.
    """
    settings, place = prepare_run(context, plan, archive, scratch)
    listed = any(has_list(Path(root)) for root in place.roots)
    for number in itertools.count():
        folder = scratch / f"run{number}"
        options = replace(settings, restore_log=folder.with_suffix(".cold"), snapshot=number % 2 == 1 and listed)
        attempt = _attempt(context, plan, options, place, folder)
        cold_store.remove_restored(scratch.resolve())  # each run starts as a new instance does
        yield attempt
        shutil.rmtree(folder, ignore_errors=True)


def run_repeatedly(  # noqa: PLR0913 - what is run, where, and how often
    context: RunContext, plan: KeepPlan, archive: LayerArchive, scratch: Path, *, runs: int, until_missed: bool
) -> Attempt:
    """Run the workload on a layer ``runs`` times; return the first attempt that fails, or else the last one.

    With ``until_missed`` an attempt with missed files counts as failed.

    Raises:
        PackError, RunnerError: see `run_attempts`.
    """
    for attempt in itertools.islice(run_attempts(context, plan, archive, scratch), runs):
        if (attempt.missed and until_missed) or not attempt.succeeded:
            break
    shutil.rmtree(scratch, ignore_errors=True)
    return attempt


def check_deterministic(context: RunContext, scratch: Path) -> None:
    """Run the workload once more in the full environment, and compare the results with those of the trace.

    Raises:
        VerifyError: they differ, so the workload is nondeterministic and the layer is not the cause.
    """
    if differing := compare_second_run(context, scratch):
        raise VerifyError(explain_nondeterminism(differing))


def _attempt(context: RunContext, plan: KeepPlan, settings: RunOptions, place: Place, scratch: Path) -> Attempt:
    isolation = settings.isolation
    record = run_observed(context.function or context.trace.workload, settings, scratch)
    facts = run_facts(record, context.interpreter, place.roots)
    error = _error(record, context)
    output = f"{error}\n{record.output}"
    return Attempt(
        events=len(context.trace.results),
        error=error,
        mismatches=() if error else _mismatches(context, record, place.folders),
        missed=_missed(facts, plan, output),
        missing_pages=find_missing_pages(output),
        leaked=_leaked(facts, context, plan, isolation.hide if isolation else ()),
        isolated=isolation is not None,
        cold_faults=_cold_faults(settings.restore_log),
        displaced=displaced_libraries(output, facts, plan),
    )


def _cold_faults(log: Path | None) -> int:
    return log_messages.count_restored_pages(log.read_bytes()) if log and log.exists() else 0


def full_environment_options(context: RunContext) -> RunOptions:
    """Return the options for a run in the full environment."""
    return RunOptions(
        python=context.interpreter.executable,
        observers=(Observer.PROBE,),
        user_base=context.interpreter.user_base,
        avoid=context.interpreter.avoid,
        timeout=context.timeout,
        libraries=Path(context.interpreter.library_dir) if context.interpreter.library_dir else None,
    )


def compare_second_run(context: RunContext, scratch: Path) -> tuple[Mismatch, ...]:
    """Run the workload once more in the full environment; return the results that differ from those of the trace.

    Raises:
        VerifyError: the second run fails.
    """
    record = run_observed(context.trace.workload, full_environment_options(context), scratch)
    error = _error(record, context)
    if error:
        raise VerifyError(f"the entry ran once in the full environment, but not a second time:\n{error}")
    return _mismatches(context, record, ())


# ---- the results of a run -----------------------------------------------------------------------------------------


def _error(record: RunRecord, context: RunContext) -> str:
    outcome, name = record.outcome, context.trace.workload.entry.name
    if outcome is None or record.ended.timed_out:
        tail = "\n".join(record.output.strip().splitlines()[-15:])
        return f"{name} {record.ended.ending}\n{tail}".strip()
    # The entry ran in a copy of its folder; messages name the original.
    message = (outcome.error or outcome.refused).strip()
    return message.replace(f"{record.root}/", f"{context.trace.workload.entry.parent}/")


def _mismatches(context: RunContext, record: RunRecord, site: Iterable[str]) -> tuple[Mismatch, ...]:
    """Return the results that differ in more than the places of folders; ``site``: the folders of the layer."""
    places = record.places((*site, *context.interpreter.site_dirs))
    found = record.outcome.results if record.outcome else ()
    expected = [replace(result, value=places.rename(result.value)) for result in context.trace.named_results()]
    return compare_results(expected, {name: places.rename(value) for name, value in found}, context.tolerance)


def _missed(facts: Facts, plan: KeepPlan, output: str) -> tuple[str, ...]:
    """Return the dropped files that the run looked up: by opening, importing, linking, or reading metadata."""
    dropped = {d.path: d for d in plan.decisions if d.verdict is Verdict.DROPPED and d.reason not in FINAL_REASONS}
    # Stand-ins are found in the place of their files, so that these were found or checked means nothing.
    checked = {path for path, uses in facts.uses.items() if uses <= {Use.STAT, Use.SPEC} and path in dropped}
    checked = {path for path in checked if dropped[path].reason is Reason.STAND_IN}
    found = {path for path in (*facts.uses, *facts.missing) if path in dropped} - checked
    names = modules.by_name(dropped)
    found |= {names[name] for name in facts.missing if name in names}
    found |= set(_missed_metadata(facts, dropped.values()))
    absent = {match["name"] for match in _LIBRARY_ABSENT.finditer(output)}
    found |= {path for path in dropped if path.rpartition("/")[2] in absent}
    # A base layer's library lacks pages that are needed here: a complete copy in the new layer replaces it.
    lost = find_missing_pages(output)
    found |= {d.path for d in plan.decisions if d.reason is Reason.PROVIDED and d.path in lost}
    return tuple(sorted(found))


def find_missing_pages(output: str) -> dict[str, frozenset[int]]:
    """Return for each library the addresses in dropped pages that the processes of a run report in their output."""
    missing_pages: dict[str, frozenset[int]] = {}
    for match in log_messages.PAGE_DROPPED.finditer(output):
        missing_pages[match["path"]] = missing_pages.get(match["path"], frozenset()) | {int(match["address"], 16)}
    return missing_pages


def displaced_libraries(output: str, facts: Facts, plan: KeepPlan) -> tuple[str, ...]:
    """Return the compacted libraries that a run loaded from a copy, according to the errors in its output.

    The loader's error does not name the copy. It was made from a library that the run read, or that has its name; if
    there is none of these, it may be any.
    """
    kept = {d.path for d in plan.decisions if d.verdict is not Verdict.DROPPED and ".so" in d.path}
    named = {match["path"] for match in log_messages.STORE_MISSING.finditer(output)} & kept
    if named or not _RUNTIME_ABSENT.search(output):
        return tuple(sorted(named))
    read = {path for path in kept if Use.OPEN in facts.uses.get(path, ())}
    own = {os.path.basename(path) for path in facts.uses}
    loaded = {name for path in facts.absolute_paths if ".so" in (name := os.path.basename(path))} - own
    alike = {path for path in kept if os.path.basename(path) in loaded}
    return tuple(sorted(read or alike or kept))


def _missed_metadata(facts: Facts, dropped: Iterable[Decision]) -> Iterator[str]:
    """Yield the METADATA files of dropped distributions that the run looked up by name, without opening any file."""
    for decision in dropped:
        folder, _, name = decision.path.partition("/")
        if not folder.endswith(METADATA_FOLDERS) or name not in ("", *ALWAYS_METADATA):
            continue
        if decision.distribution in facts.metadata:
            yield decision.path


def _leaked(facts: Facts, context: RunContext, plan: KeepPlan, hidden: Iterable[str]) -> tuple[str, ...]:
    """Return the files of the original environment that the run opened, except those that another layer provides.

    Files in ``hidden`` folders are not counted, because opening them fails.
    """
    hidden_prefixes = tuple(f"{folder}/" for folder in hidden)
    provided = provided_paths(context, plan)
    sources = {file.source for file in context.inventory.files if file.path in provided}
    sources |= {os.path.realpath(source) for source in sources}
    roots = (*context.interpreter.site_dirs, *(root.source for root in context.trace.foreign))
    prefixes = tuple(f"{root}/" for root in roots)
    cached = re.compile(r"/__pycache__/([^/]+)\.cpython-[^/]*\.pyc$")
    found = set()
    for path in facts.absolute_paths:
        if (path.startswith(prefixes) or path in roots) and not path.startswith(hidden_prefixes):
            source = cached.sub(r"/\1.py", path)
            if source not in sources and os.path.realpath(source) not in sources and os.path.isfile(source):
                found.add(source)
    return tuple(sorted(found))
