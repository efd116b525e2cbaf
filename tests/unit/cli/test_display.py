"""The bytes sent to a terminal: colours, but no control sequences of the traced program."""

from __future__ import annotations

import contextlib
import io
import logging
import pty
import sys
from typing import TYPE_CHECKING

import pytest

from layer_minimizer.cli import display
from layer_minimizer.core import progress

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(autouse=True)
def _log() -> Iterator[None]:
    """Restore the logging configuration for the other tests."""
    handlers, level = logging.root.handlers[:], logging.root.level
    yield
    logging.root.handlers[:] = handlers
    logging.root.setLevel(level)


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("\x1b[2J\x1b[Hafter \x1b[10;10Hit\x1b[?25l\x1b[?1049h", "after it"),
        ("\x1b]0;a title\x07x\x1b]8;;http://there\x1b\\link\x1b]8;;\x1b\\", "xlink"),
        ("\x1bPq#0\x1b\\x\x1b]0;it has no end", "x"),
        ("\x1bcreset\x1b(0line\x1b7\x1b", "resetline"),
        ("so\x0e si\x0f bell\x07 nul\x00 c1\x9b2J", "so si bell nul c12J"),
        ("\x1b[31mred\x1b[0m", "\x1b[31mred\x1b[0m"),
    ],
)
def test_control_sequences_of_programs_are_removed(monkeypatch: pytest.MonkeyPatch, said: str, shown: str) -> None:
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    with display.shown(level=logging.INFO, color="always"):
        hear = progress.output_callback("handler.py")
        assert hear is not None
        hear(said)
    assert stream.getvalue().partition(" | \x1b[0m")[2] == f"{shown}\n"


def test_each_line_of_a_program_is_marked(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    with display.shown(level=logging.INFO, color="never"):
        hear = progress.output_callback("handler.py")
        assert hear is not None
        hear("one\n\ntwo")
    assert stream.getvalue() == "handler.py | one\nhandler.py | \nhandler.py | two\n"


def test_the_cursor_is_restored_after_an_interrupt(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_arguments: object, **_more: object) -> None:
        raise KeyboardInterrupt

    # It comes just as the display has begun, and before the step is known.
    monkeypatch.setattr(display.Progress, "add_task", interrupt)
    monkeypatch.delenv("CI", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    ours, theirs = pty.openpty()
    with open(theirs, "w", encoding="utf-8") as terminal:
        monkeypatch.setattr(sys, "stderr", terminal)
        with (
            pytest.raises(KeyboardInterrupt),
            display.shown(level=logging.INFO, color="auto"),
            progress.step("a step"),
        ):
            pass
    shown = b""
    with contextlib.suppress(OSError), open(ours, "rb", buffering=0) as screen:  # its end is an error
        while data := screen.read(1 << 16):
            shown += data
    assert shown.count(b"\x1b[?25l") == shown.count(b"\x1b[?25h") == 1
