"""Cold modules are imported as if they lay in the layer, by every CPython."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from .conftest import ColdLayer

PACKAGES = {
    "warm/__init__.py": "from . import here\n",
    "warm/here.py": "x = 1\n",
    "cold/hot_child.py": "from . import VALUE\nchild = VALUE + 1\n",
    "split/hot_part/__init__.py": "where = 'hot'\n",
}
COLD = {
    "warm/gone.py": "from .here import x\nfrom . import also\ny = x + also.z\n",
    "warm/also.py": "z = 10\n",
    "warm/deep/__init__.py": "from ..gone import y\n",
    "warm/deep/deeper.py": "from ..deep import y as again\n",
    "cold/__init__.py": "VALUE = 7\nfrom . import circle_a\n",
    "cold/circle_a.py": "from . import circle_b\nname = 'a'\ndef both(): return name + circle_b.name\n",
    "cold/circle_b.py": "from . import circle_a\nname = 'b'\n",
    "cold/__main__.py": "import sys\nprint('main', __name__, sys.argv[1:])\n",
    "single.py": "def fail():\n    raise ValueError('told')\n",
    "latin.py": "# -*- coding: latin-1 -*-\ntext = '\u00e9'\n".encode("latin-1"),
    "split/cold_part/__init__.py": "where = 'cold'\n",
    "onlycold/ns/leaf.py": "leaf = True\n",
    "wrong.py": "def :\n",
    "asks.py": "import no_such_module_anywhere\n",
}


@pytest.fixture
def layer(layer_of: Callable[..., ColdLayer], cpython: str) -> ColdLayer:
    return layer_of(cpython, COLD, PACKAGES, dropped={"pandas": "pandas", "yaml": "PyYAML"})


def test_imports_of_all_kinds(layer: ColdLayer) -> None:
    layer.run(
        """
        import warm.gone, warm.deep.deeper, cold, single, latin
        assert warm.gone.y == warm.deep.y == warm.deep.deeper.again == 11
        assert cold.circle_a.both() == "ab"
        import cold.hot_child
        assert cold.hot_child.child == 8
        assert latin.text == chr(0xe9)
        import split.cold_part, split.hot_part
        assert (split.cold_part.where, split.hot_part.where) == ("cold", "hot")
        from onlycold.ns import leaf
        assert leaf.leaf
        import onlycold
        assert list(onlycold.__path__) == [R + "/onlycold"]
        for module in (warm.gone, cold, single):
            assert module.__file__.startswith(R), module.__file__
            assert not os.path.lexists(R + "/__pycache__")
        assert cold.__path__ == [R + "/cold"] and cold.__spec__.origin == R + "/cold/__init__.py"
        assert warm.gone.__package__ == "warm" and cold.__package__ == "cold"
        """
    )


def test_sources_and_tracebacks(layer: ColdLayer) -> None:
    layer.run(
        """
        import inspect, traceback, single, latin, cold
        assert inspect.getsource(single.fail).startswith("def fail()")
        assert inspect.getsource(latin).endswith(chr(0xe9) + "'\\n")
        try:
            single.fail()
        except ValueError:
            text = traceback.format_exc()
        assert R + "/single.py" in text and "raise ValueError('told')" in text
        assert cold.__loader__.is_package("cold") and not single.__loader__.is_package("single")
        """
    )
    assert "\n    raise ValueError('told')\n" in layer.fail("import single; single.fail()")


def test_errors_are_those_of_the_modules(layer: ColdLayer) -> None:
    layer.run(
        """
        for name in ("wrong", "asks", "warm.never", "cold.never", "never"):
            try:
                __import__(name)
            except SyntaxError as exc:
                assert exc.filename == R + "/wrong.py"
            except ModuleNotFoundError as exc:
                assert exc.name == {"asks": "no_such_module_anywhere"}.get(name, name), exc
            else:
                raise AssertionError(name)
        """
    )
    assert "_layer_minimizer" not in layer.fail("import asks")


def test_reload_pickle_find_spec_and_main(layer: ColdLayer) -> None:
    layer.run(
        """
        import importlib, importlib.util, pickle, pkgutil
        import single
        single.fail = None
        assert importlib.reload(single) is single and callable(single.fail)
        assert importlib.util.find_spec("warm.also").origin == R + "/warm/also.py"
        assert "warm.also" not in sys.modules
        assert importlib.util.find_spec("cold.never") is None and importlib.util.find_spec("never") is None
        import cold.circle_b
        assert pickle.loads(b"ccold.circle_a\\nboth\\n.")() == "ab"
        """
    )
    done = layer.start("-m", "cold", "x")
    assert done.stdout == "main __main__ ['x']\n", done.stderr


def test_left_out_distribution_says_how_to_keep_it(layer: ColdLayer) -> None:
    layer.run(
        """
        import importlib.util, pkgutil
        assert importlib.util.find_spec("pandas") is None
        try:
            import yaml
        except ModuleNotFoundError as exc:
            assert exc.name == "yaml"
            for part in ("yaml", "left out of the layer layer-R", "no traced event", "--keep yaml"):
                assert part in str(exc), exc
        try:
            from pandas.core import frame
        except ModuleNotFoundError as exc:
            assert exc.name == "pandas"
        """
    )


def test_threads_import_the_same_modules(layer: ColdLayer) -> None:
    layer.run(
        """
        import threading
        sys.setswitchinterval(1e-6)
        failed, gate = [], threading.Event()
        def work():
            gate.wait()
            try:
                import cold.circle_a, warm.deep.deeper, single, onlycold.ns.leaf
                assert cold.circle_a.both() == "ab"
                assert open(R + "/warm/also.py").read() == "z = 10\\n"
            except BaseException as exc:
                failed.append(exc)
        threads = [threading.Thread(target=work) for _ in range(24)]
        for thread in threads: thread.start()
        gate.set()
        for thread in threads: thread.join()
        assert not failed, failed
        """
    )


def test_what_was_restored_is_told(layer: ColdLayer, tmp_path: Path) -> None:
    done = layer.start("-c", "import warm.gone, single", LAYER_MINIMIZER_LOG="1")
    lines = [f"restored module {name}" for name in ("warm.gone", "warm.also", "single")]
    assert done.stderr.splitlines() == lines
    log = tmp_path / "log"
    layer.run("import warm.gone; open(R + '/single.py').close()", LAYER_MINIMIZER_LOG=str(log))
    assert log.read_text().splitlines() == [*lines[:2], "restored file single.py"]
    quiet = layer.start("-c", "import warm.gone, single, sys; assert 'logging' not in sys.modules")
    assert (quiet.stderr, quiet.returncode) == ("", 0)
    own = "import logging; logging.basicConfig(level=30, format='own %(message)s'); import single"
    assert layer.start("-c", own, LAYER_MINIMIZER_LOG="yes").stderr == "own restored module single\n"


def test_what_is_there_costs_no_look_into_the_store(layer: ColdLayer) -> None:
    layer.run(
        """
        import json, warm, warm.here, decimal, xml.dom
        assert "_layer_minimizer.finder" in sys.modules and "_layer_minimizer.store" not in sys.modules
        open(R + "/warm/__init__.py").close(), os.path.exists("/never"), os.path.isdir(R), os.listdir("/")
        assert "_layer_minimizer.store" not in sys.modules
        """
    )


def test_starting_imports_nothing_heavy(layer: ColdLayer, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "import sys, os, io, atexit; before = set(sys.modules); import _layer_minimizer; _layer_minimizer.start()\n"
        "print(*sorted(set(sys.modules) - before))"
    )
    done = layer.start("-S", str(script))
    own = [f"_layer_minimizer{name}" for name in ("", ".check", ".files", ".finder")]
    assert done.stdout.split() == [*own, "zlib"], done.stderr


def test_bytecode_without_source(layer_of: Callable[..., ColdLayer], cpython: str, tmp_path: Path) -> None:
    source = tmp_path / "compiled.py"
    source.write_text("value = 3\n")
    subprocess.run(
        [cpython, "-c", f"import py_compile; py_compile.compile({str(source)!r}, {str(tmp_path / 'c')!r})"], check=True
    )
    layer = layer_of(cpython, {"compiled.pyc": (tmp_path / "c").read_bytes()})
    layer.run("import compiled; assert compiled.value == 3 and compiled.__file__ == R + '/compiled.pyc'")


COMPILE_ALL = """
import os, py_compile, sys
for folder in ("", "_layer_minimizer"):
    for name in os.listdir(os.path.join(sys.argv[1], folder)):
        source = os.path.join(sys.argv[1], folder, name)
        if name.endswith(".py"):
            py_compile.compile(source, source + "c", os.path.join(sys.argv[2], folder, name), doraise=True)
            os.remove(source)
"""


def test_bytecode_finds_its_source_wherever_the_layer_lies(layer_of: Callable[..., ColdLayer], cpython: str) -> None:
    source = "def fail():\n    raise ValueError('told')\n"
    layer = layer_of(cpython, {"hot.py": source, "data.txt": "text"}, {"hot.py": source})
    subprocess.run([cpython, "-I", "-c", COMPILE_ALL, str(layer.root), "/meant/site"], check=True)
    layer.run(
        """
        import inspect, traceback, hot
        assert hot.__file__ == R + "/hot.pyc", hot.__file__
        assert hot.fail.__code__.co_filename == "/meant/site/hot.py"
        assert inspect.getsource(hot.fail).startswith("def fail()")
        try:
            hot.fail()
        except ValueError:
            assert "raise ValueError('told')" in traceback.format_exc()
        assert not any(map(os.path.exists, ("/meant", "/meant/site", "/meant/site/data.txt", "/meant/site/other.py")))
        """
    )


def test_zlib_serves_a_python_without_lzma(layer_of: Callable[..., ColdLayer], cpython: str) -> None:
    noise = bytes(range(256)) * 8000
    layer = layer_of(cpython, {"a.py": "x = 1\n" * 1000, "a.bin": noise}, compression="zlib")
    layer.run(
        """
        sys.modules["lzma"] = sys.modules["_lzma"] = None
        import a
        assert a.x == 1 and open(R + "/a.bin", "rb").read() == bytes(range(256)) * 8000
        """
    )


def test_cold_modules_keep_their_place_in_the_path(
    layer_of: Callable[..., ColdLayer], python: str, tmp_path: Path, write: Callable[..., Path]
) -> None:
    layer = layer_of(python, {"shadow.py": "who = 'layer'\n"})
    later = write(tmp_path / "later", {"shadow.py": "who = 'later'\n"})
    layer.run("import shadow; assert shadow.who == 'layer'", PYTHONPATH=f"{layer.root}:{later}")
    layer.run("import shadow; assert shadow.who == 'later'", PYTHONPATH=f"{later}:{layer.root}")
