"""Writes a layer's cold store: unused files, compressed, and the runtime that restores them on demand.

In the layer a cold file is a symbolic link to where it is restored; native/src/coldstore.h follows it.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
import shutil
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

from layer_minimizer.core import compression
from layer_minimizer.core.errors import PackError
from layer_minimizer.core.files import scratch_errors
from layer_minimizer.layer import cold_chunks, file_index
from layer_minimizer.layer.file_index import ChunkRow, FileRow
from layer_minimizer.payload.runtime import check

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from layer_minimizer.core.compression import Density
    from layer_minimizer.layer.cold_chunks import ColdFile, Member

PACKAGE = check.PACKAGE
PTH = "layer_minimizer.pth"
CUSTOMIZE = "sitecustomize.py"
# In place of the line in PTH, which Python then ignores: https://peps.python.org/pep-0829/
START = "layer_minimizer.start"
STARTER = "layer_minimizer_start.py"
_START_LINE = f"{STARTER.removesuffix('.py')}:begin\n"
_START_SINCE = (3, 15)
STORES = "cold"
# Where cold files are restored: this, the digest of the store, and the path in the site folder. See coldstore.h.
PUT_BACK = "/tmp/.layer_minimizer-"  # noqa: S108 - the only folder that a Lambda function can write to
_DIGITS = 16  # of digests in file names; see `digest`
_PTH_LINE = 'import sys, _layer_minimizer; _layer_minimizer.start(sys._getframe(1).f_locals.get("sitedir"))\n'
_METADATA = (".dist-info/METADATA", ".egg-info/PKG-INFO")
_RUNTIME = resources.files("layer_minimizer").joinpath("payload", "runtime")


@dataclass(frozen=True, slots=True)
class Store:
    """A store in a layer: its folder's name, and the compressed bytes of each file (its share of its chunks)."""

    name: str
    shares: Mapping[str, int]


def digest(content: bytes) -> str:
    """Return a name by content, for files that differ between layers: Lambda unpacks all layers into one folder."""
    return hashlib.sha256(content).hexdigest()[:_DIGITS]


def write_store(  # noqa: PLR0913 - the contents and their metadata
    files: Iterable[ColdFile],
    left_out: Iterable[FileRow],
    top: Path,
    *,
    dropped: Mapping[str, str],
    distributions: Mapping[str, str] | None = None,
    python: tuple[int, ...],
    customized: bool = False,
    density: Density = compression.BEST_DENSITY,
) -> Store:
    """Write the runtime, the files that start it and the store into the site folder ``top``.

    ``left_out`` are files of the environment that the layer does not have, so that its runtime can say so.
    ``distributions`` are the versions of the distributions in the layer, for layers that are built on top of it.
    ``python`` is the version of the Python that the layer is for.
    ``dropped`` maps top-level modules that were dropped to their distributions. ``sitecustomize.py`` is written only if
    there is none and ``customized`` (a base layer has one) is false; without it, a layer that is in PYTHONPATH is
    started by its stand-ins. ``density``: which chunks are compressed, and how much.

    Raises:
        PackError: a file cannot be read, or the store cannot be written.
    """
    with scratch_errors(PackError, f"cannot write the cold store below {top}: {{file}}"):
        members = sorted(
            (cold_chunks.read_member(file) for file in files),
            key=lambda each: (each.file.group, each.code, each.file.path),
        )
        cold = top / PACKAGE / STORES / "new"
        cold.mkdir(parents=True, exist_ok=True)
        write_runtime(top, python, customized=customized)
        starts, chunks = cold_chunks.arrange(members)
        size = cold_chunks.write_data(cold / "data", chunks, density)
        rows = [*(_row(member, *starts[member.file.path]) for member in members), *left_out]
        index = file_index.pack_index(rows, [chunk.row for chunk in chunks if chunk.row], size)
        _write(cold / "index", index)
        about = {
            "runtime": runtime_digest(),
            "distributions": dict(distributions or {}),
            "dropped": dict(dropped),
            "metadata": sorted(row.path for row in rows[len(members) :] if row.path.endswith(_METADATA)),
        }
        _write(cold / "about.json", json.dumps(about, sort_keys=True, separators=(",", ":")).encode())
        name = digest(index)
        # By this one the runtime sees whether links were unpacked as links.
        (cold / "link").symlink_to(f"{PUT_BACK}{name}/link")
        cold.rename(cold.with_name(name))
    return Store(name, cold_chunks.shares_of(members, chunks))


def write_links(store: Store, top: Path) -> None:
    """Write the links that stand for the cold files into the site folder ``top``, once no file lies in their places.

    Raises:
        PackError: one cannot be written.
    """
    with scratch_errors(PackError, f"cannot write the links to cold files below {top}: {{file}}"):
        for path in store.shares:
            link = top / path
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(f"{PUT_BACK}{store.name}/{path}")


def _row(member: Member, chunk: int, offset: int) -> FileRow:
    file = member.file
    return FileRow(file.path, file.owner, file.needs, member.mode, chunk if member.size else 0, offset, member.size)


def is_cold_link(path: Path) -> bool:
    """Return whether ``path`` is a link that stands for a cold file."""
    return path.is_symlink() and os.readlink(path).startswith(PUT_BACK)


def remove_restored(folder: Path) -> None:
    """Remove the cold files that were restored for layers unpacked below ``folder``."""
    for restored in Path("/").glob(f"{PUT_BACK.removeprefix('/')}*"):
        with contextlib.suppress(OSError):
            if (restored / ".root").readlink().is_relative_to(folder):
                shutil.rmtree(restored)


# ---- index --------------------------------------------------------------------------------------------------------


def paths_in(index: Path) -> tuple[str, ...]:
    """Return the paths of the cold files in an index.

    Raises:
        ValueError: the index is damaged.
    """
    rows, _chunks = file_index.read_index(index.read_bytes())
    return tuple(row.path for row in rows if row.chunk != file_index.LEFT_OUT)


def restore(link: Path, target: Path) -> None:
    """Write the cold file for which ``link`` stands in a layer to ``target``.

    Raises:
        OSError: a file cannot be read or written.
        ValueError: the store is damaged.
    """
    digest, _, path = os.readlink(link).removeprefix(PUT_BACK).partition("/")
    store = link.parents[path.count("/")] / PACKAGE / STORES / digest
    files, chunks = _index_of(store / "index")
    row = files[path]
    target.parent.mkdir(parents=True, exist_ok=True)
    with (store / "data").open("rb") as data, target.open("wb") as sink:
        number, offset, left = row.chunk, row.offset, row.size
        while left:
            chunk = chunks[number]
            data.seek(chunk.offset)
            piece = file_index.decode(data.read(chunk.packed), chunk)[offset : offset + left]
            sink.write(piece)
            number, offset, left = number + 1, 0, left - len(piece)
    target.chmod(row.mode)


@functools.lru_cache(maxsize=4)
def _index_of(file: Path) -> tuple[Mapping[str, FileRow], tuple[ChunkRow, ...]]:
    rows, chunks = file_index.read_index(file.read_bytes())
    return {row.path: row for row in rows}, chunks


# ---- the runtime --------------------------------------------------------------------------------------------------


def runtime_digest() -> str:
    """Return the digest of this version's runtime. All layers of a function have to bring the same."""
    return digest(b"".join(b"%s\0%s\0" % (name.encode(), content) for name, content in _runtime()))


def runtime_bytes() -> int:
    """Return the approximate size of the runtime in a layer: its bytecode, half of it compressed."""
    return sum(len(content) for _name, content in _runtime()) // 2


def _runtime() -> Iterator[tuple[str, bytes]]:
    """Yield names and contents of the runtime's files as installed."""
    for part in sorted(_RUNTIME.iterdir(), key=lambda each: each.name):
        if part.name.endswith(".py"):
            yield part.name, part.read_bytes()


def write_runtime(top: Path, python: tuple[int, ...], *, customized: bool) -> None:
    """Copy the runtime as installed into the site folder ``top`` and write the files that start it.

    ``python``: the version that starts it; ``customized``: a base layer has a ``sitecustomize.py``.
    """
    (top / PACKAGE).mkdir(exist_ok=True)
    for name, content in _runtime():
        if name == STARTER:
            if python >= _START_SINCE:
                _write(top / STARTER, content)
                _write(top / START, _START_LINE.encode())
        elif name != CUSTOMIZE:
            _write(top / PACKAGE / name, content)
        elif not customized and not (top / CUSTOMIZE).exists():
            _write(top / CUSTOMIZE, content)
    _write(top / PTH, _PTH_LINE.encode())


def has_customize(top: Path) -> bool:
    """Return whether the ``sitecustomize.py`` in the site folder ``top`` is the one of the runtime."""
    with contextlib.suppress(FileNotFoundError):
        return (top / CUSTOMIZE).read_bytes() == _RUNTIME.joinpath(CUSTOMIZE).read_bytes()
    return False


def _write(target: Path, content: bytes) -> None:
    target.write_bytes(content)
    target.chmod(0o644)
