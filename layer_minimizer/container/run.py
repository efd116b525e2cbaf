"""Run the tool in a container, with the user's files mounted at their own paths, and copy its outputs back."""

from __future__ import annotations

import csv
import io
import json
import logging
import os
import shlex
import shutil
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING

from layer_minimizer.aws.runtimes import python_of
from layer_minimizer.container import images
from layer_minimizer.container.emulation import choose
from layer_minimizer.container.images import Recipe
from layer_minimizer.container.requirements import write_requirements
from layer_minimizer.core import progress
from layer_minimizer.core.errors import PackError, RunnerError, UsageError, exit_codes
from layer_minimizer.core.files import check_output, replacing, scratch_errors
from layer_minimizer.core.option_kinds import File
from layer_minimizer.environment import workload
from layer_minimizer.execution.engine import ENGINES, Engine, tail
from layer_minimizer.layer.formats import Format
from layer_minimizer.report import files
from layer_minimizer.report.report import emulated_json, json_text
from layer_minimizer.report.text import emulated_text
from layer_minimizer.settings import ContainerOptions, Request, Settings
from layer_minimizer.trace.packages import package_source

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from layer_minimizer.core.option_declarations import Values
    from layer_minimizer.model.outcome import Emulated

log = logging.getLogger(__name__)
_LAMBDA_IMAGE = "public.ecr.aws/lambda/python:"
# System folders: mounting over them would break the container.
_SYSTEM_FOLDERS = {"/", "/bin", "/dev", "/etc", "/lib", "/lib64", "/opt", "/proc", "/sbin", "/sys", "/usr", "/var"}
# The exit code of a killed program: 128 plus the number of SIGKILL.
_KILLED = 137


def check_local(options: ContainerOptions, settings: Settings) -> None:
    """Check that there are no container options without a container.

    Raises:
        UsageError: there is one.
    """
    if options.image:
        raise UsageError(f"--image requires --runner {' or --runner '.join(ENGINES)}")
    if settings.base_image and settings.format is not Format.IMAGE:
        raise UsageError(f"--base-image requires --format image, or --runner {' or --runner '.join(ENGINES)}")


@dataclass(frozen=True, slots=True)
class ContainerResult:
    """The exit code and the standard output of the command in the container."""

    code: int
    output: str


def minimize_in_container(request: Request) -> ContainerResult:
    """Execute the request in a container.

    The standard error of the command in the container is shown while it runs. Its output files belong to this user;
    they are written when it has ended.

    Raises:
        UsageError: an input file cannot be used.
        PackError: an output cannot be written.
        RunnerError: the engine does not respond, the image is not available, or the container was stopped.
    """
    inputs = request.inputs
    _check_format(request)
    if inputs.entry:
        workload.load_workload(
            inputs.entry, handler=inputs.handler, models=inputs.models, events=inputs.events
        )  # the same errors as without a container, before it is started
    outputs = _outputs(request)
    for name, path in outputs.items():
        check_output(path, f"--{name}")
    with tempfile.TemporaryDirectory(prefix="layer_minimizer-", ignore_cleanup_errors=True) as exported:
        recipe = _recipe(request, Path(exported))
        mounts = list(_mounts(request))
        engine = Engine.find(request.container.runner)
        emulation = choose(request, engine, recipe) if "output" in outputs else None
        image = images.provide(engine, recipe)
    names = _Names({f"{images.OUT}/{option}": str(path) for option, path in outputs.items()})
    report_folder = request.outputs.report
    folder = Path(report_folder).absolute() if report_folder and "output" in outputs else None
    wanted = outputs.keys() | ({"save-trace"} if emulation else set()) | ({"report-json"} if folder else set())
    with tempfile.TemporaryDirectory(prefix="layer_minimizer-", ignore_cleanup_errors=True) as scratch:
        copied = Path(scratch, "out")
        copied.mkdir()
        with engine.container_name() as name:
            create = ("create", "--name", name, "--init", "--security-opt", "label=disable", *recipe.platform_option)
            where = ("--workdir", inside(os.getcwd()), *mounts, image)
            engine.read_output(*create, *where, why="the container cannot be created:", grace_seconds=30)
            _send_request(engine, name, inner_request(request, wanted), Path(scratch, "request.json"))
            printed = _run_container(engine, name, names)
            code = _exit_code(engine, name)
            _copy_outputs(engine, name, copied)
        written = {path.name for path in copied.iterdir()}
        if code == 0 and (missing := wanted - written):
            raise RunnerError(f"the container ended without an error, but did not write the file of --{min(missing)}")
        emulated = emulation.verify(copied, Path(scratch, "lambda")) if emulation and code == 0 else None
        report = _Report(names, emulated)
        for option in sorted(written & outputs.keys()):
            _write(outputs[option], copied / option, report if option == "report-json" else None)
        if folder and code == 0:
            files.write_report_folder(json.loads(report.in_json((copied / "report-json").read_text("utf-8"))), folder)
    return ContainerResult(
        code, report.in_json(printed) if request.outputs.json and printed else report.in_text(printed)
    )


def _check_format(request: Request) -> None:
    """Refuse what cannot be copied out of the container as one file.

    Raises:
        UsageError: another format than a layer is requested.
    """
    instead = {
        Format.FOLDER: "make the layer, and unpack it with unzip, which keeps its symbolic links",
        Format.IMAGE: "run minimize without --runner, in or with an environment like that of the base image",
    }
    if (wanted := request.settings.format) in instead and request.outputs.makes_layer:
        raise UsageError(
            f"--format {wanted} cannot be used with --runner {request.container.runner}: {instead[wanted]}"
        )


# ---- inputs -------------------------------------------------------------------------------------------------------


def _recipe(request: Request, folder: Path) -> Recipe:
    """Return what the image is made of; ``folder`` is for the requirements of a lock."""
    options, settings = request.container, request.settings
    if options.image and (settings.lock or settings.requirements or settings.base_image):
        raise UsageError("--image already has packages; --lock and --requirements are installed in a --base-image")
    source = package_source(settings)
    base = options.image or settings.base_image
    if base and settings.python_version:
        raise UsageError(f"--python-version {settings.python_version}: the Python of {base} is used")
    version = settings.python_version or python_of(settings.runtime)
    if not base and not version:
        raise UsageError(
            f"--runner {options.runner} needs --runtime with a Python, or --python-version, to use Lambda's image of "
            "it; or --image"
        )
    return Recipe(
        base=base or _LAMBDA_IMAGE + version,
        requirements=write_requirements(source, folder) if source else None,
        python=settings.python,
        platform=settings.platform,
        tool_image=options.tool_image,
        origin=str(source.file) if source else "",
    )


def inside(path: str | Path) -> str:
    """Return the path in the container for a path of this machine: the same, except for drives of Windows."""
    absolute = Path(path).absolute()
    drive = absolute.drive.rstrip(":").lower()
    return absolute.as_posix() if not drive else f"/{drive}/{absolute.relative_to(absolute.anchor).as_posix()}"


def _input_files(request: Request) -> Iterator[Path]:
    """Yield the input files that the command in the container reads."""
    for option, value in request.items():
        if option.kind.file is File.INPUT and not option.host_only:
            yield from (Path(each).absolute() for each in (value if option.repeat else (value,)) if each)


def _mounts(request: Request) -> Iterator[str]:
    """Yield the engine's options that mount the entry's folder and the other input files, read-only."""
    paths = list(_input_files(request))
    if request.inputs.entry:
        paths.append(Path(request.inputs.entry).absolute().parent)
    mounted: list[Path] = []
    for path in sorted({path for path in paths if path.exists()}, key=lambda path: len(path.parts)):
        if any(path.is_relative_to(other) for other in mounted):
            continue
        mounted.append(path)
        if inside(path) in _SYSTEM_FOLDERS:
            raise UsageError(f"{path} cannot be mounted in a container; move the entry into a folder of its own")
        line = io.StringIO()
        csv.writer(line, lineterminator="").writerow(
            ["type=bind", f"source={path}", f"target={inside(path)}", "readonly"]
        )
        yield from ("--mount", line.getvalue())


def _outputs(request: Request) -> dict[str, Path]:
    """Return the files that the command writes, by their options."""
    named = {option.name: value for option, value in request.items() if option.kind.file is File.OUTPUT}
    outputs = {name: Path(value).absolute() for name, value in named.items() if value}
    if request.outputs.explain or request.outputs.plan:
        return {name: path for name, path in outputs.items() if name == "save-plan" and not request.outputs.plan}
    if not outputs.keys() & {"output", "save-trace", "save-plan"}:
        outputs["output"] = Path("layer.zip").absolute()
    return outputs


def inner_request(request: Request, wanted: Iterable[str]) -> Request:
    """Return the request for the command in the container, without what is done on this side.

    ``wanted`` are the options of the files that it writes.
    """
    values: Values = {}
    for option, value in request.items():
        if option.name in wanted:
            values[option.key] = f"{images.OUT}/{option.name}"
        elif not option.host_only and option.kind.file not in (File.OUTPUT, File.FOLDER):
            values[option.key] = _named_inside(value) if option.kind.file and os.name == "nt" else value
    return Request.of(values)


def _named_inside(value: str | tuple[str, ...]) -> str | tuple[str, ...]:
    """Return the paths of input files in the container; ARNs stay as they are."""
    if isinstance(value, tuple):
        return tuple(inside(each) if os.path.exists(each) else each for each in value)
    return inside(value) if value else value


def _send_request(engine: Engine, name: str, request: Request, file: Path) -> None:
    """Copy the request into the container, as JSON."""
    try:
        file.write_text(json.dumps(request.values))
    except OSError as exc:
        raise PackError(f"cannot write {file}: {exc.strerror}; set TMPDIR to another place") from exc
    engine.read_output(
        "cp", str(file), f"{name}:{images.REQUEST}", why="the request cannot be copied into the container:"
    )


# ---- the run, and its outputs -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Names:
    """The outputs' paths in the container, and the user's paths for them."""

    names: Mapping[str, str]

    def in_text(self, text: str) -> str:
        """Return a text with the user's paths; in a command line they are quoted if needed."""
        for name, path in self.names.items():
            text = text.replace(f"publish {name}", f"publish {shlex.quote(path)}").replace(name, path)
        return text

    def in_json(self, text: str) -> str:
        """Return a JSON text with the user's paths."""
        for name, path in self.names.items():
            text = text.replace(name, json.dumps(path)[1:-1])
        return text


@dataclass(frozen=True, slots=True)
class _Report:
    """Adds the user's paths and the results of the emulated Lambda to the command's report."""

    names: _Names
    emulated: Emulated | None

    def in_text(self, text: str) -> str:
        """Return the report as text."""
        text = self.names.in_text(text)
        if self.emulated and text:
            return text + "\n".join([emulated_text(self.emulated), *self._warnings()]) + "\n"
        return text

    def in_json(self, text: str) -> str:
        """Return the report as JSON."""
        text = self.names.in_json(text)
        if not self.emulated:
            return text
        report = json.loads(text)
        report["lambda"] = emulated_json(self.emulated)
        report["warnings"] += self.emulated.warnings
        return json_text(report)

    def _warnings(self) -> Iterator[str]:
        for warning in self.emulated.warnings if self.emulated else ():
            yield f"Warning: {warning}"


def _run_container(engine: Engine, name: str, names: _Names) -> str:
    """Run the container to its end, show its standard error, and return its standard output."""
    # sys.stderr may be replaced by something without a file descriptor, as in a notebook.
    with (
        tempfile.TemporaryFile() as printed,
        open(2, "wb", buffering=0, closefd=False) as errors,
        progress.step("working in a container"),
    ):
        engine.run_with_output(("start", "--attach", name), _show_line(errors, names), stdout=printed)
        printed.seek(0)
        return printed.read().decode(errors="replace")


def _show_line(errors: IO[bytes], names: _Names) -> Callable[[bytes], None]:
    on_output = progress.output_callback("")

    def show(line: bytes) -> None:
        text = names.in_text(line.decode(errors="surrogateescape"))
        if on_output:
            on_output(text.rstrip("\r\n"))
        else:
            errors.write(text.encode(errors="surrogateescape"))

    return show


def _exit_code(engine: Engine, name: str) -> int:
    """Return the exit code of the command in the container.

    Raises:
        RunnerError: the container could not be started or was killed.
    """
    state = json.loads(engine.read_output("container", "inspect", "--format", "{{json .State}}", name))
    code, error = int(state["ExitCode"]), str(state.get("Error") or "")
    if error:
        raise RunnerError(f"the container cannot be started (exit code {code}):\n{tail(error)}")
    if state.get("OOMKilled"):
        why = "the container exceeded its memory limit; give the engine or the machine more memory"
        if code == _KILLED:
            raise RunnerError(f"killed (exit code {code}): {why}")
        log.warning("a process was killed: %s", why)
    if code == _KILLED:
        raise RunnerError(f"the container was killed (exit code {code}), by another program or for lack of memory")
    if code not in exit_codes():
        raise RunnerError(f"the container ended with exit code {code}, which this tool does not use")
    return code


def _copy_outputs(engine: Engine, name: str, folder: Path) -> None:
    """Copy the files that the command has written in the container into ``folder``."""
    try:
        with (
            scratch_errors(PackError, f"cannot write into {folder}"),
            engine.stream_output("cp", f"{name}:{images.OUT}", "-") as stream,
            tarfile.open(fileobj=stream, mode="r|") as archive,
        ):
            for member in archive:
                content = archive.extractfile(member) if member.isfile() else None
                if content is not None:
                    with (folder / member.name.rpartition("/")[2]).open("wb") as file:
                        shutil.copyfileobj(content, file, 1 << 20)
    except tarfile.TarError as exc:
        raise RunnerError(f"the output of {engine.program} cp is not a tar archive: {exc}") from exc


def _write(target: Path, source: Path, report: _Report | None) -> None:
    try:
        with replacing(target) as part:
            if report is None:
                shutil.copyfile(source, part)
            else:
                part.write_text(report.in_json(source.read_text("utf-8")), "utf-8")
    except OSError as exc:
        raise PackError(f"cannot write {target}: {exc.strerror}") from exc
