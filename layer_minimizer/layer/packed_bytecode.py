"""Ships bytecode compressed, in one file a layer: about four tenths of its size, and quicker to find than many files.

The layer's runtime (``payload/runtime/packed.py``) loads modules from there as if each lay in its place. A package or
module that no other packed package leads to has a small file in its place, which starts the runtime where nobody has.
"""

from __future__ import annotations

import marshal
import zlib
from typing import TYPE_CHECKING

from layer_minimizer.core.errors import PackError
from layer_minimizer.core.files import scratch_errors
from layer_minimizer.layer import cold_store
from layer_minimizer.payload.runtime import packed as packed_of_runtime

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping
    from pathlib import Path

CODE, RUNTIME = packed_of_runtime.CODE, packed_of_runtime.RUNTIME
# What starts the runtime, or is loaded by each start.
_FIRST = frozenset({"__init__", "check", "customize", "files", "finder", "packed", "stubs"})
# Less than this is not worth another way to load modules.
_WORTH_BYTES = 64 * 1024
_MARSHAL = 2  # every Python can read this form


def pack_runtime(top: Path) -> None:
    """Compress those modules of the runtime below the site folder ``top`` that few starts need.

    Raises:
        PackError: they cannot be written.
    """
    stems = [
        file.relative_to(top).with_suffix("").as_posix()
        for file in sorted((top / cold_store.PACKAGE).glob("*.pyc"))
        if file.stem not in _FIRST
    ]
    if stems:
        _move(top, {stem: zlib.compress((top / f"{stem}.pyc").read_bytes(), 9) for stem in stems}, RUNTIME)


def compress(stems: Iterable[str], top: Path) -> dict[str, bytes]:
    """Return the compressed bytecode of the modules ``stems`` (site-relative paths without a suffix) below ``top``.

    Raises:
        PackError: one cannot be read.
    """
    try:
        return {stem: zlib.compress((top / f"{stem}.pyc").read_bytes(), 9) for stem in stems}
    except OSError as exc:
        raise PackError(f"cannot read the layer's bytecode: {exc.filename}: {exc.strerror}") from exc


def is_worth_it(packed: Mapping[str, bytes], top: Path, extra: int) -> bool:
    """Return whether compressing these modules makes the layer smaller, where ``extra`` bytes have to come with them."""
    raw = sum((top / f"{stem}.pyc").stat().st_size for stem in packed)
    return raw - sum(map(len, packed.values())) > _WORTH_BYTES + extra


def pack(packed: Mapping[str, bytes], top: Path) -> None:
    """Move modules into a file of compressed bytecode below the site folder ``top``.

    Raises:
        PackError: it cannot be written.
    """
    _move(top, packed, "")


def anchors(stems: Collection[str]) -> list[str]:
    """Return the modules that no packed package leads to: something has to stand in their places."""
    packages = {stem.removesuffix("/__init__") for stem in stems if stem.endswith("/__init__")}
    found = []
    for stem in sorted(stems):
        parent = stem.removesuffix("/__init__").rpartition("/")[0]
        if parent not in packages:
            found.append(stem)
    return found


def stems_in(file: Path) -> tuple[str, ...]:
    """Return the modules in a file of compressed bytecode.

    Raises:
        ValueError: it is damaged.
    """
    line, _, rest = file.read_bytes().partition(b"\n")
    crc, length = line.split()
    table = rest[: int(length)]
    if b"%08x" % zlib.crc32(table) != crc:
        raise ValueError(f"{file} is damaged: its table's checksum is wrong")
    return tuple(marshal.loads(zlib.decompress(table)))  # noqa: S302 - data without code, with the right checksum


def _move(top: Path, packed: Mapping[str, bytes], name: str) -> None:
    """Write the file ``name`` (by default one named by its contents), and remove what lies in it now."""
    table, body = {}, bytearray()
    with scratch_errors(PackError, f"cannot write the layer's bytecode below {top}: {{file}}"):
        for stem in sorted(packed):
            raw = (top / f"{stem}.pyc").stat().st_size
            table[stem] = (len(body), len(packed[stem]), raw)
            body += packed[stem]
        head = zlib.compress(marshal.dumps(table, _MARSHAL), 9)
        content = b"%08x %d\n" % (zlib.crc32(head), len(head)) + head + bytes(body)
        target = top / (name or f"{CODE}/{cold_store.digest(content)}")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
        target.chmod(0o644)
        for stem in packed:
            (top / f"{stem}.pyc").unlink()
