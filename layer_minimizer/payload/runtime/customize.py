"""What the layer's ``sitecustomize`` does, which stands in PYTHONPATH as a source: this is bytecode."""

import os
import sys

# importlib.machinery and importlib.util have the same, and import more for it.
from _frozen_importlib import module_from_spec
from _frozen_importlib_external import PathFinder

from . import check, start

_passed = []  # the real paths of the layers whose sitecustomize has run


def begin(file):
    """Start the cold store in the folder of ``file``, then run the next ``sitecustomize`` that is not a layer's.

    Python reads ``.pth`` files in site-packages alone. In the environment it has read those of the packages, so they
    are read here if the folder merely stands in PYTHONPATH.
    """
    here = os.path.dirname(os.path.abspath(file))
    was_read = check.has_begun(here)
    start(here)
    if not was_read:
        _read_pth_files(here)
    _passed.append(check.real_path(here))
    spec = _next(here)
    if spec is None or spec.loader is None:
        return
    # The import system, which is executing that file, returns what it finds in sys.modules.
    module = sys.modules["sitecustomize"] = module_from_spec(spec)
    spec.loader.exec_module(module)


def _next(here):
    """Return the spec of the site customisation that would be found without that of the layers so far, or None."""
    folders = [entry for entry in sys.path if entry != here]
    spec = PathFinder.find_spec("sitecustomize", folders)
    if spec is not None and spec.origin and os.path.realpath(os.path.dirname(spec.origin)) in _passed:
        # A layer's again: its folder stands in sys.path under another name, or there are several.
        folders = [entry for entry in folders if os.path.realpath(entry) not in _passed]
        spec = PathFinder.find_spec("sitecustomize", folders)
    return spec


def _read_pth_files(folder):
    own = ("layer_minimizer.pth", "layer_minimizer.start")
    names = sorted(name for name in os.listdir(folder) if name.endswith((".pth", ".start")) and name not in own)
    if not names:
        return
    import site

    if hasattr(site, "StartupState"):  # from 3.15 on
        state = site.StartupState()
        state.addsitedir(folder)
        state.process()
        return
    for name in names:
        if name.endswith(".pth"):
            site.addpackage(folder, name, None)
