"""The report: the results of a run, and their form as JSON. Computes nothing new."""

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
from layer_minimizer.layer.formats import Format
from layer_minimizer.layer.layout import NO_DISTRIBUTION
from layer_minimizer.model.plan import Decision, KeepPlan, NotExercised, Reason, Verdict
from layer_minimizer.plan.licenses import without_text
from layer_minimizer.report.gpu import gpu_json

if TYPE_CHECKING:
    from collections.abc import Iterator

    from layer_minimizer.model.comparison import Difference
    from layer_minimizer.model.image import ImageArchive
    from layer_minimizer.model.installed import Size
    from layer_minimizer.model.outcome import Emulated, FunctionArchive, ImportTimes, LayerArchive, Proof
    from layer_minimizer.model.trace import Trace
    from layer_minimizer.model.traced import SearchSummary
    from layer_minimizer.report.cost import Cost

REPORT_FORMAT = 1


@dataclass(frozen=True, slots=True)
class Report:
    """A verified layer and the results of all stages, hence the many fields. All sizes are bytes, all times seconds.

    ``trace`` and ``plan`` are the results of their stages, ``before`` is the size of the environment, ``archive`` the
    layer, ``proof`` the result of the verification. ``not_exercised`` are modules that kept code could import but no
    event did. ``seconds`` are the times of the stages. ``function`` is the function's zip, if one was made, and
    ``emulated`` the result of the emulated Lambda. ``base_layers`` are the function's other layers, and
    ``differences`` those between several traces. ``limit`` is the unzipped size allowed for the function and all its
    layers, ``function_bytes`` the function's part: its zip if there is one, otherwise the files next to its entry.
    ``imports`` and ``cost`` are None if imports were not timed, ``search`` if there was no search for unused modules.
    ``format`` is what was written; ``archive`` describes the packages in it, ``site`` is their folder in the layer, and
    ``image`` the container image, if it is one. ``runtime`` is the runtime that the layer was checked against, if any.
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
    base_layers: BaseLayers = field(default_factory=BaseLayers)
    differences: tuple[Difference, ...] = ()
    limit: int = LAMBDA_UNZIPPED_BYTES
    function_bytes: int = 0
    imports: ImportTimes | None = None
    image: ImageArchive | None = None
    format: Format = Format.LAYER
    site: str = ""
    search: SearchSummary | None = None
    cost: Cost | None = None
    runtime: str = ""

    @property
    def base_bytes(self) -> int:
        """The unzipped bytes of all base layers together."""
        return self.base_layers.base_bytes

    @property
    def _in_layer(self) -> tuple[Decision, ...]:
        return (*self.plan.kept, *self.plan.cold)

    def _shipped(self) -> dict[str, int]:
        """Return each file's size in the layer, which may be compacted, compiled or compressed."""
        sizes = {decision.path: decision.size for decision in self.plan.kept}
        sizes |= {library.path: library.shipped + library.cold for library in self.proof.libraries}
        return dict.fromkeys((d.path for d in self.plan.cold), 0) | sizes | dict(self.proof.shipped)

    @property
    def kept(self) -> dict[str, int]:
        """The bytes in the layer by the reason why they are kept."""
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
        """Yield for each replaced module its importer, the attributes used, and what the stand-in saves."""
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
        """Return the number of cold files, and their bytes as installed and in the layer."""
        shipped = self._shipped()
        return {
            "files": len(self.plan.cold),
            "bytes": sum(decision.size for decision in self.plan.cold),
            "stored_bytes": sum(shipped[decision.path] for decision in self.plan.cold),
        }

    def licenses(self) -> dict[str, Any]:
        """Return how many license texts and METADATA files lie in the layer because of what they are, and their bytes.

        ``equal`` of them are links to an equal text. ``without`` are distributions in the layer without any text.
        """
        shipped = self._shipped()
        found = [decision for decision in self.plan.kept if decision.reason is Reason.LICENSE]
        return {
            "files": len(found),
            "bytes": sum(shipped[decision.path] for decision in found),
            "equal": sum(shipped[decision.path] != decision.size for decision in found),
            "without": list(without_text(self.plan.decisions)),
        }

    def _files(self) -> Iterator[dict[str, Any]]:
        """Yield a row for every installed file: its sizes, its verdict in one word, and the reason."""
        shipped = self._shipped()
        compacted = {library.path for library in self.proof.libraries if not library.problem}
        for decision in self.plan.decisions:
            is_kept = decision.verdict is not Verdict.DROPPED
            if decision.distribution in INSTALLERS and not is_kept:
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
                "shipped": shipped[decision.path] if is_kept else 0,
                "verdict": verdict,
                "reason": decision.reason,
                "evidence": decision.evidence,
                "cause": decision.cause,
            }

    def to_json(self) -> dict[str, Any]:
        """Return the report as JSON; ``report.schema.json`` describes it.

        The names of format 1 never change; new ones may be added.
        """
        return {
            "format": REPORT_FORMAT,
            "version": metadata.version("layer_minimizer"),
            "python": self.plan.python,
            "entry": self.trace.workload.entry.name,
            "before": dataclasses.asdict(self.before),
            "layer": _archive_json(self.archive) | {"distributions": len(self.largest)},
            "output": str(self.format),
            "image": image_json(self.image) if self.image else None,
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
            "standard_library": list(self.proof.standard),
            "cold": self.cold(),
            "gpu": gpu_json(self.plan, self.proof.libraries),
            "libraries": [dataclasses.asdict(library) for library in self.proof.libraries],
            "bundled": [dataclasses.asdict(library) for library in self.proof.bundled],
            "not_exercised": [dataclasses.asdict(entry) for entry in self.not_exercised],
            "observers": list(self.trace.observers),
            "lazy_imports": self.trace.lazy_imports,
            "missing_observers": [dataclasses.asdict(each) for each in self.trace.missing_observers],
            "base_layers": self._base_layers_json(),
            "base_bytes": self.base_bytes,
            "conflicts": [dataclasses.asdict(conflict) for conflict in self.base_layers.conflicts],
            "differences": [difference.to_json() for difference in self.differences],
            "warnings": list(self.warnings),
            "import_time": self.imports.to_json() if self.imports else None,
            "cost": self.cost.to_json() if self.cost else None,
            "licenses": self.licenses(),
            "runtime_distributions": dataclasses.asdict(self.proof.brought) if self.proof.brought else None,
            "snapshot": dataclasses.asdict(self.proof.put_back),
            "search": dataclasses.asdict(self.search) if self.search else None,
            "seconds": self.seconds,
            "imports": self._imports_json(),
            "files": list(self._files()),
        }

    def _base_layers_json(self) -> list[dict[str, Any]]:
        names = ("name", "sha256", "files", "unzipped_bytes")
        return [{name: getattr(layer, name) for name in names} for layer in self.base_layers.layers]

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


def image_json(image: ImageArchive) -> dict[str, Any]:
    """Return the part of the report's JSON about the image."""
    return dataclasses.asdict(image) | {"path": str(image.path)}


def _proof_json(proof: Proof) -> dict[str, Any]:
    return {
        "events": proof.events,
        "mismatches": 0,  # with a mismatch there is no report
        "repaired": list(proof.repaired),
        "isolated": proof.isolated,
        "runs": proof.runs,
        "cold_faults": proof.cold_faults,
    }


def megabytes(size: int) -> str:
    """Return a number of bytes as text, in kB or MB."""
    return f"{size / 1e6:,.1f} MB" if size >= 100_000 else f"{size / 1e3:,.1f} kB"  # noqa: PLR2004 - from here on in MB


def json_text(data: dict[str, Any]) -> str:
    """Return a report's JSON as text, with one line for each file, import or library, to be readable and comparable."""
    parts = []
    for name, value in data.items():
        if isinstance(value, list) and value and isinstance(value[0], dict):
            rows = ",\n".join(f"    {json.dumps(row)}" for row in value)
            parts.append(f"  {json.dumps(name)}: [\n{rows}\n  ]")
        else:
            parts.append(f"  {json.dumps(name)}: " + json.dumps(value, indent=2).replace("\n", "\n  "))
    return "{\n" + ",\n".join(parts) + "\n}\n"


def emulated_json(emulated: Emulated) -> dict[str, Any]:
    """Return the part of the report's JSON about the emulated Lambda; its warnings are with all others."""
    found = dataclasses.asdict(emulated)
    del found["warnings"]
    return found
