"""What a run of the tool has to say: text for the terminal, JSON for programs. Renders; computes nothing new."""

from __future__ import annotations

import dataclasses
import shlex
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from layer_minimizer.base_layers import BaseLayers
from layer_minimizer.emulator import INIT_SECONDS
from layer_minimizer.packager import LAMBDA_DIRECT_UPLOAD_BYTES, LAMBDA_UNZIPPED_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import Console

    from layer_minimizer.comparison import Difference
    from layer_minimizer.emulator import Emulated
    from layer_minimizer.model import (
        Decision,
        FunctionArchive,
        KeepPlan,
        LayerArchive,
        NotExercised,
        Proof,
        Size,
        Trace,
    )

REPORT_FORMAT = 1
_SHOWN = 8
_MIB = 1 << 20
_TMP = "/tmp"  # noqa: S108 - Lambda's


@dataclass(frozen=True, slots=True)
class Report:
    """A verified layer, and how it came to be. All sizes are bytes, all times seconds."""

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

    @property
    def base_bytes(self) -> int:
        """The bytes that the layers below this one take together, unzipped."""
        return self.below.base_bytes

    @property
    def _in_layer(self) -> tuple[Decision, ...]:
        return (*self.plan.kept, *self.plan.cold)

    def _shipped(self) -> dict[str, int]:
        """Give the files' bytes in the layer: compacted, compiled or compressed they are not what is installed."""
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
            name = decision.distribution or "(no distribution)"
            size = shipped[decision.path]
            sizes[name] += size
            reasons.setdefault(name, Counter())[decision.reason.value] += size
        return tuple((name, size, reasons[name].most_common(1)[0][0]) for name, size in sizes.most_common())

    def _stand_ins(self) -> Iterator[dict[str, Any]]:
        """Give for each module that another stands in for who imports it, what is taken from it, and what it saves."""
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

    def _cold(self) -> dict[str, int]:
        shipped = self._shipped()
        return {
            "files": len(self.plan.cold),
            "bytes": sum(decision.size for decision in self.plan.cold),
            "stored_bytes": sum(shipped[decision.path] for decision in self.plan.cold),
        }

    def to_json(self) -> dict[str, Any]:
        """Give the report as JSON. The names of format 1 stay for good; new ones may join them."""
        return {
            "format": REPORT_FORMAT,
            "before": {
                "files": self.before.files,
                "bytes": self.before.bytes,
                "distributions": self.before.distributions,
            },
            "layer": {
                "path": str(self.archive.path),
                "sha256": self.archive.sha256,
                "files": self.archive.files,
                "unzipped_bytes": self.archive.unzipped_bytes,
                "zipped_bytes": self.archive.zipped_bytes,
                "distributions": len(self.largest),
            },
            "function": self._function_json(),
            "verified": True,
            "verification": {
                "events": self.proof.events,
                "mismatches": self.proof.mismatches,
                "repaired": list(self.proof.repaired),
                "isolated": self.proof.isolated,
                "cold_faults": self.proof.cold_faults,
            },
            "lambda": emulated_json(self.emulated) if self.emulated else None,
            "kept": self.kept,
            "distributions": {name: size for name, size, _ in self.largest},
            "stand_ins": list(self._stand_ins()),
            "cold": self._cold(),
            "libraries": [dataclasses.asdict(library) for library in self.proof.libraries],
            "bundled": [dataclasses.asdict(library) for library in self.proof.bundled],
            "not_exercised": [
                {"module": entry.module, "importer": entry.importer, "line": entry.line} for entry in self.not_exercised
            ],
            "observers": list(self.trace.observers),
            "base_layers": [
                {
                    "name": layer.name,
                    "sha256": layer.sha256,
                    "files": layer.files,
                    "unzipped_bytes": layer.unzipped_bytes,
                }
                for layer in self.below.layers
            ],
            "base_bytes": self.base_bytes,
            "conflicts": [dataclasses.asdict(conflict) for conflict in self.below.conflicts],
            "differences": [difference.to_json() for difference in self.differences],
            "warnings": list(self.warnings),
            "seconds": self.seconds,
        }

    def _function_json(self) -> dict[str, Any] | None:
        if self.function is None:
            return None
        archive = self.function.archive
        return {
            "path": str(archive.path),
            "sha256": archive.sha256,
            "files": archive.files,
            "unzipped_bytes": archive.unzipped_bytes,
            "zipped_bytes": archive.zipped_bytes,
            "model_bytes": self.function.model_bytes,
            "left_out": list(self.function.left_out),
            "with_layers_bytes": archive.unzipped_bytes + self.archive.unzipped_bytes + self.base_bytes,
        }

    def show(self, console: Console) -> None:
        """Print the report for people."""
        for line in self._lines():
            console.print(line, markup=False, highlight=False, soft_wrap=True)

    def _lines(self) -> Iterator[str]:
        before, after = self.before, self.archive
        yield (
            f"{_megabytes(before.bytes)} → {_megabytes(after.unzipped_bytes)} unzipped, "
            f"{_megabytes(after.zipped_bytes)} zipped"
        )
        yield (f"{before.files:,} → {after.files:,} files, {before.distributions} → {len(self.largest)} distributions")
        yield self._verified()
        yield from self._function()
        if self.emulated:
            yield emulated_text(self.emulated)
        yield from self._below()
        yield ""
        yield "Largest in the layer:"
        for name, size, reason in self.largest[:_SHOWN]:
            yield f"  {_megabytes(size):>10}  {name} ({reason})"
        yield from self._compacted()
        yield from self._bundled()
        yield from self._python()
        yield ""
        processes = _count(self.trace.processes, "process", "processes")
        yield f"Seen by: {' and '.join(self.trace.observers)}, in {processes}."
        yield from self._differences()
        yield from self._not_exercised()
        for warning in self.warnings:
            yield f"Warning: {warning}"
        yield f"Next: {self._next_step()}"

    def _verified(self) -> str:
        what = _count(self.proof.events, "event", "events") if self.trace.kind == "handler" else "the script's output"
        where = "the original environment hidden" if self.proof.isolated else "no file of the original environment used"
        repaired = len(self.proof.repaired)
        put_back = f"; {_count(repaired, 'file', 'files')} put back" if repaired else ""
        return f"Verified: {what}, same results on the layer alone ({where}){put_back}."

    def _function(self) -> Iterator[str]:
        if self.function is None:
            return
        archive, models = self.function.archive, self.function.model_bytes
        together = archive.unzipped_bytes + self.archive.unzipped_bytes + self.base_bytes
        layers = "the layers" if self.below.layers else "the layer"
        yield (
            f"The function: {_count(archive.files, 'file', 'files')}, {_megabytes(archive.unzipped_bytes)} unzipped, "
            f"{_megabytes(models)} of it models, {_megabytes(archive.zipped_bytes)} zipped; together with "
            f"{layers} {_megabytes(together)}, Lambda's limit is {_megabytes(LAMBDA_UNZIPPED_BYTES)}."
        )
        if left_out := self.function.left_out:
            listed = ", ".join(left_out[:_SHOWN]) + (", …" if len(left_out) > _SHOWN else "")
            yield f"  Not in it, since no event used it: {listed}. --model adds a file."

    def _below(self) -> Iterator[str]:
        if not self.below.layers:
            return
        listed = ", ".join(f"{layer.name} ({_megabytes(layer.unzipped_bytes)})" for layer in self.below.layers)
        both = self.base_bytes + self.archive.unzipped_bytes
        yield f"Above {listed}; {_megabytes(both)} unzipped with this layer."
        for conflict in self.below.conflicts[:_SHOWN]:
            yield f"Conflict: {conflict}."
        if len(self.below.conflicts) > _SHOWN:
            yield f"Conflict: and {len(self.below.conflicts) - _SHOWN:,} more, in the report's JSON."

    def _compacted(self) -> Iterator[str]:
        done = [library for library in self.proof.libraries if not library.problem]
        if not done:
            return
        yield ""
        yield (
            f"Shared libraries: {len(done)} compacted, {_megabytes(sum(lib.file for lib in done))} → "
            f"{_megabytes(sum(lib.shipped for lib in done))} and {_megabytes(sum(lib.cold for lib in done))} of cold "
            f"pages; the verifying run put {self.proof.cold_faults} back."
        )
        for library in sorted(done, key=lambda lib: -lib.file)[:3]:
            sizes = ", ".join(
                f"{_megabytes(size)} {name}"
                for name, size in (
                    ("mapped", library.mapped),
                    ("hot", library.hot),
                    ("shipped", library.shipped),
                    ("cold", library.cold),
                )
            )
            yield f"  {library.path}: {_megabytes(library.file)}; {sizes}"

    def _bundled(self) -> Iterator[str]:
        for library in self.proof.bundled:
            yield (
                f"Bundled: {library.name} ({_megabytes(library.bytes)}, {library.source}), which {library.needed_by} "
                "needs and the runtime is not known to have."
            )

    def _python(self) -> Iterator[str]:
        stood_in, cold = list(self._stand_ins()), self._cold()
        if stood_in:
            tops = Counter(each["module"].split(".")[0] for each in stood_in)
            listed = ", ".join(f"{name} ({count})" for name, count in tops.most_common(_SHOWN))
            yield ""
            yield (
                f"Stand-ins: {_count(len(stood_in), 'module', 'modules')} that are imported and that no event needed "
                f"({_megabytes(sum(each['bytes'] for each in stood_in))}), for instance in {listed}. "
                "--explain tells more of one, --keep takes it back."
            )
        if cold["files"]:
            yield (
                f"Cold: {_count(cold['files'], 'file', 'files')} that no event touched, {_megabytes(cold['bytes'])} → "
                f"{_megabytes(cold['stored_bytes'])}; they are there when something asks for them."
            )

    def _not_exercised(self) -> Iterator[str]:
        if not self.not_exercised:
            return
        packages = Counter(entry.module.split(".")[0] for entry in self.not_exercised)
        listed = ", ".join(f"{name} ({count})" for name, count in packages.most_common(_SHOWN))
        yield (
            f"Not exercised: {_count(len(self.not_exercised), 'module', 'modules')} that kept code could import, "
            f"for instance in {listed}. More events, --include or --closure static keep them."
        )

    def _differences(self) -> Iterator[str]:
        for difference in self.differences[:_SHOWN]:
            yield f"Traces: {difference}"
        if len(self.differences) > _SHOWN:
            yield f"Traces: {len(self.differences) - _SHOWN:,} more differences; minimize compare shows them."

    def _next_step(self) -> str:
        runtime = f"python{'.'.join(self.plan.python.split('.')[:2])}"
        bucket = " --bucket BUCKET" if self.archive.zipped_bytes > LAMBDA_DIRECT_UPLOAD_BYTES else ""
        file = shlex.quote(str(self.archive.path))
        return f"publish it with: minimize publish {file} --name NAME --runtime {runtime}{bucket}"


def _megabytes(size: int) -> str:
    return f"{size / 1e6:,.1f} MB" if size >= 100_000 else f"{size / 1e3:,.1f} kB"  # noqa: PLR2004 - as people read it


def _count(number: int, one: str, many: str) -> str:
    return f"{number:,} {one if number == 1 else many}"


def emulated_json(emulated: Emulated) -> dict[str, Any]:
    """Give the part of the report's JSON about an emulated Lambda; its warnings stand among all others."""
    found = dataclasses.asdict(emulated)
    del found["warnings"]
    return found


def emulated_text(emulated: Emulated) -> str:
    """Say what an emulated Lambda has shown."""
    return (
        f"Verified in emulated Lambda ({emulated.where}): {_count(emulated.events, 'event', 'events')}; "
        f"init {emulated.init_seconds:.1f} of {INIT_SECONDS:.0f} s, "
        f"peak {emulated.peak_bytes / _MIB:,.0f} of {emulated.memory:,} MB, "
        f"{_TMP} {emulated.tmp_bytes / _MIB:,.0f} of {emulated.tmp_size:,} MB."
    )
