"""What a shared library asks of the system, read from its ELF headers without executing it.

That is which libraries it loads, from where, and which versions of their symbols they must have.

The rules are those of the dynamic loader of glibc (ld.so(8)): DT_RPATH counts only without DT_RUNPATH and holds for the
libraries that are loaded in turn, DT_RUNPATH holds for the library alone, `$ORIGIN` is the library's own folder.
"""

from __future__ import annotations

import mmap
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
# Elf64_Verneed and Elf64_Vernaux, of the same form for 32 bits: the needed file, and one version of it.
_VERNEED, _VERNAUX = "HHIII", "IHHII"
_WEAK = 2
_VERSION = re.compile(r"(?P<family>GLIBC|GLIBCXX|CXXABI|GCC)_(?P<number>\d+(?:\.\d+)*)")
# Such a name stands for an ability of the loader. The first came with glibc 2.36, which no runtime has:
# https://sourceware.org/glibc/wiki/Release/2.36
_ABILITY = "GLIBC_ABI_"
_ABILITIES_SINCE = Version("2.36")
_LONGEST_NAME = 255
_MODULE_INIT = b"\0PyInit_"
_Value = TypeVar("_Value")


@dataclass(frozen=True, slots=True)
class Dynamic:
    """What a library tells the dynamic loader, to find the files that it needs."""

    needed: tuple[str, ...]
    rpath: tuple[str, ...]
    runpath: tuple[str, ...]
    soname: str
    machine: str


@dataclass(frozen=True, slots=True)
class VersionNeed:
    """A version of ``library`` without which a library is not loaded, and a symbol of that version, if one is known."""

    library: str
    version: str
    symbol: str


def is_elf_name(path: str) -> bool:
    """Tell from its name whether a file is a shared library: `.so`, or `.so` and a version."""
    return _NAME.search(posixpath.basename(path)) is not None


def is_module(source: Path) -> bool:
    """Return whether a library has the function by which Python initialises an extension module.

    Raises:
        PlanError: The file cannot be read.
    """
    try:
        with source.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content:
            return content.find(_MODULE_INIT) >= 0
    except OSError as error:
        raise PlanError(f"The library {source} cannot be read ({error.strerror}): make it readable.") from error
    except ValueError:  # an empty file has nothing to map
        return False


def read_dynamic(source: Path) -> Dynamic | None:
    """Read what a library needs from its dynamic segment, however large the library is.

    Returns:
        None for a file that the loader does not load: a linker script, an object file, a static program.

    Raises:
        PlanError: The file cannot be read, is cut short or is corrupt.
    """
    return _read(source, _dynamic)


def read_versions(source: Path) -> tuple[VersionNeed, ...]:
    """Read which versions of other libraries a library insists on, in the order of its table.

    Raises:
        PlanError: The file cannot be read, is cut short or is corrupt.
    """
    return _read(source, _versions) or ()


def required_version(version: str) -> tuple[str, Version] | None:
    """Return family and number of a version that a library insists on (``GLIBC_2.17``), None if it has no number."""
    if version.startswith(_ABILITY):
        return "GLIBC", _ABILITIES_SINCE
    match = _VERSION.fullmatch(version)
    return (match["family"], Version(match["number"])) if match else None


def named_files(source: Path) -> frozenset[str]:
    """Return the names with an extension that the texts of a library's code end in, as a name or a path of a file does.

    Raises:
        PlanError: The file cannot be read, is cut short or is corrupt.
    """
    return _read(source, _named_files) or frozenset()


def _read(source: Path, parse: Callable[[Any, int], _Value]) -> _Value | None:
    try:
        with source.open("rb") as stream:
            if stream.read(len(_MAGIC)) != _MAGIC:
                return None
            try:
                return parse(ELFFile(stream), source.stat().st_size)
            except Exception as error:  # on corrupt headers pyelftools raises whatever its reading runs into
                raise PlanError(
                    f"The library {source} is cut short or corrupt ({str(error) or type(error).__name__}): "
                    "reinstall the distribution that brought it."
                ) from error
    except OSError as error:
        raise PlanError(f"The library {source} cannot be read ({error.strerror}): make it readable.") from error


def _dynamic(elf: Any, size: int) -> Dynamic | None:
    size_of_table = elf["e_shnum"] * elf["e_shentsize"]
    section = elf.get_section_by_name(".dynamic") if elf["e_shoff"] + size_of_table <= size else None
    if section is not None and section["sh_type"] == "SHT_NOBITS":
        return None  # debug information that was split off keeps the headers, without their content
    segments = list(elf.iter_segments())
    ends = [segment.header["p_offset"] + segment.header["p_filesz"] for segment in segments]
    ends.append(elf["e_shoff"] + size_of_table)
    if max(ends) > size:
        raise ValueError(f"it has {size} bytes, its headers tell of {max(ends)}")
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


def _named_files(elf: Any, _size: int) -> frozenset[str]:
    section = elf.get_section_by_name(".rodata")
    if section is None or section["sh_type"] == "SHT_NOBITS":
        return frozenset()
    texts = section.data().split(b"\0")
    names = {text.rpartition(b"/")[2] for text in texts if b"." in text}
    return frozenset(name.decode("ascii", "replace") for name in names if len(name) <= _LONGEST_NAME)


def _versions(elf: Any, size: int) -> tuple[VersionNeed, ...]:
    if _dynamic(elf, size) is None:
        return ()
    segment = next(segment for segment in elf.iter_segments() if isinstance(segment, DynamicSegment))
    place, names = (segment.get_table_offset(tag)[1] for tag in ("DT_VERNEED", "DT_STRTAB"))
    if place is None or names is None:
        return ()
    symbols = _symbols_by_version(elf)
    found = []
    for _ in range(sum(tag.entry.d_val for tag in segment.iter_tags("DT_VERNEEDNUM"))):
        _, number, library, first, following = _unpack(elf, _VERNEED, place)
        at = place + first
        for _ in range(number):
            _, flags, index, version, onward = _unpack(elf, _VERNAUX, at)
            if not flags & _WEAK:  # the loader does without a weak one
                library_name, version_name = (_text(elf, names + name) for name in (library, version))
                found.append(VersionNeed(library_name, version_name, symbols(index)))
            at += onward
            if not onward:
                break
        place += following
        if not following:
            break
    return tuple(found)


def _unpack(elf: Any, form: str, place: int) -> tuple[int, ...]:
    form = ("<" if elf.little_endian else ">") + form
    elf.stream.seek(place)
    return struct.unpack(form, elf.stream.read(struct.calcsize(form)))


def _text(elf: Any, place: int) -> str:
    text = parse_cstring_from_stream(elf.stream, place)
    if text is None:
        raise ValueError("a name in it has no end")
    return str(text.decode("utf-8", "surrogateescape"))


def _symbols_by_version(elf: Any) -> Callable[[int], str]:
    """Return a function that names the first symbol with the version of an index; "" where section headers are gone."""
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
    # Empty ones stay: an empty DT_RUNPATH names no folder, but it takes the effect from DT_RPATH.
    return tuple(folder for value in values for folder in value.split(":"))


def _expanded(owner: str, folders: Iterable[str]) -> Iterator[str]:
    """Make folders relative to the site, leaving out those that are elsewhere or only known when the library runs."""
    origin = posixpath.dirname(owner)
    for folder in folders:
        relative, origins = _ORIGIN.subn(lambda _: f"./{origin}", folder, count=1)
        # Without the origin a folder is absolute or belongs to the working directory; `$LIB` is the machine's choice.
        if origins and folder.startswith("$") and "$" not in relative:
            normal = posixpath.normpath(relative)
            if normal != ".." and not normal.startswith("../"):
                yield "" if normal == "." else normal


def own_folders(source: Path, dynamic: Dynamic) -> tuple[str, ...]:
    """Tell in which folders of this machine a file looks for libraries by its own DT_RPATH or DT_RUNPATH."""
    folders = dynamic.runpath or dynamic.rpath
    expanded = [_ORIGIN.sub(lambda _: str(source.parent), folder) for folder in folders]
    return tuple(posixpath.normpath(folder) for folder in expanded if folder.startswith("/"))


def rpath_folders(owner: str, dynamic: Dynamic) -> tuple[str, ...]:
    """Tell in which folders of the site the libraries that `owner` loads are looked for as well, by its DT_RPATH."""
    return () if dynamic.runpath else tuple(_expanded(owner, dynamic.rpath))


def needed_files(
    owner: str, dynamic: Dynamic, present: Callable[[str], bool], inherited: tuple[str, ...] = ()
) -> tuple[str, ...]:
    """Find the installed files that a library loads, in the order in which it names them.

    Args:
        owner: Path of the library in the site.
        dynamic: What `read_dynamic` says of it.
        present: Says whether a path in the site is an installed file.
        inherited: Folders by the DT_RPATH of the libraries that led to this one, the nearest first.

    Returns:
        Paths in the site. A name that is found nowhere in it belongs to the system and is left out.
    """
    if dynamic.runpath:
        folders = tuple(_expanded(owner, dynamic.runpath))
    else:
        folders = (*rpath_folders(owner, dynamic), *inherited)
    found = []
    for name in dynamic.needed:
        if "/" not in name:  # with a slash it is a path from the working directory, and no folder is looked into
            paths = (posixpath.join(folder, name) for folder in folders)
            found += [path for path in paths if present(path)][:1]
    return tuple(dict.fromkeys(found))


def library_closure(
    roots: Iterable[str], read: Callable[[str], Dynamic | None], present: Callable[[str], bool]
) -> tuple[tuple[str, str], ...]:
    """Follow what libraries load to all installed files that they need, each with one library that needs it.

    Args:
        roots: Paths in the site of the libraries to start from.
        read: Gives what `read_dynamic` says of a path in the site.
        present: Says whether a path in the site is an installed file.

    Returns:
        Pairs of a needed path and the path of a library that needs it, nearest to the roots first. A root is among
        the needed ones only if another library needs it.
    """
    needed_by: dict[str, str] = {}
    for owner, _, found in _walk(roots, read, present):
        for path in found:
            if path != owner:
                needed_by.setdefault(path, owner)
    return tuple(needed_by.items())


def needed_elsewhere(
    roots: Iterable[str], read: Callable[[str], Dynamic | None], present: Callable[[str], bool]
) -> dict[str, tuple[str, ...]]:
    """Return the names that libraries, and those that they load, need and that no way to them finds in the site.

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
    """Yield the libraries that are loaded, what they say, and the files that they load, by every way to them."""
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
        # Who loads a library first depends on the program: with other inherited folders it may find other files.
        handed_on = tuple(dict.fromkeys((*rpath_folders(owner, dynamic), *inherited)))
        for path in found:
            if (path, handed_on) not in visited:
                visited.add((path, handed_on))
                waiting.append((path, handed_on))
