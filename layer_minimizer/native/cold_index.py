"""Packs the index of a library's cold pages, which the runtime reads: see src/coldindex.h. Does no I/O."""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

_INDEX = struct.Struct("<QIIIIIIIIQQQ")
_RUN = struct.Struct("<IIIII")
_CHUNK = struct.Struct("<QIIIIII")
_MAGIC = int.from_bytes(b"LAYCOLD1", "little")
_UNCHECKED = 16


@dataclass(frozen=True, slots=True)
class PageRun:
    """Consecutive pages with the same access rights."""

    page: int
    pages: int
    executable: bool

    @property
    def stop(self) -> int:
        """The page after the last."""
        return self.page + self.pages


@dataclass(frozen=True, slots=True)
class Chunk:
    """Cold runs that are compressed together, in ascending order of address."""

    runs: tuple[PageRun, ...]

    @property
    def pages(self) -> int:
        """The number of pages."""
        return sum(run.pages for run in self.runs)


@dataclass(frozen=True, slots=True)
class PackedChunk:
    """The compressed bytes of a chunk, and the CRC-32 of its pages.

    ``code``: the filter for x86 machine code was applied before compression.
    """

    data: bytes
    checksum: int
    code: bool = False


def pack(  # noqa: PLR0913 - what the index contains
    packed: Sequence[tuple[Chunk, PackedChunk]],
    cold: Sequence[PageRun],
    page_size: int,
    *,
    name: str,
    store: str,
    early: bool,
) -> bytes:
    """Return the index of the cold pages of a library.

    ``packed`` are its chunks in the order of the store, ``cold`` the runs of pages in them; ``name`` and ``store`` are
    those of `compact.rewrite`. ``early``: pages can be needed before the constructors run.
    """
    chunks, runs = bytearray(), bytearray()
    number = offset = 0
    for which, (chunk, stored) in enumerate(packed):
        length = len(stored.data)
        chunks += _CHUNK.pack(offset, length, chunk.pages, stored.checksum, number, len(chunk.runs), stored.code)
        offset += length
        within = 0
        for run in chunk.runs:
            runs += _RUN.pack(run.page, run.pages, which, within, run.executable)
            within += run.pages
        number += len(chunk.runs)
    name_text, store_text = _encoded(name, store)
    name_at = _INDEX.size + len(chunks) + len(runs)
    size = name_at + len(name_text) + len(store_text)
    fields = (
        page_size,
        len(packed),
        number,
        name_at,
        name_at + len(name_text) if store else 0,
        early,
        cold[0].page * page_size if cold else 0,
        cold[-1].stop * page_size if cold else 0,
        offset,
    )
    rest = bytes(chunks) + bytes(runs) + name_text + store_text
    draft = _INDEX.pack(_MAGIC, size, 0, *fields) + rest
    return _INDEX.pack(_MAGIC, size, zlib.crc32(draft[_UNCHECKED:]), *fields) + rest


def _encoded(name: str, store: str) -> tuple[bytes, bytes]:
    return name.encode("utf-8", "surrogateescape") + b"\0", store.encode("utf-8", "surrogateescape") + b"\0"
