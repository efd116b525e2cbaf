"""Report progress: the current step, how much of it is done, and the output of the program that runs.

Stages report progress through `step`, `note` and `output_callback`. A listener, such as the terminal display, shows it.
Without a listener, as when the package is used as a library, steps are logged and the program's output goes to standard
error.
"""

from __future__ import annotations

import logging
import time
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

log = logging.getLogger(__name__)
# Without a display a long step is logged again: first after 10 s, then each time it has taken twice as long, but at
# least once a minute.
_SECONDS_BETWEEN_LINES, _LONGEST_SILENCE = 10.0, 60.0
_BYTES = 1e6


@dataclass(slots=True)
class Step:
    """A piece of work whose progress is reported.

    Attributes:
        what: what is done, for the display.
        total: the amount of work; 0 if it is not known.
        bytes: whether ``total`` and ``done`` are bytes.
        expected: the estimated duration in seconds; 0 if it is not known.
        inner: whether it is a part of another step.
        done: the amount of work that is done.
        note: what is being done at the moment.
        failed: whether it has ended with an error.
        begun: when it began (``time.monotonic()``).
    """

    what: str
    total: int = 0
    bytes: bool = False
    expected: float = 0.0
    inner: bool = False
    done: int = 0
    note: str = ""
    failed: bool = False
    begun: float = field(default_factory=time.monotonic)

    def advance(self, done: int = 1) -> None:
        """Add to the amount of work that is done."""
        self.done += done
        _listener().advance(self)

    @property
    def seconds(self) -> float:
        """The seconds since it began."""
        return time.monotonic() - self.begun

    @property
    def share(self) -> float:
        """The fraction that is done, from 0 to 1; 0 if it is not known."""
        if self.total:
            return min(self.done / self.total, 1.0)
        return min(self.seconds / self.expected, 0.99) if self.expected else 0.0

    @property
    def progress(self) -> str:
        """The amount of work that is done, as text."""
        if not self.total:
            return ""
        if self.bytes:
            return f"{self.done / _BYTES:,.0f} of {self.total / _BYTES:,.0f} MB"
        return f"{self.done:,} of {self.total:,}"

    @property
    def left(self) -> str:
        """The remaining time, as text; empty if it cannot be estimated."""
        if self.total and self.done:
            return f"about {_time(self.seconds * (self.total - self.done) / self.done)} left"
        if self.expected > self.seconds:
            return f"about {_time(self.expected - self.seconds)} left"
        return ""


def _time(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


class Listener(Protocol):
    """Shows progress."""

    def begin(self, step: Step) -> None:
        """Called when a step begins."""

    def advance(self, step: Step) -> None:
        """Called when more of a step is done, or its note has changed."""

    def end(self, step: Step) -> None:
        """Called when a step has ended, also after an error."""

    def on_output(self, who: str, lines: str) -> None:
        """Called with lines that the program ``who`` has printed; the name is empty for this command in a container."""


@dataclass(slots=True)
class LogListener:
    """Logs when steps begin, and from time to time how much of them is done."""

    _next: dict[int, float] = field(default_factory=dict)

    def begin(self, step: Step) -> None:
        """Called when a step begins."""
        self._next[id(step)] = _SECONDS_BETWEEN_LINES
        if not step.inner:
            log.info("%s", step.what)

    def advance(self, step: Step) -> None:
        """Called when more of a step is done, or its note has changed."""
        if step.seconds >= self._next[id(step)]:
            self._next[id(step)] = step.seconds + min(step.seconds, _LONGEST_SILENCE)
            log.info("%s", ", ".join(filter(None, (f"{step.what}: {step.progress or step.note}", step.left))))

    def end(self, step: Step) -> None:
        """Called when a step has ended."""
        self._next.pop(id(step), None)

    def on_output(self, who: str, lines: str) -> None:
        """Called with lines that the program ``who`` has printed."""
        for line in lines.split("\n"):
            log.info("%s", f"{who} | {line}" if who else line)


_LISTENER: ContextVar[Listener | None] = ContextVar("listener", default=None)
_STEPS: ContextVar[tuple[Step, ...]] = ContextVar("steps", default=())
_LOG_LISTENER = LogListener()


def _listener() -> Listener:
    return _LISTENER.get() or _LOG_LISTENER


@contextmanager
def use_listener(listener: Listener) -> Iterator[None]:
    """Report progress to ``listener`` within the context."""
    token = _LISTENER.set(listener)
    try:
        yield
    finally:
        _LISTENER.reset(token)


@contextmanager
def step(what: str, *, total: int = 0, in_bytes: bool = False, expected: float = 0.0) -> Iterator[Step]:
    """Report the beginning and the end of a step; steps within another one are parts of it."""
    outer = _STEPS.get()
    made = Step(what, total, in_bytes, expected, inner=bool(outer))
    token = _STEPS.set((*outer, made))
    listener = _listener()
    try:
        listener.begin(made)
        try:
            yield made
        except BaseException:
            made.failed = True
            raise
        finally:
            listener.end(made)
    finally:
        _STEPS.reset(token)


def note(text: str) -> None:
    """Set the note of the current step."""
    steps = _STEPS.get()
    if steps:
        steps[-1].note = text
        _listener().advance(steps[-1])
    log.debug("%s", text)


def output_callback(who: str) -> Callable[[str], None] | None:
    """Return a function that reports lines of the program ``who``; None if they go to standard error unchanged."""
    listener = _LISTENER.get()
    return None if listener is None else lambda lines: listener.on_output(who, lines)


_STAGES = ("trace", "search", "plan", "pack", "verify")


@dataclass(slots=True)
class Clock:
    """Reports the steps of the stages, and measures how long each stage takes.

    Attributes:
        seconds: duration of each stage so far.
    """

    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(_STAGES, 0.0))

    @contextmanager
    def stage(self, name: str, what: str, *, expected: float = 0.0) -> Iterator[None]:
        """Report a step, and add its duration to that of the stage ``name``.

        ``expected``: see `Step`.
        """
        begun = time.monotonic()
        try:
            with step(what, expected=expected):
                yield
        finally:
            self.seconds[name] = round(self.seconds[name] + time.monotonic() - begun, 3)
