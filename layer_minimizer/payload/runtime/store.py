"""The cold files of a site folder: one store, out of the stores of all layers that Lambda has merged in it.

Each layer's has a folder in ``cold``, which is named by its content, so that none replaces another.
"""

from posix import listdir  # as it is without the hooks: the runtime's own files are never cold

from . import mirror
from .part import ColdStoreError, Holder, Names, Part, damaged

__all__ = ["ColdStore", "ColdStoreError"]


class PackedPart(Holder):
    """The modules of all layers that are compressed as bytecode: for those who open or list them as files."""

    def __init__(self, packed):
        self._shelves = packed.shelves
        self._names = Names(stem + ".pyc" for stem in packed.shelves)
        self._tops = {name.partition("/")[0] for name in self._names.names}
        self.about = packed.about

    def mentions(self, name):
        """Return whether this could contain modules with a top-level name."""
        return name in self._tops or name + ".pyc" in self._tops

    def dropped(self, name):
        """Return an empty text: nothing was left out."""
        return ""

    def __contains__(self, path):
        return path.endswith(".pyc") and path[:-4] in self._shelves

    def is_folder(self, path):
        """Return whether the folder ``path`` has modules."""
        return not path or self._names.has_folder(path)

    def names(self, folder):
        """Return the names of the modules' files and of the folders with modules directly in ``folder``."""
        return sorted(self._names.entries(folder) if folder else self._tops)

    def size(self, path):
        """Return the bytes of a module's file."""
        return self._shelves[path[:-4]].table[path[:-4]][2]

    def mode(self, path):
        """Return its permission bits."""
        return 0o644

    def pieces(self, path):
        """Return its contents."""
        yield self._shelves[path[:-4]].read(path[:-4])

    def needs(self, path):
        """Return nothing: a module is not a library."""
        return ()


class ColdStore(object):
    """The cold files of one site folder, by their paths relative to it: those of all layers that are merged in it."""

    def __init__(self, root, packed=None):
        self.root = root
        self._packed = packed
        self.folder = root + "/_layer_minimizer/cold"
        self._parts = None

    @property
    def parts(self):
        """The store of each layer, in an order that depends on nothing but what they hold."""
        if self._parts is None:
            try:
                names = sorted(listdir(self.folder))
            except OSError as exc:
                raise damaged(self.root, self.folder, "cannot be read (%s)" % (exc.strerror or exc)) from exc
            self._parts = [Part(self.root, self.folder + "/" + name) for name in names]
            if self._packed is not None:
                self._parts.append(PackedPart(self._packed))
        return self._parts

    def mentions(self, name):
        """Return whether a header could mention ``name``."""
        return any(part.mentions(name) for part in self.parts)

    def without(self, name):
        """Return the part of a layer that left the distribution of an import name out wholly, or None."""
        return next((part for part in self.parts if part.dropped(name)), None)

    def dropped(self, name):
        """Return the distribution of an import name that was left out wholly, or an empty text."""
        part = self.without(name)
        return "" if part is None else part.dropped(name)

    def __contains__(self, path):
        return self._part(path) is not None

    def is_folder(self, path):
        """Return whether the folder ``path`` has cold files."""
        return not path or any(part.is_folder(path) for part in self.parts)

    def names(self, folder):
        """Return the sorted names of the cold files and of the folders with cold files directly in ``folder``."""
        return sorted({name for part in self.parts for name in part.names(folder)})

    def size(self, path):
        """Return the bytes of a cold file."""
        return self._having(path).size(path)

    def mode(self, path):
        """Return a cold file's permission bits."""
        return self._having(path).mode(path)

    def stat(self, path):
        """Return what os.stat would return for a cold file or folder, or None; the times are those of the store."""
        held = self._part(path)
        if held is None:
            held = next((part for part in self.parts if path and part.is_folder(path)), None)
        return None if held is None else held.stat(path)

    def read(self, path):
        """Return the bytes of a cold file."""
        return b"".join(self.pieces(path))

    def pieces(self, path):
        """Return a cold file's bytes one chunk after the other, so that a large one never lies in memory whole."""
        return self._having(path).pieces(path)

    def needs(self, path):
        """Return the site libraries that a cold shared library needs."""
        return self._having(path).needs(path)

    def restore(self, path):
        """Return the absolute path of a real file with a cold file's contents, and with the libraries that it needs."""
        return mirror.restore(self, path)

    def _part(self, path):
        return next((part for part in self.parts if path in part), None)

    def _having(self, path):
        part = self._part(path)
        if part is None:
            raise KeyError(path)
        return part
