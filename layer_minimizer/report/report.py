"""What came of a run of the tool, and its form for programs, JSON. Computes nothing new."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from dataclasses import dataclass, field
from importlib import metadata
from typing import TYPE_CHECKING, Any

from layer_minimizer.aws.limits import LAMBDA_UNZIPPED_BYTES
from layer_minimizer.environment.base_layers import BaseLayers
from layer_minimizer.environment.inventory import INSTALLERS
from layer_minimizer.layer.layout import NO_DISTRIBUTION
from layer_minimizer.model.plan import Decision, KeepPlan, NotExercised, Reason, Verdict

if TYPE_CHECKING:
    from collections.abc import Iterator

    from layer_minimizer.model.comparison import Difference
    from layer_minimizer.model.installed import Size
    from layer_minimizer.model.outcome import Emulated, FunctionArchive, ImportTimes, LayerArchive, Proof
    from layer_minimizer.model.trace import Trace

REPORT_FORMAT = 1


@dataclass(frozen=True, slots=True)
class Report:
    """A verified layer, and how it came to be. All sizes are bytes, all times seconds.

    ``limit`` is what the function and all its layers may take, ``function_bytes`` what the function takes of it: its
    zip if there is one, else what lies beside its entry. ``imports`` is None where imports were not timed. It has so
    many fields because it is what all stages together have come to.
    """

    trace: Trace
    plan: KeepPlan
    before: Size
    archive: LayerArchive
    proof: Proof
    not_exercised: tuple[NotExercised, ...]
    warnings: tuple[str, ...]
    seconds: dict[str, float]
    function: FunctionArchive | None = None
    emulated: Emulated | None = None
    below: BaseLayers = field(default_factory=BaseLayers)
    differences: tuple[Difference, ...] = ()
    limit: int = LAMBDA_UNZIPPED_BYTES
    function_bytes: int = 0
    imports: ImportTimes | None = None

    @property
    def base_bytes(self) -> int:
        """The bytes that the layers below this one take together, unzipped."""
        return self.below.base_bytes

    @property
    def _in_layer(self) -> tuple[Decision, ...]:
        return (*self.plan.kept, *self.plan.cold)

    def _shipped(self) -> dict[str, int]:
        """Return the files' bytes in the layer: compacted, compiled or compressed they are not what is installed."""
        sizes = {decision.path: decision.size for decision in self.plan.kept}
        sizes |= {library.path: library.shipped + library.cold for library in self.proof.libraries}
        return dict.fromkeys((d.path for d in self.plan.cold), 0) | sizes | dict(self.proof.shipped)

    @property
    def kept(self) -> dict[str, int]:
        """Bytes in the layer by the reason for which they are there."""
        sizes: Counter[str] = Counter()
        shipped = self._shipped()
        for decision in self._in_layer:
            sizes[decision.reason.value] += shipped[decision.path]
        return dict(sorted(sizes.items()))

    @property
    def largest(self) -> tuple[tuple[str, int, str], ...]:
        """The distributions in the layer by falling size: name, bytes, and the reason behind most of these bytes."""
        sizes: Counter[str] = Counter()
        reasons: dict[str, Counter[str]] = {}
        shipped = self._shipped()
        for decision in self._in_layer:
            name = decision.distribution or NO_DISTRIBUTION
            size = shipped[decision.path]
            sizes[name] += size
            reasons.setdefault(name, Counter())[decision.reason.value] += size
        return tuple((name, size, reasons[name].most_common(1)[0][0]) for name, size in sizes.most_common())

    def stand_ins(self) -> Iterator[dict[str, Any]]:
        """Yield for each module that another stands in for who imports it, what is taken from it, and what it saves."""
        sizes = {decision.path: decision.size for decision in self.plan.decisions}
        found = {module.name: module for module in self.plan.chains}
        for module in self.plan.stand_ins:
            yield {
                "module": module.name,
                "importer": found[module.name].importer,
                "line": found[module.name].line,
                "touched": [{"name": name, "kind": kind} for name, kind in module.touched],
                "bytes": sizes[module.path],
                "seconds": module.seconds,
            }

    def cold(self) -> dict[str, int]:
        """Return how many files are cold, and their bytes as they are installed and in the layer."""
        shipped = self._shipped()
        return {
            "files": len(self.plan.cold),
            "bytes": sum(decision.size for decision in self.plan.cold),
            "stored_bytes": sum(shipped[decision.path] for decision in self.plan.cold),
        }

    def _files(self) -> Iterator[dict[str, Any]]:
        """Yield what became of every file that counts as installed: its verdict in one word, and why."""
        shipped = self._shipped()
        compacted = {library.path for library in self.proof.libraries if not library.problem}
        for decision in self.plan.decisions:
            there = decision.verdict is not Verdict.DROPPED
            if decision.distribution in INSTALLERS and not there:
                continue
            verdict: str = decision.verdict
            if decision.reason is Reason.STAND_IN:
                verdict = "stand-in"
            elif decision.verdict is Verdict.KEPT and decision.path in compacted:
                verdict = "compacted"
            yield {
                "path": decision.path,
                "distribution": decision.distribution,
                "bytes": decision.size,
                "shipped": shipped[decision.path] if there else 0,
                "verdict": verdict,
                "reason": decision.reason,
                "evidence": decision.evidence,
                "cause": decision.cause,
            }

    def to_json(self) -> dict[str, Any]:
        """Return the report as JSON; ``report.schema.json`` says what is in it.

        The names of format 1 stay for good; new ones may join them.
        """
        return {
            "format": REPORT_FORMAT,
            "version": metadata.version("layer_minimizer"),
            "python": self.plan.python,
            "entry": self.trace.workload.entry.name,
            "before": dataclasses.asdict(self.before),
            "layer": _archive_json(self.archive) | {"distributions": len(self.largest)},
            "budget": {
                "limit": self.limit,
                "layer": self.archive.unzipped_bytes,
                "base_layers": self.base_bytes,
                "function": self.function_bytes,
            },
            "function": self._function_json(),
            "verified": True,
            "verification": _proof_json(self.proof),
            "lambda": emulated_json(self.emulated) if self.emulated else None,
            "kept": self.kept,
            "distributions": {name: size for name, size, _ in self.largest},
            "stand_ins": list(self.stand_ins()),
            "cold": self.cold(),
            "libraries": [dataclasses.asdict(library) for library in self.proof.libraries],
            "bundled": [dataclasses.asdict(library) for library in self.proof.bundled],
            "not_exercised": [dataclasses.asdict(entry) for entry in self.not_exercised],
            "observers": list(self.trace.observers),
            "base_layers": self._base_layers_json(),
            "base_bytes": self.base_bytes,
            "conflicts": [dataclasses.asdict(conflict) for conflict in self.below.conflicts],
            "differences": [difference.to_json() for difference in self.differences],
            "warnings": list(self.warnings),
            "import_time": self.imports.to_json() if self.imports else None,
            "seconds": self.seconds,
            "imports": self._imports_json(),
            "files": list(self._files()),
        }

    def _base_layers_json(self) -> list[dict[str, Any]]:
        names = ("name", "sha256", "files", "unzipped_bytes")
        return [{name: getattr(layer, name) for name in names} for layer in self.below.layers]

    def _imports_json(self) -> list[dict[str, Any]]:
        return [
            {"module": m.name, "importer": m.importer, "line": m.line, "startup": m.startup} for m in self.plan.chains
        ]

    def _function_json(self) -> dict[str, Any] | None:
        if self.function is None:
            return None
        archive = self.function.archive
        return _archive_json(archive) | {
            "model_bytes": self.function.model_bytes,
            "left_out": list(self.function.left_out),
            "with_layers_bytes": archive.unzipped_bytes + self.archive.unzipped_bytes + self.base_bytes,
        }


def _archive_json(archive: LayerArchive) -> dict[str, Any]:
    return dataclasses.asdict(archive) | {"path": str(archive.path)}


def _proof_json(proof: Proof) -> dict[str, Any]:
    return {
        "events": proof.events,
        "mismatches": 0,  # with one there is no report
        "repaired": list(proof.repaired),
        "isolated": proof.isolated,
        "runs": proof.runs,
        "cold_faults": proof.cold_faults,
    }


def megabytes(size: int) -> str:
    """Say a number of bytes as people read it."""
    return f"{size / 1e6:,.1f} MB" if size >= 100_000 else f"{size / 1e3:,.1f} kB"  # noqa: PLR2004 - as people read it


def json_text(data: dict[str, Any]) -> str:
    """Return the text of a report's JSON: a row for each file, import or library, so that it can be read and compared."""
    parts = []
    for name, value in data.items():
        if isinstance(value, list) and value and isinstance(value[0], dict):
            rows = ",\n".join(f"    {json.dumps(row)}" for row in value)
            parts.append(f"  {json.dumps(name)}: [\n{rows}\n  ]")
        else:
            parts.append(f"  {json.dumps(name)}: " + json.dumps(value, indent=2).replace("\n", "\n  "))
    return "{\n" + ",\n".join(parts) + "\n}\n"


def emulated_json(emulated: Emulated) -> dict[str, Any]:
    """Return the part of the report's JSON about an emulated Lambda; its warnings stand among all others."""
    found = dataclasses.asdict(emulated)
    del found["warnings"]
    return found
