"""Prepare the folder in which a layer runs alone, with the original environment out of reach."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from layer_minimizer.environment import interpreter
from layer_minimizer.execution import process
from layer_minimizer.execution.observed_run import Observer, RunOptions
from layer_minimizer.layer import layout
from layer_minimizer.layer.archive import unzip
from layer_minimizer.model.plan import KeepPlan, Reason

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from layer_minimizer.environment.base_layers import BaseLayers
    from layer_minimizer.layer.layout import Layout
    from layer_minimizer.model.installed import Inventory
    from layer_minimizer.model.interpreter import Interpreter
    from layer_minimizer.model.outcome import LayerArchive
    from layer_minimizer.model.trace import Trace
    from layer_minimizer.model.workload import Workload


@dataclass(frozen=True, slots=True)
class RunContext:
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


def on_layer(trial: RunContext, plan: KeepPlan, archive: LayerArchive, scratch: Path) -> tuple[RunOptions, Place]:
    """Unpack ``archive`` below ``scratch``, and give how a run with it and the standard library alone is made.

    Raises:
        PackError: there is no room to unpack it.
    """
    scratch.mkdir(parents=True)
    opt = scratch / "opt"
    trial.below.unpack(opt)
    unzip(archive.path, opt)
    top = opt / trial.layout.prefix(plan.python)
    provided = _provided_roots(plan, provided_paths(trial, plan))
    _link_provided(top, provided, trial.inventory)
    isolation = _isolation(trial, provided, opt) if process.can_isolate() else None
    place = _make_place(trial, scratch / "env", opt)
    settings = RunOptions(
        python=str(place.python),
        observers=(Observer.PROBE,) if isolation else trial.observers,
        front=tuple(str(root) for root in (place.site, place.flat) if root),
        path_entries=(str(place.flat),) if place.flat else (),
        isolation=isolation,
        avoid=trial.interpreter.avoid,
        timeout=trial.timeout,
        libraries=libraries if (libraries := opt / layout.LIBRARY_FOLDER).is_dir() else None,
    )
    return settings, place


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


def _make_place(trial: RunContext, prefix: Path, opt: Path) -> Place:
    """Make a virtual environment whose site-packages *is* the layer.

    Child processes see the layer too, and ``.pth`` files run, as in Lambda. A flat layer is merely on PYTHONPATH, so
    there the folder stays empty.
    """
    layouts = {layout.Layout.FLAT if held.flat else layout.Layout.SITE for held in trial.below.held.values()}
    layouts.add(trial.layout)
    python = interpreter.make_virtual(trial.interpreter, prefix)
    site = interpreter.site_of(trial.interpreter, prefix)
    in_site = layout.Layout.SITE in layouts
    if in_site:
        site.symlink_to(opt / layout.Layout.SITE.prefix(trial.trace.python))
    else:
        site.mkdir()
    flat = opt / layout.Layout.FLAT.prefix(trial.trace.python)
    return Place(python, site if in_site else None, flat if layout.Layout.FLAT in layouts else None)


def provided_paths(trial: RunContext, plan: KeepPlan) -> set[str]:
    """Return what another layer brings that is not here: the environment's own files stand for it."""
    return {d.path for d in plan.decisions if d.reason is Reason.PROVIDED and d.path not in trial.below.provided}


def provided_sources(trial: RunContext, plan: KeepPlan) -> dict[str, str]:
    """Return what another layer will bring, by site-relative path, and where it is installed here."""
    return _sources(_provided_roots(plan, provided_paths(trial, plan)), trial.inventory)


def _provided_roots(plan: KeepPlan, provided: set[str]) -> tuple[str, ...]:
    """Return the highest folders and files that hold provided distributions and nothing else."""
    other = {d.path for d in plan.decisions if d.path not in provided and d.reason is not Reason.SHADOWED}
    shared = {folder for path in other for folder in _parents(path)}
    roots = set()
    for path in provided:
        highest = next((folder for folder in _parents(path) if folder not in shared), path)
        roots.add(highest)
    return tuple(sorted(roots))


def _parents(path: str) -> Iterator[str]:
    """Yield the folders that ``path`` lies in, from the top."""
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


def _isolation(trial: RunContext, provided: Iterable[str], opt: Path) -> process.Isolation:
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
    return process.Isolation(hide=tuple(hidden), show=tuple(sorted(shown)), read_only=(str(opt),))
