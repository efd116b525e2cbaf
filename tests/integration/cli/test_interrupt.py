"""Ctrl-C and SIGTERM at every stage: the command ends with 130, and leaves no file and no process."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.sites import stocked_env

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.support.desk import Desk
    from tests.support.sites import Environment

env = stocked_env
HANDLER = """\
import os
import subprocess
import time

import large

FOLDER = os.path.dirname(large.__file__)


def handler(event, context):
    for name in ("noise.bin", "long.py"):
        with open(os.path.join(FOLDER, name), "rb") as data:
            data.read()
    sleeper = subprocess.Popen(["sleep", "600"]{session})
    with open(os.environ["TEST_PIDS"], "a") as pids:
        pids.write("%d\\n" % sleeper.pid)
    with open(os.environ["TEST_PIDS"]) as pids:
        run = len(pids.readlines())
    if run == int(os.environ["TEST_BLOCKED_RUN"]):
        time.sleep(600)
    return 1
"""
STAGES = (
    ("tracing", 1),
    ("reading what is installed", 0),
    ("deciding", 0),
    ("packing", 0),
    ("on the layer alone", 3),  # after the trace and the second run of the entry
    ("looking for imports", 0),
)


@pytest.fixture(scope="module")
def slow(make_lasting_env: Callable[[], Environment]) -> Environment:
    """Return an environment in which each stage takes long enough to be interrupted."""
    made = make_lasting_env()
    noise = random.Random(0).randbytes(12_000_000)
    long = "".join(f"import module{number}\n" for number in range(20_000))
    made.install("large", {"large/__init__.py": "", "large/noise.bin": noise, "large/long.py": long})
    made.install("many", {f"many/part{number}.py": "" for number in range(1500)})
    return made


def is_alive(pid: int) -> bool:
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return status.rpartition(")")[2].split()[0] not in "ZX"


@pytest.fixture
def started() -> Iterator[list[int]]:
    """Yield a list of processes, and end those that a failing test leaves behind."""
    pids: list[int] = []
    yield pids
    for pid in pids:
        if is_alive(pid):
            os.kill(pid, signal.SIGKILL)


def interrupt(
    desk: Desk, env: Environment, tool: tuple[str, ...], number: int, words: str, blocked: int, *args: str
) -> tuple[int, str, list[int]]:
    """Send signal ``number`` when the output contains ``words``, or when the blocked run of the handler has begun."""
    log, pids = desk.folder / "stderr", desk.folder / "pids"
    pids.touch()
    with log.open("wb") as err, (desk.folder / "stdout").open("wb") as out:
        process = subprocess.Popen(
            [*tool, *desk.arguments(env, *args)],
            env=desk.variables({"TEST_PIDS": str(pids), "TEST_BLOCKED_RUN": str(blocked)}),
            cwd=desk.folder,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            start_new_session=True,
        )
    try:
        while process.poll() is None:
            if words in log.read_text() and len(pids.read_text().splitlines()) >= blocked:
                process.send_signal(number)
                break
            time.sleep(0.002)
        code = process.wait(20)
    finally:
        process.kill()
        process.wait()
    assert (desk.folder / "stdout").read_text() == ""
    return code, log.read_text(), [int(line) for line in pids.read_text().split()]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["int", "term"])
@pytest.mark.parametrize(("words", "blocked"), STAGES, ids=[words.replace(" ", "-") for words, _ in STAGES])
def test_interrupted(
    desk: Desk,
    slow: Environment,
    tool: tuple[str, ...],
    state: Callable[..., object],
    started: list[int],
    number: int,
    words: str,
    blocked: int,
) -> None:
    desk.write("handler.py", HANDLER.format(session=""))
    before = state(slow.root, desk.work, desk.home)
    code, said, pids = interrupt(desk, slow, tool, number, words, blocked)
    started += pids
    assert code == 130, said
    assert said.splitlines()[-1] == "minimize: interrupted; nothing was written"
    assert "Traceback" not in said
    assert not desk.output.exists()
    desk.require_clean()
    assert state(slow.root, desk.work, desk.home) == before
    assert [pid for pid in pids if is_alive(pid)] == []
    assert processes_below(desk.folder) == []


def processes_below(folder: Path) -> list[str]:
    """Return the processes that name a scratch folder below ``folder`` in their command line."""
    found = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = file.read_bytes()
        except OSError:
            continue
        if os.fsencode(folder) in command and int(file.parent.name) != os.getpid():
            found.append(command.decode(errors="replace"))
    return found


@pytest.mark.parametrize("observe", ["probe", "auto"])
@pytest.mark.parametrize("session", ["", ", start_new_session=True"], ids=["child", "daemon"])
def test_what_the_handler_leaves_running_is_ended(
    desk: Desk, slow: Environment, started: list[int], observe: str, session: str
) -> None:
    desk.write("handler.py", HANDLER.format(session=session))
    pids = desk.folder / "pids"
    variables = {"TEST_PIDS": str(pids), "TEST_BLOCKED_RUN": "0"}
    desk.minimize(slow, "--observe", observe, "--timeout", "20", variables=variables)
    started += [int(line) for line in pids.read_text().split()]
    assert len(started) == 3  # of the trace, of the second run of the entry, and of the run on the layer
    assert [pid for pid in started if is_alive(pid)] == []


def test_a_run_that_is_stopped_takes_its_children_along(desk: Desk, slow: Environment, started: list[int]) -> None:
    desk.write("handler.py", HANDLER.format(session=""))
    pids = desk.folder / "pids"
    variables = {"TEST_PIDS": str(pids), "TEST_BLOCKED_RUN": "1"}
    desk.fails(slow, 3, ["did not end within 2 s"], "--timeout", "2", variables=variables)
    started += [int(line) for line in pids.read_text().split()]
    assert len(started) == 1
    assert [pid for pid in started if is_alive(pid)] == []


def test_signal_before_anything_has_begun(desk: Desk, tool: tuple[str, ...]) -> None:
    """An interpreter that hangs when its version is requested can be interrupted, too."""
    desk.write("handler.py", HANDLER.format(session=""))
    program = desk.write("python", '#!/bin/sh\necho asked > "$TEST_ASKED"\nsleep 600\n')
    program.chmod(0o755)
    asked = desk.folder / "asked"
    command = [*tool, *desk.arguments(None, "--python", str(program))]
    process = subprocess.Popen(
        command, env=desk.variables({"TEST_ASKED": str(asked)}), stderr=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        while process.poll() is None and not asked.exists():
            time.sleep(0.002)
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
    assert (process.returncode, out) == (130, b"")
    assert err == b"minimize: interrupted; nothing was written\n"
    desk.require_clean()
    assert processes_below(desk.folder) == []


def test_impatient_user(desk: Desk, slow: Environment, tool: tuple[str, ...]) -> None:
    """A second Ctrl-C during the cleanup of the first one leaves nothing behind either."""
    desk.write("handler.py", HANDLER.format(session=""))
    pids = desk.folder / "pids"
    pids.touch()
    process = subprocess.Popen(
        [*tool, *desk.arguments(slow)],
        env=desk.variables({"TEST_PIDS": str(pids), "TEST_BLOCKED_RUN": "1"}),
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        while process.poll() is None and not pids.read_text():
            time.sleep(0.002)
        for _ in range(20):
            process.send_signal(signal.SIGINT)
            time.sleep(0.001)
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
    assert (process.returncode, out) == (130, b""), err.decode()
    assert b"Traceback" not in err
    desk.require_clean()
    assert [pid for pid in map(int, pids.read_text().split()) if is_alive(pid)] == []


@pytest.mark.usefixtures("handler")
def test_nohup(desk: Desk, env: Environment, tool: tuple[str, ...]) -> None:
    """A signal that is ignored, as with nohup and in a shell's background jobs, does not interrupt the command."""
    prefix = ("sh", "-c", "trap '' HUP INT; exec \"$@\"", "sh")
    with (desk.folder / "stderr").open("wb") as err:
        process = subprocess.Popen(
            [*prefix, *tool, *desk.arguments(env)], env=desk.variables(), stderr=err, stdout=subprocess.DEVNULL
        )
    try:
        while process.poll() is None and "tracing" not in (desk.folder / "stderr").read_text():
            time.sleep(0.002)
        process.send_signal(signal.SIGHUP)
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.wait()
    assert desk.output.exists()
