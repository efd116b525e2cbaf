"""Runs the whole tool in a container, with the user's files under their own names, and brings out what it writes."""

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

from layer_minimizer.container import images
from layer_minimizer.container.emulation import choose
from layer_minimizer.container.images import Recipe
from layer_minimizer.core import progress
from layer_minimizer.core.errors import PackError, RunnerError, UsageError, exit_codes
from layer_minimizer.core.files import check_output, replacing, scratch_errors
from layer_minimizer.core.option_kinds import File
from layer_minimizer.environment import workload
from layer_minimizer.execution.engine import ENGINES, Engine, tail
from layer_minimizer.report import files
from layer_minimizer.report.report import emulated_json, json_text
from layer_minimizer.report.text import emulated_text
from layer_minimizer.settings import ContainerOptions, Request

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from layer_minimizer.core.option_declarations import Values
    from layer_minimizer.model.outcome import Emulated

log = logging.getLogger(__name__)
_LAMBDA_IMAGE = "public.ecr.aws/lambda/python:"
# What a container lives from: a mount there would take it away.
_OF_THE_IMAGE = {"/", "/bin", "/dev", "/etc", "/lib", "/lib64", "/opt", "/proc", "/sbin", "/sys", "/usr", "/var"}
# Of a program that was killed: 128 and the number of SIGKILL.
_KILLED = 137


def check_local(options: ContainerOptions) -> None:
    """Make sure that nothing was asked of a container where there is none.

    Raises:
        UsageError: there was.
    """
    for name in ("requirements", "image", "base_image", "platform"):
        if getattr(options, name):
            raise UsageError(f"--{name.replace('_', '-')} goes with --runner {' or --runner '.join(ENGINES)}")


@dataclass(frozen=True, slots=True)
class ContainerResult:
    """How the command in the container ended, and its standard output."""

    code: int
    output: str


def minimize_in_container(request: Request) -> ContainerResult:
    """Do what is requested in a container.

    What the command in it says on standard error appears on this process' while it runs. The files that it writes are
    this process' own; they appear when it has ended.

    Raises:
        UsageError: an input file cannot be used.
        PackError: an output cannot be written.
        RunnerError: the engine does not answer, there is no image, or the container was stopped.
    """
    inputs = request.inputs
    if inputs.entry:
        workload.load_workload(
            inputs.entry, handler=inputs.handler, models=inputs.models, events=inputs.events
        )  # the same words as without a container, and at once
    outputs = _outputs(request)
    for name, path in outputs.items():
        check_output(path, f"--{name}")
    recipe = _recipe(request)
    mounts = list(_mounts(request))
    engine = Engine.find(request.container.runner)
    emulation = choose(request, engine, recipe) if "output" in outputs else None
    image = images.provide(engine, recipe)
    said = _Names({f"{images.OUT}/{option}": str(path) for option, path in outputs.items()})
    report_folder = request.outputs.report
    folder = Path(report_folder).absolute() if report_folder and "output" in outputs else None
    wanted = outputs.keys() | ({"save-trace"} if emulation else set()) | ({"report-json"} if folder else set())
    with tempfile.TemporaryDirectory(prefix="layer_minimizer-", ignore_cleanup_errors=True) as scratch:
        brought = Path(scratch, "out")
        brought.mkdir()
        with engine.container() as name:
            create = ("create", "--name", name, "--init", "--security-opt", "label=disable", *recipe.platform_option)
            where = ("--workdir", inside(os.getcwd()), *mounts, image)
            engine.answer(*create, *where, why="the container cannot be made:", patience=30)
            _hand_over(engine, name, inner_request(request, wanted), Path(scratch, "request.json"))
            printed = _attend(engine, name, said)
            code = _exit_code(engine, name)
            _bring_out(engine, name, brought)
        written = {path.name for path in brought.iterdir()}
        if code == 0 and (missing := wanted - written):
            raise RunnerError(f"the container ended without an error, and without the file of --{min(missing)}")
        emulated = emulation.prove(brought, Path(scratch, "lambda")) if emulation and code == 0 else None
        report = _Report(said, emulated)
        for option in sorted(written & outputs.keys()):
            _write(outputs[option], brought / option, report if option == "report-json" else None)
        if folder and code == 0:
            files.write_report_folder(json.loads(report.in_json((brought / "report-json").read_text("utf-8"))), folder)
    return ContainerResult(
        code, report.in_json(printed) if request.outputs.json and printed else report.in_text(printed)
    )


# ---- what goes in -------------------------------------------------------------------------------------------------


def _recipe(request: Request) -> Recipe:
    options = request.container
    if options.image and (options.requirements or options.base_image):
        raise UsageError("--image has its packages already; --requirements are installed on a --base-image")
    if options.requirements and not Path(options.requirements).is_file():
        raise UsageError(f"--requirements {options.requirements}: there is no such file")
    base = options.image or options.base_image
    if not base and not request.settings.runtime:
        raise UsageError(
            f"--runner {options.runner} needs a --runtime, whose image of Lambda's is taken, or an --image"
        )
    return Recipe(
        base=base or _LAMBDA_IMAGE + request.settings.runtime.removeprefix("python"),
        requirements=Path(options.requirements) if options.requirements else None,
        python=request.settings.python,
        platform=options.platform,
        tool_image=options.tool_image,
    )


def inside(path: str | Path) -> str:
    """Return the name that a path of this machine has in the container: the same, but for a drive of Windows'."""
    absolute = Path(path).absolute()
    drive = absolute.drive.rstrip(":").lower()
    return absolute.as_posix() if not drive else f"/{drive}/{absolute.relative_to(absolute.anchor).as_posix()}"


def _input_files(request: Request) -> Iterator[Path]:
    """Return the input files that the command in the container reads."""
    for option, value in request.items():
        if option.kind.file is File.INPUT and not option.outside:
            yield from (Path(each).absolute() for each in (value if option.repeat else (value,)) if each)


def _mounts(request: Request) -> Iterator[str]:
    """Return the options that mount the entry's folder and the other input files, read-only."""
    paths = list(_input_files(request))
    if request.inputs.entry:
        paths.append(Path(request.inputs.entry).absolute().parent)
    mounted: list[Path] = []
    for path in sorted({path for path in paths if path.exists()}, key=lambda path: len(path.parts)):
        if any(path.is_relative_to(other) for other in mounted):
            continue
        mounted.append(path)
        if inside(path) in _OF_THE_IMAGE:
            raise UsageError(f"{path} cannot be there in a container; put the entry into a folder of its own")
        line = io.StringIO()
        csv.writer(line, lineterminator="").writerow(
            ["type=bind", f"source={path}", f"target={inside(path)}", "readonly"]
        )
        yield from ("--mount", line.getvalue())


def _outputs(request: Request) -> dict[str, Path]:
    """Return the files that the run writes, by the option that names them."""
    named = {option.name: value for option, value in request.items() if option.kind.file is File.OUTPUT}
    outputs = {name: Path(value).absolute() for name, value in named.items() if value}
    if request.outputs.explain or request.outputs.plan:
        return {name: path for name, path in outputs.items() if name == "save-plan" and not request.outputs.plan}
    if not outputs.keys() & {"output", "save-trace", "save-plan"}:
        outputs["output"] = Path("layer.zip").absolute()
    return outputs


def inner_request(request: Request, wanted: Iterable[str]) -> Request:
    """Return what the command in the container does: the same, but for what this side sees to.

    ``wanted`` are the files that it writes, by the option that names them.
    """
    values: Values = {}
    for option, value in request.items():
        if option.name in wanted:
            values[option.key] = f"{images.OUT}/{option.name}"
        elif not option.outside and option.kind.file not in (File.OUTPUT, File.FOLDER):
            values[option.key] = _named_inside(value) if option.kind.file and os.name == "nt" else value
    return Request.of(values)


def _named_inside(value: str | tuple[str, ...]) -> str | tuple[str, ...]:
    """Return the name that an input file has in the container, where that is another one; ARNs name no file."""
    if isinstance(value, tuple):
        return tuple(inside(each) if os.path.exists(each) else each for each in value)
    return inside(value) if value else value


def _hand_over(engine: Engine, name: str, request: Request, file: Path) -> None:
    """Put what is to be done into the container, as one JSON document."""
    try:
        file.write_text(json.dumps(request.values))
    except OSError as exc:
        raise PackError(f"cannot write {file}: {exc.strerror}; TMPDIR sets another place") from exc
    engine.answer("cp", str(file), f"{name}:{images.REQUEST}", why="the container cannot be told what to do:")


# ---- the run, and what comes out ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Names:
    """The names that the outputs have inside, and the user's for them."""

    names: Mapping[str, str]

    def in_text(self, text: str) -> str:
        """Return what people read with the user's names; in a command line they may need quotes."""
        for name, own in self.names.items():
            text = text.replace(f"publish {name}", f"publish {shlex.quote(own)}").replace(name, own)
        return text

    def in_json(self, text: str) -> str:
        """Return a JSON text with the user's names."""
        for name, own in self.names.items():
            text = text.replace(name, json.dumps(own)[1:-1])
        return text


@dataclass(frozen=True, slots=True)
class _Report:
    """What the command said in the end, with the user's names and with what its emulation in Lambda has shown."""

    names: _Names
    emulated: Emulated | None

    def in_text(self, text: str) -> str:
        """Return what people read."""
        text = self.names.in_text(text)
        if self.emulated and text:
            return text + "\n".join([emulated_text(self.emulated), *self._warnings()]) + "\n"
        return text

    def in_json(self, text: str) -> str:
        """Return the report's JSON."""
        text = self.names.in_json(text)
        if not self.emulated:
            return text
        said = json.loads(text)
        said["lambda"] = emulated_json(self.emulated)
        said["warnings"] += self.emulated.warnings
        return json_text(said)

    def _warnings(self) -> Iterator[str]:
        for warning in self.emulated.warnings if self.emulated else ():
            yield f"Warning: {warning}"


def _attend(engine: Engine, name: str, said: _Names) -> str:
    """Run the container to its end, show what it says, and give its standard output."""
    # sys.stderr may be replaced by something without a file descriptor, as in a notebook.
    with (
        tempfile.TemporaryFile() as printed,
        open(2, "wb", buffering=0, closefd=False) as errors,
        progress.step("working in a container"),
    ):
        engine.listen(("start", "--attach", name), _showing(errors, said), stdout=printed)
        printed.seek(0)
        return printed.read().decode(errors="replace")


def _showing(errors: IO[bytes], said: _Names) -> Callable[[bytes], None]:
    hear = progress.output_listener("")

    def show(line: bytes) -> None:
        text = said.in_text(line.decode(errors="surrogateescape"))
        if hear:
            hear(text.rstrip("\r\n"))
        else:
            errors.write(text.encode(errors="surrogateescape"))

    return show


def _exit_code(engine: Engine, name: str) -> int:
    """Return the exit code of the command in the container.

    Raises:
        RunnerError: it was not the command that ended by itself.
    """
    state = json.loads(engine.answer("container", "inspect", "--format", "{{json .State}}", name))
    code, error = int(state["ExitCode"]), str(state.get("Error") or "")
    if error:
        raise RunnerError(f"the container cannot be started (exit code {code}):\n{tail(error)}")
    if state.get("OOMKilled"):
        why = "the container got more memory than it may have; give the engine or the machine more of it"
        if code == _KILLED:
            raise RunnerError(f"killed (exit code {code}): {why}")
        log.warning("a process was killed: %s", why)
    if code == _KILLED:
        raise RunnerError(f"the container was killed (exit code {code}), by somebody else or for lack of memory")
    if code not in exit_codes():
        raise RunnerError(f"the container ended with exit code {code}, which is none of this tool's")
    return code


def _bring_out(engine: Engine, name: str, folder: Path) -> None:
    """Copy the files that the command has written in the container into ``folder``, as this user's own."""
    try:
        with (
            scratch_errors(PackError, f"cannot write into {folder}"),
            engine.reading("cp", f"{name}:{images.OUT}", "-") as stream,
            tarfile.open(fileobj=stream, mode="r|") as archive,
        ):
            for member in archive:
                content = archive.extractfile(member) if member.isfile() else None
                if content is not None:
                    with (folder / member.name.rpartition("/")[2]).open("wb") as file:
                        shutil.copyfileobj(content, file, 1 << 20)
    except tarfile.TarError as exc:
        raise RunnerError(f"what {engine.program} cp gave is no archive: {exc}") from exc


def _write(target: Path, source: Path, report: _Report | None) -> None:
    try:
        with replacing(target) as part:
            if report is None:
                shutil.copyfile(source, part)
            else:
                part.write_text(report.in_json(source.read_text("utf-8")), "utf-8")
    except OSError as exc:
        raise PackError(f"cannot write {target}: {exc.strerror}") from exc
