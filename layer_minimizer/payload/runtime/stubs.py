"""Turns stub modules of a layer into stand-ins."""

import os
import sys

from . import Eager, start

_tables = {}  # by site folder, and by the name of their file


def stand_in(name, last, tables):
    """Turn the module ``name``, which is being imported from a layer, into a stand-in.

    ``last``: where it lay there; ``tables``: which of the files with tables knows it. Each layer brings its own.
    """
    module = sys.modules[name]
    root = _root_of(module, last)
    if root not in _tables:
        start(root)
    with Eager():
        from . import standin  # packed: found by what has just been started
        from .messages import tell

        if root not in _tables:
            standin.report_to(tell)
            _tables[root] = _read_tables(os.path.join(root, "_layer_minimizer", "stand_ins"))
            for known in _tables[root].values():
                standin.plan(known["modules"])
    known = _tables[root][tables]
    standin.stand_in(module, known["modules"][name], lambda: _real(name, last, root, known))


def unpack(name, last):
    """Run the packed module ``name``, which is being imported from the file ``last`` that stands there for it.

    For layers that have not been started: where they are, the packed module itself is found.
    """
    module = sys.modules[name]
    root = _root_of(module, last)
    start(root)
    layer, folder = _place(last, root)
    spec = module.__spec__ = layer.packed.find(name, folder)
    module.__loader__, module.__file__, module.__cached__ = spec.loader, spec.origin, spec.cached
    spec.loader.exec_module(module)


def _root_of(module, last):
    """Return the site folder of a module whose bytecode lies in ``last`` there, beside the file that it names."""
    parts = module.__file__.split("/")
    return "/".join(parts[: -last.count("/") - 1])


def _read_tables(folder):
    from .packed import load_mapping  # loaded: stand-ins lie packed

    found = {}
    for name in sorted(os.listdir(folder)):
        with open(os.path.join(folder, name), "rb") as source:
            found[name] = load_mapping(source.read())
    return found


def _place(last, root):
    """Return the layer served in ``root``, or None, and the folder of the module ``last``."""
    from . import finder

    folder = last.rpartition("/")[0]
    if last.endswith("/__init__.pyc"):
        folder = folder.rpartition("/")[0]
    return next((layer for layer in finder.LAYERS.layers if root in layer.tops), None), folder


def _real(name, last, root, known):
    """Return the spec of the real module, which is cold, or lies in another layer."""
    from . import finder

    folder = _place(last, root)[1]
    folder = root + "/" + folder if folder else root
    spec = finder.find_real(name, folder)
    if spec is None or spec.loader is None:
        # Opened: os.stat of a source says nothing where bytecode lies beside it, as the stub does.
        reason = finder.why_left_out(name, folder, lambda path: open(path).close()) or (
            "no traced event needed it, and it was left out of the layer %s: build the layer with an event that does, "
            "with --keep %s, or with --cold keep" % (known["layer"], name)
        )
        raise ModuleNotFoundError("No module named %r: %s" % (name, reason), name=name)
    return spec
