"""Hooks for parts of the standard library that read files in other ways, installed when these are imported."""

import os
from _frozen_importlib_external import FileLoader

from . import check
from .finder import place, plain


def hook_now(module, name):
    """Hook a module that has been executed."""
    _HOOKS[name.rpartition(".")[2]](module)


def hook_after(loader, name):
    """Hook a module as soon as its loader has executed it."""
    execute = loader.exec_module

    def exec_module(module):
        execute(module)
        hook_now(module, name)

    loader.exec_module = exec_module


def replace(module, replaced):
    """Replace functions that a module and its classes took over before they were hooked: ``{id: hook}``."""
    for holder in [module] + [each for each in vars(module).values() if isinstance(each, type)]:
        for name, value in list(vars(holder).items()):
            inner = getattr(value, "__func__", value)
            # CPython 3.6's pathlib wraps each function once more.
            cells = [cell.cell_contents for cell in getattr(inner, "__closure__", None) or ()]
            hook = replaced.get(id(inner)) or (replaced.get(id(cells[0])) if len(cells) == 1 else None)
            if hook is not None:
                setattr(holder, name, staticmethod(hook) if isinstance(value, staticmethod) else hook)


def _real(path):
    """Return the real file of a cold one, or None for all others."""
    try:
        plain["lstat"](path)
    except OSError:
        if place(path) is None:
            return None
        from . import rescue  # imported only when a file is missing

        return rescue.real(path)
    return None


def _hook_resources(_module):
    """CPython 3.7 to 3.9: resources are read by the loader, not with the functions of os."""
    if not hasattr(FileLoader, "open_resource"):
        return

    def where(self, resource):
        return os.path.join(os.path.dirname(self.path), resource)

    def open_resource(self, resource):
        return open(where(self, resource), "rb", buffering=0)

    def resource_path(self, resource):
        if not self.is_resource(resource):
            raise FileNotFoundError(where(self, resource))
        path = where(self, resource)
        return _real(path) or path

    def is_resource(self, name):
        return "/" not in name and os.path.isfile(where(self, name))

    def contents(self):
        return iter(os.listdir(os.path.dirname(self.path)))

    for method in (open_resource, resource_path, is_resource, contents):
        setattr(FileLoader, method.__name__, method)


def _hook_ctypes(module):
    dlopen = module._dlopen

    def cold_dlopen(name, *rest):
        found = place(name) if name else None
        if found is not None:
            check.library(*found)
        try:
            return dlopen(name, *rest)
        except OSError:
            real = _real(name) if name and "/" in os.fsdecode(name) else None
            if real is None:
                raise
        return dlopen(real, *rest)

    module._dlopen = cold_dlopen


def _hook_as_file(module):
    """Make as_file yield a real file, since it may be passed to a C library."""
    as_file = getattr(module, "as_file", None)
    if not hasattr(as_file, "register"):
        return
    import contextlib
    import pathlib

    same = as_file.dispatch(pathlib.Path)

    @contextlib.contextmanager
    def cold_as_file(path):
        real = None if path.is_dir() else _real(path)
        if real is not None:
            yield pathlib.Path(real)
            return
        with same(path) as given:
            yield given

    as_file.register(pathlib.Path, cold_as_file)


def _hook_reader(module):
    reader = getattr(module, "FileReader", None)
    if reader is None:
        return
    resource_path = reader.resource_path

    def cold_resource_path(self, resource):
        path = resource_path(self, resource)
        return _real(path) or path

    reader.resource_path = cold_resource_path


_HOOKS = {
    "ctypes": _hook_ctypes,
    "_common": _hook_as_file,
    "readers": _hook_reader,
    "resources": _hook_resources,
}
