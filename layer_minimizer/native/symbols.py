"""Reads the dynamic symbols of a shared library, and the versions that it gives to them."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING

from layer_minimizer.native.elf_image import ElfImage, Tag

if TYPE_CHECKING:
    from collections.abc import Iterator

SYMBOL = struct.Struct("<IBBHQQ")
_DEFINITION, _NEED = struct.Struct("<HHHHIII"), struct.Struct("<HHIII")
_NAME, _NEEDED = struct.Struct("<II"), struct.Struct("<IHHII")
_HIDDEN = 0x8000
_GLOBAL = 1
_NAME_ROOM = 4096  # longer than any path


class Kind(IntEnum):
    """The type of a symbol: STT_NOTYPE to STT_TLS, and STT_GNU_IFUNC."""

    NONE = 0
    OBJECT = 1
    FUNCTION = 2
    SECTION = 3
    FILE = 4
    COMMON = 5
    TLS = 6
    RESOLVER = 10


_KINDS = frozenset(Kind)


@dataclass(frozen=True, slots=True)
class Symbol:
    """A dynamic symbol; its fields are those of its entry in the table.

    ``version``: its index of a version, 1 if it has none; ``library``: the file from which an undefined one of a
    version is required, else empty.
    """

    number: int
    name: str
    kind: Kind
    binding: int
    other: int
    section: int
    value: int
    size: int
    version: int = _GLOBAL
    library: str = ""

    @property
    def defined(self) -> bool:
        """Whether the library has it itself."""
        return self.section != 0

    @property
    def strong(self) -> bool:
        """Whether no other definition of it is as good (STB_GLOBAL)."""
        return self.binding == _GLOBAL


@dataclass(frozen=True, slots=True)
class Version:
    """A version that a library defines. ``names``: its name, then those of the versions that it follows."""

    flags: int
    index: int
    names: tuple[str, ...]


class Strings:
    """A table of strings without repetitions."""

    def __init__(self) -> None:
        """Begin with the empty string, at offset 0."""
        self.data = bytearray(b"\0")
        self._known = {"": 0}

    def add(self, text: str) -> int:
        """Return the offset of a string."""
        if text not in self._known:
            self._known[text] = len(self.data)
            self.data += text.encode("utf-8", "surrogateescape") + b"\0"
        return self._known[text]


def read_symbols(image: ElfImage) -> list[Symbol]:
    """Return all dynamic symbols by number; the first one is empty.

    Raises:
        UnsupportedLibraryError: the tables are damaged.
    """
    section = next((each for each in image.sections if each.name == ".dynsym"), None)
    if section is None:
        return []
    strings, files = _strings(image), dict(_required(image))
    versions = _indices(image, section.size // SYMBOL.size)
    found = []
    table = image.read(section.address, section.size // SYMBOL.size * SYMBOL.size)
    for number, (name, info, other, place, value, size) in enumerate(SYMBOL.iter_unpack(table)):
        text, version = _text(strings, name), versions[number]
        kind = Kind(info & 15) if info & 15 in _KINDS else Kind.NONE
        library = "" if place else files.get(version & ~_HIDDEN, "")
        found.append(Symbol(number, text, kind, info >> 4, other, place, value, size, version, library))
    return found


def needed_names(image: ElfImage) -> tuple[str, ...]:
    """Return the names of the libraries that the loader loads with this one (DT_NEEDED)."""
    start, size = image.value(Tag.STRTAB) or 0, image.value(Tag.STRSZ) or 0
    places = [value for tag, value in image.dynamic if tag == Tag.NEEDED and value < size]
    names = (bytes(image.read(start + place, min(size - place, _NAME_ROOM))) for place in places)
    return tuple(name.split(b"\0", 1)[0].decode("utf-8", "surrogateescape") for name in names)


def read_versions(image: ElfImage) -> tuple[Version, ...]:
    """Return the versions that the library defines."""
    at, strings, found = image.value(Tag.VERDEF), _strings(image), []
    for _ in range(image.value(Tag.VERDEFNUM) or 0 if at is not None else 0):
        at = at or 0
        _, flags, index, count, _, first, following = _DEFINITION.unpack(image.read(at, _DEFINITION.size))
        names, place = [], at + first
        for _ in range(count):
            name, onward = _NAME.unpack(image.read(place, _NAME.size))
            names.append(_text(strings, name))
            place += onward
        found.append(Version(flags, index, tuple(names)))
        at += following
    return tuple(found)


def _required(image: ElfImage) -> Iterator[tuple[int, str]]:
    """Yield the indices of the versions that are required of other libraries, with the names of these."""
    at, strings = image.value(Tag.VERNEED), _strings(image)
    for _ in range(image.value(Tag.VERNEEDNUM) or 0 if at is not None else 0):
        at = at or 0
        _, count, file, first, following = _NEED.unpack(image.read(at, _NEED.size))
        place = at + first
        for _ in range(count):
            _, _, index, _, onward = _NEEDED.unpack(image.read(place, _NEEDED.size))
            yield index, _text(strings, file)
            place += onward
        at += following


def _indices(image: ElfImage, count: int) -> tuple[int, ...]:
    start = image.value(Tag.VERSYM)
    if start is None:
        return (_GLOBAL,) * count
    return struct.unpack(f"<{count}H", image.read(start, 2 * count))


def _strings(image: ElfImage) -> bytes:
    return bytes(image.read(image.value(Tag.STRTAB) or 0, image.value(Tag.STRSZ) or 0))


def _text(strings: bytes, start: int) -> str:
    return strings[start : strings.index(0, start)].decode("utf-8", "surrogateescape")
