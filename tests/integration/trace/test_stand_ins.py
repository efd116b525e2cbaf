"""The search for stand-ins in real runs: what it may not replace."""

from __future__ import annotations

import functools
import json
import subprocess
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from layer_minimizer.environment.workload import load_workload
from layer_minimizer.execution.observed_run import Observer
from layer_minimizer.trace import module_groups, stand_in_search, tracer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

# Parts of used packages are only worth a stand-in from a certain size on.
PADDING = f"PADDING = '''{'x' * 20_000}'''\n"
KINDS = PADDING + "class Plain: x = 1\nclass Other: y = 2\ndef function(): return 3\n"
Find = "Callable[..., tuple[frozenset[str], frozenset[str]]]"


@pytest.fixture
def prepare(tmp_path: Path, each_env: Any, write: Callable[..., Path]) -> Any:
    """Install a package: ``prepare({path: source}, body)`` returns a function that makes searches in it."""

    def prepare(files: Mapping[str, str], body: str) -> Callable[..., stand_in_search.Search]:
        each_env.install("pkg", {path: textwrap.dedent(source) for path, source in files.items()})
        entry = write(tmp_path / "function", {"handler.py": body}) / "handler.py"
        (tmp_path / "event.json").write_text(json.dumps({"do": "value"}))
        runs = tracer.Tracer(each_env.describe(), (Observer.PROBE,), 60)
        first, study = runs.study(load_workload(entry), tmp_path / "first" / "run")
        groups = module_groups.candidates(study, first, ())
        search = functools.partial(stand_in_search.Search, runs, first, study, groups, 0.0, tmp_path / "search")
        return functools.partial(search, work=60, seconds=60)

    return prepare


@pytest.fixture
def find(prepare: Any) -> Find:
    """Search for stand-ins: ``find({path: source}, body)`` gives the groups found in a package, and all candidates.

    ``standard``: those in the standard library, too.
    """

    def find(files: Mapping[str, str], body: str, *, standard: bool = False) -> tuple[frozenset[str], frozenset[str]]:
        search = prepare(files, body)()
        found, candidates = search.find().groups, frozenset().union(*search.groups.values())
        return (found, candidates) if standard else (own(found), own(candidates))

    return find  # type: ignore[return-value]


def own(names: Iterable[str]) -> frozenset[str]:
    """Return the names of modules in the test's package."""
    return frozenset(name for name in names if name.partition(".")[0] == "pkg")


def with_imports(sources: Mapping[str, str]) -> tuple[dict[str, str], str]:
    """Return a module of a package for each source, by its path, and the statements that import them."""
    files = {f"pkg/m_{name}.py": PADDING + source + "\n" for name, source in sources.items()}
    return files, "".join(f"import pkg.m_{name}\n" for name in sources)


HANDLER = "import pkg\n\ndef handler(event, context):\n    return pkg.value()\n"
KEPT = {
    "binding": "from pkg.kinds import Plain, function\nHINTS = {Plain: 1, (Plain, 1): function}\n",
    "pattern": "from pkg.kinds import Plain\ndef f(x):\n    match x:\n        case Plain(x=1): return 1\n",
    "id": "from pkg.kinds import Plain\nBY_ID = {id(Plain): [1]}\n",
    "iterator": "from pkg.kinds import Plain\nMADE = map(Plain, [1])\n",
    "C code": "import atexit\nfrom pkg.kinds import function\natexit.register(function)\n",
    "hash of nested parts": """
        from pkg.kinds import Plain
        class Key:
            def __init__(self, kind): self.parts = [[kind]]
            def __hash__(self): return hash(self.parts[0][0])
            def __eq__(self, other): return self.parts == other.parts
        BY_KEY = {Key(Plain): 1}
    """,
    "remembered hash": """
        from pkg.kinds import Plain
        class Key:
            def __init__(self, kind): self.kind, self.hash = kind, hash(kind)
            def __hash__(self): return self.hash
            def __eq__(self, other): return self.kind == other.kind
        BY_KEY = {Key(Plain): 1}
    """,
}


@pytest.mark.parametrize("place", KEPT)
def test_where_a_placeholder_could_be_told_from_the_class_the_module_is_real(
    find: Any, each_env: Any, place: str
) -> None:
    version = each_env.describe().version
    if version < (3, 7):
        pytest.skip("it has no placeholders for classes")
    if place == "pattern" and version < (3, 10):
        pytest.skip("it has no match statement")
    files = {
        "pkg/__init__.py": "from pkg.base import value\n",
        "pkg/base.py": textwrap.dedent(KEPT[place]) + "def value(): return 7\n",
        "pkg/kinds.py": KINDS,
    }
    found, candidates = find(files, HANDLER)
    assert "pkg.kinds" in candidates
    assert ("pkg.kinds" in found) == (place == "binding")


CHANGES = {
    "nothing": "",
    "limit": "import sys; sys.setrecursionlimit(4321)",
    "codec": "import codecs; codecs.register(lambda name: None)",
    "variable": "import os; del os.environ['USERS_OWN']",
    "timeout": "import socket; socket.setdefaulttimeout(7)",
    "signal": "import signal; signal.signal(signal.SIGUSR1, signal.SIG_IGN)",
    "hook": "import sys\ndef hook(*error): pass\nsys.excepthook = hook",
    "pickling": "import copyreg\ndef reduce(x): return str, ()\ncopyreg.pickle(type(iter(())), reduce)",
    "adapter": "import decimal, sqlite3; sqlite3.register_adapter(decimal.Decimal, str)",
    "precision": "import decimal; decimal.getcontext().prec = 7",
    "locale": "import locale; locale.setlocale(locale.LC_NUMERIC, 'C.UTF-8')",
    "method": "import json\ndef default(self, o): return 1\njson.JSONEncoder.default = default",
    "finder": "import sys\nclass Finder: find_spec = lambda *a: None\nsys.meta_path.append(Finder())",
    "builtin": "import builtins; builtins.PKG = 1",
    "stack": "import threading; threading.stack_size(1 << 20)",
    "opener": "import urllib.request as r; r.install_opener(r.OpenerDirector())",
}


def test_a_module_that_changes_the_process_is_real(find: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("USERS_OWN", "kept")
    files, imports = with_imports(CHANGES)
    files["pkg/__init__.py"] = f"{imports}def value(): return 7\n"
    assert find(files, HANDLER)[0] == {"pkg.m_nothing"}


def test_a_module_that_sets_variables_is_replaced_with_them(prepare: Any) -> None:
    files, imports = with_imports(
        {
            "constant": "import os; os.environ.setdefault('PKG_MODE', 'a mode')",
            "computed": "import os; os.environ['PKG_HERE'] = os.path.dirname(__file__)",
        }
    )
    files["pkg/__init__.py"] = f"{imports}def value(): return 7\n"
    search = prepare(files, HANDLER)()
    found = search.find()
    assert own(found.groups) == {"pkg.m_constant", "pkg.m_computed"}
    assert found.environ == {"pkg.m_constant": ("PKG_MODE=a mode",), "pkg.m_computed": ("PKG_HERE",)}
    confirmed = search.confirm(found, search.tracer).stand_ins
    assert {each.name: each.table.get("environ") for each in confirmed if each.path} == {
        "pkg.m_constant": ["PKG_MODE=a mode"],
        "pkg.m_computed": ["PKG_HERE"],
    }


PLACES = {
    "nothing": "from pkg.core import conf\ndef function(): conf.level = 4",
    "placeholder": "def bound(): pass",
    "docstring": "from pkg.core import Base\nBase.__doc__ = 'documented'",
    "instance": "from pkg.core import conf\nclass Route: pass\nconf.route = Route()",
    "empty": "from pkg.core import empty\nclass Route: pass\nempty.route = Route()",
    "constant": "from pkg.core import conf\nconf.level = 5",
    "new_method": "from pkg.core import Base\ndef new(self): return 1\nBase.new = new",
    "method": "from pkg.core import Base\ndef old(self): return 1\nBase.old = old",
    "property": "from pkg.core import Base\nsetattr(Base, 'size', property(lambda self: 2))",
    "class_constant": "from pkg.core import Base\nBase.count = 7",
    "function": "from pkg import core\ndef hook(): return 1\ncore.hook = hook",
    "name": "from pkg import core\ncore.LIMIT = 9",
}


def test_a_module_that_changes_what_others_hold_is_real(find: Any) -> None:
    files, imports = with_imports(PLACES)
    files["pkg/core.py"] = """
        LIMIT = 3
        class Conf: level, route = 1, None
        class Base:
            count = size = 1
            def old(self): return 0
        conf, empty = Conf(), Conf()
        def hook(): return 0
    """
    binding = "from pkg.m_placeholder import bound\nfrom pkg.core import conf, Base\nconf.bound = Base.bound = bound\n"
    files["pkg/__init__.py"] = f"import pkg.core\n{imports}{binding}def value(): return pkg.core.LIMIT and 7\n"
    assert find(files, HANDLER)[0] == {"pkg.m_nothing", "pkg.m_placeholder", "pkg.m_docstring"}


def test_what_unfit_modules_import_is_found_unfit_in_the_same_check(prepare: Any) -> None:
    filler = PADDING + "import pkg\npkg.FILLED.append(__name__)\n"
    files = {
        "pkg/__init__.py": "FILLED = []\n\ndef value():\n    return 4\n",
        "m_a.py": "import m_b\n" + filler,
        "m_b.py": "import m_c\n" + filler,
        "m_c.py": filler,
        "m_d.py": "import m_e\n" + PADDING,
        "m_e.py": filler,
    }
    found = prepare(files, "import m_a, m_d\n" + HANDLER)().find()
    # What only stand-ins import is not imported as long as nothing loads these.
    assert {name for name in found.groups if name.startswith("m_")} == {"m_d", "m_e"}
    assert found.refused == {"m_a", "m_b", "m_c"}
    assert found.runs == 4  # all, and a check of these; what is left, and a check


def test_a_package_whose_import_failed_after_that_of_a_module_in_it(find: Any) -> None:
    """The table of modules keeps the module and not the package."""
    files = {
        "pkg/__init__.py": """
            try:
                import pkg.codec
            except ImportError:
                pass
            import sys
            def value(): return ["pkg.codec" in sys.modules, "pkg.codec.tables" in sys.modules]
        """,
        "pkg/codec/__init__.py": "from pkg.codec import tables\nimport no_such_library\n",
        "pkg/codec/tables.py": PADDING,
    }
    _, candidates = find(files, HANDLER)
    assert candidates == {"pkg.codec.tables"}


def test_modules_of_the_standard_library_are_replaced_if_nothing_needs_them(find: Any, each_env: Any) -> None:
    files = {
        "pkg/__init__.py": """
            import argparse, calendar, html.parser, multiprocessing, plistlib, threading, wsgiref.util
            class Parser(html.parser.HTMLParser): pass
            LEAP = calendar.isleap(2024)
            def value(): return plistlib.loads(plistlib.dumps({"a": 1})) and 7
        """,
    }
    found, candidates = find(files, HANDLER, standard=True)
    if each_env.describe().version < (3, 7):
        assert not found | candidates
        return
    assert found >= {"argparse", "wsgiref"}
    assert candidates >= {"argparse", "calendar", "html.parser", "wsgiref.util"}
    assert found.isdisjoint({"calendar", "html", "plistlib"})
    assert not {name.partition(".")[0] for name in candidates} & {"multiprocessing", "pkg", "plistlib", "threading"}


# As mypyc's modules do, this one runs all of its code while it is created, not when it is executed.
CREATED = r"""
#include <Python.h>
static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, "made", 0, -1, 0};
static const char CODE[] =
    "import os, sys\n"
    "__path__ = [folder + '/made' for folder in sys.path if os.path.isdir(folder + '/made')]\n"
    "__file__ = __path__[0] + '/__init__.abi3.so'\n"
    "import made.part\n"
    "def function(): return 3\n";
PyMODINIT_FUNC PyInit_made(void) {
    PyObject *module = PyModule_Create(&definition), *names = PyModule_GetDict(module);
    PyDict_SetItemString(PyImport_GetModuleDict(), "made", module);
    PyDict_SetItemString(names, "__builtins__", PyEval_GetBuiltins());
    return PyRun_String(CODE, Py_file_input, names, names) ? module : NULL;
}
"""


def test_a_module_that_runs_its_code_while_it_is_created_is_described_when_it_is_complete(
    each_env: Any, write: Callable[..., Path], tmp_path: Path
) -> None:
    include = subprocess.run(
        [each_env.python, "-c", "import sysconfig; print(sysconfig.get_paths()['include'])"],
        check=True, capture_output=True, text=True,
    ).stdout.strip()  # fmt: skip
    if not Path(include, "Python.h").exists():
        pytest.skip("this Python has no headers")
    each_env.install("made", {"made/part.py": ""})
    library = each_env.site / "made" / "__init__.abi3.so"
    subprocess.run(
        ["gcc", "-shared", "-fPIC", f"-I{include}", "-x", "c", "-", "-o", library], input=CREATED.encode(), check=True
    )
    body = "import made\n\ndef handler(event, context):\n    return 1\n"
    entry = write(tmp_path / "function", {"handler.py": body}) / "handler.py"
    _, study = tracer.Tracer(each_env.describe(), (Observer.PROBE,), 60).study(load_workload(entry), tmp_path / "run")
    assert {"part", "function"} <= study.tables["made"]["names"].keys()


def test_a_module_that_changes_another_and_for_which_there_is_no_room_is_loaded_later(prepare: Any) -> None:
    files = {
        "pkg/__init__.py": "import pkg.core\nimport pkg.late\ndef value(): return 7\n",
        "pkg/core.py": "level = 1\ndef used(): return 2\n",
        "pkg/late/__init__.py": "import pkg.core\nimport pkg.late.inner\npkg.core.level = 5\n",
        "pkg/late/inner.py": PADDING,
    }
    body = "import pkg, pkg.core\n\ndef handler(event, context):\n    return [pkg.value(), pkg.core.used()]\n"
    search = prepare(files, body)
    found = {room: search(max_registry_bytes=room).find() for room in (len(PADDING), 1 << 20)}
    assert own(found[1 << 20].groups) == {"pkg.late.inner"}
    assert own(found[len(PADDING)].groups) == {"pkg.late"}
    assert found[len(PADDING)].fills == {"pkg.late": ("pkg",)}


FUTURES = """
import asyncio, pkg.kinds

async def wait():
    for _ in range(3):
        loop = asyncio.get_event_loop()
        future = loop.create_future()
        loop.call_soon(future.set_result, 1)
        await future

def handler(event, context):
    asyncio.new_event_loop().run_until_complete(wait())
    return pkg.value()
"""


def test_a_check_does_not_touch_what_extension_modules_have_freed(
    prepare: Any, caplog: pytest.LogCaptureFixture
) -> None:
    # CPython 3.12 would not end: _asyncio tells of iterators that it keeps for later.
    files = {"pkg/__init__.py": "def value(): return 5\n", "pkg/kinds.py": KINDS}
    search = prepare(files, FUTURES)()
    assert own(search.find().groups) == {"pkg.kinds"}
    assert "used unchecked" not in caplog.text
