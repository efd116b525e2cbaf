"""Finds the modules that lie in a cold store. Everything else - locks, relative imports, reload - is importlib's own.

Loaded in every start of the layer, so it holds no more than what a program needs that misses nothing.
"""

import io
import os
import sys

# These are loaded before any module can be; importlib.machinery has the same, and imports more for it.
from _frozen_importlib_external import (
    BYTECODE_SUFFIXES,
    EXTENSION_SUFFIXES,
    SOURCE_SUFFIXES,
    ExtensionFileLoader,
    FileFinder,
    SourceFileLoader,
    SourcelessFileLoader,
)
from _thread import get_ident
from posix import listdir

from . import check

# Returned where a file is not in a cold store, either.
NOT_COLD = object()
# The functions as they are without the hooks of files.py, by name.
plain = {"open": io.open, "os_open": os.open, "stat": os.stat, "lstat": os.lstat}
plain.update(access=os.access, listdir=os.listdir, scandir=os.scandir)
# Looked for by site, and rarely there; a cold one was not there for the traced program either.
_CUSTOMIZE = ("sitecustomize", "usercustomize")
# Threads that are asking a store what it holds: what they import for that cannot come from there.
_busy = set()


def ask(question, *args):
    """Return what a store answers to a question; None while this thread is waiting for another answer."""
    me = get_ident()
    if me in _busy:
        return None
    try:
        _busy.add(me)
        return question(*args)
    finally:
        _busy.discard(me)


# Where this runtime lies, and where it was compiled to lie: bytecode without a source keeps the names that it got then.
_HERE = os.path.realpath(os.path.dirname(os.path.dirname(__file__)))
_MEANT = os.path.dirname(os.path.dirname(ask.__code__.co_filename))


class Layer(object):
    """One site folder with a cold store."""

    def __init__(self, root, packed):
        self.root = root
        # The modules that are compressed as bytecode, or None.
        self.packed = packed
        real = os.path.realpath(root)
        # The names that the folder is known by, its real one last.
        self.tops = (root,) if real == root else (root, real)
        # The folder in the source paths of code.
        self._named = _MEANT + "/" if real == _HERE and real != _MEANT else None
        self._store = None

    @property
    def store(self):
        """The cold store; neither it nor its reader is loaded before something is missing."""
        if self._store is None:
            from .store import ColdStore

            self._store = ColdStore(self.root, self.packed)
        return self._store

    def relative(self, path):
        """Return ``path`` relative to the site folder, or None where it lies elsewhere."""
        for top in self.tops:
            if path.startswith(top):
                if len(path) == len(top):
                    return ""
                if path[len(top)] == "/":
                    return path[len(top) + 1 :].rstrip("/")
        if self._named is not None and path.startswith(self._named) and path.endswith(".py"):
            return path[len(self._named) :]
        return None


class ColdFinder(object):
    """Stands last in sys.meta_path; the path hook finds cold modules at the place in sys.path that they had."""

    def __init__(self):
        self.layers = []

    def add(self, root, packed=None):
        """Serve one more site folder; False if it is served already."""
        layer = Layer(root, packed)
        for known in self.layers:
            if known.tops[-1] == layer.tops[-1]:
                known.tops = tuple(sorted({root, *known.tops}, key=known.tops[-1].__eq__))
                return False
        # Of nested folders the inner one counts.
        self.layers = sorted(self.layers + [layer], key=lambda each: -len(each.root))
        for entry in list(sys.path_importer_cache):
            if isinstance(entry, str) and layer.relative(entry) is not None:
                sys.path_importer_cache.pop(entry, None)
        return True

    def locate(self, path):
        """Return the layer that an absolute path lies in and the path relative to it, or None."""
        for layer in self.layers:
            relative = layer.relative(path)
            if relative is not None:
                return layer, relative
        return None

    def find_spec(self, fullname, path=None, target=None):
        """Find a cold module, as a finder in sys.meta_path."""
        portions = []
        if fullname in _CUSTOMIZE:
            return None
        for folder in list(sys.path if path is None else path):
            spec = self.spec_in(fullname, folder)
            if spec is not None and spec.loader is not None:
                return spec
            if spec is not None:
                portions += spec.submodule_search_locations
        if portions:
            from .loaders import namespace

            return namespace(fullname, portions)
        if path is None:
            for layer in self.layers:
                _ask_for(fullname, _refuse_dropped, fullname, layer, sys._getframe(1))
        return None

    def spec_in(self, fullname, folder):
        """Find a cold module in one folder; the spec of a folder without a module has no loader."""
        found = self.locate(folder) if isinstance(folder, str) else None
        return None if found is None else _ask_for(fullname, _spec_at, fullname, *found)

    def invalidate_caches(self):
        """Do nothing: a layer does not change."""


def _ask_for(fullname, question, *args):
    try:
        return ask(question, *args)
    except OSError as exc:
        raise ImportError("%s: %s" % (fullname, exc), name=fullname, path=exc.filename) from exc


def _spec_at(fullname, layer, folder):
    if not layer.store.mentions(folder.partition("/")[0] or fullname):
        return None
    from .loaders import spec_at

    return spec_at(fullname, layer, folder)


def _refuse_dropped(fullname, layer, frame):
    if layer.store.dropped(fullname):
        from .loaders import refuse_dropped

        refuse_dropped(fullname, layer.store, frame)


def _is_cold_folder(layer, relative):
    return layer.store.is_folder(relative)


_standard = set()


def _standard_names():
    """Return the names of standard-library modules: they are never in a layer, so no store is read for them."""
    if not _standard:
        _standard.update(_CUSTOMIZE, getattr(sys, "stdlib_module_names", ()))
        if not hasattr(sys, "stdlib_module_names"):
            library = os.path.dirname(os.__file__)
            for folder in (library, library + "/lib-dynload"):
                try:
                    _standard.update(name.partition(".")[0] for name in listdir(folder))
                except OSError:
                    pass  # not readable: its names are searched in the store, which is only slower
    return _standard


class ColdFileFinder(FileFinder):
    """Finds what lies in one folder of a layer, and what would lie there.

    A folder whose ``__init__.py`` alone is cold would be a namespace package to the machinery's own finder.
    """

    _place = None  # the layer, and the path in it

    def find_spec(self, fullname, target=None):
        """Find a module in this folder: packed, as a real file, or cold."""
        if self._place is None:
            self._place = COLD.locate(self.path) or (None, "")
        layer, folder = self._place
        packed = layer.packed if layer is not None else None
        spec = packed.find(fullname, folder) if packed is not None else None
        if spec is None:
            spec = self._find_file(fullname, target)
        standin = sys.modules.get(__package__ + ".standin")
        # Another thread may be importing it.
        if spec is not None and spec.loader is not None and hasattr(standin, "find_below"):
            return standin.find_below(fullname) or spec
        return spec

    def _find_file(self, fullname, target):
        """Find a module that is not packed, a real file first."""
        spec = super().find_spec(fullname, target)
        if spec is None and fullname in _standard_names():
            return None
        if spec is None or spec.loader is None:
            self._require(fullname, _SUFFIXES)
            cold = COLD.spec_in(fullname, self.path)
            if cold is not None and (spec is None or cold.loader is not None):
                spec = cold
        elif isinstance(spec.loader, ExtensionFileLoader):
            _check_library(spec.origin)
        else:
            self._require(fullname, EXTENSION_SUFFIXES)
        return spec

    def _require(self, fullname, suffixes):
        """Refuse a layer that had a module here with one of these suffixes, which is missing."""
        layer, folder = self._place
        if layer is not None:
            tail = fullname.rpartition(".")[2]
            check.module(layer, folder + "/" + tail if folder else tail, suffixes)


def _check_library(path):
    found = COLD.locate(path)
    if found is not None:
        check.library(*found)


_WARM = (
    (ExtensionFileLoader, EXTENSION_SUFFIXES),
    (SourceFileLoader, SOURCE_SUFFIXES),
    (SourcelessFileLoader, BYTECODE_SUFFIXES),
)


_SUFFIXES = EXTENSION_SUFFIXES + SOURCE_SUFFIXES + BYTECODE_SUFFIXES


def _path_hook(folder):
    found = COLD.locate(folder) if isinstance(folder, str) else None
    # Ignore a damaged store here: ColdFinder is called later, and raises.
    if found is None or not (_is_packed(*found) or os.path.isdir(folder) or _ask_for(folder, _is_cold_folder, *found)):
        raise ImportError("no folder of a layer", path=folder)
    return ColdFileFinder(folder, *_WARM)


def _is_packed(layer, relative):
    return layer.packed is not None and layer.packed.is_package(relative)


def _packed_below(root):
    """Return what the layers in a site folder have packed, or None: then its reader is not loaded."""
    if not any(os.path.exists(root + "/_layer_minimizer/" + name) for name in ("code", "runtime")):
        return None
    from .packed import Packed

    return Packed.below(root)


COLD = ColdFinder()


def place(path, dir_fd=None):
    """Return the layer and the site-relative path that any kind of path means, or None."""
    if isinstance(path, int):
        return None
    try:
        path = os.fsdecode("." if path is None else path)
        if not path.startswith("/"):
            path = (os.getcwd() if dir_fd is None else os.readlink("/proc/self/fd/%d" % dir_fd)) + "/" + path
    except (TypeError, ValueError, OSError):
        return None
    if "/." in path or "//" in path:
        path = os.path.normpath(path)
    # Another thread may be importing it.
    original = getattr(sys.modules.get(__package__ + ".mirror"), "original", None)
    return COLD.locate(path if original is None else original(path))


def serve(root):
    """Serve the cold store and the packed modules below ``root``; False if that is done already."""
    if not COLD.add(root, _packed_below(root)):
        return False
    if COLD not in sys.meta_path:
        sys.meta_path.append(COLD)
    if _path_hook not in sys.path_hooks:
        sys.path_hooks.insert(0, _path_hook)
    return True
