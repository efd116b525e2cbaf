"""Serves, inside a layer, the modules and files that went into its cold store instead of being laid out.

Copied into the layer as the package ``_layer_minimizer``. Runs in the handler's interpreter, so: CPython 3.6 and
later, the standard library alone, and nothing is imported or read before something is missing.
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
