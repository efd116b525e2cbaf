"""Observed runs: the choice of observers, the environment of the run, and failures."""

import os
from pathlib import Path
from typing import Any

import pytest

from layer_minimizer.core.errors import RunnerError
from layer_minimizer.execution import strace
from layer_minimizer.execution.observed_run import Observer, choose_observers, free_space_hint
from layer_minimizer.execution.probe_facts import parse_fact


@pytest.fixture
def no_strace(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    monkeypatch.setenv("PATH", str(tmp_path))
    strace.try_out.cache_clear()
    yield
    strace.try_out.cache_clear()


@pytest.mark.usefixtures("no_strace")
def test_without_strace_only_the_probe_observes() -> None:
    assert choose_observers("auto") == (Observer.PROBE,)
    assert strace.problem() == "it is not installed"
    with pytest.raises(RunnerError, match="--observe strace: strace cannot be used: it is not installed"):
        choose_observers("strace")


def test_a_nearly_full_disk_is_mentioned_and_another_is_not(tmp_path: Path) -> None:
    free = os.statvfs(tmp_path)
    if free.f_bavail * free.f_frsize < 1 << 22:
        pytest.skip("this disk is nearly full indeed")
    assert free_space_hint(tmp_path) == ""
    if Path("/sys/kernel").is_dir() and os.statvfs("/sys").f_bavail == 0:
        assert "set TMPDIR" in free_space_hint(Path("/sys"))


@pytest.mark.parametrize(
    "fact",
    [
        ("process", 17),
        ("module", "a.b", "/site/a/b.py", "handler", 12),
        ("open", "/site/it's"),
        ("open", '/site/"both" it\'s'),
        ("open", "/site/back\\slash and \n and \u00fc"),
        ("note", "woke pkg.a for 'x', 'y'"),
        ("missing", ""),
    ],
)
def test_a_fact_is_read_as_it_was_written(fact: tuple[object, ...]) -> None:
    line = f"{fact!a}\n"
    assert list(parse_fact(line)) == [fact]
    # A process that was killed while it wrote has left a part of a line in front.
    assert list(parse_fact(f"('open', '/site/pa{line}")) == [fact]
    assert list(parse_fact("('open', '/site/pa\n")) == []
