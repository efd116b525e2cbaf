"""Compresses what compacted libraries were shipped without, in chunks that can be decoded one by one."""

from __future__ import annotations

import lzma
import os
import zlib
from concurrent.futures import ThreadPoolExecutor

from layer_minimizer import compressed
from layer_minimizer.native.compact import Chunk, PackedChunk, Split

# src/lzma.h is made for these: lc, lp and pb are fixed there.
_FILTERS = [{"id": lzma.FILTER_LZMA1, "preset": 9, "lc": 3, "lp": 0, "pb": 2, "dict_size": 1 << 20}]
# src/x86code.h undoes the first of these.
_CODE_FILTERS = [{"id": lzma.FILTER_X86}, *_FILTERS]


def pack_chunks(parts: Split) -> list[PackedChunk]:
    """Compress every chunk, on all processors; the result does not depend on their number."""

    def pack(chunk: Chunk) -> PackedChunk:
        raw, code = parts.raw(chunk), is_code(parts, chunk)
        packed = compressed.pack(raw, _CODE_FILTERS if code else _FILTERS)
        return PackedChunk(raw if packed is None else packed, zlib.crc32(raw), code)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(pack, parts.chunks))


def is_code(parts: Split, chunk: Chunk) -> bool:
    """Say whether a chunk has x86 machine code, which is compressed in another form."""
    return parts.image.machine == "x86_64" and any(run.executable for run in chunk.runs)


def without_data(parts: Split) -> list[PackedChunk]:
    """Give empty chunks, for libraries whose cold pages are dropped."""
    return [PackedChunk(b"", 0) for _ in parts.chunks]
