"""The display while the command runs: on a terminal, in a log, with -q and -v, with and without colours."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import threading
import time
from typing import TYPE_CHECKING

import pytest

from tests.support.places import TOOL
from tests.support.pythons import MAIN
from tests.support.sites import Environment, stocked_env

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.desk import Desk

env = stocked_env
TALKATIVE = """\
import sys, time
import alpha

def handler(event, context):
    print("said in red: \\x1b[31mred\\x1b[0m", flush=True)
    sys.stderr.write("10 %\\r20 %\\rand no line feed")
    time.sleep(1)
    return alpha.VALUE
"""
CONTROL = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]|\r")


@pytest.fixture
def talkative(desk: Desk) -> Desk:
    desk.write("handler.py", TALKATIVE)
    return desk


class Terminal:
    """A pseudo-terminal for standard error of the command; standard output is captured separately."""

    def __init__(self, desk: Desk, env: Environment, *arguments: str, variables: dict[str, str] | None = None) -> None:
        ours, theirs = pty.openpty()
        environment = {name: value for name, value in desk.variables().items() if name not in {"CI", "NO_COLOR"}}
        environment |= {"TERM": "xterm-256color", "COLUMNS": "100", **(variables or {})}
        self.process = subprocess.Popen(
            [*TOOL, *desk.arguments(env, *arguments)],
            env=environment,
            cwd=desk.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=theirs,
            text=True,
            process_group=0,  # a job of its own, as a shell has them: only such a one can be suspended
        )
        os.close(theirs)
        self.shown = b""
        self._reader = threading.Thread(target=self._read, args=(ours,))
        self._reader.start()

    def _read(self, ours: int) -> None:
        while True:
            try:
                data = os.read(ours, 1 << 16)
            except OSError:  # the other end is closed
                break
            if not data:
                break
            self.shown += data
        os.close(ours)

    def wait_for(self, text: str) -> None:
        end = time.monotonic() + 60
        while text not in self.shown.decode(errors="replace"):
            assert time.monotonic() < end, self.shown.decode(errors="replace")
            assert self.process.poll() is None, self.shown.decode(errors="replace")
            time.sleep(0.02)

    def end(self) -> tuple[int, str, str]:
        """Return the exit code, standard output, and the bytes sent to the terminal."""
        out, _ = self.process.communicate(timeout=120)
        self._reader.join()
        return self.process.returncode, out, self.shown.decode(errors="replace")


def test_a_terminal_shows_what_is_being_done_and_what_has_been(talkative: Desk, env: Environment) -> None:
    code, out, shown = Terminal(talkative, env).end()
    assert code == 0
    assert "Verified" in out
    assert "Verified" not in shown
    plain = CONTROL.sub("", shown)
    # The spinner of a step, and the line that stays of it.
    assert re.search(r"[\u2800-\u28ff] tracing handler.py", plain)
    for step in ("tracing handler.py with", "deciding about every file", "packing ", "running handler.py on the layer"):
        assert re.search(rf"\u2713 {step}[^\n]*\d s\n", plain), step
    assert "left" in plain  # the second run takes about as long as the first
    # What was shown for a while is gone, and the cursor is there again.
    assert shown.count("\x1b[?25l") == shown.count("\x1b[?25h")


def test_the_handlers_own_output_is_marked_as_its_own(talkative: Desk, env: Environment) -> None:
    _, out, shown = Terminal(talkative, env).end()
    plain = CONTROL.sub("", shown)
    for line in ("said in red: red", "10 %", "20 %", "and no line feed"):
        assert re.search(rf"handler.py \| {line} *\n", plain), line
        assert line not in out
    assert "\x1b[31mred" in shown
    ended = talkative.minimize(env)
    assert (
        "handler.py | said in red: red\nhandler.py | 10 %\nhandler.py | 20 %\nhandler.py | and no line feed\n"
        in ended.err
    )


@pytest.mark.parametrize("variables", [{"CI": "true"}, {"TERM": "dumb"}, {"TERM": ""}])
def test_lines_where_nobody_looks(talkative: Desk, env: Environment, variables: dict[str, str]) -> None:
    code, _, shown = Terminal(talkative, env, variables=variables).end()
    assert code == 0
    assert "\x1b[?25l" not in shown
    assert not re.search("[\u2800-\u28ff\u2713]", shown)
    plain = CONTROL.sub("", shown)
    for line in ("tracing handler.py with", "deciding about every file", "running handler.py on the layer alone"):
        assert line in plain


def test_no_terminal_gets_plain_lines_and_no_colours(talkative: Desk, env: Environment) -> None:
    ended = talkative.minimize(env)
    assert "\x1b" not in ended.err + ended.out
    assert "tracing handler.py with" in ended.err


def test_colours_as_they_are_wanted(talkative: Desk, env: Environment) -> None:
    ended = talkative.minimize(env, "--color", "always")
    assert "\x1b[32mVerified" in ended.out
    assert "\x1b[" in ended.err
    assert "\x1b[?25l" not in ended.err  # colours do not make a terminal
    for variables, arguments in (({}, ("--color", "never")), ({"NO_COLOR": "1"}, ())):
        _, _, shown = Terminal(talkative, env, *arguments, variables=variables).end()
        assert not re.search(r"\x1b\[(?:\d+;)*3\dm", shown)
        assert "\u2713" in shown
    talkative.output.unlink()
    talkative.fails(env, 2, ["\x1b[1;31mminimize: \x1b[0m"], "--color", "always", "--event", "no.json")


def test_quiet_and_verbose(talkative: Desk, env: Environment) -> None:
    assert talkative.minimize(env, "-q").err == ""
    loud = talkative.minimize(env, "-v").err
    assert "the run missed" in loud
    assert "the run missed" not in talkative.minimize(env).err
    _, out, shown = Terminal(talkative, env, "-q").end()
    assert shown == ""
    assert "Verified" in out


def test_what_a_failing_handler_says_with_q_is_its_error(desk: Desk, env: Environment) -> None:
    desk.write("handler.py", "import alpha\n\ndef handler(event, context):\n    print('before')\n    1 / 0\n")
    ended = desk.fails(env, 3, ["ZeroDivisionError"], "-q")
    assert "before" not in ended.err


def test_interrupted_on_a_terminal(talkative: Desk, env: Environment) -> None:
    terminal = Terminal(talkative, env)
    terminal.wait_for("tracing handler.py")
    terminal.process.send_signal(signal.SIGINT)
    code, out, shown = terminal.end()
    assert (code, out) == (130, "")
    assert "interrupted; nothing was written" in shown
    assert shown.count("\x1b[?25l") == shown.count("\x1b[?25h")
    assert not talkative.output.exists()


def test_a_suspended_command_leaves_the_cursor_to_the_shell(talkative: Desk, env: Environment) -> None:
    terminal = Terminal(talkative, env)
    terminal.wait_for("said in red")
    terminal.process.send_signal(signal.SIGTSTP)
    _, status = os.waitpid(terminal.process.pid, os.WUNTRACED)
    assert os.WIFSTOPPED(status)
    # Of the last display, too, which goes on.
    end = time.monotonic() + 10
    while terminal.shown.count(b"\x1b[?25l") != terminal.shown.count(b"\x1b[?25h"):
        assert time.monotonic() < end
        time.sleep(0.02)
    terminal.process.send_signal(signal.SIGCONT)
    code, out, shown = terminal.end()
    assert code == 0
    assert "Verified" in out
    assert shown.count("\x1b[?25l") == shown.count("\x1b[?25h")


def test_what_a_program_prints_by_the_megabyte_holds_nobody_up(desk: Desk, env: Environment) -> None:
    desk.write(
        "handler.py",
        "import alpha\n\ndef handler(event, context):\n    print('y' * (4 << 20), end='')\n    return alpha.VALUE\n",
    )
    assert " characters)" in desk.minimize(env).err  # which takes seconds; minutes are an error


def test_a_child_that_keeps_the_output_open_does_not_hold_the_command(desk: Desk, env: Environment) -> None:
    desk.write(
        "handler.py",
        "import subprocess, sys, alpha\n\ndef handler(event, context):\n"
        "    subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'], start_new_session=True)\n"
        "    return alpha.VALUE\n",
    )
    begun = time.monotonic()
    desk.minimize(env)
    assert time.monotonic() - begun < 100


def test_imports_are_timed_when_it_is_asked_for(desk: Desk, make_env: Callable[..., Environment]) -> None:
    env = make_env(MAIN)
    env.install("slow", {"slow.py": "import time\ntime.sleep(0.3)\nimport slower\n"})
    env.install("slower", {"slower.py": "import time\ntime.sleep(0.6)\nX = 1\n"})
    desk.write("handler.py", "import slow, slower\n\ndef handler(event, context):\n    return slower.X\n")
    report = json.loads(desk.minimize(env, "--json", "--time-imports").out)
    for when in ("before", "after"):
        times = report["import_time"][when]
        # Each without what it imports.
        assert 0.3 <= times["distributions"]["slow"] < 0.6
        assert 0.6 <= times["distributions"]["slower"] < 0.9
        assert times["seconds"] >= 0.9
    assert json.loads(desk.minimize(env, "--json").out)["import_time"] is None


def test_a_run_that_fails_when_it_is_timed_costs_no_layer(desk: Desk, env: Environment) -> None:
    desk.write(
        "handler.py",
        "import sys, alpha\n\ndef handler(event, context):\n    if '_layer_minimizer_probe' not in sys.modules:\n"
        "        raise RuntimeError('nobody looks')\n    return alpha.VALUE\n",
    )
    report = json.loads(desk.minimize(env, "--json", "--time-imports").out)
    assert report["import_time"] is None
    assert [warning for warning in report["warnings"] if "imports were not timed" in warning] == [
        "imports were not timed: handler.py ended with exit code 1 (RuntimeError: nobody looks)"
    ]
    assert desk.output.exists()
