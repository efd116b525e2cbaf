"""Observed runs: the choice of observers, the environment of the run, and failures."""

import os
from pathlib import Path
from typing import Any

import pytest

from layer_minimizer.core.errors import RunnerError
from layer_minimizer.execution import strace
from layer_minimizer.execution.observed_run import Observer, choose_observers, free_space_hint


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
