"""Restores cold files on disk, in a private folder of this process that is removed when it ends."""

import _thread
import errno
import os
import sys
import zlib

# Not those of os and io: the mirror's own files must never be looked for in a cold store.
from _io import open as _open
from posix import link, lstat, mkdir, rename, symlink, unlink

from .messages import RESTORED_FILE, note

# Process id -> the folder that this process made. A forked child uses its parent's for as long as that lasts.
_made = {}
# A store's part of such a folder -> the site folder that it stands for.
_origins = {}


def original(path):
    """Translate a path in a mirror, such as one derived from ``__file__`` of an extension module."""
    for top, root in list(_origins.items()):
        if path.startswith(top + "/"):
            return root + path[len(top) :]
    return path


def exists(path):
    """Return whether there is really something of this name."""
    try:
        lstat(path)
    except OSError:
        return False
    return True


def restore(store, path):
    """Return the real file of a cold one; a shared library finds those that it needs in their places."""
    top = _top(store, path)
    target = _write(store, path, top)
    needs = store.needs(path)
    if not needs and ".so" not in path:
        return target
    for needed in needs:
        if exists(store.root + "/" + needed):
            _link(store.root + "/" + needed, top + "/" + needed)
        elif needed in store:
            _write(store, needed, top)
    shared = store.root + "/layer_minimizer.libs"
    if exists(shared):
        _link(shared, top + "/layer_minimizer.libs")
    return target


def _failed(store, path, where, exc):
    text = (
        "cannot restore %s from the cold store %s: it needs %d bytes in %s (%s); free or enlarge it, or set TMPDIR"
        % (
            path,
            store.folder,
            store.size(path),
            where,
            exc.strerror or exc,
        )
    )
    # A missing temporary folder must not look as if the file itself did not exist.
    code = exc.errno if exc.errno not in (None, errno.ENOENT, errno.ENOTDIR) else errno.ENOSPC
    return OSError(code, text, store.root + "/" + path)


def _top(store, path):
    """Return the folder that stands for the store's site folder."""
    for folder in list(_made.values()):
        if exists(folder):
            break
    else:
        folder = _make(store, path)
    # Several layers may hold the same relative path.
    top = "%s/%08x" % (folder, zlib.crc32(os.fsencode(store.root)))
    _origins[top] = store.root
    return top


def _make(store, path):
    import tempfile

    try:
        folder = tempfile.mkdtemp(prefix="layer_minimizer-")
    except OSError as exc:
        raise _failed(store, path, os.environ.get("TMPDIR") or "/tmp", exc) from exc  # noqa: S108 - only named
    me = os.getpid()
    first = _made.setdefault(me, folder)
    if first != folder:
        if exists(first):
            os.rmdir(folder)  # another thread was faster
            return first
        _made[me] = folder  # the first one has been removed
    # Children of multiprocessing end without atexit.
    pools = sys.modules.get("multiprocessing.util")
    if pools is not None:
        pools.Finalize(None, remove, exitpriority=-100)
    return folder


def remove():
    """Remove the folder that this process made, if it did."""
    folder = _made.pop(os.getpid(), None)
    if folder:
        import shutil

        shutil.rmtree(folder, ignore_errors=True)


def _write(store, path, top):
    target = top + "/" + path
    if exists(target):
        return target
    part = "%s.%d-%d.part" % (target, os.getpid(), _thread.get_ident())
    try:
        _make_folders(os.path.dirname(target))
        try:
            _fill(part, store.pieces(path), store.mode(path))
            _publish(part, target)
        finally:
            _discard(part)
    except OSError as exc:
        if exc.filename == store.root + "/" + path:
            raise  # the store's own error is more specific
        raise _failed(store, path, top, exc) from exc
    note(RESTORED_FILE % path)
    return target


def _fill(part, pieces, mode):
    with _open(part, "xb") as sink:
        for piece in pieces:
            sink.write(piece)
        os.fchmod(sink.fileno(), mode)


def _make_folders(folder):
    try:
        mkdir(folder, 0o700)
    except FileExistsError:
        pass
    except FileNotFoundError:
        _make_folders(os.path.dirname(folder))
        _make_folders(folder)


def _publish(part, target):
    """Return a finished file its name at once; of two threads the first wins, since its file may be mapped already."""
    try:
        link(part, target)
    except FileExistsError:
        pass
    except OSError:
        rename(part, target)  # a file system without hard links


def _discard(path):
    try:
        unlink(path)
    except OSError:
        pass


def _link(source, target):
    try:
        _make_folders(os.path.dirname(target))
        symlink(source, target)
    except FileExistsError:
        pass
