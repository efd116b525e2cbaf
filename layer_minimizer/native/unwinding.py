"""Shortens the unwinding information of a library to that of some functions. Does no I/O.

An exception passes through the functions of a library if the unwinder finds their entries (FDE) by the table of
``PT_GNU_EH_FRAME``. Both grow with the whole library: in libtorch_cuda.so they have 7 MB, of which a run reads next to
nothing. The new table and entries lie where the caller wants them, so all relative addresses in them change; the
handlers' tables (LSDA) stay in place.

Source: Linux Standard Base Core 5.0, chapter 10.6, "Exception Frames".
"""

from __future__ import annotations

import struct
from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from typing import TYPE_CHECKING

from layer_minimizer.native.elf_image import ElfImage, SegmentType, UnsupportedLibraryError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

_OMITTED, _INDIRECT = 0xFF, 0x80
# Addresses of four bytes, relative to where they are: what compilers and linkers write into shared libraries.
_RELATIVE = 0x1B
# Version 1 of the table; the encodings of the address of the entries, of their number, and of the rows.
_TABLE_KIND = bytes((1, _RELATIVE, 0x03, 0x3B))
_HEAD, _ROW, _WORD, _OFFSET = struct.Struct("<4siI"), struct.Struct("<ii"), struct.Struct("<I"), struct.Struct("<i")
# What can follow the type table of an LSDA: lists of types of exception specifications, which C++17 no longer has.
_SPECIFICATION_BYTES = 64
_HEAD_BYTES = 32  # of an LSDA: more than its first numbers need
_MORE = 0x80  # in a byte of an LEB128 number: another one follows


@dataclass(frozen=True, slots=True)
class _Record:
    """A record of .eh_frame: its bytes, and where they contain relative addresses."""

    address: int
    data: bytes
    relative: tuple[int, ...]

    def moved_to(self, address: int) -> bytearray:
        """Return the bytes as they are at another address."""
        moved = bytearray(self.data)
        for at in self.relative:
            _OFFSET.pack_into(moved, at, _OFFSET.unpack_from(self.data, at)[0] + self.address - address)
        return moved


@dataclass(frozen=True, slots=True)
class _Common(_Record):
    """What entries have in common (CIE)."""

    has_handlers: bool


@dataclass(frozen=True, slots=True)
class _Entry(_Record):
    """The entry of a function (FDE)."""

    function: int
    common: _Common


@dataclass(frozen=True, slots=True)
class UnwindingTables:
    """The unwinding information of some functions of a library.

    ``handlers``: the first and the last address of the LSDA of each of them that has one.
    """

    handlers: tuple[tuple[int, int], ...]
    _entries: tuple[_Entry, ...]

    def at(self, address: int) -> bytes:
        """Return the table of PT_GNU_EH_FRAME for ``address``, which is a multiple of 8, and the entries after it."""
        first = address + -(-(_HEAD.size + _ROW.size * len(self._entries)) // 8) * 8
        frames = bytearray()
        commons: dict[int, int] = {}
        rows = bytearray()
        for entry in self._entries:
            common = entry.common
            if common.address not in commons:
                commons[common.address] = len(frames)
                frames += common.moved_to(first + len(frames))
            rows += _ROW.pack(entry.function - address, first + len(frames) - address)
            moved = entry.moved_to(first + len(frames))
            _WORD.pack_into(moved, 4, len(frames) + 4 - commons[common.address])
            frames += moved
        head = _HEAD.pack(_TABLE_KIND, first - address - 4, len(self._entries)) + rows
        return head + bytes(first - address - len(head)) + frames + bytes(4)


def of_functions(image: ElfImage, ranges: Sequence[tuple[int, int]]) -> UnwindingTables | None:
    """Return the unwinding information of all functions with code between these first and last addresses.

    Returns None if the library has none.

    Raises:
        UnsupportedLibraryError: it is of another kind than compilers and linkers write into shared libraries.
    """
    segment = next((each for each in image.segments if each.type == SegmentType.GNU_EH_FRAME), None)
    if segment is None:
        return None
    try:
        reader = _Reader(image)
        entries = tuple(reader.entry(function, at) for function, at in _rows(image, segment.address, ranges))
        handlers = tuple(each for entry in entries if (each := reader.handlers(entry)))
    except (struct.error, IndexError) as exc:
        raise UnsupportedLibraryError(f"its unwinding information is damaged ({exc})") from exc
    return UnwindingTables(handlers, entries)


def _rows(image: ElfImage, table: int, ranges: Iterable[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Yield the addresses of the functions with code in these ranges, in ascending order, and of their entries."""
    kind, _, count = _HEAD.unpack(image.read(table, _HEAD.size))
    if kind != _TABLE_KIND:
        raise UnsupportedLibraryError("its unwinding information has no table, or one of another kind")
    rows = list(_ROW.iter_unpack(image.read(table + _HEAD.size, _ROW.size * count)))
    starts = [table + start for start, _ in rows]
    chosen: set[int] = set()
    for first, last in ranges:
        # The first one may begin before the range.
        chosen.update(range(max(0, bisect_right(starts, first) - 1), bisect_left(starts, last + 1)))
    for number in sorted(chosen):
        yield starts[number], table + rows[number][1]


class _Reader:
    def __init__(self, image: ElfImage) -> None:
        self._image = image
        self._commons: dict[int, _Common] = {}

    def entry(self, function: int, address: int) -> _Entry:
        """Read the entry of a function at this address."""
        data = self._record(address)
        at = address + 4 - _WORD.unpack_from(data, 4)[0]
        if at not in self._commons:
            self._commons[at] = self._common(at)
        common = self._commons[at]
        relative = [8]
        if common.has_handlers:
            _, place = _number(data, 16)
            if _OFFSET.unpack_from(data, place)[0]:
                relative.append(place)
        return _Entry(address, data, tuple(relative), function, common)

    def _record(self, address: int) -> bytes:
        length: int = _WORD.unpack(self._image.read(address, 4))[0]
        return bytes(self._image.read(address, 4 + length))

    def _common(self, address: int) -> _Common:
        data = self._record(address)
        end = data.index(0, 9)
        letters, at = data[9:end].decode("latin-1"), end + 1
        for _ in range(3):  # alignment of code and of data, register of the return address
            _, at = _number(data, at)
        relative: list[int] = []
        encoding = handlers = _OMITTED
        if letters[:1] == "z":
            _, at = _number(data, at)
        for letter in letters[1:]:
            if letter == "R":
                encoding, at = data[at], at + 1
            elif letter == "L":
                handlers, at = data[at], at + 1
            elif letter == "P" and data[at] & ~_INDIRECT == _RELATIVE:
                relative.append(at + 1)
                at += 1 + _OFFSET.size
            elif letter not in "SB":  # frames of signal handlers; return addresses that are signed
                encoding = _OMITTED
                break
        if encoding != _RELATIVE or handlers not in (_RELATIVE, _OMITTED):
            raise UnsupportedLibraryError(f"its unwinding information is of an unknown kind ({letters})")
        return _Common(address, data, tuple(relative), handlers != _OMITTED)

    def handlers(self, entry: _Entry) -> tuple[int, int] | None:
        """Return the first and the last address of the LSDA of a function; None if it has none."""
        if len(entry.relative) == 1:
            return None
        place = entry.relative[1]
        start: int = entry.address + place + _OFFSET.unpack_from(entry.data, place)[0]
        end = max((s.address + s.file_size for s in self._image.loads if s.address <= start), default=start)
        head = bytes(self._image.read(start, min(_HEAD_BYTES, end - start)))
        if head[0] != _OMITTED:
            raise UnsupportedLibraryError("the landing pads of a function are not relative to it")
        if head[1] != _OMITTED:
            size, at = _number(head, 2)
            return start, start + at + size + _SPECIFICATION_BYTES
        size, at = _number(head, 3)
        return start, start + at + size


def _number(data: bytes, at: int) -> tuple[int, int]:
    """Return an unsigned LEB128 number at an offset, and the offset after it."""
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & ~_MORE) << shift
        at, shift = at + 1, shift + 7
        if not byte & _MORE:
            return value, at
