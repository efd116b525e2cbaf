"""Writes the tables from which stand-ins answer; see standin.py for their form.

Runs inside the traced interpreter: CPython 3.6 and later, the standard library alone.
"""

import os
import sys
import time
import types

from _layer_minimizer_trial.standin_state import AS_IMPORTED, find_defined


def describe(module):
    """Return the table of a module that is loaded."""
    names = {}
    package = getattr(module.__dict__.get("__spec__"), "submodule_search_locations", None) is not None
    for name, value in module.__dict__.items():
        if name == "__path__" and not package:
            names[name] = ["other"]  # a module that lets others pass for its submodules
        elif name == "__all__" and type(value) is list and all(type(item) is str for item in value):
            names[name] = ["list", value]
        elif name not in AS_IMPORTED and name not in ("__doc__", "__builtins__"):
            names[name] = _kind(value)
    return {"names": names, "dynamic": "__getattr__" in names}


def _kind(value):
    kind = type(value)
    if value is None or kind in (bool, int, float) or (kind is str and len(value) < 1000):
        return ["other"] if _is_of_this_run(value) else ["value", value]
    if kind is tuple and len(value) < 20 and all(type(item) in (str, int, bool) for item in value):
        return ["other"] if any(map(_is_of_this_run, value)) else ["tuple", list(value)]
    # Attributes of the value are not read, since that could run its code.
    if issubclass(kind, types.ModuleType):
        name = types.ModuleType.__getattribute__(value, "__dict__").get("__name__")
        return ["module", name] if sys.modules.get(name) is value else ["other"]
    if issubclass(kind, type):
        return _kind_of_class(value, kind)
    if kind in _FUNCTIONS and _is_found(value, value.__module__, value.__qualname__):
        return [_FUNCTIONS[kind], value.__module__, value.__qualname__]
    return ["other"]


_FUNCTIONS = {types.FunctionType: "function", types.BuiltinFunctionType: "builtin"}


def _is_of_this_run(value):
    """Return whether a value may differ elsewhere: paths, environment variables, process ids, times."""
    if type(value) is str:
        return value.startswith(os.sep) or sys.prefix in value or value in os.environ.values()
    if type(value) is float:
        return not abs(value) < float("inf") or abs(value - time.time()) < 1e7
    return type(value) is int and value == os.getpid()


def _kind_of_class(value, meta):
    where = [type.__getattribute__(value, "__module__"), type.__getattribute__(value, "__qualname__")]
    if not _is_found(value, *where):
        return ["other"]
    flags = type.__getattribute__(value, "__flags__")
    fixed = not flags & _HEAP_TYPE or flags & _IMMUTABLE_TYPE
    if fixed or meta is not type or issubclass(value, (BaseException, type)):
        # Used by C code, an exception, or a class that defines instance checks.
        return ["loaded"] + where
    return ["class"] + where + [[[base.__module__, base.__qualname__] for base in value.__bases__]]


_HEAP_TYPE = 1 << 9
_IMMUTABLE_TYPE = 1 << 8 if sys.version_info >= (3, 10) else 0


def _is_found(value, module, name):
    """Return whether a class or function is what its name leads to."""
    return isinstance(module, str) and isinstance(name, str) and find_defined(module, name) is value
