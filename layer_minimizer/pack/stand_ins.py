"""Writes the stubs and tables of stand-ins, which replace unused modules."""

from __future__ import annotations

import json
import marshal
import zlib
from typing import TYPE_CHECKING

from layer_minimizer.layer.cold_store import PACKAGE, digest
from layer_minimizer.model import modules
from layer_minimizer.payload.runtime.standard import FOLDER as STANDARD

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping
    from pathlib import Path

    from layer_minimizer.model.trace import TracedStandIn
    from layer_minimizer.pack.bytecode import Compiler

TABLES = "stand_ins"
# The layer's name in its runtime's messages. It contains no user input, so that equal files result in equal bytes.
_LAYER = "made by layer_minimizer"
# Sources of so many bytes take as long as what stands in for them: with stand-ins for other modules, and without.
_WORTH_BYTES = {True: 50_000, False: 150_000}
_MARSHAL = 2  # every Python version can read this format
_STUB = "from _layer_minimizer.stubs import stand_in\n\nstand_in(__name__, {last!r}, {tables!r})\n"
_STARTER = "from _layer_minimizer.stubs import unpack\n\nunpack(__name__, {last!r})\n"


def stub_path(path: str) -> str:
    """Return the path of the stub for a module's file. A stub is bytecode, whatever kind of file the module was."""
    return f"{modules.stem(path)}.pyc"


def write_stand_ins(
    stand_ins: Collection[TracedStandIn], top: Path, compiler: Compiler, *, kept: bool, compressed: bool
) -> int:
    """Write stubs and tables below the site folder ``top``. Return their bytes.

    ``kept``: the real modules are in the cold store. ``compressed`` says how the tables are stored.

    Raises:
        PackError: they cannot be written.
    """
    tables = {"layer": _LAYER, "kept": kept, "modules": {module.name: module.table for module in stand_ins}}
    # In the order of their keys, as values that JSON has: equal tables are equal bytes.
    content = marshal.dumps(json.loads(json.dumps(tables, sort_keys=True)), _MARSHAL)
    name = digest(content)
    paths = [stub_path(module.path) for module in stand_ins]
    stubs = _write_stubs({path: _STUB.format(last=path, tables=name) for path in paths}, top, compiler)
    file = top / PACKAGE / TABLES / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(zlib.compress(content, 9) if compressed else content)
    return file.stat().st_size + stubs


def worthwhile(standard: tuple[TracedStandIn, ...], replaced: tuple[TracedStandIn, ...]) -> tuple[TracedStandIn, ...]:
    """Return the modules of the standard library if stand-ins for them save more time than they take, else nothing.

    ``replaced`` are the other modules with stand-ins.
    """
    worth = sum(module.table["bytes"] for module in standard) >= _WORTH_BYTES[bool(replaced)]
    return standard if worth else ()


def write_standard(standard: Collection[TracedStandIn], top: Path) -> None:
    """Write the tables of stand-ins for modules of the standard library below the site folder ``top``."""
    tables = {"modules": {module.name: module.table for module in standard}}
    content = marshal.dumps(json.loads(json.dumps(tables, sort_keys=True)), _MARSHAL)
    file = top / STANDARD / digest(content)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)
    file.chmod(0o644)


def write_starters(stems: Iterable[str], top: Path, compiler: Compiler) -> None:
    """Write small files in the places of packed modules, which start the runtime and run the real modules.

    Raises:
        PackError: they cannot be written.
    """
    paths = [f"{stem}.pyc" for stem in stems]
    _write_stubs({path: _STARTER.format(last=path) for path in paths}, top, compiler)


def _write_stubs(sources: Mapping[str, str], top: Path, compiler: Compiler) -> int:
    """Compile ``sources``, by path below ``top``. Return the bytes of the bytecode."""
    rows = []
    compiler.scratch.mkdir(parents=True, exist_ok=True)
    for number, (path, code) in enumerate(sources.items()):
        source = compiler.scratch / f"stub{number}.py"
        source.write_text(code)
        (top / path).parent.mkdir(parents=True, exist_ok=True)
        rows.append((source, top / path, path.removesuffix("c")))
    compiler.compile(rows)
    for _, target, _ in rows:
        target.chmod(0o644)
    return sum(target.stat().st_size for _, target, _ in rows)
