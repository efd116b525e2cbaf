"""Runs a program with modules that are stood in for, on any CPython from 3.6 on.

argv[1] is a JSON file with: ``standin`` and ``standins`` (the files of these names), ``site`` (the folder of the
modules), ``describe`` (modules to describe, or null), ``out`` (where the tables, or the reports of a run, go),
``tables`` (what to stand in for, or null), ``program`` (code).
"""

# ruff: noqa: ANN001, ANN201 - 3.6 knows no annotations of today's kinds

import importlib
import json
import os
import sys


def load(path, name):
    """Load a file alone, as a traced program does."""
    module = type(sys)(name)
    module.__file__ = path
    with open(path, "rb") as source:
        exec(compile(source.read(), path, "exec"), module.__dict__)
    sys.modules[name] = module
    return module


def describe(settings):
    """Import modules, as a program does, and give the tables of all that lie in the site folder."""
    exec(compile(settings["program"], "program.py", "exec"), {})
    for name in settings["describe"]:
        importlib.import_module(name)
    standin = load(settings["standin"], "_layer_minimizer_standin")
    tables = {}
    for name, module in list(sys.modules.items()):
        if type(module) is type(sys) and str(module.__dict__.get("__file__")).startswith(settings["site"] + "/"):
            tables[name] = standin.describe(module)
    return tables


def main():
    with open(sys.argv[1]) as source:
        settings = json.load(source)
    if settings["site"] not in sys.path:
        sys.path.insert(0, settings["site"])
    reports = []
    if settings["describe"] is not None:
        reports = describe(settings)
        settings["program"] = ""
    elif settings["tables"] is not None:
        standin = load(settings["standin"], "_layer_minimizer_standin")
        standin.report_to(reports.append)
        load(os.path.join(os.path.dirname(settings["standins"]), "probe.py"), "_layer_minimizer_probe")
        finders = load(settings["standins"], "_layer_minimizer_standins")
        sys.meta_path.insert(1, finders.TrialFinder(settings["tables"], {}, standin, reports.append))
    try:
        main_names = sys.modules["__main__"].__dict__
        for name in ("describe", "load", "main"):
            del main_names[name]
        exec(compile(settings["program"], "program.py", "exec"), main_names)
    finally:
        with open(settings["out"], "w") as out:
            json.dump(reports, out)


main()
