"""Puts back before a snapshot of the process (Lambda SnapStart) what is needed after each restore of it.

Whatever is restored from a cold store, or loaded in place of a stand-in, after the snapshot is so again in each copy.
The files in the folder ``snapshot`` of the layer say what that will be, in the words of a layer's log. Modules of
stand-ins are loaded, which the environment has done by then, too; cold files and pages are restored. Of other modules
the code is read but not run: what it does when it runs, such as seeding a generator, is to be done in each copy.

Loaded in Lambda with SnapStart alone. Nothing here may fail: an exception would end the function's initialization, and
whatever could not be put back is restored when it is needed.
"""

import os
import sys
from _frozen_importlib import _find_spec
from _frozen_importlib_external import PathFinder

from . import check
from .finder import LAYERS

VARIABLE, SNAP_START = "AWS_LAMBDA_INITIALIZATION_TYPE", "snap-start"
FOLDER = "snapshot"
HOOKS = "snapshot_restore_py"  # the module with which Lambda's runtime client runs functions before a snapshot


class _Watcher(object):
    """Registers the hook when HOOKS is loaded: by the program, or by the runtime client before it runs the hooks.

    Loading it here would be too early in a container: its folder may not be in sys.path yet. First registered, the
    hook runs last, after those of the program.
    """

    searching = False

    def find_spec(self, name, path=None, target=None):
        if name != HOOKS or self.searching:
            return None
        self.searching = True
        try:
            spec = _find_spec(name, path, target)
        finally:
            self.searching = False
        if spec is not None and spec.loader is not None:
            load = spec.loader.exec_module

            def exec_module(module):
                load(module)
                if self in sys.meta_path:
                    sys.meta_path.remove(self)
                    module.register_before_snapshot(put_back)

            spec.loader.exec_module = exec_module
        return spec


class _Ready(object):
    """Finds modules whose code has been read, if they are searched for where they were found."""

    def __init__(self):
        self.specs = {}

    def find_spec(self, name, path=None, target=None):
        spec, folders = self.specs.pop(name, (None, None))
        return spec if spec is not None and folders == _folders(path) else None


READY = _Ready()
_watching = []


def watch():
    """Put back what the layers name as soon as Lambda is about to take a snapshot."""
    if not _watching:
        _watching.append(_Watcher())
        sys.meta_path.insert(0, _watching[0])


def put_back():
    """Put back all that the layers name."""
    for layer in LAYERS.layers:
        try:
            found = _read(layer.root + "/_layer_minimizer/" + FOLDER)
        except OSError:
            continue
        _wake({each["woken"] for each in found}.union(each["module"] for each in found))
        for each in found:
            try:
                if each["module"]:
                    _read_code(each["module"])
                elif each["file"]:
                    _restore(layer.root + "/" + each["file"])
                elif each["library"] and check.native is not None:
                    check.native.restore_pages("0x%(page)s+0x%(count)s of %(library)s" % each)
            except Exception as exc:
                _say(each["module"] or each["file"] or each["library"], exc)
    if READY.specs and READY not in sys.meta_path and PathFinder in sys.meta_path:
        # Behind the finders of the program, which may change how modules are loaded.
        sys.meta_path.insert(sys.meta_path.index(PathFinder), READY)


def _read(folder):
    """Return what the files in a folder name, as dictionaries with a value for one kind of things each."""
    from .log_patterns import RESTORED

    found = []
    for name in sorted(os.listdir(folder)):
        with open(folder + "/" + name, "rb") as source:
            text = source.read().decode("utf-8", "replace")
        found += [match.groupdict() for match in RESTORED.finditer(text)]
    return found


def _wake(names):
    """Load the modules of stand-ins, in the order in which they were imported."""
    standin = sys.modules.get(__package__ + ".standin")
    left = set(names)
    while standin is not None:
        # A module that is loaded imports others, which may be stand-ins.
        found = [name for name in standin.asleep() if name in left]
        if not found:
            return
        left.difference_update(found)
        for name in found:
            try:
                standin.wake(name, "a snapshot")
            except Exception as exc:
                _say(name, exc)


def _restore(path):
    if check.is_cold(path):
        open(path, "rb").close()


def _folders(path):
    return list(sys.path if path is None else path)


def _read_code(name):
    """Read the code of a module that lies in a layer; its package has to be loaded, or read before."""
    if name in sys.modules or name in READY.specs:
        return
    above = name.rpartition(".")[0]
    path = None
    if above in READY.specs:
        path = READY.specs[above][0].submodule_search_locations
    elif above:
        path = getattr(sys.modules.get(above), "__path__", None)
    if above and path is None:
        return
    spec = _find_spec(name, path)
    if spec is None or not spec.has_location or LAYERS.locate(spec.origin) is None:
        return
    code = spec.loader.get_code(name)
    if code is not None:  # else it is an extension module
        spec.loader.get_code = lambda _name: code
        READY.specs[name] = (spec, _folders(path))


def _say(what, exc):
    """Say on standard error what could not be put back."""
    text = "layer_minimizer: could not put back %s before the snapshot: %s: %s\n" % (what, type(exc).__name__, exc)
    os.write(2, text.encode("utf-8", "backslashreplace"))
