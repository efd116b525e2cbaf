"""Serves modules whose bytecode lies in one file a layer: less to unpack, to look for and to open.

Such a file is a line (the CRC and the length of the table), the table, and the bytecode. The table is a marshalled
mapping of modules, as site-relative paths without a suffix, to (offset, stored bytes, bytes). Bytecode whose sizes
differ is compressed; the table may be, too. ``code`` has a file for each layer, ``runtime`` the parts of this package
that few starts need, and ``substitutes`` those that only stand-ins need: a layer without stand-ins does not have it.

Loaded in every start of the layer that has such files.
"""

import marshal
import os
import sys
from _frozen_importlib_external import SourceFileLoader, _compile_bytecode, spec_from_file_location
from posix import listdir, pread
from posix import open as _open

from . import check

CODE = "_layer_minimizer/code"
RUNTIME, SUBSTITUTES = "_layer_minimizer/runtime", "_layer_minimizer/substitutes"
ZLIB = b"x"  # the first byte of what zlib has compressed, and of nothing that marshal writes for a mapping
_HEAD = 16 if sys.version_info >= (3, 7) else 12  # bytes before the code in a file of bytecode


def _decompress(data):
    import zlib  # an extension module, which most layers do without

    try:
        return zlib.decompress(data)
    except zlib.error as exc:
        raise ValueError(str(exc)) from None


def load_mapping(data):
    """Return a mapping that is marshalled, and may be compressed.

    Raises:
        ValueError, EOFError, TypeError: it is damaged.
    """
    return marshal.loads(_decompress(data) if data[:1] == ZLIB else data)  # noqa: S302 - the tool's own


class Shelf(object):
    """One file with bytecode."""

    def __init__(self, root, file):
        self.root = root
        self.file = file
        path = root + "/" + file
        handle = _open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            first = pread(handle, 64, 0).partition(b"\n")[0]
            length = int(first.split()[1])
            self.table = load_mapping(pread(handle, length, len(first) + 1))
        except (IndexError, ValueError, EOFError, TypeError):
            check.refuse(root, file, "is damaged (its table cannot be read)")
        finally:
            os.close(handle)
        self.base = len(first) + 1 + length

    def read(self, stem):
        """Return a module's bytecode, as it would lie in its file."""
        offset, length, size = self.table[stem]
        handle = _open(self.root + "/" + self.file, os.O_RDONLY | os.O_CLOEXEC)
        try:
            data = pread(handle, length, self.base + offset)
        finally:
            os.close(handle)
        if length != size:
            try:
                data = _decompress(data)
            except ValueError:
                data = b""
        if len(data) != size:
            check.refuse(self.root, self.file, "is damaged where %s.pyc lies in it" % stem)
        return data


class PackedLoader(SourceFileLoader):
    """Loads a module from a shelf. Its ``__file__`` is its source, as in the environment: the source may be cold.

    A subclass that compiles sources in its own way, as import hooks install, gets the source.
    """

    def __init__(self, fullname, path, shelf=None, stem=""):
        super().__init__(fullname, path)
        self._shelf = shelf
        self._stem = stem

    def get_code(self, fullname):
        """Return the module's code."""
        if self._shelf is None or type(self).source_to_code is not SourceFileLoader.source_to_code:
            return super().get_code(fullname)
        data = self._shelf.read(self._stem)
        return _compile_bytecode(
            memoryview(data)[_HEAD:], name=fullname, bytecode_path=self.path + "c", source_path=self.path
        )


class Packed(object):
    """All that the layers in one site folder have packed."""

    @classmethod
    def below(cls, root):
        """Return what lies in a site folder."""
        try:
            files = [CODE + "/" + name for name in sorted(listdir(root + "/" + CODE))]
        except OSError:
            files = []
        return cls(root, files)

    def __init__(self, root, files):
        self.root = root
        self.shelves = {}  # by the modules in them
        self._has_own = False
        self._add(files)

    def _add(self, files):
        for file in files:
            shelf = Shelf(self.root, file)
            for stem in shelf.table:
                self.shelves.setdefault(stem, shelf)

    def _add_own(self):
        """Add what lies packed of this package, for which hardly a start asks."""
        self._has_own = True
        self._add([name for name in (RUNTIME, SUBSTITUTES) if os.path.exists(self.root + "/" + name)])

    def is_package(self, folder):
        """Return whether a folder is a package that lies here."""
        return folder + "/__init__" in self.shelves

    def find(self, fullname, folder):
        """Return the spec of a module that would lie in a folder of the site, or None."""
        if folder == check.PACKAGE and not self._has_own:
            self._add_own()
        tail = fullname.rpartition(".")[2]
        stem = base = folder + "/" + tail if folder else tail
        shelf = self.shelves.get(base + "/__init__")
        if shelf is not None:
            stem, locations = base + "/__init__", [self.root + "/" + base]
        else:
            shelf, locations = self.shelves.get(base), None
            if shelf is None:
                return None
        path = self.root + "/" + stem + ".py"
        loader = PackedLoader(fullname, path, shelf, stem)
        return spec_from_file_location(fullname, path, loader=loader, submodule_search_locations=locations)
