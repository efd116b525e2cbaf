"""Reads the parts of a shared library that rewriting needs: header, segments, sections and dynamic entries."""

from __future__ import annotations

import itertools
import mmap
import struct
from dataclasses import dataclass
from enum import IntEnum, IntFlag
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

_HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
_SEGMENT = struct.Struct("<IIQQQQQQ")
_SECTION = struct.Struct("<IIQQQQIIQQ")
_DYNAMIC = struct.Struct("<qQ")
HEADER_BYTES, SEGMENT_BYTES, DYNAMIC_BYTES = _HEADER.size, _SEGMENT.size, _DYNAMIC.size
MACHINES = {62: "x86_64", 183: "aarch64"}
# The bytes of a page: kernels for x86_64 have no others, kernels for arm64 may (Documentation/arch/arm64/memory.rst).
PAGE_BYTES = 4096
PAGE_SIZES = {"x86_64": (PAGE_BYTES,), "aarch64": (PAGE_BYTES, 4 * PAGE_BYTES, 16 * PAGE_BYTES)}
_SHARED_OBJECT = 3
_NO_BITS = 8


class UnsupportedLibraryError(Exception):
    """A library cannot be rewritten, for the reason in the message; it is shipped whole."""


class SegmentType(IntEnum):
    """Types of program header that matter for rewriting (elf(5), and the additions of the GNU ABI)."""

    LOAD = 1
    DYNAMIC = 2
    INTERP = 3
    PHDR = 6
    GNU_EH_FRAME = 0x6474E550
    STACK = 0x6474E551
    RELRO = 0x6474E552


class Right(IntFlag):
    """A segment's p_flags."""

    EXECUTE = 1
    WRITE = 2
    READ = 4


class Tag(IntEnum):
    """Dynamic tags that matter for rewriting."""

    NULL = 0
    NEEDED = 1
    PLTRELSZ = 2
    HASH = 4
    STRTAB = 5
    SYMTAB = 6
    RELA = 7
    RELASZ = 8
    RELAENT = 9
    STRSZ = 10
    SYMENT = 11
    SONAME = 14
    RPATH = 15
    TEXTREL = 22
    JMPREL = 23
    RUNPATH = 29
    FLAGS = 30
    RELR = 36
    VERSYM = 0x6FFFFFF0
    VERDEF = 0x6FFFFFFC
    VERDEFNUM = 0x6FFFFFFD
    VERNEED = 0x6FFFFFFE
    VERNEEDNUM = 0x6FFFFFFF
    # Of this project: address of the index of the cold pages. See src/coldindex.h.
    COLD_INDEX = 0x6C61796C


_DF_TEXTREL = 4


@dataclass(frozen=True, slots=True)
class Segment:
    """A program header. Sizes and addresses in bytes."""

    type: int
    flags: int
    offset: int
    address: int
    file_size: int
    memory_size: int
    align: int

    @property
    def end(self) -> int:
        """Address after the segment."""
        return self.address + self.memory_size

    def pack(self) -> bytes:
        """Return the header's bytes."""
        return _SEGMENT.pack(
            self.type, self.flags, self.offset, self.address, self.address, self.file_size, self.memory_size, self.align
        )


@dataclass(frozen=True, slots=True)
class Section:
    """The header of a section that is loaded into memory."""

    name: str
    type: int
    flags: int
    address: int
    size: int

    @property
    def executable(self) -> bool:
        """Whether it contains instructions (SHF_EXECINSTR)."""
        return bool(self.flags & 4)

    @property
    def writable(self) -> bool:
        """Whether it is writable (SHF_WRITE)."""
        return bool(self.flags & 1)


@dataclass(frozen=True, slots=True)
class ElfImage:
    """The contents of a shared library, parsed.

    ``page_size``: the bytes of a page of the kernel that maps it, which is the unit of all page numbers. It is not the
    alignment of the segments: linkers align to the largest page that a kernel may have.
    """

    data: memoryview
    header: tuple[bytes, int, int, int, int, int, int, int, int, int, int, int, int, int]
    segments: tuple[Segment, ...]
    sections: tuple[Section, ...]
    dynamic: tuple[tuple[int, int], ...]
    page_size: int

    @property
    def machine(self) -> str:
        """Name of the processor's architecture."""
        return MACHINES[self.header[2]]

    @property
    def loads(self) -> tuple[Segment, ...]:
        """The segments that are mapped, in ascending order of address."""
        return tuple(s for s in self.segments if s.type == SegmentType.LOAD)

    def value(self, tag: Tag) -> int | None:
        """Return the value of the first dynamic entry with this tag."""
        return next((value for found, value in self.dynamic if found == tag), None)

    def read(self, address: int, size: int) -> memoryview:
        """Return the bytes at an address, from the file.

        Raises:
            UnsupportedLibraryError: no segment has them in the file.
        """
        for segment in self.loads:
            if segment.address <= address and address + size <= segment.address + segment.file_size:
                start = segment.offset + address - segment.address
                return self.data[start : start + size]
        raise UnsupportedLibraryError(f"its tables point to address {address:#x}, which is not in the file")


def map_file(source: Path) -> memoryview:
    """Return the content of a file, which is mapped.

    Raises:
        OSError: it cannot be opened.
        ValueError: it is empty.
    """
    with source.open("rb") as stream:
        # Not closed explicitly: that fails while something holds views of it.
        return memoryview(mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ))


def read_image(data: bytes | memoryview, page_size: int = PAGE_BYTES) -> ElfImage:
    """Read a shared library, for a kernel with pages of ``page_size`` bytes.

    Raises:
        UnsupportedLibraryError: the data is not a shared library, or it is of a kind that cannot be rewritten.
    """
    view = memoryview(data)
    if bytes(view[:4]) != b"\x7fELF" or len(view) < HEADER_BYTES:
        raise UnsupportedLibraryError("it is not an ELF file")
    if bytes(view[4:6]) != b"\x02\x01":
        raise UnsupportedLibraryError("it is not 64-bit little-endian")
    try:
        return _read(view, page_size)
    except (struct.error, IndexError, ValueError, OverflowError) as exc:
        raise UnsupportedLibraryError(f"its tables are damaged ({exc})") from exc


def _read(view: memoryview, page_size: int) -> ElfImage:
    header = _HEADER.unpack_from(view, 0)
    if header[1] != _SHARED_OBJECT or header[2] not in MACHINES:
        raise UnsupportedLibraryError("it is not a shared library for x86_64 or aarch64")
    segments = tuple(
        Segment(kind, flags, offset, address, file_size, memory_size, align)
        for kind, flags, offset, address, _, file_size, memory_size, align in (
            _SEGMENT.unpack_from(view, header[5] + SEGMENT_BYTES * i) for i in range(header[10])
        )
    )
    place = next((s for s in segments if s.type == SegmentType.DYNAMIC), None)
    if place is None:
        raise UnsupportedLibraryError("it has no dynamic section")
    dynamic = []
    for at in range(place.offset, place.offset + place.file_size, DYNAMIC_BYTES):
        tag, value = _DYNAMIC.unpack_from(view, at)
        if tag == Tag.NULL:
            break
        dynamic.append((tag, value))
    image = ElfImage(view, header, segments, _sections(view, header), tuple(dynamic), page_size)
    _check(image)
    return image


def _sections(
    view: memoryview, header: tuple[bytes, int, int, int, int, int, int, int, int, int, int, int, int, int]
) -> tuple[Section, ...]:
    offset, count, names_at = header[6], header[12], header[13]
    if not offset or not count:
        raise UnsupportedLibraryError("it has no section headers, so that code and data cannot be told apart")
    rows = [_SECTION.unpack_from(view, offset + _SECTION.size * i) for i in range(count)]
    end = max([offset + _SECTION.size * count, *(row[4] + row[5] for row in rows if row[1] != _NO_BITS)])
    if len(view) > -(-end // 4096) * 4096:
        raise UnsupportedLibraryError("it has appended data that belongs to no section")
    if len(view) < end:
        raise UnsupportedLibraryError("it is truncated")
    names = bytes(view[rows[names_at][4] : rows[names_at][4] + rows[names_at][5]])
    loaded = 2
    return tuple(
        Section(names[row[0] : names.index(b"\0", row[0])].decode(), row[1], row[2], row[3], row[5])
        for row in rows
        if row[2] & loaded
    )


def _check(image: ElfImage) -> None:
    """Check that rewriting supports a library.

    Raises:
        UnsupportedLibraryError: it does not.
    """
    if any(s.type == SegmentType.INTERP for s in image.segments):
        raise UnsupportedLibraryError("it is an executable")
    if image.value(Tag.COLD_INDEX) is not None:
        raise UnsupportedLibraryError("it is compacted already")
    if image.value(Tag.TEXTREL) is not None or (image.value(Tag.FLAGS) or 0) & _DF_TEXTREL:
        raise UnsupportedLibraryError("the loader writes relocations into its code (DT_TEXTREL)")
    if image.value(Tag.STRTAB) is None or image.value(Tag.STRSZ) is None:
        raise UnsupportedLibraryError("it has no dynamic strings")
    _check_segments(image)


def _check_segments(image: ElfImage) -> None:
    loads = image.loads
    if all(s.offset != 0 for s in loads):
        raise UnsupportedLibraryError("no segment contains its ELF header")
    for one, two in itertools.pairwise(loads):
        if one.end > two.address // image.page_size * image.page_size:
            raise UnsupportedLibraryError("its segments share a page")
    for segment in loads:
        if not segment.flags & Right.WRITE and segment.file_size != segment.memory_size:
            raise UnsupportedLibraryError("a segment that is not writable has memory without file contents")
        if (segment.address - segment.offset) % image.page_size:
            raise UnsupportedLibraryError("the address and the file offset of a segment differ within a page")


def pack_header(image: ElfImage, table_offset: int, table_entries: int) -> bytes:
    """Return the ELF header of a rewritten file, with a new table of program headers and without sections."""
    fields = list(image.header)
    fields[5], fields[10] = table_offset, table_entries
    fields[6] = fields[12] = fields[13] = 0
    return _HEADER.pack(*fields)


def pack_dynamic(entries: list[tuple[int, int]]) -> bytes:
    """Return the bytes of a dynamic section, including DT_NULL."""
    return b"".join(_DYNAMIC.pack(tag, value) for tag, value in [*entries, (Tag.NULL, 0)])
