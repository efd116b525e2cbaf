"""Packs bytecode into one file per layer, which is faster to search than many files.

Compressed it has about 40 % of its size, and modules are loaded slower: that is for layers that have to be small.

The layer's runtime (``payload/runtime/packed.py``) loads modules from this file as if each were in its usual place. A
top-level package or module keeps a small file in its place, which starts the runtime if it is not running.
"""

from __future__ import annotations

import marshal
import os
import zlib
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from layer_minimizer.core.errors import PackError
from layer_minimizer.core.files import scratch_errors
from layer_minimizer.layer import cold_store
from layer_minimizer.payload import runtime
from layer_minimizer.payload.runtime import packed as runtime_packed

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping
    from pathlib import Path

CODE, RUNTIME, SUBSTITUTES = runtime_packed.CODE, runtime_packed.RUNTIME, runtime_packed.SUBSTITUTES
FIRST = runtime.FIRST
# Modules that start the runtime or are loaded by every start.
_START_MODULES = frozenset({"__init__", "check", "comparing", "customize", "finder", "packed", "stubs"})
# Of these, in the order of their imports, those that no start does without.
_FIRST = ("check", "finder", "customize")
_FOR_STAND_INS = "standin"
# Packing fewer bytes than this is not worth a second way to load modules.
_WORTH_BYTES = 128 * 1024
_MARSHAL = 2  # every Python version can read this format


def pack_runtime(top: Path, *, compressed: bool, small: bool, stand_ins: bool) -> None:
    """Pack the modules of the runtime in the site folder ``top``: those of every start, and those that many do without.

    Those for stand-ins have a file of their own, which a layer without ``stand_ins`` lacks: another layer may bring it.
    ``compressed``: but for those of every start, unless the layer has to be ``small``.

    Raises:
        PackError: they cannot be written.
    """
    files = [file for file in sorted((top / cold_store.PACKAGE).glob("*.pyc")) if file.stem not in _START_MODULES]
    stems: dict[str, list[str]] = {RUNTIME: [], SUBSTITUTES: []}
    for file in files:
        for_stand_ins = file.stem.startswith(_FOR_STAND_INS)
        if for_stand_ins and not stand_ins:
            file.unlink()
        else:
            name = SUBSTITUTES if for_stand_ins else RUNTIME
            stems[name].append(file.relative_to(top).with_suffix("").as_posix())
    for name, packed in stems.items():
        if packed:
            _move(top, read(packed, top, compressed=compressed), name)
    _join_first(top / cold_store.PACKAGE, compressed=small)


def _join_first(package: Path, *, compressed: bool) -> None:
    """Write the modules of every start into one file, if they are there as bytecode."""
    files = [package / f"{name}.pyc" for name in _FIRST]
    if not all(file.is_file() for file in files):
        return
    with scratch_errors(PackError, f"cannot write the layer's bytecode below {package}: {{file}}"):
        target = package / FIRST
        content = marshal.dumps(tuple((file.stem, file.read_bytes()) for file in files), _MARSHAL)
        target.write_bytes(zlib.compress(content, 9) if compressed else content)
        target.chmod(0o644)
        for file in files:
            file.unlink()


def read(stems: Iterable[str], top: Path, *, compressed: bool) -> dict[str, bytes]:
    """Return the bytecode of the modules ``stems`` (site-relative paths without a suffix) below ``top``.

    Raises:
        PackError: one cannot be read.
    """
    try:
        found = {stem: (top / f"{stem}.pyc").read_bytes() for stem in stems}
        if not compressed:
            return found
        with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
            return dict(zip(found, pool.map(_smaller, found.values()), strict=True))
    except OSError as exc:
        raise PackError(f"cannot read the layer's bytecode: {exc.filename}: {exc.strerror}") from exc


def _smaller(raw: bytes) -> bytes:
    packed = zlib.compress(raw, 9)
    return packed if len(packed) < len(raw) else raw


def is_worth_it(stems: Iterable[str], top: Path, extra: int) -> bool:
    """Return whether packing these modules is worth the ``extra`` bytes that it adds to the layer."""
    raw = sum((top / f"{stem}.pyc").stat().st_size for stem in stems)
    return raw > _WORTH_BYTES + extra


def pack(packed: Mapping[str, bytes], top: Path) -> None:
    """Move modules into a file of bytecode in the site folder ``top``.

    Raises:
        PackError: it cannot be written.
    """
    _move(top, packed, "")


def modules_to_start(stems: Collection[str]) -> list[str]:
    """Return the modules that need a file in their place: those whose parent package is not packed."""
    packages = {stem.removesuffix("/__init__") for stem in stems if stem.endswith("/__init__")}
    found = []
    for stem in sorted(stems):
        parent = stem.removesuffix("/__init__").rpartition("/")[0]
        if parent not in packages:
            found.append(stem)
    return found


def stems_in(file: Path) -> tuple[str, ...]:
    """Return the modules in a file of bytecode.

    Raises:
        ValueError: it is damaged.
    """
    line, _, rest = file.read_bytes().partition(b"\n")
    crc, length = line.split()
    table = rest[: int(length)]
    if b"%08x" % zlib.crc32(table) != crc:
        raise ValueError(f"{file} is damaged: its table's checksum is wrong")
    table = zlib.decompress(table) if table.startswith(runtime_packed.ZLIB) else table
    return tuple(marshal.loads(table))  # noqa: S302 - data without code, with the right checksum


def _move(top: Path, packed: Mapping[str, bytes], name: str) -> None:
    """Write the file ``name`` (by default named after its digest) and remove the files that it replaces."""
    table, body, compressed = {}, bytearray(), False
    with scratch_errors(PackError, f"cannot write the layer's bytecode below {top}: {{file}}"):
        for stem in sorted(packed):
            raw = (top / f"{stem}.pyc").stat().st_size
            table[stem] = (len(body), len(packed[stem]), raw)
            compressed |= raw != len(packed[stem])
            body += packed[stem]
        head = marshal.dumps(table, _MARSHAL)
        # Each start reads the runtime's table, and should not need zlib for it.
        head = zlib.compress(head, 9) if compressed and not name else head
        content = b"%08x %d\n" % (zlib.crc32(head), len(head)) + head + bytes(body)
        target = top / (name or f"{CODE}/{cold_store.digest(content)}")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
        target.chmod(0o644)
        for stem in packed:
            (top / f"{stem}.pyc").unlink()
