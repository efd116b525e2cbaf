"""Writes what stands in a layer where modules are stood in for, and bytecode for those that are there."""

from __future__ import annotations

import json
import subprocess
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from layer_minimizer import modules, runners
from layer_minimizer.coldfiles import PACKAGE, digest
from layer_minimizer.errors import PackError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from layer_minimizer.model import Interpreter, TracedStandIn

_COMPILE = Path(__file__).parent / "_probe" / "compile.py"
TABLES = "stand_ins"
_STUB = "from _layer_minimizer.stubs import stand_in\n\nstand_in(__name__, {last!r}, {tables!r})\n"
_ANCHOR = "from _layer_minimizer.stubs import unpack\n\nunpack(__name__, {last!r})\n"


@dataclass(frozen=True, slots=True)
class Compiler:
    """Makes bytecode with the interpreter that is to run it.

    ``opt`` is where the layer's site folder will lie. ``documented`` are the top-level packages of which docstrings
    stay, None for all.
    """

    interpreter: Interpreter
    opt: str
    scratch: Path
    documented: Collection[str] | None = None

    def compile(self, rows: Iterable[tuple[Path, Path, str]]) -> set[Path]:
        """Compile (source, target, site-relative path) rows; give the sources that are no valid Python.

        Raises:
            PackError: the interpreter cannot do it.
        """
        listed = [
            (str(source), str(target), f"{self.opt}/{path}", self._has_docstrings(path))
            for source, target, path in rows
        ]
        self.scratch.mkdir(parents=True, exist_ok=True)
        order, python = self.scratch / "compile.json", self.interpreter.executable
        order.write_text(json.dumps(listed))
        # Before 3.11 the order of a set's members in bytecode is the order of their hashes. (-I would ignore this.)
        environment = {**runners.clean_environment(), "PYTHONHASHSEED": "0"}
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
            return False  # nobody asks the runtime for help
        return self.documented is None or modules.top_level(path) in self.documented


def place_of(path: str) -> str:
    """Give the path of the stub for a module's file: bytecode in its place, whatever the module was."""
    return f"{modules.stem(path)}.pyc"


def write_stand_ins(
    stand_ins: Collection[TracedStandIn], top: Path, compiler: Compiler, *, layer: str, kept: bool
) -> int:
    """Write stubs and tables below the site folder ``top``; give their bytes.

    ``kept`` says that the real modules lie in the cold store.

    Raises:
        PackError: they cannot be written.
    """
    tables = {"layer": layer, "kept": kept, "modules": {module.name: module.table for module in stand_ins}}
    content = json.dumps(tables, sort_keys=True, separators=(",", ":")).encode()
    name = digest(content)
    places = [place_of(module.path) for module in stand_ins]
    stubs = _write_stubs({place: _STUB.format(last=place, tables=name) for place in places}, top, compiler)
    file = top / PACKAGE / TABLES / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(zlib.compress(content, 9))
    return file.stat().st_size + stubs


def write_anchors(stems: Iterable[str], top: Path, compiler: Compiler) -> None:
    """Write, in the places of modules that are packed, what starts the runtime and runs them.

    Raises:
        PackError: they cannot be written.
    """
    places = [f"{stem}.pyc" for stem in stems]
    _write_stubs({place: _ANCHOR.format(last=place) for place in places}, top, compiler)


def _write_stubs(texts: Mapping[str, str], top: Path, compiler: Compiler) -> int:
    """Write the bytecode of ``texts`` to their places below ``top``; give its bytes."""
    rows = []
    compiler.scratch.mkdir(parents=True, exist_ok=True)
    for number, (place, text) in enumerate(texts.items()):
        source = compiler.scratch / f"stub{number}.py"
        source.write_text(text)
        (top / place).parent.mkdir(parents=True, exist_ok=True)
        rows.append((source, top / place, place.removesuffix("c")))
    compiler.compile(rows)
    for _, target, _ in rows:
        target.chmod(0o644)
    return sum(target.stat().st_size for _, target, _ in rows)


def compile_modules(paths: Iterable[str], top: Path, compiler: Compiler, *, with_source: Collection[str]) -> None:
    """Put bytecode in the place of the modules ``paths``, beside the source of those ``with_source``.

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
