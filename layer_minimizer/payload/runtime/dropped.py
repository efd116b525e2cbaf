"""Says of a module that its distribution was left out, where there is no native runtime, which knows each file."""

import json
import os


def refuse_dropped(name, layers):
    """Refuse a top-level module whose distribution was left out.

    Raises:
        ModuleNotFoundError: a layer lacks it.
    """
    for layer in layers:
        stores = os.path.join(layer.root, "_layer_minimizer", "cold")
        for store in sorted(os.listdir(stores)) if os.path.isdir(stores) else ():
            with open(os.path.join(stores, store, "about.json"), "rb") as source:
                owner = json.loads(source.read().decode("utf-8"))["dropped"].get(name)
            if owner:
                raise ModuleNotFoundError(
                    "No module named %r: it belongs to %s, which was left out of this layer because no traced event "
                    "used it: build it with an event that does, or with --keep %s" % (name, owner, name),
                    name=name,
                )
