"""Locates the compiled C parts: the runtime that is shipped in layers, and the page tracer.

They are built when the package is installed, if there is a C compiler. The package can be installed without one; then
`unavailable_reason` returns what it cannot do.
"""

from __future__ import annotations

import platform
from pathlib import Path

_HERE = Path(__file__).parent


def runtime_library() -> Path | None:
    """Return the library that restores cold pages, built for this machine."""
    return next(iter(sorted(_HERE.glob("_coldpages*.so"))), None)


def page_tracer() -> Path | None:
    """Return the library that records touched pages (LD_AUDIT)."""
    return next(iter(sorted(_HERE.glob("_pagetrace*.so"))), None)


def unavailable_reason() -> str:
    """Return why shared libraries cannot be compacted on this machine; empty if they can."""
    if platform.system() != "Linux" or platform.libc_ver()[0] != "glibc":
        return "shared libraries are shipped whole: compacting them needs Linux with glibc"
    if runtime_library() is None or page_tracer() is None:
        needed = "a C compiler and the C library's headers (gcc and libc6-dev)"
        return f"shared libraries are shipped whole: install {needed}, then reinstall this package"
    return ""
