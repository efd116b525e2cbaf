"""Cold extension modules and shared libraries work from their restored files, with the libraries that they need."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from .conftest import ColdLayer

DEPENDENCY = "int base(void) { return 40; }\n"
MIDDLE = "int base(void);\nint answer(void) { return base() + 2; }\n"
MODULE = r"""
#include <Python.h>
int answer(void);
static PyObject *call(PyObject *self, PyObject *args) { return PyLong_FromLong(answer()); }
static PyMethodDef methods[] = {{"answer", call, METH_NOARGS, ""}, {0}};
static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, "_ext", 0, -1, methods};
PyMODINIT_FUNC PyInit__ext(void) { return PyModule_Create(&definition); }
"""
ASK = "import sysconfig as s; print(s.get_paths()['include']); print(s.get_config_var('EXT_SUFFIX'))"


def compile_to(target: Path, source: str, *options: str) -> bytes:
    gcc = shutil.which("gcc")
    if gcc is None:
        pytest.skip("there is no gcc")
    target.parent.mkdir(parents=True, exist_ok=True)
    text = target.with_suffix(".c")
    text.write_text(source)
    subprocess.run([gcc, "-shared", "-fPIC", "-o", str(target), str(text), *options], check=True, timeout=60)
    return target.read_bytes()


@pytest.fixture
def built(tmp_path: Path, cpython: str) -> tuple[str, dict[str, bytes]]:
    """``{path: bytes}`` of a package whose extension module needs two libraries in pkg.libs, one through the other."""
    include, suffix = subprocess.run([cpython, "-c", ASK], check=True, capture_output=True, text=True).stdout.split()
    if not Path(include, "Python.h").exists():
        pytest.skip(f"{cpython} has no headers")
    work = tmp_path / "build"
    libs = [f"-L{work / 'pkg.libs'}", "-Wl,--disable-new-dtags"]
    origin = "-Wl,-rpath,$ORIGIN"
    files = {
        "pkg.libs/libbase.so.1": compile_to(work / "pkg.libs/libbase.so.1", DEPENDENCY, "-Wl,-soname,libbase.so.1"),
        "pkg.libs/libmiddle.so": compile_to(work / "pkg.libs/libmiddle.so", MIDDLE, *libs, "-l:libbase.so.1", origin),
    }
    extension = f"pkg/_ext{suffix}"
    files[extension] = compile_to(work / extension, MODULE, f"-I{include}", *libs, "-lmiddle", f"{origin}/../pkg.libs")
    return extension, files


@pytest.mark.parametrize("real", [(), ("pkg.libs/libbase.so.1",), ("pkg.libs/libbase.so.1", "pkg.libs/libmiddle.so")])
def test_extension_module_with_its_libraries(
    layer_of: Callable[..., ColdLayer], cpython: str, built: tuple[str, dict[str, bytes]], real: tuple[str, ...]
) -> None:
    extension, files = built
    hot = {"pkg/__init__.py": "", **{path: files.pop(path) for path in real}}
    needs = {extension: ("pkg.libs/libmiddle.so", "pkg.libs/libbase.so.1")}
    layer = layer_of(cpython, files, hot, needs=needs)
    out = layer.run(
        """
        import importlib.util
        spec = importlib.util.find_spec("pkg._ext")
        assert spec.origin.startswith(R) and os.listdir(PUT_BACK) == [".root"]
        from pkg import _ext
        assert _ext.answer() == 42
        assert _ext.__file__ == spec.origin and os.path.isfile(_ext.__file__)
        assert os.path.realpath(_ext.__file__) == os.path.realpath(R) + spec.origin[len(R):]
        # The loader looks for what it needs beside the restored file.
        for name in ("libbase.so.1", "libmiddle.so"):
            assert os.path.lexists(PUT_BACK + "/pkg.libs/" + name), name
        assert os.stat(_ext.__file__).st_mode & 0o777 == 0o644
        """,
    )
    assert out == ""
    assert layer.restored() == set(files)


def test_moved_libraries_stay_reachable(layer_of: Callable[..., ColdLayer], python: str, tmp_path: Path) -> None:
    work = tmp_path / "build"
    base = compile_to(work / "layer_minimizer.libs/libbase.so.1", DEPENDENCY, "-Wl,-soname,libbase.so.1")
    options = (f"-L{work}/layer_minimizer.libs", "-l:libbase.so.1", "-Wl,-rpath,$ORIGIN/../layer_minimizer.libs")
    middle = compile_to(work / "pkg/libmiddle.so", MIDDLE, *options)
    layer = layer_of(python, {"pkg/libmiddle.so": middle}, {"layer_minimizer.libs/libbase.so.1": base})
    layer.run(
        """
        import ctypes
        assert ctypes.CDLL(R + "/pkg/libmiddle.so").answer() == 42
        """
    )


def test_ctypes_opens_cold_libraries(
    layer_of: Callable[..., ColdLayer], cpython: str, built: tuple[str, dict[str, bytes]]
) -> None:
    _extension, files = built
    needs = {"pkg.libs/libmiddle.so": ("pkg.libs/libbase.so.1",)}
    cold = {path: content for path, content in files.items() if path in ("pkg.libs/libbase.so.1", *needs)}
    layer = layer_of(cpython, cold, needs=needs)
    for first in ("import ctypes, sys; sys.path.insert(0, R)", "import ctypes"):
        layer.run(
            f"""
            {first}
            import _layer_minimizer; _layer_minimizer.start()
            library = ctypes.CDLL(R + "/pkg.libs/libmiddle.so")
            assert library.answer() == 42 and ctypes.CDLL(None) is not None
            assert ctypes.cdll.LoadLibrary(R + "/pkg.libs/libbase.so.1").base() == 40
            for missing in (R + "/pkg.libs/never.so", "libnever.so", "/never.so"):
                try:
                    ctypes.CDLL(missing)
                except OSError as exc:
                    assert "cannot open shared object file" in str(exc)
                else:
                    raise AssertionError
            """,
            PYTHONPATH="" if "insert" in first else str(layer.root),
        )


def test_threads_share_one_copy_of_a_library(layer_of: Callable[..., ColdLayer], python: str, tmp_path: Path) -> None:
    library = compile_to(tmp_path / "b/libbase.so.1", "static int n;\nint base(void) { return ++n; }\n")
    layer = layer_of(python, {"x/libbase.so.1": library})
    layer.run(
        """
        import ctypes, threading
        sys.setswitchinterval(1e-6)
        seen, gate = [], threading.Event()
        def work():
            gate.wait()
            seen.append(ctypes.PyDLL(R + "/x/libbase.so.1").base())
        threads = [threading.Thread(target=work) for _ in range(20)]
        for thread in threads: thread.start()
        gate.set()
        for thread in threads: thread.join()
        assert sorted(seen) == list(range(1, 21)), seen
        """
    )
