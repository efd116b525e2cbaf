"""Lets stand-ins take the place of modules of the standard library that no event needed.

Their code is the machine's own, which may be of another release: one is replaced only if its source is the same as
that of the table. Loaded in every start of a layer that has such tables.
"""

import marshal
import os
import sys
from _frozen_importlib import ModuleSpec
from _frozen_importlib_external import SourceFileLoader

from .finder import IMPORT, callers

FOLDER = "_layer_minimizer/standard"


class StandardFinder(object):
    """Stands first in sys.meta_path, and makes imports of the modules in ``tables`` get stand-ins.

    What asks for a spec alone gets the real one. So does an import if the module is not the standard library's.
    """

    def __init__(self):
        self.tables = {}
        self.eagerly = None  # what modules of this package are loaded in, see Eager
        self._standin = None

    def find_spec(self, name, path=None, target=None):
        """Find the stand-in of a module, or the real module in a package that is one."""
        above = name.rpartition(".")[0]
        if (name not in self.tables and above not in self.tables) or IMPORT not in callers(sys._getframe(1)):
            if target is not None and name in self.tables and self._standin is not None:
                self._standin.wake(name, "reload")
            return None
        real = self._find_behind(name, path, target)
        if real is None or real.loader is None:
            return real
        table = self.tables.get(name)
        if table is not None and self._is_free(table) and _is_of_table(real.loader, table):
            return self._standing_in(real, table)
        if self._standin is None:
            return real
        self._standin.planned.discard(name)  # it is the real one, whose package has to be real before
        return self._standin.find_below(name) or real

    def _is_free(self, table):
        """Return whether nothing of the module's group is real: packages that are half real break."""
        return self._standin is None or not self._standin.is_awake(table)

    def _find_behind(self, name, path, target):
        finders = sys.meta_path
        for finder in list(finders[finders.index(self) + 1 :] if self in finders else finders):
            find = getattr(finder, "find_spec", None)
            spec = find(name, path, target) if find is not None else None
            if spec is not None:
                return spec
        return None

    def _standing_in(self, real, table):
        spec = ModuleSpec(real.name, _Loader(self, real, table), origin=real.origin)
        spec.submodule_search_locations = real.submodule_search_locations
        spec.has_location = real.has_location
        spec.cached = real.cached
        return spec

    def stand_in(self, module, real, table):
        """Make a module that is being imported stand in for the real one."""
        with self.eagerly():
            from . import standin
            from .messages import tell

        if self._standin is None:
            self._standin = standin
            standin.plan(self.tables)
            standin.report_to(tell)
        standin.stand_in(module, table, lambda: real)


FINDER = StandardFinder()


class _Loader(object):
    """Makes a module stand in for the one that ``real``, a spec, describes, whose attributes it gets."""

    def __init__(self, finder, real, table):
        self._finder = finder
        self._real = real
        self._table = table

    def create_module(self, spec):
        return None

    def exec_module(self, module):
        module.__spec__, module.__loader__ = self._real, self._real.loader
        self._finder.stand_in(module, self._real, self._table)


def _is_of_table(loader, table):
    """Return whether the module's source is the one of which the table tells."""
    if type(loader) is not SourceFileLoader:
        return False
    from _imp import source_hash  # layers for CPython 3.6, which lacks it, have no such tables

    try:
        return source_hash(0, loader.get_data(loader.path)).hex() == table["standard"]
    except OSError:
        return False


def serve(roots, eagerly):
    """Serve the tables of the layers in the site folders ``roots``; of several for a module, the first."""
    FINDER.eagerly = eagerly
    for root in roots:
        folder = root + "/" + FOLDER
        for name in sorted(os.listdir(folder)) if os.path.isdir(folder) else ():
            with open(folder + "/" + name, "rb") as source:
                for module, table in marshal.loads(source.read())["modules"].items():  # noqa: S302 - the tool's own
                    FINDER.tables.setdefault(module, table)
    if FINDER.tables and FINDER not in sys.meta_path:
        sys.meta_path.insert(0, FINDER)
