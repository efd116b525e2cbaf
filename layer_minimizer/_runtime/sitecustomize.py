"""Starts the layer's cold store where the layer merely stands in PYTHONPATH, before the program's first import.

The site customisation that the interpreter would have found without this file runs as usual.
"""

import os
import sys


def _begin():
    here = os.path.dirname(os.path.abspath(__file__))
    import _layer_minimizer

    _layer_minimizer.start(here)
    passed = _layer_minimizer.__dict__.setdefault("_customized", [])
    passed.append(os.path.realpath(here))
    return passed


def _chain(passed):
    """Run the next sitecustomize on sys.path that is not a layer's."""
    from importlib.machinery import PathFinder
    from importlib.util import module_from_spec

    entries = [entry for entry in sys.path if os.path.realpath(entry) not in passed]
    spec = PathFinder.find_spec("sitecustomize", entries)
    if spec is None or spec.loader is None:
        return
    # The import system, which is executing this file, gives what it finds in sys.modules.
    module = sys.modules["sitecustomize"] = module_from_spec(spec)
    spec.loader.exec_module(module)


_chain(_begin())
