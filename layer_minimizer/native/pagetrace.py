"""Writes and reads the table in which src/pagetrace.c marks the library pages that a run touches."""

from __future__ import annotations

import mmap
import os
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

from layer_minimizer.native import hotness
from layer_minimizer.native.elf_image import PAGE_BYTES, UnsupportedLibraryError, read_image

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping
    from pathlib import Path

_HEADER = struct.Struct("<8sIIII")
_LIBRARY = struct.Struct("<QQII")
_RANGE = struct.Struct("<QQIIQ")
_MAGIC = b"LMINLPG2"


@dataclass(frozen=True, slots=True)
class _TracedLibrary:
    path: str
    page_size: int
    ranges: tuple[tuple[int, int, bool], ...]


def make_table(
    libraries: Iterable[tuple[str, Path]],
    table: Path,
    constants: Collection[str] = (),
    page_size: int = PAGE_BYTES,
) -> dict[str, str]:
    """Write the table of the pages to trace in ``libraries``, (site-relative path, file) pairs.

    ``constants`` are the paths of those of which pages with constants are traced, too; ``page_size`` are the bytes of a
    page of the kernel. Return the libraries that cannot be traced, with the reason.
    """
    traced: dict[tuple[int, int], _TracedLibrary] = {}
    refused: dict[str, str] = {}
    for path, file in libraries:
        try:
            with file.open("rb") as source:
                status = os.fstat(source.fileno())
                # Not closed explicitly: that fails while the frames of an exception hold views of it.
                data = mmap.mmap(source.fileno(), 0, access=mmap.ACCESS_READ)
            image = read_image(memoryview(data), page_size)
            entry = _TracedLibrary(path, image.page_size, hotness.cold_candidates(image, constants=path in constants))
            traced[status.st_dev, status.st_ino] = entry
        except (OSError, ValueError) as exc:
            refused[path] = f"it cannot be read ({exc})"
        except UnsupportedLibraryError as exc:
            refused[path] = str(exc)
    _write(traced, table)
    return refused


def _write(traced: Mapping[tuple[int, int], _TracedLibrary], table: Path) -> None:
    rows = sorted(traced.items())
    count = sum(len(entry.ranges) for _, entry in rows)
    marks = _HEADER.size + _LIBRARY.size * len(rows) + _RANGE.size * count
    libraries, ranges = bytearray(), bytearray()
    number = 0
    for (device, inode), entry in rows:
        libraries += _LIBRARY.pack(device, inode, number, len(entry.ranges))
        number += len(entry.ranges)
        for first, stop, executable in entry.ranges:
            size = entry.page_size
            ranges += _RANGE.pack(first * size, (stop - first) * size, size, executable, marks)
            marks += stop - first
    with table.open("wb") as out:
        out.write(_HEADER.pack(_MAGIC, len(rows), count, 0, 0) + libraries + ranges)
        out.truncate(marks)


def read_use(table: Path) -> tuple[int, int]:
    """Return in how many processes the tracer was loaded, and how many libraries of the table these have loaded."""
    with table.open("rb") as source:
        _, _, _, processes, watched = _HEADER.unpack(source.read(_HEADER.size))
    return processes, watched


def read_table(table: Path, libraries: Iterable[tuple[str, Path]]) -> dict[str, frozenset[int]]:
    """Return the touched pages of each library in the table; an empty set if none was touched."""
    data = table.read_bytes()
    _, count, _, _, _ = _HEADER.unpack_from(data, 0)
    names = {(status.st_dev, status.st_ino): path for path, file in libraries if (status := file.stat())}
    touched: dict[str, frozenset[int]] = {}
    ranges_at = _HEADER.size + _LIBRARY.size * count
    for i in range(count):
        device, inode, first, number = _LIBRARY.unpack_from(data, _HEADER.size + _LIBRARY.size * i)
        pages: set[int] = set()
        for k in range(first, first + number):
            address, size, page_size, _, marks = _RANGE.unpack_from(data, ranges_at + _RANGE.size * k)
            found = data[marks : marks + size // page_size]
            pages.update(address // page_size + at for at, mark in enumerate(found) if mark)
        touched[names[device, inode]] = frozenset(pages)
    return touched
