"""Runs a function and a layer in an emulated Lambda: in namespaces of this machine, or in a container of an engine.

Knows the place and nothing of right or wrong; ``emulator`` judges what comes of it.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from layer_minimizer.core.errors import RunnerError
from layer_minimizer.core.files import scratch_errors
from layer_minimizer.execution import process
from layer_minimizer.execution.engine import ENGINE_FAILED, Engine, tail

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from layer_minimizer.model.interpreter import Interpreter

_PROGRAMS = Path(__file__).parents[1] / "payload" / "function"
_SANDBOX = Path(__file__).parents[1] / "payload" / "sandbox"
# Where SAM has its emulator, too; Lambda's own folders stay as they are.
_BESIDE = "/var/rapid"
TASK, LAYER = "/var/task", "/opt"
_SCRIPT = "layer_minimizer_script"
# As Lambda's are: https://docs.aws.amazon.com/lambda/latest/dg/configuration-envvars.html
LIBRARY_PATH = "/var/lang/lib:/lib64:/usr/lib64:/var/runtime:/var/runtime/lib:/var/task:/var/task/lib:/opt/lib"
_PROGRAM_PATH = "/var/lang/bin:/usr/local/bin:/usr/bin/:/bin:/opt/bin"
_LANG = "/var/lang"
_LAMBDAS_OWN = (f"{LAYER}/", "/var/", "/tmp/", "/dev/", "/etc/")  # noqa: S108
_USER = "993:990"
_USERS = "root:x:0:0:root:/root:/bin/sh\nsbx_user1051:x:993:990::/home/sbx_user1051:/sbin/nologin\n"
_GROUP = "root:x:0:\nsbx_user1051:x:990:\n"
_MIB = 1 << 20
# What the programs beside the function take at most; /tmp is memory of the container as well.
_BESIDE_MIB = 256
# Until the emulator and the driver have started and ended.
_GRACE = 120
_SIGKILLED = 137


@dataclass(frozen=True, slots=True)
class FunctionMounts:
    """Where a function runs: its folder, the layer's, what lies below them from elsewhere, and its two programs.

    ``binds`` are paths of this machine and where they appear; ``version`` is Python's. ``memory`` and ``tmp`` are in
    MiB, ``timeout`` is in seconds for one event.
    """

    task: Path
    layer: Path
    binds: tuple[tuple[str, str], ...]
    rie: Path
    client: Path | None
    version: tuple[int, ...]
    hidden: tuple[str, ...]
    memory: int
    tmp: int
    timeout: float
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class EmulatorRun:
    """What the driver saw: (event, HTTP status, body) rows, milliseconds of init phases, peaks in bytes."""

    answers: tuple[tuple[str, int, str], ...]
    init: tuple[float, ...]
    peak: int
    tmp: int
    over: bool
    log: tuple[str, ...]


def in_namespaces(
    place: FunctionMounts, events: Iterable[tuple[str, str]], scratch: Path, interpreter: Interpreter
) -> EmulatorRun:
    """Run ``events`` (name, JSON) on this machine's own system and the traced ``interpreter``.

    Raises:
        RunnerError: the namespaces cannot be made, or what runs in them cannot be started.
    """
    rows = list(events)
    own = {"PATH": _PROGRAM_PATH, "LANG": "C.UTF-8"}  # a locale that every glibc machine has
    beside = _lay_out(place, rows, scratch, own)
    root = scratch / "root"
    root.mkdir()
    moved = _moved(interpreter)
    wanted = {
        "root": str(root),
        "binds": [*moved, *_binds(place, beside)],
        "hide": [_seen(folder, moved) for folder in place.hidden],
        "tmp": place.tmp * _MIB,
    }
    python = _seen(os.path.realpath(interpreter.base_executable), moved)
    command = [sys.executable, "-I", str(_SANDBOX), "lambda_root", json.dumps(wanted), python, "-I", "-B"]
    command += [f"{_BESIDE}/driver.py", f"{_BESIDE}/settings.json"]
    log = scratch / "said"
    timeout = (place.timeout + _GRACE) * len(rows) + _GRACE
    ended = process.run(command, {"PATH": os.defpath}, scratch, timeout=timeout, output=log)
    said = log.read_text(errors="replace")
    if ended.returncode == process.NOT_ISOLATED:
        raise RunnerError(
            f"--verify lambda: {said.strip()}. Namespaces take root or a kernel that gives them to everybody; "
            "--engine docker uses a container instead"
        )
    return _read(said, place, ended.ending)


def in_engine(
    place: FunctionMounts, events: Iterable[tuple[str, str]], scratch: Path, engine: Engine, image: str
) -> EmulatorRun:
    """Run ``events`` (name, JSON) in a container of an image, with the image's system and Python.

    Raises:
        RunnerError: the image cannot be had, or no container of it can run this.
    """
    beside = _lay_out(place, list(events), scratch, {})
    need_image(engine, image)
    said = scratch / "said"
    with engine.container() as name, said.open("wb") as sink:
        # No --rm: only whoever knows the name can be sure that the container is gone.
        code = engine.follow(["run", "--name", name, *_container(place, beside, image)], stdout=sink, stderr=sink)
    words = said.read_text(errors="replace")
    if code == ENGINE_FAILED:
        raise RunnerError(f"--engine {_name(engine)}: no container of {image} can be started:\n{tail(words)}")
    if code == _SIGKILLED and not words.rstrip().endswith("}"):
        return EmulatorRun((), (), place.memory * _MIB, 0, over=True, log=tuple(words.splitlines()))
    return _read(words, place, f"ended with exit code {code} in a container of {image}")


def need_image(engine: Engine, image: str) -> None:
    """Fetch an image unless the engine has it.

    Raises:
        RunnerError: it cannot be fetched.
    """
    if not engine.has_image(image):
        why = f"--engine {_name(engine)}: there is no image {image} here, and none can be fetched"
        engine.answer("pull", "--quiet", image, why=f"{why}; --verify-image names another")


def _name(engine: Engine) -> str:
    return Path(engine.program).name


def _container(place: FunctionMounts, beside: Path, image: str) -> Iterator[str]:
    """Yield the arguments for a container in which the driver runs."""
    # The driver watches the function's memory; this is for what would be too fast for it.
    memory = f"{place.memory + place.tmp + _BESIDE_MIB}m"
    yield from ("--network", "none", "--read-only", "--ipc", "none", "--user", _USER, "--workdir", TASK)
    yield from ("--tmpfs", f"/tmp:rw,exec,nosuid,nodev,mode=1777,size={place.tmp}m")  # noqa: S108 - Lambda's
    yield from ("--cap-drop", "ALL", "--security-opt", "no-new-privileges", "--ulimit", "nofile=1024:1024")
    # Threads and processes: https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html
    yield from ("--ulimit", "nproc=1024:1024")
    yield from ("--memory", memory, "--memory-swap", memory)
    for source, target in _binds(place, beside):
        yield from ("--mount", f"type=bind,source={source},target={target},readonly")
    version = "{}.{}".format(*place.version[:2])
    script = f'exec "$(command -v python{version} || command -v python3)" -I -B "$0" "$1"'
    yield from ("--entrypoint", "/bin/sh", image, "-c", script, f"{_BESIDE}/driver.py", f"{_BESIDE}/settings.json")


def handler_of(module: str, function: str) -> dict[str, str]:
    """Return the variables that name the handler; a program without one is run by a handler of this tool's."""
    if function:
        return {"_HANDLER": f"{module}.{function}"}
    return {"_HANDLER": f"{_SCRIPT}.handler", "LAYER_MINIMIZER_SCRIPT": f"{TASK}/{module}.py"}


def _lay_out(place: FunctionMounts, events: list[tuple[str, str]], scratch: Path, own: Mapping[str, str]) -> Path:
    """Put what runs beside the function into one folder, which everybody may read."""
    beside = scratch / "beside"
    settings = {
        "emulator": f"{_BESIDE}/{place.rie.name}",
        "beside": f"{_BESIDE}/runtime",
        "environment": {**own, "LD_LIBRARY_PATH": LIBRARY_PATH, **place.environment},
        "events": events,
        "memory": place.memory * _MIB,
        "timeout": place.timeout,
    }
    with scratch_errors(RunnerError, f"cannot write into {scratch}"):
        runtime = beside / "runtime"
        if place.client:
            shutil.copytree(place.client, runtime)
        runtime.mkdir(parents=True, exist_ok=True)
        for name, folder in (("driver.py", beside), ("bootstrap.py", runtime), (f"{_SCRIPT}.py", runtime)):
            shutil.copyfile(_PROGRAMS / name, folder / name)
        shutil.copyfile(place.rie, beside / place.rie.name)
        (beside / "settings.json").write_text(json.dumps(settings))
        (beside / "passwd").write_text(_USERS)
        (beside / "group").write_text(_GROUP)
        _open_to_all(beside)
        (beside / place.rie.name).chmod(0o755)
        for folder in (place.task, place.layer):
            _open_to_all(folder, files=False)
    return beside


def _open_to_all(top: Path, *, files: bool = True) -> None:
    """Undo this user's umask, which is none of Lambda's."""
    for folder, _, names in os.walk(top):
        os.chmod(folder, 0o755)  # noqa: S103
        for name in names if files else ():
            os.chmod(os.path.join(folder, name), 0o644)


def _binds(place: FunctionMounts, beside: Path) -> Iterator[tuple[str, str]]:
    yield str(place.layer), LAYER
    yield str(place.task), TASK
    yield str(beside), _BESIDE
    yield str(beside / "passwd"), "/etc/passwd"
    yield str(beside / "group"), "/etc/group"
    # Where the runtime of an image finds it; ours has it beside itself.
    yield str(beside / "runtime" / f"{_SCRIPT}.py"), f"/var/runtime/{_SCRIPT}.py"
    yield from place.binds


def _moved(interpreter: Interpreter) -> tuple[tuple[str, str], ...]:
    """Return the folders of an interpreter that is no part of the system, and where they appear.

    They keep their paths, except those that Lambda itself has a use for.
    """
    program = os.path.realpath(interpreter.base_executable)
    if program.startswith(("/usr/", "/bin/")):
        return ()
    # Some of these folders are a virtual environment's and hold no library.
    standard = [folder for folder in interpreter.stdlib_dirs if os.path.isfile(f"{folder}/os.py")]
    prefix = os.path.commonpath([program, *standard])
    if prefix in ("/", str(Path.home())):
        return tuple((folder, folder) for folder in (os.path.dirname(program), *standard))
    return ((prefix, _LANG if f"{prefix}/".startswith(_LAMBDAS_OWN) else prefix),)


def _seen(path: str, moved: Iterable[tuple[str, str]]) -> str:
    for source, target in moved:
        if path.startswith(f"{source}/"):
            return target + path[len(source) :]
    return path


def _read(said: str, place: FunctionMounts, ending: str) -> EmulatorRun:
    last = said.rstrip().rpartition("\n")[2]
    try:
        found: dict[str, Any] = json.loads(last)
        ran = EmulatorRun(
            answers=tuple((name, status, body) for name, status, body in found["answers"]),
            init=tuple(found["init"]),
            peak=found["peak"],
            tmp=found["tmp"],
            over=found["over"],
            log=tuple(found["log"]),
        )
    except (ValueError, TypeError, KeyError) as exc:
        raise RunnerError(f"--verify lambda: the driver of the emulated function {ending}:\n{tail(said)}") from exc
    wanted = list(place.version[:2])
    if found["python"] != wanted:
        here, there = (".".join(map(str, version)) for version in (wanted, found["python"]))
        raise RunnerError(f"--verify-image: its Python is {there}, and the layer is for {here}: name another image")
    return ran
