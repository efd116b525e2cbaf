"""The base image ``scratch``: one layer with the interpreter of this machine, and the libraries that it needs."""

from __future__ import annotations

import os
import re
import struct
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, Any

from layer_minimizer.analysis import elf
from layer_minimizer.core import progress
from layer_minimizer.core.errors import PackError
from layer_minimizer.environment import emulation, system_libraries
from layer_minimizer.layer import oci
from layer_minimizer.model.image import Image

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from layer_minimizer.model.interpreter import Interpreter

# Of the standard library: tests, and programs that a server has no use for.
_LEFT_OUT = {"site-packages", "dist-packages", "test", "tests", "idlelib", "turtledemo", "ensurepip", "lib2to3"}
_HASHED = (3, 7)  # bytecode that is not compared with its source: PEP 552
_HEADER = 16
_USERS = b"root:x:0:0:root:/:/sbin/nologin\nnobody:x:65534:65534:nobody:/:/sbin/nologin\n"
_GROUPS = b"root:x:0:\nnogroup:x:65534:\n"
_LOADERS = ("/lib64/ld-linux-x86-64.so.2", "/lib/ld-linux-aarch64.so.1")
# What the C library loads by name, what many packages need, and parts of the C library, which packages cannot bring.
_BY_NAME = (
    "libgcc_s.so.1", "libnss_files.so.2", "libnss_dns.so.2", "libstdc++.so.6", "libm.so.6", "libdl.so.2",
    "libpthread.so.0", "librt.so.1", "libutil.so.1", "libresolv.so.2",
)  # fmt: skip


def make_scratch_image(interpreter: Interpreter, architecture: str, scratch: Path, level: int = 6) -> Image:
    """Return an image with this machine's interpreter, its standard library and what these link.

    ``level`` is that of its compression.

    Raises:
        PackError: it cannot be written, or the interpreter is emulated.
    """
    if emulation.system_root(interpreter.base_executable):
        raise PackError(
            f"--base-image scratch: {interpreter.base_executable} is emulated, with a system of its own: "
            f"use a base image for linux/{architecture}"
        )
    scratch.mkdir(parents=True, exist_ok=True)
    with progress.step(f"collecting {interpreter.base_executable} and what it needs"):
        files = dict(_files(interpreter))
        layer = oci.write_layer(files, scratch / "scratch.tar.gz", (), level)
    program = Path(interpreter.base_executable)
    environment = [f"PATH={program.parent}:/usr/bin:/bin", "LANG=C.UTF-8"]
    if interpreter.library_dir:
        environment.append(f"LD_LIBRARY_PATH={interpreter.library_dir}")
    config: dict[str, Any] = {
        "architecture": architecture,
        "os": "linux",
        "config": {"Env": environment},
        "rootfs": {"type": "layers", "diff_ids": [layer.diff_id]},
        "history": [{"created_by": f"minimize: {program.name} of this machine"}],
    }
    return Image("scratch", config, (layer,))


def _files(interpreter: Interpreter) -> Iterator[tuple[str, oci.Source]]:
    """Yield the files by their paths in the image, which are those of this machine."""
    program = Path(interpreter.base_executable)
    real = Path(os.path.realpath(program))
    for name in ("python3", "python", interpreter.folder, program.name):
        if (alias := program.with_name(name)) != real:
            yield _named(alias), oci.Link(str(real))
    yield _named(real), real
    standard = list(_standard_library(interpreter))
    for path in standard:
        yield _named(path), _unchecked(path, interpreter) or path
    linked = [real, *(path for path in standard if elf.is_elf_name(str(path)))]
    for name, source in needed_libraries(linked, _BY_NAME):
        yield name.lstrip("/"), source
    for loader in _LOADERS:
        if os.path.exists(loader):
            yield loader.lstrip("/"), Path(os.path.realpath(loader))
    yield "etc/passwd", _USERS
    yield "etc/group", _GROUPS
    yield "etc/nsswitch.conf", b"passwd: files\ngroup: files\nhosts: files dns\n"


def _named(path: Path) -> str:
    return str(path).lstrip("/")


def _standard_library(interpreter: Interpreter) -> Iterator[Path]:
    for top in interpreter.stdlib_dirs:
        if not os.path.isfile(f"{top}/os.py"):
            continue  # of a virtual environment
        for folder, folders, names in os.walk(top):
            folders[:] = sorted(each for each in folders if each not in _LEFT_OUT and not each.startswith("config-3"))
            for name in sorted(names):
                if not name.endswith((".a", ".opt-1.pyc", ".opt-2.pyc")):
                    yield Path(folder, name)


def _unchecked(path: Path, interpreter: Interpreter) -> bytes | None:
    """Return valid bytecode in the form that is not compared with its source: files in an image have another time."""
    if path.suffix != ".pyc" or path.parent.name != "__pycache__" or interpreter.version < _HASHED:
        return None
    content = path.read_bytes()
    source = path.parent.parent / re.sub(r"\.[^.]+\.pyc$", ".py", path.name)
    if len(content) < _HEADER or not source.exists():
        return None
    _magic, flags, time, size = struct.unpack("<4sIII", content[:_HEADER])
    status = source.stat()
    if flags or (time, size) != (int(status.st_mtime) & 0xFFFFFFFF, status.st_size & 0xFFFFFFFF):
        return None
    return content[:4] + struct.pack("<I", 1) + bytes(8) + content[_HEADER:]


def needed_libraries(files: Iterable[Path], names: Iterable[str] = ()) -> Iterator[tuple[str, Path]]:
    """Yield the libraries of this machine that ``files`` load: their paths, and the real files.

    ``names`` are libraries that are loaded in other ways.
    """
    seen = set[str]()
    waiting: deque[tuple[Path, str]] = deque()
    for file in files:
        if dynamic := elf.read_dynamic(file):
            waiting += [(file, name) for name in dynamic.needed]
    machine = next((found.machine for file, _ in waiting if (found := elf.read_dynamic(file))), "")
    waiting += [(waiting[0][0], name) for name in names if waiting]
    while waiting:
        owner, name = waiting.popleft()
        dynamic = elf.read_dynamic(owner)
        folders = elf.search_folders(owner, dynamic) if dynamic else ()
        for path in system_libraries.candidates(name, folders):
            found = elf.read_dynamic(path)
            if found is None or found.machine != machine:
                continue
            if str(path) not in seen:
                seen.add(str(path))
                yield str(path), Path(os.path.realpath(path))
                waiting += [(path, other) for other in found.needed]
            break
