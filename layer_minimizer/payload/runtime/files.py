"""Serves cold files to programs that open them by path, with Python's own functions.

Each function is called as it is; only when it finds no file below a layer is a store asked. What a C library opens by
itself is not served. Loaded in every start of the layer: what serves a file is in rescue.py.
"""

import atexit
import builtins
import io
import os
import sys
from _frozen_importlib_external import FileLoader, SourceFileLoader

from . import check
from .finder import COLD, NOT_COLD, place

# Modules that have imported these functions under their own names before the hooks.
_KEEPERS = ("pathlib", "pathlib._local", "pathlib._abc", "glob", "tokenize", "bz2", "tarfile", "zipfile")
_LATE = (
    "ctypes",
    "importlib._common",
    "importlib.readers",
    "importlib.resources",
    "importlib.resources._common",
    "importlib.resources.readers",
    "importlib_resources._common",
    "importlib_resources.readers",
)


def _rescue(name, *args, **kwargs):
    """Return the result of the function ``name`` of rescue.py, or NOT_COLD."""
    from . import rescue

    return getattr(rescue, name)(*args, **kwargs)


class Hook(object):
    """A hooked function that searches the cold stores if a file is missing.

    No plain function: those turn into methods as class attributes, which built-in functions do not, and pathlib
    stores os.stat in a class body.
    """

    def __init__(self, function, name):
        self.function = self.__wrapped__ = function
        self.name = name
        self.__name__ = self.__qualname__ = function.__name__
        # pickle looks for the name where this object lies, which is not the module that os takes its functions from.
        self.__module__ = "io" if function.__module__ in ("io", "_io") else "os"
        self.__doc__ = function.__doc__

    def __call__(self, *args, **kwargs):
        try:
            return self.function(*args, **kwargs)
        except (FileNotFoundError, NotADirectoryError):
            found = self.asked_for(args, kwargs)
            served = _rescue(self.name, *args, **kwargs) if found is not None else NOT_COLD
            if served is NOT_COLD:
                if found is not None:
                    check.content(*found)
                raise
            return served

    def asked_for(self, args, kwargs):
        """Return the layer and the path in it of the requested file, or None."""
        path = args[0] if args else kwargs.get("file", kwargs.get("path"))
        return place(path, kwargs.get("dir_fd"))

    def __reduce__(self):
        return self.__name__

    def __repr__(self):
        return repr(self.function)


class Reader(Hook):
    """A hooked function that opens a file, and ends the process if the file was changed."""

    def __call__(self, *args, **kwargs):
        opened = super().__call__(*args, **kwargs)
        found = self.asked_for(args, kwargs)
        if found is not None:
            check.content(*found)
        return opened


class Answer(Hook):
    """A hooked function whose result is completed by cold files, such as os.listdir."""

    def __call__(self, *args, **kwargs):
        if self.asked_for(args, kwargs) is not None:
            return _rescue(self.name, *args, **kwargs)
        return self.function(*args, **kwargs)


def install():
    """Install the hooks once."""
    if isinstance(io.open, Hook):
        return
    # Registered first and therefore called last: exit functions of the program may need cold files.
    atexit.register(_remove_restored)
    replaced = {}
    builtins.open = io.open = _hook(Reader, io.open, "open", replaced)
    if hasattr(io, "open_code"):
        io.open_code = _hook(Reader, io.open_code, "open_code", replaced)
    os.open = _hook(Reader, os.open, "os_open", replaced)
    for kind, names in ((Hook, ("stat", "lstat", "listxattr")), (Answer, ("access", "listdir", "scandir"))):
        for name in names:
            if hasattr(os, name):
                setattr(os, name, _hook(kind, getattr(os, name), name, replaced))
    for name in _KEEPERS:
        if name in sys.modules:
            from .late import replace

            replace(sys.modules[name], replaced)
    _hook_loaders()


def _remove_restored():
    remove = getattr(sys.modules.get(__package__ + ".mirror"), "remove", None)
    if remove is not None:
        remove()


def _hook(kind, function, name, replaced):
    hook = replaced[id(function)] = kind(function, name)
    for supported in (os.supports_dir_fd, os.supports_effective_ids, os.supports_fd, os.supports_follow_symlinks):
        if function in supported:
            supported.add(hook)
    return hook


def _hook_loaders():
    """Hook pkgutil.get_data, and parts of the standard library that read files in other ways."""
    get_data = FileLoader.get_data

    def cold_get_data(self, path):
        """Return the bytes of a file."""
        try:
            data = get_data(self, path)
        except (FileNotFoundError, NotADirectoryError):
            # Every import searches for bytecode; its absence is normal.
            if path.endswith(".pyc") or place(path) is None:
                raise
            real = _rescue("real", path)
            if real is None:
                raise
            return get_data(self, real)
        found = COLD.locate(path)
        if found is not None:
            check.content(found[0], found[1], data)
        return data

    # Called before every module is executed, and leaves no frame in its tracebacks.
    def create_module(self, spec):
        """Use the default, and prepare the modules that need a hook."""
        if spec.name in _LATE:
            from .late import hook_after

            hook_after(self, spec.name)

    FileLoader.get_data = cold_get_data
    SourceFileLoader.create_module = create_module
    for name in _LATE:
        if name in sys.modules:
            from .late import hook_now

            hook_now(sys.modules[name], name)
