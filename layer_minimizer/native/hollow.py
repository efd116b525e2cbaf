"""Reduces a library to what others link to: its name, its symbols, and constants of them. Does no I/O.

All of its pages become cold ranges without a store (see compact.py), so that calling one of its functions, and reading
or writing its variables, ends in the message that the index contains. Constructors do not run. Addresses are unchanged.

Objects that are constant after relocation stay, because code that never calls the library reads them: run-time type
information of C++ classes, of which the loader puts addresses into other libraries' tables, and their tables of
virtual functions.
"""

from __future__ import annotations

import struct
from collections import deque
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from layer_minimizer.native.cold_index import Chunk, PageRun
from layer_minimizer.native.compact import Split, Tables
from layer_minimizer.native.elf_image import (
    PAGE_BYTES,
    ElfImage,
    Right,
    SegmentType,
    Tag,
    UnsupportedLibraryError,
    read_image,
)
from layer_minimizer.native.symbols import SYMBOL, Kind, Strings, Symbol, Version, read_symbols, read_versions

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping

_RELA = struct.Struct("<QQq")
_DEFINITION, _NAME = struct.Struct("<HHHHIII"), struct.Struct("<II")
# Relocations of pointers, by architecture: R_*_RELATIVE, and those that name a symbol (R_*_64 or ABS64, GLOB_DAT).
_RELATIVE = {"x86_64": 8, "aarch64": 1027}
_POINTERS = {"x86_64": (1, 6), "aarch64": (257, 1025)}
# What a pointer to an object without a symbol leads to: the longest type information without virtual base classes.
_UNNAMED_BYTES = 64
_ENTRY_BYTES = {Tag.SYMENT: SYMBOL.size, Tag.RELAENT: _RELA.size}
# The entries that a library without contents still has; those of strings get new offsets.
_STRINGS = (Tag.NEEDED, Tag.SONAME, Tag.RPATH, Tag.RUNPATH)


@dataclass(frozen=True, slots=True)
class Hollow:
    """A library without contents, to be written by `compact.rewrite`.

    ``parts``: its pages; ``tables``: its dynamic symbols.
    """

    parts: Split
    tables: Tables


def hollow(data: bytes | memoryview, wanted: Collection[str], page_size: int = PAGE_BYTES) -> Hollow:
    """Return a library that has nothing but the ``wanted`` of its symbols.

    ``page_size``: the bytes of a page of the kernel.

    Raises:
        UnsupportedLibraryError: the library cannot be rewritten, or one of the symbols is a thread's own variable.
    """
    image = read_image(data, page_size)
    symbols = read_symbols(image)
    chosen = [symbol for symbol in symbols if symbol.defined and symbol.name in wanted]
    if any(symbol.kind is Kind.TLS for symbol in chosen):
        raise UnsupportedLibraryError("others use a thread-local variable of it")
    kept = _Constants(image, symbols)
    kept.add(chosen)
    first = min(segment.address for segment in image.loads if not segment.offset)
    pages = {first // image.page_size, *kept.pages}
    cold = tuple(_outside(image, pages))
    image = replace(image, segments=tuple(s for s in image.segments if s.type in (SegmentType.LOAD, SegmentType.STACK)))
    exported = sorted({*chosen, *kept.symbols}, key=lambda symbol: symbol.number)
    tables = _tables(image, exported, kept.relocations, read_versions(image))
    return Hollow(Split(image, cold, (Chunk(cold),) if cold else ()), tables)


def _outside(image: ElfImage, pages: Collection[int]) -> Iterator[PageRun]:
    """Yield the runs of pages of all segments that are not among ``pages``."""
    for segment in image.loads:
        executable = bool(segment.flags & Right.EXECUTE)
        start, stop = segment.address // image.page_size, -(-segment.end // image.page_size)
        for page in sorted({page for page in pages if start <= page < stop}):
            if page > start:
                yield PageRun(start, page - start, executable)
            start = page + 1
        if stop > start:
            yield PageRun(start, stop - start, executable)


# ---- constants ----------------------------------------------------------------------------------------------------


class _Constants:
    """Constant objects, what they point to, and the relocations of their pointers."""

    def __init__(self, image: ElfImage, symbols: list[Symbol]) -> None:
        self.pages: set[int] = set()
        self.symbols: set[Symbol] = set()
        self.relocations: dict[int, tuple[int, int, Symbol | None]] = {}
        self._image = image
        self._all = symbols
        self._constant = list(_constant_ranges(image))
        self._known: Mapping[int, tuple[int, int]] | None = None

    def add(self, chosen: Iterable[Symbol]) -> None:
        """Add the constants among the symbols and everything that they point to.

        Raises:
            UnsupportedLibraryError: a pointer is relocated in another way than pointers are.
        """
        todo: deque[tuple[int, int]] = deque((s.value, s.size) for s in chosen if s.kind is not Kind.FUNCTION)
        done: set[int] = set()
        while todo:
            address, size = todo.popleft()
            if address in done or not self._is_constant(address):
                continue
            done.add(address)
            page = self._image.page_size
            self.pages.update(range(address // page, (address + max(size, 1) - 1) // page + 1))
            todo += self._pointers(address, size)

    def _is_constant(self, address: int) -> bool:
        return any(start <= address < stop for start, stop in self._constant)

    def _pointers(self, address: int, size: int) -> Iterator[tuple[int, int]]:
        """Yield the places and sizes to which the pointers in an object lead; note their relocations."""
        known, machine = self._relocated(), self._image.machine
        for at in range(-(-address // 8) * 8, address + size, 8):
            if at not in known:
                continue
            info, addend = known[at]
            kind, number = info & 0xFFFFFFFF, info >> 32
            if kind == _RELATIVE[machine]:
                self.relocations[at] = (kind, addend, None)
                yield addend, self._size_at(addend)
            elif kind in _POINTERS[machine]:
                symbol = self._all[number]
                self.symbols.add(symbol)
                self.relocations[at] = (kind, addend, symbol)
                if symbol.defined and symbol.kind is not Kind.FUNCTION:
                    yield symbol.value, symbol.size
            else:
                raise UnsupportedLibraryError(f"an object of it that others use has a relocation of type {kind}")

    def _size_at(self, address: int) -> int:
        """Return how many bytes belong to an object without a symbol: a text, or a structure with pointers."""
        for segment in self._image.loads:
            if segment.address <= address < segment.address + segment.file_size:
                if segment.flags & Right.WRITE:
                    return min(_UNNAMED_BYTES, segment.end - address)
                start = segment.offset + address - segment.address
                text = bytes(self._image.data[start : start + 8192])
                return text.index(0) + 1 if 0 in text else len(text)
        return 0

    def _relocated(self) -> Mapping[int, tuple[int, int]]:
        """Return all relocations by their addresses."""
        if self._known is None:
            if self._image.value(Tag.RELR) is not None:
                raise UnsupportedLibraryError("others use objects of it, and its relocations are packed (DT_RELR)")
            start, size = self._image.value(Tag.RELA), self._image.value(Tag.RELASZ) or 0
            table = b"" if start is None else self._image.read(start, size // _RELA.size * _RELA.size)
            self._known = {at: (info, addend) for at, info, addend in _RELA.iter_unpack(table)}
        return self._known


def _constant_ranges(image: ElfImage) -> Iterator[tuple[int, int]]:
    """Yield the addresses of what only the loader writes: read-only data, and what is read-only once relocated."""
    for segment in image.segments:
        constant = segment.type == SegmentType.LOAD and not segment.flags & (Right.WRITE | Right.EXECUTE)
        if constant or segment.type == SegmentType.RELRO:
            yield segment.address, segment.end


# ---- tables -------------------------------------------------------------------------------------------------------


def _tables(
    image: ElfImage,
    exported: list[Symbol],
    relocations: Mapping[int, tuple[int, int, Symbol | None]],
    versions: tuple[Version, ...],
) -> Tables:
    strings = Strings()
    old = bytes(image.read(image.value(Tag.STRTAB) or 0, image.value(Tag.STRSZ) or 0))
    entries: list[tuple[int, int]] = []
    for tag, value in image.dynamic:
        if tag in _STRINGS:
            text = old[value : old.index(0, value)].decode("utf-8", "surrogateescape")
            entries.append((tag, strings.add(text)))
    numbers = {symbol: number for number, symbol in enumerate(exported, 1)}
    blobs = {
        Tag.SYMTAB: bytes(SYMBOL.size) + b"".join(_packed(symbol, strings) for symbol in exported),
        Tag.HASH: _hash_table([symbol.name for symbol in exported]),
    }
    if relocations:
        blobs[Tag.RELA] = b"".join(
            _RELA.pack(at, (numbers[symbol] << 32 if symbol else 0) | kind, addend)
            for at, (kind, addend, symbol) in sorted(relocations.items())
        )
        entries.append((Tag.RELASZ, len(blobs[Tag.RELA])))
    if versions:
        indices = [0, *(symbol.version if symbol.defined else 1 for symbol in exported)]
        blobs[Tag.VERSYM] = struct.pack(f"<{len(indices)}H", *indices)
        blobs[Tag.VERDEF] = _version_table(versions, strings)
        entries.append((Tag.VERDEFNUM, len(versions)))
    return Tables(bytes(strings.data), (*entries, *_ENTRY_BYTES.items()), blobs)


def _packed(symbol: Symbol, strings: Strings) -> bytes:
    """Return the entry of a symbol. A function that the loader would call to choose another one becomes that one."""
    kind = Kind.FUNCTION if symbol.kind is Kind.RESOLVER else symbol.kind
    value, size = (symbol.value, symbol.size) if symbol.defined else (0, 0)
    return SYMBOL.pack(strings.add(symbol.name), symbol.binding << 4 | kind, symbol.other, symbol.section, value, size)


def _hash_table(names: list[str]) -> bytes:
    """Return DT_HASH: https://refspecs.linuxfoundation.org/elf/gabi4+/ch5.dynamic.html#hash."""
    count = max(1, len(names))
    buckets, chain = [0] * count, [0] * (len(names) + 1)
    for number, name in enumerate(names, 1):
        place = _hash(name) % count
        chain[number], buckets[place] = buckets[place], number
    return struct.pack(f"<{2 + count + len(chain)}I", count, len(chain), *buckets, *chain)


def _hash(name: str) -> int:
    value = 0
    for byte in name.encode("utf-8", "surrogateescape"):
        value = (value << 4) + byte
        value = (value ^ (value >> 24 & 0xF0)) & 0x0FFFFFFF
    return value


def _version_table(versions: tuple[Version, ...], strings: Strings) -> bytes:
    table = bytearray()
    for number, version in enumerate(versions, 1):
        size = _DEFINITION.size + _NAME.size * len(version.names)
        following = size if number < len(versions) else 0
        fields = (version.flags, version.index, len(version.names), _hash(version.names[0]), _DEFINITION.size)
        table += _DEFINITION.pack(1, *fields, following)
        for position, name in enumerate(version.names, 1):
            table += _NAME.pack(strings.add(name), _NAME.size if position < len(version.names) else 0)
    return bytes(table)
