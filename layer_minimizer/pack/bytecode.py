"""Compiles modules to bytecode with the interpreter that will run them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

from layer_minimizer.core.errors import PackError
from layer_minimizer.core.files import scratch_errors
from layer_minimizer.execution import process
from layer_minimizer.layer.cold_store import PACKAGE
from layer_minimizer.model import modules

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from layer_minimizer.model.interpreter import Interpreter

_COMPILE = Path(__file__).parents[1] / "payload" / "probe" / "compile.py"


@dataclass(frozen=True, slots=True)
class Compiler:
    """Compiles bytecode with the interpreter that will run it.

    ``opt`` is the path of the layer's site folder in Lambda. ``with_docstrings`` are the top-level packages that keep
    their docstrings; None: all keep them. What was compiled is kept in ``scratch``, for the next attempt at a layer.
    """

    interpreter: Interpreter
    opt: str
    scratch: Path
    with_docstrings: Collection[str] | None = None

    def compile(self, rows: Iterable[tuple[Path, Path, str]]) -> set[Path]:
        """Compile (source, target, site-relative path) rows. Return the sources that are not valid Python.

        Raises:
            PackError: the interpreter failed.
        """
        known = self.scratch / "known"
        with scratch_errors(PackError, "cannot compile the layer's modules: {file}"):
            known.mkdir(parents=True, exist_ok=True)
            kept = [(known / self._key(source, path), source, target, path) for source, target, path in rows]
            invalid = self._compile([row for row in kept if not row[0].exists()])
            for file, source, target, _path in kept:
                if source not in invalid:
                    shutil.copyfile(file, target)
        return invalid

    def _key(self, source: Path, path: str) -> str:
        """Return a file name for the bytecode of a source, by all that it depends on."""
        return sha256(b"%s\0%d\0" % (os.fsencode(path), self._has_docstrings(path)) + source.read_bytes()).hexdigest()

    def _compile(self, rows: Iterable[tuple[Path, Path, Path, str]]) -> set[Path]:
        listed = [
            (str(source), str(file), f"{self.opt}/{path}", self._has_docstrings(path))
            for file, source, _target, path in rows
        ]
        if not listed:
            return set()
        order, python = self.scratch / "compile.json", self.interpreter.executable
        order.write_text(json.dumps(listed))
        # Before 3.11, bytecode has the members of a set in the order of their hashes. (With -I, Python ignores this.)
        environment = {**process.clean_environment(), "PYTHONHASHSEED": "0"}
        done = subprocess.run(  # noqa: S603 - the user's own interpreter
            [python, "-s", "-S", "-B", str(_COMPILE), str(order)],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise PackError(f"{python} cannot compile the layer's modules:\n{done.stderr.strip()}")
        return set(map(Path, json.loads(done.stdout)))

    def _has_docstrings(self, path: str) -> bool:
        if modules.top_level(path) == PACKAGE:
            return False  # docstrings of the runtime have no use in a layer
        return self.with_docstrings is None or modules.top_level(path) in self.with_docstrings


def compile_modules(
    paths: Iterable[str], top: Path, compiler: Compiler, *, with_source: Collection[str]
) -> frozenset[str]:
    """Replace the modules ``paths`` by their bytecode; those in ``with_source`` keep the source next to it.

    Return those that are not valid Python, which stay as they are.

    Raises:
        PackError: it cannot be written.
    """
    tag = compiler.interpreter.cache_tag
    rows: list[tuple[Path, Path, str]] = []
    for path in paths:
        source = top / path
        if path in with_source:
            cache = source.parent / "__pycache__"
            cache.mkdir(exist_ok=True)
            rows.append((source, cache / f"{source.stem}.{tag}.pyc", path))
        else:
            rows.append((source, source.with_suffix(".pyc"), path))
    invalid = compiler.compile(rows)
    for source, target, path in rows:
        if source in invalid:
            continue
        target.chmod(0o644)
        if path not in with_source:
            source.unlink()
    return frozenset(path for source, _target, path in rows if source in invalid)
