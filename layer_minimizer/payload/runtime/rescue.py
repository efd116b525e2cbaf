"""Functions of the hooks in files.py that serve cold files. Imported when the first file is missing."""

import errno
import os

from . import check
from .finder import NOT_COLD, ask, place, plain
from .listing import ColdScan

_UPDATING = frozenset("wax+")
_CHANGING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_open, _os_open, _stat, _lstat = plain["open"], plain["os_open"], plain["stat"], plain["lstat"]
_access, _listdir, _scandir = plain["access"], plain["listdir"], plain["scandir"]


def _kind(layer, relative):
    if relative in layer.store:
        return "file"
    return "folder" if relative and layer.store.is_folder(relative) else ""


def _stat_of(layer, relative):
    return layer.store.stat(relative)


def _names(layer, relative):
    return layer.store.names(relative)


def _laid_out(path, layer, relative):
    """Return the real path of a file that was searched next to a restored one, or an empty string."""
    real = layer.root + "/" + relative
    try:
        _lstat(real)
    except OSError:
        return ""
    return real if real != path else ""


def real(path, dir_fd=None):
    """Return the path of a real file for a missing one, or None."""
    found = place(path, dir_fd)
    if found is None:
        return None
    kind = ask(_kind, *found)
    if kind == "file":
        return found[0].store.restore(found[1])
    if kind == "folder":
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
    return _laid_out(path, *found) or None


def open(file, mode="r", buffering=-1, encoding=None, errors=None, newline=None, closefd=True, opener=None):
    """Open a cold file for reading; its ``name`` is the requested path."""
    source = None if _UPDATING.intersection(mode) else real(file)
    if source is None:
        return NOT_COLD

    def redirected(_path, flags):
        return opener(source, flags) if opener is not None else _os_open(source, flags)

    return _open(file, mode, buffering, encoding, errors, newline, closefd, redirected)


def open_code(path):
    """Open a cold file as source code."""
    return open(path, "rb")


def os_open(path, flags, mode=0o777, *, dir_fd=None):
    """Open a cold file for reading, as a descriptor."""
    source = None if flags & _CHANGING else real(path, dir_fd)
    return NOT_COLD if source is None else _os_open(source, flags, mode)


def stat(path, *, dir_fd=None, follow_symlinks=True):
    """Describe a cold file or folder; there are no cold symbolic links."""
    found = place(path, dir_fd)
    known = ask(_stat_of, *found)
    if known is not None:
        return known
    source = _laid_out(path, *found)
    return _stat(source) if source else NOT_COLD


lstat = stat


def listxattr(path=None, *, follow_symlinks=True):
    """Return an empty list of extended attributes, for code that copies a cold file."""
    return [] if ask(_kind, *place(path)) else NOT_COLD


def access(path, mode, **how):
    """Return whether a cold file is readable, or executable if its mode allows that."""
    if _access(path, mode, **how):
        return True
    if mode & os.W_OK:
        return False
    found = place(path, how.get("dir_fd"))
    known = ask(_stat_of, *found)
    if known is None:
        check.content(*found)
    return known is not None and not (mode & os.X_OK and not known.st_mode & 0o111)


def listdir(path=None):
    """List a folder's real and cold entries."""
    try:
        names = _listdir(path)
    except (FileNotFoundError, NotADirectoryError):
        cold = ask(_names, *place(path))
        if not cold:
            raise
        names = []
    else:
        cold = ask(_names, *place(path))
    there = set(map(os.fsdecode, names))
    check.listed(*place(path), names=there)
    missing = [name for name in cold or () if name not in there]
    return names + ([os.fsencode(name) for name in missing] if isinstance(path, bytes) else missing)


def scandir(path=None):
    """Scan a folder's real and cold entries."""
    found = place(path)
    try:
        entries = _scandir(path)
    except (FileNotFoundError, NotADirectoryError):
        cold = ask(_names, *found)
        if not cold:
            raise
        entries = None
    else:
        cold = ask(_names, *found)
        check.listed(*found, names=set(map(os.fsdecode, _listdir(path))))
    return ColdScan(entries, "." if path is None else path, cold, *found) if cold else entries
