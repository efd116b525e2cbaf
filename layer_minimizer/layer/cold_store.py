"""Writes a layer's cold store: unused files, compressed, and the runtime that restores them on demand."""

from __future__ import annotations

import hashlib
import json
import lzma
import os
import zlib
from collections import defaultdict, deque
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from importlib import resources
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, Any

from layer_minimizer.core import progress
from layer_minimizer.core.compression import pack
from layer_minimizer.core.errors import PackError
from layer_minimizer.core.files import scratch_errors, sha256_of
from layer_minimizer.model import modules
from layer_minimizer.payload.runtime import check
from layer_minimizer.payload.runtime import part as runtime_part

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

PACKAGE = check.PACKAGE
PTH = "layer_minimizer.pth"
CUSTOMIZE = "sitecustomize.py"
STORES = "cold"
_DIGITS = 16  # of digests in file names; see `digest`
_PTH_LINE = 'import sys, _layer_minimizer; _layer_minimizer.start(sys._getframe(1).f_locals.get("sitedir"))\n'
_SOLID = 2 << 20  # uncompressed bytes of small files that share a chunk
_X86_64 = b"\x3e\x00"


@dataclass(frozen=True, slots=True)
class ColdFile:
    """A file for the cold store. ``needs`` are all libraries in the site that a shared library needs."""

    path: str
    source: Path
    needs: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Member:
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
class _Chunk:
    """Bytes that are compressed together: whole small files, or a part of a large one."""

    code: bool
    slices: list[_Slice] = field(default_factory=list)
    members: list[tuple[_Member, int]] = field(default_factory=list)  # each with its bytes in the chunk
    size: int = 0
    row: tuple[int, int, int, int, int] = (0, 0, 0, 0, 0)  # offset, packed, size, crc32, method

    def add(self, member: _Member, offset: int, length: int) -> None:
        self.slices.append(_Slice(member.file.source, offset, length))
        self.members.append((member, length))
        self.size += length


def digest(content: bytes) -> str:
    """Return a name by content, for files that differ between layers: Lambda unpacks all layers into one folder."""
    return hashlib.sha256(content).hexdigest()[:_DIGITS]


def write_store(  # noqa: PLR0913 - the contents and their metadata
    files: Iterable[ColdFile],
    top: Path,
    *,
    layer: str,
    dropped: Mapping[str, str],
    distributions: Mapping[str, str] | None = None,
    customized: bool = False,
    compression: str = "xz",
) -> dict[str, int]:
    """Write the runtime, the files that start it and the store into the site folder ``top``.

    ``distributions`` are the versions of the distributions in the layer, for layers that are built on top of it.
    ``dropped`` maps top-level modules that were dropped to their distributions. ``sitecustomize.py`` is written only if
    there is none and ``customized`` (a base layer has one) is false; without it, a layer that is in PYTHONPATH is
    started by its stand-ins. ``compression`` is "xz", or "zlib" for a Python without lzma.

    Return the compressed bytes of each file: its share of its chunks.

    Raises:
        PackError: a file cannot be read, or the store cannot be written.
    """
    with scratch_errors(PackError, f"cannot write the cold store below {top}: {{file}}"):
        members = sorted((_read_member(file) for file in files), key=lambda each: (each.code, each.file.path))
        cold = top / PACKAGE / STORES / "new"
        cold.mkdir(parents=True, exist_ok=True)
        _write_runtime(top, customized=customized)
        starts, chunks = _arrange(members)
        _write_data(cold / "data", chunks, compression)
        index = _index(members, starts, chunks, {"compression": compression, "layer": layer, "dropped": dict(dropped)})
        _write(cold / "index", index)
        about = {"runtime": runtime_digest(), "distributions": dict(distributions or {})}
        _write(cold / "about.json", json.dumps(about, sort_keys=True, separators=(",", ":")).encode())
        cold.rename(cold.with_name(digest(index)))
    return _shares(members, chunks)


# ---- chunks -------------------------------------------------------------------------------------------------------


def _read_member(file: ColdFile) -> _Member:
    with file.source.open("rb") as source:
        status = os.fstat(source.fileno())
        head = source.read(20)
    code = head.startswith(b"\x7fELF") and head[18:20] == _X86_64
    return _Member(file, status.st_size, 0o755 if status.st_mode & 0o100 else 0o644, code)


def _arrange(members: Iterable[_Member]) -> tuple[dict[str, tuple[int, int]], list[_Chunk]]:
    """Return the first chunk and the offset in it of each file, and all chunks."""
    starts: dict[str, tuple[int, int]] = {}
    chunks: list[_Chunk] = []
    shared: _Chunk | None = None
    first_of: dict[tuple[int, bytes], int] = {}  # wheels contain copies of libraries
    for member in members:
        if member.size > _SOLID:
            first = first_of.setdefault((member.size, sha256_of(member.file.source)), len(chunks))
            starts[member.file.path] = (first, 0)
            if first == len(chunks):
                chunks += _parts(member)
            shared = None
            continue
        if shared is None or shared.code != member.code or shared.size + member.size > _SOLID:
            shared = _Chunk(member.code)
            chunks.append(shared)
        starts[member.file.path] = (len(chunks) - 1, shared.size)
        shared.add(member, 0, member.size)
    return starts, chunks


def _parts(member: _Member) -> Iterator[_Chunk]:
    for offset in range(0, member.size, runtime_part.DICTIONARY):
        part = _Chunk(member.code)
        part.add(member, offset, min(runtime_part.DICTIONARY, member.size - offset))
        yield part


# ---- data ---------------------------------------------------------------------------------------------------------


def _write_data(target: Path, chunks: list[_Chunk], compression: str) -> None:
    """Compress the chunks on all cores and write them in order; only a few are in memory at a time."""
    workers = len(os.sched_getaffinity(0))
    waiting: deque[tuple[_Chunk, Future[tuple[bytes, int, int]]]] = deque()
    todo = iter(chunks)
    offset = 0
    total = sum(chunk.size for chunk in chunks)
    what = "compressing unused files"
    with (
        progress.step(what, total=total, in_bytes=True) as step,
        target.open("wb") as sink,
        ThreadPoolExecutor(workers) as pool,
    ):
        while True:
            while len(waiting) <= 2 * workers and (chunk := next(todo, None)) is not None:
                waiting.append((chunk, pool.submit(_pack, chunk, compression)))
            if not waiting:
                break
            chunk, future = waiting.popleft()
            packed, crc, method = future.result()
            sink.write(packed)
            chunk.row = (offset, len(packed), chunk.size, crc, method)
            offset += len(packed)
            step.advance(chunk.size)
    target.chmod(0o644)


def _pack(chunk: _Chunk, compression: str) -> tuple[bytes, int, int]:
    raw = b"".join(map(_read, chunk.slices))
    packed: bytes | None
    if compression == "zlib":
        packed, method = zlib.compress(raw, 9), runtime_part.ZLIB
    else:
        packed, method = (
            pack(raw, _filters(code=chunk.code)),
            runtime_part.X86_LZMA2 if chunk.code else runtime_part.LZMA2,
        )
    if packed is None or len(packed) >= len(raw):
        packed, method = raw, runtime_part.STORED
    return packed, zlib.crc32(raw), method


def _filters(*, code: bool) -> list[dict[str, Any]]:
    best = {"id": lzma.FILTER_LZMA2, "preset": 9 | lzma.PRESET_EXTREME, "dict_size": runtime_part.DICTIONARY}
    return [{"id": lzma.FILTER_X86}, best] if code else [best]


def _read(part: _Slice) -> bytes:
    with part.source.open("rb") as source:
        source.seek(part.offset)
        data = source.read(part.length)
    if len(data) != part.length:
        raise PackError(f"{part.source} changed while the layer was being written; run the command again")
    return data


# ---- index --------------------------------------------------------------------------------------------------------


def _index(
    members: list[_Member], starts: Mapping[str, tuple[int, int]], chunks: list[_Chunk], about: Mapping[str, object]
) -> bytes:
    segments = defaultdict(list)
    for member in members:
        segments[modules.top_level(member.file.path)].append(member)
    rows: dict[str, tuple[int, int, int]] = {}
    body = b""
    for name, held in sorted(segments.items()):
        packed = zlib.compress(_compact(_segment(held, starts, chunks)), 9)
        rows[name] = (len(body), len(packed), zlib.crc32(packed))
        body += packed
    entries = sorted({member.file.path.partition("/")[0] for member in members})
    header = _compact({"format": runtime_part.FORMAT, **about, "entries": entries, "segments": rows}) + b"\n"
    return header + b"%08x\n" % zlib.crc32(header) + body


def _segment(held: list[_Member], starts: Mapping[str, tuple[int, int]], chunks: list[_Chunk]) -> dict[str, object]:
    used: set[int] = set()
    listed = {}
    for member in sorted(held, key=lambda each: each.file.path):
        first, offset = starts[member.file.path]
        listed[member.file.path] = (first, offset, member.size, member.mode)
        used.update(range(first, first + max(1, -(-member.size // runtime_part.DICTIONARY))))
    return {
        "files": listed,
        "chunks": {str(number): chunks[number].row for number in sorted(used)},
        "needs": {member.file.path: member.file.needs for member in held if member.file.needs},
    }


def paths_in(index: Path) -> tuple[str, ...]:
    """Return the paths of the cold files in an index.

    Raises:
        ValueError: the index is damaged.
    """
    line, _check, body = index.read_bytes().split(b"\n", 2)
    rows = json.loads(line)["segments"].values()
    segments = (json.loads(zlib.decompress(body[offset : offset + length])) for offset, length, _crc in rows)
    return tuple(path for segment in segments for path in segment["files"])


def _compact(document: object) -> bytes:
    return json.dumps(document, separators=(",", ":"), sort_keys=True).encode("ascii")


def _shares(members: list[_Member], chunks: list[_Chunk]) -> dict[str, int]:
    """Divide the compressed bytes of each chunk among its files, by their sizes. The sum of all shares is exact."""
    shares = dict.fromkeys((member.file.path for member in members), 0)
    for chunk in chunks:
        ends = accumulate((length for _member, length in chunk.members), initial=0)
        packed = chunk.row[1]
        cuts = [end * packed // max(1, chunk.size) for end in ends]
        for (member, _length), (begin, end) in zip(chunk.members, pairwise(cuts), strict=True):
            shares[member.file.path] += end - begin
    return shares


# ---- the runtime --------------------------------------------------------------------------------------------------


def runtime_digest() -> str:
    """Return the digest of this version's runtime. All layers of a function have to bring the same."""
    return digest(b"".join(b"%s\0%s\0" % (name.encode(), content) for name, content in _runtime()))


def runtime_bytes() -> int:
    """Return the approximate size of the runtime in a layer: its bytecode, half of it compressed."""
    return sum(len(content) for _name, content in _runtime()) // 2


def _runtime() -> Iterator[tuple[str, bytes]]:
    """Yield names and contents of the runtime's files as installed."""
    for part in sorted(
        resources.files("layer_minimizer").joinpath("payload", "runtime").iterdir(), key=lambda each: each.name
    ):
        if part.name.endswith(".py"):
            yield part.name, part.read_bytes()


def _write_runtime(top: Path, *, customized: bool) -> None:
    """Copy the runtime as installed and write the files that start it."""
    for name, content in _runtime():
        if name != CUSTOMIZE:
            _write(top / PACKAGE / name, content)
        elif not customized and not (top / CUSTOMIZE).exists():
            _write(top / CUSTOMIZE, content)
    _write(top / PTH, _PTH_LINE.encode())


def _write(target: Path, content: bytes) -> None:
    target.write_bytes(content)
    target.chmod(0o644)
