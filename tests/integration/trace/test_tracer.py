"""Traces of real runs, with every supported CPython."""

import os
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from layer_minimizer.core.errors import TraceError
from layer_minimizer.model.trace import ForeignRoot, Trace, TracedModule, Use, read_libraries

Run = Callable[..., Trace]


def code(text: str) -> str:
    return textwrap.dedent(text).lstrip("\n")


def handler(body: str) -> dict[str, str]:
    """Return a function whose handler runs ``body``."""
    indented = textwrap.indent(code(body), "    ")
    return {"handler.py": f"def handler(event, context):\n{indented}"}


def modules(trace: Trace) -> dict[str, TracedModule]:
    return {m.name: m for m in trace.modules}


def uses(trace: Trace) -> dict[str, frozenset[Use]]:
    return {f.path: f.uses for f in trace.files}


def opened(trace: Trace) -> set[str]:
    return {f.path for f in trace.files if Use.OPEN in f.uses}


def snapshot(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


# ---- modules ------------------------------------------------------------------------------------------------------


def test_modules_are_placed_with_their_importer_and_line(each_env: Any, trace_run: Run) -> None:
    each_env.install("pkg", {"pkg/__init__.py": "\n\nimport pkg.deep\n", "pkg/deep.py": "", "pkg/never.py": ""})
    trace = trace_run(
        each_env, {"handler.py": "import json\nimport pkg\n\ndef handler(event, context):\n    return 1\n"}
    )
    found = modules(trace)
    assert found["pkg"] == TracedModule("pkg", "pkg/__init__.py", "handler", 2)
    assert found["pkg.deep"] == TracedModule("pkg.deep", "pkg/deep.py", "pkg", 3)
    assert "pkg.never" not in found
    assert found["handler"].path == ""
    assert found["json"].path == ""
    assert uses(trace)["pkg/deep.py"] >= {Use.SPEC, Use.OPEN}
    assert "pkg/never.py" not in uses(trace)
    assert (trace.kind, [(r.event, r.value) for r in trace.results]) == ("handler", [("(no event)", "1")])
    assert trace.python == ".".join(map(str, each_env.describe().version))


def test_a_module_imported_by_a_function_call_names_the_caller(each_env: Any, trace_run: Run) -> None:
    each_env.install("pkg", {"pkg.py": "", "other.py": ""})
    body = """
        import importlib
        importlib.import_module("pkg")
        __import__("other")
    """
    found = modules(trace_run(each_env, handler(body)))
    assert (found["pkg"].importer, found["pkg"].line) == ("handler", 3)
    assert (found["other"].importer, found["other"].line) == ("handler", 4)


def test_a_module_that_was_only_looked_up_is_found_but_not_opened(env: Any, trace_run: Run) -> None:
    env.install("pkg", {"optional.py": "raise RuntimeError('must not be imported')\n", "pkg.py": ""})
    body = """
        import importlib.util
        import pkg
        return importlib.util.find_spec("optional") is not None
    """
    trace = trace_run(env, handler(body))
    assert trace.results[0].value == "true"
    assert uses(trace)["optional.py"] == {Use.SPEC, Use.STAT} or uses(trace)["optional.py"] == {Use.SPEC}


def test_a_missing_module_is_not_in_the_trace(env: Any, trace_run: Run) -> None:
    env.install("pkg", {"pkg.py": "try:\n    import absent\nexcept ImportError:\n    absent = None\n"})
    trace = trace_run(env, handler("import pkg"))
    assert "absent" not in modules(trace)


def test_a_sourceless_module_is_placed(env: Any, trace_run: Run, tmp_path: Path) -> None:
    (tmp_path / "bare.py").write_text("VALUE = 5\n")
    target = env.site / "bare.pyc"
    compiling = "import py_compile, sys; py_compile.compile(sys.argv[1], cfile=sys.argv[2], doraise=True)"
    subprocess.run([env.python, "-c", compiling, tmp_path / "bare.py", target], check=True)
    trace = trace_run(env, handler("import bare\nreturn bare.VALUE"))
    assert modules(trace)["bare"].path == "bare.pyc"
    assert Use.OPEN in uses(trace)["bare.pyc"]


def test_cached_bytecode_counts_as_its_source(each_env: Any, trace_run: Run) -> None:
    each_env.install("pkg", {"pkg/__init__.py": "", "pkg/mod.py": ""})
    subprocess.run([each_env.python, "-m", "compileall", "-q", each_env.site], check=True)
    trace = trace_run(each_env, handler("import pkg.mod"))
    assert {"pkg/__init__.py", "pkg/mod.py"} <= opened(trace)
    assert not [path for path in uses(trace) if "__pycache__" in path]


def test_tracing_writes_nothing_into_the_site_nor_next_to_the_users_files(each_env: Any, trace_run: Run) -> None:
    each_env.install("pkg", {"pkg/__init__.py": "from pkg import mod\n", "pkg/mod.py": ""})
    before = snapshot(each_env.root)
    files = handler("import pkg, side\nopen('made-by-the-handler', 'w').close()") | {"side.py": ""}
    trace = trace_run(each_env, files)
    assert snapshot(each_env.root) == before
    assert snapshot(trace.workload.entry.parent) == {"handler.py", "side.py"}


def test_two_spellings_of_a_folder_have_one_name(env: Any, trace_run: Run) -> None:
    env.install("pkg", {"pkg/__init__.py": "", "pkg/data.txt": "x"})
    body = """
        import os, pkg
        folder = os.path.dirname(pkg.__file__)
        lib64 = folder.replace(os.sep + "lib" + os.sep, os.sep + "lib64" + os.sep, 1)
        assert lib64 != folder
        return open(os.path.join(lib64, "..", "pkg", ".", "data.txt")).read()
    """
    trace = trace_run(env, handler(body))
    assert trace.results[0].value == '"x"'
    assert "pkg/data.txt" in opened(trace)


# ---- files --------------------------------------------------------------------------------------------------------

READS = """
    import io, os, pathlib, pkg
    here = os.path.dirname(pkg.__file__)
    open(os.path.join(here, "a.txt")).close()
    io.open(os.path.join(here, "b.txt"), "rb").close()
    os.close(os.open(os.path.join(here, "c.txt"), os.O_RDONLY))
    pathlib.Path(here, "d.txt").read_text()
    os.listdir(os.path.join(here, "listed"))
    list(os.scandir(os.path.join(here, "scanned")))
    os.chdir(here)
    open("e.txt").close()
    with open(os.path.join(here, "f.txt").encode()) as file:
        file.read()
    open(mode="r", file=os.path.join(here, "g.txt")).close()
    os.close(os.open(path="h.txt", flags=os.O_RDONLY))
    os.listdir()
"""
DATA = {f"pkg/{name}.txt": name for name in "abcdefghz"} | {
    "pkg/listed/x.txt": "", "pkg/scanned/x.txt": "", "pkg/asked/x.txt": "", "pkg/__init__.py": ""
}  # fmt: skip


def test_files_that_are_opened_and_folders_that_are_listed(each_env: Any, trace_run: Run) -> None:
    each_env.install("pkg", DATA)
    found = trace_run(each_env, handler(READS))
    assert {f"pkg/{name}.txt" for name in "abcdefgh"} <= opened(found)
    assert {path for path, used in uses(found).items() if Use.LIST in used} >= {"pkg", "pkg/listed", "pkg/scanned"}
    assert not {"pkg/z.txt", "pkg/listed/x.txt", "pkg/scanned/x.txt"} & uses(found).keys()


@pytest.mark.usefixtures("strace")
def test_system_calls_show_the_same_files(env: Any, trace_run: Run) -> None:
    env.install("pkg", DATA)
    found = trace_run(env, handler(READS), "strace")
    assert found.observers == ("probe", "strace")
    assert {f"pkg/{name}.txt" for name in "abcdefgh"} <= opened(found)
    assert {path for path, used in uses(found).items() if Use.LIST in used} >= {"pkg/listed", "pkg/scanned"}
    assert "pkg/z.txt" not in uses(found)


STATS = """
    import os, pathlib, pkg
    here = os.path.dirname(pkg.__file__)
    os.path.exists(os.path.join(here, "a.txt"))
    os.stat(os.path.join(here, "b.txt"))
    pathlib.Path(here, "c.txt").is_file()
    os.access(os.path.join(here, "d.txt"), os.R_OK)
    os.path.getsize(os.path.join(here, "e.txt"))
    os.path.isdir(os.path.join(here, "asked"))
    os.lstat(os.path.join(here, "f.txt"))
"""


def check_stat_uses(found: Trace) -> None:
    asked = {path for path, used in uses(found).items() if used == {Use.STAT}}
    assert {*(f"pkg/{name}.txt" for name in "abcdef"), "pkg/asked"} <= asked
    assert "pkg/z.txt" not in uses(found)


def test_files_whose_existence_is_checked(each_env: Any, trace_run: Run) -> None:
    each_env.install("pkg", DATA)
    check_stat_uses(trace_run(each_env, handler(STATS)))


@pytest.mark.usefixtures("strace")
def test_files_whose_existence_is_checked_by_system_calls(each_env: Any, trace_run: Run) -> None:
    each_env.install("pkg", DATA)
    check_stat_uses(trace_run(each_env, handler(STATS), "strace"))


OPENED_BY_C = """
    import ctypes, os, pkg
    path = os.path.join(os.path.dirname(pkg.__file__), "a.txt")
    libc = ctypes.CDLL(None)
    libc.fopen.restype = ctypes.c_void_p
    libc.fopen.argtypes = [ctypes.c_char_p, ctypes.c_char_p]
    return bool(libc.fopen(path.encode(), b"r"))
"""


@pytest.mark.usefixtures("strace")
def test_files_that_c_code_opens_are_traced_by_system_calls(env: Any, trace_run: Run) -> None:
    env.install("pkg", DATA)
    found = trace_run(env, handler(OPENED_BY_C), "strace")
    assert found.results[0].value == "true"
    assert uses(found)["pkg/a.txt"] == {Use.OPEN, Use.NATIVE}


@pytest.mark.usefixtures("strace")
def test_files_that_python_code_opens_are_no_files_of_c_code(env: Any, trace_run: Run) -> None:
    env.install("pkg", DATA)
    found = trace_run(env, handler(READS), "strace")
    assert not [path for path, used in uses(found).items() if path.endswith(".txt") and Use.NATIVE in used]


@pytest.mark.parametrize("observer", ["probe", "strace"])
def test_a_library_that_is_copied_is_told_from_one_that_is_loaded(
    env: Any, trace_run: Run, observer: str, request: pytest.FixtureRequest
) -> None:
    if observer == "strace":
        request.getfixturevalue("strace")
    for name in ("copied", "loaded"):
        env.install(name, {f"{name}/__init__.py": ""})
        compile_library(env.site / name / "lib.so")
    source = """
        import copied, ctypes, loaded, os, shutil
        where = os.path.dirname(copied.__file__)
        shutil.copy(os.path.join(where, "lib.so"), "own.so")
        ctypes.CDLL(os.path.join(os.path.dirname(loaded.__file__), "lib.so"))
        return ctypes.CDLL(os.path.abspath("own.so")).answer()
    """
    found = trace_run(env, handler(source), observer)
    assert found.results[0].value == "42"
    assert read_libraries(found) == {"copied/lib.so"}


def test_writing_a_file_does_not_count_as_use(each_env: Any, trace_run: Run) -> None:
    each_env.install("pkg", {"pkg/__init__.py": "", "pkg/log.txt": ""})
    body = """
        import os, pkg
        with open(os.path.join(os.path.dirname(pkg.__file__), "log.txt"), "w") as out:
            out.write("x")
    """
    assert "pkg/log.txt" not in uses(trace_run(each_env, handler(body)))


def test_names_that_are_not_utf8_are_traced(env: Any, trace_run: Run) -> None:
    env.install("pkg", {"pkg/__init__.py": "", "pkg/\udcff\n'\".txt": "x"})
    body = r"""
        import os, pkg
        folder = os.path.dirname(pkg.__file__).encode()
        return open(os.path.join(folder, b"\xff\n'\".txt")).read()
    """
    trace = trace_run(env, handler(body))
    assert trace.results[0].value == '"x"'
    assert "pkg/\udcff\n'\".txt" in opened(trace)


def test_links_are_named_as_they_were_used(env: Any, trace_run: Run) -> None:
    env.install("pkg", {"pkg/__init__.py": "", "pkg/v1/x.txt": "x"})
    (env.site / "pkg" / "data").symlink_to("v1")
    body = """
        import os, pkg
        return open(os.path.join(os.path.dirname(pkg.__file__), "data", "x.txt")).read()
    """
    assert {"pkg/data/x.txt", "pkg/v1/x.txt"} <= opened(trace_run(env, handler(body)))


# ---- libraries ----------------------------------------------------------------------------------------------------


def compile_library(target: Path, source: str = "int answer(void) { return 42; }", *flags: str) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run(["gcc", "-shared", "-fPIC", "-x", "c", "-", "-o", target, *flags], input=source.encode(), check=True)


@pytest.fixture
def library(each_env: Any) -> str:
    compile_library(each_env.site / "pkg" / "lib" / "libanswer.so.1")
    each_env.install("pkg", {"pkg/__init__.py": ""})
    return "pkg/lib/libanswer.so.1"


def test_a_library_that_ctypes_loads_is_mapped(each_env: Any, trace_run: Run, library: str) -> None:
    body = """
        import ctypes, os, pkg
        return ctypes.CDLL(os.path.join(os.path.dirname(pkg.__file__), "lib", "libanswer.so.1")).answer()
    """
    found = trace_run(each_env, handler(body))
    assert found.results[0].value == "42"
    assert Use.MAP in uses(found)[library]


def test_libraries_that_another_one_loads_are_mapped(env: Any, trace_run: Run) -> None:
    folder = env.site / "pkg" / "lib"
    compile_library(folder / "libinner.so")
    linked = ["-L", str(folder), "-linner", "-Wl,-rpath,$ORIGIN"]
    compile_library(folder / "libouter.so", "int answer(void); int outer(void) { return answer(); }", *linked)
    env.install("pkg", {"pkg/__init__.py": ""})
    body = """
        import ctypes, os, pkg
        return ctypes.CDLL(os.path.join(os.path.dirname(pkg.__file__), "lib", "libouter.so")).outer()
    """
    found = trace_run(env, handler(body))
    assert found.results[0].value == "42"
    assert Use.MAP in uses(found)["pkg/lib/libinner.so"]


@pytest.mark.parametrize(
    ("child", "leave"), [("fork", "os._exit(0)"), ("program", "os._exit(0)"), ("program", "sys.exit(0)")]
)
def test_libraries_that_only_a_child_loads_are_mapped(env: Any, trace_run: Run, child: str, leave: str) -> None:
    folder = env.site / "pkg" / "lib"
    compile_library(folder / "libinner.so")
    linked = ["-L", str(folder), "-linner", "-Wl,-rpath,$ORIGIN"]
    compile_library(folder / "libouter.so", "int answer(void); int outer(void) { return answer(); }", *linked)
    load = "import ctypes, os\nctypes.CDLL(os.path.join(os.path.dirname(__file__), 'lib', 'libouter.so'))\n"
    env.install("pkg", {"pkg/__init__.py": load})
    body = {
        "fork": f"""
            import os
            pid = os.fork()
            if not pid:
                import pkg
                {leave}
            return os.waitpid(pid, 0)[1]
        """,
        "program": f"""
            import subprocess, sys
            return subprocess.run([sys.executable, "-c", "import os, pkg, sys; {leave}"]).returncode
        """,
    }[child]
    found = trace_run(env, handler(body))
    assert found.results[0].value == "0"
    assert Use.MAP in uses(found)["pkg/lib/libinner.so"]


def test_an_extension_module_is_mapped(env: Any, trace_run: Run) -> None:
    include = subprocess.run(
        [env.python, "-c", "import sysconfig; print(sysconfig.get_paths()['include'])"],
        check=True, capture_output=True, text=True,
    ).stdout.strip()  # fmt: skip
    if not Path(include, "Python.h").exists():
        pytest.skip("this Python has no headers")
    source = """
        #include <Python.h>
        static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, "native", 0, -1, 0};
        PyMODINIT_FUNC PyInit_native(void) { return PyModule_Create(&definition); }
    """
    compile_library(env.site / "native.abi3.so", source, f"-I{include}")
    found = trace_run(env, handler("import native"))
    assert modules(found)["native"].path == "native.abi3.so"
    assert Use.MAP in uses(found)["native.abi3.so"]


# ---- metadata -----------------------------------------------------------------------------------------------------


def test_metadata_that_is_read_by_name(each_env: Any, trace_run: Run) -> None:
    if each_env.describe().version < (3, 8):
        pytest.skip("importlib.metadata came with 3.8")
    each_env.install("Asked-For", {"asked.py": "import importlib.metadata as m\nV = m.version('Asked_For')\n"}, "2.5")
    each_env.install("bystander", {"bystander.py": ""})
    found = trace_run(each_env, handler("import asked\nreturn asked.V"))
    assert found.results[0].value == '"2.5"'
    assert [(m.distribution, m.asked_by) for m in found.metadata] == [("asked-for", "asked")]


def test_metadata_of_a_missing_distribution(env: Any, trace_run: Run) -> None:
    env.install("pkg", {"pkg.py": ""})
    body = """
        import importlib.metadata, pkg
        try:
            importlib.metadata.version("absent")
        except importlib.metadata.PackageNotFoundError:
            return "absent"
    """
    found = trace_run(env, handler(body))
    assert [m.distribution for m in found.metadata] == ["absent"]


def test_a_scan_for_entry_points_reads_no_metadata_by_name(each_env: Any, trace_run: Run) -> None:
    if each_env.describe().version < (3, 8):
        pytest.skip("importlib.metadata came with 3.8")
    for name in ("one", "two"):
        points = {"entry_points.txt": f"[group]\n{name} = {name}:run\n"}
        each_env.install(name, {f"{name}.py": ""}, metadata=points)
    body = """
        import importlib.metadata, one
        found = importlib.metadata.entry_points()
        points = found.select(group="group") if hasattr(found, "select") else found["group"]
        return sorted(point.name for point in points)
    """
    found = trace_run(each_env, handler(body))
    assert found.results[0].value == '["one", "two"]'
    assert found.metadata == ()
    assert "two-1.0.dist-info/entry_points.txt" in opened(found)


def test_metadata_that_is_read_with_pkg_resources(python_of: Any, make_environment: Any, trace_run: Run) -> None:
    python = python_of("3.8")
    asking = [python, "-I", "-c", "import pkg_resources; print(pkg_resources.__path__[0])"]
    asked = subprocess.run(asking, check=False, capture_output=True, text=True)
    if asked.returncode:
        pytest.skip("this Python has no setuptools")
    where = make_environment(python)
    # setuptools' own packages, as a distribution of the environment
    packages = Path(asked.stdout.strip()).parent
    for name in ("pkg_resources", "setuptools"):
        (where.site / name).symlink_to(packages / name)
    where.install("known", {"known.py": ""}, "1.5")
    where.install("bystander", {"bystander.py": ""})
    body = """
        import warnings
        warnings.simplefilter("ignore")
        import known, pkg_resources
        return pkg_resources.get_distribution("known").version
    """
    found = trace_run(where, handler(body))
    assert found.results[0].value == '"1.5"'
    assert [m.distribution for m in found.metadata] == ["known"]


# ---- children -----------------------------------------------------------------------------------------------------

CHILDREN = {
    "forked": """
        import os
        pid = os.fork()
        if not pid:
            import childish
            os._exit(0)
        os.waitpid(pid, 0)
    """,
    "killed": """
        import os, signal
        pid = os.fork()
        if not pid:
            import childish
            os.kill(os.getpid(), signal.SIGKILL)
        os.waitpid(pid, 0)
    """,
    "program": """
        import subprocess, sys
        subprocess.run([sys.executable, "-c", "import childish"], check=True)
    """,
    "program that kills itself": """
        import subprocess, sys
        subprocess.run([sys.executable, "-c", "import childish, os; os.kill(os.getpid(), 9)"])
    """,
    "spawned": """
        import multiprocessing, work
        process = multiprocessing.get_context("spawn").Process(target=work.run)
        process.start()
        process.join()
        assert process.exitcode == 0
    """,
    "pooled": """
        import multiprocessing, work
        with multiprocessing.get_context("fork").Pool(2) as pool:
            pool.map(work.run, [1, 2])
    """,
}


@pytest.mark.parametrize("kind", CHILDREN)
def test_files_that_child_processes_use_are_traced(each_env: Any, trace_run: Run, kind: str) -> None:
    each_env.install("childish", {"childish/__init__.py": READ_DATA, "childish/data.txt": "x", "childish/no.txt": ""})
    files = handler(CHILDREN[kind]) | {"work.py": "def run(*args):\n    import childish\n"}
    found = trace_run(each_env, files)
    assert modules(found)["childish"].path == "childish/__init__.py"
    assert "childish/data.txt" in opened(found)
    assert "childish/no.txt" not in uses(found)
    if each_env.describe().version >= (3, 7) or "program" in kind or kind == "spawned":
        assert found.processes >= 2


READ_DATA = "import os\nopen(os.path.join(os.path.dirname(__file__), 'data.txt')).close()\n"


def test_a_handler_that_closes_all_descriptors_is_still_traced(env: Any, trace_run: Run) -> None:
    env.install("pkg", {"pkg/__init__.py": READ_DATA, "pkg/data.txt": "x"})
    found = trace_run(env, handler("import os\nos.closerange(3, 256)\nimport pkg"))
    assert "pkg/data.txt" in opened(found)


# ---- nothing else changes -----------------------------------------------------------------------------------------


def test_the_users_own_sitecustomize_runs(each_env: Any, trace_run: Run) -> None:
    each_env.install("custom", {"sitecustomize.py": "import sys, extra\nsys.was_customized = True\n", "extra.py": ""})
    ask = "import sys, sitecustomize; said = [getattr(sys, 'was_customized', False), sitecustomize.__file__]"
    plain = [each_env.python, "-B", "-c", f"{ask}; import json; print(json.dumps(said))"]
    expected = subprocess.run(plain, check=True, capture_output=True, text=True).stdout.strip()
    found = trace_run(each_env, handler(f"{ask}\nreturn said"))
    assert found.results[0].value == expected
    # The Python of a Linux distribution may have its own sitecustomize, which is then found first.
    assert ("extra.py" in opened(found)) == expected.startswith("[true")


def test_a_pth_file_that_runs_code_is_part_of_the_startup(each_env: Any, trace_run: Run) -> None:
    each_env.install("starter", {"starter.pth": "import _starter\n", "_starter.py": "", "used.py": ""})
    found = modules(trace_run(each_env, handler("import used")))
    assert found["_starter"].startup
    assert found["_starter"].path == "_starter.py"
    assert not found["used"].startup


INNOCENT = """
    import copy, inspect, io, os, pathlib, pickle, shutil, tempfile
    assert pickle.loads(pickle.dumps(os.stat)) is os.stat
    assert pickle.loads(pickle.dumps(open)) is open
    assert copy.deepcopy({"f": os.stat})["f"] is os.stat
    with tempfile.TemporaryDirectory() as folder:
        top = pathlib.Path(folder, "top")
        (top / "sub").mkdir(parents=True)
        (top / "sub" / "file.txt").write_text("text")
        (top / "link").symlink_to("sub/file.txt")
        assert (top / "link").resolve() == (top / "sub" / "file.txt").resolve()
        assert sorted(p.name for p in top.rglob("*.txt")) == ["file.txt"]
        assert sorted(p.name for p in top.iterdir()) == ["link", "sub"]
        assert (top / "link").lstat().st_size == len("sub/file.txt")
        assert (top / "sub" / "file.txt").stat().st_size == 4
        with (top / "sub" / "file.txt").open() as file:
            assert file.read() == "text"
        assert (top / "sub" / "file.txt").open("rb").read() == b"text"
        shutil.copytree(str(top), os.path.join(folder, "copy"), symlinks=True)
        assert [names for _, _, names in os.walk(os.path.join(folder, "copy"))] == [["link"], ["file.txt"]]
        assert shutil.rmtree.avoids_symlink_attacks
        shutil.rmtree(os.path.join(folder, "copy"))
        assert not os.path.exists(os.path.join(folder, "copy"))
        handle = os.open(folder, os.O_RDONLY)
        assert os.stat("top", dir_fd=handle).st_mode and os.listdir(handle) == ["top"]
        os.close(handle)
    class Holder(object):
        asks = os.stat
        opens = open
    assert Holder().asks("/").st_mode
    assert os.stat in os.supports_dir_fd and os.stat in os.supports_follow_symlinks
    assert issubclass(io.TextIOWrapper, io.IOBase) and callable(os.stat)
    assert os.stat.__name__ == "stat"
    try:
        os.stat()
    except TypeError:
        pass
    else:
        raise AssertionError("os.stat without an argument")
    try:
        open("/nowhere/at/all")
    except FileNotFoundError as exc:
        assert exc.filename == "/nowhere/at/all"
    return "unchanged"
"""


def test_observing_does_not_break_code_that_uses_files(each_env: Any, trace_run: Run) -> None:
    each_env.install("pkg", {"pkg.py": ""})
    assert trace_run(each_env, handler(INNOCENT)).results[0].value == '"unchanged"'


def test_a_script_has_the_usual_arguments_and_names(each_env: Any, trace_run: Run) -> None:
    each_env.install("pkg", {"pkg.py": ""})
    script = (
        "import sys, os, pkg\nprint(__name__, os.path.basename(__file__), len(sys.argv), sys.argv[0] == __file__)\n"
    )
    found = trace_run(each_env, {"script.py": script})
    assert (found.kind, [(r.event, r.value) for r in found.results]) == (
        "script",
        [("stdout", "__main__ script.py 1 True\n")],
    )


# ---- outside of the site ------------------------------------------------------------------------------------------


def test_a_package_that_a_pth_file_puts_on_the_path_is_foreign(
    each_env: Any, trace_run: Run, write: Any, tmp_path: Path
) -> None:
    source = write(tmp_path / "checkout" / "src", {
        "edited/__init__.py": READ_DATA, "edited/sub/mod.py": "", "edited/data.txt": "x", "single.py": ""
    })  # fmt: skip
    each_env.install("edited", {"edited.pth": f"{source}\n"})
    found = trace_run(each_env, handler("import edited.sub.mod, single"))
    assert found.foreign == (
        ForeignRoot("edited", str(source / "edited")),
        ForeignRoot("single.py", str(source / "single.py")),
    )
    assert {"edited/__init__.py", "edited/sub/mod.py", "edited/data.txt", "single.py"} <= opened(found)
    assert modules(found)["edited.sub.mod"].path == "edited/sub/mod.py"


def test_a_module_whose_file_has_another_name_is_unplaced(env: Any, trace_run: Run, write: Any, tmp_path: Path) -> None:
    odd = write(tmp_path / "odd", {"plugin-one.py": ""}) / "plugin-one.py"
    env.install("pkg", {"pkg.py": ""})
    body = f"""
        import importlib.util, pkg, sys
        spec = importlib.util.spec_from_file_location("plugins.one", {str(odd)!r})
        module = importlib.util.module_from_spec(spec)
        sys.modules["plugins.one"] = module
        spec.loader.exec_module(module)
    """
    assert trace_run(env, handler(body)).unplaced == (str(odd),)


# ---- runs that fail -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"handler.py": "import absent\n\ndef handler(event, context):\n    pass\n"}, "while it was imported"),
        (handler("raise KeyError('this one')"), "on event"),
        (handler("import os\nos._exit(3)"), "ended with exit code 3"),
        (handler("import os\nos.kill(os.getpid(), 9)"), "was killed by SIGKILL"),
        (handler("raise SystemExit(0)"), "SystemExit"),
        (handler("return object()"), "can not be sent by Lambda"),
        ({"script.py": "raise ValueError('in a script')\n"}, "in a script"),
        ({"script.py": "import sys\nsys.exit(4)\n"}, "SystemExit: 4"),
        ({"script.py": "def broken(:\n"}, "while it was read"),
    ],
)
def test_a_failed_run_is_reported_with_its_cause(env: Any, trace_run: Run, files: dict[str, str], message: str) -> None:
    with pytest.raises(TraceError) as caught:
        trace_run(env, files)
    assert message in str(caught.value)
    assert next(iter(files)) in str(caught.value) or "Lambda" in message
    assert "harness.py" not in str(caught.value)


def test_the_users_traceback_is_shown_without_frames_of_the_tool(each_env: Any, trace_run: Run) -> None:
    with pytest.raises(TraceError) as caught:
        trace_run(
            each_env, {"handler.py": "import side\n\ndef handler(event, context):\n    pass\n", "side.py": "1 / 0\n"}
        )
    text = str(caught.value)
    assert "ZeroDivisionError" in text
    assert 'side.py", line 1' in text
    assert "importlib" not in text
    assert "probe.py" not in text


def test_a_script_may_exit_without_an_error(env: Any, trace_run: Run) -> None:
    env.install("pkg", {"pkg.py": ""})
    found = trace_run(env, {"script.py": "import pkg, sys\nprint('done')\nsys.exit(0)\n"})
    assert found.results[0].value == "done\n"


def test_a_script_gets_no_event(env: Any, trace_run: Run, tmp_path: Path) -> None:
    event = tmp_path / "event.json"
    event.write_text("{}")
    with pytest.raises(TraceError, match="--handler"):
        trace_run(env, {"script.py": "print(1)\n"}, events=[event])


def test_a_missing_handler_is_named(env: Any, trace_run: Run) -> None:
    with pytest.raises(TraceError, match="'absent'"):
        trace_run(env, handler("return 1"), handler="absent")


# ---- what the handler receives ------------------------------------------------------------------------------------


def test_events_contexts_and_models_reach_the_handler(each_env: Any, trace_run: Run, tmp_path: Path) -> None:
    each_env.install("pkg", {"pkg.py": ""})
    model = tmp_path / "elsewhere" / "model.bin"
    model.parent.mkdir()
    model.write_bytes(b"weights")
    events = tmp_path / "events.json"
    events.write_text('{"tests": [{"name": "e", "event": {"x": "\u00e9"}, "context": {"aws_request_id": "id-1"}}]}')
    source = """
        import os, decimal

        def lambda_handler(event, context):
            assert context.get_remaining_time_in_millis() > 0
            root = os.environ["LAMBDA_TASK_ROOT"]
            assert os.getcwd() == root
            assert os.environ["MODEL_PATH"] == os.path.join(root, "model.bin")
            print("to the log")
            with open("model.bin", "rb") as file:
                return [event["x"], context.aws_request_id, file.read().decode(), decimal.Decimal("0.5")]
    """
    found = trace_run(each_env, {"handler.py": code(source)}, models=[model], events=[events])
    assert [(r.event, r.value) for r in found.results] == [("e", '["\u00e9", "id-1", "weights", 0.5]')]
    assert found.workload.models == (model,)


def test_caches_of_this_machine_are_not_used(env: Any, trace_run: Run, monkeypatch: Any, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "mine"))
    monkeypatch.setenv("USERS_OWN", "kept")
    env.install("pkg", {"pkg.py": ""})
    body = """
        import os, sys
        assert "XDG_CACHE_HOME" not in os.environ
        assert not [entry for entry in sys.path if entry.endswith("mine")]
        assert os.listdir(os.path.expanduser("~")) == []
        return os.environ["USERS_OWN"]
    """
    assert trace_run(env, handler(body)).results[0].value == '"kept"'


def test_output_of_the_handler_is_not_output_of_the_tool(env: Any, trace_run: Run, capfd: Any) -> None:
    env.install("pkg", {"pkg.py": ""})
    trace_run(env, handler("import os\nprint('seen by python')\nos.write(1, b'seen by the kernel')"))
    out, err = capfd.readouterr()
    assert out == ""
    assert "seen by python" in err
    assert "seen by the kernel" in err


def test_the_run_uses_the_given_interpreter(each_env: Any, trace_run: Run) -> None:
    each_env.install("pkg", {"pkg.py": ""})
    found = trace_run(each_env, handler("import sys\nreturn [sys.prefix, sys.dont_write_bytecode]"))
    assert os.path.realpath(each_env.root) in os.path.realpath(found.results[0].value.split('"')[1])
    assert found.results[0].value.endswith("true]")
    assert sys.prefix not in found.results[0].value
