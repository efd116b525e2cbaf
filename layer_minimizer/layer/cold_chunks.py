"""The chunks of a cold store: which bytes of which files are compressed together, and how many they become."""

from __future__ import annotations

import os
import zlib
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING

from layer_minimizer.core import compression, progress
from layer_minimizer.core.errors import PackError
from layer_minimizer.core.files import sha256_of
from layer_minimizer.layer import file_index
from layer_minimizer.layer.file_index import ChunkRow

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from layer_minimizer.core.compression import Density

_SOLID = 2 << 20  # uncompressed bytes of small files that share a chunk
_X86_64 = b"\x3e\x00"


@dataclass(frozen=True, slots=True)
class ColdFile:
    """A file for the cold store. ``needs`` are all libraries in the site that a shared library needs.

    ``owner`` is its distribution and version, for messages. Files with a higher ``group`` lie behind all others, which
    are compressed to the same bytes with and without them.
    """

    path: str
    source: Path
    needs: tuple[str, ...] = ()
    owner: str = ""
    group: int = 0


@dataclass(frozen=True, slots=True)
class Member:
    """A cold file with its properties on disk."""

    file: ColdFile
    size: int
    mode: int
    code: bool  # x86-64 machine code, for which a filter improves compression


@dataclass(frozen=True, slots=True)
class _Slice:
    source: Path
    offset: int
    length: int


@dataclass(slots=True)
class Chunk:
    """Bytes that are compressed together: whole small files, or a part of a large one."""

    code: bool
    group: int = 0
    slices: list[_Slice] = field(default_factory=list)
    members: list[tuple[Member, int]] = field(default_factory=list)  # each with its bytes in the chunk
    size: int = 0
    row: ChunkRow | None = None  # once it is written

    def add(self, member: Member, offset: int, length: int) -> None:
        """Add ``length`` bytes of a file."""
        self.slices.append(_Slice(member.file.source, offset, length))
        self.members.append((member, length))
        self.size += length


def read_member(file: ColdFile) -> Member:
    """Return a cold file with its properties on disk.

    Raises:
        OSError: it cannot be read.
    """
    with file.source.open("rb") as source:
        status = os.fstat(source.fileno())
        head = source.read(20)
    code = head.startswith(b"\x7fELF") and head[18:20] == _X86_64
    return Member(file, status.st_size, 0o755 if status.st_mode & 0o100 else 0o644, code)


def arrange(members: Iterable[Member]) -> tuple[dict[str, tuple[int, int]], list[Chunk]]:
    """Return the first chunk and the offset in it of each file, and all chunks."""
    starts: dict[str, tuple[int, int]] = {}
    chunks: list[Chunk] = []
    shared: Chunk | None = None
    first_of: dict[tuple[int, bytes], int] = {}  # wheels contain copies of libraries
    for member in members:
        if member.size > _SOLID:
            first = first_of.setdefault((member.size, sha256_of(member.file.source)), len(chunks))
            starts[member.file.path] = (first, 0)
            if first == len(chunks):
                chunks += _parts(member)
            shared = None
            continue
        kind = (member.code, member.file.group)
        if shared is None or (shared.code, shared.group) != kind or shared.size + member.size > _SOLID:
            shared = Chunk(*kind)
            chunks.append(shared)
        starts[member.file.path] = (len(chunks) - 1, shared.size)
        shared.add(member, 0, member.size)
    return starts, chunks


def _parts(member: Member) -> Iterator[Chunk]:
    for offset in range(0, member.size, file_index.CHUNK_BYTES):
        part = Chunk(member.code)
        part.add(member, offset, min(file_index.CHUNK_BYTES, member.size - offset))
        yield part


def write_data(target: Path, chunks: Iterable[Chunk], density: Density) -> int:
    """Compress the chunks on all cores and write them in order, a few at a time. Return the bytes.

    If only a sample is compressed, the others are as many zeros as they would have bytes.

    Raises:
        OSError: a file cannot be read, or the data cannot be written.
        PackError: a file has changed.
    """
    workers = len(os.sched_getaffinity(0))
    waiting: deque[tuple[list[tuple[int, Chunk]], Future[tuple[bytes, int, int]]]] = deque()
    chunks = list(chunks)
    todo = density.batches(chunks, lambda chunk: (chunk.code, chunk.group))
    offset = 0
    total = sum(chunk.size for chunk in chunks)
    what = "compressing unused files"
    with (
        progress.step(what, total=total, in_bytes=True) as step,
        target.open("wb") as sink,
        ThreadPoolExecutor(workers) as pool,
    ):
        while True:
            while len(waiting) <= 2 * workers and (following := next(todo, None)):
                number, chunk = max(following, key=_size)
                waiting.append((following, pool.submit(_pack, chunk, dense=density.is_dense(number))))
            if not waiting:
                break
            batch, future = waiting.popleft()
            packed, crc, method = future.result()
            sink.write(packed)
            of = max(1, *map(_size, batch))
            for _number, chunk in batch:
                length = len(packed) * chunk.size // of
                chunk.row = ChunkRow(offset, length, chunk.size, crc, method)
                offset += length
                step.advance(chunk.size)
            sink.seek(offset)
        sink.truncate()
    target.chmod(0o644)
    return offset


def _size(numbered: tuple[int, Chunk]) -> int:
    return numbered[1].size


def _pack(chunk: Chunk, *, dense: bool) -> tuple[bytes, int, int]:
    raw = b"".join(map(_read, chunk.slices))
    packed = compression.pack(raw, file_index.CODE_FILTERS if chunk.code else file_index.FILTERS, dense=dense)
    if packed is None or len(packed) >= len(raw):
        return raw, zlib.crc32(raw), file_index.STORED
    return packed, zlib.crc32(raw), file_index.CODE if chunk.code else file_index.LZMA


def _read(part: _Slice) -> bytes:
    with part.source.open("rb") as source:
        source.seek(part.offset)
        data = source.read(part.length)
    if len(data) != part.length:
        raise PackError(f"{part.source} changed while the layer was being written; run the command again")
    return data


def shares_of(members: list[Member], chunks: list[Chunk]) -> dict[str, int]:
    """Divide the compressed bytes of each chunk among its files, by their sizes. The sum of all shares is exact."""
    shares = dict.fromkeys((member.file.path for member in members), 0)
    for chunk in chunks:
        ends = accumulate((length for _member, length in chunk.members), initial=0)
        packed = chunk.row.packed if chunk.row else 0
        cuts = [end * packed // max(1, chunk.size) for end in ends]
        for (member, _length), (begin, end) in zip(chunk.members, pairwise(cuts), strict=True):
            shares[member.file.path] += end - begin
    return shares
