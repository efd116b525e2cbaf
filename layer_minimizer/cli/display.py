"""Show on standard error what the command is doing: a live display on a terminal, plain lines elsewhere."""

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
_MAX_LINE_LENGTH = 2000
_BAR_WIDTH = 24
_TIMES_WIDTH = 40
_MIN_LABEL_WIDTH = 24
# Terminal control other than colours and text styles: strings such as titles, escape sequences, control characters.
_CONTROL = re.compile(
    r"\x1b[\]PX^_].*?(?:\x07|\x1b\\|$)|\x1b\[[0-?]*[ -/]*(?:[@-ln-~]|$)|\x1b(?!\[)[ -/]*[0-~]?"
    r"|[\x00-\x08\x0a-\x1a\x1c-\x1f\x7f-\x9f]"
)
_SHOW_CURSOR, _HIDE_CURSOR = b"\x1b[?25h", b"\x1b[?25l"


def console(color: str, *, errors: bool = False) -> Console:
    """Return the console of standard output, or of standard error, with the value of ``--color``.

    "auto" uses colours on terminals only, and respects NO_COLOR and FORCE_COLOR.
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


def is_colored(color: str) -> bool:
    """Return whether standard output is coloured with this value of ``--color``."""
    output = console(color)
    return output.color_system is not None and not output.no_color


@contextmanager
def shown(*, level: int, color: str) -> Iterator[None]:
    """Show the log and the progress on standard error inside the ``with`` block.

    Log records below ``level`` are not shown. Above logging.INFO, neither the progress nor the output of the traced
    program is shown.
    """
    errors = console(color, errors=True)
    handler = _Log(errors)
    logging.basicConfig(level=level, format="%(message)s", handlers=[handler], force=True)
    listener: progress.Listener = _Quiet(errors)
    if level <= logging.INFO:
        listener = _Live(errors) if _is_interactive(errors) else _Lines(console=errors)
    with progress.use_listener(listener):
        try:
            yield
        finally:
            if isinstance(listener, _Live):
                listener.close()


def _is_interactive(errors: Console) -> bool:
    """Return whether standard error is a terminal that can show a live display, outside CI."""
    is_capable = errors.is_terminal and sys.stderr.isatty() and not errors.is_dumb_terminal
    return is_capable and bool(os.environ.get("TERM")) and not os.environ.get("CI")


def _program_output(who: str, lines: str) -> Text:
    """Return output of the traced program, each line prefixed with its name."""
    return Text("\n").join(_program_line(who, line) for line in lines.split("\n"))


def _program_line(who: str, line: str) -> Text:
    if not who:
        return Text.from_ansi(line)
    shortened = line if len(line) <= _MAX_LINE_LENGTH else f"{line[:_MAX_LINE_LENGTH]} … ({len(line):,} characters)"
    shortened = _CONTROL.sub("", shortened)
    return Text.assemble((f"{who} | ", "dim cyan"), Text.from_ansi(shortened))


class _Log(logging.Handler):
    """Prints log records, above the live display if there is one."""

    def __init__(self, errors: Console) -> None:
        super().__init__()
        self._console = errors

    def emit(self, record: logging.LogRecord) -> None:
        """Print a record."""
        self._console.print(Text(self.format(record), _STYLES.get(record.levelno, "")))


@dataclass(slots=True)
class _Quiet:
    """Shows no progress."""

    console: Console

    def begin(self, step: Step) -> None:
        """Handle the start of a step."""

    def advance(self, step: Step) -> None:
        """Handle the progress of a step."""

    def end(self, step: Step) -> None:
        """Handle the end of a step."""

    def on_output(self, who: str, lines: str) -> None:
        """Print output of this command in a container, which follows ``--quiet`` itself; ignore that of programs."""
        if not who:
            self.console.print(_program_output(who, lines))


@dataclass(slots=True, kw_only=True)
class _Lines(progress.LogListener):
    """Shows progress as plain lines, with the output of the traced program."""

    console: Console

    def on_output(self, who: str, lines: str) -> None:
        """Print output of the traced program."""
        self.console.print(_program_output(who, lines))


class _TimeColumn(ProgressColumn):
    """The amount of a step that is done, and the time left or, if unknown, the time passed."""

    def get_table_column(self) -> Column:
        """Return a column that does not wrap."""
        return Column(no_wrap=True)

    def render(self, task: Task) -> Text:
        """Return the text of one step."""
        step: Step = task.fields["step"]
        time = step.left or f"{step.seconds:.0f} s"
        return Text("  ".join(filter(None, (step.progress, time))), "dim")


class _BarColumn(ProgressColumn):
    """A progress bar, for steps whose progress is known."""

    def render(self, task: Task) -> ProgressBar | Text:
        """Return the bar of one step."""
        step: Step = task.fields["step"]
        return ProgressBar(1.0, step.share, width=_BAR_WIDTH) if step.total or step.expected else Text("")


class _Live:
    """Shows the running steps at the bottom of a terminal, and prints a line for each step that has ended."""

    def __init__(self, errors: Console) -> None:
        self._console = errors
        self._tasks: dict[int, TaskID] = {}
        self._progress: Progress | None = None
        if signal.getsignal(signal.SIGTSTP) is signal.SIG_DFL:
            signal.signal(signal.SIGTSTP, self._suspend)

    def close(self) -> None:
        """Stop the display and restore the terminal."""
        if self._progress is not None:
            self._progress.stop()
            self._progress = None
        if signal.getsignal(signal.SIGTSTP) == self._suspend:
            signal.signal(signal.SIGTSTP, signal.SIG_DFL)

    def _suspend(self, number: int, _frame: FrameType | None) -> None:
        """Show the cursor while the command is suspended by Ctrl-Z."""
        os.write(sys.stderr.fileno(), _SHOW_CURSOR)
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
        signal.signal(number, self._suspend)
        if self._progress is not None:
            os.write(sys.stderr.fileno(), _HIDE_CURSOR)

    def begin(self, step: Step) -> None:
        """Handle the start of a step."""
        if self._progress is None:
            label = TextColumn(
                "{task.description}", markup=False, table_column=Column(no_wrap=True, overflow="ellipsis")
            )
            self._progress = Progress(
                SpinnerColumn(), label, _BarColumn(), _TimeColumn(), console=self._console, transient=True
            )
            self._progress.start()
        self._tasks[id(step)] = self._progress.add_task(self._label(step), total=None, step=step)

    def advance(self, step: Step) -> None:
        """Handle the progress or a new note of a step."""
        if self._progress is not None:
            self._progress.update(self._tasks[id(step)], description=self._label(step))

    def _label(self, step: Step) -> str:
        """Return the step's text, cut to the space left of the bar and the times."""
        label = ("  " if step.inner else "") + (step.note or step.what)
        bar = _BAR_WIDTH if step.total or step.expected else 0
        room = max(self._console.width - _TIMES_WIDTH - bar, _MIN_LABEL_WIDTH)
        return label if len(label) <= room else f"{label[: room - 1]}…"

    def end(self, step: Step) -> None:
        """Handle the end of a step."""
        if self._progress is None:
            return
        self._progress.remove_task(self._tasks.pop(id(step)))
        if not step.inner:
            mark = Text("✗ ", "red") if step.failed else Text("✓ ", "green")
            self._console.print(Text.assemble(mark, step.what, (f"  {step.seconds:.1f} s", "dim")))
        if not self._tasks:
            self._progress.stop()
            self._progress = None

    def on_output(self, who: str, lines: str) -> None:
        """Print output of the traced program."""
        self._console.print(_program_output(who, lines))
