"""Read the dependencies of a shared library from its ELF headers, without executing it.

These are the libraries that it loads, the folders where they are searched, and the symbol versions that it requires.

The rules are those of glibc's dynamic loader (ld.so(8)): DT_RPATH is used only without DT_RUNPATH and also applies to
the dependencies of the library, DT_RUNPATH applies to the library alone, `$ORIGIN` is the library's own folder.
"""

from __future__ import annotations

import posixpath
import re
import struct
import sys
from array import array
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from elftools.common.utils import parse_cstring_from_stream
from elftools.elf.dynamic import DynamicSegment
from elftools.elf.elffile import ELFFile
from packaging.version import Version

from layer_minimizer.core.errors import PlanError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

_MAGIC = b"\x7fELF"
_NAME = re.compile(r"\.so(\.[0-9][0-9A-Za-z_]*)*$")
_ORIGIN = re.compile(r"\$(?:\{ORIGIN\}|ORIGIN(?![0-9A-Za-z_]))")
# Elf64_Verneed and Elf64_Vernaux, which have the same layout for 32 bits: a needed file, and one version of it.
_VERNEED, _VERNAUX = "HHIII", "IHHII"
_FLAG_WEAK = 2
_VERSION = re.compile(r"(?P<family>GLIBC|GLIBCXX|CXXABI|GCC)_(?P<number>\d+(?:\.\d+)*)")
# Such a name stands for a feature of the loader. The first came with glibc 2.36, which no Lambda runtime has:
# https://sourceware.org/glibc/wiki/Release/2.36
_ABI_PREFIX = "GLIBC_ABI_"
_ABI_NAMES_SINCE = Version("2.36")
_Value = TypeVar("_Value")


@dataclass(frozen=True, slots=True)
class Dynamic:
    """The entries of a library's dynamic section that determine which files the loader loads.

    ``needed``: DT_NEEDED names; ``rpath``, ``runpath``: folders of DT_RPATH and DT_RUNPATH; ``soname``: DT_SONAME;
    ``machine``: the processor architecture in lower case, without ``EM_``.
    """

    needed: tuple[str, ...]
    rpath: tuple[str, ...]
    runpath: tuple[str, ...]
    soname: str
    machine: str


@dataclass(frozen=True, slots=True)
class VersionRequirement:
    """A symbol version that a library requires of ``library``, and one symbol of that version, "" if unknown."""

    library: str
    version: str
    symbol: str


def is_elf_name(path: str) -> bool:
    """Return whether a file name is that of a shared library: it ends with `.so`, or `.so` and a version."""
    return _NAME.search(posixpath.basename(path)) is not None


def read_dynamic(source: Path) -> Dynamic | None:
    """Read the dynamic segment of a library; its size does not matter.

    Returns:
        None for a file that the loader cannot load: a linker script, an object file, a static program.

    Raises:
        PlanError: The file cannot be read, is cut short or is corrupt.
    """
    return _read(source, _dynamic)


def read_versions(source: Path) -> tuple[VersionRequirement, ...]:
    """Read which symbol versions of other libraries a library requires, in the order of its table.

    Raises:
        PlanError: The file cannot be read, is cut short or is corrupt.
    """
    return _read(source, _versions) or ()


def required_version(version: str) -> tuple[str, Version] | None:
    """Return the family and number of a required version (``GLIBC_2.17``), or None if it has no number."""
    if version.startswith(_ABI_PREFIX):
        return "GLIBC", _ABI_NAMES_SINCE
    match = _VERSION.fullmatch(version)
    return (match["family"], Version(match["number"])) if match else None


def _read(source: Path, parse: Callable[[Any, int], _Value]) -> _Value | None:
    try:
        with source.open("rb") as stream:
            if stream.read(len(_MAGIC)) != _MAGIC:
                return None
            try:
                return parse(ELFFile(stream), source.stat().st_size)
            except Exception as error:  # pyelftools raises many kinds of errors on corrupt headers
                raise PlanError(
                    f"The library {source} is cut short or corrupt ({str(error) or type(error).__name__}): "
                    "reinstall the distribution that contains it."
                ) from error
    except OSError as error:
        raise PlanError(f"The library {source} cannot be read ({error.strerror}): make it readable.") from error


def _dynamic(elf: Any, size: int) -> Dynamic | None:
    size_of_table = elf["e_shnum"] * elf["e_shentsize"]
    section = elf.get_section_by_name(".dynamic") if elf["e_shoff"] + size_of_table <= size else None
    if section is not None and section["sh_type"] == "SHT_NOBITS":
        return None  # a file with separate debug information has the headers without the content
    segments = list(elf.iter_segments())
    ends = [segment.header["p_offset"] + segment.header["p_filesz"] for segment in segments]
    ends.append(elf["e_shoff"] + size_of_table)
    if max(ends) > size:
        raise ValueError(f"it has {size} bytes, but its headers require {max(ends)}")
    found: dict[str, list[str]] = {"DT_NEEDED": [], "DT_RPATH": [], "DT_RUNPATH": [], "DT_SONAME": []}
    dynamic = [segment for segment in segments if isinstance(segment, DynamicSegment)]
    for segment in dynamic:
        for tag in segment.iter_tags():
            if tag.entry.d_tag in found:
                # pyelftools names the value after its tag: needed, rpath, runpath, soname.
                found[tag.entry.d_tag].append(getattr(tag, tag.entry.d_tag.removeprefix("DT_").lower()))
    if not dynamic:
        return None
    return Dynamic(
        needed=tuple(found["DT_NEEDED"]),
        rpath=_folders(found["DT_RPATH"]),
        runpath=_folders(found["DT_RUNPATH"]),
        soname="".join(found["DT_SONAME"][:1]),
        machine=str(elf["e_machine"]).removeprefix("EM_").lower(),
    )


def _versions(elf: Any, size: int) -> tuple[VersionRequirement, ...]:
    if _dynamic(elf, size) is None:
        return ()
    segment = next(segment for segment in elf.iter_segments() if isinstance(segment, DynamicSegment))
    offset, names = (segment.get_table_offset(tag)[1] for tag in ("DT_VERNEED", "DT_STRTAB"))
    if offset is None or names is None:
        return ()
    symbols = _symbols_by_version(elf)
    found = []
    for _ in range(sum(tag.entry.d_val for tag in segment.iter_tags("DT_VERNEEDNUM"))):
        _, number, library, first, following = _unpack(elf, _VERNEED, offset)
        at = offset + first
        for _ in range(number):
            _, flags, index, version, onward = _unpack(elf, _VERNAUX, at)
            if not flags & _FLAG_WEAK:  # the loader ignores weak requirements
                library_name, version_name = (_text(elf, names + name) for name in (library, version))
                found.append(VersionRequirement(library_name, version_name, symbols(index)))
            at += onward
            if not onward:
                break
        offset += following
        if not following:
            break
    return tuple(found)


def _unpack(elf: Any, form: str, offset: int) -> tuple[int, ...]:
    form = ("<" if elf.little_endian else ">") + form
    elf.stream.seek(offset)
    return struct.unpack(form, elf.stream.read(struct.calcsize(form)))


def _text(elf: Any, offset: int) -> str:
    text = parse_cstring_from_stream(elf.stream, offset)
    if text is None:
        raise ValueError("a name in it is not terminated")
    return str(text.decode("utf-8", "surrogateescape"))


def _symbols_by_version(elf: Any) -> Callable[[int], str]:
    """Return a function from a version index to its first symbol; "" if the library has no section headers."""
    versions, symbols = (elf.get_section_by_name(name) for name in (".gnu.version", ".dynsym"))
    if versions is None or symbols is None:
        return lambda _: ""
    indices = array("H", versions.data())
    if elf.little_endian != (sys.byteorder == "little"):
        indices.byteswap()

    def name(index: int) -> str:
        return str(symbols.get_symbol(indices.index(index)).name) if index in indices else ""

    return name


def _folders(values: Iterable[str]) -> tuple[str, ...]:
    # Empty values are kept: an empty DT_RUNPATH has no folder, but it disables DT_RPATH.
    return tuple(folder for value in values for folder in value.split(":"))


def _expanded(owner: str, folders: Iterable[str]) -> Iterator[str]:
    """Yield folders relative to the site; skip those outside it and those that are known only at run time."""
    origin = posixpath.dirname(owner)
    for folder in folders:
        relative, origins = _ORIGIN.subn(lambda _: f"./{origin}", folder, count=1)
        # Without $ORIGIN a folder is absolute or relative to the working directory; `$LIB` depends on the machine.
        if origins and folder.startswith("$") and "$" not in relative:
            normal = posixpath.normpath(relative)
            if normal != ".." and not normal.startswith("../"):
                yield "" if normal == "." else normal


def search_folders(source: Path, dynamic: Dynamic) -> tuple[str, ...]:
    """Return the absolute folders that the library's own DT_RPATH or DT_RUNPATH adds to the search."""
    folders = dynamic.runpath or dynamic.rpath
    expanded = [_ORIGIN.sub(lambda _: str(source.parent), folder) for folder in folders]
    return tuple(posixpath.normpath(folder) for folder in expanded if folder.startswith("/"))


def rpath_folders(owner: str, dynamic: Dynamic) -> tuple[str, ...]:
    """Return the folders of the site that the DT_RPATH of `owner` adds to the search of its dependencies."""
    return () if dynamic.runpath else tuple(_expanded(owner, dynamic.rpath))


def needed_files(
    owner: str, dynamic: Dynamic, present: Callable[[str], bool], inherited: tuple[str, ...] = ()
) -> tuple[str, ...]:
    """Return the installed files that a library loads, in the order of its DT_NEEDED entries.

    Args:
        owner: Path of the library in the site.
        dynamic: Its dynamic section, from `read_dynamic`.
        present: Returns whether a path in the site is an installed file.
        inherited: DT_RPATH folders of the libraries that load this one, the nearest first.

    Returns:
        Paths in the site. Names that are not found there are system libraries and are omitted.
    """
    if dynamic.runpath:
        folders = tuple(_expanded(owner, dynamic.runpath))
    else:
        folders = (*rpath_folders(owner, dynamic), *inherited)
    found = []
    for name in dynamic.needed:
        if "/" not in name:  # a name with a slash is a path from the working directory, and is not searched
            paths = (posixpath.join(folder, name) for folder in folders)
            found += [path for path in paths if present(path)][:1]
    return tuple(dict.fromkeys(found))


def library_closure(
    roots: Iterable[str], read: Callable[[str], Dynamic | None], present: Callable[[str], bool]
) -> tuple[tuple[str, str], ...]:
    """Return all installed files that libraries load, directly or not, each with one library that needs it.

    Args:
        roots: Paths in the site of the libraries to start from.
        read: Returns the dynamic section of a path in the site, like `read_dynamic`.
        present: Returns whether a path in the site is an installed file.

    Returns:
        Pairs of a needed path and the path of a library that needs it, nearest to the roots first. A root is included
        only if another library needs it.
    """
    needed_by: dict[str, str] = {}
    for owner, _, found in _walk(roots, read, present):
        for path in found:
            if path != owner:
                needed_by.setdefault(path, owner)
    return tuple(needed_by.items())


def unresolved_names(
    roots: Iterable[str], read: Callable[[str], Dynamic | None], present: Callable[[str], bool]
) -> dict[str, tuple[str, ...]]:
    """Return the DT_NEEDED names that are not found in the site, for the roots and all libraries that they load.

    The arguments are those of `library_closure`.
    """
    needed: dict[str, tuple[str, ...]] = {}
    inside: set[tuple[str, str]] = set()
    for owner, dynamic, found in _walk(roots, read, present):
        needed[owner] = dynamic.needed
        inside |= {(owner, posixpath.basename(path)) for path in found}
    left = {owner: tuple(name for name in names if (owner, name) not in inside) for owner, names in needed.items()}
    return {owner: names for owner, names in left.items() if names}


def _walk(
    roots: Iterable[str], read: Callable[[str], Dynamic | None], present: Callable[[str], bool]
) -> Iterator[tuple[str, Dynamic, tuple[str, ...]]]:
    """Yield each library, its dynamic section and the files that it loads, once for each set of inherited folders."""
    known: dict[str, Dynamic | None] = {}
    waiting: deque[tuple[str, tuple[str, ...]]] = deque((root, ()) for root in sorted(set(roots)))
    visited = set(waiting)
    while waiting:
        owner, inherited = waiting.popleft()
        if owner not in known:
            known[owner] = read(owner)
        if (dynamic := known[owner]) is None:
            continue
        found = needed_files(owner, dynamic, present, inherited)
        yield owner, dynamic, found
        # Which library loads another first depends on the program, and other inherited folders may find other files.
        passed_on = tuple(dict.fromkeys((*rpath_folders(owner, dynamic), *inherited)))
        for path in found:
            if (path, passed_on) not in visited:
                visited.add((path, passed_on))
                waiting.append((path, passed_on))
