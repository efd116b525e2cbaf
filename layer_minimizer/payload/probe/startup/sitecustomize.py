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
        log, options = settings.rsplit(":", 1)
        loading = _import_from(os.path.dirname(here))
        probe = loading.load_probe_file("probe")
        probe.start(log, options)
        if "b" in options and sys.pycache_prefix:
            sys.meta_path.insert(1, loading.load_probe_file("installed").InstalledBytecode())
        tables = os.environ.get("LAYER_MINIMIZER_STAND_INS", "")
        if tables:
            _stand_in(loading, tables, probe)


def _import_from(folder):
    """Return what loads the other files of the probe's folder."""
    sys.path.insert(0, folder)
    try:
        import layer_minimizer_loading
    finally:
        sys.path.remove(folder)
    return layer_minimizer_loading


def _stand_in(loading, tables, probe):
    """Replace the modules of the file ``tables`` by stand-ins; the probe comes first and sees their imports."""
    import json

    with open(tables) as source:
        known = json.loads(source.readline())
        lines = [line.split("\t", 1) for line in source]
    described = {json.loads(name): table for name, table in lines}
    standin = loading.load_stand_in_parts()
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
    finder = loading.load_probe_file("standins").TrialFinder(described, known["expected"], standin, probe.note)
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


def _order():
    """Change the order in which folders are listed: last, around all that a layer's runtime does to listings."""
    settings = os.environ.get("LAYER_MINIMIZER_LISTING", "")
    if settings:
        loading = sys.modules["layer_minimizer_loading"]
        loading.load_probe_file("listing").start(settings, loading.load_probe_file("order"))


_begin()
_chain()
_order()
