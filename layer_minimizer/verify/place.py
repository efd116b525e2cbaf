"""Prepare the folder in which a layer runs alone, with the original environment out of reach."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from layer_minimizer.environment import interpreter
from layer_minimizer.execution import process
from layer_minimizer.execution.observed_run import Listing, Observer, RunOptions
from layer_minimizer.layer import layout
from layer_minimizer.layer.archive import unzip
from layer_minimizer.model.plan import KeepPlan, Reason

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
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
    """What runs on a layer have in common.

    Attributes:
        trace: the workload, and what it used in the full environment.
        interpreter: the interpreter that runs the workload.
        inventory: what is installed in the full environment.
        layout: the layout of the layer.
        observers: what observes the runs.
        timeout: the time limit of a run, in seconds.
        tolerance: by how much numbers in results may differ.
        base: the base layers of the function.
        function: the workload with the paths of its copy in the function's zip, if there is one.
    """

    trace: Trace
    interpreter: Interpreter
    inventory: Inventory
    layout: Layout
    observers: tuple[Observer, ...]
    timeout: float
    tolerance: float
    base: BaseLayers
    function: Workload | None = None

    def listing(self, roots: Sequence[str]) -> Listing | None:
        """Return the order in which folders in ``roots`` are listed: the traced one, if the results depend on it."""
        return Listing.given(self.trace.listed, roots) if self.trace.listed else None


def prepare_run(context: RunContext, plan: KeepPlan, archive: LayerArchive, scratch: Path) -> tuple[RunOptions, Place]:
    """Unpack ``archive`` below ``scratch``; return the options for runs with it and the standard library alone.

    Raises:
        PackError: the disk is too full to unpack it.
    """
    scratch.mkdir(parents=True)
    opt = scratch / "opt"
    context.base.unpack(opt)
    unzip(archive.path, opt)
    top = opt / context.layout.prefix(plan.python)
    provided = _provided_roots(plan, provided_paths(context, plan))
    _link_provided(top, provided, context.inventory)
    isolation = _isolation(context, provided, opt) if process.can_isolate() else None
    place = _make_place(context, scratch / "env", opt)
    settings = RunOptions(
        python=str(place.python),
        observers=(Observer.PROBE,) if isolation else context.observers,
        sys_path_front=tuple(str(root) for root in (place.site, place.flat) if root),
        path_entries=(str(place.flat),) if place.flat else (),
        isolation=isolation,
        avoid=context.interpreter.avoid,
        timeout=context.timeout,
        libraries=libraries if (libraries := opt / layout.LIBRARY_FOLDER).is_dir() else None,
        listing=context.listing(place.roots),
    )
    return settings, place


# ---- the folders --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Place:
    """The interpreter for a run on a layer, and the folders with the packages of all layers.

    Attributes:
        python: the interpreter of a virtual environment.
        site: its site-packages folder, if a layer has the ``site`` layout.
        flat: the folder ``python`` of the layers, if a layer has the ``flat`` layout.
    """

    python: Path
    site: Path | None
    flat: Path | None

    @property
    def folders(self) -> list[str]:
        """All paths of the folders in which packages are found: those on sys.path, and where their links lead to."""
        paths = [str(root) for root in (self.site, self.flat) if root]
        return list(dict.fromkeys((*paths, *self.roots)))

    @property
    def roots(self) -> list[str]:
        """The folders in which packages are found."""
        return [os.path.realpath(root) for root in (self.site, self.flat) if root]


def _make_place(context: RunContext, prefix: Path, opt: Path) -> Place:
    """Create a virtual environment whose site-packages folder is a link to the layer's.

    So child processes use the layer too, and ``.pth`` files run, as in Lambda. The packages of a flat layer are found
    by PYTHONPATH instead, and site-packages stays empty.
    """
    layouts = {layout.Layout.FLAT if held.flat else layout.Layout.SITE for held in context.base.files.values()}
    layouts.add(context.layout)
    python = interpreter.make_virtual_environment(context.interpreter, prefix)
    site = interpreter.site_of(context.interpreter, prefix)
    in_site = layout.Layout.SITE in layouts
    if in_site:
        site.symlink_to(opt / layout.Layout.SITE.prefix(context.trace.python))
    else:
        site.mkdir()
    flat = opt / layout.Layout.FLAT.prefix(context.trace.python)
    return Place(python, site if in_site else None, flat if layout.Layout.FLAT in layouts else None)


def provided_paths(context: RunContext, plan: KeepPlan) -> set[str]:
    """Return the paths that an unavailable layer provides; the installed files are used instead."""
    return {d.path for d in plan.decisions if d.reason is Reason.PROVIDED and d.path not in context.base.provided}


def provided_sources(context: RunContext, plan: KeepPlan) -> dict[str, str]:
    """Return for each path that another layer will provide where it is installed here."""
    return _sources(_provided_roots(plan, provided_paths(context, plan)), context.inventory)


def _provided_roots(plan: KeepPlan, provided: set[str]) -> tuple[str, ...]:
    """Return the topmost folders and files that contain provided distributions only."""
    other = {d.path for d in plan.decisions if d.path not in provided and d.reason is not Reason.SHADOWED}
    shared = {folder for path in other for folder in _parents(path)}
    roots = set()
    for path in provided:
        highest = next((folder for folder in _parents(path) if folder not in shared), path)
        roots.add(highest)
    return tuple(sorted(roots))


def _parents(path: str) -> Iterator[str]:
    """Yield the parent folders of ``path``, the topmost first."""
    at = path.find("/")
    while at >= 0:
        yield path[:at]
        at = path.find("/", at + 1)


def _link_provided(top: Path, roots: Iterable[str], inventory: Inventory) -> None:
    """Link what another layer provides into the unpacked layer, as Lambda merges layers in /opt."""
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


def _isolation(context: RunContext, provided: Iterable[str], opt: Path) -> process.Isolation:
    """Hide all folders with installed packages, except for what another layer will provide."""
    workload = context.trace.workload
    own = [str(path) + "/" for path in (workload.entry, *workload.models)]
    folders = [*context.interpreter.avoid]
    # The project that the entry belongs to stays visible, even if it contains a package outside of site-packages.
    folders += [
        root.source
        for root in context.trace.foreign
        if os.path.isdir(root.source) and not any(path.startswith(f"{root.source}/") for path in own)
    ]
    hidden = [f for f in folders if not any(f.startswith(f"{other}/") for other in folders)]
    shown = _sources(provided, context.inventory).values()
    return process.Isolation(hide=tuple(hidden), show=tuple(sorted(shown)), read_only=(str(opt),))
