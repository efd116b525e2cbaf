"""The runtime in a layer: serves the modules and files that do not lie in their places.

Copied into the layer as the package ``_layer_minimizer``. Runs in the interpreter of the handler: CPython 3.6 and
later, with the standard library only. Files are served by the native runtime (``native``), which is loaded first;
what is in Python finds packed bytecode and loads stand-ins.
"""

import os
import sys

__all__ = ["Eager", "start"]


class Eager(object):
    """A block in which modules are loaded where they are imported, whatever PYTHON_LAZY_IMPORTS says (PEP 810).

    The import system calls what is loaded here, and could not import anything for it in turn.
    """

    def __enter__(self):
        self._mode = sys.get_lazy_imports() if hasattr(sys, "get_lazy_imports") else ""
        if self._mode:
            sys.set_lazy_imports("normal")

    def __exit__(self, *_exception):
        if self._mode:
            sys.set_lazy_imports(self._mode)


def start(root=None):
    """Serve the layers in the site folder ``root`` (by default the one that this package lies in), once."""
    with Eager():
        _start(root)


def _start(root):
    from . import check

    here = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    # Layers may lie in two folders, and what serves all of them lies packed in this one.
    roots = [here] if root is None or os.path.abspath(root) == here else [here, os.path.abspath(root)]
    for each in roots:
        check.begin(each)
    from . import finder

    new = [each for each in roots if finder.serve(each)]
    if any(os.path.exists(os.path.join(each, "_layer_minimizer", "order")) for each in new):
        from . import order

        order.serve(new)
    if any(os.path.exists(os.path.join(each, "_layer_minimizer", "standard")) for each in new):
        from . import standard

        standard.serve(new, Eager)
    if os.environ.get("AWS_LAMBDA_INITIALIZATION_TYPE") == "snap-start":
        from . import snapshot

        snapshot.watch()
