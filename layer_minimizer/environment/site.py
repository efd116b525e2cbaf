"""The installed files of an environment by path, and which libraries are copies of each other."""

from __future__ import annotations

import filecmp
from collections import defaultdict
from hashlib import sha256
from typing import TYPE_CHECKING

from layer_minimizer.analysis import elf

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path


def of_libraries(paths: Iterable[str], sources: Mapping[str, Path]) -> dict[str, str]:
    """Give the libraries that are copies of another one in their folder, each with that other.

    That is the one whose file has the name by which the loader knows all of them (DT_SONAME).
    """
    alike: defaultdict[tuple[str, int], set[str]] = defaultdict(set)
    for path in paths:
        alike[path.rpartition("/")[0], sources[path].stat().st_size].add(path)
    found = {}
    for (folder, _size), group in alike.items():
        for path in sorted(group) if len(group) > 1 else ():
            dynamic = elf.read_dynamic(sources[path])
            original = f"{folder}/{dynamic.soname}".lstrip("/") if dynamic else path
            if original in group - {path} and filecmp.cmp(sources[path], sources[original], shallow=False):
                found[path] = original
    return found


def shared_by_copies(hot: Mapping[str, frozenset[int]], sources: Mapping[str, Path]) -> dict[str, frozenset[int]]:
    """Give each library the hot pages of all libraries with the same contents.

    Wheels bring copies of one library; the loader takes them for one (their SONAME) and opens the copy that is asked
    for first, which depends on the order of imports.
    """
    shared = dict(hot)
    for copies in by_contents({path: sources[path] for path in hot}):
        shared |= dict.fromkeys(copies, frozenset[int]().union(*(hot[path] for path in copies)))
    return shared


def by_contents(sources: Mapping[str, Path]) -> Iterator[list[str]]:
    """Give the paths of files with equal contents, together; those of a size of their own are not read."""
    by_size: dict[int, list[str]] = {}
    for path, source in sources.items():
        by_size.setdefault(source.stat().st_size, []).append(path)
    for paths in by_size.values():
        if len(paths) == 1:
            yield paths
            continue
        by_contents: dict[bytes, list[str]] = {}
        for path in paths:
            by_contents.setdefault(sha256(sources[path].read_bytes()).digest(), []).append(path)
        yield from by_contents.values()
