"""Takes the names of a library's own symbols away, which nobody else looks up. Does no I/O.

The loader binds what a library refers to by name, also where the library refers to itself. Such a symbol becomes a
local one: then the loader takes the library's own definition, and needs no name for that. Names of C++ are long: those
of libtorch_cuda.so have 6 MB.
"""

from __future__ import annotations

import re
import struct
from typing import TYPE_CHECKING

from layer_minimizer.native.compact import Tables, whole_pages
from layer_minimizer.native.elf_image import ElfImage, Tag
from layer_minimizer.native.symbols import SYMBOL, Kind, Strings, Symbol, read_symbols

if TYPE_CHECKING:
    from collections.abc import Collection

_LOCAL, _HIDDEN = 0, 2  # STB_LOCAL and STV_HIDDEN: which one a loader looks at depends on its version
_STRINGS = (Tag.NEEDED, Tag.SONAME, Tag.RPATH, Tag.RUNPATH)
_WORD = struct.Struct("<I")
# Variables and types that libstdc++ may have, too: of namespace std, and of types without a name.
_OF_THE_LANGUAGE = re.compile(r"_Z(?:T[A-Z]|GV|GR)?[ZN]*[KVRO]*(?:S[tabsiod]|\d+__(?:gnu_cxx|cxxabiv1)|[^\dNZ])")


def without_names(image: ElfImage, known: Collection[str]) -> Tables:
    """Return the tables of a library without the names of its own symbols of C++, except those that others know.

    ``known`` are the names that other libraries have or look up. Names in C stay, because programs look them up, too.

    Raises:
        UnsupportedLibraryError: the tables are damaged.
    """
    strings, table = Strings(), bytearray()
    symbols = read_symbols(image)
    start, size = image.value(Tag.SYMTAB) or 0, len(symbols) * SYMBOL.size
    for symbol, entry in zip(symbols, SYMBOL.iter_unpack(image.read(start, size)), strict=True):
        if _is_own(symbol) and symbol.name not in known:
            table += SYMBOL.pack(0, _LOCAL << 4 | entry[1] & 15, _HIDDEN, *entry[3:])
        else:
            table += SYMBOL.pack(strings.add(symbol.name), *entry[1:])
    old_start, old_size = image.value(Tag.STRTAB) or 0, image.value(Tag.STRSZ) or 0
    old = bytes(image.read(old_start, old_size))
    blobs = {Tag.SYMTAB: bytes(table)}
    for tag in (Tag.VERDEF, Tag.VERNEED):
        if image.value(tag) is not None:
            blobs[tag] = _versions(image, tag, old, strings)
    entries = tuple(
        (tag, strings.add(_text(old, value)) if tag in _STRINGS else value)
        for tag, value in image.dynamic
        if tag not in (Tag.STRTAB, Tag.STRSZ, *blobs)
    )
    replaced = (*whole_pages(image, old_start, old_size), *whole_pages(image, start, size))
    return Tables(bytes(strings.data), entries, blobs, replaced, relocates=True)


def _is_own(symbol: Symbol) -> bool:
    """Return whether a symbol is defined here, and nothing outside of installed libraries may have the same."""
    if not symbol.defined or not symbol.name.startswith("_Z"):
        return False
    # The functions of several libraries with one name are the same.
    return symbol.kind is Kind.FUNCTION or not _OF_THE_LANGUAGE.match(symbol.name)


def _versions(image: ElfImage, tag: Tag, old: bytes, strings: Strings) -> bytes:
    """Return a table of versions (Elf64_Verdef or Elf64_Verneed) with the new places of its strings."""
    at = start = image.value(tag) or 0
    section = next(each for each in image.sections if each.address == start and each.size)
    table = bytearray(image.read(start, section.size))
    defines = tag is Tag.VERDEF

    def word(place: int) -> int:
        return int(_WORD.unpack_from(table, place - start)[0])

    def move(place: int) -> None:
        _WORD.pack_into(table, place - start, strings.add(_text(old, word(place))))

    for _ in range(image.value(Tag.VERDEFNUM if defines else Tag.VERNEEDNUM) or 0):
        # vd_cnt, vd_aux, vd_next and vda_name, vda_next; vn_cnt, vn_aux, vn_next and vna_name, vna_next.
        count, first = struct.unpack_from("<H", table, at - start + (6 if defines else 2))[0], 12 if defines else 8
        if not defines:
            move(at + 4)  # vn_file
        entry = at + word(at + first)
        for _ in range(count):
            move(entry if defines else entry + 8)
            entry += word(entry + (4 if defines else 12))
        at += word(at + first + 4)
    return bytes(table)


def _text(strings: bytes, start: int) -> str:
    return strings[start : strings.index(0, start)].decode("utf-8", "surrogateescape")
