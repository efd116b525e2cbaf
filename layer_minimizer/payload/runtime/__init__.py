"""The runtime in a layer: serves the modules and files that do not lie in their places.

Copied into the layer as the package ``_layer_minimizer``. Runs in the interpreter of the handler: CPython 3.6 and
later, with the standard library only. Files are served by the native runtime (``native``), which is loaded first;
what is in Python finds packed bytecode and loads stand-ins.
"""

import os

__all__ = ["start"]


def start(root=None):
    """Serve the layers in the site folder ``root`` (by default the one that this package lies in), once."""
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
    if os.environ.get("AWS_LAMBDA_INITIALIZATION_TYPE") == "snap-start":
        from . import snapshot

        snapshot.watch()
