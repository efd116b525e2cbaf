"""The page tracer marks the pages that a run touches, all of them and no others, and changes nothing else."""

import json
import shutil
import subprocess
import tomllib
from collections.abc import Callable, Iterable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from layer_minimizer.native import pagetrace
from layer_minimizer.native.elf_image import read_image
from tests.support.places import CHECKOUT
from tests.support.pythons import need_python

Trace = Callable[..., tuple[subprocess.CompletedProcess[str], dict[str, frozenset[int]]]]
HEAD = """
import ctypes, faulthandler, json, os, signal, subprocess, sys, threading
path, numbers = json.loads(sys.argv[1]), json.loads(sys.argv[2])
def use(numbers):
    found = [getattr(library, f"f{n}")(7) for n in numbers]
    assert found == [7 * (n + 3) + n % 7 for n in numbers], found
"""
LOAD = "library = ctypes.CDLL(path)\n"
# Numbers of functions, each at least a page from the others.
SOME = [3, 50, 51, 120, 200, 290]


def function_pages(kit: ModuleType, library: Path, names: Iterable[str]) -> set[int]:
    """Return the pages of functions, from the symbol table; each function fits into one page."""
    wanted = set(names)
    pages = set()
    for line in kit.execute(kit.need("readelf"), "-sW", library).stdout.splitlines():
        fields = line.split()
        if len(fields) == 8 and fields[3] == "FUNC" and fields[7] in wanted:
            address, size = int(fields[1], 16), int(fields[2])
            assert address // 4096 == (address + max(size, 1) - 1) // 4096
            pages.add(address // 4096)
            wanted.discard(fields[7])
    assert not wanted
    return pages


@pytest.fixture
def trace(kit: ModuleType, parts: Any, library: Path, tmp_path: Path) -> Trace:
    def trace(
        script: str, numbers: Iterable[int] = SOME, **libraries: Path
    ) -> tuple[subprocess.CompletedProcess[str], dict[str, frozenset[int]]]:
        watched = list((libraries or {"lib": library}).items())
        table = tmp_path / "table"
        assert pagetrace.make_table(watched, table) == {}
        variables = {"LD_AUDIT": str(parts.tracer), "LAYER_MINIMIZER_PAGES": str(table)}
        done = kit.python(HEAD + script, str(library), list(numbers), **variables)
        assert done.returncode == 0, (done.returncode, done.stderr)
        return done, pagetrace.read_table(table, watched)

    return trace


@pytest.fixture(scope="module")
def base(kit: ModuleType, library: Path) -> set[int]:
    """Pages of code that loading and unloading touch: constructors, the resolver, and code added by the linker."""
    names = ("construct", "choose", "_init", "_fini", "frame_dummy", "register_tm_clones")
    names += ("deregister_tm_clones", "__do_global_dtors_aux")
    pages = function_pages(kit, library, names)
    for section in read_image(library.read_bytes()).sections:
        if section.name.startswith((".plt", ".init", ".fini")):
            pages.update(range(section.address // 4096, (section.address + section.size - 1) // 4096 + 1))
    return pages


def marks_exactly(
    kit: ModuleType, library: Path, base: set[int], touched: frozenset[int], numbers: Iterable[int]
) -> None:
    called = function_pages(kit, library, [f"f{n}" for n in numbers])
    assert called <= touched
    assert touched - called <= base


@pytest.mark.parametrize("numbers", [[], SOME, list(range(0, 300, 40)), list(range(300))], ids=len)
def test_it_marks_the_pages_of_the_functions_that_were_called(
    numbers: list[int], trace: Trace, kit: ModuleType, library: Path, base: set[int]
) -> None:
    _, touched = trace(LOAD + "use(numbers)", numbers)
    marks_exactly(kit, library, base, touched["lib"], numbers)
    assert function_pages(kit, library, ["construct", "choose"]) <= touched["lib"]


SPREAD = {
    "a forked child": "child = os.fork()\nif not child:\n use(numbers); os._exit(0)\n"
    "assert os.waitpid(child, 0)[1] == 0",
    "parent and child": "use(numbers[:3])\nchild = os.fork()\nif not child:\n use(numbers[3:]); os._exit(0)\n"
    "assert os.waitpid(child, 0)[1] == 0\nuse(numbers)",
    "threads": "threads = [threading.Thread(target=use, args=(numbers[i % 6:] + numbers,)) for i in range(16)]\n"
    "[t.start() for t in threads]\n[t.join() for t in threads]",
    "faulthandler": "faulthandler.enable()\nuse(numbers)",
    "blocked signals": "signal.pthread_sigmask(signal.SIG_BLOCK, set(signal.Signals))\nuse(numbers)",
    "loaded twice": "use(numbers[:3])\nlibrary = ctypes.CDLL(path)\nuse(numbers)",
    "loaded again": "import _ctypes\nfor n in numbers:\n use([n]); _ctypes.dlclose(library._handle); "
    "library = ctypes.CDLL(path)",
}


@pytest.mark.parametrize("way", SPREAD)
def test_it_marks_them_however_they_are_called(
    way: str, trace: Trace, kit: ModuleType, library: Path, base: set[int]
) -> None:
    _, touched = trace(LOAD + SPREAD[way])
    marks_exactly(kit, library, base, touched["lib"], SOME)


def test_faulthandler_that_was_enabled_before(trace: Trace, kit: ModuleType, library: Path, base: set[int]) -> None:
    _, touched = trace("faulthandler.enable()\n" + LOAD + "use(numbers)")
    marks_exactly(kit, library, base, touched["lib"], SOME)


def test_programs_that_the_traced_one_starts(trace: Trace, kit: ModuleType, library: Path, base: set[int]) -> None:
    inner = LOAD + "use(numbers)"
    script = f"code = {HEAD + inner!r}\nsubprocess.run([sys.executable, '-c', code, *sys.argv[1:]], check=True)"
    _, touched = trace(script)
    marks_exactly(kit, library, base, touched["lib"], SOME)


def test_nothing_is_lost_if_a_process_is_killed(trace: Trace, kit: ModuleType, library: Path, base: set[int]) -> None:
    script = "child = os.fork()\nif not child:\n use(numbers); os.kill(os.getpid(), 9)\nos.waitpid(child, 0)"
    _, touched = trace(LOAD + script)
    marks_exactly(kit, library, base, touched["lib"], SOME)


def test_two_libraries_are_traced_separately_and_a_third_is_not(
    trace: Trace, kit: ModuleType, library: Path, base: set[int], tmp_path: Path
) -> None:
    second, third = (Path(shutil.copy(library, tmp_path / f"{name}.so")) for name in ("second", "third"))
    script = (
        "for path, part in zip([path, *numbers[0]], numbers[1]):\n library = ctypes.CDLL(path); use(part)\n"
        "print(sum('third' in line and '---p' in line for line in open('/proc/self/maps')))\n"
        "print(sum('second' in line and '---p' in line for line in open('/proc/self/maps')))"
    )
    numbers: Any = [[str(second), str(third)], [SOME[:2], SOME[2:4], SOME[4:]]]
    done, touched = trace(script, numbers, first=library, second=second)
    marks_exactly(kit, library, base, touched["first"], SOME[:2])
    marks_exactly(kit, library, base, touched["second"], SOME[2:4])
    assert set(touched) == {"first", "second"}
    closed_in_third, closed_in_second = map(int, done.stdout.split())
    assert closed_in_third == 0
    assert closed_in_second > 0


def test_results_are_those_of_an_untraced_run(kit: ModuleType, parts: Any, library: Path, tmp_path: Path) -> None:
    pagetrace.make_table([("lib", library)], tmp_path / "table")
    alone = kit.python(kit.CHECK, str(library))
    traced = kit.python(
        kit.CHECK, str(library), LD_AUDIT=str(parts.tracer), LAYER_MINIMIZER_PAGES=str(tmp_path / "table")
    )
    assert json.loads(alone.stdout)
    assert (traced.returncode, traced.stdout, traced.stderr) == (0, alone.stdout, "")


@pytest.mark.parametrize("wrong", ["missing", "empty", "other"])
def test_without_a_table_nothing_is_traced_and_nothing_breaks(
    wrong: str, kit: ModuleType, parts: Any, library: Path, tmp_path: Path
) -> None:
    table = tmp_path / "table"
    if wrong != "missing":
        table.write_bytes(b"" if wrong == "empty" else b"something else" * 500)
    variables = {"LD_AUDIT": str(parts.tracer), "LAYER_MINIMIZER_PAGES": str(table)}
    done = kit.python(HEAD + LOAD + "use(numbers)", str(library), SOME, **variables)
    assert (done.returncode, done.stderr) == (0, "")


def test_genuine_faults_end_a_traced_process(kit: ModuleType, parts: Any, library: Path, tmp_path: Path) -> None:
    pagetrace.make_table([("lib", library)], tmp_path / "table")
    variables = {"LD_AUDIT": str(parts.tracer), "LAYER_MINIMIZER_PAGES": str(tmp_path / "table")}
    crash = "use(numbers)\nctypes.memset(ctypes.cast(library.f3, ctypes.c_void_p), 0, 1)"
    done = kit.python(HEAD + LOAD + crash, str(library), SOME, **variables)
    assert (done.returncode, done.stderr) == (-11, "")


def test_a_run_on_hot_pages_alone_touches_no_cold_one(
    trace: Trace, kit: ModuleType, parts: Any, library: Path, tmp_path: Path
) -> None:
    """The purpose of the tracer: the library compacted after a trace works in the same run without its cold pages."""
    _, touched = trace(LOAD + "use(numbers)")
    tree = kit.compacted(library, tmp_path / "top", parts.runtime, touched["lib"], keep=False)
    assert tree.parts.cold_bytes > 64 * 1024
    done = kit.python(HEAD + LOAD + "use(numbers)", str(tree.library), SOME)
    assert (done.returncode, done.stderr) == (0, "")
    done = kit.python(HEAD + LOAD + "use(range(300))", str(tree.library), SOME)
    assert done.returncode == -6
    assert "it was dropped" in done.stderr


def test_libraries_that_cannot_be_traced_have_a_reason(library: Path, tmp_path: Path) -> None:
    (tmp_path / "text.so").write_text("no library")
    (tmp_path / "empty.so").touch()
    libraries = [(name, tmp_path / name) for name in ("text.so", "empty.so", "missing.so")]
    refused = pagetrace.make_table([*libraries, ("lib", library)], tmp_path / "table")
    assert refused["text.so"] == "it is not an ELF file"
    assert refused["empty.so"].startswith("it cannot be read")
    assert refused["missing.so"].startswith("it cannot be read")
    assert pagetrace.read_table(tmp_path / "table", [("lib", library)]) == {"lib": frozenset()}


def test_a_program_with_a_c_library_of_its_own_gets_no_other_one(kit: Any, tmp_path: Path) -> None:
    """The loader would end it, as that of glibc 2.43 does if the tracer brings glibc 2.36."""
    sources = CHECKOUT / "layer_minimizer/native/src"
    libraries = tomllib.loads((sources / "libraries.toml").read_text())["library"]
    (library,) = (each for each in libraries if each["name"] == "_pagetrace")
    options = ["-shared", "-fPIC", *library["compile-args"], sources / library["source"]]
    # As for an interpreter in a folder of its own.
    tracer = kit.build("gcc", tmp_path / "t.so", *options, *library["link-args"], "-Wl,-rpath,/opt/python/lib")
    for version in ("3.14", "3.15"):
        done = kit.execute(need_python(version), "-c", "import ctypes, ssl; print(ctypes.sizeof)", LD_AUDIT=str(tracer))
        assert (done.returncode, done.stderr) == (0, "")
