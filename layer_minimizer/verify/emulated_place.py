"""Run a function with a layer in emulated Lambda: in namespaces of this machine, or in a container.

`emulated_results` compares the results.
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
from layer_minimizer.environment import emulation
from layer_minimizer.execution import process
from layer_minimizer.execution.engine import ENGINE_FAILED, Engine, tail

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from layer_minimizer.model.interpreter import Interpreter

_PROGRAMS = Path(__file__).parents[1] / "payload" / "function"
_SANDBOX = Path(__file__).parents[1] / "payload" / "sandbox"
# AWS SAM uses this folder for its emulator, too. It is none of Lambda's own folders.
_SUPPORT_DIR = "/var/rapid"
TASK, LAYER = "/var/task", "/opt"
_SCRIPT = "layer_minimizer_script"
# The same as in Lambda: https://docs.aws.amazon.com/lambda/latest/dg/configuration-envvars.html
LIBRARY_PATH = "/var/lang/lib:/lib64:/usr/lib64:/var/runtime:/var/runtime/lib:/var/task:/var/task/lib:/opt/lib"
_PROGRAM_PATH = "/var/lang/bin:/usr/local/bin:/usr/bin/:/bin:/opt/bin"
_LANG = "/var/lang"
_LAMBDA_PATHS = (f"{LAYER}/", "/var/", "/tmp/", "/dev/", "/etc/")  # noqa: S108
_USER = "993:990"
_USERS = "root:x:0:0:root:/root:/bin/sh\nsbx_user1051:x:993:990::/home/sbx_user1051:/sbin/nologin\n"
_GROUP = "root:x:0:\nsbx_user1051:x:990:\n"
_MIB = 1 << 20
# Memory limit for the emulator and the driver. The container's memory also contains /tmp.
_SUPPORT_MIB = 256
# Time for the emulator and the driver to start and end.
_GRACE_SECONDS = 120
_SIGKILLED = 137


@dataclass(frozen=True, slots=True)
class FunctionMounts:
    """The folders, programs and limits of a function in emulated Lambda.

    Attributes:
        task: the folder for /var/task.
        layer: the folder for /opt.
        binds: other paths of this machine, and where they are mounted.
        emulator: the Runtime Interface Emulator.
        client: the folder with the runtime client; None if the image contains it.
        version: the version of Python.
        hidden: folders of this machine that are hidden.
        memory: the memory limit in MiB.
        tmp_size: the size of /tmp in MiB.
        timeout: the time limit for one event, in seconds.
        environment: the variables of the function.
    """

    task: Path
    layer: Path
    binds: tuple[tuple[str, str], ...]
    emulator: Path
    client: Path | None
    version: tuple[int, ...]
    hidden: tuple[str, ...]
    memory: int
    tmp_size: int
    timeout: float
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class EmulatorRun:
    """What the driver measured.

    Attributes:
        answers: (event, HTTP status, body) of each response.
        init: durations of the init phases, in milliseconds.
        peak: peak memory in bytes.
        tmp_peak: peak size of the files in /tmp, in bytes.
        out_of_memory: whether the function was killed for using too much memory.
        log: the output of the function and the emulator.
    """

    answers: tuple[tuple[str, int, str], ...]
    init: tuple[float, ...]
    peak: int
    tmp_peak: int
    out_of_memory: bool
    log: tuple[str, ...]


def in_namespaces(
    mounts: FunctionMounts, events: Iterable[tuple[str, str]], scratch: Path, interpreter: Interpreter
) -> EmulatorRun:
    """Run ``events`` (name, JSON) in namespaces of this machine, with the traced ``interpreter``.

    Raises:
        RunnerError: the namespaces cannot be created, or the driver cannot be started.
    """
    rows = list(events)
    system_variables = {"PATH": _PROGRAM_PATH, "LANG": "C.UTF-8"}  # a locale that every glibc system has
    support = _write_support_files(mounts, rows, scratch, system_variables)
    root = scratch / "root"
    root.mkdir()
    relocated = _relocated(interpreter)
    system = emulation.system_root(interpreter.base_executable)
    wanted = {
        "root": str(root),
        "system": system,
        "binds": [*relocated, *_binds(mounts, support)],
        "hide": [_inside(folder, relocated) for folder in mounts.hidden],
        "tmp": mounts.tmp_size * _MIB,
    }
    python = _inside(os.path.realpath(interpreter.base_executable), relocated).removeprefix(system)
    command = [sys.executable, "-I", str(_SANDBOX), "lambda_root", json.dumps(wanted), python, "-I", "-B"]
    command += [f"{_SUPPORT_DIR}/driver.py", f"{_SUPPORT_DIR}/settings.json"]
    log = scratch / "output"
    timeout = (mounts.timeout + _GRACE_SECONDS) * len(rows) + _GRACE_SECONDS
    ended = process.run(command, {"PATH": os.defpath}, scratch, timeout=timeout, output=log)
    output = log.read_text(errors="replace")
    if ended.returncode == process.NOT_ISOLATED:
        raise RunnerError(
            f"--verify lambda: {output.strip()}. Namespaces need root, or a kernel that allows them for all users; "
            "--engine docker uses a container instead"
        )
    return _read(output, mounts, ended.ending)


def in_engine(
    mounts: FunctionMounts, events: Iterable[tuple[str, str]], scratch: Path, engine: Engine, image: str
) -> EmulatorRun:
    """Run ``events`` (name, JSON) in a container of ``image``, with the image's system and Python.

    Raises:
        RunnerError: the image is not available, or a container of it cannot run the driver.
    """
    support = _write_support_files(mounts, list(events), scratch, {})
    ensure_image(engine, image)
    log = scratch / "output"
    with engine.container_name() as name, log.open("wb") as sink:
        # Without --rm: container_name() removes the container, also after an interrupt.
        code = engine.run(["run", "--name", name, *_container(mounts, support, image)], stdout=sink, stderr=sink)
    output = log.read_text(errors="replace")
    if code == ENGINE_FAILED:
        raise RunnerError(f"--engine {_name(engine)}: no container of {image} can be started:\n{tail(output)}")
    if code == _SIGKILLED and not output.rstrip().endswith("}"):
        return EmulatorRun((), (), mounts.memory * _MIB, 0, out_of_memory=True, log=tuple(output.splitlines()))
    return _read(output, mounts, f"ended with exit code {code} in a container of {image}")


def ensure_image(engine: Engine, image: str) -> None:
    """Pull an image unless it is present locally.

    Raises:
        RunnerError: it cannot be pulled.
    """
    if not engine.has_image(image):
        why = f"--engine {_name(engine)}: there is no image {image} here, and it cannot be pulled"
        engine.read_output("pull", "--quiet", image, why=f"{why}; use another one with --verify-image")


def _name(engine: Engine) -> str:
    return Path(engine.program).name


def _container(mounts: FunctionMounts, support: Path, image: str) -> Iterator[str]:
    """Yield the arguments of ``docker run`` for the driver."""
    # The driver checks the function's memory from time to time; this limit stops faster growth.
    memory = f"{mounts.memory + mounts.tmp_size + _SUPPORT_MIB}m"
    yield from ("--network", "none", "--read-only", "--ipc", "none", "--user", _USER, "--workdir", TASK)
    yield from ("--tmpfs", f"/tmp:rw,exec,nosuid,nodev,mode=1777,size={mounts.tmp_size}m")  # noqa: S108 - Lambda's
    yield from ("--cap-drop", "ALL", "--security-opt", "no-new-privileges", "--ulimit", "nofile=1024:1024")
    # Threads and processes: https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html
    yield from ("--ulimit", "nproc=1024:1024")
    yield from ("--memory", memory, "--memory-swap", memory)
    for source, target in _binds(mounts, support):
        yield from ("--mount", f"type=bind,source={source},target={target},readonly")
    version = "{}.{}".format(*mounts.version[:2])
    script = f'exec "$(command -v python{version} || command -v python3)" -I -B "$0" "$1"'
    yield from (
        "--entrypoint",
        "/bin/sh",
        image,
        "-c",
        script,
        f"{_SUPPORT_DIR}/driver.py",
        f"{_SUPPORT_DIR}/settings.json",
    )


def handler_variables(module: str, function: str) -> dict[str, str]:
    """Return the variables that name the handler; for a script that of this tool, which runs the script."""
    if function:
        return {"_HANDLER": f"{module}.{function}"}
    return {"_HANDLER": f"{_SCRIPT}.handler", "LAYER_MINIMIZER_SCRIPT": f"{TASK}/{module}.py"}


def _write_support_files(
    mounts: FunctionMounts, events: list[tuple[str, str]], scratch: Path, variables: Mapping[str, str]
) -> Path:
    """Write the emulator, the driver and their settings to one folder, which is readable for all users; return it."""
    support = scratch / "support"
    settings = {
        "emulator": f"{_SUPPORT_DIR}/{mounts.emulator.name}",
        "runtime": f"{_SUPPORT_DIR}/runtime",
        "environment": {**variables, "LD_LIBRARY_PATH": LIBRARY_PATH, **mounts.environment},
        "events": events,
        "memory": mounts.memory * _MIB,
        "timeout": mounts.timeout,
    }
    with scratch_errors(RunnerError, f"cannot write into {scratch}"):
        runtime = support / "runtime"
        if mounts.client:
            shutil.copytree(mounts.client, runtime)
        runtime.mkdir(parents=True, exist_ok=True)
        for name, folder in (("driver.py", support), ("bootstrap.py", runtime), (f"{_SCRIPT}.py", runtime)):
            shutil.copyfile(_PROGRAMS / name, folder / name)
        shutil.copyfile(mounts.emulator, support / mounts.emulator.name)
        (support / "settings.json").write_text(json.dumps(settings))
        (support / "passwd").write_text(_USERS)
        (support / "group").write_text(_GROUP)
        make_readable(support)
        (support / mounts.emulator.name).chmod(0o755)
        for folder in (mounts.task, mounts.layer):
            make_readable(folder, files=False)
    return support


def make_readable(top: Path, *, files: bool = True) -> None:
    """Make folders and files readable for all users, whatever the umask is."""
    for folder, _, names in os.walk(top):
        os.chmod(folder, 0o755)  # noqa: S103
        for name in names if files else ():
            os.chmod(os.path.join(folder, name), 0o644)


def _binds(mounts: FunctionMounts, support: Path) -> Iterator[tuple[str, str]]:
    yield str(mounts.layer), LAYER
    yield str(mounts.task), TASK
    yield str(support), _SUPPORT_DIR
    yield str(support / "passwd"), "/etc/passwd"
    yield str(support / "group"), "/etc/group"
    # An image's own runtime imports the script's handler from its folder.
    yield str(support / "runtime" / f"{_SCRIPT}.py"), f"/var/runtime/{_SCRIPT}.py"
    yield from mounts.binds


def _relocated(interpreter: Interpreter) -> tuple[tuple[str, str], ...]:
    """Return the folders of an interpreter that does not belong to the system, and where they are mounted.

    That is at the same paths, except for paths that Lambda itself uses.
    """
    program = os.path.realpath(interpreter.base_executable)
    if program.removeprefix(emulation.system_root(program)).startswith(("/usr/", "/bin/")):
        return ()
    # Some of these folders may belong to a virtual environment and lack the standard library.
    standard = [folder for folder in interpreter.stdlib_dirs if os.path.isfile(f"{folder}/os.py")]
    prefix = os.path.commonpath([program, *standard])
    if prefix in ("/", str(Path.home())):
        return tuple((folder, folder) for folder in (os.path.dirname(program), *standard))
    return ((prefix, _LANG if f"{prefix}/".startswith(_LAMBDA_PATHS) else prefix),)


def _inside(path: str, relocated: Iterable[tuple[str, str]]) -> str:
    """Return the path in emulated Lambda of a path of this machine."""
    for source, target in relocated:
        if path.startswith(f"{source}/"):
            return target + path[len(source) :]
    return path


def _read(output: str, mounts: FunctionMounts, ending: str) -> EmulatorRun:
    last = output.rstrip().rpartition("\n")[2]
    try:
        found: dict[str, Any] = json.loads(last)
        run = EmulatorRun(
            answers=tuple((name, status, body) for name, status, body in found["answers"]),
            init=tuple(found["init"]),
            peak=found["peak"],
            tmp_peak=found["tmp"],
            out_of_memory=found["over"],
            log=tuple(found["log"]),
        )
    except (ValueError, TypeError, KeyError) as exc:
        raise RunnerError(f"--verify lambda: the driver of the emulated function {ending}:\n{tail(output)}") from exc
    wanted = list(mounts.version[:2])
    if found["python"] != wanted:
        here, there = (".".join(map(str, version)) for version in (wanted, found["python"]))
        raise RunnerError(f"--verify-image: its Python is {there}, but the layer is for {here}: use another image")
    return run
