"""Compare two reports: which distributions were added, removed, grew or shrank, and why."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from layer_minimizer.core.errors import UsageError
from layer_minimizer.layer.layout import NO_DISTRIBUTION
from layer_minimizer.model import codec
from layer_minimizer.model.trace import TracedModule
from layer_minimizer.report.explain import chain
from layer_minimizer.report.report import REPORT_FORMAT, megabytes

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

_SHOWN, _SHOWN_CAUSES = 8, 3
_ABSENT = "not installed"
_OWN = "(the layer's own files)"


@dataclass(frozen=True, slots=True)
class ReportedFile:
    """A report's row about an installed file. ``bytes`` is its installed size, ``shipped`` its size in the layer."""

    path: str
    distribution: str
    bytes: int
    shipped: int
    verdict: str
    reason: str
    evidence: str
    cause: str


@dataclass(frozen=True, slots=True)
class SavedReport:
    """The compared parts of a report: versions, the layer's sizes in bytes, every file by its path, and the imports."""

    name: str
    python: str
    version: str
    unzipped: int
    zipped: int
    files: Mapping[str, ReportedFile]
    imports: Mapping[str, TracedModule]

    @staticmethod
    def from_json(data: Any, name: str) -> SavedReport:
        """Read a report's JSON.

        Raises:
            UsageError: it is not a report, or has another format.
        """
        if not isinstance(data, dict) or "layer" not in data:
            raise UsageError("not a report: make one with --report DIR or --report-json FILE")
        if data.get("format") != REPORT_FORMAT or "files" not in data:
            raise UsageError(
                f"it has format {data.get('format')!r} or no list of files; this version compares format "
                f"{REPORT_FORMAT} with files: make the layer again"
            )
        try:
            files: dict[str, ReportedFile] = {}
            for row in data["files"]:
                _require_sizes(row["bytes"], row["shipped"])
                file = codec.decode(ReportedFile, row)
                files.setdefault(file.path, file)
            imports = {
                row["module"]: TracedModule(row["module"], "", row["importer"], row["line"], row["startup"])
                for row in data["imports"]
            }
            layer = data["layer"]
            sizes = (layer["unzipped_bytes"], layer["zipped_bytes"])
            _require_sizes(*sizes)
            return SavedReport(name, data["python"], data["version"], *sizes, files, imports)
        except (KeyError, TypeError, AttributeError) as exc:
            raise UsageError(f"a part of the report is damaged ({type(exc).__name__}: {exc})") from exc


def _require_sizes(*values: object) -> None:
    """Check that the values are sizes in bytes.

    Raises:
        TypeError: one is not.
    """
    for value in values:
        if type(value) is not int or value < 0:
            raise TypeError(f"{value!r} is not a number of bytes")


@dataclass(frozen=True, slots=True)
class Cause:
    """Files of a distribution with the same kind of change: their number, the change in bytes, and the largest file.

    ``why`` is that file's evidence, and the chain from it to the entry if it is in the new layer.
    """

    what: str
    files: int
    bytes: int
    largest: str
    why: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Change:
    """The change of a distribution: ``kind`` is "came", "went", "grew" or "shrank"; sizes are those in the layer."""

    distribution: str
    kind: str
    before: int
    after: int
    causes: tuple[Cause, ...]


@dataclass(frozen=True, slots=True)
class ReportDiff:
    """The differences between two reports; the largest changes come first."""

    old: SavedReport
    new: SavedReport
    changes: tuple[Change, ...]

    @property
    def growth(self) -> float:
        """The growth of the unzipped layer, as a fraction of the old size."""
        return (self.new.unzipped - self.old.unzipped) / max(self.old.unzipped, 1)

    def to_json(self) -> dict[str, Any]:
        """Return the differences as JSON."""
        layers = {
            name: {"report": report.name, "unzipped_bytes": report.unzipped, "zipped_bytes": report.zipped}
            for name, report in (("old", self.old), ("new", self.new))
        }
        return {**layers, "growth": round(self.growth, 6), "changes": [asdict(change) for change in self.changes]}

    def lines(self, *, everything: bool = False) -> Iterator[str]:
        """Yield the differences as lines of text, shortened unless ``everything`` is set."""
        old, new = self.old, self.new
        yield (
            f"{megabytes(old.unzipped)} → {megabytes(new.unzipped)} unzipped ({signed(self.growth)}), "
            f"{megabytes(old.zipped)} → {megabytes(new.zipped)} zipped"
        )
        for what, one, two in (("Python", old.python, new.python), ("layer_minimizer", old.version, new.version)):
            if one != two:
                yield f"{what} {one} → {two}"
        if not self.changes:
            yield "No distribution's size in the layer has changed."
        shown = self.changes if everything else self.changes[:_SHOWN]
        for change in shown:
            yield f"{change.distribution} {change.kind}: {megabytes(change.before)} → {megabytes(change.after)}"
            for cause in change.causes if everything else change.causes[:_SHOWN_CAUSES]:
                yield f"  {_delta(cause.bytes)} {cause.what}: {cause.largest}" + _further_files(cause.files - 1)
                yield from (f"    ← {link}" for link in cause.why)
        if left := len(self.changes) - len(shown):
            yield f"and {left} more; -v shows all"


def diff_reports(old: SavedReport, new: SavedReport) -> ReportDiff:
    """Return the differences between two layers, by distribution."""
    paths: dict[str, list[str]] = defaultdict(list)
    for path in {**old.files, **new.files}:
        file = new.files.get(path) or old.files[path]
        paths[file.distribution or NO_DISTRIBUTION].append(path)
    changes = [change for name, listed in sorted(paths.items()) if (change := _change(name, listed, old, new))]
    own = [report.unzipped - sum(file.shipped for file in report.files.values()) for report in (old, new)]
    if own[0] != own[1]:
        changes.append(Change(_OWN, "grew" if own[1] > own[0] else "shrank", own[0], own[1], ()))
    return ReportDiff(old, new, tuple(sorted(changes, key=lambda change: -abs(change.after - change.before))))


def _change(name: str, paths: Iterable[str], old: SavedReport, new: SavedReport) -> Change | None:
    groups: dict[str, list[tuple[int, str]]] = defaultdict(list)
    before = after = 0
    for path in paths:
        one, two = old.files.get(path), new.files.get(path)
        sizes = (one.shipped if one else 0), (two.shipped if two else 0)
        before, after = before + sizes[0], after + sizes[1]
        if sizes[0] != sizes[1]:
            groups[_kind_of_change(one, two)].append((sizes[1] - sizes[0], path))
    if not groups:
        return None
    kind = "came" if not before else "went" if not after else "grew" if after >= before else "shrank"
    causes = [_cause(what, files, new) for what, files in groups.items()]
    return Change(name, kind, before, after, tuple(sorted(causes, key=lambda cause: (-abs(cause.bytes), cause.what))))


def _kind_of_change(one: ReportedFile | None, two: ReportedFile | None) -> str:
    """Return what has changed about a file."""
    was, is_now = (file.verdict if file else _ABSENT for file in (one, two))
    if one is None or two is None or was != is_now:
        return f"{was}, now {is_now}"
    if one.bytes != two.bytes:
        return f"{is_now}, of another build"
    if is_now == "compacted":
        return "compacted, with other pages in use"
    return f"{is_now}, in another form"


def _cause(what: str, files: list[tuple[int, str]], new: SavedReport) -> Cause:
    _, largest = max(files, key=lambda each: (abs(each[0]), each[1]))
    file = new.files.get(largest)
    why: tuple[str, ...] = ()
    if file is not None:
        why = (file.evidence, *(chain(file, new.files, new.imports) if file.shipped else ()))
    return Cause(what, len(files), sum(size for size, _ in files), largest, why)


def _delta(size: int) -> str:
    return f"{'+' if size >= 0 else '-'}{megabytes(abs(size))}"


def signed(share: float) -> str:
    """Return a difference of sizes with its sign."""
    return f"{share:+.1%}".replace("%", " %")


def _further_files(number: int) -> str:
    return f" and {number:,} more" if number else ""
