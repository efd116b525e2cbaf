"""Tells whoever listens what is being done, how far it is, and what the program that runs has to say.

The work says it with `step`, `note` and `hearer`, and knows nothing of terminals. Without a listener of its own, as
when the package is used as a library, what begins goes to the log and the program's output to standard error.
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
# Where there is no display, a step has a line when it took so long, and then after as long again, up to a minute.
_SECONDS_BETWEEN_LINES, _LONGEST_SILENCE = 10.0, 60.0
_BYTES = 1e6


@dataclass(slots=True)
class Step:
    """A piece of work.

    ``total`` is what there is to do, in bytes if ``bytes`` says so, and ``done`` how much of it is; where that is not
    known, ``expected`` is a guess at the seconds that it takes, and ``limit`` the seconds after which it ends soon.
    ``note`` says what just this moment is done. ``inner`` steps are parts of another one.
    """

    what: str
    total: int = 0
    bytes: bool = False
    expected: float = 0.0
    limit: float = 0.0
    inner: bool = False
    done: int = 0
    note: str = ""
    failed: bool = False
    begun: float = field(default_factory=time.monotonic)

    def advance(self, done: int = 1) -> None:
        """Say that so much more is done."""
        self.done += done
        _listener().advance(self)

    @property
    def seconds(self) -> float:
        """How long it has taken by now."""
        return time.monotonic() - self.begun

    @property
    def share(self) -> float:
        """How much of it is done, from 0 to 1; 0 where that is not known."""
        if self.total:
            return min(self.done / self.total, 1.0)
        return min(self.seconds / self.expected, 0.99) if self.expected else 0.0

    @property
    def progress(self) -> str:
        """Say how much is done."""
        if not self.total:
            return ""
        if self.bytes:
            return f"{self.done / _BYTES:,.0f} of {self.total / _BYTES:,.0f} MB"
        return f"{self.done:,} of {self.total:,}"

    @property
    def left(self) -> str:
        """Say how much time is left, as far as that can be told."""
        if self.limit:
            return f"up to {_time(self.limit - self.seconds)} left" if self.limit > self.seconds else "nearly done"
        if self.total and self.done:
            return f"about {_time(self.seconds * (self.total - self.done) / self.done)} left"
        if self.expected > self.seconds:
            return f"about {_time(self.expected - self.seconds)} left"
        return ""


def _time(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


class Listener(Protocol):
    """Whoever shows what is told."""

    def begin(self, step: Step) -> None:
        """See a step that begins."""

    def advance(self, step: Step) -> None:
        """See that a step got further, or has another note."""

    def end(self, step: Step) -> None:
        """See a step that has ended; ``failed`` says how."""

    def hear(self, who: str, lines: str) -> None:
        """Take lines that the program ``who`` has written; without a name it is this very command, elsewhere."""


@dataclass(slots=True)
class Lines:
    """Says in the log what begins, and now and then how far it is."""

    _next: dict[int, float] = field(default_factory=dict)

    def begin(self, step: Step) -> None:
        """See a step that begins."""
        self._next[id(step)] = _SECONDS_BETWEEN_LINES
        if not step.inner:
            log.info("%s", step.what)

    def advance(self, step: Step) -> None:
        """See that a step got further, or has another note."""
        if step.seconds >= self._next[id(step)]:
            self._next[id(step)] = step.seconds + min(step.seconds, _LONGEST_SILENCE)
            log.info("%s", ", ".join(filter(None, (f"{step.what}: {step.progress or step.note}", step.left))))

    def end(self, step: Step) -> None:
        """See a step that has ended."""
        self._next.pop(id(step), None)

    def hear(self, who: str, lines: str) -> None:
        """Take lines that the program ``who`` has written."""
        for line in lines.split("\n"):
            log.info("%s", f"{who} | {line}" if who else line)


_LISTENER: ContextVar[Listener | None] = ContextVar("listener", default=None)
_STEPS: ContextVar[tuple[Step, ...]] = ContextVar("steps", default=())
_LINES = Lines()


def _listener() -> Listener:
    return _LISTENER.get() or _LINES


@contextmanager
def listening(listener: Listener) -> Iterator[None]:
    """Let ``listener`` be told, for as long as this lasts."""
    token = _LISTENER.set(listener)
    try:
        yield
    finally:
        _LISTENER.reset(token)


@contextmanager
def step(
    what: str, *, total: int = 0, in_bytes: bool = False, expected: float = 0.0, limit: float = 0.0
) -> Iterator[Step]:
    """Tell that a piece of work begins, and when it has ended; a step within another one is a part of it."""
    above = _STEPS.get()
    made = Step(what, total, in_bytes, expected, limit, inner=bool(above))
    token = _STEPS.set((*above, made))
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
    """Say what just this moment is done within the step."""
    steps = _STEPS.get()
    if steps:
        steps[-1].note = text
        _listener().advance(steps[-1])
    log.debug("%s", text)


def output_listener(who: str) -> Callable[[str], None] | None:
    """Return what takes the lines of ``who``, see `Listener.hear`; None where they go to standard error as they are."""
    listener = _LISTENER.get()
    return None if listener is None else lambda lines: listener.hear(who, lines)


_STAGES = ("trace", "search", "plan", "pack", "verify")


@dataclass(slots=True)
class Clock:
    """Says what is being done, and measures how long each of the stages takes."""

    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(_STAGES, 0.0))

    @contextmanager
    def stage(self, name: str, what: str, *, expected: float = 0.0, limit: float = 0.0) -> Iterator[None]:
        """Announce a piece of work, and count its seconds as the stage's ``name``.

        ``expected`` and ``limit`` are those of a `progress.Step`.
        """
        begun = time.monotonic()
        try:
            with step(what, expected=expected, limit=limit):
                yield
        finally:
            self.seconds[name] = round(self.seconds[name] + time.monotonic() - begun, 3)
