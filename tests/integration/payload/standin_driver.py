"""Runs a program with modules that are stood in for, on any CPython from 3.6 on.

argv[1] is a JSON file with: ``probe`` (the folder of the probe), ``site`` (the folder of the modules), ``describe``
(modules to describe, or null), ``out`` (where the tables, or the reports of a run, go), ``tables`` (what to stand in
for, or null), ``program`` (code).
"""

# ruff: noqa: ANN001, ANN201 - 3.6 knows no annotations of today's kinds

import importlib
import json
import sys


def loading_of(folder):
    """Return what loads the probe's files, as a traced program does."""
    sys.path.insert(0, folder)
    try:
        return importlib.import_module("layer_minimizer_loading")
    finally:
        sys.path.remove(folder)


def describe(settings):
    """Import modules, as a program does, and give the tables of all that lie in the site folder."""
    exec(compile(settings["program"], "program.py", "exec"), {})
    for name in settings["describe"]:
        importlib.import_module(name)
    loading = loading_of(settings["probe"])
    loading.load_stand_in_parts("standin_state")
    describe = loading.load_probe_file("tables").describe
    tables = {}
    for name, module in list(sys.modules.items()):
        if type(module) is type(sys) and str(module.__dict__.get("__file__")).startswith(settings["site"] + "/"):
            tables[name] = describe(module)
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
        loading = loading_of(settings["probe"])
        standin = loading.load_stand_in_parts()
        standin.report_to(reports.append)
        loading.load_probe_file("probe")
        finders = loading.load_probe_file("standins")
        tables = {name: json.dumps(table) for name, table in settings["tables"].items()}
        sys.meta_path.insert(1, finders.TrialFinder(tables, {}, standin, reports.append))
    try:
        main_names = sys.modules["__main__"].__dict__
        for name in ("describe", "loading_of", "main"):
            del main_names[name]
        exec(compile(settings["program"], "program.py", "exec"), main_names)
    finally:
        with open(settings["out"], "w") as out:
            json.dump(reports, out)


main()
