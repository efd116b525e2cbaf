"""Starts the probe in every interpreter that inherits the environment, before the program's first import.

The folder of this file stands in PYTHONPATH. It is taken off sys.path again, and the site customisation that the
interpreter would have found without it runs as usual.
"""

import os
import sys


def _begin():
    here = os.path.dirname(os.path.abspath(__file__))
    sys.path[:] = [entry for entry in sys.path if os.path.abspath(entry) != here]
    settings = os.environ.get("LAYER_MINIMIZER_PROBE", "")
    if settings:
        log, stat = settings.rsplit(":", 1)
        path = os.path.join(os.path.dirname(here), "probe.py")
        probe = type(sys)("_layer_minimizer_probe")
        probe.__file__ = path
        with open(path, "rb") as source:
            exec(compile(source.read(), path, "exec"), probe.__dict__)
        sys.modules[probe.__name__] = probe
        probe.start(log, stat=stat == "1")
    return settings


def _chain():
    """Run the interpreter's own sitecustomize, if there is one."""
    own = sys.modules.pop("sitecustomize")
    try:
        import sitecustomize  # noqa: F401 - no longer this file: its folder is off sys.path
    except ImportError as exc:
        if exc.name != "sitecustomize":
            raise
    finally:
        # The import system, which is executing this file, expects to find the module that it put there.
        sys.modules.setdefault("sitecustomize", own)


_begin()
_chain()
