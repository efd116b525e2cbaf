"""Finds out which symbols of a library the others of an environment need."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from layer_minimizer.native.elf_image import UnsupportedLibraryError, map_file, read_image
from layer_minimizer.native.symbols import Kind, Symbol, read_symbols

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping
    from pathlib import Path

    Needs = Callable[[Iterable[str]], Iterable[tuple[str, str]]]

# Names that C++ compilers give to functions and variables (Itanium C++ ABI, 5.1.2).
_MANGLED = "_Z"


def wanted_symbols(
    hollow: Collection[str], libraries: Collection[str], sources: Mapping[str, Path], needs: Needs
) -> dict[str, frozenset[str]]:
    """Return for each of the ``hollow`` libraries the names of the symbols that it must have.

    These are the ones that other ``libraries`` take from it and from no other one that they load, and its functions in
    C: programs look these up by name. A symbol that another library has as well is left to that one: the loader takes
    the first definition that it finds, and the other one works.

    Args:
        hollow: paths in the site of the libraries of which only symbols are shipped.
        libraries: all libraries of the layer.
        sources: the file of each path.
        needs: returns the libraries that some need, directly or not, with one that needs it.
    """
    symbols = cache(lambda path: _symbols(sources[path]))
    defined = {path: {each.name: each for each in symbols(path) if each.defined} for path in sorted(hollow)}
    wanted = {path: {name for name, each in table.items() if _is_looked_up(each)} for path, table in defined.items()}
    # Libraries that are loaded together take symbols from each other, also where only one names the other.
    below = {path: {needed for needed, _by in needs([path])} for path in sorted({*libraries, *hollow})}
    for owner in sorted(set(libraries) - set(hollow)):
        related = [path for path in defined if path in below[owner] or owner in below[path]]
        if not related:
            continue
        missing = {(each.name, each.library) for each in symbols(owner) if not each.defined and each.name}
        for path in below[owner] - defined.keys():
            elsewhere = {each.name for each in symbols(path) if each.defined}
            missing = {(name, library) for name, library in missing if name not in elsewhere}
        for path in related:
            own = ("", path.rpartition("/")[2])
            wanted[path] |= {name for name, library in missing if library in own and name in defined[path]}
    return {path: frozenset(names) for path, names in wanted.items()}


def owners(libraries: Iterable[str], sources: Mapping[str, Path]) -> dict[str, str]:
    """Return which of the libraries has or looks up a symbol, by its name; an empty text where several do."""
    found: dict[str, str] = {}
    for path in sorted(set(libraries)):
        for symbol in _symbols(sources[path]):
            if found.setdefault(symbol.name, path) != path:
                found[symbol.name] = ""
    return found


def _is_looked_up(symbol: Symbol) -> bool:
    return symbol.strong and symbol.kind in (Kind.FUNCTION, Kind.RESOLVER) and not symbol.name.startswith(_MANGLED)


def _symbols(file: Path) -> list[Symbol]:
    """Return the dynamic symbols of a library; none if it cannot be read."""
    data = map_file(file)
    try:
        return read_symbols(read_image(data))
    except UnsupportedLibraryError:
        return []
