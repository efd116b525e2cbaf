"""Finds what was left out: a distribution by its metadata, or by a module where no native runtime knows the files."""

import json
import os
import re


def refuse_dropped(name, layers):
    """Refuse a top-level module whose distribution was left out.

    Raises:
        ModuleNotFoundError: a layer lacks it.
    """
    for _layer, about in _stores(layers):
        owner = about["dropped"].get(name)
        if owner:
            raise ModuleNotFoundError(
                "No module named %r: it belongs to %s, which was left out of this layer because no traced event "
                "used it: build it with an event that does, or with --keep %s" % (name, owner, name),
                name=name,
            )


def metadata(name, layers):
    """Return the paths of the metadata of a distribution that layers lack."""
    wanted = _normalized(name)
    return [
        os.path.join(layer.root, path)
        for layer, about in _stores(layers)
        for path in about.get("metadata", ())
        if _normalized(path.rpartition("/")[0].rpartition(".")[0].partition("-")[0]) == wanted
    ]


def _normalized(name):
    return re.sub("[-_.]+", "-", name).lower()


def _stores(layers):
    for layer in layers:
        stores = os.path.join(layer.root, "_layer_minimizer", "cold")
        for store in sorted(os.listdir(stores)) if os.path.isdir(stores) else ():
            with open(os.path.join(stores, store, "about.json"), "rb") as source:
                yield layer, json.loads(source.read().decode("utf-8"))
