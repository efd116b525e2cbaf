"""Selects the pages of a library that can be cold, and those that must stay whether or not a run touched them.

Only pages that are *executed or read by code in user space* can be cold: a system call that gets the address of a
missing page fails with EFAULT instead of raising a signal. The table below is the only place where this is decided.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from layer_minimizer.native.elf_image import HEADER_BYTES, SEGMENT_BYTES, ElfImage, Right, Section, Tag
from layer_minimizer.native.symbols import SYMBOL

if TYPE_CHECKING:
    from collections.abc import Iterator

# Sections that can be cold in addition to code, each with the reason why no system call and no loader reads it.
_COLD_DATA = {
    ".eh_frame": "unwind tables: read by the unwinder, in user code, when an exception is thrown",
    ".eh_frame_hdr": "the index of the unwind tables: read by the unwinder alone",
    ".gcc_except_table": "handler tables: read by the language's personality function, in user code",
    ".nv_fatbin": "programs for a GPU: read by the CUDA runtime, which unpacks them in user code",
    "__nv_relfatbin": "the same, for device code that is linked at run time",
}
# Everything else stays: header and program headers (dl_iterate_phdr), the dynamic section, symbols, strings, hashes,
# versions and relocations (the loader reads them before this library's dependencies are initialised), notes,
# .rodata (its strings are passed to system calls), and every writable page (relocations, TLS images, GOT, data).
# Sections that the loader or the debugger reads, before anything could restore them.
_TABLES = {".dynsym", ".dynstr", ".hash", ".gnu.hash", ".gnu.version", ".gnu.version_d", ".gnu.version_r"}
_TABLE_TYPES = {4: "SHT_RELA", 7: "SHT_NOTE", 9: "SHT_REL", 19: "SHT_RELR"}
_IRELATIVE = {"x86_64": 37, "aarch64": 1032}
_IFUNC = 10
_RELA = struct.Struct("<QQq")
# An IFUNC resolver runs while the loader relocates, before any dependency of the library is initialised. Relocations do
# not contain its size; compilers generate resolvers of a few hundred bytes.
_RESOLVER_BYTES = 4096


def can_be_cold(section: Section) -> bool:
    """Return whether the pages of a section can be left out of the file."""
    return not section.writable and section.size > 0 and (section.executable or section.name in _COLD_DATA)


def cold_candidates(image: ElfImage, *, constants: bool = False) -> tuple[tuple[int, int, bool], ...]:
    """Return (first page, page after the last, executable) of ranges of pages that can be cold.

    Adjacent sections count as one, so that a page shared by two of them can be cold, too. With ``constants`` everything
    that is read-only can be cold but the loader's tables: for libraries whose code does not run, so that it passes no
    texts to the system.
    """
    if constants:
        return tuple(_all_but_tables(image))
    ranges: list[tuple[int, int, bool]] = []
    for segment in image.loads:
        if segment.flags & Right.WRITE:
            continue
        merged: list[list[int]] = []
        adjacent = False  # no section that must stay follows the last of them
        padding = 64
        for section in sorted(image.sections, key=lambda s: s.address):
            if not section.size or not segment.address <= section.address < segment.end:
                continue
            if not can_be_cold(section):
                adjacent = False
                continue
            if adjacent and section.address - merged[-1][1] <= padding:
                merged[-1][1] = section.address + section.size
            else:
                merged.append([section.address, section.address + section.size])
            adjacent = True
        for start, end in merged:
            # The rest of a segment's last page is unused.
            stop = -(-end // image.page_size) if end == segment.end else end // image.page_size
            first = -(-start // image.page_size)
            if stop > first:
                ranges.append((first, stop, bool(segment.flags & Right.EXECUTE)))
    return tuple(ranges)


def _all_but_tables(image: ElfImage) -> Iterator[tuple[int, int, bool]]:
    size = image.page_size
    tables = [(0, HEADER_BYTES), (image.header[5], image.header[5] + SEGMENT_BYTES * image.header[10])]
    tables += [
        (section.address, section.address + section.size)
        for section in image.sections
        if section.size and (section.name in _TABLES or section.type in _TABLE_TYPES)
    ]
    stays = {page for start, stop in tables for page in range(start // size, -(-stop // size))}
    for segment in image.loads:
        if segment.flags & Right.WRITE:
            continue
        start, stop = segment.address // size, -(-segment.end // size)
        for page in [*sorted(page for page in stays if start <= page < stop), stop]:
            if page > start:
                yield start, page, bool(segment.flags & Right.EXECUTE)
            start = page + 1


def always_hot(image: ElfImage) -> frozenset[int]:
    """Return the pages that must stay although they are in `cold_candidates`: those of IFUNC resolvers."""
    pages: set[int] = set()
    for address in _resolvers(image):
        pages.update(range(address // image.page_size, (address + _RESOLVER_BYTES) // image.page_size + 1))
    return frozenset(pages)


def _resolvers(image: ElfImage) -> Iterator[int]:
    wanted = _IRELATIVE[image.machine]
    for table, size in ((Tag.RELA, Tag.RELASZ), (Tag.JMPREL, Tag.PLTRELSZ)):
        start, length = image.value(table), image.value(size)
        if start is None or not length:
            continue
        for _, info, addend in _RELA.iter_unpack(image.read(start, length // _RELA.size * _RELA.size)):
            if info & 0xFFFFFFFF == wanted:
                yield addend
    symbols, strings = image.value(Tag.SYMTAB), image.value(Tag.STRTAB)
    # No dynamic entry has the table's length: it is that of .dynsym, or ends where linkers put the strings.
    end = next((s.address + s.size for s in image.sections if s.name == ".dynsym"), strings)
    if symbols is None or end is None or end <= symbols:
        return
    count = (end - symbols) // SYMBOL.size
    for _, kind, _, _, address, _ in SYMBOL.iter_unpack(image.read(symbols, count * SYMBOL.size)):
        if kind & 15 == _IFUNC and address:
            yield address
