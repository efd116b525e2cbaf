"""Writes down what a finished layer consists of, so that its runtime can tell when that is no longer there."""

from __future__ import annotations

import marshal
import zlib
from typing import TYPE_CHECKING

from layer_minimizer.analysis import elf
from layer_minimizer.core.errors import PackError
from layer_minimizer.core.files import scratch_errors
from layer_minimizer.layer import cold_store, packed_bytecode
from layer_minimizer.layer.layout import LIBRARIES, SUMS
from layer_minimizer.payload.runtime import check

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

# Of a library that is shipped whole most pages may never be read: to compare them all would take longer than to use it.
_WHOLE = 1 << 20
# Files that C code may open by itself are compared in size at the start, unless they are many: the largest of them.
_AT_START = 64
_MARSHAL = 2  # every Python can read this form
# What begins the checks is compared by the line that starts it: as a .pth file's, one that begins with "import".
_FIRST = ("__init__", "check")
_FIRST_READ = {
    cold_store.PTH,
    cold_store.CUSTOMIZE,
    *(
        f"{cold_store.PACKAGE}/{stem}.{suffix}"
        for stem in ("customize", "finder", "files", "packed")
        for suffix in ("py", "pyc")
    ),
}
_OWN = (f"{cold_store.PACKAGE}/", f"{LIBRARIES}/", cold_store.PTH, cold_store.CUSTOMIZE)
_PTH_LINE = (
    'import sys, os, zlib; (lambda d, crc: d and os.environ.get("LAYER_MINIMIZER_CHECK") != "off" and '
    '[os.write(2, ("layer_minimizer: by layer_minimizer.pth, %s/_layer_minimizer/%s is missing or damaged: '
    'deploy the layer again\\n" % (d, n))'
    '.encode("utf-8", "backslashreplace")) and os._exit(1) for n, c in {first} if not os.path.isfile(d + '
    '"/_layer_minimizer/" + n) or crc(open(d + "/_layer_minimizer/" + n, "rb").read()) & 0xffffffff != c])('
    'sys._getframe(1).f_locals.get("sitedir"), zlib.crc32); '
)


def write_sums(top: Path, needs: Callable[[str], Iterable[str]], compacted: Callable[[Path], bool]) -> int:
    """Write the table of what lies below the site folder ``top``, with its runtime's start; give the bytes added.

    ``needs`` gives the installed libraries that one needs, ``compacted`` says whether one has lost the pages that were
    not in use: then all that is left of it is read anyway.

    Raises:
        PackError: a file cannot be read, or the table cannot be written.
    """
    package = top / cold_store.PACKAGE
    with scratch_errors(PackError, f"cannot write the table of the layer's files below {top}: {{file}}"):
        before = (top / cold_store.PTH).stat().st_size
        first = [(file.name, _crc(file)) for stem in _FIRST for file in package.glob(f"{stem}.py*") if file.is_file()]
        line = (top / cold_store.PTH).read_text()
        (top / cold_store.PTH).write_text(_PTH_LINE.format(first=tuple(first)) + line, "utf-8")
        files: dict[str, tuple[tuple[int, int, int]]] = {}
        libraries: dict[str, tuple[str, ...]] = {}
        runtime = tuple(f"{LIBRARIES}/{file.name}" for file in sorted((top / LIBRARIES).glob("*.so")))
        for file in sorted(top.rglob("*")):
            if file.is_symlink() or not file.is_file():
                continue
            path = file.relative_to(top).as_posix()
            files[path] = ((file.stat().st_size, _crc(file), _when(path, file, compacted)),)
            if elf.is_elf_name(path) and not path.startswith(f"{LIBRARIES}/"):
                libraries[path] = (*needs(path), *runtime)
        table = {"files": files, "needs": {path: needed for path, needed in libraries.items() if needed}}
        content = zlib.compress(marshal.dumps({**table, "start": _start(files)}, _MARSHAL), 9)
        content = b"%08x\n" % zlib.crc32(content) + content
        target = package / SUMS / cold_store.digest(content)
        target.parent.mkdir()
        target.write_bytes(content)
        target.chmod(0o644)
    return len(content) + (top / cold_store.PTH).stat().st_size - before


def _when(path: str, file: Path, compacted: Callable[[Path], bool]) -> int:
    """Say when the bytes of a file are compared: sizes always are."""
    if path in _FIRST_READ:
        return check.ALWAYS
    if _is_packed(path):
        return check.NEVER  # all that is read of it has checksums
    # A cold store has checksums of its own for all that is read of it.
    if path.startswith(f"{cold_store.PACKAGE}/{cold_store.STORES}/") or path.endswith(".cold"):
        return check.NEVER
    if elf.is_elf_name(path):
        return check.LATER if file.stat().st_size <= _WHOLE or compacted(file) else check.NEVER
    return check.LATER


def _is_packed(path: str) -> bool:
    return path == packed_bytecode.RUNTIME or path.startswith(f"{packed_bytecode.CODE}/")


def _start(files: Mapping[str, tuple[tuple[int, int, int]]]) -> list[str]:
    """Return what is compared at the start: what is in use before anything can be watched, and the sizes of data."""
    first = [path for path in sorted(files) if path in _FIRST_READ or _is_packed(path)]
    data = [p for p in files if not p.endswith((".py", ".pyc")) and not elf.is_elf_name(p) and not p.startswith(_OWN)]
    return first + sorted(data, key=lambda path: (-files[path][0][0], path))[:_AT_START]


def _crc(file: Path) -> int:
    crc = 0
    with file.open("rb") as source:
        while piece := source.read(1 << 20):
            crc = zlib.crc32(piece, crc)
    return crc
