"""Compresses what compacted libraries were shipped without, in chunks that can be decoded one by one."""

from __future__ import annotations

import lzma
import os
import zlib
from concurrent.futures import ThreadPoolExecutor

from layer_minimizer.native.compact import Chunk, PackedChunk, Split

# src/lzma.h is made for these: lc, lp and pb are fixed there.
_FILTERS = [{"id": lzma.FILTER_LZMA1, "preset": 9, "lc": 3, "lp": 0, "pb": 2, "dict_size": 1 << 20}]


def pack_chunks(parts: Split) -> list[PackedChunk]:
    """Compress every chunk, on all processors; the result does not depend on their number."""

    def pack(chunk: Chunk) -> PackedChunk:
        raw = parts.raw(chunk)
        packed = lzma.compress(raw, format=lzma.FORMAT_RAW, filters=_FILTERS)
        return PackedChunk(packed if len(packed) < len(raw) else raw, zlib.crc32(raw))

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(pack, parts.chunks))


def without_data(parts: Split) -> list[PackedChunk]:
    """Give empty chunks, for libraries whose cold pages are dropped."""
    return [PackedChunk(b"", 0) for _ in parts.chunks]
