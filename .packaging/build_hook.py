"""Compiles the native libraries of a wheel. A hook of hatchling, which runs it whenever a wheel is built.

What the native libraries are for, and how they are compiled: layer_minimizer/native. They are no extension modules, so
one wheel is for all versions of Python.

Environment variables:
    LAYER_MINIMIZER_NATIVE: "off" builds without native libraries, where there is no compiler.
    LAYER_MINIMIZER_WHEEL_PLATFORM: the platform tag of a wheel to publish. It gets the libraries for all processors,
        compiled by zig for the C library that the tag names. The default is this machine, and its own compiler.
    CC, CFLAGS, LDFLAGS: as usual.
"""

from __future__ import annotations

import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import tomllib
from contextlib import suppress
from importlib.util import cache_from_source
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

NATIVE = "layer_minimizer/native"
PROCESSORS = ("x86_64", "aarch64")
# zig's linker never separates code, and refuses the flag that says so.
REFUSED_BY_ZIG = {"-Wl,-z,noseparate-code"}
COST = """\
They compact shared libraries and bring unused files back. Without them layers contain all of both as they are: one with
Pillow has 21.1 MB in place of 7.3. You can
* install layer_minimizer from a wheel for Linux on x86_64 or aarch64, which contains them;
* install a C compiler and the headers of the C library, then repeat this:
      apt-get install gcc libc6-dev      (Debian, Ubuntu)
      dnf install gcc glibc-devel        (Fedora, Amazon Linux)
* do without: repeat this with LAYER_MINIMIZER_NATIVE=off in the environment."""


class NativeLibraries(BuildHookInterface):  # type: ignore[type-arg] - the configuration of the builder is not used
    """Adds the compiled libraries to a wheel; in an editable installation, to the checkout."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile the libraries, and name them and the wheel's tag to hatchling."""
        platform_tag = os.environ.get("LAYER_MINIMIZER_WHEEL_PLATFORM", "")
        _remove_bytecode()
        compilers = _of_zig(platform_tag) if platform_tag else _of_this_machine()
        if not compilers:
            return
        root = Path(self.root)
        # Removed at the end of the process.
        self._made = tempfile.TemporaryDirectory(prefix="layer_minimizer-")
        folder = root / NATIVE if version == "editable" else Path(self._made.name)
        for processor, compiler in compilers.items():
            for library in tomllib.loads((root / NATIVE / "src" / "libraries.toml").read_text("utf-8"))["library"]:
                name = f"{library['name']}.{processor}.so"
                _compile(compiler, library, root / NATIVE / "src", folder / name)
                if version != "editable":
                    build_data["force_include"][str(folder / name)] = f"{NATIVE}/{name}"
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-{platform_tag or f'linux_{platform.machine()}'}"


def _remove_bytecode() -> None:
    """Remove what Python has written beside this file when hatchling imported it."""
    bytecode = Path(cache_from_source(__file__))
    with suppress(OSError):  # not written, or others are there
        bytecode.unlink()
        bytecode.parent.rmdir()


def _of_zig(platform_tag: str) -> dict[str, list[str]]:
    """Return the command of a compiler for each processor, for the glibc of a tag such as manylinux_2_17_x86_64."""
    glibc = re.fullmatch(r"manylinux_(\d+)_(\d+)_\w+", platform_tag)
    if not glibc:
        sys.exit(f"LAYER_MINIMIZER_WHEEL_PLATFORM={platform_tag}: it must be like manylinux_2_17_x86_64")
    zig = [sys.executable, "-m", "ziglang", "cc", "-target"]
    return {processor: [*zig, f"{processor}-linux-gnu.{glibc[1]}.{glibc[2]}"] for processor in PROCESSORS}


def _of_this_machine() -> dict[str, list[str]]:
    """Return the command of this machine's compiler; nothing if native libraries are of no use here or not wanted."""
    if os.environ.get("LAYER_MINIMIZER_NATIVE", "") == "off":
        return {}
    # On another system the tool works in containers, for which it compiles the libraries there.
    if platform.system() != "Linux" or platform.libc_ver()[0] != "glibc" or platform.machine() not in PROCESSORS:
        return {}
    if named := os.environ.get("CC", ""):
        return {platform.machine(): shlex.split(named)}
    found = next(filter(None, map(shutil.which, ("cc", "gcc", "clang"))), None)
    if not found:
        _fail("there is no C compiler (cc, gcc or clang) on PATH")
    return {platform.machine(): [found]}


def _compile(compiler: list[str], library: Mapping[str, Any], sources: Path, output: Path) -> None:
    done = _run(_command(compiler, library, sources / library["source"], output))
    if done.returncode:
        _fail(_diagnosis(compiler) or f"{compiler[0]} failed, which is an error of this package:\n{done.stderr}")


def _command(compiler: list[str], library: Mapping[str, Any], source: Path, output: Path) -> Iterator[str]:
    is_zig = "ziglang" in compiler
    yield from (*compiler, "-shared", "-fPIC", "-o", str(output))
    if not is_zig:  # a published wheel is the same wherever it is built
        yield from shlex.split(os.environ.get("CFLAGS", ""))
    yield from (*library["compile-args"], str(source))
    if not is_zig:
        yield from shlex.split(os.environ.get("LDFLAGS", ""))
    yield from (flag for flag in library["link-args"] if not (is_zig and flag in REFUSED_BY_ZIG))


def _diagnosis(compiler: list[str]) -> str:
    """Return what the compiler lacks, found by compiling a program that is certainly right."""
    with tempfile.TemporaryDirectory(prefix="layer_minimizer-") as folder:
        source = Path(folder, "empty.c")
        source.write_text("#include <stdio.h>\n")
        preprocessed = _run([*compiler, "-E", str(source)])
        linked = _run([*compiler, "-shared", "-fPIC", "-o", str(source.with_suffix(".so")), str(source)])
    if preprocessed.returncode and "stdio.h" in preprocessed.stderr:
        return f"{compiler[0]} finds no headers of the C library ({_first_error(preprocessed.stderr)})"
    if linked.returncode:
        return f"{compiler[0]} cannot make a shared library ({_first_error(linked.stderr)})"
    return ""


def _first_error(text: str) -> str:
    """Return the message of a compiler or linker, without the place in the source."""
    lines = [line.strip() for line in text.splitlines() if "error" in line] or text.strip().splitlines() or [""]
    return lines[0].rpartition("error: ")[2]


def _run(command: Iterator[str] | list[str]) -> subprocess.CompletedProcess[str]:
    command = list(command)
    try:
        return subprocess.run(command, check=False, capture_output=True, text=True)  # noqa: S603 - a compiler
    except OSError as exc:
        _fail(f"{shlex.join(command[:1])} cannot be run: {exc.strerror}")


def _fail(problem: str) -> NoReturn:
    """End the build with a message. pip and uv show nothing of a build that succeeds: it would go unnoticed."""
    sys.exit(f"layer_minimizer: its native libraries cannot be compiled: {problem}.\n{COST}")
