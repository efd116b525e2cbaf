"""Writes a smaller library whose file has only the hot pages, with all addresses unchanged. Does no I/O.

Hot runs of pages become PT_LOAD entries with their bytes. The cold ranges between them become PT_LOAD entries without
bytes and access rights, so that the unwinder still finds a PT_LOAD for every address. Symbols, debug sections and the
section table are removed. A new first DT_NEEDED entry names the runtime that restores cold pages; a dynamic tag points
to the index of the cold pages (src/coldindex.h).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from layer_minimizer.native import cold_index, hotness
from layer_minimizer.native.cold_index import Chunk, PackedChunk, PageRun
from layer_minimizer.native.elf_image import (
    PAGE_BYTES,
    PAGE_SIZES,
    SEGMENT_BYTES,
    ElfImage,
    Right,
    Segment,
    SegmentType,
    Tag,
    pack_dynamic,
    pack_header,
    read_image,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

    from layer_minimizer.native.unwinding import UnwindingTables

CHUNK_BYTES = 512 * 1024
# Where space is short: 6 to 15 % fewer bytes, and eight times as long until a page is there.
LARGE_CHUNK_BYTES = 4 * 1024 * 1024
# A new chunk begins at multiples of this, so that one more hot page only changes the chunks of its area.
_AREA_BYTES, _LARGE_AREA_BYTES = 1024 * 1024, 16 * 1024 * 1024
# Every PT_LOAD costs the loader a system call and 56 bytes of stack; few threads have stacks below one megabyte.
_MAX_RUNS = 2048
# A single page between two hot ones is likely to be needed, and saves little more than its PT_LOAD costs.
_MIN_GAP = 2
_STATE_BYTES = 16


@dataclass(frozen=True, slots=True)
class Split:
    """The pages of a library, split into those that stay in its file and those that go to the store.

    ``unwinding`` is written in place of its own unwinding information.
    """

    image: ElfImage
    cold: tuple[PageRun, ...]
    chunks: tuple[Chunk, ...]
    unwinding: UnwindingTables | None = None

    @property
    def cold_bytes(self) -> int:
        """The bytes that are left out of the file."""
        return sum(run.pages for run in self.cold) * self.image.page_size

    def raw(self, chunk: Chunk) -> bytes:
        """Return the bytes of a chunk's pages as the loader would map them, with zeros after the end of a segment."""
        return b"".join(_page_bytes(self.image, run.page, run.pages) for run in chunk.runs)


@dataclass(frozen=True, slots=True)
class Tables:
    """Dynamic strings and tables of a library that replace its own.

    ``entries`` are those of its dynamic section that stay as they are, and new ones whose values are no addresses;
    ``blobs`` the tables, by the tag of the entry with their address. ``replaced`` are the pages of its own tables that
    nothing refers to any more. ``relocates``: its own relocations stay.
    """

    strings: bytes
    entries: tuple[tuple[int, int], ...]
    blobs: Mapping[Tag, bytes]
    replaced: tuple[PageRun, ...] = ()
    relocates: bool = False


def split(
    data: bytes | memoryview,
    hot: Collection[int],
    *,
    constants: bool = False,
    large: bool = False,
    page_size: int = PAGE_BYTES,
) -> Split:
    """Split the pages of a library. ``hot`` are the numbers of the pages that a traced run touched.

    ``constants``: read-only data can be cold, too; see `hotness.cold_candidates`. ``large``: chunks are larger.
    ``page_size``: the bytes of a page of the kernel; a kernel with larger pages does not load the result.

    Raises:
        UnsupportedLibraryError: the library cannot be rewritten.
    """
    image = read_image(data, page_size)
    stay = hotness.always_hot(image)
    cold: list[PageRun] = []
    for first, stop, executable in hotness.cold_candidates(image, constants=constants):
        start = None
        for page in range(first, stop + 1):
            if page < stop and page not in hot and page not in stay:
                start = page if start is None else start
            elif start is not None:
                cold.append(PageRun(start, page - start, executable))
                start = None
    gap = _MIN_GAP
    while len([run for run in cold if run.pages >= gap]) > _MAX_RUNS:
        gap += 1
    kept = tuple(run for run in cold if run.pages >= gap)
    most, area = (LARGE_CHUNK_BYTES, _LARGE_AREA_BYTES) if large else (CHUNK_BYTES, _AREA_BYTES)
    return Split(image, kept, tuple(_chunks(kept, most // image.page_size, area // image.page_size)))


def _chunks(runs: Iterable[PageRun], most: int, area: int) -> Iterator[Chunk]:
    open_runs: list[PageRun] = []
    room = most
    for run in _cut(runs, area):
        if open_runs and open_runs[-1].page // area != run.page // area:
            yield Chunk(tuple(open_runs))
            open_runs, room = [], most
        page = run.page
        while page < run.stop:
            taken = min(room, run.stop - page)
            open_runs.append(PageRun(page, taken, run.executable))
            page += taken
            room -= taken
            if not room:
                yield Chunk(tuple(open_runs))
                open_runs, room = [], most
    if open_runs:
        yield Chunk(tuple(open_runs))


def _cut(runs: Iterable[PageRun], area: int) -> Iterator[PageRun]:
    """Yield the runs, split at multiples of ``area`` pages."""
    for run in runs:
        page = run.page
        while page < run.stop:
            stop = min(run.stop, (page // area + 1) * area)
            yield PageRun(page, stop - page, run.executable)
            page = stop


def _page_bytes(image: ElfImage, page: int, pages: int) -> bytes:
    start, stop = page * image.page_size, (page + pages) * image.page_size
    segment = next(s for s in image.loads if s.address < stop and start < s.end)
    lead = start - segment.address
    found = bytes(image.data[segment.offset + lead : segment.offset + min(lead + stop - start, segment.file_size)])
    return found + bytes(stop - start - len(found))


def rewrite(  # noqa: PLR0913 - what the library and its index contain
    parts: Split, *, name: str, runtime: str, store: str, packed: Sequence[PackedChunk], tables: Tables | None = None
) -> bytes:
    """Return the compacted library.

    Args:
        parts: the pages of the library.
        name: the library's name for messages.
        runtime: the DT_NEEDED entry for the runtime, for instance ``$ORIGIN/../layer_minimizer.libs/liblayercold.so``.
        store: the path of the store, relative to the library's folder; empty if all cold pages are dropped. If
            ``packed`` has no data: why they are, for messages.
        packed: the chunks of ``parts`` in the order of the store; one without data is dropped.
        tables: dynamic tables that replace the library's own.
    """
    image, tables = parts.image, tables or _own_tables(parts.image)
    out = _File(image.page_size)
    pieces = _all_pieces(parts, out, tables.replaced)
    others = [s for s in image.segments if s.type not in (SegmentType.LOAD, SegmentType.PHDR, SegmentType.DYNAMIC)]
    # Four more: PHDR, the appended read-only and writable segments, and DYNAMIC.
    table_bytes = SEGMENT_BYTES * (len(pieces) + len(others) + 4)
    top = _free_address(image, len(out.data))
    index = cold_index.pack(
        [*zip(parts.chunks, packed, strict=True)],
        parts.cold,
        image.page_size,
        name=name,
        store=store,
        early=tables.relocates and bool(hotness.always_hot(image)),
    )
    read_only = _ReadOnlyPart(parts, tables, top, table_bytes, runtime, index)
    dynamic = read_only.dynamic()
    table_offset = out.append(read_only.data)
    align = max(s.align for s in image.loads)
    size = len(read_only.data)
    appended = Segment(SegmentType.LOAD, Right.READ, table_offset, top, size, size, align)
    if _suits_larger_pages(image, [*pieces, appended]):
        out.append(bytes(image.page_size))
    dynamic_at, dynamic_offset = top + size, out.append(dynamic)
    writable_bytes = len(dynamic) + _STATE_BYTES + len(parts.chunks)
    table = [
        Segment(SegmentType.PHDR, Right.READ, table_offset, top, table_bytes, table_bytes, 8),
        *pieces,
        appended,
        Segment(SegmentType.LOAD, 6, dynamic_offset, dynamic_at, len(dynamic), writable_bytes, image.page_size),
        Segment(SegmentType.DYNAMIC, 6, dynamic_offset, dynamic_at, len(dynamic), len(dynamic), 8),
        *(_relocated(segment, [*pieces, appended]) for segment in read_only.with_unwinding(others)),
    ]
    out.put(table_offset, b"".join(segment.pack() for segment in table))
    out.put(0, pack_header(image, table_offset, len(table)))
    return bytes(out.data)


def _suits_larger_pages(image: ElfImage, loads: Iterable[Segment]) -> bool:
    """Return whether loaders would map these segments where pages are larger, although they begin and end within these.

    Loaders refuse a library if the address and the offset of a segment differ within a page, and old ones by its
    alignment. Others they would map together with the bytes of their neighbours.
    """
    larger = [size for size in PAGE_SIZES[image.machine] if size > image.page_size]
    return bool(larger) and not any((s.address - s.offset) % larger[0] for s in loads)


@dataclass(slots=True)
class _File:
    """The contents of the new file, built in whole pages."""

    page_size: int
    data: bytearray = field(default_factory=bytearray)

    def append(self, blob: bytes | bytearray | memoryview, lead: int = 0) -> int:
        """Append bytes at ``lead`` bytes after the start of a new page. Return their offset."""
        self.data.extend(bytes(-len(self.data) % self.page_size + lead))
        at = len(self.data)
        self.data.extend(blob)
        return at

    def put(self, offset: int, blob: bytes) -> None:
        """Overwrite bytes at an offset."""
        self.data[offset : offset + len(blob)] = blob


def _own_tables(image: ElfImage) -> Tables:
    """Return the library's own tables: all stay in place but the strings, which get a new one."""
    start, size = image.value(Tag.STRTAB) or 0, image.value(Tag.STRSZ) or 0
    moved = (Tag.STRTAB, Tag.STRSZ)
    entries = tuple((tag, value) for tag, value in image.dynamic if tag not in moved)
    return Tables(bytes(image.read(start, size)), entries, {}, whole_pages(image, start, size), relocates=True)


class _ReadOnlyPart:
    """The appended read-only segment: space for the program headers, dynamic strings, other tables, the index."""

    def __init__(  # noqa: PLR0913, PLR0917 - everything that is in it
        self, parts: Split, tables: Tables, top: int, table_bytes: int, runtime: str, index: bytes
    ) -> None:
        strings = tables.strings + runtime.encode() + b"\0"
        self.data = bytes(table_bytes) + strings
        places = [(Tag.STRTAB, top + table_bytes), (Tag.STRSZ, len(strings))]
        for tag, blob in (*tables.blobs.items(), (Tag.COLD_INDEX, index)):
            self.data += bytes(-len(self.data) % 8)
            places.append((tag, top + len(self.data)))
            self.data += blob
        self._unwinding: tuple[int, int] | None = None
        if parts.unwinding:
            self.data += bytes(-len(self.data) % 8)
            blob = parts.unwinding.at(top + len(self.data))
            self._unwinding = top + len(self.data), len(blob)
            self.data += blob
        self.data += bytes(-len(self.data) % parts.image.page_size)
        self._entries = [(Tag.NEEDED, len(tables.strings)), *tables.entries, *places]

    def with_unwinding(self, segments: Iterable[Segment]) -> list[Segment]:
        """Return the program headers, with the place of the unwinding information that is in here."""
        if not self._unwinding:
            return list(segments)
        at, size = self._unwinding
        return [
            replace(each, address=at, file_size=size, memory_size=size)
            if each.type == SegmentType.GNU_EH_FRAME
            else each
            for each in segments
        ]

    def dynamic(self) -> bytes:
        """Return the dynamic section, with the runtime as first DT_NEEDED and the addresses of all tables in here."""
        return pack_dynamic(self._entries)


def _free_address(image: ElfImage, offset: int) -> int:
    """Return an address above all segments for the segment that is appended at ``offset`` of the new file.

    The loader takes the library's alignment from its segments. The pieces of the original segments are only aligned to
    pages in the file, so the new segment has the alignment: its address and its offset are equal modulo that.
    """
    page, align = image.page_size, max(s.align for s in image.loads)
    lowest = -(-max(s.end for s in image.loads) // page) * page + page
    return lowest + (-(-offset // page) * page - lowest) % max(align, page)


def whole_pages(image: ElfImage, start: int, size: int) -> tuple[PageRun, ...]:
    """Return the pages of which everything belongs to a table; none if it is smaller."""
    first, stop = -(-start // image.page_size), (start + size) // image.page_size
    return (PageRun(first, stop - first, executable=False),) if stop > first else ()


def _all_pieces(parts: Split, out: _File, replaced: Iterable[PageRun]) -> list[Segment]:
    """Write the hot pages, the ELF header first. Return the program headers of all pieces, by ascending address."""
    pieces: list[Segment] = []
    for segment in sorted(parts.image.loads, key=lambda s: (s.offset != 0, s.address)):
        pieces += _pieces(parts, segment, replaced, out)
    return sorted(pieces, key=lambda piece: piece.address)


def _pieces(parts: Split, segment: Segment, replaced: Iterable[PageRun], out: _File) -> Iterator[Segment]:
    """Split one PT_LOAD into hot pieces with bytes and cold ones without; yield their program headers."""
    page = parts.image.page_size
    for at, stop, stays in stretches(segment, (*parts.cold, *replaced), page):
        if stays:
            in_file = max(0, min(stop, segment.address + segment.file_size) - at)
            start = segment.offset + at - segment.address
            offset = out.append(parts.image.data[start : start + in_file], at % page)
            yield Segment(SegmentType.LOAD, segment.flags, offset, at, in_file, stop - at, page)
        else:
            yield Segment(SegmentType.LOAD, 0, 0, at, 0, stop - at, page)


def stretches(segment: Segment, left_out: Iterable[PageRun], page: int) -> Iterator[tuple[int, int, bool]]:
    """Split a segment at the runs of pages that are left out; yield (start, end, whether it stays) of each piece."""
    floor, ceiling = segment.address // page, -(-segment.end // page)
    inside = sorted((run for run in left_out if floor <= run.page < ceiling), key=lambda run: run.page)
    at = segment.address
    for run in inside:
        start, stop = run.page * page, min(run.stop * page, segment.end)
        if start > at:
            yield at, start, True
        yield start, stop, False
        at = stop
    if segment.end > at:
        yield at, segment.end, True


def _relocated(segment: Segment, pieces: Iterable[Segment]) -> Segment:
    """Return a program header with the new offset of its bytes; 0 if they are not in the file."""
    for piece in pieces:
        if piece.flags and piece.address <= segment.address < piece.end:
            return replace(segment, offset=piece.offset + segment.address - piece.address)
    return replace(segment, offset=0)
