"""Finds libraries that are there several times: a wheel has copies where a package of the system has links."""

from __future__ import annotations

import filecmp
from collections import defaultdict
from typing import TYPE_CHECKING

from layer_minimizer import elf

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
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
