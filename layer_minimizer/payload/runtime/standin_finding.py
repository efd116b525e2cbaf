"""Finds modules in packages that are stand-ins: a package must be loaded before its modules."""

import importlib
import sys
import types
from _frozen_importlib import ModuleSpec

from .standin_state import awake_names, namespace, planned, states
from .standin_waking import wake_module


class LastFinder(object):
    """The last finder: a module that no other finder has found may exist after its package is loaded."""

    def find_spec(self, name, path=None, target=None):
        above = name.rpartition(".")[0]
        package = sys.modules.get(above)
        state = states.get(id(package))
        if above not in awake_names if state is None else state.waking is not None:
            return None
        try:
            return _find_below(package, state, name, target)
        except ModuleNotFoundError:
            if _is_being_imported(sys._getframe(1)):
                raise
            return None


LAST = LastFinder()


def find_below(name):
    """Find a real module, and load its package first if that is a stand-in.

    None where there is nothing to be woken.
    """
    package = sys.modules.get(name.rpartition(".")[0])
    state = states.get(id(package))
    return None if name in planned or state is None or state.waking is not None else _find_below(package, state, name)


def _find_below(package, state, name, target=None):
    _without_lock(wake_module, package, name)
    if name in sys.modules:
        return _spec_of_loaded(name, sys.modules[name], sys._getframe(1))
    path = getattr(package, "__path__", None)
    return None if state is None or path is None else importlib._bootstrap._find_spec(name, path, target)


def _is_being_imported(frame):
    """Return whether the finders are called by an import, not by importlib.util.find_spec."""
    while frame.f_code.co_name != "_find_spec" and frame.f_back is not None:
        frame = frame.f_back
    return frame.f_back is not None and frame.f_back.f_code.co_name == "_find_and_load_unlocked"


def _spec_of_loaded(name, module, frame):
    """Return the spec of a module that was loaded during the search.

    The import system would take the module's own, and so load it again: it hides until then.
    """
    own = namespace(module) if issubclass(type(module), types.ModuleType) else {}
    spec = own.get("__spec__")
    if spec is None:
        return ModuleSpec(name, _There(module))
    if not _is_being_imported(frame):
        return spec
    own["__spec__"] = None
    return ModuleSpec(name, _There(module, spec))


def _without_lock(call, *args):
    """Run code without the global import lock, which is held while finders are called."""
    import _imp

    try:
        _imp.release_lock()
    except RuntimeError:
        return call(*args)
    try:
        return call(*args)
    finally:
        _imp.acquire_lock()


class _There(object):
    """Loads a module that another one has put into sys.modules."""

    def __init__(self, module, spec=None):
        self._module = module
        self._spec = spec

    def create_module(self, spec):
        return None

    def exec_module(self, module):
        sys.modules[module.__name__] = self._module
        if self._spec is not None:
            namespace(self._module)["__spec__"] = self._spec
