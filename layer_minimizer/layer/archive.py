"""Writes a layer's zip reproducibly, unpacks it with permissions and links, and checks its entries for Lambda."""

from __future__ import annotations

import os
import shutil
import stat
import zipfile
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

from layer_minimizer.core import progress
from layer_minimizer.core.errors import PackError
from layer_minimizer.core.files import scratch_errors, sha256_of
from layer_minimizer.model.outcome import LayerArchive

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import BinaryIO

# The earliest time that a zip can store. A layer must not depend on the time when it was built.
_EPOCH = (1980, 1, 1, 0, 0, 0)
_SHOWN = 10
_READ_BY_ALL = 0o444
_UNIX = 3
_MODE = 0o644  # of a file in a zip that has no permission bits, as programs for other systems write it
# Of a large file, three parts of so many bytes are compressed first: does one become smaller than this share?
_LARGE_BYTES, _TRIED_BYTES = 1 << 20, 1 << 18
_WORTH_COMPRESSING = 0.98


def check_entries(entries: Iterable[tuple[str, int]]) -> None:
    """Check that a function can read all files of a layer in Lambda, by their names and permission bits.

    ``entries`` are (name in the zip, mode) pairs.

    Raises:
        PackError: a function could not read one of them.
    """
    bad = [f"{name!r} (mode {mode & 0o7777:o})" for name, mode in entries if not _readable(name, mode)]
    if bad:
        raise PackError(
            "files of the layer have a name or permissions that Lambda cannot use (UTF-8, within the layer, readable "
            f"by all users): {', '.join(bad[:_SHOWN])}: exclude them with --exclude"
        )


def _readable(name: str, mode: int) -> bool:
    wanted = _READ_BY_ALL | (0o111 if name.endswith("/") else 0)
    plain = not name.startswith("/") and ".." not in name.split("/") and "\\" not in name and "\0" not in name
    return plain and name.encode("utf-8", "replace").decode() == name and mode & wanted == wanted


def zip_entries(archive: Path) -> tuple[tuple[str, int], ...]:
    """Return the (name, mode) pairs of a zip."""
    with zipfile.ZipFile(archive) as source:
        return tuple((entry.filename, entry.external_attr >> 16) for entry in source.infolist())


def write_zip(folder: Path, target: Path, *, compressed: bool = True) -> LayerArchive:
    """Zip a folder: sorted names, fixed times and permission bits, so that equal files result in equal bytes.

    Raises:
        PackError: the zip cannot be written.
    """
    files = size = 0
    try:
        method = zipfile.ZIP_DEFLATED if compressed else zipfile.ZIP_STORED
        with zipfile.ZipFile(target, "w", method) as archive:
            paths = _sorted_paths(folder)
            total = sum(path.lstat().st_size for path in paths)
            with progress.step("zipping", total=total, in_bytes=True) as step:
                for path in paths:
                    _zip_path(archive, path, path.relative_to(folder).as_posix(), method)
                    if not path.is_dir() or path.is_symlink():
                        files += 1
                        size += path.lstat().st_size
                    step.advance(path.lstat().st_size)
        zipped = target.stat().st_size
        digest = sha256_of(target).hex()
    except OSError as exc:
        raise PackError(f"cannot write {target.parent}/: {exc.strerror}; make room or choose another --output") from exc
    return LayerArchive(target, digest, files, size, zipped)


def _zip_path(archive: zipfile.ZipFile, path: Path, name: str, method: int) -> None:
    """Add a file, a symbolic link or an empty folder."""
    mode = path.lstat().st_mode
    if stat.S_ISDIR(mode):
        if not any(path.iterdir()):
            archive.writestr(_entry(f"{name}/", stat.S_IFDIR | 0o755, method), b"")
    elif stat.S_ISLNK(mode):
        archive.writestr(_entry(name, stat.S_IFLNK | 0o777, method), os.fsencode(path.readlink()))
    else:
        entry = _entry(name, stat.S_IFREG | (0o755 if mode & 0o100 else 0o644), method)
        entry.file_size = path.stat().st_size
        with path.open("rb") as source:
            if not _is_compressible(source, entry.file_size):
                entry.compress_type = zipfile.ZIP_STORED
            source.seek(0)
            with archive.open(entry, "w") as sink:
                shutil.copyfileobj(source, sink, 1 << 20)


def _is_compressible(source: BinaryIO, size: int) -> bool:
    """Return whether compressing a file is worth the time: if it is large, by its beginning, middle and end."""
    if size <= _LARGE_BYTES:
        return True
    for offset in (0, size // 2, size - _TRIED_BYTES):
        source.seek(offset)
        part = source.read(_TRIED_BYTES)
        if len(zlib.compress(part, 1)) < _WORTH_COMPRESSING * len(part):
            return True
    return False


def _sorted_paths(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*"), key=lambda path: path.relative_to(folder).as_posix())


def _entry(name: str, mode: int, method: int) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name, _EPOCH)
    entry.create_system = _UNIX
    entry.external_attr = mode << 16
    entry.compress_type = method
    return entry


def unzip(archive: Path, folder: Path) -> None:
    """Unpack a zip as Lambda does, with permission bits and symbolic links.

    Raises:
        PackError: the files cannot be written, or a link in the zip leads one of them out of the folder.
    """
    top, inside = os.path.realpath(folder), set[Path]()
    with scratch_errors(PackError, f"cannot unpack the layer into {folder}"), zipfile.ZipFile(archive) as source:
        for entry in source.infolist():
            target = folder / entry.filename
            mode = entry.external_attr >> 16
            parent = target if entry.is_dir() else target.parent
            if parent not in inside:
                if not Path(os.path.realpath(parent)).is_relative_to(top):
                    raise PackError(f"{archive}: {entry.filename} lies outside of the layer, by way of a link in it")
                parent.mkdir(parents=True, exist_ok=True)
                inside.add(parent)
            if entry.is_dir():
                continue
            target.unlink(missing_ok=True)  # a base layer may contain it
            if stat.S_ISLNK(mode):
                target.symlink_to(os.fsdecode(source.read(entry)))
                continue
            with source.open(entry) as data, target.open("wb") as sink:
                shutil.copyfileobj(data, sink, 1 << 20)
            target.chmod(stat.S_IMODE(mode) or _MODE)
