"""Runs the workload on the layer alone, and compares: same results, nothing missed, nothing from elsewhere."""

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
from layer_minimizer.layer import log_messages
from layer_minimizer.model import modules
from layer_minimizer.model.installed import ALWAYS_METADATA, METADATA_FOLDERS
from layer_minimizer.model.plan import FINAL_REASONS, Decision, KeepPlan, Reason, Verdict
from layer_minimizer.model.results import Mismatch, compare_results
from layer_minimizer.model.trace import Use
from layer_minimizer.trace.tracer import observation_facts
from layer_minimizer.verify.place import Place, RunContext, on_layer, provided_paths

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from layer_minimizer.execution.facts import Facts
    from layer_minimizer.model.outcome import LayerArchive

# From its first character only: a program may print megabytes without a space.
_LIBRARY_ABSENT = re.compile(r"(?<![^\s:'\"/])(?P<name>[^\s:'\"/]+\.so[.\d]*): cannot open shared object file")


@dataclass(frozen=True, slots=True)
class Attempt:
    """What one run on a layer showed. ``missed`` are files that the plan had dropped and the run asked for.

    ``lacking`` are the addresses in libraries whose pages had been dropped and were touched.
    """

    events: int
    error: str
    mismatches: tuple[Mismatch, ...]
    missed: tuple[str, ...]
    lacking: Mapping[str, frozenset[int]]
    leaked: tuple[str, ...]
    isolated: bool
    cold_faults: int

    @property
    def succeeded(self) -> bool:
        """Return whether the layer gave the expected results, by itself."""
        return not (self.error or self.mismatches or self.leaked or self.lacking)

    def explain(self) -> str:
        """Say what went wrong."""
        if self.leaked:
            return "the run on the layer used files of the original environment:\n  " + "\n  ".join(self.leaked[:10])
        if self.error:
            return f"on the layer alone the entry does not run:\n{self.error}"
        if self.lacking:
            return f"on the layer alone a child process needed pages that were dropped, of {', '.join(self.lacking)}"
        return "on the layer alone the results differ:\n  " + "\n  ".join(map(str, self.mismatches[:10]))


def attempts(trial: RunContext, plan: KeepPlan, archive: LayerArchive, scratch: Path) -> Iterator[Attempt]:
    """Unpack ``archive`` below ``scratch``, and run the workload with it and the standard library alone, once a step.

    What one run touches is not all that the next one does: a hash table keyed by addresses grows at another time, a
    thread comes first.

    Raises:
        PackError: there is no room to unpack it.
        RunnerError: the interpreter cannot be started.
    """
    settings, place = on_layer(trial, plan, archive, scratch)
    for number in itertools.count():
        folder = scratch / f"run{number}"
        yield _attempt(trial, plan, replace(settings, restored=folder.with_suffix(".cold")), place, folder)
        shutil.rmtree(folder, ignore_errors=True)


def try_out(  # noqa: PLR0913 - what is run, where, and how often
    trial: RunContext, plan: KeepPlan, archive: LayerArchive, scratch: Path, *, runs: int, until_missed: bool
) -> Attempt:
    """Run the workload on a layer ``runs`` times; return the first attempt that fails, or else the last one.

    ``until_missed``: one that misses something counts as failed.

    Raises:
        PackError, RunnerError: as `attempts`.
    """
    for attempt in itertools.islice(attempts(trial, plan, archive, scratch), runs):
        if (attempt.missed and until_missed) or not attempt.succeeded:
            break
    shutil.rmtree(scratch, ignore_errors=True)
    return attempt


def check_deterministic(trial: RunContext, scratch: Path) -> None:
    """Tell a workload that never gives the same result twice from a layer that does not work.

    Raises:
        VerifyError: the workload is nondeterministic.
    """
    if differing := differing_again(trial, scratch):
        listed = "\n  ".join(map(str, differing))
        raise VerifyError(
            "the entry is nondeterministic: run twice in the full environment it gave different results, so that no "
            f"layer can be proved right by them:\n  {listed}\n"
            "Seed its random numbers, leave times and ids out of its result, or allow for noise with --tolerance"
        )


def _attempt(trial: RunContext, plan: KeepPlan, settings: RunOptions, place: Place, scratch: Path) -> Attempt:
    isolation = settings.isolation
    observation = run_observed(trial.function or trial.trace.workload, settings, scratch)
    facts = observation_facts(observation, trial.interpreter, place.roots)
    error = _error(observation, trial)
    said = f"{error}\n{observation.said}"
    return Attempt(
        events=len(trial.trace.results),
        error=error,
        mismatches=() if error else compare_results(trial.trace.results, _results(observation), trial.tolerance),
        missed=_missed(facts, plan, said),
        lacking=lacking_pages(said),
        leaked=_leaked(facts, trial, plan, isolation.hide if isolation else ()),
        isolated=isolation is not None,
        cold_faults=_cold_faults(settings.restored),
    )


def _cold_faults(log: Path | None) -> int:
    return log_messages.count_restored_pages(log.read_bytes()) if log and log.exists() else 0


def in_full_environment(trial: RunContext) -> RunOptions:
    """Return how a run is made where everything is installed."""
    return RunOptions(
        python=trial.interpreter.executable,
        observers=(Observer.PROBE,),
        user_base=trial.interpreter.user_base,
        avoid=trial.interpreter.avoid,
        timeout=trial.timeout,
        libraries=Path(trial.interpreter.library_dir) if trial.interpreter.library_dir else None,
    )


def differing_again(trial: RunContext, scratch: Path) -> tuple[Mismatch, ...]:
    """Run the workload once more in the full environment: what differs there is the workload's own doing.

    Raises:
        VerifyError: this time it does not run at all.
    """
    observation = run_observed(trial.trace.workload, in_full_environment(trial), scratch)
    error = _error(observation, trial)
    if error:
        raise VerifyError(f"the entry ran once in the full environment, and not a second time:\n{error}")
    return compare_results(trial.trace.results, _results(observation), trial.tolerance)


# ---- the judgement ------------------------------------------------------------------------------------------------


def _error(observation: RunRecord, trial: RunContext) -> str:
    outcome, name = observation.outcome, trial.trace.workload.entry.name
    if outcome is None or observation.ended.timed_out:
        tail = "\n".join(observation.said.strip().splitlines()[-15:])
        return f"{name} {observation.ended.ending}\n{tail}".strip()
    # The run happened in a copy of the entry's folder; the user knows the original.
    said = (outcome.error or outcome.refused).strip()
    return said.replace(f"{observation.root}/", f"{trial.trace.workload.entry.parent}/")


def _results(observation: RunRecord) -> dict[str, str]:
    return dict(observation.outcome.results) if observation.outcome else {}


def _missed(facts: Facts, plan: KeepPlan, said: str) -> tuple[str, ...]:
    """Return the dropped files that the run asked for: opened, imported, linked against, or by their metadata."""
    dropped = {d.path: d for d in plan.decisions if d.verdict is Verdict.DROPPED and d.reason not in FINAL_REASONS}
    # Whoever looks for the source of a module that is stood in for finds none, as with all that is bytecode alone.
    looked = {path for path, uses in facts.uses.items() if uses == {Use.STAT} and path in dropped}
    looked = {path for path in looked if dropped[path].reason is Reason.STAND_IN}
    found = {path for path in (*facts.uses, *facts.missing) if path in dropped} - looked
    names = modules.by_name(dropped)
    found |= {names[name] for name in facts.missing if name in names}
    found |= set(_missed_metadata(facts, dropped.values()))
    absent = {match["name"] for match in _LIBRARY_ABSENT.finditer(said)}
    found |= {path for path in dropped if path.rpartition("/")[2] in absent}
    # The library of a layer below lacks what is needed here: another copy of it, in ours, replaces it.
    lost = lacking_pages(said)
    found |= {d.path for d in plan.decisions if d.reason is Reason.PROVIDED and d.path in lost}
    return tuple(sorted(found))


def lacking_pages(said: str) -> dict[str, frozenset[int]]:
    """Return where in which libraries pages were touched that had been dropped, by what the processes of a run said."""
    lacking: dict[str, frozenset[int]] = {}
    for match in log_messages.PAGE_DROPPED.finditer(said):
        lacking[match["path"]] = lacking.get(match["path"], frozenset()) | {int(match["address"], 16)}
    return lacking


def _missed_metadata(facts: Facts, dropped: Iterable[Decision]) -> Iterator[str]:
    """Yield the METADATA of dropped distributions that the run asked for by name: it could not even try to open it."""
    for decision in dropped:
        folder, _, name = decision.path.partition("/")
        if not folder.endswith(METADATA_FOLDERS) or name not in ("", *ALWAYS_METADATA):
            continue
        if decision.distribution in facts.metadata:
            yield decision.path


def _leaked(facts: Facts, trial: RunContext, plan: KeepPlan, hidden: Iterable[str]) -> tuple[str, ...]:
    """Return the files of the original environment that were opened although another layer does not bring them.

    Of what lay in a ``hidden`` folder the run has seen nothing: there an open is an attempt that failed.
    """
    out_of_reach = tuple(f"{folder}/" for folder in hidden)
    provided = provided_paths(trial, plan)
    sources = {file.source for file in trial.inventory.files if file.path in provided}
    sources |= {os.path.realpath(source) for source in sources}
    roots = (*trial.interpreter.site_dirs, *(root.source for root in trial.trace.foreign))
    prefixes = tuple(f"{root}/" for root in roots)
    cached = re.compile(r"/__pycache__/([^/]+)\.cpython-[^/]*\.pyc$")
    found = set()
    for path in facts.absolute:
        if (path.startswith(prefixes) or path in roots) and not path.startswith(out_of_reach):
            source = cached.sub(r"/\1.py", path)
            if source not in sources and os.path.realpath(source) not in sources and os.path.isfile(source):
                found.add(source)
    return tuple(sorted(found))
