"""Print a report as text. Computes nothing new."""

from __future__ import annotations

import shlex
from collections import Counter
from typing import TYPE_CHECKING

from layer_minimizer.aws.limits import INIT_SECONDS, LAMBDA_DIRECT_UPLOAD_BYTES, LAMBDA_UNZIPPED_BYTES
from layer_minimizer.layer.formats import Format
from layer_minimizer.report.gpu import gpu_json
from layer_minimizer.report.report import Report, megabytes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import Console

    from layer_minimizer.model.outcome import Emulated

_SHOWN = 8
_STYLES = {"Verified": "green", "Warning": "yellow", "Conflict": "yellow", "Next": "bold"}
_MIB = 1 << 20
_TMP = "/tmp"  # noqa: S108 - a folder in Lambda


def show(report: Report, console: Console, largest: int = _SHOWN) -> None:
    """Print the report, with so many of the ``largest`` distributions."""
    for number, line in enumerate(_lines(report, largest)):
        style = "bold" if number == 0 else next((s for start, s in _STYLES.items() if line.startswith(start)), None)
        console.print(line, style=style, markup=False, highlight=False, soft_wrap=True)


def _lines(report: Report, largest: int) -> Iterator[str]:
    before, after = report.before, report.archive
    sizes = f"{megabytes(before.bytes)} → {megabytes(after.unzipped_bytes)} unzipped"
    form = "compressed" if report.image else "zipped"
    yield f"{sizes}, {megabytes(after.zipped_bytes)} {form}" if after.zipped_bytes else sizes
    yield (f"{before.files:,} → {after.files:,} files, {before.distributions} → {len(report.largest)} distributions")
    yield _verified(report)
    yield from _function(report)
    yield from _image(report)
    if report.emulated:
        yield emulated_text(report.emulated)
    yield from _base_layers(report)
    if report.cost:
        yield str(report.cost)
    yield ""
    yield "Largest in the layer:"
    for name, size, reason in report.largest[:largest]:
        yield f"  {megabytes(size):>10}  {name} ({reason})"
    yield from _compacted(report)
    yield from _gpu(report)
    yield from _bundled(report)
    yield from _python(report)
    yield from _snapshot(report)
    yield from _licenses(report)
    yield from _runtime(report)
    yield ""
    yield _observed(report)
    if report.trace.lazy_imports:
        set_to = f"PYTHON_LAZY_IMPORTS={report.trace.lazy_imports}"
        yield f"Lazy imports: traced and verified with {set_to}; the function needs this variable, too."
    yield from _differences(report)
    yield from _not_exercised(report)
    for warning in report.warnings:
        yield f"Warning: {warning}"
    yield f"Next: {_next_step(report)}"


def _observed(report: Report) -> str:
    processes = _count(report.trace.processes, "process", "processes")
    missing = " and ".join(f"{each.observer} ({each.cause})" for each in report.trace.missing_observers)
    without = f"; not by {missing}" if missing else ""
    return f"Observed by: {' and '.join(report.trace.observers)}, in {processes}{without}."


def _verified(report: Report) -> str:
    subject = (
        _count(report.proof.events, "event", "events") if report.trace.kind == "handler" else "the script's output"
    )
    where = "the original environment hidden" if report.proof.isolated else "no file of the original environment used"
    repaired = len(report.proof.repaired)
    restored = f"; {_count(repaired, 'file', 'files')} restored" if repaired else ""
    runs = f" in {report.proof.runs} runs" if report.proof.runs > 1 else ""
    return f"Verified: {subject}, same results{runs} on the layer alone ({where}){restored}."


def _function(report: Report) -> Iterator[str]:
    if report.function is None:
        return
    archive, models = report.function.archive, report.function.model_bytes
    together = archive.unzipped_bytes + report.archive.unzipped_bytes + report.base_bytes
    layers = "the layers" if report.base_layers.layers else "the layer"
    yield (
        f"The function: {_count(archive.files, 'file', 'files')}, {megabytes(archive.unzipped_bytes)} unzipped, "
        f"{megabytes(models)} of it models, {megabytes(archive.zipped_bytes)} zipped; together with "
        f"{layers} {megabytes(together)}, Lambda's limit is {megabytes(LAMBDA_UNZIPPED_BYTES)}."
    )
    if left_out := report.function.left_out:
        listed = ", ".join(left_out[:_SHOWN]) + (", …" if len(left_out) > _SHOWN else "")
        yield f"  Left out, since no event used it: {listed}. --model adds a file."


def _image(report: Report) -> Iterator[str]:
    image = report.image
    if image is None:
        return
    yield (
        f"Verified in a container ({image.verified}): read-only, as another user, same results, the last "
        f"{image.seconds:.1f} s after its start."
    )
    yield f"Image {image.tag}, {image.digest}, above {image.base}:"
    for part in image.parts:
        digest = f"  {part.digests[0]}" if len(part.digests) == 1 else f"  {len(part.digests)} layers"
        yield f"  {megabytes(part.bytes):>10}  {part.name} ({megabytes(part.unpacked_bytes)} unpacked){digest}"
    yield f"Starts: {shlex.join(image.command)}"


def _base_layers(report: Report) -> Iterator[str]:
    if not report.base_layers.layers:
        return
    listed = ", ".join(f"{layer.name} ({megabytes(layer.unzipped_bytes)})" for layer in report.base_layers.layers)
    both = report.base_bytes + report.archive.unzipped_bytes
    yield f"Above {listed}; {megabytes(both)} unzipped with this layer."
    for conflict in report.base_layers.conflicts[:_SHOWN]:
        yield f"Conflict: {conflict}."
    if len(report.base_layers.conflicts) > _SHOWN:
        yield f"Conflict: and {len(report.base_layers.conflicts) - _SHOWN:,} more, in the report's JSON."


def _compacted(report: Report) -> Iterator[str]:
    done = [library for library in report.proof.libraries if not library.problem]
    if not done:
        return
    yield ""
    yield (
        f"Shared libraries: {len(done)} compacted, {megabytes(sum(lib.file for lib in done))} → "
        f"{megabytes(sum(lib.shipped for lib in done))} and {megabytes(sum(lib.cold for lib in done))} of cold "
        f"pages; the verifying run restored {report.proof.cold_faults}."
    )
    for library in sorted(done, key=lambda lib: -lib.file)[:3]:
        sizes = ", ".join(
            f"{megabytes(size)} {name}"
            for name, size in (
                ("mapped", library.mapped),
                ("hot", library.hot),
                ("shipped", library.shipped),
                ("cold", library.cold),
            )
        )
        yield f"  {library.path}: {megabytes(library.file)}; {sizes}"


def _gpu(report: Report) -> Iterator[str]:
    found = gpu_json(report.plan, report.proof.libraries)
    if not found["bytes"]:
        return
    distributions = _count(len(found["distributions"]), "distribution", "distributions")
    yield ""
    yield (
        f"For a GPU: {megabytes(found['bytes'])} in {distributions}, of which {megabytes(found['shipped'])} are "
        "shipped: what the run used, and what other libraries link to. A use of more ends in an error; --gpu keep "
        "ships all."
    )
    for name, where in found["cpu_builds"].items():
        yield f"  {name} has a build without them: {where}"


def _bundled(report: Report) -> Iterator[str]:
    for library in report.proof.bundled:
        yield (
            f"Bundled: {library.name} ({megabytes(library.bytes)}, {library.source}), which {library.needed_by} "
            "needs and the runtime may not have."
        )


def _python(report: Report) -> Iterator[str]:
    stand_ins, cold = list(report.stand_ins()), report.cold()
    if stand_ins:
        tops = Counter(each["module"].split(".")[0] for each in stand_ins)
        listed = ", ".join(f"{name} ({count})" for name, count in tops.most_common(_SHOWN))
        yield ""
        yield (
            f"Stand-ins: {_count(len(stand_ins), 'module', 'modules')} imported but not needed by any event "
            f"({megabytes(sum(each['bytes'] for each in stand_ins))}), for instance in {listed}. "
            "--explain shows details, --keep ships the real module."
        )
    if standard := report.proof.standard:
        listed = ", ".join(standard[:_SHOWN]) + (", …" if len(standard) > _SHOWN else "")
        yield ""
        yield (
            f"Standard library: {_count(len(standard), 'module', 'modules')} imported but not needed by any event; "
            f"stand-ins replace them, too: {listed}. --keep {standard[0]} loads the real one."
        )
    if cold["files"]:
        yield (
            f"Cold: {_count(cold['files'], 'file', 'files')} that no event touched, {megabytes(cold['bytes'])} → "
            f"{megabytes(cold['stored_bytes'])}; they are restored on demand."
        )


def _snapshot(report: Report) -> Iterator[str]:
    found = report.proof.put_back
    if found:
        yield (
            f"SnapStart: before a snapshot {_count(len(found.stand_ins), 'stand-in is', 'stand-ins are')} loaded, "
            f"{_count(len(found.files), 'file', 'files')} and {_count(len(found.pages), 'part', 'parts')} of libraries "
            f"restored, and the code of {_count(len(found.modules), 'module', 'modules')} read, as the logs say."
        )


def _licenses(report: Report) -> Iterator[str]:
    found = report.licenses()
    if not found["files"]:
        return
    equal = f", {found['equal']:,} of them links to equal ones" if found["equal"] else ""
    without = ", ".join(found["without"][:_SHOWN]) + (", …" if len(found["without"]) > _SHOWN else "")
    yield (
        f"Licenses: {_count(found['files'], 'text or METADATA file', 'texts and METADATA files')}{equal}, "
        f"{megabytes(found['bytes'])}; --licenses drop leaves texts out."
        f"{f' Without a license text: {without}.' if without else ''}"
    )


def _runtime(report: Report) -> Iterator[str]:
    """Yield which of the runtime's distributions the layer replaces, if it replaces any."""
    found = report.proof.brought
    if found is None or not found.layer:
        return
    rest = f"; {', '.join(found.own)} would be the runtime's" if found.own else ""
    yield f"Brought by {found.runtime}, too: {', '.join(found.layer)}. Those of the layer come first{rest}."


def _not_exercised(report: Report) -> Iterator[str]:
    if not report.not_exercised:
        return
    packages = Counter(entry.module.split(".")[0] for entry in report.not_exercised)
    listed = ", ".join(f"{name} ({count})" for name, count in packages.most_common(_SHOWN))
    yield (
        f"Not exercised: {_count(len(report.not_exercised), 'module', 'modules')} that kept code could import, "
        f"for instance in {listed}. More events, --include or --closure static keep them."
    )


def _differences(report: Report) -> Iterator[str]:
    for difference in report.differences[:_SHOWN]:
        yield f"Traces: {difference}"
    if len(report.differences) > _SHOWN:
        yield f"Traces: {len(report.differences) - _SHOWN:,} more differences; minimize compare shows them."


def _next_step(report: Report) -> str:
    runtime = report.runtime or f"python{'.'.join(report.plan.python.split('.')[:2])}"
    file = shlex.quote(str(report.archive.path))
    if report.image:
        is_tar = report.archive.path.suffix == ".tar"
        load = f"docker load --input {file}" if is_tar else f"skopeo copy oci:{file} docker-daemon:{report.image.tag}"
        return f"load it with: {load} (podman load takes it, too); then docker run {report.image.tag}"
    if report.format is Format.FOLDER:
        libraries = " LD_LIBRARY_PATH=/opt/lib" if report.proof.bundled else ""
        variables = f"PYTHONPATH=/opt/{report.site}{libraries}"
        return f"in a Dockerfile: COPY {report.archive.path.name}/ /opt/ and ENV {variables}"
    bucket = " --bucket BUCKET" if report.archive.zipped_bytes > LAMBDA_DIRECT_UPLOAD_BYTES else ""
    return f"publish it with: minimize publish {file} --name NAME --runtime {runtime}{bucket}"


def _count(number: int, one: str, many: str) -> str:
    return f"{number:,} {one if number == 1 else many}"


def emulated_text(emulated: Emulated) -> str:
    """Return the results of the emulated Lambda as one line."""
    return (
        f"Verified in emulated Lambda ({emulated.where}): {_count(emulated.events, 'event', 'events')}; "
        f"init {emulated.init_seconds:.1f} of {INIT_SECONDS:.0f} s, "
        f"peak {emulated.peak_bytes / _MIB:,.0f} of {emulated.memory:,} MB, "
        f"{_TMP} {emulated.tmp_bytes / _MIB:,.0f} of {emulated.tmp_size:,} MB."
    )
