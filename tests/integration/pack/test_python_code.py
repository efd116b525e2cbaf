"""How Python code is shipped by default (stand-ins, cold store, bytecode), and that such layers work."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from layer_minimizer.layer.archive import unzip
from layer_minimizer.layer.cold_store import paths_in
from tests.support.cold_layers import forget_restored
from tests.support.places import MINIMIZE
from tests.support.sites import stocked_env

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.desk import Desk
    from tests.support.sites import Environment

env = stocked_env
HANDLER = """\
import inspect

import heavy
import heavy.plots as plots
from heavy.frames import Frame
from light import read_text, work


class Holder:
    frame: Frame = None

    def show(self, frame: "heavy.frames.Frame"):
        return plots.draw(frame)


def handler(event, context):
    what = event.get("what", "work")
    if what == "work":
        return [work(20), inspect.getsource(read_text).strip()]
    if what == "frame":
        made = Frame([1, 2])
        return [made.total(), isinstance(made, heavy.Frame), type(made).__module__]
    if what == "cold module":
        import light.late

        return light.late.answer()
    if what == "data":
        return read_text("notes.txt")
    if what == "dropped":
        __import__("untou" + "ched")
"""
LIGHT = {
    "light/__init__.py": (
        "import os\n\n\ndef work(x):\n    return x + 1\n\n\ndef read_text(name):\n"
        "    with open(os.path.join(os.path.dirname(__file__), name)) as text:\n        return text.read()\n"
    ),
    "light/late.py": "from . import work\n\n\ndef answer():\n    return work(41)\n",
    "light/notes.txt": "noted\n",
    "light/fast.c": "int main(void) { return 0; }\n",
}
HEAVY = {
    "heavy/__init__.py": "from .frames import Frame\n\n__version__ = '1.5'\n",
    "heavy/frames.py": (
        "class Frame:\n    def __init__(self, rows):\n        self.rows = rows\n\n"
        "    def total(self):\n        return sum(self.rows)\n"
    ),
    "heavy/plots.py": "from .frames import Frame\n\n\ndef draw(frame):\n    return len(frame.rows)\n",
}
EVENTS = ("work", "frame", "cold module", "data")


@pytest.fixture
def shop(desk: Desk, make_env: Callable[..., Environment]) -> Environment:
    desk.write("handler.py", HANDLER)
    env = make_env()
    env.install("light", LIGHT).install("heavy", HEAVY).install("untouched", {"untouched/__init__.py": "x = 1\n"})
    return env


def build(desk: Desk, env: Environment, *options: str) -> tuple[Any, Path]:
    """Minimize with a search, which uses the user's cache. Return the report and the unpacked packages."""
    command = [MINIMIZE, "-q", "--json", "--entry", desk.work / "handler.py"]
    done = subprocess.run(
        [*command, "--python", env.python, "--output", desk.output, *options],
        env=desk.variables(),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    shutil.rmtree(desk.folder / "opt", ignore_errors=True)
    unzip(desk.output, desk.folder / "opt")
    packages = next((desk.folder / "opt/python/lib").glob("*/site-packages"))
    forget_restored(packages)
    return json.loads(done.stdout), packages


def explained(desk: Desk, env: Environment, subject: str) -> str:
    command = [MINIMIZE, "-q", "--entry", desk.work / "handler.py"]
    done = subprocess.run(
        [*command, "--python", env.python, "--explain", subject],
        env=desk.variables(),
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


RUN = """
import json, os, site, sys
packages, task, start, what = sys.argv[1:]
if start == "pth":
    site.addsitedir(packages)
elif start == "path":
    sys.path.append(packages)
sys.path.insert(0, task)
import handler
print(json.dumps(handler.handler({"what": what}, None)))
"""


def call(
    desk: Desk, packages: Path, what: str, start: str = "pth", **variables: str
) -> subprocess.CompletedProcess[str]:
    base = os.path.realpath(sys.executable)
    path = {"PYTHONPATH": str(packages)} if start == "pythonpath" else {}
    return subprocess.run(
        [base, "-B", "-c", RUN, packages, desk.work, start, what],
        env={"PATH": os.environ["PATH"], "TMPDIR": str(desk.tmp), **path, **variables},
        text=True,
        capture_output=True,
        timeout=60,
        check=False,
    )


def names(packages: Path) -> set[str]:
    """Return the files in place; those that are cold are links."""
    found = (path for path in packages.rglob("*") if path.is_file() and not path.is_symlink())
    return {path.relative_to(packages).as_posix() for path in found}


def test_unused_imports_become_stand_ins_and_are_restored_when_used(desk: Desk, shop: Environment) -> None:
    report, packages = build(desk, shop)
    assert {entry["module"] for entry in report["stand_ins"]} == {"heavy", "heavy.frames", "heavy.plots"}
    assert report["cold"]["files"] >= 5
    found = names(packages)
    assert {"heavy/__init__.pyc", "light/__init__.py"} <= found
    assert len([path for path in found if path.startswith("_layer_minimizer/cold/") and path.endswith("/data")]) == 1
    assert not {"heavy/__init__.py", "light/late.py", "light/notes.txt", "untouched/__init__.py"} & found
    for start in ("pth", "pythonpath"):
        for what in EVENTS:
            expected, actual = call(desk, shop.site, what), call(desk, packages, what, start)
            assert expected.returncode == 0, expected.stderr
            assert (actual.stdout, actual.stderr) == (expected.stdout, "")
    # If the runtime is not running, stand-ins start it.
    assert call(desk, packages, "data", "path").stdout == '"noted\\n"\n'
    ended = call(desk, packages, "dropped")
    assert "untouched" in ended.stderr
    assert "--keep untouched" in ended.stderr
    assert os.listdir(desk.tmp) == []


def test_dropped_modules_raise_an_explanation(desk: Desk, shop: Environment) -> None:
    report, packages = build(desk, shop, "--cold", "drop")
    assert len(report["stand_ins"]) == 3
    assert report["cold"]["files"] == 0
    assert call(desk, packages, "work").returncode == 0
    ended = call(desk, packages, "frame")
    assert ended.returncode == 1
    assert "ModuleNotFoundError" in ended.stderr
    left_out = "heavy/__init__.py of heavy 1.0 was left out of this layer: build it with an event that uses it, with "
    assert f"No module named 'heavy': {left_out}--keep heavy, or with --cold keep" in ended.stderr


def test_a_kept_module_is_real(desk: Desk, shop: Environment) -> None:
    report, packages = build(desk, shop, "--keep", "heavy")
    assert report["stand_ins"] == []
    assert "heavy/frames.pyc" in names(packages)
    assert call(desk, packages, "frame", "path").stdout == call(desk, shop.site, "frame").stdout


def test_what_production_restored_is_in_the_next_layer(desk: Desk, shop: Environment) -> None:
    _, packages = build(desk, shop)
    log = desk.folder / "cold.log"
    for what in EVENTS:
        assert call(desk, packages, what, LAYER_MINIMIZER_LOG=str(log)).returncode == 0
    restored = {line.split(" for ")[0] for line in log.read_text().splitlines()}
    assert {"restored module light.late", "restored file light/notes.txt", "woke heavy.frames"} <= restored
    # As in Amazon CloudWatch, among other lines.
    lines = [f"2026-01-01T00:00:00.000Z [INFO]\t2026-01-01\t7b3c\t{line}" for line in log.read_text().splitlines()]
    log.write_text("\n".join(["INIT_START Runtime Version: python:3.12.v1", *lines, "END RequestId: 7b3c"]))
    shutil.rmtree(desk.folder / "opt")
    report, packages = build(desk, shop, "--trace", str(log))
    assert {"light/late.pyc", "light/notes.txt", "heavy/frames.pyc"} <= names(packages)
    assert {entry["module"] for entry in report["stand_ins"]} <= {"heavy.plots"}
    log.unlink()
    for what in EVENTS:
        assert call(desk, packages, what, LAYER_MINIMIZER_LOG=str(log)).returncode == 0
    assert not log.exists() or "light" not in log.read_text()


@pytest.mark.parametrize("cold", ["keep", "drop"])
def test_a_kept_module_that_nothing_touched_can_be_imported(desk: Desk, shop: Environment, cold: str) -> None:
    _, packages = build(desk, shop, "--keep", "untouched", "--cold", cold)
    ended = call(desk, packages, "dropped")
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "null\n", "")


def test_a_second_search_uses_the_cache_and_results_in_the_same_layer(desk: Desk, shop: Environment) -> None:
    one, _ = build(desk, shop)
    remembered = list((desk.home / ".cache/layer_minimizer/stand-ins").iterdir())
    assert len(remembered) == 1
    two, _ = build(desk, shop)
    assert two["layer"]["sha256"] == one["layer"]["sha256"]
    # Cached results are verified before they are used.
    remembered[0].write_text('["heavy", "light"]')
    three, _ = build(desk, shop)
    assert three["layer"]["sha256"] == one["layer"]["sha256"]


def test_a_busy_machine_and_an_interrupted_search_result_in_the_same_layer(desk: Desk, shop: Environment) -> None:
    idle, _ = build(desk, shop)
    burners = [
        subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(len(os.sched_getaffinity(0)))
    ]
    try:
        shutil.rmtree(desk.home / ".cache")
        busy, _ = build(desk, shop)
    finally:
        for burner in burners:
            burner.kill()
            burner.wait()
    assert busy["layer"]["sha256"] == idle["layer"]["sha256"]
    assert busy["search"] == idle["search"] == {"runs": idle["search"]["runs"], "complete": True}

    cache = desk.home / ".cache/layer_minimizer/stand-ins"
    shutil.rmtree(cache)
    command = [MINIMIZE, "-q", "--entry", desk.work / "handler.py", "--python", shop.python, "--output", desk.output]
    interrupted = subprocess.Popen(command, env=desk.variables(), stderr=subprocess.DEVNULL)
    while interrupted.poll() is None and not list(cache.glob("*/*.json")):
        time.sleep(0.001)
    interrupted.send_signal(signal.SIGINT)
    assert interrupted.wait() != 0
    assert list(cache.glob("*/*.json"))
    resumed, _ = build(desk, shop)
    assert resumed["layer"]["sha256"] == idle["layer"]["sha256"]
    assert resumed["search"] == idle["search"]


@pytest.mark.parametrize(("bytecode", "suffixes"), [("only", {".pyc"}), ("both", {".py", ".pyc"}), ("source", {".py"})])
def test_modules_are_shipped_in_the_chosen_form(
    desk: Desk, shop: Environment, bytecode: str, suffixes: set[str]
) -> None:
    desk.write(
        "handler.py", "from heavy import Frame\n\n\ndef handler(event, context):\n    return Frame([1]).total()\n"
    )
    _, packages = build(desk, shop, "--bytecode", bytecode)
    assert {Path(name).suffix for name in names(packages) if Path(name).stem.startswith("frames")} == suffixes


@pytest.mark.parametrize("version", ["3.6", "3.9"])
def test_bytecode_does_not_depend_on_the_order_of_hashes(
    desk: Desk, make_env: Callable[..., Environment], version: str
) -> None:
    # In bytecode before 3.11 a set's members stand in the order of their hashes, which are others in each process.
    colours = ", ".join(f"'colour {number}'" for number in range(40))
    env = make_env(version).install("paint", {"paint.py": f"def known(x):\n    return x in {{{colours}}}\n"})
    desk.write("handler.py", "import paint\n\n\ndef handler(event, context):\n    return paint.known('colour 7')\n")
    layers = {build(desk, env)[0]["layer"]["sha256"] for _ in range(3)}
    assert len(layers) == 1


def test_docstrings_stay_where_an_import_needs_them(desk: Desk, make_env: Callable[..., Environment]) -> None:
    env = make_env()
    env.install(
        "needs", {"needs/__init__.py": '"""Needed."""\n', "needs/help.py": "import needs\nTEXT = needs.__doc__[0]\n"}
    )
    env.install(
        "plain", {"plain.py": '"""Not needed."""\n\n\ndef double(x):\n    """Give twice x."""\n    return 2 * x\n'}
    )
    desk.write("handler.py", "import needs.help, plain\n\n\ndef handler(event, context):\n    return plain.double(4)\n")
    _, packages = build(desk, env, "--strip-docstrings", "--effort", "0")
    look = "import needs, plain; print(needs.__doc__, plain.__doc__, plain.double.__doc__, plain.double(4))"
    done = subprocess.run(
        [sys.executable, "-I", "-c", f"import sys; sys.path.insert(0, {str(packages)!r}); {look}"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "Needed. None None 8\n"


def test_unused_imports_of_a_script_become_stand_ins(desk: Desk, make_env: Callable[..., Environment]) -> None:
    env = make_env()
    # Code that runs only while a module is imported is not a use of it, wherever the import statement is.
    setup = "LIMITS = [1, 4, 9]\n\n\ndef prepare():\n    return dict.fromkeys(LIMITS)\n\n\nTABLE = prepare()\n"
    env.install("setup_only", {"setup_only.py": setup}).install("light", LIGHT)
    desk.write("handler.py", "import setup_only\nimport light\n\nprint(light.work(2))\n")
    report, _ = build(desk, env)
    assert [entry["module"] for entry in report["stand_ins"]] == ["setup_only"]


TABLES = """\
import functools


class Kind:
    known = {}

    def __init__(self):
        self.known = {}


@functools.singledispatch
def show(value):
    return str(value)


MUCH, READERS, NESTED, KIND = [], [], {"all": {}}, Kind()


def names():
    return [READERS, NESTED, Kind.known, KIND.known, show(b"x")]
"""
FILLS = {
    "list": "tables.READERS.append('x')",
    "nested": "tables.NESTED['all']['x'] = 1",
    "class": "tables.Kind.known['x'] = 2",
    "object": "tables.KIND.known['x'] = 3",
    "function": "tables.show.register(bytes)(lambda value: 'bytes')",
}
ENTANGLED = """\
import fills_class, fills_function, fills_list, fills_much, fills_nested, fills_object
import kit
import late_one
import registers
import tables
import through
import uses_extra

kit.FLAG = True


def handler(event, context):
    what = event.get("what", "work")
    if what == "work":
        return kit.work(2)
    if what == "effect":
        return kit.READY
    if what == "filled":
        return tables.names()
    if what == "many":
        from tables import late

        return late.total()
    if what == "late":
        return late_one.answer()
    if what == "bound":
        return kit.extra.value()
    if what == "through":
        return through.total([1, 2])
"""


def test_side_effects_of_imports_are_there_for_other_inputs(desk: Desk, make_env: Callable[..., Environment]) -> None:
    env = make_env()
    env.install("kit", {"kit/__init__.py": "FLAG = False\n\n\ndef work(x):\n    return x + 1\n"})
    env.install("kit-extra", {"kit/extra.py": "def value():\n    return 7\n"})
    # Its import alone changes another module.
    env.install("registers", {"registers.py": "import kit\n\nkit.READY = 'ready'\n"})
    # It cannot be loaded any more once the entry has been imported.
    late = "import kit\n\nif kit.FLAG:\n    raise ImportError('too late')\n\n\ndef answer():\n    return 5\n"
    env.install("late-one", {"late_one.py": late})
    # Or fills what another module holds: a table, a class, an object, a table in a table.
    late = "from . import MUCH\n\n\ndef total():\n    return len(MUCH)\n"
    env.install("tables", {"tables/__init__.py": TABLES, "tables/late.py": late})
    for name, fill in FILLS.items():
        env.install(f"fills-{name}", {f"fills_{name}.py": f"import tables\n\n{fill}\n"})
    # A large one stays unimported until something happens that no event did.
    much = f"import tables\n\ntables.MUCH.append('x')\nTEXT = '{'x' * 2_100_000}'\n"
    env.install("fills-much", {"fills_much.py": much})
    # Others find the submodule that it imports in the package.
    env.install(
        "uses-extra", {"uses_extra.py": "import kit.extra\n\n\ndef twice():\n    return 2 * kit.extra.value()\n"}
    )
    # Nobody else imports the distribution that it needs.
    env.install("through", {"through.py": "import behind\n\n\ndef total(x):\n    return behind.total(x)\n"})
    env.install("behind", {"behind.py": "def total(x):\n    return sum(x)\n"})
    desk.write("handler.py", ENTANGLED)
    report, packages = build(desk, env)
    stood_in = {entry["module"] for entry in report["stand_ins"]}
    assert stood_in == {"kit.extra", "uses_extra", "through", "fills_much"}
    for what in ("work", "effect", "late", "bound", "through", "filled", "many"):
        expected, actual = call(desk, env.site, what), call(desk, packages, what)
        assert expected.returncode == 0, expected.stderr
        assert (actual.stdout, actual.stderr) == (expected.stdout, ""), what
    answer = explained(desk, env, "behind")
    assert "is cold: ASLEEP\n  imported only by through, which is unused\n" in answer
    assert "through is imported by handler, line 6" in answer


CHANGING = """\
import idle
import late_one
import registers
import kit

kit.FLAG = True


def handler(event, context):
    return kit.READY if event.get("what") == "effect" else kit.work(2)
"""


def test_modules_that_change_others_are_kept_with_cold_drop_too(
    desk: Desk, make_env: Callable[..., Environment]
) -> None:
    env = make_env()
    env.install("kit", {"kit/__init__.py": "FLAG = False\n\n\ndef work(x):\n    return x + 1\n"})
    env.install("registers", {"registers.py": "import kit\n\nkit.READY = 'ready'\n"})
    late = "import kit\n\nif kit.FLAG:\n    raise ImportError('too late')\n"
    env.install("late-one", {"late_one.py": late})
    env.install("idle", {"idle.py": "VALUE = 1\n"})
    desk.write("handler.py", CHANGING)
    report, packages = build(desk, env, "--cold", "drop")
    assert {entry["module"] for entry in report["stand_ins"]} == {"idle"}
    assert call(desk, packages, "effect").stdout == '"ready"\n'


OPTIONAL = """\
import importlib
import sys
from importlib.metadata import entry_points

import images


def handler(event, context):
    what = event.get("what", "work")
    if what == "work":
        return images.kinds()
    if what == "installed":
        try:
            return images.read_tiff()
        except ImportError:
            return "no reader"
    if what == "plugin":
        return [entry.load()() for entry in entry_points(group="images.readers")]
    if what == "own":
        return importlib.import_module("later").answer()
    importlib.import_module("pytest" + "_like")
"""
READERS = {
    "images/__init__.py": (
        "from importlib.metadata import entry_points\n\n\ndef kinds():\n"
        "    return sorted(entry.name for entry in entry_points(group='images.readers'))\n\n\n"
        "def read_tiff():\n    import tiff\n\n    return tiff.read()\n"
    )
}


@pytest.mark.parametrize("cold", ["keep", "drop"])
def test_distributions_that_only_another_event_needs_are_cold_where_code_names_them(
    desk: Desk, make_env: Callable[..., Environment], cold: str
) -> None:
    env = make_env()
    env.install("images", READERS)
    env.install("tiff", {"tiff.py": "import lzw\n\n\ndef read():\n    return lzw.NAME\n"})
    env.install("lzw", {"lzw.py": "NAME = 'lzw'\n"})
    points = {"entry_points.txt": "[images.readers]\nplugin = plugin:read\n"}
    env.install("plugin", {"plugin.py": "def read():\n    return 'read by a plugin'\n"}, metadata=points)
    env.install("later", {"later.py": "def answer():\n    return 42\n"})
    tool = (
        "Metadata-Version: 2.1\nName: pytest-like\nVersion: 1.0\nClassifier: Topic :: Software Development :: Testing\n"
    )
    env.install("pytest-like", {"pytest_like.py": ""}, metadata={"METADATA": tool})
    env.install("unheard", {"unheard.py": ""})
    desk.write("handler.py", OPTIONAL)
    _, packages = build(desk, env, "--cold", cold)
    there = {"images", "tiff", "lzw", "plugin", "later"} if cold == "keep" else {"images"}
    listed = {path for index in packages.glob("_layer_minimizer/cold/*/index") for path in paths_in(index)}
    assert {path.split("/")[0].removesuffix(".py") for path in listed | names(packages)} >= there
    assert not {path for path in listed | names(packages) if path.startswith(("pytest_like", "unheard"))}
    whats = ("work", "installed", "plugin", "own") if cold == "keep" else ("work",)
    for what in whats:
        expected, actual = call(desk, env.site, what), call(desk, packages, what)
        assert expected.returncode == 0, expected.stderr
        assert (actual.stdout, actual.stderr) == (expected.stdout, ""), what
    refused = call(desk, packages, "tool")
    assert refused.returncode == 1
    assert "No module named 'pytest_like'" in refused.stderr
    if cold == "keep":
        assert "pytest_like.py of pytest-like 1.0 was left out of this layer" in refused.stderr
        assert "nothing asked for tiff, but images/__init__.py names it" in explained(desk, env, "tiff")


def test_what_exceeds_the_limit_is_omitted_with_a_warning(desk: Desk, make_env: Callable[..., Environment]) -> None:
    env = make_env()
    env.install("images", {"images.py": "def kinds():\n    return 1\n\n\ndef read():\n    import small, large\n"})
    env.install("small", {"small.py": "", "small.bin": random.Random(1).randbytes(10_000)})
    env.install("large", {"large.py": "", "large.bin": random.Random(2).randbytes(400_000)})
    desk.write("handler.py", "import images\n\n\ndef handler(event, context):\n    return images.kinds()\n")
    whole, _ = build(desk, env)
    report, _ = build(desk, env, "--max-size", str(whole["layer"]["unzipped_bytes"] - 100_000))
    assert (
        "omitted to fit the size limit: distributions named in code that no event needed: large" in report["warnings"]
    )
    assert whole["layer"]["unzipped_bytes"] - report["layer"]["unzipped_bytes"] > 400_000


def cold_bytes(packages: Path) -> int:
    """Return the size of what is stored of cold files."""
    return sum(file.lstat().st_size for file in packages.glob("_layer_minimizer/cold/*/*"))


def test_sources_are_omitted_to_fit_the_limit(desk: Desk, make_env: Callable[..., Environment]) -> None:
    env = make_env()
    env.install(
        "noted", {"noted.py": f"def answer():\n    return 1\n\n# {random.Random(3).randbytes(100_000).hex()}\n"}
    )
    desk.write("handler.py", "import noted\n\n\ndef handler(event, context):\n    return noted.answer()\n")
    whole, packages = build(desk, env, "--smallest")
    kept = cold_bytes(packages)
    report, packages = build(desk, env, "--max-size", str(whole["layer"]["unzipped_bytes"] - 10_000))
    assert "omitted to fit the size limit: sources of modules that are shipped as bytecode" in report["warnings"]
    assert kept - cold_bytes(packages) > 100_000
    assert report["layer"]["unzipped_bytes"] <= whole["layer"]["unzipped_bytes"] - 10_000
    assert call(desk, packages, "work").stdout == "1\n"


def test_a_stand_in_is_explained(desk: Desk, shop: Environment) -> None:
    answer = explained(desk, shop, "heavy")
    assert "heavy/__init__.py" in answer
    assert "Stand-ins: 3 modules; " in answer
    assert "imported by: handler, line 3 (heavy)" in answer
    assert "heavy.frames.Frame (class)" in answer
    assert "ship the real modules with --keep heavy" in answer


def test_a_kept_file_that_is_not_python_is_shipped_as_it_is(desk: Desk, make_env: Callable[..., Environment]) -> None:
    """A template that only has the suffix of a module, and a docstring before what must stand first."""
    env = make_env()
    env.install(
        "maker",
        {
            "maker/__init__.py": "'Text.'\nfrom __future__ import annotations\nimport os\n\n\ndef made():\n"
            "    with open(os.path.join(os.path.dirname(__file__), 'template.py')) as text:\n"
            "        return text.read()\n",
            "maker/template.py": "class {{ name }}:\n    pass\n",
            "maker/other.py": "print 'of Python 2'\n",
        },
    )
    desk.write("handler.py", "import maker\n\n\ndef handler(event, context):\n    return maker.made()\n")
    for options in ((), ("--strip-docstrings",), ("--native", "off"), ("--cold", "drop")):
        _, packages = build(desk, env, "--include", "maker/other.py", *options)
        assert call(desk, packages, "work").stdout == call(desk, env.site, "work").stdout
        assert (packages / "maker/template.py").read_text().startswith("class {{")
        assert (packages / "maker/other.py").read_text() == "print 'of Python 2'\n"
