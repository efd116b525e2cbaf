"""Find shared libraries of this machine that belong to no distribution, as the dynamic loader does."""

from __future__ import annotations

import functools
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from layer_minimizer.environment import emulation

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

# The default folders of the loader, on Linux distributions with glibc.
_STANDARD = (
    *(f"{top}/{machine}-linux-gnu" for machine in ("x86_64", "aarch64") for top in ("/lib", "/usr/lib")),
    *("/lib64", "/usr/lib64", "/lib", "/usr/lib", "/usr/local/lib"),
)
_CACHE_LINE = re.compile(r"\s(?P<name>\S+) \([^)]*\) => (?P<path>/.*)")


def candidates(name: str, folders: Iterable[str] = ()) -> Iterator[Path]:
    """Yield the files that the loader could load for the library ``name``, in its order.

    They may be for another processor. ``folders`` are the run path of the library that needs it.
    """
    if "/" in name:  # a path: the loader does not search for it
        return
    first = [*folders, *os.environ.get("LD_LIBRARY_PATH", "").split(":")]
    paths = [os.path.join(folder, name) for folder in first if folder.startswith("/")]
    if emulated := os.environ.get(emulation.PREFIX):
        paths += [os.path.join(emulated, folder.lstrip("/"), name) for folder in _STANDARD]
    paths += _cached().get(name, ())
    paths += [os.path.join(folder, name) for folder in _STANDARD]
    yield from (Path(path) for path in dict.fromkeys(paths) if os.path.isfile(path))


@functools.cache
def _cached() -> dict[str, tuple[str, ...]]:
    """Return the contents of the loader's cache, /etc/ld.so.cache; empty if ``ldconfig`` is missing."""
    program = shutil.which("ldconfig", path=f"{os.environ.get('PATH', '')}:/sbin:/usr/sbin")
    if program is None:
        return {}
    listed = subprocess.run([program, "-p"], capture_output=True, check=False)  # noqa: S603 - a program of the system
    return parse_cache(os.fsdecode(listed.stdout))


def parse_cache(listed: str) -> dict[str, tuple[str, ...]]:
    """Parse the output of ``ldconfig -p``: the paths of each library by its name."""
    found: dict[str, tuple[str, ...]] = {}
    for match in _CACHE_LINE.finditer(listed):
        found[match["name"]] = (*found.get(match["name"], ()), match["path"])
    return found
