"""Shows on standard error what the command is doing: a live display on a terminal, plain lines elsewhere."""

from __future__ import annotations

import logging
import os
import re
import signal
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import Progress, ProgressColumn, SpinnerColumn, Task, TaskID, TextColumn
from rich.progress_bar import ProgressBar
from rich.table import Column
from rich.text import Text

from layer_minimizer.core import progress

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

    from layer_minimizer.core.progress import Step

_STYLES = {logging.ERROR: "bold red", logging.WARNING: "yellow", logging.DEBUG: "dim"}
_LONGEST_LINE = 2000
_BAR_WIDTH = 24
_ROOM_FOR_TIMES = 40
_LEAST_WIDTH = 24
# What a terminal would obey, but for colours and the like: strings such as titles, sequences, single characters.
_ORDERS = re.compile(
    r"\x1b[\]PX^_].*?(?:\x07|\x1b\\|$)|\x1b\[[0-?]*[ -/]*(?:[@-ln-~]|$)|\x1b(?!\[)[ -/]*[0-~]?"
    r"|[\x00-\x08\x0a-\x1a\x1c-\x1f\x7f-\x9f]"
)
_SHOW_CURSOR, _HIDE_CURSOR = b"\x1b[?25h", b"\x1b[?25l"


def console(color: str, *, errors: bool = False) -> Console:
    """Return the console of standard output, or of standard error, coloured as ``--color`` says.

    "auto" is for terminals alone, and obeys NO_COLOR and FORCE_COLOR.
    """
    return Console(
        file=sys.stderr if errors else sys.stdout,
        force_terminal=True if color == "always" else None,
        color_system={"always": "256", "never": None}.get(color, "auto"),
        no_color=False if color == "always" else None,
        highlight=False,
        markup=False,
        emoji=False,
        soft_wrap=True,
    )


@contextmanager
def shown(*, level: int, color: str) -> Iterator[None]:
    """Let the log and the progress appear on standard error, for as long as this lasts.

    ``level`` is the least that is shown of the log: above logging.INFO neither progress nor what the traced program
    writes appears.
    """
    errors = console(color, errors=True)
    handler = _Log(errors)
    logging.basicConfig(level=level, format="%(message)s", handlers=[handler], force=True)
    listener: progress.Listener = _Quiet(errors)
    if level <= logging.INFO:
        listener = _Live(errors) if _is_watched(errors) else _Lines(console=errors)
    with progress.listening(listener):
        try:
            yield
        finally:
            if isinstance(listener, _Live):
                listener.close()


def _is_watched(errors: Console) -> bool:
    """Return whether standard error is a terminal that can show a display, with a person before it."""
    able = errors.is_terminal and sys.stderr.isatty() and not errors.is_dumb_terminal
    return able and bool(os.environ.get("TERM")) and not os.environ.get("CI")


def _of_program(who: str, lines: str) -> Text:
    """Mark lines of the traced program as its own; many at once, since a program is not to wait for each."""
    return Text("\n").join(_line_of_program(who, line) for line in lines.split("\n"))


def _line_of_program(who: str, line: str) -> Text:
    if not who:
        return Text.from_ansi(line)
    shortened = line if len(line) <= _LONGEST_LINE else f"{line[:_LONGEST_LINE]} … ({len(line):,} characters)"
    shortened = _ORDERS.sub("", shortened)
    return Text.assemble((f"{who} | ", "dim cyan"), Text.from_ansi(shortened))


class _Log(logging.Handler):
    """Prints what is logged, above the live display if there is one."""

    def __init__(self, errors: Console) -> None:
        super().__init__()
        self._console = errors

    def emit(self, record: logging.LogRecord) -> None:
        """Print a record."""
        self._console.print(Text(self.format(record), _STYLES.get(record.levelno, "")))


@dataclass(slots=True)
class _Quiet:
    """Shows nothing of the work."""

    console: Console

    def begin(self, step: Step) -> None:
        """See a step that begins."""

    def advance(self, step: Step) -> None:
        """See that a step got further."""

    def end(self, step: Step) -> None:
        """See a step that has ended."""

    def hear(self, who: str, lines: str) -> None:
        """Take lines that somebody else has written: this command in a container is as quiet as it was told."""
        if not who:
            self.console.print(_of_program(who, lines))


@dataclass(slots=True, kw_only=True)
class _Lines(progress.Lines):
    """Shows lines, those of the traced program among them."""

    console: Console

    def hear(self, who: str, lines: str) -> None:
        """Take lines that the traced program has written."""
        self.console.print(_of_program(who, lines))


class _Left(ProgressColumn):
    """What is done of a step, and how much time is left or, where nobody knows, has passed."""

    def get_table_column(self) -> Column:
        """Return a column that is as wide as its text."""
        return Column(no_wrap=True)

    def render(self, task: Task) -> Text:
        """Return the text of one step."""
        step: Step = task.fields["step"]
        told = step.left or f"{step.seconds:.0f} s"
        return Text("  ".join(filter(None, (step.progress, told))), "dim")


class _Bar(ProgressColumn):
    """A bar, for steps of which it is known how far they are."""

    def render(self, task: Task) -> ProgressBar | Text:
        """Return the bar of one step."""
        step: Step = task.fields["step"]
        return ProgressBar(1.0, step.share, width=_BAR_WIDTH) if step.total or step.expected else Text("")


class _Live:
    """Shows the steps that are under way at the bottom of a terminal, and leaves a line for each that has ended."""

    def __init__(self, errors: Console) -> None:
        self._console = errors
        self._tasks: dict[int, TaskID] = {}
        self._progress: Progress | None = None
        if signal.getsignal(signal.SIGTSTP) is signal.SIG_DFL:
            signal.signal(signal.SIGTSTP, self._suspend)

    def close(self) -> None:
        """Leave the terminal as it was, whatever came in between."""
        if self._progress is not None:
            self._progress.stop()
            self._progress = None
        if signal.getsignal(signal.SIGTSTP) == self._suspend:
            signal.signal(signal.SIGTSTP, signal.SIG_DFL)

    def _suspend(self, number: int, _frame: FrameType | None) -> None:
        """Let the shell have its cursor for as long as the command is stopped."""
        os.write(sys.stderr.fileno(), _SHOW_CURSOR)
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
        signal.signal(number, self._suspend)
        if self._progress is not None:
            os.write(sys.stderr.fileno(), _HIDE_CURSOR)

    def begin(self, step: Step) -> None:
        """See a step that begins."""
        if self._progress is None:
            what = TextColumn(
                "{task.description}", markup=False, table_column=Column(no_wrap=True, overflow="ellipsis")
            )
            self._progress = Progress(SpinnerColumn(), what, _Bar(), _Left(), console=self._console, transient=True)
            self._progress.start()
        self._tasks[id(step)] = self._progress.add_task(self._described(step), total=None, step=step)

    def advance(self, step: Step) -> None:
        """See that a step got further, or has another note."""
        if self._progress is not None:
            self._progress.update(self._tasks[id(step)], description=self._described(step))

    def _described(self, step: Step) -> str:
        """Return what fits into a line beside the bar and the times."""
        told = ("  " if step.inner else "") + (step.note or step.what)
        bar = _BAR_WIDTH if step.total or step.expected else 0
        room = max(self._console.width - _ROOM_FOR_TIMES - bar, _LEAST_WIDTH)
        return told if len(told) <= room else f"{told[: room - 1]}…"

    def end(self, step: Step) -> None:
        """See a step that has ended."""
        if self._progress is None:
            return
        self._progress.remove_task(self._tasks.pop(id(step)))
        if not step.inner:
            mark = Text("✗ ", "red") if step.failed else Text("✓ ", "green")
            self._console.print(Text.assemble(mark, step.what, (f"  {step.seconds:.1f} s", "dim")))
        if not self._tasks:
            self._progress.stop()
            self._progress = None

    def hear(self, who: str, lines: str) -> None:
        """Take lines that the traced program has written."""
        self._console.print(_of_program(who, lines))
