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
    unpack(tree, SUITE, f"python{version},python{version}-venv", "extract")
    (tree / "usr").rename(part)
    shutil.rmtree(tree)
    library = part / "lib" / f"python{version}"
    # Debian's own packages, and its ban on others.
    shutil.rmtree(part / "lib" / "python3")
    (library / "EXTERNALLY-MANAGED").unlink()
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


def main() -> None:
    """Make all of them, and say which cannot be made: the tests on these are skipped."""
    for version in VERSIONS:
        try:
            install(version)
        except DebianError as exc:
            sys.stderr.write(f"no CPython {version}: {exc}\n")


if __name__ == "__main__":
    main()
