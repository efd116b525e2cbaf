"""Layers with cold files, as the builder makes them: the store, the native runtime, and links in place of the files."""

from __future__ import annotations

import shutil
import sys
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from layer_minimizer.layer.cold_store import PUT_BACK, Store, write_links, write_store
from layer_minimizer.layer.file_index import BY_COLD_KEEP, FileRow
from layer_minimizer.pack.libraries import native_runtime, place_runtime
from layer_minimizer.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from layer_minimizer.layer.cold_chunks import ColdFile

# Owners of left-out files that --cold keep would not include, because the layer contains nothing of them.
UNUSED = ("Gone 2.0",)
_laid_out: list[str] = []


def put_back_folder(store: Store | str) -> Path:
    """Return the folder in which the files of a store are restored, there or not."""
    return Path(PUT_BACK + (store if isinstance(store, str) else store.name))


def lay_out(
    files: Iterable[ColdFile],
    top: Path,
    *,
    left_out: Mapping[str, str] | None = None,
    dropped: Mapping[str, str] | None = None,
    linked: bool = True,
    python: tuple[int, ...] = sys.version_info[:2],
) -> Store:
    """Write a layer with these cold files into the site folder ``top``; ``left_out`` are files and their owners.

    ``python`` is the version that uses it. Not ``linked``: the caller writes the links, once nothing lies in the places
    of the cold files.

    Its store has a name that no other has: all layers with equal stores share what is restored.
    """
    top.mkdir(parents=True, exist_ok=True)
    rows = [
        FileRow(path, owner, offset=0 if owner in UNUSED else BY_COLD_KEEP) for path, owner in (left_out or {}).items()
    ]
    rows.append(FileRow(f"nobody-asks/{uuid.uuid4().hex}", "nobody"))
    runtime = native_runtime(Settings())
    if runtime is None:
        pytest.skip("the tool was installed without its native libraries")
    place_runtime(runtime, top)
    store = write_store(files, rows, top, dropped=dropped or {}, python=python)
    if linked:
        write_links(store, top)
    _laid_out.append(store.name)
    return store


def forget_restored(top: Path) -> None:
    """Remove what the layers in the site folder ``top`` have restored so far, and at the end of the test."""
    for store in top.glob("_layer_minimizer/cold/*"):
        _remove(put_back_folder(store.name))
        _laid_out.append(store.name)


@pytest.fixture(autouse=True)
def no_restored_files() -> Iterator[None]:
    """Remove what the test's layers have restored: no layer removes it by itself."""
    yield
    while _laid_out:
        _remove(put_back_folder(_laid_out.pop()))


def _remove(folder: Path) -> None:
    if folder.is_symlink() or folder.is_file():
        folder.unlink()
    else:
        shutil.rmtree(folder, ignore_errors=True)
