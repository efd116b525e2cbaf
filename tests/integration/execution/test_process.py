"""Processes always end, with all of their children, and cannot access hidden folders."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from layer_minimizer.core.errors import RunnerError
from layer_minimizer.execution import process, strace
from layer_minimizer.execution.process import Isolation, can_isolate, run
from layer_minimizer.execution.strace import strace_command

isolated = pytest.mark.usefixtures("namespaces")


def python(code: str) -> list[str]:
    return [sys.executable, "-I", "-c", textwrap.dedent(code)]


def shell(script: str, folder: Path, isolation: Isolation | None = None) -> tuple[int, str]:
    """Run a shell script; return its exit code and output."""
    log = folder / "log"
    ended = run(["sh", "-c", script], os.environ, folder, timeout=60, output=log, isolation=isolation)
    return ended.returncode, log.read_text()


def gone(pid: int) -> bool:
    """Return whether a process has ended; it may still be a zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except FileNotFoundError:
        return True


def ends(pid: int) -> bool:
    """Return whether a process ends within some time."""
    for _ in range(500):
        if gone(pid):
            return True
        time.sleep(0.01)
    os.kill(pid, signal.SIGKILL)
    return False


# ---- how they end -------------------------------------------------------------------------------------------------


def test_exit_codes_and_output_are_returned(tmp_path: Path) -> None:
    assert shell("echo out; echo err >&2; exit 7", tmp_path) == (7, "out\nerr\n")


def test_a_signal_has_its_name(tmp_path: Path) -> None:
    ended = run(["sh", "-c", "kill -SEGV $$"], os.environ, tmp_path, timeout=60)
    assert ended.returncode == -signal.SIGSEGV
    assert ended.ending == "was killed by SIGSEGV"


def test_a_program_that_cannot_be_started_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(RunnerError, match="cannot start /absent/program: No such file"):
        run(["/absent/program"], {}, tmp_path, timeout=60)


def test_a_process_is_given_its_folder_its_variables_and_no_input(tmp_path: Path) -> None:
    log = tmp_path / "log"
    code = (
        "import os, sys; print(os.getcwd(), sorted(k for k in os.environ if k != 'LC_CTYPE'), repr(sys.stdin.read()))"
    )
    run(python(code), {"ONLY": "this"}, tmp_path, timeout=60, output=log)
    assert log.read_text() == f"{os.path.realpath(tmp_path)} ['ONLY'] ''\n"


def test_standard_output_of_the_tool_stays_free(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    run(["sh", "-c", "echo out; echo err >&2"], os.environ, tmp_path, timeout=60)
    assert capfd.readouterr() == ("", "out\nerr\n")


FAMILY = """
    import os, subprocess, sys, time
    grandchild = "import os, sys, time; print(os.getpid(), flush=True); time.sleep(600)"
    child = "import subprocess, sys; subprocess.run([sys.executable, '-I', '-c', sys.argv[1]])"
    subprocess.Popen([sys.executable, "-I", "-c", child, grandchild])
    subprocess.Popen([sys.executable, "-I", "-c", grandchild])
    while True:
        with open("log") as log:
            if len(log.read().splitlines()) == 2:
                break
        time.sleep(0.01)
"""


def pids(log: Path) -> list[int]:
    found = [int(line) for line in log.read_text().splitlines()]
    assert len(found) == 2
    return found


def test_a_timeout_ends_grandchildren_too(tmp_path: Path) -> None:
    code = textwrap.dedent(FAMILY) + "time.sleep(600)\n"
    ended = run(python(code), os.environ, tmp_path, timeout=3, output=tmp_path / "log")
    assert ended.timed_out
    assert ended.returncode == -signal.SIGKILL
    assert all(ends(pid) for pid in pids(tmp_path / "log"))


def test_what_a_process_leaves_running_is_ended(tmp_path: Path) -> None:
    ended = run(python(FAMILY), os.environ, tmp_path, timeout=60, output=tmp_path / "log")
    assert (ended.returncode, ended.timed_out) == (0, False)
    assert all(ends(pid) for pid in pids(tmp_path / "log"))


@pytest.mark.usefixtures("strace")
def test_a_timeout_ends_what_strace_watches(tmp_path: Path) -> None:
    code = textwrap.dedent(FAMILY) + "time.sleep(600)\n"
    command = [*(strace_command() or ()), *strace.options(tmp_path / "calls"), *python(code)]
    ended = run(command, os.environ, tmp_path, timeout=5, output=tmp_path / "log")
    assert ended.timed_out
    assert all(ends(pid) for pid in pids(tmp_path / "log"))


def test_an_interruption_ends_the_processes(tmp_path: Path) -> None:
    script = """
        import os, sys
        from pathlib import Path
        from layer_minimizer.execution.process import run
        folder = Path(sys.argv[1])
        run([sys.executable, "-I", "-c", sys.argv[2]], os.environ, folder, timeout=600, output=folder / "log")
    """
    code = textwrap.dedent(FAMILY) + "open('ready', 'w').close()\ntime.sleep(600)\n"
    command = [sys.executable, "-c", textwrap.dedent(script), tmp_path, code]
    tool = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    while not (tmp_path / "ready").exists():
        assert tool.poll() is None
        time.sleep(0.01)
    tool.send_signal(signal.SIGINT)
    assert tool.wait(60) != 0
    assert all(ends(pid) for pid in pids(tmp_path / "log"))


@pytest.mark.usefixtures("strace")
def test_the_command_for_strace_works(tmp_path: Path) -> None:
    command = [*(strace_command() or ()), "-o", str(tmp_path / "calls"), "-e", "trace=%file", "cat", "/dev/null"]
    subprocess.run(command, check=True)
    assert b'"/dev/null"' in (tmp_path / "calls").read_bytes()


# ---- isolation ----------------------------------------------------------------------------------------------------


@pytest.fixture
def tree(tmp_path: Path, write: Callable[..., Path]) -> Path:
    """Folders with names that shells and mounts could stumble over."""
    return write(tmp_path / "a b'\u00fc", {"top/x": "x", "top/sub/y": "y", "top/sub/z/deep": "deep", "other/o": "o"})


@isolated
def test_a_hidden_folder_appears_empty_and_is_untouched(tree: Path, tmp_path: Path) -> None:
    listed = shell('ls -A "a b\'\u00fc/top"; ls -A "a b\'\u00fc/other"', tmp_path, Isolation(hide=(str(tree / "top"),)))
    assert listed == (0, "o\n")
    assert (tree / "top" / "sub" / "y").read_text() == "y"


@isolated
def test_paths_below_a_hidden_folder_can_be_shown(tree: Path, tmp_path: Path) -> None:
    (tree / "top" / "link").symlink_to("sub/y")
    shown = tuple(str(tree / "top" / path) for path in ("sub/z", "x", "link"))
    listed = shell(
        "find . -name log -prune -o ! -type d -print", tree, Isolation(hide=(str(tree / "top"),), show=shown)
    )
    assert sorted(listed[1].splitlines()) == ["./other/o", "./top/link", "./top/sub/z/deep", "./top/x"]
    assert shell("cat top/sub/z/deep", tmp_path / tree.name, Isolation(hide=(str(tree / "top"),), show=shown)) == (
        0,
        "deep",
    )


@isolated
def test_a_protected_folder_can_be_read_and_not_written(tree: Path, tmp_path: Path) -> None:
    isolation = Isolation(read_only=(str(tree / "top"),))
    script = "cat top/x; touch top/new 2>&-; echo $?; echo y 2>&- >top/x; rm -f top/x 2>&-; touch other/new; cat top/x"
    code, said = shell(script, tree, isolation)
    assert code == 0
    assert said.startswith("x1\n")
    assert (tree / "top" / "x").read_text() == "x"
    assert not (tree / "top" / "new").exists()
    assert (tree / "other" / "new").exists()
    (tree / "top" / "new").touch()
    assert tmp_path.exists()


@isolated
def test_children_see_no_more(tree: Path) -> None:
    isolation = Isolation(hide=(str(tree / "top"),))
    assert shell("sh -c 'sh -c \"ls -A top\"'", tree, isolation) == (0, "")


@isolated
def test_isolation_changes_neither_user_nor_exit_code_nor_folder(tree: Path) -> None:
    isolation = Isolation(hide=(str(tree / "top"),))
    said = shell("id -u; pwd; exit 9", tree, isolation)
    assert said == (9, f"{os.geteuid()}\n{os.path.realpath(tree)}\n")


@isolated
def test_a_folder_that_is_hidden_while_one_stands_in_it(tree: Path, tmp_path: Path) -> None:
    ended = run(
        ["sh", "-c", "ls -A"], os.environ, tree / "top", timeout=60, output=tmp_path / "log",
        isolation=Isolation(hide=(str(tree / "top"),)),
    )  # fmt: skip
    assert (ended.returncode, (tmp_path / "log").read_text()) == (0, "")


@isolated
def test_a_folder_that_cannot_be_hidden_is_an_error(tmp_path: Path) -> None:
    code, said = shell("true", tmp_path, Isolation(hide=(str(tmp_path / "absent"),)))
    assert code == process.NOT_ISOLATED
    assert "cannot isolate" in said
    assert "absent" in said


def test_whether_isolation_works_is_found_out_by_trying(tree: Path) -> None:
    code, said = shell("ls -A top", tree, Isolation(hide=(str(tree / "top"),)))
    assert can_isolate() == (code == 0 and said == "")
