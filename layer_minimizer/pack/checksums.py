"""Writes sizes and checksums of a finished layer's files, by which its runtime detects missing and damaged ones."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

from layer_minimizer.analysis import elf
from layer_minimizer.core.errors import PackError
from layer_minimizer.core.files import scratch_errors
from layer_minimizer.layer import cold_store, file_index, packed_bytecode
from layer_minimizer.layer.layout import CHECKSUMS, NATIVE_FOLDER, RUNTIME
from layer_minimizer.payload.runtime import check

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

# Larger libraries that are shipped whole are not compared: most of their pages may never be read, so reading all could
# take longer than using the library.
_COMPARED_BYTES = 1 << 20
# The modules that contain the check are compared by the line that starts it. Lines of .pth files begin with "import".
_CHECKED_BY_PTH = ("__init__", "check")
_RUNTIME = RUNTIME.format(digest="*")
_READ_AT_START = {
    cold_store.PTH,
    cold_store.CUSTOMIZE,
    *(
        f"{cold_store.PACKAGE}/{stem}.{suffix}"
        for stem in ("customize", "finder", "packed")
        for suffix in ("py", "pyc")
    ),
}
_PTH_LINE = (
    'import sys, os, zlib; (lambda d, crc: d and os.environ.get("LAYER_MINIMIZER_CHECK") != "off" and '
    '[os.write(2, ("layer_minimizer: by layer_minimizer.pth, %s/_layer_minimizer/%s is missing or damaged: '
    'deploy the layer again\\n" % (d, n))'
    '.encode("utf-8", "backslashreplace")) and os._exit(1) for n, c in {first} if not os.path.isfile(d + '
    '"/_layer_minimizer/" + n) or crc(open(d + "/_layer_minimizer/" + n, "rb").read()) & 0xffffffff != c])('
    'sys._getframe(1).f_locals.get("sitedir"), zlib.crc32); '
)


def write_checksums(top: Path, needs: Callable[[str], Iterable[str]], compacted: Callable[[Path], bool]) -> int:
    """Write the table of the files in the site folder ``top`` and the line that starts the check. Return the new bytes.

    ``needs`` returns the installed libraries that a library needs. ``compacted`` returns whether a library was shipped
    without its cold pages: then it is compared whatever its size, because most of what remains is read anyway.

    Raises:
        PackError: a file cannot be read, or the table cannot be written.
    """
    package = top / cold_store.PACKAGE
    with scratch_errors(PackError, f"cannot write the table of the layer's files below {top}: {{file}}"):
        before = (top / cold_store.PTH).stat().st_size
        first = [
            (file.name, _crc(file))
            for stem in _CHECKED_BY_PTH
            for file in package.glob(f"{stem}.py*")
            if file.is_file()
        ]
        # The library that compares all others cannot do so with itself.
        first += [(f"../{NATIVE_FOLDER}/{file.name}", _crc(file)) for file in (top / NATIVE_FOLDER).glob(_RUNTIME)]
        line = (top / cold_store.PTH).read_text()
        (top / cold_store.PTH).write_text(_PTH_LINE.format(first=first) + line, "utf-8")
        rows = []
        runtime = tuple(f"{NATIVE_FOLDER}/{file.name}" for file in sorted((top / NATIVE_FOLDER).glob("*.so")))
        for file in sorted(top.rglob("*")):
            if file.is_symlink() or not file.is_file():
                continue
            path = file.relative_to(top).as_posix()
            library = elf.is_elf_name(path) and not path.startswith(f"{NATIVE_FOLDER}/")
            needed = (*needs(path), *runtime) if library else ()
            when = _check_time(path, file, compacted)
            rows.append(file_index.KeptRow(path, needed, _crc(file), when, file.stat().st_size))
        content = file_index.pack_table(rows)
        target = package / CHECKSUMS / cold_store.digest(content)
        target.parent.mkdir()
        target.write_bytes(content)
        target.chmod(0o644)
    return len(content) + (top / cold_store.PTH).stat().st_size - before


def _check_time(path: str, file: Path, compacted: Callable[[Path], bool]) -> int:
    """Return when the contents of a file are compared; the size is always compared."""
    if path in _READ_AT_START:
        return check.ALWAYS
    if _is_packed(path):
        return check.NEVER  # it contains a checksum of each part that is read
    # A cold store contains checksums of its own.
    if path.startswith(f"{cold_store.PACKAGE}/{cold_store.STORES}/") or path.endswith(".cold"):
        return check.NEVER
    if elf.is_elf_name(path):
        return check.LATER if file.stat().st_size <= _COMPARED_BYTES or compacted(file) else check.NEVER
    return check.LATER


def _is_packed(path: str) -> bool:
    return path == packed_bytecode.RUNTIME or path.startswith(f"{packed_bytecode.CODE}/")


def _crc(file: Path) -> int:
    crc = 0
    with file.open("rb") as source:
        while piece := source.read(1 << 20):
            crc = zlib.crc32(piece, crc)
    return crc
