"""Entries of a folder of which some are cold, as os.scandir yields them."""

import os
import stat


class ColdEntry(object):
    """A cold file or folder, with the methods of os.DirEntry."""

    def __init__(self, folder, name, layer, relative):
        self.name = os.fsencode(name) if isinstance(folder, bytes) else name
        self.path = os.path.join(folder, self.name)
        self._status = layer.store.stat(relative + "/" + name if relative else name)

    def stat(self, *, follow_symlinks=True):
        """Describe the entry."""
        return self._status

    def inode(self):
        """Return the number that stat has."""
        return self._status.st_ino

    def is_dir(self, *, follow_symlinks=True):
        """Return whether it is a folder."""
        return stat.S_ISDIR(self._status.st_mode)

    def is_file(self, *, follow_symlinks=True):
        """Return whether it is a file."""
        return stat.S_ISREG(self._status.st_mode)

    def is_symlink(self):
        """Return False: cold files are never links."""
        return False

    is_junction = is_symlink

    def __fspath__(self):
        return self.path

    def __repr__(self):
        return "<ColdEntry %r>" % (self.name,)


class ColdScan(object):
    """The real entries of a folder, then the cold ones; an iterator that can be closed."""

    def __init__(self, entries, folder, cold, layer, relative):
        self._entries = entries
        self._all = self._walk(os.fspath(folder), cold, layer, relative)

    def _walk(self, folder, cold, layer, relative):
        there = set()
        for entry in self._entries or ():
            there.add(os.fsdecode(entry.name))
            yield entry
        for name in cold:
            if name not in there:
                yield ColdEntry(folder, name, layer, relative)

    def __iter__(self):
        return self

    def __next__(self):
        return next(self._all)

    def __enter__(self):
        return self

    def __exit__(self, *_exc):
        self.close()

    def close(self):
        """Close the folder."""
        self._all.close()
        if self._entries is not None:
            self._entries.close()
