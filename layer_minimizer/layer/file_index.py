"""Binary tables that a layer's native runtime reads in place; native/src/fileindex.h and layerfiles.h describe them."""

from __future__ import annotations

import lzma
import struct
import zlib
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from layer_minimizer.core import compression

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

# Of all chunks, and of the index; the decoder in native/src/lzma.h needs the whole output in memory.
CHUNK_BYTES = 4 << 20
STORED, LZMA, CODE = range(3)
FILTERS = [{"id": lzma.FILTER_LZMA1, **compression.BEST, "lc": 3, "lp": 0, "pb": 2, "dict_size": CHUNK_BYTES}]
CODE_FILTERS = [{"id": lzma.FILTER_X86}, *FILTERS]
LEFT_OUT = 0xFFFFFFFF
BY_COLD_KEEP = 1
BY_GPU_KEEP = 2
_END = 0xFFFFFFFF

_INDEX_MAGIC, _TABLE_MAGIC = (int.from_bytes(text, "little") for text in (b"LLYFIDX1", b"LLYTTST1"))
_INDEX = struct.Struct("<QIIIIQ")
_BODY = struct.Struct("<IIII")
_FILE = struct.Struct("<IIIIIIQ")
_CHUNK = struct.Struct("<QIIII")
_TABLE = struct.Struct("<QIIIIII")
_KEPT = struct.Struct("<IIIIQ")
_UNCHECKED = 12  # bytes before those that the checksum covers
_HASHES = 6
_FILTER_BYTES = 2  # for each path: about one in a thousand others passes


@dataclass(frozen=True, slots=True)
class FileRow:
    """A file that a layer does not have in place.

    Attributes:
        path: the path in the site folder.
        owner: its distribution and version, for messages.
        needs: the libraries in the site that a library needs.
        mode: the permission bits.
        chunk: the first chunk with its bytes, `LEFT_OUT` if the layer does not have them.
        offset: where it begins in that chunk; `BY_COLD_KEEP` if it was left out and ``--cold keep`` would include it,
            `BY_GPU_KEEP` if ``--gpu keep`` would.
        size: in bytes.
    """

    path: str
    owner: str
    needs: tuple[str, ...] = ()
    mode: int = 0o644
    chunk: int = LEFT_OUT
    offset: int = 0
    size: int = 0


@dataclass(frozen=True, slots=True)
class ChunkRow:
    """Compressed bytes in the data file: ``packed`` at ``offset``, ``size`` with ``crc`` when they are decoded."""

    offset: int
    packed: int
    size: int
    crc: int
    method: int


@dataclass(frozen=True, slots=True)
class KeptRow:
    """A file that a layer has in place, by which a damaged one is detected."""

    path: str
    needs: tuple[str, ...]
    crc: int
    size: int


class _Texts:
    """Texts that end with a zero byte, each stored once."""

    def __init__(self) -> None:
        self._offsets: dict[str, int] = {}
        self.content = bytearray()

    def add(self, text: str) -> int:
        offset = self._offsets.setdefault(text, len(self.content))
        if offset == len(self.content):
            self.content += text.encode("utf-8", "surrogateescape") + b"\0"
        return offset


class _Lists:
    """Lists of texts, each stored once."""

    def __init__(self, texts: _Texts) -> None:
        self._texts = texts
        self._offsets: dict[tuple[str, ...], int] = {}
        self.numbers: list[int] = []

    def add(self, texts: tuple[str, ...]) -> int:
        if texts not in self._offsets:
            self._offsets[texts] = len(self.numbers)
            self.numbers += [*map(self._texts.add, texts), _END]
        return self._offsets[texts]


def pack_index(files: Iterable[FileRow], chunks: Sequence[ChunkRow], data_bytes: int) -> bytes:
    """Return the index of a cold store with ``data_bytes`` bytes of chunks."""
    rows = sorted(files, key=lambda row: row.path.encode("utf-8", "surrogateescape"))
    texts = _Texts()
    needs = _Lists(texts)
    body = bytearray()
    for row in rows:
        numbers = (texts.add(row.path), texts.add(row.owner), needs.add(row.needs))
        body += _FILE.pack(*numbers, row.mode, row.chunk, row.offset, row.size)
    for chunk in chunks:
        body += _CHUNK.pack(chunk.offset, chunk.packed, chunk.size, chunk.crc, chunk.method)
    body += struct.pack(f"<{len(needs.numbers)}I", *needs.numbers) + texts.content
    whole = _BODY.pack(len(rows), len(chunks), len(needs.numbers), len(texts.content)) + body
    packed = lzma.compress(whole, lzma.FORMAT_RAW, filters=FILTERS)
    filtered = _filter(_names_in_filter(rows))
    after = struct.pack("<IIIQ", len(filtered), len(packed), len(whole), data_bytes) + filtered + packed
    return struct.pack("<QI", _INDEX_MAGIC, zlib.crc32(after)) + after


def read_index(content: bytes) -> tuple[tuple[FileRow, ...], tuple[ChunkRow, ...]]:
    """Return the files in an index, without the libraries that they need, and the chunks.

    Raises:
        ValueError: it is damaged.
    """
    try:
        magic, crc, filtered, packed, _size, _data = _INDEX.unpack_from(content)
        if magic != _INDEX_MAGIC or crc != zlib.crc32(content[_UNCHECKED:]):
            raise ValueError("the index of a cold store is damaged")
        start = _INDEX.size + filtered
        body = lzma.decompress(content[start : start + packed], lzma.FORMAT_RAW, filters=FILTERS)
    except (struct.error, lzma.LZMAError) as exc:
        raise ValueError("the index of a cold store is damaged") from exc
    files, chunks, needs, texts = _BODY.unpack_from(body)
    strings = len(body) - texts

    def text(offset: int) -> str:
        start = strings + offset
        return body[start : body.index(b"\0", start)].decode("utf-8", "surrogateescape")

    end = _BODY.size + files * _FILE.size
    if end + chunks * _CHUNK.size + 4 * needs != strings:
        raise ValueError("the index of a cold store is damaged")
    rows = tuple(
        FileRow(text(path), text(owner), (), mode, chunk, offset, size)
        for path, owner, _needs, mode, chunk, offset, size in _FILE.iter_unpack(body[_BODY.size : end])
    )
    packed_rows = body[end : end + chunks * _CHUNK.size]
    return rows, tuple(ChunkRow(*numbers) for numbers in _CHUNK.iter_unpack(packed_rows))


def decode(packed: bytes, row: ChunkRow) -> bytes:
    """Return the bytes of a chunk.

    Raises:
        ValueError: it is damaged.
    """
    if row.method == STORED:
        raw = packed
    else:
        filters = CODE_FILTERS if row.method == CODE else FILTERS
        try:
            raw = lzma.LZMADecompressor(lzma.FORMAT_RAW, None, filters).decompress(packed, row.size)
        except lzma.LZMAError as exc:
            raise ValueError("the data of a cold store is damaged") from exc
    if zlib.crc32(raw) != row.crc:
        raise ValueError("the data of a cold store is damaged")
    return raw


def pack_table(files: Iterable[KeptRow]) -> bytes:
    """Return the table of the files that a layer has in place."""
    rows = sorted(files, key=lambda row: row.path.encode("utf-8", "surrogateescape"))
    texts = _Texts()
    needs = _Lists(texts)
    body = bytearray()
    for row in rows:
        body += _KEPT.pack(texts.add(row.path), needs.add(row.needs), row.crc, 0, row.size)
    body += struct.pack(f"<{len(needs.numbers)}I", *needs.numbers) + texts.content
    size = _TABLE.size + len(body)
    after = struct.pack("<IIIII", size, len(rows), len(needs.numbers), len(texts.content), 0) + body
    return struct.pack("<QI", _TABLE_MAGIC, zlib.crc32(after)) + after


def _names_in_filter(rows: Iterable[FileRow]) -> Iterator[str]:
    for row in rows:
        if row.chunk == LEFT_OUT:
            yield row.path
            yield from map(str, PurePosixPath(row.path).parents)
        elif ".so" in row.path:
            yield "/" + row.path.rpartition("/")[2]


def _filter(names: Iterable[str]) -> bytes:
    """Return a Bloom filter of ``names``, empty if there are none."""
    wanted = sorted(set(names))
    if not wanted:
        return b""
    size = 1 << (len(wanted) * _FILTER_BYTES - 1).bit_length()
    bits = bytearray(size)
    for name in wanted:
        value = 0xCBF29CE484222325  # FNV-1a
        for byte in name.encode("utf-8", "surrogateescape"):
            value = ((value ^ byte) * 0x100000001B3) & 0xFFFFFFFFFFFFFFFF
        one, two = value & 0xFFFFFFFF, (value >> 32) | 1
        for _ in range(_HASHES):
            bits[(one & (size * 8 - 1)) >> 3] |= 1 << (one & 7)
            one = (one + two) & 0xFFFFFFFF
    return bytes(bits)
