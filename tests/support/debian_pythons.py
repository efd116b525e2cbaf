"""The newest CPythons, from Debian's packages: ``python -m tests.support.debian_pythons`` puts them into the cache.

Debian sid has them first, built for its own C library, which is newer than that of this machine. So each gets a folder
with the dynamic loader and the libraries of its release, and its executable names these. Everything else works as with
any interpreter: links to it, virtual environments, child processes, extension modules of wheels.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

from .debian import DebianError, cached, unpack
from .places import cache

if TYPE_CHECKING:
    from pathlib import Path

SUITE = "sid"
VERSIONS = ("3.14", "3.15")
# Debian's place for pip's wheel, in the variables from which ensurepip takes it.
_WHEELS = "/usr/share/python-wheels/"


def installed(version: str) -> Path:
    """Return the path that the interpreter has once it is made."""
    return cache() / f"cpython-{version}" / "bin" / f"python{version}"


def install(version: str) -> Path:
    """Make the interpreter unless that was done before, and return its path.

    Raises:
        DebianError: it cannot be made here.
    """
    cached(f"cpython-{version}", lambda part: _make(part, version))
    return installed(version)


def _make(part: Path, version: str) -> None:
    if shutil.which("patchelf") is None:
        raise DebianError("patchelf is not installed")
    tree = part.with_name(f"{part.name}.tree")
    shutil.rmtree(tree, ignore_errors=True)
    unpack(tree, SUITE, f"python{version},python{version}-venv,libpython{version}-dev", "extract")
    (tree / "usr").rename(part)
    shutil.rmtree(tree)
    library = part / "lib" / f"python{version}"
    # Debian's own packages, its ban on others, and static libraries.
    for unneeded in (part / "lib" / "python3", *library.glob("config-*")):
        shutil.rmtree(unneeded)
    for file in (library / "EXTERNALLY-MANAGED", library / "sitecustomize.py", *part.glob("lib/*/*.a")):
        file.unlink()
    _keep_headers(part / "include", version)
    final = installed(version).parents[1]
    for variables in library.glob("_sysconfig*"):
        variables.write_text(variables.read_text().replace(_WHEELS, f"{final}/share/python-wheels/"))
    python = part / "bin" / f"python{version}"
    loader = next((part / "lib").glob("*/ld-linux-*.so.*"))
    compiling = [loader, "--library-path", loader.parent, python, "-m", "compileall", "-q", "-s", part, "-p", final]
    subprocess.run([*compiling, library], check=True)
    libraries = final / loader.parent.relative_to(part)
    # RPATH holds for what libraries need in turn, too, and before LD_LIBRARY_PATH; RUNPATH does not.
    naming = ["--set-interpreter", libraries / loader.name, "--force-rpath", "--set-rpath", libraries]
    subprocess.run(["patchelf", *naming, python], check=True)


def _keep_headers(folder: Path, version: str) -> None:
    """Leave the headers of Python alone; ``pyconfig.h`` includes another one by a path below /usr/include."""
    own = folder / f"python{version}"
    next(folder.glob(f"*/{own.name}/pyconfig.h")).replace(own / "pyconfig.h")
    for other in folder.iterdir():
        if other != own:
            shutil.rmtree(other) if other.is_dir() and not other.is_symlink() else other.unlink()


def main() -> None:
    """Make all of them, and say which cannot be made: the tests on these are skipped."""
    for version in VERSIONS:
        try:
            install(version)
        except DebianError as exc:
            sys.stderr.write(f"no CPython {version}: {exc}\n")


if __name__ == "__main__":
    main()
