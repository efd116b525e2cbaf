"""Measures how long the import of each module takes, without what that imports.

Runs inside an interpreter that nothing else observes: CPython 3.6 and later, the standard library alone. What it takes
to find a module counts as its own, and so do the libraries that an extension module is linked against.
"""

import json
import sys
import threading
import time


class ImportTimes(object):
    """Stands first in sys.meta_path, and times what the finders and loaders behind it do."""

    def __init__(self):
        self._seconds = {}
        # ``inside``: for each import that the thread is at, the seconds that went into others within it.
        self._importing = threading.local()

    def find_spec(self, name, path=None, target=None):
        """Find a module as if this were not there, and time it; what its loader does is timed later."""
        return self._timed(name, self._find, name, path, target)

    def _find(self, name, path, target):
        behind = sys.meta_path
        for finder in list(behind[behind.index(self) + 1 :] if self in behind else behind):
            find = getattr(finder, "find_spec", None)
            spec = find(name, path, target) if find is not None else None
            if spec is not None:
                self._watch(name, spec.loader)
                return spec
        return None

    def _watch(self, name, loader):
        # A loader that is a class serves many modules; those are the interpreter's own, and take no time.
        if isinstance(loader, type):
            return
        for method in ("create_module", "exec_module"):
            original = getattr(loader, method, None)
            if original is not None:
                try:
                    setattr(loader, method, lambda subject, do=original: self._timed(name, do, subject))
                except AttributeError:
                    return

    def _timed(self, name, do, *arguments):
        inside = self._importing.__dict__.setdefault("inside", [])
        inside.append(0.0)
        begun = time.perf_counter()
        try:
            return do(*arguments)
        finally:
            passed = time.perf_counter() - begun
            self._seconds[name] = self._seconds.get(name, 0.0) + passed - inside.pop()
            if inside:
                inside[-1] += passed

    def write(self, path):
        """Write the seconds of each module as JSON."""
        with open(path, "w") as out:
            json.dump(dict(self._seconds), out)  # another thread may still import
