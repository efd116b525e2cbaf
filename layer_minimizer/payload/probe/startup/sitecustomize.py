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
        probe = _load(here, "probe")
        probe.start(log, stat=stat == "1")
        tables = os.environ.get("LAYER_MINIMIZER_STAND_INS", "")
        if tables:
            _stand_in(here, tables, probe)


def _load(here, name):
    """Load a file of the probe's folder, which is not on sys.path, as ``_layer_minimizer_NAME``."""
    path = os.path.join(os.path.dirname(here), name + ".py")
    module = type(sys)("_layer_minimizer_" + name)
    module.__file__ = path
    with open(path, "rb") as source:
        exec(compile(source.read(), path, "exec"), module.__dict__)
    sys.modules[module.__name__] = module
    return module


def _stand_in(here, tables, probe):
    """Let the modules of the file ``tables`` be stood in for; the probe, which comes first, sees them asked for."""
    import json

    with open(tables) as source:
        known = json.load(source)
    standin = _load(here, "standin")
    standin.report_to(probe.note)
    members = []

    def find_member(module, name, method):
        if not members:
            with open(known["classes"]) as source:
                members.append(json.load(source))
        described = members[0].get(module, {}).get(name)
        if described is None or method in described["names"]:
            return described and described["methods"].get(method)
        return False

    standin.know_members(find_member)
    finder = _load(here, "standins").TrialFinder(known["tables"], known["expected"], standin, probe.note)
    sys.meta_path.insert(1, finder)


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
