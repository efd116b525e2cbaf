"""Locates the native libraries: the runtime that is shipped in layers, and the page tracer.

There is one of each for a processor, that of the packages. A published wheel contains them for all, an installation
from source for its own machine, or none where they were not wanted; then `unavailable_reason` says so. Those for
another machine are also built in the cache, by a cross compiler, if there is one.
"""

from __future__ import annotations

import platform
from pathlib import Path

from layer_minimizer.native import cross_build

_HERE = Path(__file__).parent
# The compiled libraries need Linux with glibc on one of these, as ``platform.machine()`` names them.
PROCESSORS = ("x86_64", "aarch64")


def library_file(name: str, machine: str) -> str:
    """Return the file name of a native library that is compiled for a processor."""
    return f"{name}.{machine}.so"


def runtime_library(machine: str = "") -> Path | None:
    """Return the library that restores cold pages and files; ``machine`` is that of the packages, default: this one."""
    return _library("_coldpages", machine)


def page_tracer(machine: str = "") -> Path | None:
    """Return the library that records touched pages (LD_AUDIT); ``machine`` as for `runtime_library`."""
    return _library("_pagetrace", machine)


def _library(name: str, machine: str) -> Path | None:
    wanted = machine or platform.machine()
    found = _HERE / library_file(name, wanted)
    if found.is_file():
        return found
    return cross_build.built(name, wanted) if wanted != platform.machine() and wanted in PROCESSORS else None


def unavailable_reason(machine: str = "") -> str:
    """Return why nothing can be compacted and restored for packages of ``machine``; empty if it can."""
    machine = machine or platform.machine()
    if platform.system() != "Linux" or platform.libc_ver()[0] != "glibc":
        return "the native libraries need Linux with glibc"
    if machine not in PROCESSORS:
        return f"the native libraries are for {' and '.join(PROCESSORS)}, and the packages for {machine}"
    if runtime_library(machine) is not None and page_tracer(machine) is not None:
        return ""
    compiler = "C compiler" if machine == platform.machine() else f"compiler {cross_build.compiler_name(machine)}"
    return (
        f"this tool was installed without its native libraries for {machine}: install it from a wheel, or where a "
        f"{compiler} is (minimize help installation)"
    )
