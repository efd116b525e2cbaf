"""Finds out which pages of which libraries a run touches: the table that src/pagetrace.c reads and marks."""

from __future__ import annotations

import mmap
import os
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

from layer_minimizer.native import hotness
from layer_minimizer.native.elf_image import NotUnderstoodError, read_image

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

_HEADER = struct.Struct("<8sII")
_LIBRARY = struct.Struct("<QQII")
_RANGE = struct.Struct("<QQIIQ")
_MAGIC = b"LMINLPG1"


@dataclass(frozen=True, slots=True)
class _Watched:
    path: str
    page_size: int
    ranges: tuple[tuple[int, int, bool], ...]


def make_table(libraries: Iterable[tuple[str, Path]], table: Path) -> dict[str, str]:
    """Write the table of pages to watch in ``libraries``, (site-relative path, file) pairs.

    Gives the libraries that are not watched, with the reason.
    """
    watched: dict[tuple[int, int], _Watched] = {}
    refused: dict[str, str] = {}
    for path, file in libraries:
        try:
            with file.open("rb") as source:
                status = os.fstat(source.fileno())
                # Never closed by hand: the views that an exception's frames hold would not allow it.
                data = mmap.mmap(source.fileno(), 0, access=mmap.ACCESS_READ)
            image = read_image(memoryview(data))
            entry = _Watched(path, image.page_size, hotness.coldable_ranges(image))
            watched[status.st_dev, status.st_ino] = entry
        except (OSError, ValueError) as exc:
            refused[path] = f"it cannot be read ({exc})"
        except NotUnderstoodError as exc:
            refused[path] = str(exc)
    _write(watched, table)
    return refused


def _write(watched: Mapping[tuple[int, int], _Watched], table: Path) -> None:
    rows = sorted(watched.items())
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
        out.write(_HEADER.pack(_MAGIC, len(rows), count) + libraries + ranges)
        out.truncate(marks)


def read_table(table: Path, libraries: Iterable[tuple[str, Path]]) -> dict[str, frozenset[int]]:
    """Return the pages that were touched, by library; one whose pages were all left alone has an empty set."""
    data = table.read_bytes()
    _, count, _ = _HEADER.unpack_from(data, 0)
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
