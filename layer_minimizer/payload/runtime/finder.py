"""Finds what lies in a layer's site folder: packed bytecode, stand-ins, and files in their places, cold or not.

Loaded in every start of the layer, so it holds no more than what a program needs that misses nothing.
"""

import gc
import os
import sys
from _frozen_importlib import ModuleSpec

# These are loaded before any module can be; importlib.machinery has the same, and imports more for it.
from _frozen_importlib_external import (
    BYTECODE_SUFFIXES,
    EXTENSION_SUFFIXES,
    SOURCE_SUFFIXES,
    ExtensionFileLoader,
    FileFinder,
    SourceFileLoader,
    SourcelessFileLoader,
    spec_from_file_location,
)
from _imp import _fix_co_filename

from . import check

_LEFT_OUT = "was left out of this layer"  # in the text of the error, see native/src/layerfiles.h


class Layer(object):
    """One site folder of layers. ``packed`` are the modules that are compressed as bytecode, or None."""

    def __init__(self, root, packed):
        self.root = root
        self.packed = packed
        real = check.real_path(root)
        # The names that the folder is known by, its real one last.
        self.tops = (root,) if real == root else (root, real)

    def relative(self, path):
        """Return ``path`` relative to the site folder, or None where it lies elsewhere."""
        for top in self.tops:
            if path.startswith(top):
                if len(path) == len(top):
                    return ""
                if path[len(top)] == "/":
                    return path[len(top) + 1 :].rstrip("/")
        return None


class LayerFinder(object):
    """Knows the layers. Stands last in sys.meta_path: says of a module that is not there that it was left out."""

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
        """Find nothing; raise an error with the reason if a module was left out.

        For importlib.util.find_spec, to which nothing but None is an answer, the native runtime writes the reason.

        Raises:
            ModuleNotFoundError: it is an import, or "-m", of a module that the environment has.
        """
        if fullname in ("sitecustomize", "usercustomize"):
            return
        needed = _is_needed(sys._getframe(1))
        for folder in list(sys.path if path is None else path):
            if isinstance(folder, str) and self.locate(folder) is not None:
                reason = why_left_out(fullname, folder)
                if needed and reason:
                    raise ModuleNotFoundError("No module named %r: %s" % (fullname, reason), name=fullname)
        if needed and check.native is None and path is None:
            from .dropped import refuse_dropped

            refuse_dropped(fullname, self.layers)

    def find_distributions(self, context=None):
        """Find no metadata; if that of one distribution was asked for by name, ask for what was left out."""
        name = getattr(context, "name", None)
        if isinstance(name, str):
            from .dropped import metadata

            for path in metadata(name, self.layers):
                os.path.exists(path)  # the native runtime says what it is
        return iter(())

    def invalidate_caches(self):
        """Do nothing: a layer does not change."""


IMPORT = "_find_and_load_unlocked"  # the import system's function that asks finders


def _is_needed(frame, depth=3):
    """Return whether an import or runpy asks for a module, not code that takes no for an answer.

    An import is at most ``depth`` frames away.
    """
    names = callers(frame)
    return IMPORT in names[:depth] or "_get_module_details" in names


def callers(frame):
    """Return the names of the function that a frame is of, and of those that have called it: five at most."""
    names = []
    while frame is not None and len(names) < 5:
        names.append(frame.f_code.co_name)
        frame = frame.f_back
    return names


def why_left_out(fullname, folder, ask=os.stat):
    """Return what the native runtime says of a module that is not in ``folder``: that it was left out, or None.

    ``ask`` is what is called with the paths that the module may have.
    """
    base = folder + "/" + fullname.rpartition(".")[2]
    for path in [folder] + [base + suffix for suffix in ["/__init__.py", ".py"] + EXTENSION_SUFFIXES]:
        if not check.is_left_out(path):
            continue
        try:
            ask(path)
        except OSError as exc:
            if exc.strerror and _LEFT_OUT in exc.strerror:
                return exc.strerror.partition("(")[2].rpartition(")")[0]
        except ValueError:
            return None  # a name that no file can have
    return None


class LayerFileFinder(FileFinder):
    """Finds what lies in one folder of a layer: packed, as a file, or cold."""

    _place = None  # the layer, and the path in it
    _stems = None  # the names in the folder, without suffixes: a layer does not change

    def invalidate_caches(self):
        """Look into the folder again."""
        super().invalidate_caches()
        self._stems = None

    def _may_have(self, name):
        if self._stems is None:
            try:
                self._stems = {entry.partition(".")[0] for entry in os.listdir(self.path)}
            except OSError:
                self._stems = set()
        return name in self._stems

    def _has_file(self, name):
        # A folder of the runtime's data, as _layer_minimizer/standard, is no package in the place of its module.
        return self._may_have(name) and any(entry.startswith(name + ".") for entry in os.listdir(self.path))

    def find_spec(self, fullname, target=None):
        """Find a module in this folder."""
        if self._place is None:
            self._place = LAYERS.locate(self.path) or (None, "")
        layer, folder = self._place
        packed = layer.packed if layer is not None else None
        if packed is None and folder == check.PACKAGE and not self._has_file(fullname.rpartition(".")[2]):
            packed = layer.packed = _packed_below(layer.root)
        spec = packed.find(fullname, folder) if packed is not None else None
        if spec is None:
            # Most questions are for modules of the standard library, which come after the layer on sys.path.
            if not self._may_have(fullname.rpartition(".")[2]):
                return None
            spec = super().find_spec(fullname, target)
            if spec is not None and spec.loader is not None:
                spec = _bytecode_for(spec) or spec
        if spec is None or spec.loader is None:
            return spec
        standin = sys.modules.get(__package__ + ".standin")
        # Another thread may be importing it.
        if hasattr(standin, "find_below"):
            spec = standin.find_below(fullname) or spec
        return _without_collecting(spec)


# ---- garbage collection -------------------------------------------------------------------------------------------

# What an import makes stays: to look through it again and again would be a tenth of what a start takes. So many
# container objects may be made in between: if all were garbage, it would be some 20 MB.
_MANY = 100000
_put_off = []  # the thresholds to be restored, and the spec that is being loaded
_frozen = getattr(gc, "get_freeze_count", int)()  # CPython 3.12 freezes what it has made at its start


class _OutermostSpec(ModuleSpec):
    """The spec of a module whose import is about to begin, which the import system tells when it begins and ends.

    No code of a layer runs in between: it would stand in the module's tracebacks, and warnings count it.
    """

    @property
    def _initializing(self):
        return self.__dict__.get("_initializing", False)

    @_initializing.setter
    def _initializing(self, begins):
        if begins:
            self.__dict__["_initializing"] = True
            _stop_collecting(self)
        else:
            self.__class__ = ModuleSpec
            self._initializing = False
            _collect_as_before(self)


_OutermostSpec.__name__ = _OutermostSpec.__qualname__ = ModuleSpec.__name__


def _without_collecting(spec):
    """Return a spec; if it is that of an outermost import, no garbage is collected while its module is loaded."""
    if not _put_off and type(spec) is ModuleSpec and _is_needed(sys._getframe(2), 5):
        spec.__class__ = _OutermostSpec
    return spec


def _stop_collecting(spec):
    thresholds = gc.get_threshold()
    if not _put_off and 0 < thresholds[0] < _MANY:
        _put_off[:] = thresholds, spec
        gc.set_threshold(_MANY, *thresholds[1:])


def _collect_as_before(spec):
    if not _put_off or _put_off[1] is not spec:
        return
    thresholds = _put_off[0]
    del _put_off[:]
    if gc.get_threshold() != (_MANY,) + thresholds[1:]:
        return  # what was imported has set others
    if hasattr(gc, "freeze") and gc.get_freeze_count() == _frozen:
        # To the oldest generation with what was made, or all of it would be looked through at once.
        gc.freeze()
        gc.unfreeze()
    gc.set_threshold(*thresholds)


# ---- loaders ------------------------------------------------------------------------------------------------------


class LayerSourceLoader(SourceFileLoader):
    """Loads a source; reads and writes no bytecode beside it, as the environment's is not in the layer."""

    def __init__(self, fullname, path):
        super().__init__(fullname, path)
        standin = sys.modules.get(__package__ + ".standin")
        if hasattr(standin, "in_order") and check.is_cold(path):
            # Only where there are stand-ins: it stands in the tracebacks of the module's errors.
            self.exec_module = lambda module: _exec_in_order(self, module, standin.in_order)

    def path_stats(self, path):
        """Refuse: without a time the machinery neither looks for bytecode nor writes any."""
        raise OSError("%s lies in a layer" % path)

    def set_data(self, path, data, *, _mode=0o666):
        """Write nothing."""

    def get_code(self, fullname):
        """Return the module's code, and log that it was needed."""
        code = super().get_code(fullname)
        _note_restored(self)
        return code


def _exec_in_order(loader, module, in_order):
    """Run a module's code, after that of stand-ins where it relies on it."""

    def load():
        # What was woken since may have imported it.
        if sys.modules.setdefault(loader.name, module) is module:
            SourceFileLoader.exec_module(loader, module)

    in_order(loader.name, load)


class LayerExtensionLoader(ExtensionFileLoader):
    """Loads an extension module, and logs that a cold one was needed."""

    def create_module(self, spec):
        """Load it; the native runtime restores it and the libraries that it needs."""
        module = super().create_module(spec)
        _note_restored(self)
        return module


def _note_restored(loader):
    if check.is_cold(loader.path):
        from .messages import RESTORED_MODULE, note

        note(RESTORED_MODULE % loader.name)


class BytecodeLoader(SourceFileLoader):
    """Loads a module's bytecode in the place of its source, which is its ``__file__`` as in the environment.

    A subclass that compiles sources in its own way, as import hooks install, gets the source, or an error that it was
    left out.
    """

    def __init__(self, fullname, path, bytecode=None):
        super().__init__(fullname, path)
        self._bytecode = bytecode

    def get_code(self, fullname):
        """Return the code in the bytecode, which is to name the source where it lies."""
        if self._bytecode is None or type(self).source_to_code is not SourceFileLoader.source_to_code:
            return super().get_code(fullname)
        code = SourcelessFileLoader(fullname, self._bytecode).get_code(fullname)
        _fix_co_filename(code, self.path)
        return code


def _bytecode_for(spec):
    """Return the spec of a module of which the layer has the bytecode alone, and the environment the source."""
    stem = spec.origin.rpartition("/")[0] + "/" + spec.origin.rpartition("/")[2].partition(".")[0]
    if isinstance(spec.loader, SourcelessFileLoader):
        origin, there = stem + SOURCE_SUFFIXES[0], check.is_left_out(stem + SOURCE_SUFFIXES[0])
    else:
        origin, there = spec.origin, check.is_cold(spec.origin) and os.path.isfile(stem + BYTECODE_SUFFIXES[0])
    if not there:
        return None
    loader = BytecodeLoader(spec.name, origin, stem + BYTECODE_SUFFIXES[0])
    return spec_from_file_location(
        spec.name, origin, loader=loader, submodule_search_locations=spec.submodule_search_locations
    )


_LOADERS = (
    (LayerExtensionLoader, EXTENSION_SUFFIXES),
    (LayerSourceLoader, SOURCE_SUFFIXES),
    (SourcelessFileLoader, BYTECODE_SUFFIXES),
)


def find_real(fullname, folder):
    """Find the module that a stand-in in ``folder`` stands for, None if the layer does not have it."""
    return FileFinder(folder, *_LOADERS[:2]).find_spec(fullname)


def _path_hook(folder):
    found = LAYERS.locate(folder) if isinstance(folder, str) else None
    if found is None or not (_is_packed(*found) or os.path.isdir(folder)):
        raise ImportError("no folder of a layer", path=folder)
    return LayerFileFinder(folder, *_LOADERS)


def _is_packed(layer, relative):
    return layer.packed is not None and layer.packed.is_package(relative)


def _packed_below(root):
    """Return what the layers in a site folder have packed."""
    from .packed import Packed

    return Packed.below(root)


LAYERS = LayerFinder()


def serve(root):
    """Serve the modules below ``root``; False if that is done already."""
    # The reader is not loaded where only parts of this package are packed, for which hardly a start asks.
    if not LAYERS.add(root, _packed_below(root) if os.path.exists(root + "/_layer_minimizer/code") else None):
        return False
    if LAYERS not in sys.meta_path:
        sys.meta_path.append(LAYERS)
    if _path_hook not in sys.path_hooks:
        sys.path_hooks.insert(0, _path_hook)
    return True
