"""Write the stubs and tables of modules that are replaced by stand-ins."""

from __future__ import annotations

import json
import zlib
from typing import TYPE_CHECKING

from layer_minimizer.layer.cold_store import PACKAGE, digest
from layer_minimizer.model import modules

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping
    from pathlib import Path

    from layer_minimizer.model.trace import TracedStandIn
    from layer_minimizer.pack.bytecode import Compiler

TABLES = "stand_ins"
_STUB = "from _layer_minimizer.stubs import stand_in\n\nstand_in(__name__, {last!r}, {tables!r})\n"
_ANCHOR = "from _layer_minimizer.stubs import unpack\n\nunpack(__name__, {last!r})\n"


def place_of(path: str) -> str:
    """Return the path of the stub for a module's file: bytecode in its place, whatever the module was."""
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
