"""The reader of strace's log, on logs of real programs."""

import os
import subprocess
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

from layer_minimizer.execution import strace
from layer_minimizer.model.trace import Use

pytestmark = pytest.mark.usefixtures("strace")


Calls = set[tuple[str, Use, bool]]


@pytest.fixture
def observe(tmp_path: Path, base_python: str) -> Callable[..., Calls]:
    """Run a Python program in a folder under strace; return the calls for files in that folder."""

    def run(program: str, folder: Path, *arguments: str | bytes) -> Calls:
        log = tmp_path / "calls"
        command = [*(strace.strace_command() or ()), *strace.options(log), base_python, "-I", "-S", "-c"]
        subprocess.run([*command, textwrap.dedent(program), *arguments], check=True, cwd=folder)
        start = f"{folder}/"
        return {call for call in strace.read(log, str(folder)) if call[0].startswith(start)}

    return run


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "work"
    made.mkdir()
    return made


@pytest.mark.parametrize(
    "name",
    [
        b"plain.txt",
        b"with space.txt",
        b'quote".txt',
        b"apostrophe'.txt",
        b"back\\slash.txt",
        b"new\nline\t.txt",
        b"angle<and>.txt",
        b'paren(th, "esis) = 3.txt',
        b" = -1 ENOENT (x)",
        b"\x01\x7f\x1b0 octal 7",
        b"no-utf8-\xff\xfe.txt",
        "\u00fcml\u00e4ut \u4e2d.txt".encode(),
        b"unfinished ...>",
        b"<... openat resumed>",
    ],
)
def test_a_files_name_is_read_as_it_is(observe: Callable[..., Calls], folder: Path, name: bytes) -> None:
    path = os.fsdecode(os.path.join(os.fsencode(folder), name))
    Path(path).write_text("x")
    program = """
        import os, sys
        name = os.fsencode(sys.argv[1])
        open(name).close()
        open(os.path.join(os.getcwdb(), name)).close()
        os.stat(name)
        os.path.exists(name + b"-absent")
    """
    assert observe(program, folder, name) == {
        (path, Use.OPEN, True), (path, Use.STAT, True), (f"{path}-absent", Use.STAT, False)
    }  # fmt: skip


def test_kinds_of_use_and_their_success(observe: Callable[..., Calls], folder: Path) -> None:
    (folder / "sub").mkdir()
    (folder / "read").write_text("x")
    (folder / "link").symlink_to("read")
    program = """
        import os
        os.listdir("sub")
        os.readlink("link")
        os.access("read", os.R_OK)
        open("read", "rb").close()
        open("read", "r+").close()
        open("written", "w").close()
        open("appended", "a").close()
        os.rename("appended", "renamed")
        try:
            open("absent")
        except FileNotFoundError:
            pass
    """
    found = {(path.removeprefix(f"{folder}/"), use, done) for path, use, done in observe(program, folder)}
    assert found == {
        ("sub", Use.LIST, True),
        ("link", Use.STAT, True),
        ("read", Use.STAT, True),
        ("read", Use.OPEN, True),
        ("absent", Use.OPEN, False),
    }


def test_relative_paths_refer_to_where_the_process_stands(observe: Callable[..., Calls], folder: Path) -> None:
    (folder / "a" / "b").mkdir(parents=True)
    for name in ("top.txt", "a/inner.txt", "a/b/deep.txt"):
        (folder / name).write_text("x")
    program = """
        import os
        open("top.txt").close()
        os.chdir("a")
        open("inner.txt").close()
        open("../a/b/./deep.txt").close()
        handle = os.open("b", os.O_RDONLY)
        os.close(os.open("deep.txt", os.O_RDONLY, dir_fd=handle))
        os.stat("deep.txt", dir_fd=handle)
    """
    found = observe(program, folder)
    opened = {path.removeprefix(f"{folder}/") for path, use, _ in found if use is Use.OPEN}
    assert {"top.txt", "a/inner.txt", "a/b/deep.txt"} <= opened
    assert (f"{folder}/a/b/deep.txt", Use.STAT, True) in found
    assert not opened & {"inner.txt", "deep.txt", "a/deep.txt"}


def test_children_and_what_they_execute(observe: Callable[..., Calls], folder: Path) -> None:
    (folder / "data").write_text("x")
    script = folder / "script.sh"
    script.write_text("#!/bin/sh\nread line < data\n")
    script.chmod(0o755)
    program = """
        import subprocess
        subprocess.run(["./script.sh"])
    """
    found = observe(program, folder)
    assert (str(script), Use.OPEN, True) in found
    assert (f"{folder}/data", Use.OPEN, True) in found


def test_calls_of_threads_that_interrupt_each_other(observe: Callable[..., Calls], folder: Path) -> None:
    names = [f"thread {thread} file {number}" for thread in range(8) for number in range(60)]
    for name in names:
        (folder / name).write_text("x")
    program = """
        import os, sys, threading

        def work(thread):
            for number in range(60):
                name = "thread %d file %d" % (thread, number)
                open(name).close()
                os.stat(name + ".absent") if os.path.exists(name + ".absent") else None

        threads = [threading.Thread(target=work, args=(thread,)) for thread in range(8)]
        [thread.start() for thread in threads]
        [thread.join() for thread in threads]
        for thread in range(3):
            if not os.fork():
                work(thread)
                os._exit(0)
        for thread in range(3):
            os.wait()
    """
    found = observe(program, folder)
    log = (folder.parent / "calls").read_bytes()
    if b"<unfinished ...>" not in log:
        pytest.skip("no call was interrupted by another one in this run")
    assert {path for path, use, done in found if use is Use.OPEN and done} == {f"{folder}/{name}" for name in names}
    assert {path for path, use, done in found if not done} == {f"{folder}/{name}.absent" for name in names}
