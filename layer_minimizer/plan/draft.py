"""The verdicts of a plan while it is being made: evidence is still added."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from layer_minimizer.model.installed import METADATA_FOLDERS, InstalledFile
from layer_minimizer.model.plan import FINAL_REASONS, Decision, Reason, Verdict
from layer_minimizer.plan import development_files

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from layer_minimizer.model.trace import TracedModule, TracedStandIn

# Reasons to keep a file that do not show that the run needs its distribution.
_IDLE = (Reason.METADATA, Reason.STARTUP)


@dataclass(frozen=True, slots=True)
class Justification:
    """Why a file has its verdict; see `Decision` for the fields."""

    reason: Reason
    evidence: str
    cause: str = ""


_UNUSED = Justification(Reason.UNUSED, "nothing asked for it")
_UNTOUCHED = Justification(Reason.UNTOUCHED, "nothing asked for it, but for others of its distribution")
_DEVELOPMENT = Justification(Reason.DEVELOPMENT, "only a compiler or a test runner reads it")


@dataclass(slots=True)
class Draft:
    """The verdicts so far. If a file is kept for several reasons, the first one is recorded.

    Attributes:
        files: the installed files by path.
        stand_ins: the modules that are replaced by stand-ins, by the paths of their files.
        asleep: the modules that only modules replaced by stand-ins import, by the paths of their files.
        kept: the files that are kept, with the reason.
        dropped: the files that are dropped, with the reason.
        cold_owners: the distributions whose other files go into the cold store, with the reason for these files.
        imported_tests: the test folders whose packages import test modules.
        gpu: the files for a GPU, each with the evidence.
    """

    files: dict[str, InstalledFile]
    stand_ins: Mapping[str, TracedStandIn]
    asleep: Mapping[str, TracedModule]
    kept: dict[str, Justification] = field(default_factory=dict)
    dropped: dict[str, Justification] = field(default_factory=dict)
    cold_owners: Mapping[str, Justification] = field(default_factory=dict)
    imported_tests: frozenset[str] = frozenset()
    gpu: Mapping[str, str] = field(default_factory=dict)

    def copy(self) -> Draft:
        """Return an independent copy of this draft."""
        return replace(self, kept=dict(self.kept), dropped=dict(self.dropped))

    def keep(self, path: str, reason: Reason, evidence: str, cause: str = "") -> None:
        """Keep an installed file; ignore other paths, and files that are already kept."""
        if path in self.files:
            self.kept.setdefault(path, Justification(reason, evidence, cause))

    def drop(self, path: str, reason: Reason, evidence: str) -> None:
        """Drop a file even if it is kept."""
        self.kept.pop(path, None)
        self.dropped[path] = Justification(reason, evidence)

    def used(self) -> set[str]:
        """Return the distributions with a used file, not counting metadata and files for the start of Python."""
        kept = {path for path, why in self.kept.items() if why.reason is not Reason.STARTUP and not in_metadata(path)}
        return {self.files[path].distribution for path in {*kept, *self.stand_ins, *self.asleep}}

    def used_distributions(self) -> frozenset[str]:
        """Return the distributions with a file that is kept for the run itself, or would be without a stand-in."""
        needed = {path for path, why in self.kept.items() if why.reason not in _IDLE}
        replaced = {*self.stand_ins, *self.asleep} - self.kept.keys() - self.dropped.keys()
        return frozenset(self.files[path].distribution for path in needed | replaced)

    def available(self) -> list[str]:
        """Return the files that are kept or may still be kept: all that are not dropped for a final reason."""
        final = {path for path, why in self.dropped.items() if why.reason in FINAL_REASONS} - self.kept.keys()
        return [path for path in self.files if path not in final]

    def add_cold_owners(self, reachable: Mapping[str, str]) -> None:
        """Put the other files of used and of ``reachable`` distributions into the cold store.

        ``reachable`` has the distributions that code in the layer refers to, each with the evidence.
        """
        referenced = {
            name: Justification(Reason.REACHABLE, f"nothing asked for {name}, but {evidence}")
            for name, evidence in reachable.items()
        }
        self.cold_owners = {**referenced, **dict.fromkeys(self.used(), _UNTOUCHED)}

    def decisions(self, importers: Mapping[str, str]) -> Iterator[Decision]:
        """Yield the decision for every file; ``importers`` maps module names to the importing modules, as evidence."""
        used_tests = development_files.used_test_folders(self.kept) | self.imported_tests
        of_programs = development_files.program_folders(self.files.values())
        for path, file in self.files.items():
            if path in self.kept:
                yield decision_for(file, Verdict.KEPT, self.kept[path])
            elif path in self.dropped:
                yield decision_for(file, Verdict.DROPPED, self.dropped[path])
            else:
                why = self._why_not_kept(file, importers, used_tests, of_programs)
                never = why.reason is Reason.DEVELOPMENT or path in self.gpu
                cold = file.distribution in self.cold_owners and not file.link and not never
                yield decision_for(file, Verdict.COLD if cold else Verdict.DROPPED, why)

    def _why_not_kept(
        self,
        file: InstalledFile,
        importers: Mapping[str, str],
        used_tests: frozenset[str],
        of_programs: frozenset[str],
    ) -> Justification:
        path = file.path
        if path in self.stand_ins:
            evidence = "imported but unused: replaced by a stand-in"
            return Justification(Reason.STAND_IN, evidence, importers.get(self.stand_ins[path].name, ""))
        if path in self.gpu:
            return Justification(Reason.GPU, f"{self.gpu[path]}, and no event needed it")
        if path in self.asleep:
            by = self.asleep[path].importer
            evidence = f"imported only by {by}, which is unused" if by else "imported only by unused modules"
            return Justification(Reason.ASLEEP, evidence, by)
        if development_files.is_for_development(file, used_tests, of_programs):
            return _DEVELOPMENT
        return self.cold_owners.get(file.distribution, _UNUSED)


def decision_for(file: InstalledFile, verdict: Verdict, why: Justification) -> Decision:
    """Return the decision for a file."""
    return Decision(file.path, file.size, file.distribution, verdict, why.reason, why.evidence, why.cause)


def in_metadata(path: str) -> bool:
    """Return whether a file belongs to the metadata of a distribution."""
    return path.split("/", 1)[0].endswith(METADATA_FOLDERS)


def folders_of(paths: Iterable[str]) -> set[str]:
    """Return all folders that contain one of the files, at any depth."""
    found: set[str] = set()
    for path in paths:
        folder = path.rpartition("/")[0]
        while folder and folder not in found:
            found.add(folder)
            folder = folder.rpartition("/")[0]
    return found
