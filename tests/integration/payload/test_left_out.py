"""Who asks for a file that the layer does not have is told so by name, wherever there is a place to say it."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

import pytest

from tests.support.cold_layers import UNUSED

if TYPE_CHECKING:
    from collections.abc import Callable

    from .conftest import ColdLayer

LEFT_OUT = {
    "warm/data.txt": "warm 1.0",
    "warm/part.py": "warm 1.0",
    "warm/_fast.abi3.so": "warm 1.0",
    "gone/__init__.py": "Gone 2.0",
    "gone/deep/data.bin": "Gone 2.0",
    "Gone-2.0.dist-info/METADATA": "Gone 2.0",
    "odd (1).txt": "no distribution",
}
OPTIONS = {
    "warm/data.txt": "--include warm/data.txt",
    "warm/part.py": "--keep warm.part",
    "warm/_fast.abi3.so": "--keep warm._fast",
    "gone/__init__.py": "--keep gone",
    "gone/deep/data.bin": "--include gone/deep/data.bin",
    "Gone-2.0.dist-info/METADATA": "--include Gone-2.0.dist-info/METADATA",
    "odd (1).txt": "--include odd (1).txt",
}


def told(path: str) -> str:
    options = f"or with {OPTIONS[path]}" if LEFT_OUT[path] in UNUSED else f"with {OPTIONS[path]}, or with --cold keep"
    return f"{path} of {LEFT_OUT[path]} was left out of this layer: build it with an event that uses it, {options}"


@pytest.fixture
def layer(layer_of: Callable[..., ColdLayer], python: str) -> ColdLayer:
    return layer_of(python, {"warm/cold.txt": "cold"}, {"warm/__init__.py": ""}, left_out=LEFT_OUT)


def test_errors_name_the_file(layer: ColdLayer, cpython: str) -> None:
    layer.python = cpython
    path = str(layer.root / "warm/data.txt")
    code = f"""
        import io, os, sys
        path = {path!r}
        folder, name = os.path.split(path)
        text = "No such file or directory (" + {told("warm/data.txt")!r} + ")"
        asked = [open, os.stat, os.lstat, os.path.getsize, os.listdir, io.FileIO]
        asked.append(lambda path: os.open(path, os.O_RDONLY))
        asked.append(lambda path: os.open(name, os.O_RDONLY, dir_fd=os.open(folder, os.O_RDONLY)))
        asked.append(lambda path: os.chdir(folder) or open(name))
        for ask in asked:
            try:
                ask(path)
            except FileNotFoundError as exc:
                assert exc.strerror == text and exc.errno == 2, (ask, exc)
                assert exc.filename in (path, name), exc.filename
            else:
                raise AssertionError(ask)
        """
    done = layer.start("-c", textwrap.dedent(code))
    assert (done.returncode, done.stderr) == (0, f"layer_minimizer: {told('warm/data.txt')}\n")


def test_questions_are_answered_with_no_and_told_once(layer: ColdLayer) -> None:
    code = """
        import ctypes, os, pathlib
        for _ in "ab":
            for path in {paths!r}:
                path = {root!r} + "/" + path
                assert not os.path.exists(path) and not os.access(path, os.R_OK) and not os.path.isfile(path)
                assert not pathlib.Path(path).is_file() and not os.path.islink(path)
            assert not os.path.exists({root!r} + "/never") and not os.path.exists({root!r} + "/warm/never.txt")
        import errno
        assert os.strerror(errno.ENOENT) == "No such file or directory"
        """
    done = layer.start("-c", textwrap.dedent(code.format(paths=list(OPTIONS), root=str(layer.root))))
    assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines() == [f"layer_minimizer: {told(path)}" for path in OPTIONS]


def test_another_error_of_the_same_kind_says_nothing_of_it(layer: ColdLayer) -> None:
    layer.run(
        """
        path = R + "/warm/data.txt"
        os.path.exists(path)
        for other in ("/never", R + "/warm/never.txt", "never"):
            try:
                open(other)
            except FileNotFoundError as exc:
                assert exc.strerror == "No such file or directory", exc
        """
    )


def test_a_child_program_tells_it(layer: ColdLayer) -> None:
    path = str(layer.root / "gone/deep/data.bin")
    layer.run(
        f"""
        import subprocess
        path = {path!r}
        opening = [sys.executable, "-ISc", "open(%r)" % path]
        for command in (["cat", path], ["sh", "-c", "exec cat " + path], opening):
            done = subprocess.run(command, stderr=subprocess.PIPE)
            first = done.stderr.decode().splitlines()[0]
            assert (done.returncode, first) == (1, "layer_minimizer: " + {told("gone/deep/data.bin")!r}), done
        """
    )


def test_native_code_tells_it(layer: ColdLayer) -> None:
    path = str(layer.root / "warm/data.txt")
    done = layer.start("-c", f"import sqlite3; sqlite3.connect('file:{path}?mode=ro', uri=True).execute('select 1')")
    assert f"layer_minimizer: {told('warm/data.txt')}\n" in done.stderr
    done = layer.start("-c", f"import ctypes; ctypes.CDLL({str(layer.root / 'warm/_fast.abi3.so')!r})")
    assert f"layer_minimizer: {told('warm/_fast.abi3.so')}\n" in done.stderr


def test_imports_do_not_ask_for_sources_of_bytecode(layer_of: Callable[..., ColdLayer], cpython: str) -> None:
    """Python looks for the source first; that a layer has the bytecode alone is nothing to tell."""
    layer = layer_of(cpython, {}, {}, {"p/__init__.py": "x = 1\n"}, left_out={"p/__init__.py": "p 1.0"})
    (layer.root / "q").mkdir()
    (layer.root / "q/__init__.pyc").write_bytes((layer.root / "p/__init__.pyc").read_bytes())
    assert layer.start("-c", "import p; assert p.x == 1").stderr == ""
    started = layer.start("-S", "-c", "import p; assert p.x == 1")
    assert (started.returncode, started.stderr) == (0, "")


def test_who_looks_for_a_module_and_takes_no_for_an_answer_is_told(layer: ColdLayer) -> None:
    code = "import importlib.util as u; assert u.find_spec('gone') is None and u.find_spec('warm.part') is None"
    done = layer.start("-c", code)
    expected = [f"layer_minimizer: {told(path)}" for path in ("gone/__init__.py", "warm/part.py")]
    assert (done.returncode, done.stderr.splitlines()) == (0, expected)
    assert layer.start("-c", "import importlib.util as u; u.find_spec('never')").stderr == ""


def test_a_module_that_is_to_be_run_is_refused_by_name(layer: ColdLayer) -> None:
    done = layer.start("-m", "gone")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].endswith(f"No module named 'gone': {told('gone/__init__.py')})")


def test_who_asks_for_metadata_by_name_is_told(layer: ColdLayer, python: str) -> None:
    code = "import importlib.metadata as m, sys\ntry: m.version({!r})\nexcept m.PackageNotFoundError: sys.exit(5)"
    if layer.start("-c", "import importlib.metadata").returncode:
        pytest.skip(f"importlib.metadata came with 3.8, not {python}")
    done = layer.start("-c", code.format("gone"))
    assert (done.returncode, done.stderr) == (5, f"layer_minimizer: {told('Gone-2.0.dist-info/METADATA')}\n")
    done = layer.start("-c", code.format("never"))
    assert (done.returncode, done.stderr) == (5, "")
