"""Uses the bytecode that is installed in a run that keeps bytecode in a folder of its own.

Runs inside the traced interpreter: CPython 3.8 and later, the standard library alone.
"""

import os
import sys

from _layer_minimizer_probe import ask_behind


class InstalledBytecode(object):
    """A finder that links the bytecode of a module that is found into the folder of this run (PYTHONPYCACHEPREFIX).

    Otherwise the interpreter would compile every module, since it looks nowhere else. It checks bytecode behind a link
    as any other; if it compiles a module after all, its new file replaces the link, and never what that leads to.
    """

    def find_spec(self, name, path=None, target=None):
        """Ask the finders behind this one."""
        spec = ask_behind(self, name, path, target)
        if spec is not None:
            _link(spec.origin, getattr(spec, "cached", None))
        return spec


def _link(source, cached):
    if not (isinstance(source, str) and isinstance(cached, str) and cached.startswith(sys.pycache_prefix)):
        return
    installed = os.path.join(os.path.dirname(source), "__pycache__", os.path.basename(cached))
    try:
        os.stat(installed)
        os.makedirs(os.path.dirname(cached), exist_ok=True)
        os.symlink(installed, cached)
    except OSError:
        pass  # there is none, or an earlier run has made one
