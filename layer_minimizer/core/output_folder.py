"""Write output folders: recognise one that this tool has written, so that it never replaces another one."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from typing import TYPE_CHECKING

from layer_minimizer.core.errors import PackError
from layer_minimizer.core.files import partial_path, sha256_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MARK = ".layer_minimizer.json"
_FORMAT = 1


def digest_of_folder(folder: Path) -> str:
    """Return a digest of the names, permissions and contents of all files in a folder, except for its mark."""
    found = hashlib.sha256()
    for path in _paths(folder):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink():
            row = ["link", name, os.fsdecode(path.readlink())]
        elif path.is_dir():
            row = ["folder", name]
        else:
            row = ["file", name, str(path.stat().st_mode & 0o100), sha256_of(path).hex()]
        found.update(json.dumps(row).encode())
    return found.hexdigest()


def _paths(folder: Path) -> Iterator[Path]:
    yield from sorted(path for path in folder.rglob("*") if path != folder / MARK)


def mark_folder(folder: Path) -> str:
    """Write the mark of this tool into a complete folder, and return the folder's digest.

    Raises:
        OSError: it cannot be written.
    """
    digest = digest_of_folder(folder)
    mark = {"format": _FORMAT, "written_by": "layer_minimizer", "sha256": digest}
    (folder / MARK).write_text(json.dumps(mark) + "\n", "utf-8")
    return digest


def check_output_folder(output: Path, option: str = "--output") -> None:
    """Check before any work begins that the folder ``output`` can be written.

    Raises:
        PackError: it is a file, or was not written by this tool, or has been changed since then; or its parent folder
            cannot be written.
    """
    if os.path.lexists(output) and (output.is_symlink() or not output.is_dir()):
        raise PackError(f"{option} {output} exists and is not a folder: choose another name")
    if output.is_dir() and not _is_replaceable(output):
        raise PackError(
            f"{option} {output} exists and is not a folder that minimize wrote and nobody has changed since: choose "
            "another name, or remove it yourself"
        )
    part = partial_path(output)
    try:
        part.mkdir()
        part.rmdir()
    except OSError as exc:
        raise PackError(f"{option}: cannot write {output}: {exc.strerror}; use another folder") from exc


def _is_replaceable(folder: Path) -> bool:
    try:
        if not any(folder.iterdir()):
            return True
        mark = json.loads((folder / MARK).read_text("utf-8"))
        return bool(mark["sha256"] == digest_of_folder(folder))
    except (OSError, ValueError, KeyError, TypeError):
        return False


def replace_folder(part: Path, target: Path) -> None:
    """Rename a finished folder to its final name, in place of one that this tool wrote.

    Raises:
        PackError: that fails, or somebody has changed the old one in the meantime.
    """
    old = part.with_suffix(".old.part")
    try:
        if target.is_dir():
            if not _is_replaceable(target):
                raise PackError(f"{target} was changed while the new one was made: nothing was written")
            target.rename(old)
        try:
            part.rename(target)
        except OSError:
            if old.is_dir():
                old.rename(target)
            raise
    except OSError as exc:
        raise PackError(f"cannot write {target}: {exc.strerror}") from exc
    shutil.rmtree(old, ignore_errors=True)
