"""Loads what lies in a cold store as if it lay where it came from. Imported once a store may have a module."""

import functools
import sys

# importlib.util has the same function, and imports a lot for it.
from _frozen_importlib_external import spec_from_file_location
from importlib.machinery import (
    BYTECODE_SUFFIXES,
    EXTENSION_SUFFIXES,
    SOURCE_SUFFIXES,
    ExtensionFileLoader,
    ModuleSpec,
    SourceFileLoader,
    SourcelessFileLoader,
)

from .messages import RESTORED_MODULE, note


def refuse_dropped(name, store, frame):
    """Raise an error with the reason why a distribution is missing, if ``frame`` is that of an import.

    importlib.util.find_spec asks too, and there nothing but None is an answer.

    Raises:
        ModuleNotFoundError: it is an import.
    """
    callers = []
    while frame is not None and len(callers) < 3:
        callers.append(frame.f_code.co_name)
        frame = frame.f_back
    if "_find_and_load_unlocked" not in callers:
        return
    part = store.without(name)
    raise ModuleNotFoundError(
        "No module named %r: it belongs to %s, which was left out of the layer %s because no traced event used it; "
        "build the layer with an event that does, or with --keep %s"
        % (name, part.dropped(name), part.header["layer"], name),
        name=name,
    )


def spec_at(fullname, layer, folder):
    """Find a cold module in one folder of a layer; the spec of a folder without a module has no loader."""
    store = layer.store
    tail = fullname.rpartition(".")[2]
    base = folder + "/" + tail if folder else tail
    top = layer.root + "/"
    for stem, locations in ((base + "/__init__", [top + base]), (base, None)):
        for suffixes, loader in _LOADERS:
            for suffix in suffixes:
                path = stem + suffix
                if path in store:
                    cold = loader(fullname, top + path, store, path)
                    return spec_from_file_location(
                        fullname, top + path, loader=cold, submodule_search_locations=locations
                    )
    return namespace(fullname, [top + base]) if store.is_folder(base) else None


def namespace(fullname, folders):
    """Return the spec of a package that is nothing but folders."""
    spec = ModuleSpec(fullname, None, is_package=True)
    spec.submodule_search_locations = folders
    return spec


class _Cold(object):
    """What loaders of cold modules share: the bytes come from the store, and nothing is ever written."""

    def __init__(self, fullname, path, store, cold):
        super().__init__(fullname, path)
        self._store = store
        self._cold = cold
        standin = sys.modules.get(__package__ + ".standin")
        if hasattr(standin, "in_order"):
            # Only where there are stand-ins: it stands in the tracebacks of the module's errors.
            self.exec_module = functools.partial(self._exec_in_order, standin.in_order)

    def get_data(self, path):
        """Return the bytes of this module or of another file."""
        if path != self.path:
            return super().get_data(path)
        try:
            return self._store.read(self._cold)
        except OSError as exc:
            raise ImportError("%s: %s" % (self.name, exc), name=self.name, path=path) from exc

    def get_code(self, fullname):
        """Return the module's code, and log that it was needed."""
        code = super().get_code(fullname)
        note(RESTORED_MODULE % self.name)
        return code

    def _exec_in_order(self, in_order, module):
        """Run the module's code, after that of stand-ins where it relies on it."""

        def load():
            # What was woken since may have imported it.
            if sys.modules.setdefault(self.name, module) is module:
                super(_Cold, self).exec_module(module)

        in_order(self.name, load)


class ColdSourceLoader(_Cold, SourceFileLoader):
    """Loads a cold ``.py``; ``__file__`` is where it would lie in the layer."""

    def path_stats(self, path):
        """Refuse: without a time the machinery neither looks for bytecode nor writes any."""
        raise OSError("%s lies in a cold store" % path)

    def set_data(self, path, data, *, _mode=0o666):
        """Write nothing."""


class ColdBytecodeLoader(_Cold, SourcelessFileLoader):
    """Loads a cold ``.pyc`` that has no source."""


class ColdExtensionLoader(ExtensionFileLoader):
    """Loads a cold extension module from a real file; that is what its ``__file__`` names."""

    def __init__(self, fullname, path, store, cold):
        super().__init__(fullname, path)
        self._store = store
        self._cold = cold

    def create_module(self, spec):
        """Restore the file and the libraries that it needs, then load it."""
        try:
            spec.origin = self._store.restore(self._cold)
        except OSError as exc:
            raise ImportError("%s: %s" % (self.name, exc), name=self.name, path=exc.filename) from exc
        module = super().create_module(spec)
        note(RESTORED_MODULE % self.name)
        return module


_LOADERS = (
    (EXTENSION_SUFFIXES, ColdExtensionLoader),
    (SOURCE_SUFFIXES, ColdSourceLoader),
    (BYTECODE_SUFFIXES, ColdBytecodeLoader),
)
