"""An observer that does not work is named with the reason: real runs in which one cannot start or sees nothing."""

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from layer_minimizer.environment.workload import load_workload
from layer_minimizer.execution.observed_run import Observer
from layer_minimizer.model.trace import MissingObserver, Trace
from layer_minimizer.native import parts
from layer_minimizer.trace import observers, tracer
from tests.support.sites import write_files

LOADS = (
    "import ctypes, pkg\n\ndef handler(event, context):\n    return ctypes.CDLL(pkg.__file__[:-11] + 'lib.so').f()\n"
)


@pytest.fixture
def library(env: Any, tmp_path: Path) -> Path:
    """Return a library of a distribution, in the environment."""
    if parts.unavailable_reason() or not shutil.which("gcc"):
        pytest.skip(parts.unavailable_reason() or "no gcc")
    (tmp_path / "lib.c").write_text('__asm__(".text\\n.fill 65536, 1, 0x90\\n");\nint f(void) { return 7; }\n')
    subprocess.run(["gcc", "-shared", "-fPIC", tmp_path / "lib.c", "-o", tmp_path / "lib.so"], check=True)
    env.install("pkg", {"pkg/__init__.py": "", "pkg/lib.so": (tmp_path / "lib.so").read_bytes()})
    return Path(env.describe().site_dirs[0]) / "pkg/lib.so"


def traced(env: Any, folder: Path, source: str, *libraries: tuple[str, Path], study: bool = False) -> Trace:
    workload = load_workload(write_files(folder / "function", {"handler.py": source}) / "handler.py")
    made = tracer.Tracer(env.describe(), (Observer.PROBE,), 60, libraries=libraries)
    return made.study(workload, folder / "scratch/run")[0] if study else made.trace(workload, folder / "scratch/run")


def test_all_observers_work(env: Any, library: Path, tmp_path: Path) -> None:
    trace = traced(env, tmp_path, LOADS, ("pkg/lib.so", library))
    assert trace.missing_observers == ()
    assert trace.results[0].value == "7"


def test_the_loader_refuses_the_page_tracer(
    env: Any, library: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As it does with one for another processor or another C library: it writes a line, and goes on."""
    other = tmp_path / "other.so"
    other.write_text("not a library")
    monkeypatch.setattr(parts, "page_tracer", lambda _machine: other)
    trace = traced(env, tmp_path, LOADS, ("pkg/lib.so", library))
    cause = "the dynamic loader of the interpreter did not load it (LD_AUDIT)"
    assert trace.missing_observers == (MissingObserver("pages", cause),)
    assert list(observers.warnings_of(trace.missing_observers)) == [
        f"the tracer of shared libraries' pages did not observe the run: {cause}; their unused pages are not known"
    ]


def test_the_page_tracer_meets_no_library(env: Any, library: Path, tmp_path: Path) -> None:
    trace = traced(env, tmp_path, LOADS, ("pkg/lib.so", Path(shutil.copy(library, tmp_path / "copy.so"))))
    assert [each.observer for each in trace.missing_observers] == ["pages"]
    assert "told it of no library that the run loaded" in trace.missing_observers[0].cause


def test_the_program_uses_the_profiler_itself(env: Any, library: Path, tmp_path: Path) -> None:
    assert library
    profile = "import sys\nimport pkg\n\ndef handler(event, context):\n    sys.setprofile(None)\n    return 1\n"
    trace = traced(env, tmp_path, profile, study=True)
    assert [each.observer for each in trace.missing_observers] == ["calls"]
    assert "sys.setprofile" in trace.missing_observers[0].cause


def test_strace_that_cannot_trace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As under QEMU, where it prints that the system call does not exist."""
    program = tmp_path / "strace"
    program.write_text("#!/bin/sh\necho 'strace: ptrace(PTRACE_TRACEME, ...): Function not implemented' >&2\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    observers.strace.try_out.cache_clear()
    try:
        (missing,) = observers.unavailable("auto")
        assert list(observers.unavailable("probe")) == []
    finally:
        observers.strace.try_out.cache_clear()
    said = "it cannot trace processes here: strace: ptrace(PTRACE_TRACEME, ...): Function not implemented"
    assert missing == MissingObserver("strace", said)
    (warning,) = observers.warnings_of([missing, missing])
    assert warning == (
        f"strace did not observe the run: {said}; files that only code in C opens may be missing in the layer"
    )
