"""Compare traces with each other, and with the environment that is to be minimized."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import TYPE_CHECKING

from layer_minimizer.model.comparison import Difference
from layer_minimizer.model.installed import METADATA_FOLDERS, Inventory
from layer_minimizer.model.trace import Trace, Use

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from layer_minimizer.model.interpreter import Interpreter

# Checking that a file exists, or listing a folder, does not show that a file was used.
_CONTENT_USES = {Use.OPEN, Use.MAP, Use.SPEC, Use.TEXT}
_CODE = (".py", ".pyc", ".pth")


def compare_traces(
    traces: Sequence[tuple[str, Trace]], owners: Mapping[str, str] | None = None
) -> tuple[Difference, ...]:
    """Return what some of the named traces contain and others do not, the longest differences first.

    ``owners`` maps installed files to their distributions; without it the distributions noted in the traces are used.
    A module that a stand-in replaces counts as used: it was imported.
    """
    owner = _Owners(owners or {}, [trace for _, trace in traces])
    names_by_item: dict[tuple[str, str, str], list[str]] = defaultdict(list)
    for name, trace in traces:
        for kind, path, item in sorted(_items(trace)):
            names_by_item[kind, owner.of(path), item].append(name)
    grouped: dict[tuple[tuple[str, ...], str], dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for (kind, distribution, item), names in names_by_item.items():
        if len(names) < len(traces):
            grouped[tuple(names), distribution][kind].append(item)
    found = [
        Difference(names, distribution, *(tuple(sorted(kinds[kind])) for kind in ("module", "library", "file")))
        for (names, distribution), kinds in grouped.items()
    ]
    return tuple(sorted(found, key=lambda each: (len(each.names), each.names, -len(each.items), each.distribution)))


def _items(trace: Trace) -> Iterator[tuple[str, str, str]]:
    """Yield (kind, path, name) for everything in site-packages that a trace used."""
    imported = {module.name: module.path for module in trace.stand_ins}
    imported |= {module.name: module.path for module in (*trace.asleep, *trace.modules) if not module.startup}
    paths = {path for path in imported.values() if path}
    yield from (("module", path, name) for name, path in imported.items() if path)
    for file in trace.files:
        if file.path in paths or not file.uses & _CONTENT_USES or file.path.split("/")[0].endswith(METADATA_FOLDERS):
            continue
        if Use.MAP in file.uses:
            yield "library", file.path, file.path
        elif not file.path.endswith(_CODE) and not file.uses <= {Use.SPEC}:
            yield "file", file.path, file.path


def summarize_trace(trace: Trace) -> str:
    """Return one line that summarizes a trace."""
    kinds = Counter(kind for kind, _, _ in _items(trace))
    owner = _Owners({}, [trace])
    names = {owner.of(path) for _, path, _ in _items(trace)}
    count = len(trace.workload.events)
    events = f"{count} event{'' if count == 1 else 's'} of " if count else ""
    unused = f", {len(trace.stand_ins):,} of the modules unused" if trace.stand_ins else ""
    return (
        f"{events}{trace.workload.entry.name} on Python {trace.python}, observed by {' and '.join(trace.observers)}: "
        f"{kinds['module']:,} modules, {kinds['library']:,} libraries and {kinds['file']:,} data files of "
        f"{len(names)} distributions{unused}"
    )


class _Owners:
    """Finds a file's distribution: from the environment, or else by its top-level folder from the traces."""

    def __init__(self, owners: Mapping[str, str], traces: Iterable[Trace]) -> None:
        self._owners = owners
        known: dict[str, set[str]] = defaultdict(set)
        for path, name in owners.items():
            known[path.split("/", 1)[0]].add(name)
        for trace in traces:
            for distribution in trace.distributions:
                for top in distribution.tops:
                    known[top].add(distribution.name)
        self._tops = known

    def of(self, path: str) -> str:
        top = path.split("/", 1)[0]
        names = self._tops.get(top, set())
        return self._owners.get(path) or (next(iter(names)) if len(names) == 1 else top.split(".", 1)[0])


def find_mismatches(
    traces: Iterable[tuple[str, Trace]], inventory: Inventory, interpreter: Interpreter
) -> Iterator[str]:
    """Yield a warning for each saved trace that does not match the installed environment."""
    owners = {file.path: file.distribution for file in inventory.files}
    tops = {path.split("/", 1)[0] for path in owners}
    versions = {d.name: d.version for d in inventory.distributions}
    for name, trace in traces:
        if trace.machine and trace.machine != interpreter.machine:
            yield (
                f"{name} was taken on {trace.machine}, but the layer is for {interpreter.machine}: libraries that only "
                f"this trace used may be missing; trace on {interpreter.machine}"
            )
        touched = [file.path for file in trace.files if file.uses & _CONTENT_USES]
        used = {owners[path] for path in touched if path in owners}
        for traced in trace.distributions:
            if traced.name in used and versions.get(traced.name, traced.version) != traced.version:
                yield (
                    f"{name} used {traced.name} {traced.version}, but {versions[traced.name]} is installed: "
                    "its files may have other paths; install the traced version, or trace again"
                )
        foreign = {root.name for root in trace.foreign}
        absent = {path.split("/", 1)[0] for path in touched} - tops - foreign
        if listed := sorted(top for top in absent if not top.endswith(METADATA_FOLDERS)):
            yield f"{name} used {', '.join(listed)}, which is not installed here: install it, or the layer lacks it"
