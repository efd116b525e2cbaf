"""Decide about the metadata of distributions, and about files that Python reads when it starts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from layer_minimizer.model.installed import ALWAYS_METADATA, Inventory
from layer_minimizer.model.plan import Reason
from layer_minimizer.model.trace import Trace, Use
from layer_minimizer.plan.draft import Draft, folders_of

if TYPE_CHECKING:
    from collections.abc import Collection


def start_only(trace: Trace) -> set[str]:
    """Return the files of modules that were imported only while the interpreter started."""
    start = {m.path for m in trace.modules if m.startup and m.path}
    return start - {m.path for m in trace.modules if not m.startup}


def keep_metadata(draft: Draft, trace: Trace, inventory: Inventory, reachable: Collection[str]) -> None:
    """Keep metadata that the run looked up by the distribution's name, or read of a distribution in the layer.

    ``entry_points()`` and ``distributions()`` read the metadata of every distribution; this does not count as use.
    """
    lookups = {m.distribution: m.asked_by for m in trace.metadata}
    used = draft.used()
    folders = {d.metadata: d for d in inventory.distributions}
    touched = {f.path for f in trace.files if f.uses & {Use.OPEN, Use.STAT}}
    for path in draft.files:
        owner = folders.get(path.split("/", 1)[0])
        if owner is None:
            continue
        name = path.rpartition("/")[2]
        wanted = path in touched or name in ALWAYS_METADATA or path == owner.metadata
        if owner.name in lookups and wanted:
            importer = lookups[owner.name]
            draft.keep(
                path, Reason.METADATA, f"{importer or 'the run'} asked for the distribution {owner.name}", importer
            )
        elif owner.name in used and path in touched:
            draft.keep(path, Reason.METADATA, f"the run read it, and uses {owner.name}")
        elif owner.name in reachable and path in touched:
            draft.keep(path, Reason.METADATA, f"the run read it, and {owner.name} is in the layer")
        elif path in touched:
            draft.drop(path, Reason.SCANNED, "read only because all installed distributions were listed")
    # A dist-info folder without METADATA would make importlib.metadata find a distribution without a name.
    present = {path.split("/", 1)[0] for path in draft.kept if path.split("/", 1)[0] in folders}
    for path in draft.files:
        if path.split("/", 1)[0] in present and path.rpartition("/")[2] in ALWAYS_METADATA:
            draft.keep(path, Reason.METADATA, "importlib.metadata reads the name of every distribution that it finds")


def keep_startup(draft: Draft, trace: Trace, inventory: Inventory, reachable: Collection[str]) -> None:
    """Keep ``.pth`` files of used and ``reachable`` distributions and what they import.

    Those that add folders of this machine are dropped.
    """
    used = draft.used() | set(reachable)
    editable = {d.name for d in inventory.distributions if d.editable}
    kept_folders = folders_of(draft.kept)
    for pth in inventory.pth:
        owner = draft.files[pth.path].distribution
        if owner in editable or (pth.leaves_site and not pth.folders):
            draft.drop(pth.path, Reason.IDLE, "it names folders of this machine; their packages are in the layer")
        elif (pth.runs_code and owner in used) or any(folder in kept_folders for folder in pth.folders):
            draft.keep(pth.path, Reason.STARTUP, "read when Python starts, and its distribution is used")
        else:
            draft.drop(pth.path, Reason.IDLE, "read when Python starts, but nothing of its distribution is used")
    for path in start_only(trace):
        if path in draft.files and path not in draft.kept:
            owner = draft.files[path].distribution
            if not owner or (owner in used and owner not in editable):
                draft.keep(path, Reason.STARTUP, "imported when Python starts")
            else:
                draft.drop(path, Reason.IDLE, "imported when Python starts, but nothing else of it is used")
