"""Records the arguments and results of the functions in repair.py and budget.py during real runs.

Run ``python -m tests.support.record_attempts`` in the checkout. Each scenario has a handler that behaves differently on
its layer than in the trace, or a layer that is too large.
"""

from __future__ import annotations

import dataclasses
import json
import random
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path
from typing import Any

from layer_minimizer.core.errors import MinimizeError
from layer_minimizer.pack import budget
from layer_minimizer.pipeline import minimize
from layer_minimizer.settings import Settings
from layer_minimizer.verify import repair
from tests.support.attempts import RECORDED, plain
from tests.support.sites import install, write_files

# Defines in a handler whether it runs on the layer alone.
# Tracebacks name its files; where they lie says something of the machine that recorded.
STDLIB = sysconfig.get_path("stdlib")
HERE = "\nimport base\nON_LAYER = not base.__file__.startswith({env!r})\n"
BASE = {"base.py": '"""The base."""\n'}


def handler(code: str, env: Path) -> str:
    lines = "".join(f"    {line}\n" for line in code.splitlines())
    return f"import json{HERE.format(env=str(env))}\ndef handler(event, context):\n{lines}"


PKG = {
    "pkg/__init__.py": "",
    "pkg/one.py": "import pkg.helper\nX = 1\n",
    "pkg/helper.py": "H = 1\n",
    "pkg/two.py": "X = 2\n",
    "pkg/three.py": "X = 3\n",
    "pkg/data.txt": "data",
}
SOURCES = {
    "texts/__init__.py": "",
    "texts/a.py": "import inspect, sys\ndef own():\n    return len(inspect.getsource(sys.modules[__name__])) > 0\n",
    "texts/b.py": "import inspect, sys\ndef own():\n    return len(inspect.getsource(sys.modules[__name__])) > 0\n",
}
NEEDS_DOCSTRING = {"docs/__init__.py": '"""Docs."""\nif not __doc__:\n    raise RuntimeError("no docstring")\n'}
FUNCTION = "long f{0}(long x) {{ volatile long y = x + {0};\n{1}return y; }}\n"
LIBRARY = """\
import ctypes, os, thing
library = ctypes.CDLL(os.path.join(os.path.dirname(thing.__file__), "libthing.so"))
getattr(library, "f59" if ON_LAYER else "f3")(5)
return 1
"""


def library(folder: Path) -> bytes:
    chance = random.Random(7)
    with (folder / "thing.c").open("w") as code:
        for i in range(60):
            lines = (f"y = y * {chance.getrandbits(30)} + {chance.getrandbits(30)};\n" for _ in range(600))
            code.write(FUNCTION.format(i, "".join(lines)))
    subprocess.run(["gcc", "-O0", "-shared", "-fPIC", folder / "thing.c", "-o", folder / "thing.so"], check=True)
    return (folder / "thing.so").read_bytes()


# Handler, distributions in addition to ``base``, options, and files next to the handler.
SCENARIOS: dict[str, tuple[str, dict[str, dict[str, Any]], dict[str, Any], dict[str, str]]] = {
    "missed_modules": (
        "import pkg\nfor name in ['one', 'two'] if ON_LAYER else []:\n    __import__('pkg.' + name)\nreturn 1",
        {"pkg": PKG},
        {"cold": "drop", "runs": 1},
        {},
    ),
    "excluded": (
        "if ON_LAYER:\n    import pkg.one\nreturn 1",
        {"pkg": PKG},
        {"cold": "drop", "runs": 1, "exclude": ("pkg/*.py",)},
        {},
    ),
    "other_result": ("return ON_LAYER", {"pkg": PKG}, {"cold": "drop", "runs": 1}, {}),
    "nondeterministic": ("import random\nreturn random.random()", {"pkg": PKG}, {}, {}),
    "docstrings": ("import docs\nreturn 1", {"docs": NEEDS_DOCSTRING}, {"strip_docstrings": True}, {}),
    "sources": (
        "import texts.a, texts.b\nON_LAYER and texts.a.own() and texts.b.own()\nreturn 1",
        {"texts": SOURCES},
        {"cold": "drop", "runs": 1},
        {},
    ),
    "left_out_of_the_function": (
        "import os\nif ON_LAYER:\n    open(os.path.join(os.path.dirname(__file__), 'late.txt')).close()\nreturn 1",
        {"pkg": PKG},
        {"function_zip": "function.zip", "bytecode": "both"},
        {"late.txt": "late"},
    ),
    "pages": (
        LIBRARY,
        {"thing": {"thing/__init__.py": "", "thing/libthing.so": library}},
        {"cold": "drop", "runs": 1},
        {},
    ),
    "too_large": (
        "import pkg.one\nreturn 1",
        {
            "pkg": {**PKG, "pkg/one.py": "import pkg.helper\ndef late():\n    import extra\n"},
            "extra": {"extra/__init__.py": "".join(f"V{i} = {i * 7919}\n" for i in range(2000))},
        },
        {"max_size": "-20000"},
        {},
    ),
    "too_large_auto": (
        LIBRARY.replace('"f59" if ON_LAYER else "f3"', '"f3"'),
        {"thing": {"thing/__init__.py": "", "thing/libthing.so": library, "thing/late.txt": "late" * 999}},
        {"cold": "auto", "max_size": "-30000"},
        {},
    ),
    "far_too_large": ("import pkg.one\nreturn 1", {"pkg": PKG}, {"max_size": 1000}, {}),
}


def recorded(calls: list[dict[str, Any]], module: Any, name: str, describe: Any) -> Any:
    """Replace a function by one that also records its calls, and return the original function."""
    real = getattr(module, name)

    def call(*args: Any) -> Any:
        row, args = describe(*args)
        row["before"], row["after"], row["refused"] = plain(args[0]), None, ""
        calls.append(row)
        try:
            after = real(*args)
        except MinimizeError as exc:
            row["refused"] = str(exc)
            raise
        row["after"] = plain(after)
        return after

    setattr(module, name, call)
    return real


def chosen(settings: Settings) -> dict[str, Any]:
    defaults = Settings()
    values = {field.name: getattr(settings, field.name) for field in dataclasses.fields(settings)}
    return {
        k: plain(v) for k, v in values.items() if v != getattr(defaults, k) and k not in ("python", "runtime_library")
    }


def describe_repair(adjustments: Any, attempt: Any, tried: Any) -> Any:
    row: dict[str, Any] = {
        "attempt": {**plain(attempt), "seconds": 0.0},
        "plan": tried.plan.to_json(),
        "trace": tried.trace.to_json(),
        "settings": chosen(tried.settings),
        "provided": dict(tried.provided),
        "libraries": plain(tried.libraries),
        "left_out": tried.left_out,
        "imports": [],
        "nondeterministic": "",
    }

    def imports(paths: Any) -> Any:
        found = tried.imports(paths)
        row["imports"].append([list(paths), sorted(found)])
        return found

    def check_deterministic() -> None:
        try:
            tried.check_deterministic()
        except MinimizeError as exc:
            row["nondeterministic"] = str(exc)
            raise

    return row, (
        adjustments,
        attempt,
        dataclasses.replace(tried, imports=imports, check_deterministic=check_deterministic),
    )


def describe_reduction(adjustments: Any, plan: Any, layer: Any, settings: Any, reserved: Any) -> Any:
    row = {
        "plan": plan.to_json(),
        "layer": plain(layer),
        "settings": chosen(settings),
        "reserved": plain(reserved),
    }
    return row, (adjustments, plan, layer, settings, reserved)


def run(name: str, folder: Path) -> list[dict[str, Any]]:
    code, distributions, options, more_files = SCENARIOS[name]
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder / "env"], check=True)
    site = next((folder / "env/lib").glob("python3*/site-packages"))
    install(site, "base", BASE)
    for distribution, files in distributions.items():
        install(site, distribution, {path: made(folder) if callable(made) else made for path, made in files.items()})
    write_files(folder / "task", {"handler.py": handler(code, folder / "env"), **more_files})
    options = {"python": str(folder / "env/bin/python"), "effort": 0.0, "observe": "probe", **options}
    if "function_zip" in options:
        options["function_zip"] = folder / options["function_zip"]
    make = {"entry": folder / "task/handler.py", "output": folder / "layer.zip"}
    if isinstance(options.get("max_size"), str):
        full = minimize(**make, **{k: v for k, v in options.items() if k != "max_size"})
        options["max_size"] = full.archive.unzipped_bytes + int(options["max_size"])
    calls: list[dict[str, Any]] = []
    recorded_functions = (
        (repair, "learn", recorded(calls, repair, "learn", describe_repair)),
        (budget, "adjust_to_limit", recorded(calls, budget, "adjust_to_limit", describe_reduction)),
    )
    try:
        minimize(**make, **options)
    except MinimizeError as exc:
        print(f"{name}: {exc}")  # noqa: T201
    finally:
        for module, each, real in recorded_functions:
            setattr(module, each, real)
    return calls


def main() -> None:
    if not sys.argv[1:]:
        shutil.rmtree(RECORDED, ignore_errors=True)
    RECORDED.mkdir(exist_ok=True)
    for name in sys.argv[1:] or SCENARIOS:
        with tempfile.TemporaryDirectory() as folder:
            calls = run(name, Path(folder).resolve())
            text = "[\n" + ",\n".join(json.dumps(row) for row in calls) + "\n]\n"
            (RECORDED / f"{name}.json").write_text(
                text.replace(str(Path(folder).resolve()), "/recorded").replace(f"{STDLIB}/", "/python/lib/")
            )
            print(name, len(calls), "calls,", len(text), "bytes")  # noqa: T201


if __name__ == "__main__":
    main()
