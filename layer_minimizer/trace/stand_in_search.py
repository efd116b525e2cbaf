"""Finds the modules that a workload imports and does not need: those that others can stand in for.

A guess comes first: modules of which no function ran while the events were handled. All of them are stood in for in
one run; whichever has to load its real module is taken back, and what is left is tried again, until a run needs none
of the rest and gives the expected results. Only where a run fails are groups of modules tried by halves.
"""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from layer_minimizer.core import cache, progress
from layer_minimizer.core.files import replacing
from layer_minimizer.model import modules
from layer_minimizer.model.results import compare_results
from layer_minimizer.trace.tracer import Study, Tracer, texts_marked

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from layer_minimizer.model.trace import Trace, TracedModule

log = logging.getLogger(__name__)
# A run more than this brings nothing: every one of them takes modules back.
_MOST_ROUNDS = 12
# Parts of used packages are many, and most are small.
_WORTH_BYTES = 16 * 1024
_SHARE_OF_PARTS = 0.6
# Fields of a class's kind that has no signatures yet; see payload/runtime/standin.py.
_CLASS_WITHOUT_MEMBERS = 4


@dataclass(frozen=True, slots=True)
class Found:
    """What a search has found: the groups of modules that can be stood in for, and what their stand-ins have to do.

    ``also`` are modules that a stand-in imports because an event needed them, ``bound`` those of which only a stand-in
    is imported along with it, so that a used package has it. ``fills`` tells of stand-ins in which packages they would
    fill registries, so that they are loaded once such a package does something new.
    """

    groups: frozenset[str] = frozenset()
    also: Mapping[str, Sequence[str]] = field(default_factory=dict)
    bound: Mapping[str, Sequence[str]] = field(default_factory=dict)
    fills: Mapping[str, Sequence[str]] = field(default_factory=dict)


@dataclass(slots=True)
class Search:
    """Runs a workload with stand-ins. ``first`` is a run without any, ``study`` tells what its modules are.

    ``groups`` of modules are real or stood in for as one: packages that are half real are hard to get right.
    ``seconds`` bound all runs together, but for the one that is under way, and the check at the end. With ``restores``
    stand-ins can be loaded once a package does something new; for some of those that fill registries there is ``room``,
    in bytes of source: they are real from the start. What has been found by now is nobody else's to see; see `Found`.
    """

    tracer: Tracer
    first: Trace
    study: Study
    groups: Mapping[str, frozenset[str]]
    tolerance: float
    scratch: Path
    seconds: float
    restores: bool = True
    room: int = 1_500_000
    _runs: int = 0
    _begun: float = field(default_factory=time.monotonic)
    _also: dict[str, list[str]] = field(default_factory=dict)
    _bound: dict[str, list[str]] = field(default_factory=dict)
    _fills: dict[str, list[str]] = field(default_factory=dict)

    def find(self) -> Found:
        """Return the groups that can be stood in for together.

        Whole packages first; what they allow stays, whatever becomes of parts of packages that are used. Without such
        parts, more whole packages may be needless: so those once more. What is found is checked for modules whose
        import alone has an effect on others, and for those that cannot be loaded later: these are real after all.
        """
        whole = [name for name in self.groups if "." not in name]
        parts = [name for name in self.groups if "." in name and self._bytes([name]) >= _WORTH_BYTES]
        good: frozenset[str] = frozenset()
        for together, share in ((whole, 1.0), (parts, _SHARE_OF_PARTS), (whole, 1.0)):
            good = self._with_most_of(together, good, share)
        return self._found(self._checked(good))

    def _found(self, groups: frozenset[str]) -> Found:
        """Return what is known by now of the stand-ins for these groups."""
        return Found(
            groups,
            *({name: (*some,) for name, some in each.items()} for each in (self._also, self._bound, self._fills)),
        )

    def _checked(self, good: frozenset[str]) -> frozenset[str]:
        """Take back what is better real although no event needed it, and bring back what used packages would lack."""
        while good:
            self._fills = {}  # in the check every module is loaded by itself
            trace, study = self._run(good, self.tracer, check=True)
            self._fills = {name: list(packages) for name, packages in study.fills.items()}
            self.room = study.room
            if trace is None:
                log.warning("it could not be checked whether modules that are stood in for can be loaded later")
                return good
            unfit = {group for group in good if self.groups[group] & study.unfit.keys()}
            if unfit:
                log.debug("real after all:\n  %s", "\n  ".join(f"{name} {why}" for name, why in study.unfit.items()))
                good = self._with_most_of([name for name in self.groups if name in good - unfit], frozenset(), 1.0)
                continue
            if not (brought := self._bind(trace)):
                return good
            good = self._with_most_of([name for name in self.groups if name in brought], good, 1.0)
        return good

    def _with_most_of(self, names: list[str], good: frozenset[str], share: float) -> frozenset[str]:
        """Return ``good`` with as many of the groups ``names`` as can be found in the time: all of them, or by halves."""
        waiting = [[name for name in names if name not in good]]
        first = True
        while waiting and (first or self._left(share)):
            first = False
            some = waiting.pop()
            tried = self._settle(good.union(some)) if some else None
            # What is taken back on the way may be more than what has come.
            if tried is not None and self._bytes(tried) >= self._bytes(good):
                good = tried
            elif len(some) > 1:
                middle = len(some) // 2
                waiting += [some[middle:], some[:middle]]
        return good

    def confirm(self, found: Found, tracer: Tracer) -> Trace | None:
        """Run once more with these stand-ins, watched by ``tracer``; None when it is not as it was."""
        trace, study = self._run_with(found, tracer)
        if trace is None or study.woken or study.implicit:
            return None
        trace = texts_marked(trace) if tracer.bytecode else trace
        tables = self._with_members(self._tables(found), study.members)
        return replace(
            trace,
            asleep=self._asleep(trace),
            stand_ins=tuple(
                replace(
                    module,
                    table=tables[module.name],
                    touched=study.touched.get(module.name, ()),
                    seconds=round(self.study.seconds.get(module.name, 0.0), 4),
                )
                for module in trace.stand_ins
            ),
        )

    def _asleep(self, trace: Trace) -> tuple[TracedModule, ...]:
        loaded = {module.name for module in trace.modules}
        return tuple(module for module in self.first.modules if module.path and module.name not in loaded)

    def _with_members(
        self, tables: dict[str, Mapping[str, Any]], members: Iterable[tuple[str, str, str]]
    ) -> dict[str, Mapping[str, Any]]:
        """Put the signatures that were asked for into the tables."""
        known = json.loads(self.study.classes.read_bytes()) if members else {}
        for module, attribute, method in sorted(members):
            names = dict(tables[module]["names"])
            kind = [*names[attribute], *([{}] if len(names[attribute]) == _CLASS_WITHOUT_MEMBERS else [])]
            described = known[kind[1]][kind[2]]
            signature = described["methods"][method] if method in described["names"] else False
            names[attribute] = [*kind[:-1], {**kind[-1], method: signature}]
            tables[module] = {**tables[module], "names": names}
        return tables

    def _left(self, share: float) -> bool:
        return time.monotonic() - self._begun < self.seconds * share

    def _bytes(self, groups: Iterable[str]) -> int:
        names = (name for group in groups for name in self.groups[group])
        return sum(Path(self.study.tables[name]["file"]).stat().st_size for name in names)

    def _settle(self, chosen: frozenset[str]) -> frozenset[str] | None:
        """Take back what wakes until nothing does; give what is left, None when a run fails for another reason."""
        for _ in range(_MOST_ROUNDS):
            if not chosen:
                return chosen
            trace, study = self._run(chosen, self.tracer)
            if trace is not None and not study.woken and not study.implicit:
                return chosen
            log.debug("taken back:\n  %s", "\n  ".join(f"{name} {why}" for name, why in sorted(study.woken.items())))
            left = frozenset(name for name in chosen if not self.groups[name] & study.woken.keys())
            if trace is None:
                if left == chosen:
                    return None
                chosen = left
                continue
            chosen = left
            stood_in = {module.name for module in trace.stand_ins}
            for name in sorted(study.implicit):
                if not self._bring_along(name, stood_in):
                    return None
        return None

    def _bind(self, trace: Trace) -> set[str]:
        """Let stand-ins import what used packages would lack: submodules of theirs that nobody has imported by now.

        Gives the groups of these, which have to be stood in for, too.
        """
        loaded = {module.name for module in trace.modules}
        stood_in = {module.name for module in trace.stand_ins}
        group_of = {name: group for group, members in self.groups.items() for name in members}
        brought = set()
        for package, names in self._expected().items():
            # A package with a __getattr__ of its own imports them itself.
            if package in loaded - stood_in and not self.study.tables[package]["dynamic"]:
                for name in (f"{package}.{last}" for last in names):
                    by = self._importer(name, stood_in) if name not in loaded and name in group_of else ""
                    if by and name not in self._bound.setdefault(by, []):
                        self._bound[by].append(name)
                        brought.add(group_of[name])
        return brought

    def _importer(self, name: str, stood_in: Collection[str]) -> str:
        """Return the stand-in through which ``name`` was imported in the run without any; empty when there is none."""
        importers = {module.name: module.importer for module in self.first.modules}
        seen = set()
        while name and name not in seen:
            seen.add(name)
            name = importers.get(name, "")
            if name in stood_in:
                return name
        return ""

    def _bring_along(self, name: str, stood_in: Collection[str]) -> bool:
        """Let the stand-in through which ``name`` was imported import it; False when there is none."""
        by = self._importer(name, stood_in)
        if not by:
            log.debug("%s is expected to be loaded, and nobody knows by whom", name)
            return False
        listed = self._also.setdefault(by, [])
        if name not in listed:
            listed.append(name)
        return True

    def _tables(self, found: Found) -> dict[str, Mapping[str, Any]]:
        tables: dict[str, Mapping[str, Any]] = {}
        standing = {name for group in found.groups for name in self.groups[group]}
        for group in sorted(found.groups):
            for name in sorted(self.groups[group]):
                bound = [other for other in found.bound.get(name, ()) if other in standing]
                table = {key: value for key, value in self.study.tables[name].items() if key != "file"}
                fills = {"fills": [*found.fills[name]]} if name in found.fills else {}
                tables[name] = {**table, **fills, "group": group, "also": [*found.also.get(name, ()), *bound]}
        return tables

    def _run(self, chosen: frozenset[str], tracer: Tracer, *, check: bool = False) -> tuple[Trace | None, Study]:
        """Run with stand-ins for these groups, as they are by now."""
        return self._run_with(self._found(chosen), tracer, check=check)

    def _run_with(self, found: Found, tracer: Tracer, *, check: bool = False) -> tuple[Trace | None, Study]:
        """Run with stand-ins; there is no trace of a run that fails or gives other results."""
        self._runs += 1
        tables = self._tables(found)
        progress.note(f"run {self._runs}, with stand-ins for {len(tables):,} modules")
        folder = self.scratch / f"run{self._runs}"
        try:
            trace, study = tracer.stand_in(
                self.first.workload,
                folder / "run",
                tables,
                expected=self._expected(),
                study=self.study,
                check=check,
                room=self.room if check and self.restores else None,
            )
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        if trace is None:
            return None, study
        actual = {result.event: result.value for result in trace.results}
        if differing := compare_results(self.first.results, actual, self.tolerance):
            log.debug("with stand-ins for %d modules: %s", len(tables), "; ".join(map(str, differing)))
            return None, study
        return trace, study

    def _expected(self) -> dict[str, list[str]]:
        """Return the submodules of each package as they were bound in the run without stand-ins."""
        expected: dict[str, list[str]] = {}
        for name in self.study.tables:
            package, _, last = name.rpartition(".")
            if self.study.tables.get(package, {}).get("names", {}).get(last) == ["module", name]:
                expected.setdefault(package, []).append(last)
        return expected


def candidates(study: Study, first: Trace, kept: Collection[str]) -> dict[str, frozenset[str]]:
    """Return groups of modules that may do nothing for the result, by the highest package or module of each.

    ``kept`` are modules that are not to be stood in for, with all that lies below them.
    """
    real = set(study.ran) | {module.name for module in first.modules if module.startup}
    real |= {name for name in study.tables if any(name == k or name.startswith(f"{k}.") for k in kept)}
    real = modules.with_packages(real)
    groups: dict[str, set[str]] = {}
    for name in study.tables:
        if name not in real:
            groups.setdefault(_top(name, real), set()).add(name)
    ranked = sorted(groups.items(), key=lambda item: (-len(item[1]), item[0]))
    return {top: frozenset(members) for top, members in ranked}


def _top(name: str, real: Collection[str]) -> str:
    """Return the highest package above ``name`` that is not used, or itself."""
    parts = name.split(".")
    for depth in range(1, len(parts)):
        if ".".join(parts[:depth]) not in real:
            return ".".join(parts[:depth])
    return name


# ---- what an earlier run has found --------------------------------------------------------------------------------


_FOUND = ("also", "bound", "fills")


def cache_file(*parts: object) -> Path:
    """Return the file that remembers what a search with these inputs has found."""
    digest = hashlib.sha256(json.dumps([str(part) for part in parts]).encode("utf-8", "surrogateescape")).hexdigest()
    return cache.cache_folder("stand-ins") / f"{digest[:24]}.json"


def remembered(file: Path) -> Found | None:
    """Return what an earlier search has found; None where nothing readable is."""
    try:
        known = json.loads(file.read_bytes())
        found = [{str(name): (*map(str, listed),) for name, listed in known[key].items()} for key in _FOUND]
        return Found(frozenset(map(str, known["groups"])), *found)
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None


def remember(file: Path, found: Found) -> None:
    """Remember what was found; a cache that cannot be written is none."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        listed = {key: getattr(found, key) for key in _FOUND}
        with replacing(file) as part:
            part.write_text(json.dumps({"groups": sorted(found.groups), **listed}))
    except OSError as exc:
        log.debug("cannot remember what was found: %s", exc)
