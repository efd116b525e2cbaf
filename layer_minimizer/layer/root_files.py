"""The files that the layers of an image result in: a list of them, and a copy on disk."""

from __future__ import annotations

import os
import posixpath
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from layer_minimizer.layer.image_reader import each_member

if TYPE_CHECKING:
    import tarfile
    from collections.abc import Iterable, Iterator, Mapping

    from layer_minimizer.model.image import Image, ImageLayer

# A file of this prefix stands for the removal of the file with the rest of the name; see
# https://github.com/opencontainers/image-spec/blob/main/layer.md#whiteouts
_REMOVED, _EMPTIED = ".wh.", ".wh..wh..opq"
_LINKS = 40  # as many as the kernel follows


@dataclass(frozen=True, slots=True)
class RootFile:
    """A file in an image: ``kind`` is ``file``, ``folder``, ``link`` or ``other``; ``link`` is a link's target."""

    kind: str
    size: int = 0
    mode: int = 0
    link: str = ""


@dataclass(frozen=True, slots=True)
class RootFiles:
    """All files of an image by their paths, which do not begin with a slash."""

    files: Mapping[str, RootFile]

    @classmethod
    def of(cls, layers: Iterable[ImageLayer]) -> RootFiles:
        """List the files of an image's layers.

        Raises:
            UsageError: a layer is damaged.
        """
        files: dict[str, RootFile] = {}
        for layer in layers:
            added: dict[str, RootFile] = {}

            def visit(_archive: tarfile.TarFile, member: tarfile.TarInfo, added: dict[str, RootFile] = added) -> None:
                added[normal(member.name)] = _described(member)

            each_member(layer, visit)
            _remove(files, added)
            files.update((path, file) for path, file in added.items() if not _is_mark(path))
        return cls(files)

    def real(self, path: str) -> str:
        """Return a path with all links followed, without a slash at its begin; it need not exist."""
        done: list[str] = []
        waiting = [part for part in path.split("/") if part not in ("", ".")][::-1]
        links = 0
        while waiting:
            part = waiting.pop()
            if part == "..":
                done = done[:-1]
                continue
            found = self.files.get("/".join((*done, part)))
            if found is None or found.kind != "link" or links == _LINKS:
                done.append(part)
                continue
            links += 1
            if found.link.startswith("/"):
                done = []
            waiting += [each for each in found.link.split("/") if each not in ("", ".")][::-1]
        return "/".join(done)

    def get(self, path: str) -> RootFile | None:
        """Return the file at a path, with all links followed."""
        return self.files.get(self.real(path))

    @property
    def bytes(self) -> int:
        """The size of all files."""
        return sum(file.size for file in self.files.values())


def normal(name: str) -> str:
    """Return the path of a tar's member, without a slash at its begin."""
    return posixpath.normpath(f"/{name}").lstrip("/")


def _is_mark(path: str) -> bool:
    return path.rpartition("/")[2].startswith(_REMOVED)


def _described(member: tarfile.TarInfo) -> RootFile:
    if member.issym():
        return RootFile("link", 0, 0o777, member.linkname)
    kind = "folder" if member.isdir() else "file" if member.isreg() or member.islnk() else "other"
    return RootFile(kind, member.size if member.isreg() else 0, member.mode)


def _remove(files: dict[str, RootFile], added: Mapping[str, RootFile]) -> None:
    """Remove what the marks in a layer say, and what its files replace."""
    gone = set[str]()
    for path in added:
        folder, _, name = path.rpartition("/")
        if name == _EMPTIED:
            gone.add(f"{folder}/")
        elif name.startswith(_REMOVED):
            removed = posixpath.join(folder, name.removeprefix(_REMOVED))
            gone |= {removed, f"{removed}/"}
    if gone:
        for path in [path for path in files if path in gone or not gone.isdisjoint(_above(path))]:
            del files[path]


def _above(path: str) -> Iterator[str]:
    at = path.find("/")
    while at >= 0:
        yield path[: at + 1]
        at = path.find("/", at + 1)


# ---- a copy on disk -----------------------------------------------------------------------------------------------


def unpack(image: Image, root: Path) -> None:
    """Unpack all layers of an image into the folder ``root``, as engines do, but without devices.

    Owners are set where this process may do that. No file is written outside of ``root``.

    Raises:
        UsageError: a layer is damaged.
        OSError: a file cannot be written.
    """
    root.mkdir(parents=True, exist_ok=True)
    for layer in image.layers:
        unpacker = _Unpacker(root)
        each_member(layer, unpacker.add)
        unpacker.set_modes()


class _Unpacker:
    """Unpacks the members of one layer above those of the layers before it."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._new = set[Path]()
        self._modes: dict[Path, int] = {}  # a folder may not be writable for its own files

    def set_modes(self) -> None:
        """Set the permissions of folders, once all files are in them."""
        for folder, mode in reversed(self._modes.items()):
            if folder.is_dir() and not folder.is_symlink():
                folder.chmod(mode)

    def add(self, archive: tarfile.TarFile, member: tarfile.TarInfo) -> None:
        folder, _, name = normal(member.name).rpartition("/")
        parent = _inside(self._root, folder)
        parent.mkdir(parents=True, exist_ok=True)
        target = parent / name
        if name == _EMPTIED:
            for path in set(parent.iterdir()) - self._new:
                _delete(path)
        elif name.startswith(_REMOVED):
            _delete(parent / name.removeprefix(_REMOVED))
        elif name and self._write(archive, member, target):
            self._new |= {target, *target.parents}
            if os.geteuid() == 0:
                os.chown(target, member.uid, member.gid, follow_symlinks=False)
            if member.isreg():
                target.chmod(member.mode & 0o7777)  # after its owner: chown removes bits

    def _write(self, archive: tarfile.TarFile, member: tarfile.TarInfo, target: Path) -> bool:
        """Write one member; return whether its owner and permissions remain to be set."""
        if member.isdir():
            if target.is_symlink() or not target.is_dir():
                _delete(target)
                target.mkdir()
            self._modes[target] = member.mode & 0o7777
            return True
        if not (member.isreg() or member.issym() or member.islnk()):
            return False
        _delete(target)
        if member.issym():
            target.symlink_to(member.linkname)
        elif member.islnk():
            os.link(_inside(self._root, normal(member.linkname), last=False), target, follow_symlinks=False)
            self._new.add(target)
            return False
        else:
            content = archive.extractfile(member)
            with target.open("wb") as sink:
                if content is not None:
                    shutil.copyfileobj(content, sink, 1 << 20)
        return True


def _delete(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _inside(root: Path, path: str, *, last: bool = True) -> Path:
    """Return the path on disk of a path in the image, with its links followed inside ``root``."""
    done: list[str] = []
    parts = [part for part in path.split("/") if part not in ("", ".")]
    end = [] if last or not parts else [parts.pop()]
    waiting, links = parts[::-1], 0
    while waiting:
        part = waiting.pop()
        here = root.joinpath(*done, part)
        if part == "..":
            done = done[:-1]
        elif here.is_symlink() and links < _LINKS:
            links += 1
            link = os.readlink(here)
            if link.startswith("/"):
                done = []
            waiting += [each for each in link.split("/") if each not in ("", ".")][::-1]
        else:
            done.append(part)
    return root.joinpath(*done, *end)
