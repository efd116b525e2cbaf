"""Stand-ins for modules of the standard library: programs behave as on the real modules, by every CPython."""

from __future__ import annotations

import marshal
import textwrap
from typing import TYPE_CHECKING, Any

import pytest

from layer_minimizer.environment import interpreter
from layer_minimizer.environment.workload import load_workload
from layer_minimizer.execution.observed_run import Observer
from layer_minimizer.payload.runtime.standard import FOLDER
from layer_minimizer.trace import tracer
from tests.support.pythons import version_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from .conftest import ColdLayer

IMPORTS = "import argparse, calendar, email, email.message, html.parser, inspect, shutil, statistics, unittest\n"
Standing = "Callable[..., ColdLayer]"


@pytest.fixture
def standing(layer_of: Callable[..., ColdLayer], write: Callable[..., Path], tmp_path: Path) -> Standing:
    """Make a layer with stand-ins for what ``IMPORTS`` imports: ``standing(python, change)`` may change the tables."""

    def make(python: str, change: Callable[[dict[str, Any]], None] = lambda _tables: None) -> ColdLayer:
        if version_of(python) < (3, 7):
            pytest.skip("it has no hash of sources")
        body = f"{IMPORTS}\ndef handler(event, context):\n    return 1\n"
        entry = write(tmp_path / "function", {"handler.py": body}) / "handler.py"
        runs = tracer.Tracer(interpreter.describe_interpreter(python), (Observer.PROBE,), 60)
        _, study = runs.study(load_workload(entry), tmp_path / "run")
        tables = {name: {**table} for name, table in study.tables.items() if "standard" in table}
        for name, table in tables.items():
            del table["file"]
            table.update(group=name.partition(".")[0], also=[])
        change(tables)
        layer = layer_of(python, {})
        (layer.root / FOLDER).mkdir()
        (layer.root / FOLDER / "tables").write_bytes(marshal.dumps({"modules": tables}, 2))
        return layer

    return make  # type: ignore[return-value]


PRELUDE = f"""\
import sys, types
{IMPORTS}
def asleep(name): return type(sys.modules[name]) is not types.ModuleType
"""


def same(layer: ColdLayer, program: str) -> None:
    """Run a program on the stand-ins and on the real modules: it has to print the same."""
    program = PRELUDE + textwrap.dedent(program)
    real, other = layer.start("-c", program, PYTHONPATH=""), layer.start("-c", program)
    assert real.returncode == 0, real.stderr
    assert other.returncode == 0, other.stderr
    assert other.stdout == real.stdout != "", f"{other.stdout}instead of\n{real.stdout}"


UNSEEN = """
    def function(a, b=2): pass
    kinds = {argparse.ArgumentTypeError: 1, inspect.Signature: 2}
    held = [inspect.Signature, unittest.TestCase]
    print(inspect.signature(function), inspect.CO_GENERATOR, isinstance(inspect.signature(function), held[0]))
    print(held[0] is inspect.Signature, kinds[inspect.Signature], hasattr(inspect, "nothing"))

    class Parser(argparse.ArgumentParser):
        def error(self, message): raise argparse.ArgumentError(None, message)
    parser = Parser("name")
    parser.add_argument("--count", type=int)
    try:
        parser.parse_args(["--count", "x"])
    except argparse.ArgumentError as exc:
        print(exc, isinstance(parser, argparse.ArgumentParser), issubclass(Parser, argparse.ArgumentParser))
    try:
        statistics.mean([])
    except statistics.StatisticsError as exc:
        print(exc)
    print(kinds[argparse.ArgumentTypeError], issubclass(type(parser), unittest.TestCase))

    message = email.message.EmailMessage()
    message["Subject"] = "a"
    import email.mime.text
    from email import encoders, message_from_string
    print(message, email.mime.text.MIMEText("b"), message_from_string("c: d")["c"], encoders.__name__)

    class Finder(html.parser.HTMLParser):
        def handle_starttag(self, tag, attributes): print(tag)
    Finder().feed("<a><b>")
    print(sorted(name for name in ("calendar", "shutil") if name in sys.modules))
    from calendar import *
    print(monthrange(2024, 2), shutil.which("no-such-program"))
"""


def test_what_no_event_has_shown(standing: Any, cpython: str) -> None:
    layer = standing(cpython)
    done = layer.start("-c", f"{PRELUDE}print(*[name for name in sorted(sys.modules) if asleep(name)])")
    assert done.returncode == 0, done.stderr
    asleep = set(done.stdout.split())
    assert asleep >= {"argparse", "calendar", "email", "email.message", "statistics", "unittest"}
    same(layer, UNSEEN)


def test_other_tools_see_the_real_modules(standing: Any, cpython: str) -> None:
    layer = standing(cpython)
    same(
        layer,
        """
        import importlib.util, pickle, pkgutil, threading
        for name in ("inspect", "email"):
            spec, module = importlib.util.find_spec(name), sys.modules[name]
            print(module.__spec__.name, module.__file__, module.__loader__.name, module, module.__package__)
            print(spec.origin, type(spec.loader).__name__, getattr(module, "__path__", ""))
        print(pickle.loads(b"cargparse\\nNamespace\\n."), pickle.loads(pickle.dumps(argparse.Namespace(a=1))))
        print(importlib.reload(calendar) is calendar, calendar.isleap(2024))
        threads = [threading.Thread(target=lambda: seen.append(unittest.TestCase.__name__)) for _ in range(8)]
        seen = []
        [thread.start() for thread in threads], [thread.join() for thread in threads]
        print(seen, inspect.getsource(shutil.which)[:9], inspect.getfile(shutil))
        print(pkgutil.get_data("email", "charset.py")[:9], sys.modules["shutil"] is shutil)
        """,
    )
    for arguments in (("-m", "calendar", "2024"), ("-m", "inspect", "calendar:leapdays")):
        real, other = layer.start(*arguments, PYTHONPATH=""), layer.start(*arguments)
        assert (real.returncode, real.stdout) == (other.returncode, other.stdout), other.stderr
        assert real.stdout


def test_children_have_stand_ins_of_their_own(standing: Any, python: str, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        f"{PRELUDE}import multiprocessing\n"
        "def work(name): return asleep(name), statistics.mean([1, 3]), asleep(name)\n"
        "if __name__ == '__main__':\n"
        "    for method in ('spawn', 'fork', 'forkserver'):\n"
        "        with multiprocessing.get_context(method).Pool(1) as pool:\n"
        "            print(method, pool.apply(work, ('statistics',)))\n"
        "    print(asleep('statistics'))\n"
    )
    done = standing(python).start(str(script))
    assert done.returncode == 0, done.stderr
    first, *rest = done.stdout.splitlines()
    assert first == "spawn (True, 2, False)", done.stderr
    assert rest == ["fork (True, 2, False)", "forkserver (True, 2, False)", "True"]


def test_another_source_is_the_real_module(standing: Any, python: str) -> None:
    def change(tables: dict[str, Any]) -> None:
        tables["inspect"]["standard"] = tables["email.message"]["standard"] = "00" * 8

    done = standing(python, change).start(
        "-c", f"{PRELUDE}print(*map(asleep, ('inspect', 'email', 'email.message', 'calendar')))"
    )
    # A module that is real has a real package.
    assert done.stdout.split() == ["False", "False", "False", "True"], done.stderr


def test_a_module_of_the_program_or_one_that_is_loaded_is_no_stand_in(
    standing: Any, python: str, write: Callable[..., Path], tmp_path: Path
) -> None:
    layer = standing(python)
    own = write(tmp_path / "own", {"calendar.py": "mine = True\n"})
    done = layer.start("-c", f"{PRELUDE}print(calendar.mine, asleep('calendar'))", PYTHONPATH=f"{own}:{layer.root}")
    assert done.stdout == "True False\n", done.stderr
    done = layer.start("-c", f"import sys; sys.modules['calendar'] = sys\n{PRELUDE}print(calendar is sys)")
    assert done.stdout == "True\n", done.stderr
