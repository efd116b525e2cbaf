"""Compares compressions on the cold pages of a real library. Not a test: it prints a Markdown table.

usage: python tests/system/benchmarks/compression.py LIBRARY [--hot PAGES.json]

What a cold store costs is two-fold: its size, and the time that a program waits when it touches a cold page, which is
above all the decoding of a whole chunk. Both depend on the compression and on the chunk's size, and both on what is
compressed: PAGES.json is the list of the page numbers that a traced run touched; without it all pages that can be cold
are. Every row uses the same bytes: 512 KiB at a time, taken at even steps, cut into chunks of each size.

zstandard, lz4 and brotli are measured when they are installed, src/lzma.h when there is a compiler.
"""

import argparse
import contextlib
import ctypes
import importlib
import json
import lzma
import math
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from layer_minimizer.native import coldstore, compact

CHUNK_KIB = (64, 128, 256, 512)
SAMPLE_BYTES = 20 << 20  # the slowest methods compress a megabyte per second
DRAWS = 256
PASSES = 3
# For mallopt: freed memory is reused, so that decoding times contain no page faults.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
OWN_DECODER = """
#include "lzma.h"
int decode(const uint8_t *in, size_t in_size, uint8_t *out, size_t out_size) {
    static uint16_t probs[LZMA_PROBS];
    return lzma_decode(in, in_size, out, out_size, probs);
}
"""

Packer = Callable[[bytes], bytes]
Unpacker = Callable[[bytes, int], bytes | memoryview]


@dataclass(frozen=True, slots=True)
class Method:
    """A compression method and its decoders, by the names of their rows."""

    pack: Packer
    unpackers: dict[str, Unpacker]


class Room:
    """A buffer for decoded data, allocated before the measurement."""

    def __init__(self, size: int) -> None:
        """Allocate the buffer, and write to every page."""
        self._bytes = bytearray(size)
        self.view = memoryview(self._bytes)
        self.address = ctypes.addressof(ctypes.c_char.from_buffer(self._bytes))


def keep_freed_memory() -> None:
    """Make the C library reuse large blocks, if it has mallopt."""
    with contextlib.suppress(AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(M_MMAP_THRESHOLD, 16 << 20)
        mallopt(M_TRIM_THRESHOLD, 1 << 30)


def optional(name: str) -> ModuleType | None:
    """Import a module, or log that its rows are omitted."""
    try:
        return importlib.import_module(name)
    except ImportError:
        sys.stdout.write(f"- left out: {name.partition('.')[0]} is not installed\n")
        return None


def own_decoder(folder: str, room: Room) -> Unpacker | None:
    """Compile src/lzma.h as the runtime is compiled, or log that its row is omitted."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if not compiler:
        sys.stdout.write("- left out: src/lzma.h, there is no C compiler\n")
        return None
    headers = Path(compact.__file__).parent / "src"
    source, library = Path(folder) / "decoder.c", Path(folder) / "decoder.so"
    source.write_text(OWN_DECODER)
    flags = ["-O2", "-fPIC", "-shared", "-fno-stack-protector", "-U_FORTIFY_SOURCE", f"-I{headers}"]
    subprocess.run([compiler, *flags, str(source), "-o", str(library)], check=True)
    decode = ctypes.CDLL(str(library)).decode
    decode.argtypes = [ctypes.c_char_p, ctypes.c_size_t, ctypes.c_void_p, ctypes.c_size_t]

    def unpack(packed: bytes, size: int) -> memoryview:
        if decode(packed, len(packed), room.address, size):
            raise ValueError("src/lzma.h does not understand what liblzma wrote")
        return room.view[:size]

    return unpack


def zlib_method() -> Method:
    """Return the methods of Python's standard library."""
    return Method(lambda raw: zlib.compress(raw, 9), {"zlib 9": lambda packed, size: zlib.decompress(packed, 15, size)})


def zstd_method(zstandard: ModuleType, level: int) -> Method:
    """Return Zstandard with one frame per chunk, and one compressor per chunk since it is not thread-safe."""
    decode = zstandard.ZstdDecompressor().decompress

    def pack(raw: bytes) -> bytes:
        packed: bytes = zstandard.ZstdCompressor(level=level).compress(raw)
        return packed

    def unpack(packed: bytes, size: int) -> bytes:
        raw: bytes = decode(packed, size)
        return raw

    return Method(pack, {f"zstd {level}": unpack})


def lz4_method(block: ModuleType, room: Room) -> Method:
    """Return LZ4's block format, decoded by the C function: the module's decoder also copies its result.

    The level is the highest of LZ4 HC.
    """
    decode = ctypes.CDLL(importlib.import_module("lz4.block._block").__file__).LZ4_decompress_safe
    decode.argtypes = [ctypes.c_char_p, ctypes.c_void_p, ctypes.c_int, ctypes.c_int]

    def pack(raw: bytes) -> bytes:
        packed: bytes = block.compress(raw, mode="high_compression", compression=12, store_size=False)
        return packed

    def unpack(packed: bytes, size: int) -> memoryview:
        if decode(packed, room.address, len(packed), size) != size:
            raise ValueError("LZ4 does not understand what it wrote")
        return room.view[:size]

    return Method(pack, {"LZ4 HC 12": unpack})


def brotli_method(brotli: ModuleType) -> Method:
    """Return Brotli with the highest quality, and a window of at least the largest chunk."""

    def pack(raw: bytes) -> bytes:
        packed: bytes = brotli.compress(raw, quality=11, lgwin=18)
        return packed

    def unpack(packed: bytes, _size: int) -> bytes:
        raw: bytes = brotli.decompress(packed)
        return raw

    return Method(pack, {"brotli 11": unpack})


def lzma_method(name: str, preset: int, own: Unpacker | None) -> Method:
    """Return raw LZMA as in cold stores, with the given preset."""
    filters = [{**coldstore._filters(0, code=False)[0], "preset": preset}]

    def pack(raw: bytes) -> bytes:
        return lzma.compress(raw, format=lzma.FORMAT_RAW, filters=filters)

    def unpack(packed: bytes, size: int) -> bytes:
        return lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=filters).decompress(packed, size)

    unpackers: dict[str, Unpacker] = {f"{name}, liblzma": unpack}
    if own:
        unpackers[f"{name}, src/lzma.h"] = own
    return Method(pack, unpackers)


def methods(folder: str) -> Iterator[Method]:
    """Yield the methods that are available; ``folder`` is for compiled files."""
    room = Room(max(CHUNK_KIB) << 10)
    yield zlib_method()
    if zstandard := optional("zstandard"):
        yield zstd_method(zstandard, 19)
        yield zstd_method(zstandard, 22)
    if block := optional("lz4.block"):
        yield lz4_method(block, room)
    if brotli := optional("brotli"):
        yield brotli_method(brotli)
    own = own_decoder(folder, room)
    yield lzma_method("LZMA 9", 9, own)
    yield lzma_method("LZMA 9 extreme", 9 | lzma.PRESET_EXTREME, own)


def sample_chunks(parts: compact.Split) -> dict[int, list[bytes]]:
    """Return the chunks to measure, by chunk size in KiB.

    Chunks of the largest size are taken at even steps, and cut: every size has the same bytes, and its chunks are those
    that the whole library would have at that size.
    """
    page = parts.image.page_size
    largest = compact._chunks(parts.cold, (max(CHUNK_KIB) << 10) // page)
    count = min(len(largest), SAMPLE_BYTES // (max(CHUNK_KIB) << 10))
    taken = [largest[number * len(largest) // count] for number in range(count)]
    return {
        kib: [parts.raw(chunk) for group in taken for chunk in compact._chunks(group.runs, (kib << 10) // page)]
        for kib in CHUNK_KIB
    }


def decode_times(unpack: Unpacker, raws: Sequence[bytes], packs: Sequence[bytes]) -> tuple[float, float]:
    """Return the medians of microseconds per chunk and of bytes per microsecond, after comparing every chunk.

    A chunk's time is the best of some passes over all of them, in processor time: other processes do not count.
    """
    for raw, packed in zip(raws, packs, strict=True):
        if unpack(packed, len(raw)) != raw:
            raise ValueError("a chunk comes back as something else")
    dice = random.Random(0)
    numbers = dice.sample(range(len(raws)), DRAWS) if len(raws) >= DRAWS else dice.choices(range(len(raws)), k=DRAWS)
    best = [math.inf] * DRAWS
    for _ in range(PASSES):
        for draw, number in enumerate(numbers):
            packed, size = packs[number], len(raws[number])
            begun = time.thread_time_ns()
            unpack(packed, size)
            best[draw] = min(best[draw], (time.thread_time_ns() - begun) / 1000)
    rates = [len(raws[number]) / spent for number, spent in zip(numbers, best, strict=True)]
    return statistics.median(best), statistics.median(rates)


def print_rows(method: Method, chunks: dict[int, list[bytes]]) -> None:
    """Print a row per decoder and size. Compression uses all processors, decoding is measured on one."""
    rows: dict[str, list[str]] = {name: [] for name in method.unpackers}
    for kib, raws in chunks.items():
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            packs = list(pool.map(method.pack, raws))
        # A store has the raw bytes if they are smaller.
        size = sum(min(len(raw), len(packed)) for raw, packed in zip(raws, packs, strict=True))
        fraction = size / sum(map(len, raws))
        for name, unpack in method.unpackers.items():
            spent, rate = decode_times(unpack, raws, packs)
            rows[name].append(f"| {name} | {kib} KiB | {fraction:.4f} | {spent:.0f} | {rate:.0f} |\n")
    for lines in rows.values():
        sys.stdout.writelines(lines)
    sys.stdout.flush()


def main() -> None:
    """Print a description of the library, then the table."""
    parser = argparse.ArgumentParser(description="Compare compressions on the cold pages of a library.")
    parser.add_argument("library", type=Path)
    parser.add_argument("--hot", type=Path, metavar="PAGES.json", help="list of the numbers of hot pages")
    options = parser.parse_args()
    hot: frozenset[int] = frozenset(json.loads(options.hot.read_text()) if options.hot else ())
    keep_freed_memory()
    parts = compact.split(options.library.read_bytes(), hot)
    if not parts.cold:
        sys.exit("this library has no cold pages")
    chunks = sample_chunks(parts)
    taken = sum(map(len, chunks[max(CHUNK_KIB)]))
    counts = ", ".join(f"{len(raws)} of {kib} KiB" for kib, raws in chunks.items())
    sys.stdout.write(
        f"{options.library.name}: {len(hot)} pages are hot, {parts.cold_bytes / 1e6:.1f} MB are cold\n\n"
        f"- measured on {taken / 1e6:.1f} MB of that, {max(CHUNK_KIB)} KiB at even steps; chunks: {counts}\n"
        f"- decode times: medians of {DRAWS} random chunks, drawn repeatedly where there are fewer; processor time, "
        f"the best of {PASSES} passes; MB are 10^6 bytes\n"
    )
    with tempfile.TemporaryDirectory() as folder:
        found = list(methods(folder))
        sys.stdout.write("\n| method | chunk | size fraction | decode µs a chunk | decoded MB/s |\n")
        sys.stdout.write("|---|---:|---:|---:|---:|\n")
        for method in found:
            print_rows(method, chunks)


if __name__ == "__main__":
    main()
