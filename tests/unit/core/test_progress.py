"""What is told of the work while it goes on."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import pytest

from layer_minimizer.core import progress
from layer_minimizer.core.progress import Step

if TYPE_CHECKING:
    from collections.abc import Iterator


class Notes:
    """Takes down all that it is told."""

    def __init__(self) -> None:
        self.told: list[tuple[object, ...]] = []

    def begin(self, step: Step) -> None:
        self.told.append(("begin", step.what, step.inner))

    def advance(self, step: Step) -> None:
        self.told.append(("advance", step.what, step.done, step.note))

    def end(self, step: Step) -> None:
        self.told.append(("end", step.what, step.failed))

    def hear(self, who: str, line: str) -> None:
        self.told.append(("hear", who, line))


@pytest.fixture
def notes() -> Iterator[Notes]:
    made = Notes()
    with progress.listening(made):
        yield made


def test_steps_begin_advance_and_end_within_each_other(notes: Notes) -> None:
    with progress.step("packing"):
        with progress.step("zipping", total=10) as inner:
            inner.advance(4)
        progress.note("nearly done")
    assert notes.told == [
        ("begin", "packing", False),
        ("begin", "zipping", True),
        ("advance", "zipping", 4, ""),
        ("end", "zipping", False),
        ("advance", "packing", 0, "nearly done"),
        ("end", "packing", False),
    ]


def test_a_step_that_fails_is_told_so_and_the_next_is_no_part_of_it(notes: Notes) -> None:
    with pytest.raises(KeyError), progress.step("packing"), progress.step("zipping"):
        raise KeyError
    with progress.step("again"):
        pass
    assert notes.told[2:4] == [("end", "zipping", True), ("end", "packing", True)]
    assert notes.told[4] == ("begin", "again", False)


def test_lines_of_the_program_reach_the_listener(notes: Notes) -> None:
    hear = progress.output_listener("handler.py")
    assert hear is not None
    hear("hello")
    assert notes.told == [("hear", "handler.py", "hello")]


def test_without_a_listener_the_log_says_what_begins(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    assert progress.output_listener("handler.py") is None
    with progress.step("packing"), progress.step("zipping", total=10) as inner:
        inner.advance()
    assert caplog.messages == ["packing"]


def test_what_takes_long_says_how_far_it_is(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    with progress.step("packing"), progress.step("zipping", total=80_000_000, in_bytes=True) as inner:
        inner.begun -= 30
        inner.advance(20_000_000)
        inner.advance(20_000_000)  # no second line so soon
    assert caplog.messages == ["packing", "zipping: 20 of 80 MB, about 1 min 30 s left"]


@pytest.mark.parametrize(
    ("fields", "share", "told", "left"),
    [
        ({"total": 4, "done": 1}, 0.25, "1 of 4", "about 30 s left"),
        ({"total": 4_000_000, "bytes": True, "done": 4_000_000}, 1.0, "4 of 4 MB", "about 0 s left"),
        ({"total": 4}, 0.0, "0 of 4", ""),
        ({"expected": 40.0}, 0.25, "", "about 30 s left"),
        ({"expected": 5.0}, 0.99, "", ""),
        ({"limit": 300.0}, 0.0, "", "up to 4 min 50 s left"),
        ({"limit": 5.0}, 0.0, "", "nearly done"),
        ({}, 0.0, "", ""),
    ],
)
def test_what_is_known_of_a_step(fields: dict[str, float], share: float, told: str, left: str) -> None:
    step = Step("work", **fields)  # type: ignore[arg-type]
    step.begun -= 10
    assert round(step.share, 2) == share
    assert (step.progress, step.left) == (told, left)
