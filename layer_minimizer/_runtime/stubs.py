"""Makes a module of a layer stand in for the one that its place is kept for."""

import json
import os
import sys

from . import note, standin, start

_tables = {}  # by site folder


def stand_in(name, last):
    """Turn the module ``name``, which is being imported from a layer, into a stand-in. ``last``: where it lay there."""
    module = sys.modules[name]
    root = module.__file__[: -len(last) - 1]
    if root not in _tables:
        start(root)
        standin.report_to(_tell)
        with open(os.path.join(root, "_layer_minimizer", "stand_ins.json"), "rb") as source:
            _tables[root] = json.loads(source.read().decode("utf-8"))
        standin.plan(_tables[root]["modules"])
    known = _tables[root]
    standin.stand_in(module, known["modules"][name], lambda: _real(name, last, root, known))


def _tell(text):
    """Pass on which modules wake; that others are stood in for is as it should be."""
    if text.startswith("woke "):
        note(text)


def _real(name, last, root, known):
    """Give the spec of the real module, which lies in the cold store."""
    from . import finder, loaders

    layer = next((layer for layer in finder.COLD.layers if root in layer.tops), None)
    folder = last.rpartition("/")[0]
    if last.endswith("/__init__.pyc"):
        folder = folder.rpartition("/")[0]
    spec = loaders.spec_at(name, layer, folder) if known["kept"] and layer is not None else None
    if spec is None or spec.loader is None:
        raise ModuleNotFoundError(
            "No module named %r: no traced event needed it, and it was left out of the layer %s; "
            "build the layer with an event that does, with --keep %s, or with --cold keep"
            % (name, known["layer"], name.split(".")[0]),
            name=name,
        )
    return spec
