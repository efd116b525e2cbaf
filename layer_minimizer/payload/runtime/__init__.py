"""The runtime in a layer: serves the modules and files in the cold store of the layer.

Copied into the layer as the package ``_layer_minimizer``. Runs in the interpreter of the handler: CPython 3.6 and
later, with the standard library only. Nothing is imported or read before a module or file is missing.
"""

import os

__all__ = ["start"]


def start(root=None):
    """Serve the cold store of the site folder ``root`` (by default the one that this package lies in), once."""
    from . import check

    here = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    # Layers may lie in two folders, and what serves all of them lies packed in this one.
    roots = [here] if root is None or os.path.abspath(root) == here else [here, os.path.abspath(root)]
    for each in roots:
        check.begin(each)
    from . import files, finder

    new = [each for each in roots if finder.serve(each)]
    if new:
        files.install()
