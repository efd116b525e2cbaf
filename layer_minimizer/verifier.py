"""Runs the workload on the layer alone, and compares: same results, nothing missed, nothing from elsewhere."""

from __future__ import annotations

import itertools
import os
import re
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from layer_minimizer import environment, modules, packager, planner, runners
from layer_minimizer.errors import VerifyError
from layer_minimizer.model import FINAL_REASONS, Reason, Use, Verdict
from layer_minimizer.observation import Observer, RunSettings, observe
from layer_minimizer.results import Mismatch, compare
from layer_minimizer.tracer import Facts, read_facts

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from layer_minimizer.base_layers import BaseLayers
    from layer_minimizer.model import Decision, Interpreter, Inventory, KeepPlan, LayerArchive, Trace, Workload
    from layer_minimizer.observation import Observation
    from layer_minimizer.packager import Layout

# What native/src/coldpages.c says of a library in a layer that was made without a way back.
_PAGE_DROPPED = re.compile(r"cannot restore page (?P<address>0x[0-9a-f]+) of (?P<path>\S+): it was dropped")
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
    seconds: float

    @property
    def succeeded(self) -> bool:
        """Say whether the layer gave the expected results, by itself."""
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


@dataclass(frozen=True, slots=True)
class Trial:
    """All that a run on a layer is judged by. ``function`` is the workload as it lies in the function's zip, if any."""

    trace: Trace
    interpreter: Interpreter
    inventory: Inventory
    layout: Layout
    observers: tuple[Observer, ...]
    timeout: float
    tolerance: float
    below: BaseLayers
    function: Workload | None = None


def attempts(trial: Trial, plan: KeepPlan, archive: LayerArchive, scratch: Path) -> Iterator[Attempt]:
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


def _attempt(trial: Trial, plan: KeepPlan, settings: RunSettings, place: Place, scratch: Path) -> Attempt:
    isolation = settings.isolation
    observation = observe(trial.function or trial.trace.workload, settings, scratch)
    facts = read_facts(observation, trial.interpreter, place.roots)
    error = _error(observation, trial)
    said = f"{error}\n{observation.said}"
    return Attempt(
        events=len(trial.trace.results),
        error=error,
        mismatches=() if error else compare(trial.trace.results, _results(observation), trial.tolerance),
        missed=_missed(facts, plan, said),
        lacking=lacking_pages(said),
        leaked=_leaked(facts, trial, plan, isolation.hide if isolation else ()),
        isolated=isolation is not None,
        cold_faults=_cold_faults(settings.restored),
        seconds=observation.ended.seconds,
    )


def on_layer(trial: Trial, plan: KeepPlan, archive: LayerArchive, scratch: Path) -> tuple[RunSettings, Place]:
    """Unpack ``archive`` below ``scratch``, and give how a run with it and the standard library alone is made.

    Raises:
        PackError: there is no room to unpack it.
    """
    scratch.mkdir(parents=True)
    opt = scratch / "opt"
    trial.below.unpack(opt)
    packager.unzip(archive.path, opt)
    top = opt / trial.layout.prefix(plan.python)
    provided = _provided_roots(plan, _provided(trial, plan))
    _link_provided(top, provided, trial.inventory)
    isolation = _isolation(trial, provided, opt) if runners.can_isolate() else None
    place = _make_place(trial, scratch / "env", opt)
    settings = RunSettings(
        python=str(place.python),
        observers=(Observer.PROBE,) if isolation else trial.observers,
        front=tuple(str(root) for root in (place.site, place.flat) if root),
        path_entries=(str(place.flat),) if place.flat else (),
        isolation=isolation,
        avoid=trial.interpreter.avoid,
        timeout=trial.timeout,
        libraries=libraries if (libraries := opt / packager.LIBRARY_FOLDER).is_dir() else None,
    )
    return settings, place


def _cold_faults(log: Path | None) -> int:
    return log.read_bytes().count(b"restored pages ") if log and log.exists() else 0


def in_full_environment(trial: Trial) -> RunSettings:
    """Give how a run is made where everything is installed."""
    return RunSettings(
        python=trial.interpreter.executable,
        observers=(Observer.PROBE,),
        user_base=trial.interpreter.user_base,
        avoid=trial.interpreter.avoid,
        timeout=trial.timeout,
        libraries=Path(trial.interpreter.library_dir) if trial.interpreter.library_dir else None,
    )


def differing_again(trial: Trial, scratch: Path) -> tuple[Mismatch, ...]:
    """Run the workload once more in the full environment: what differs there is the workload's own doing.

    Raises:
        VerifyError: this time it does not run at all.
    """
    observation = observe(trial.trace.workload, in_full_environment(trial), scratch)
    error = _error(observation, trial)
    if error:
        raise VerifyError(f"the entry ran once in the full environment, and not a second time:\n{error}")
    return compare(trial.trace.results, _results(observation), trial.tolerance)


# ---- the place ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Place:
    """Where the merged layers' packages lie, and how the interpreter comes to see them, as it does in Lambda.

    ``site`` is a site-packages folder or None, ``flat`` the folder ``python`` where packages lie directly in it.
    """

    python: Path
    site: Path | None
    flat: Path | None

    @property
    def roots(self) -> list[str]:
        """Where packages are found."""
        return [os.path.realpath(root) for root in (self.site, self.flat) if root]


def _make_place(trial: Trial, prefix: Path, opt: Path) -> Place:
    """Make a virtual environment whose site-packages *is* the layer.

    Child processes see the layer too, and ``.pth`` files run, as in Lambda. A flat layer is merely on PYTHONPATH, so
    there the folder stays empty.
    """
    layouts = {packager.Layout.FLAT if held.flat else packager.Layout.SITE for held in trial.below.held.values()}
    layouts.add(trial.layout)
    python = environment.make_virtual(trial.interpreter, prefix)
    site = environment.site_of(trial.interpreter, prefix)
    in_site = packager.Layout.SITE in layouts
    if in_site:
        site.symlink_to(opt / packager.Layout.SITE.prefix(trial.trace.python))
    else:
        site.mkdir()
    flat = opt / packager.Layout.FLAT.prefix(trial.trace.python)
    return Place(python, site if in_site else None, flat if packager.Layout.FLAT in layouts else None)


def _provided(trial: Trial, plan: KeepPlan) -> set[str]:
    """Give what another layer brings that is not here: the environment's own files stand for it."""
    return {d.path for d in plan.decisions if d.reason is Reason.PROVIDED and d.path not in trial.below.provided}


def provided_sources(trial: Trial, plan: KeepPlan) -> dict[str, str]:
    """Give what another layer will bring, by site-relative path, and where it is installed here."""
    return _sources(_provided_roots(plan, _provided(trial, plan)), trial.inventory)


def _provided_roots(plan: KeepPlan, provided: set[str]) -> tuple[str, ...]:
    """Give the highest folders and files that hold provided distributions and nothing else."""
    other = {d.path for d in plan.decisions if d.path not in provided and d.reason is not Reason.SHADOWED}
    shared = {folder for path in other for folder in _parents(path)}
    roots = set()
    for path in provided:
        highest = next((folder for folder in _parents(path) if folder not in shared), path)
        roots.add(highest)
    return tuple(sorted(roots))


def _parents(path: str) -> Iterator[str]:
    """Give the folders that ``path`` lies in, from the top."""
    at = path.find("/")
    while at >= 0:
        yield path[:at]
        at = path.find("/", at + 1)


def _link_provided(top: Path, roots: Iterable[str], inventory: Inventory) -> None:
    """Merge what another layer brings into the unpacked layer, as Lambda merges layers in /opt."""
    sources = _sources(roots, inventory)
    for root, source in sources.items():
        (top / root).parent.mkdir(parents=True, exist_ok=True)
        (top / root).symlink_to(source)


def _sources(roots: Iterable[str], inventory: Inventory) -> dict[str, str]:
    wanted = set(roots)
    found: dict[str, str] = {}
    for file in inventory.files:
        for candidate in (file.path, *_parents(file.path)):
            if candidate in wanted and candidate not in found:
                found[candidate] = file.source[: len(file.source) - len(file.path) + len(candidate)]
    return found


def _isolation(trial: Trial, provided: Iterable[str], opt: Path) -> runners.Isolation:
    """Hide all that the interpreter could find packages in, but for what another layer will bring."""
    workload = trial.trace.workload
    own = [str(path) + "/" for path in (workload.entry, *workload.models)]
    folders = [*trial.interpreter.avoid]
    # A package outside of the site may lie in the very project that the entry belongs to.
    folders += [
        root.source
        for root in trial.trace.foreign
        if os.path.isdir(root.source) and not any(path.startswith(f"{root.source}/") for path in own)
    ]
    hidden = [f for f in folders if not any(f.startswith(f"{other}/") for other in folders)]
    shown = _sources(provided, trial.inventory).values()
    return runners.Isolation(hide=tuple(hidden), show=tuple(sorted(shown)), read_only=(str(opt),))


# ---- the judgement ------------------------------------------------------------------------------------------------


def _error(observation: Observation, trial: Trial) -> str:
    outcome, name = observation.outcome, trial.trace.workload.entry.name
    if outcome is None or observation.ended.timed_out:
        tail = "\n".join(observation.said.strip().splitlines()[-15:])
        return f"{name} {observation.ended.ending}\n{tail}".strip()
    # The run happened in a copy of the entry's folder; the user knows the original.
    said = (outcome.error or outcome.refused).strip()
    return said.replace(f"{observation.root}/", f"{trial.trace.workload.entry.parent}/")


def _results(observation: Observation) -> dict[str, str]:
    return dict(observation.outcome.results) if observation.outcome else {}


def _missed(facts: Facts, plan: KeepPlan, said: str) -> tuple[str, ...]:
    """Give the dropped files that the run asked for: opened, imported, linked against, or by their metadata."""
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
    """Give where in which libraries pages were touched that had been dropped, by what the processes of a run said."""
    lacking: dict[str, frozenset[int]] = {}
    for match in _PAGE_DROPPED.finditer(said):
        lacking[match["path"]] = lacking.get(match["path"], frozenset()) | {int(match["address"], 16)}
    return lacking


def _missed_metadata(facts: Facts, dropped: Iterable[Decision]) -> Iterator[str]:
    """Give the METADATA of dropped distributions that the run asked for by name: it could not even try to open it."""
    for decision in dropped:
        folder, _, name = decision.path.partition("/")
        if not folder.endswith(planner.METADATA_FOLDERS) or name not in ("", *planner.ALWAYS_METADATA):
            continue
        if decision.distribution in facts.metadata:
            yield decision.path


def _leaked(facts: Facts, trial: Trial, plan: KeepPlan, hidden: Iterable[str]) -> tuple[str, ...]:
    """Give the files of the original environment that were opened although another layer does not bring them.

    Of what lay in a ``hidden`` folder the run has seen nothing: there an open is an attempt that failed.
    """
    out_of_reach = tuple(f"{folder}/" for folder in hidden)
    provided = _provided(trial, plan)
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
