"""Compresses the cold pages of compacted libraries, in chunks that can be decoded one by one."""

from __future__ import annotations

import lzma
import os
import zlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING

from layer_minimizer.core import compression, progress
from layer_minimizer.native import compact
from layer_minimizer.native.cold_index import Chunk, PackedChunk

if TYPE_CHECKING:
    from layer_minimizer.core.compression import Density
    from layer_minimizer.native.compact import Split

# src/lzma.h decodes exactly this: lc, lp and pb are constants there.
_FILTER = {"id": lzma.FILTER_LZMA1, **compression.BEST, "lc": 3, "lp": 0, "pb": 2}
# src/x86code.h reverses this one.
_CODE_FILTER = {"id": lzma.FILTER_X86}
_DICTIONARY_BYTES = 1 << 20


def pack_chunks(parts: Split, name: str, density: Density = compression.BEST_DENSITY) -> list[PackedChunk]:
    """Compress all chunks of the library ``name`` on all cores; the result does not depend on their number.

    If only a sample is compressed, the others are as many zeros as they would have bytes.
    """

    def pack(batch: list[tuple[int, Chunk]]) -> PackedChunk:
        number, chunk = batch[0]
        raw, code = parts.raw(chunk), is_code(parts, chunk)
        packed = compression.pack(raw, _filters(len(raw), code=code), dense=density.is_dense(number))
        return PackedChunk(raw if packed is None else packed, zlib.crc32(raw), code)

    packed = []
    batches = list(density.batches(parts.chunks, lambda chunk: is_code(parts, chunk)))
    what = f"compressing unused pages of {name}"
    with progress.step(what, total=parts.cold_bytes, in_bytes=True) as step, ThreadPoolExecutor(os.cpu_count()) as pool:
        for ((_number, first), *others), each in zip(batches, pool.map(pack, batches), strict=True):
            packed.append(each)
            packed += (replace(each, data=bytes(len(each.data) * o.pages // first.pages)) for _number, o in others)
            step.advance(sum(chunk.pages for chunk in (first, *(o for _, o in others))) * parts.image.page_size)
    return packed


def _filters(size: int, *, code: bool) -> list[dict[str, int]]:
    dictionary = _DICTIONARY_BYTES if size <= _DICTIONARY_BYTES else compact.LARGE_CHUNK_BYTES
    return [*([_CODE_FILTER] if code else []), {**_FILTER, "dict_size": dictionary}]


def is_code(parts: Split, chunk: Chunk) -> bool:
    """Return whether a chunk contains x86 machine code, for which another filter is used."""
    return parts.image.machine == "x86_64" and any(run.executable for run in chunk.runs)


def without_data(parts: Split) -> list[PackedChunk]:
    """Return chunks without data, for libraries whose cold pages are dropped."""
    return [PackedChunk(b"", 0) for _ in parts.chunks]
