"""Builds a native library for another processor in the cache, with the system's cross compiler, if there is one."""

from __future__ import annotations

import hashlib
import logging
import shutil
import subprocess
import tomllib
from pathlib import Path

from layer_minimizer.core.cache import cache_folder
from layer_minimizer.core.files import replacing

log = logging.getLogger(__name__)
_SOURCES = Path(__file__).parent / "src"
# The folder in the cache.
_CACHE = "native"


def compiler_name(machine: str) -> str:
    """Return the name that distributions give to the C compiler for a processor."""
    return f"{machine}-linux-gnu-gcc"


def built(name: str, machine: str) -> Path | None:
    """Return a library for another processor; None if there is no compiler for it, or it cannot build the library."""
    compiler = shutil.which(compiler_name(machine))
    if compiler is None:
        return None
    rows = tomllib.loads((_SOURCES / "libraries.toml").read_text("utf-8"))["library"]
    row = next(each for each in rows if each["name"] == name)
    inputs = hashlib.sha256(repr((row, compiler)).encode())
    for file in sorted(_SOURCES.glob("*.[ch]")):
        inputs.update(file.read_bytes())
    target = cache_folder(_CACHE) / f"{name}-{machine}-{inputs.hexdigest()[:16]}.so"
    if target.exists():
        return target
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with replacing(target) as output:
            command = [compiler, "-shared", "-fPIC", "-o", str(output), *row["compile-args"]]
            command += [str(_SOURCES / row["source"]), *row["link-args"]]
            subprocess.run(command, check=True, capture_output=True, text=True, stdin=subprocess.DEVNULL)  # noqa: S603
    except (OSError, subprocess.CalledProcessError) as exc:
        log.warning("%s cannot be built for %s: %s", name, machine, (getattr(exc, "stderr", "") or str(exc)).strip())
        return None
    return target
