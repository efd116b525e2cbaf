"""The verdicts of a plan while evidence is still being added to it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from layer_minimizer.model.installed import METADATA_FOLDERS, InstalledFile
from layer_minimizer.model.plan import FINAL_REASONS, Decision, Reason, Verdict
from layer_minimizer.plan import development_files

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from layer_minimizer.model.trace import TracedModule, TracedStandIn

# Reasons to keep a file that do not make its distribution one that the run needs.
_IDLE = (Reason.METADATA, Reason.STARTUP)


@dataclass(frozen=True, slots=True)
class Because:
    """Why a file has its verdict; the fields are those of a `Decision`."""

    reason: Reason
    evidence: str
    cause: str = ""


_UNUSED = Because(Reason.UNUSED, "nothing asked for it")
_UNTOUCHED = Because(Reason.UNTOUCHED, "nothing asked for it, but for others of its distribution")
_DEVELOPMENT = Because(Reason.DEVELOPMENT, "only a compiler, a shell or a test runner reads it")


@dataclass(slots=True)
class Draft:
    """The verdicts so far. The first reason for which a file is kept stands.

    ``stood_in`` are the modules that others stand in for, ``asleep`` those that only they would import, by their files.
    ``cold_owners`` are the distributions of which all that is not kept goes into the cold store, each with the reason.
    """

    files: dict[str, InstalledFile]
    stood_in: Mapping[str, TracedStandIn]
    asleep: Mapping[str, TracedModule]
    kept: dict[str, Because] = field(default_factory=dict)
    dropped: dict[str, Because] = field(default_factory=dict)
    cold_owners: Mapping[str, Because] = field(default_factory=dict)

    def copy(self) -> Draft:
        """Return a draft with the same verdicts; what is added to it does not change this one."""
        return Draft(self.files, self.stood_in, self.asleep, dict(self.kept), dict(self.dropped), self.cold_owners)

    def keep(self, path: str, reason: Reason, evidence: str, cause: str = "") -> None:
        """Keep an installed file, unless there is a reason for that already."""
        if path in self.files:
            self.kept.setdefault(path, Because(reason, evidence, cause))

    def drop(self, path: str, reason: Reason, evidence: str) -> None:
        """Drop a file, whatever it was kept for."""
        self.kept.pop(path, None)
        self.dropped[path] = Because(reason, evidence)

    def used(self) -> set[str]:
        """Return the distributions of which a kept file is more than metadata or a companion of Python's start."""
        kept = {path for path, why in self.kept.items() if why.reason is not Reason.STARTUP and not in_metadata(path)}
        return {self.files[path].distribution for path in {*kept, *self.stood_in, *self.asleep}}

    def used_distributions(self) -> frozenset[str]:
        """Return the distributions of which the run needed more than what is kept for metadata or Python's start."""
        needed = {path for path, why in self.kept.items() if why.reason not in _IDLE}
        replaced = {*self.stood_in, *self.asleep} - self.kept.keys() - self.dropped.keys()
        return frozenset(self.files[path].distribution for path in needed | replaced)

    def available(self) -> list[str]:
        """Return the files that may still be kept: nobody has taken them out for good."""
        final = {path for path, why in self.dropped.items() if why.reason in FINAL_REASONS} - self.kept.keys()
        return [path for path in self.files if path not in final]

    def warm(self, reachable: Mapping[str, str]) -> None:
        """Let the rest of all distributions in use go into the cold store, and all of the ``reachable`` ones."""
        named = {
            name: Because(Reason.REACHABLE, f"nothing asked for {name}, but {by}") for name, by in reachable.items()
        }
        self.cold_owners = {**named, **dict.fromkeys(self.used(), _UNTOUCHED)}

    def decisions(self, importers: Mapping[str, str]) -> Iterator[Decision]:
        """Return the verdict for every file; ``importers`` of modules by name are part of the evidence."""
        used_tests = development_files.used_test_folders(self.kept)
        for path, file in self.files.items():
            if path in self.kept:
                yield verdict(file, Verdict.KEPT, self.kept[path])
            elif path in self.dropped:
                yield verdict(file, Verdict.DROPPED, self.dropped[path])
            else:
                why = self._why_not_kept(file, importers, used_tests)
                cold = file.distribution in self.cold_owners and not file.link and why is not _DEVELOPMENT
                yield verdict(file, Verdict.COLD if cold else Verdict.DROPPED, why)

    def _why_not_kept(self, file: InstalledFile, importers: Mapping[str, str], used_tests: frozenset[str]) -> Because:
        path = file.path
        if path in self.stood_in:
            said = "imported, and needed by nothing after that"
            return Because(Reason.STAND_IN, said, importers.get(self.stood_in[path].name, ""))
        if path in self.asleep:
            by = self.asleep[path].importer
            said = f"imported by {by} alone, which nothing needed" if by else "imported by what nothing needed"
            return Because(Reason.ASLEEP, said, by)
        if development_files.is_for_development(file, used_tests):
            return _DEVELOPMENT
        return self.cold_owners.get(file.distribution, _UNUSED)


def verdict(file: InstalledFile, what: Verdict, why: Because) -> Decision:
    """Return the decision about a file."""
    return Decision(file.path, file.size, file.distribution, what, why.reason, why.evidence, why.cause)


def in_metadata(path: str) -> bool:
    """Return whether a file belongs to the metadata of a distribution."""
    return path.split("/", 1)[0].endswith(METADATA_FOLDERS)


def folders_of(paths: Iterable[str]) -> set[str]:
    """Return all folders that the files lie in, at any depth."""
    found: set[str] = set()
    for path in paths:
        folder = path.rpartition("/")[0]
        while folder and folder not in found:
            found.add(folder)
            folder = folder.rpartition("/")[0]
    return found
