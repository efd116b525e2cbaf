"""Cold modules are imported as if they lay in the layer, by every CPython."""

from __future__ import annotations

import shutil
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
    left_out = {
        "pandos/__init__.py": "pandos 2.1",
        "pandos/core/frame.py": "pandos 2.1",
        "yamel/__init__.py": "PyYamel 6.0",
        "warm/part.py": "warm 1.0",
        "fast.abi3.so": "fast 3.0",
    }
    return layer_of(cpython, COLD, PACKAGES, left_out=left_out)


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


def test_left_out_modules_say_how_to_keep_them(layer: ColdLayer) -> None:
    layer.run(
        """
        import importlib, importlib.util
        assert importlib.util.find_spec("pandos") is None
        left_out = {
            "yamel": ("yamel/__init__.py of PyYamel 6.0", "yamel"),
            "pandos.core.frame": ("pandos/__init__.py of pandos 2.1", "pandos"),
            "warm.part": ("warm/part.py of warm 1.0", "warm.part"),
            "fast": ("fast.abi3.so of fast 3.0", "fast"),
        }
        for name, (which, at) in left_out.items():
            try:
                importlib.import_module(name)
            except ModuleNotFoundError as exc:
                assert exc.name == at and exc.__cause__ is None, exc
                assert str(exc) == (
                    "No module named %r: %s was left out of this layer: build it with an event that uses it, "
                    "with --keep %s, or with --cold keep" % (at, which, at)
                ), exc
            else:
                raise AssertionError(name)
        """
    )
    # The machinery replaces the error of this form, as a package may have such an attribute; standard error has it.
    said = layer.fail("from warm import part")
    assert said.startswith("layer_minimizer: warm/part.py of warm 1.0 was left out of this layer: build it with ")
    assert "cannot import name 'part'" in said


def test_left_out_distributions_are_named_without_the_native_runtime(
    layer_of: Callable[..., ColdLayer], cpython: str
) -> None:
    layer = layer_of(cpython, {}, {"warm/__init__.py": ""}, dropped={"yamel": "PyYamel"})
    shutil.rmtree(layer.root / "layer_minimizer.libs")
    layer.run(
        """
        import importlib.util, warm
        assert importlib.util.find_spec("yamel") is None
        try:
            import yamel
        except ModuleNotFoundError as exc:
            assert exc.name == "yamel"
            for part in ("'yamel'", "it belongs to PyYamel", "left out of this layer", "--keep yamel"):
                assert part in str(exc), exc
        else:
            raise AssertionError
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
    lines = [
        f"restored {what}"
        for module, path in (("warm.gone", "warm/gone.py"), ("warm.also", "warm/also.py"), ("single", "single.py"))
        for what in (f"file {path}", f"module {module}")
    ]
    assert done.stderr.splitlines() == lines
    log = tmp_path / "log"
    layer.run("import warm.gone; [open(R + '/single.py').close() for _ in 'ab']", LAYER_MINIMIZER_LOG=str(log))
    assert log.read_text().splitlines() == lines[:5]
    # Who needs what another process has restored says so of modules; the file is restored once.
    log.unlink()
    layer.start_again("-c", "import warm.gone, single", LAYER_MINIMIZER_LOG=str(log))
    assert log.read_text().splitlines() == lines[1::2]
    quiet = layer.start("-c", "import warm.gone, single, sys; assert 'logging' not in sys.modules")
    assert (quiet.stderr, quiet.returncode) == ("", 0)
    own = "import logging; logging.basicConfig(level=30, format='own %(message)s'); import single"
    assert layer.start("-c", own, LAYER_MINIMIZER_LOG="yes").stderr == (
        "restored file single.py\nown restored module single\n"
    )


def test_what_is_there_restores_nothing(layer: ColdLayer) -> None:
    layer.run(
        """
        import json, warm, warm.here, decimal, xml.dom
        open(R + "/warm/__init__.py").close(), os.path.exists("/never"), os.path.isdir(R), os.listdir("/")
        own = {name for name in sys.modules if name.startswith("_layer_minimizer")}
        assert own == {"_layer_minimizer" + each for each in ("", ".check", ".customize", ".finder")}, own
        assert os.listdir(PUT_BACK) == [".root"]
        """
    )


def test_a_start_that_asks_for_what_no_one_has_restores_nothing(
    layer: ColdLayer, write: Callable[..., Path], tmp_path: Path
) -> None:
    asks = "try:\n    import no_such_module_anywhere\nexcept ImportError:\n    asked = True\n"  # as Debian's Python
    own = write(tmp_path / "own", {"sitecustomize.py": asks})
    layer.run(
        """
        import sitecustomize; assert sitecustomize.asked
        own = {name for name in sys.modules if name.startswith("_layer_minimizer")}
        assert own == {"_layer_minimizer" + each for each in ("", ".check", ".customize", ".finder")}, own
        assert os.listdir(PUT_BACK) == [".root"]
        """,
        PYTHONPATH=f"{layer.root}:{own}",
    )


def test_starting_imports_nothing_heavy(layer: ColdLayer, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "import sys, os, io, atexit; before = set(sys.modules); import _layer_minimizer; _layer_minimizer.start()\n"
        "print(*sorted(set(sys.modules) - before))"
    )
    done = layer.start("-S", str(script))
    own = [f"_layer_minimizer{name}" for name in ("", ".check", ".finder")]
    assert set(done.stdout.split()) - {"gc", "zlib", "_struct", "struct"} == set(own), done.stderr


def test_no_garbage_is_collected_while_packages_are_imported(layer_of: Callable[..., ColdLayer], cpython: str) -> None:
    asks = "import gc, sys\nseen = gc.get_threshold()\nspec = repr(__spec__)\n"
    makes = f"{asks}from . import inner\nlater = gc.get_threshold()\nkept = [[] for _ in range(3000)]\n"
    packages = {
        "outer/__init__.py": makes,
        "outer/inner.py": asks,
        "raises.py": f"{asks}sys.seen = seen\n1 / 0\n",
        "sets.py": f"{asks}gc.set_threshold(900, 9, 9)\n",
    }
    layer_of(cpython, {}, packages).run(
        """
        import gc, importlib.machinery, importlib.util, traceback
        usual = gc.get_threshold()
        found = importlib.util.find_spec("outer")
        assert type(found) is importlib.machinery.ModuleSpec and gc.get_threshold() == usual
        import outer
        assert outer.seen == outer.inner.seen == outer.later == (100000,) + usual[1:], outer.seen
        assert outer.spec.startswith("ModuleSpec(name='outer'") and repr(outer.__spec__) == outer.spec
        assert type(outer.__spec__) is importlib.machinery.ModuleSpec and gc.get_threshold() == usual
        if hasattr(gc, "freeze"):
            assert gc.get_freeze_count() == 0
            assert gc.get_count()[0] < 500
        assert any(each is outer.kept[0] for each in gc.get_objects())
        try:
            import raises
        except ZeroDivisionError:
            assert sys.seen[0] == 100000 and gc.get_threshold() == usual
            assert "_layer_minimizer" not in traceback.format_exc()
        gc.disable()
        importlib.reload(outer.inner)
        assert outer.inner.seen == usual and not gc.isenabled()
        import sets
        assert gc.get_threshold()[:2] == (900, 9) and not gc.isenabled()
        """
    )


def test_bytecode_without_source(layer_of: Callable[..., ColdLayer], cpython: str, tmp_path: Path) -> None:
    source = tmp_path / "compiled.py"
    source.write_text("value = 3\n")
    subprocess.run(
        [cpython, "-c", f"import py_compile; py_compile.compile({str(source)!r}, {str(tmp_path / 'c')!r})"], check=True
    )
    layer = layer_of(cpython, {"compiled.pyc": (tmp_path / "c").read_bytes()})
    layer.run("import compiled; assert compiled.value == 3 and compiled.__file__ == R + '/compiled.pyc'")


def test_bytecode_finds_its_source_wherever_the_layer_lies(
    layer_of: Callable[..., ColdLayer], cpython: str, tmp_path: Path
) -> None:
    source = "def fail():\n    raise ValueError('told')\n"
    (tmp_path / "hot.py").write_text(source)
    compiling = "import py_compile, sys; py_compile.compile(*sys.argv[1:], doraise=True)"
    subprocess.run(
        [cpython, "-I", "-c", compiling, "hot.py", "hot.pyc", "/meant/site/hot.py"], check=True, cwd=tmp_path
    )
    compiled = (tmp_path / "hot.pyc").read_bytes()
    layer = layer_of(cpython, {"hot.py": source, "data.txt": "text"}, {"hot.pyc": compiled})
    layer.run(
        """
        import inspect, traceback, hot
        assert hot.__file__ == hot.__spec__.origin == R + "/hot.py", hot.__file__
        assert hot.fail.__code__.co_filename == R + "/hot.py"
        assert os.listdir(PUT_BACK) == [".root"]
        assert inspect.getsource(hot.fail).startswith("def fail()")
        try:
            hot.fail()
        except ValueError:
            assert "raise ValueError('told')" in traceback.format_exc()
        assert [name for name in os.listdir(R) if name.startswith("hot")] == ["hot.py"]
        """
    )
    assert layer.restored() == set()  # a source that is open again would hide its bytecode
    assert "raise ValueError('told')" in layer.fail("import hot; hot.fail()")


def test_a_python_without_lzma_needs_none(layer_of: Callable[..., ColdLayer], cpython: str) -> None:
    """The native runtime decodes by itself: a CPython may have been built without liblzma, and without zlib's."""
    layer = layer_of(cpython, {"a.py": "x = 1\n" * 1000, "a.bin": bytes(range(256)) * 8000})
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
