"""Observed runs: the choice of observers, the environment of the run, and failures."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from layer_minimizer.core.errors import RunnerError
from layer_minimizer.environment.workload import load_workload
from layer_minimizer.execution import process
from layer_minimizer.execution.observed_run import Observer, RunOptions, RunRecord, choose_observers, run_observed

Observe = Callable[..., RunRecord]


@pytest.fixture
def run(env: Any, write: Callable[..., Path], tmp_path: Path) -> Observe:
    def start(
        files: Mapping[str, str], observers: tuple[Observer, ...] = (Observer.PROBE,), **options: Any
    ) -> RunRecord:
        folder = write(tmp_path / "function", files)
        workload = load_workload(folder / next(iter(files)))
        return run_observed(workload, RunOptions(env.python, observers, **options), tmp_path / "scratch")

    return start


RETURN = {"handler.py": "def handler(event, context):\n    print('said')\n    return 5\n"}


@pytest.mark.usefixtures("strace")
def test_both_observers_are_chosen_where_both_work() -> None:
    both = (Observer.PROBE, Observer.STRACE)
    assert choose_observers("auto") == choose_observers("strace") == both
    assert choose_observers("probe") == (Observer.PROBE,)


def test_output_is_returned_unless_it_is_shown(run: Observe) -> None:
    observed = run(RETURN)
    assert observed.output == "said\n"
    assert observed.outcome is not None
    assert observed.outcome.results == (("(no event)", "5"),)
    assert observed.calls is None
    assert list(observed.system_calls()) == []


def test_shown_output_goes_to_standard_error(run: Observe, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(RETURN, show_output=True).output == ""
    assert capfd.readouterr() == ("", "said\n")


def test_a_run_that_ends_early_has_no_outcome(run: Observe) -> None:
    observed = run({"handler.py": "import os\nos.write(2, b'last words')\nos._exit(4)\ndef handler(e, c):\n    pass\n"})
    assert observed.outcome is None
    assert observed.ended.returncode == 4
    assert observed.output == "last words"
    assert [fact for fact in observed.probe_facts() if fact[:2] == ("module", "handler")]


def test_an_incomplete_fact_is_ignored(run: Observe) -> None:
    observed = run(RETURN)
    whole = list(observed.probe_facts())
    with observed.facts.open("a") as facts:
        facts.write("('open', '/x/y")
    assert list(observed.probe_facts()) == whole
    assert len(whole) == len(set(whole))
    assert whole[0] == ("process", whole[0][1])


@pytest.mark.usefixtures("strace")
def test_system_calls_have_absolute_paths(run: Observe) -> None:
    files = RETURN | {"handler.py": "open('data.txt').close()\n" + RETURN["handler.py"], "data.txt": "x"}
    observed = run(files, (Observer.PROBE, Observer.STRACE))
    assert str(observed.root / "data.txt") in {path for path, _, done in observed.system_calls() if done}


def test_folders_in_front_override_site_packages(
    run: Observe, env: Any, write: Callable[..., Path], tmp_path: Path
) -> None:
    env.install("pkg", {"where.py": "W = 'site'\n"})
    front = write(tmp_path / "front", {"where.py": "W = 'front'\n"})
    source = "import where\ndef handler(event, context):\n    return where.W\n"
    observed = run({"handler.py": source}, sys_path_front=(str(front),))
    assert observed.outcome is not None
    assert observed.outcome.results == (("(no event)", '"front"'),)


def test_children_inherit_the_path(run: Observe, write: Callable[..., Path], tmp_path: Path) -> None:
    extra = write(tmp_path / "extra", {"where.py": "print('found')\n"})
    source = """
import subprocess, sys

def handler(event, context):
    return subprocess.run([sys.executable, "-c", "import where"], stdout=subprocess.PIPE).stdout.decode()
"""
    observed = run({"handler.py": source}, path_entries=(str(extra),))
    assert observed.outcome is not None
    assert observed.outcome.results == (("(no event)", '"found\\n"'),)


def test_output_of_a_script_that_is_not_utf8_is_exact(run: Observe) -> None:
    observed = run({"script.py": "import os\nos.write(1, b'a\\xffb')\n"})
    assert observed.outcome is not None
    assert observed.outcome.results == (("stdout", "a\\xffb"),)


def test_isolation_that_is_impossible_is_an_error_of_the_runner(run: Observe, tmp_path: Path) -> None:
    isolation = process.Isolation(hide=(str(tmp_path / "absent"),))
    with pytest.raises(RunnerError, match="cannot isolate"):
        run(RETURN, isolation=isolation)
