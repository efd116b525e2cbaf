"""Modules are compiled once for all attempts at a layer, and again if anything that the bytecode depends on differs."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from layer_minimizer.core.errors import PackError
from layer_minimizer.environment.interpreter import describe_interpreter
from layer_minimizer.pack.bytecode import Compiler

if TYPE_CHECKING:
    from pathlib import Path


def test_what_was_compiled_is_not_compiled_again(tmp_path: Path) -> None:
    source, target = tmp_path / "m.py", tmp_path / "m.pyc"
    source.write_text("'''Text.'''\nx = 1\n")
    python = describe_interpreter(sys.executable)
    compiler = Compiler(python, "/opt/python", tmp_path / "scratch", with_docstrings={"m"})
    other = replace(python, executable=os.devnull)

    def compiled(compiler: Compiler = compiler, path: str = "m.py") -> bytes:
        assert compiler.compile([(source, target, path)]) == set()
        return target.read_bytes()

    first = compiled()
    assert compiled(replace(compiler, interpreter=other)) == first  # that one cannot compile
    found = {first, compiled(path="n.py"), compiled(replace(compiler, with_docstrings=()))}
    source.write_text("'''Text.'''\nx = 2\n")
    found.add(compiled())
    assert len(found) == 4
    source.write_text("x = 3\n")
    with pytest.raises(PackError, match="Permission denied"):
        compiled(replace(compiler, interpreter=other))


def test_docstrings_are_left_out(tmp_path: Path, cpython: str) -> None:
    source, target = tmp_path / "m.py", tmp_path / "m.pyc"
    source.write_text(
        "'Text.'\n'More.'\nfrom __future__ import generator_stop\n\n\ndef f():\n    'Text.'\n\n\nclass C:\n"
        "    'Text.'\n    x = 1\n\n\nassert (__doc__, f.__doc__, f(), C.__doc__, C.x) == (None, None, None, None, 1)\n"
    )
    compiler = Compiler(describe_interpreter(cpython), "/opt/python", tmp_path / "scratch", with_docstrings=())
    assert compiler.compile([(source, target, "m.py")]) == set()
    subprocess.run([cpython, target], check=True)


def test_what_is_not_python_is_reported_each_time(tmp_path: Path) -> None:
    good, bad = tmp_path / "good.py", tmp_path / "bad.py"
    good.write_text("x = 1\n")
    bad.write_text("x = = 1\n")
    compiler = Compiler(describe_interpreter(sys.executable), "/opt/python", tmp_path / "scratch")
    rows = [(file, file.with_suffix(".pyc"), file.name) for file in (good, bad)]
    for _ in range(2):
        assert compiler.compile(rows) == {bad}
        assert good.with_suffix(".pyc").exists()
        assert not bad.with_suffix(".pyc").exists()
