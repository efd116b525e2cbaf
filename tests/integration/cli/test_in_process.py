"""The command in the tests' process has the same output and effects as in its own process, and changes nothing else."""

from __future__ import annotations

import json
import logging
import os
import re
import signal
import sys
import tempfile
import threading
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support import command
from tests.support.sites import stocked_env

if TYPE_CHECKING:
    from tests.support.desk import Desk
    from tests.support.sites import Environment

env = stocked_env
TALKS = """
import logging, os, subprocess, sys, warnings
import alpha

def handler(event, context):
    print("printed by the handler")
    print("and this as an error", file=sys.stderr)
    os.write(1, b"written past Python\\n")
    subprocess.run([sys.executable, "-c", "print('said by a child')"])
    warnings.warn("a warning of the handler")
    logging.getLogger().warning("logged by the handler")
    return [alpha.VALUE, os.getcwd() != "/", "COVERAGE_RUN" in os.environ]
"""
FAILS = "import alpha\n\n\ndef handler(event, context):\n    raise ValueError(alpha.VALUE)\n"
LINES = {
    "a layer": (TALKS, 0, ()),
    "JSON": (TALKS, 0, ("--json",)),
    "nothing but errors": (TALKS, 0, ("--quiet",)),
    "all there is": (TALKS, 0, ("--verbose",)),
    "an explanation": (TALKS, 0, ("--explain", "alpha")),
    "a handler that fails": (FAILS, 3, ()),
    "a wish that fits nothing": (TALKS, 4, ("--include", "nowhere")),
    "a layer that is too large": (TALKS, 5, ("--max-size", "100")),
    "a wrong option": (TALKS, 2, ("--nothing-such",)),
    "a wrong value": (TALKS, 2, ("--runs", "many")),
    "help": (TALKS, 0, ("--help",)),
    "the version": (TALKS, 0, ("--version",)),
}
# Times, and names of folders that are made for one run.
CHANGING = re.compile(r"\d+(\.\d+)? (s|ms|MB/s|seconds)\b|(?<=/minimize-)[0-9a-f]{8}/\w+")


def state() -> dict[str, object]:
    """Return the state of the process that a command could change."""
    files = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            files[name] = os.readlink(f"/proc/self/fd/{name}")
        except FileNotFoundError:  # of the listing itself
            continue
    loggers = [logging.getLogger(name) for name in ("", "layer_minimizer")]
    mask = os.umask(0)
    os.umask(mask)
    return {
        "variables": dict(os.environ),
        "folder": os.getcwd(),
        "files": files,
        "umask": mask,
        "signals": {number: signal.getsignal(number) for number in signal.valid_signals()},
        "timer": signal.getitimer(signal.ITIMER_REAL),
        "streams": [id(stream) for stream in (sys.stdin, sys.stdout, sys.stderr)],
        "arguments": [*sys.argv],
        "paths": [*sys.path],
        "log": [([*each.handlers], each.level, each.disabled, each.propagate) for each in loggers],
        "filters": [*warnings.filters],
        "temporary": tempfile.tempdir,
        "threads": {thread.name for thread in threading.enumerate()},
        "children": Path("/proc/self/task", str(os.getpid()), "children").read_text(),
    }


def lines(text: str) -> list[str]:
    """Return the output without parts that vary; parallel programs may appear in any order."""
    return sorted(CHANGING.sub("...", line) for line in text.splitlines())


def without_times(text: str) -> object:
    data = json.loads(text)
    data.pop("seconds", None)
    return json.loads(re.sub(r'("[a-z_]*seconds": )[0-9.e+-]+', r"\g<1>0", json.dumps(data)))


@pytest.mark.parametrize("what", LINES)
def test_the_command_does_the_same_here_and_apart(desk: Desk, env: Environment, what: str) -> None:
    text, code, options = LINES[what]
    desk.write("handler.py", text)
    layers, ends = [], []
    for apart in (True, False, False):
        before = state()
        ends.append(desk.minimize(env, *options, code=code, apart=apart))
        assert state() == before
        layers.append(desk.output.read_bytes() if desk.output.exists() else b"")
        desk.output.unlink(missing_ok=True)
    first, *others = ends
    for other in others:
        if what == "JSON":
            assert without_times(other.out) == without_times(first.out)
        else:
            assert lines(other.out) == lines(first.out)
        assert lines(other.err) == lines(first.err)
    assert len(set(layers)) == 1
    assert bool(layers[0]) == (code == 0 and what not in ("an explanation", "help", "the version"))


def test_an_error_of_the_tool_itself_ends_as_in_a_process(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> None:
        raise LookupError("a mistake of the tool")

    monkeypatch.setattr(command.main, "run", broken)
    before = state()
    ended = command.run_here([], desk.variables(), desk.folder)
    assert state() == before
    assert (ended.code, ended.out) == (1, "")
    assert ended.err.startswith("Traceback ")
    assert ended.err.endswith("LookupError: a mistake of the tool\n")


def test_a_command_that_does_not_end_is_ended(desk: Desk, env: Environment) -> None:
    desk.write("handler.py", "import time\n\ndef handler(event, context):\n    time.sleep(60)\n")
    before = state()
    ended = command.run_here(desk.arguments(env), desk.variables(), desk.folder, seconds=4)
    assert state() == before
    assert ended.code == 1
    assert "TimeoutError: the command did not end within 4 seconds" in ended.err
    desk.require_clean()


@pytest.mark.parametrize("name", ["PYTHONHASHSEED", "LC_ALL", "LD_PRELOAD"])
def test_what_only_a_start_reads_takes_a_process(desk: Desk, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "run_here", lambda *_, **__: pytest.fail("it ran in this process"))
    given = {**desk.variables(), name: "" if name == "LD_PRELOAD" else "0" if name == "PYTHONHASHSEED" else "C"}
    assert command.run(["--version"], given, desk.folder).code == 0
