"""Reports of progress."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import pytest

from layer_minimizer.core import progress
from layer_minimizer.core.progress import Step

if TYPE_CHECKING:
    from collections.abc import Iterator


class Recorder:
    """Records all reports."""

    def __init__(self) -> None:
        self.reports: list[tuple[object, ...]] = []

    def begin(self, step: Step) -> None:
        self.reports.append(("begin", step.what, step.inner))

    def advance(self, step: Step) -> None:
        self.reports.append(("advance", step.what, step.done, step.note))

    def end(self, step: Step) -> None:
        self.reports.append(("end", step.what, step.failed))

    def on_output(self, who: str, line: str) -> None:
        self.reports.append(("output", who, line))


@pytest.fixture
def recorder() -> Iterator[Recorder]:
    recorder = Recorder()
    with progress.use_listener(recorder):
        yield recorder


def test_steps_begin_advance_and_end_within_each_other(recorder: Recorder) -> None:
    with progress.step("packing"):
        with progress.step("zipping", total=10) as inner:
            inner.advance(4)
        progress.note("nearly done")
    assert recorder.reports == [
        ("begin", "packing", False),
        ("begin", "zipping", True),
        ("advance", "zipping", 4, ""),
        ("end", "zipping", False),
        ("advance", "packing", 0, "nearly done"),
        ("end", "packing", False),
    ]


def test_a_step_that_fails_ends_as_failed(recorder: Recorder) -> None:
    with pytest.raises(KeyError), progress.step("packing"), progress.step("zipping"):
        raise KeyError
    with progress.step("again"):
        pass
    assert recorder.reports[2:4] == [("end", "zipping", True), ("end", "packing", True)]
    assert recorder.reports[4] == ("begin", "again", False)


def test_lines_of_the_program_reach_the_listener(recorder: Recorder) -> None:
    on_output = progress.output_callback("handler.py")
    assert on_output is not None
    on_output("hello")
    assert recorder.reports == [("output", "handler.py", "hello")]


def test_without_a_listener_steps_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    assert progress.output_callback("handler.py") is None
    with progress.step("packing"), progress.step("zipping", total=10) as inner:
        inner.advance()
    assert caplog.messages == ["packing"]


def test_long_steps_are_logged_again(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    with progress.step("packing"), progress.step("zipping", total=80_000_000, in_bytes=True) as inner:
        inner.begun -= 30
        inner.advance(20_000_000)
        inner.advance(20_000_000)  # no second line so soon
    assert caplog.messages == ["packing", "zipping: 20 of 80 MB, about 1 min 30 s left"]


@pytest.mark.parametrize(
    ("fields", "share", "text", "left"),
    [
        ({"total": 4, "done": 1}, 0.25, "1 of 4", "about 30 s left"),
        ({"total": 4_000_000, "bytes": True, "done": 4_000_000}, 1.0, "4 of 4 MB", "about 0 s left"),
        ({"total": 4}, 0.0, "0 of 4", ""),
        ({"expected": 40.0}, 0.25, "", "about 30 s left"),
        ({"expected": 5.0}, 0.99, "", ""),
        ({}, 0.0, "", ""),
    ],
)
def test_progress_and_remaining_time_of_a_step(fields: dict[str, float], share: float, text: str, left: str) -> None:
    step = Step("work", **fields)  # type: ignore[arg-type]
    step.begun -= 10
    assert round(step.share, 2) == share
    assert (step.progress, step.left) == (text, left)
