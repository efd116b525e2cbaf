"""Compares traces: what one saw and another did not, and what of it fits the environment to be minimized."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import TYPE_CHECKING

from layer_minimizer.model.comparison import Difference
from layer_minimizer.model.installed import METADATA_FOLDERS, Inventory
from layer_minimizer.model.trace import Trace, Use

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from layer_minimizer.model.interpreter import Interpreter

# A question whether a file exists, or a look into a folder, says nothing of what is there.
_REAL = {Use.OPEN, Use.MAP, Use.SPEC, Use.TEXT}
_CODE = (".py", ".pyc", ".pth")


def compare_traces(
    traces: Sequence[tuple[str, Trace]], owners: Mapping[str, str] | None = None
) -> tuple[Difference, ...]:
    """Return what some of the named traces have and others lack, the most first.

    ``owners`` are the distributions of installed files; without it the traces themselves say whose they are.
    A module that is stood in for counts as seen: it was imported.
    """
    owner = _Owners(owners or {}, [trace for _, trace in traces])
    having: dict[tuple[str, str, str], list[str]] = defaultdict(list)
    for name, trace in traces:
        for kind, path, item in sorted(_items(trace)):
            having[kind, owner.of(path), item].append(name)
    grouped: dict[tuple[tuple[str, ...], str], dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for (kind, distribution, item), names in having.items():
        if len(names) < len(traces):
            grouped[tuple(names), distribution][kind].append(item)
    found = [
        Difference(names, distribution, *(tuple(sorted(kinds[kind])) for kind in ("module", "library", "file")))
        for (names, distribution), kinds in grouped.items()
    ]
    return tuple(sorted(found, key=lambda each: (len(each.names), each.names, -len(each.items), each.distribution)))


def _items(trace: Trace) -> Iterator[tuple[str, str, str]]:
    """Yield (kind, path, name) of what a trace used that lies in the site."""
    imported = {module.name: module.path for module in trace.stand_ins}
    imported |= {module.name: module.path for module in (*trace.asleep, *trace.modules) if not module.startup}
    paths = {path for path in imported.values() if path}
    yield from (("module", path, name) for name, path in imported.items() if path)
    for file in trace.files:
        if file.path in paths or not file.uses & _REAL or file.path.split("/")[0].endswith(METADATA_FOLDERS):
            continue
        if Use.MAP in file.uses:
            yield "library", file.path, file.path
        elif not file.path.endswith(_CODE) and not file.uses <= {Use.SPEC}:
            yield "file", file.path, file.path


def summarize_trace(trace: Trace) -> str:
    """Say in a few words what a trace holds."""
    kinds = Counter(kind for kind, _, _ in _items(trace))
    owner = _Owners({}, [trace])
    names = {owner.of(path) for _, path, _ in _items(trace)}
    count = len(trace.workload.events)
    events = f"{count} event{'' if count == 1 else 's'} of " if count else ""
    needless = f", {len(trace.stand_ins):,} of the modules without need" if trace.stand_ins else ""
    return (
        f"{events}{trace.workload.entry.name} on Python {trace.python}, seen by {' and '.join(trace.observers)}: "
        f"{kinds['module']:,} modules, {kinds['library']:,} libraries and {kinds['file']:,} data files of "
        f"{len(names)} distributions{needless}"
    )


class _Owners:
    """Tells whose a file is: as the environment says, or by its first folder as the traces say."""

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


def misfits(traces: Iterable[tuple[str, Trace]], stock: Inventory, interpreter: Interpreter) -> Iterator[str]:
    """Say what of the saved traces may not be true of the installed environment."""
    owners = {file.path: file.distribution for file in stock.files}
    tops = {path.split("/", 1)[0] for path in owners}
    versions = {d.name: d.version for d in stock.distributions}
    for name, trace in traces:
        if trace.machine and trace.machine != interpreter.machine:
            yield (
                f"{name} was taken on {trace.machine}, and the layer is for {interpreter.machine}: libraries that only "
                f"it used may be missing; trace on {interpreter.machine}"
            )
        real = [file.path for file in trace.files if file.uses & _REAL]
        used = {owners[path] for path in real if path in owners}
        for then in trace.distributions:
            if then.name in used and versions.get(then.name, then.version) != then.version:
                yield (
                    f"{name} used {then.name} {then.version}, and {versions[then.name]} is installed: what it saw may "
                    "lie elsewhere now; install that version, or trace again"
                )
        foreign = {root.name for root in trace.foreign}
        absent = {path.split("/", 1)[0] for path in real} - tops - foreign
        if listed := sorted(top for top in absent if not top.endswith(METADATA_FOLDERS)):
            yield f"{name} used {', '.join(listed)}, which is not installed here: install it, or the layer lacks it"
