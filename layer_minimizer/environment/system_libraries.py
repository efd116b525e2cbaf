"""Where this machine has a shared library that belongs to no distribution: what the dynamic loader would look at."""

from __future__ import annotations

import functools
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

# Where the loader looks without being told, on the distributions that have glibc.
_STANDARD = (
    *(f"{top}/{machine}-linux-gnu" for machine in ("x86_64", "aarch64") for top in ("/lib", "/usr/lib")),
    *("/lib64", "/usr/lib64", "/lib", "/usr/lib", "/usr/local/lib"),
)
_LISTED = re.compile(r"\s(?P<name>\S+) \([^)]*\) => (?P<path>/.*)")


def candidates(name: str, folders: Iterable[str] = ()) -> Iterator[Path]:
    """Yield the files that the loader could take for the library ``name``, the first choice first.

    They may be for another processor. ``folders`` are those that the library which needs it names itself.
    """
    if "/" in name:  # a path, for which no folder is looked into
        return
    told = [*folders, *os.environ.get("LD_LIBRARY_PATH", "").split(":")]
    paths = [os.path.join(folder, name) for folder in told if folder.startswith("/")]
    paths += _cached().get(name, ())
    paths += [os.path.join(folder, name) for folder in _STANDARD]
    yield from (Path(path) for path in dict.fromkeys(paths) if os.path.isfile(path))


@functools.cache
def _cached() -> dict[str, tuple[str, ...]]:
    """Read the loader's own list, /etc/ld.so.cache; empty where there is none."""
    program = shutil.which("ldconfig", path=f"{os.environ.get('PATH', '')}:/sbin:/usr/sbin")
    if program is None:
        return {}
    listed = subprocess.run([program, "-p"], capture_output=True, check=False)  # noqa: S603 - the system's own
    return parse_cache(os.fsdecode(listed.stdout))


def parse_cache(listed: str) -> dict[str, tuple[str, ...]]:
    """Read what ``ldconfig -p`` prints."""
    found: dict[str, tuple[str, ...]] = {}
    for match in _LISTED.finditer(listed):
        found[match["name"]] = (*found.get(match["name"], ()), match["path"])
    return found
