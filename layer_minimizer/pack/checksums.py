"""Writes sizes and checksums of a finished layer's files, by which its runtime detects missing and damaged ones."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

from layer_minimizer.analysis import elf
from layer_minimizer.core.errors import PackError
from layer_minimizer.core.files import scratch_errors
from layer_minimizer.layer import cold_store, file_index
from layer_minimizer.layer.layout import CHECKSUMS, NATIVE_FOLDER, RUNTIME
from layer_minimizer.layer.packed_bytecode import FIRST

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

# The modules that contain the check are compared by the line that starts it. Lines of .pth files begin with "import".
_CHECKED_BY_PTH = ("__init__.py*", "check.py*", FIRST)
_RUNTIME = RUNTIME.format(digest="*")
_PTH_LINE = (
    'import sys, os; (lambda d, how: d and how != "off" and '
    '[os.write(2, ("layer_minimizer: by layer_minimizer.pth, %s/_layer_minimizer/%s is missing or damaged: '
    'deploy the layer again\\n" % (d, n))'
    '.encode("utf-8", "backslashreplace")) and os._exit(1) for n, s, c in {first} '
    'for f in [d + "/_layer_minimizer/" + n] if not os.path.isfile(f) or os.stat(f).st_size != s or how == "all" and '
    '__import__("zlib").crc32(open(f, "rb").read()) & 0xffffffff != c])('
    'sys._getframe(1).f_locals.get("sitedir"), os.environ.get("LAYER_MINIMIZER_CHECK")); '
)


def write_checksums(top: Path, needs: Callable[[str], Iterable[str]]) -> int:
    """Write the table of the files in the site folder ``top`` and the line that starts the check. Return the new bytes.

    ``needs`` returns the installed libraries that a library needs.

    Raises:
        PackError: a file cannot be read, or the table cannot be written.
    """
    package = top / cold_store.PACKAGE
    with scratch_errors(PackError, f"cannot write the table of the layer's files below {top}: {{file}}"):
        before = (top / cold_store.PTH).stat().st_size
        first = [
            (file.name, file.stat().st_size, _crc(file))
            for pattern in _CHECKED_BY_PTH
            for file in package.glob(pattern)
            if file.is_file()
        ]
        # The library that compares all others cannot do so with itself.
        libraries = (top / NATIVE_FOLDER).glob(_RUNTIME)
        first += [(f"../{NATIVE_FOLDER}/{file.name}", file.stat().st_size, _crc(file)) for file in libraries]
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
            rows.append(file_index.KeptRow(path, needed, _crc(file), file.stat().st_size))
        content = file_index.pack_table(rows)
        target = package / CHECKSUMS / cold_store.digest(content)
        target.parent.mkdir()
        target.write_bytes(content)
        target.chmod(0o644)
    return len(content) + (top / cold_store.PTH).stat().st_size - before


def _crc(file: Path) -> int:
    crc = 0
    with file.open("rb") as source:
        while piece := source.read(1 << 20):
            crc = zlib.crc32(piece, crc)
    return crc
