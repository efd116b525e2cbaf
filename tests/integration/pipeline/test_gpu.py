"""Packages for a GPU on a machine without one: what others link to is shipped, and a use of more ends in an error."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from layer_minimizer.layer.archive import unzip
from layer_minimizer.native import parts

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.desk import Desk
    from tests.support.sites import Environment

pytestmark = pytest.mark.skipif(
    bool(parts.unavailable_reason()) or not shutil.which("gcc"), reason=parts.unavailable_reason() or "no gcc"
)
FILLER = '__asm__(".text\\n{0}:\\n.fill 900000, 1, 0x90\\nret\\n");\n'
# A constant with pointers, a variable, a function of two versions and one that is chosen when the library is loaded.
ENGINE = f"""\
{FILLER.format("engine_unused")}
static char state[700000] = {{1}}; /* too much to ship before a run has shown that it needs it */
int started;
__attribute__((constructor)) static void start(void) {{ started = 7; }}
int _Z5innerv(void) {{ return 1; }}
int engine_compute(int x) {{ return x * started * state[0] * _Z5innerv(); }}
int engine_count = 5;
static int chosen(void) {{ return 3; }}
static int (*choose(void))(void) {{ return chosen; }}
int engine_choice(void) __attribute__((ifunc("choose")));
const struct {{ const char *name; int (*compute)(int); }} engine_type = {{"engine", engine_compute}};
"""
# The engine needs a library that calls it back, by a name of C++, and that is not linked to it.
ENGINE += "extern int part(void);\nint _Z6secretv(void) { return part(); }\n"
PART = "extern int _Z6secretv(void);\nint part(void) { return 1; }\nint back(void) { return _Z6secretv(); }\n"
VERSIONS = "ENGINE_1 { global: engine_*; _Z*; local: *; };\n"
NET = """\
extern int engine_compute(int), engine_choice(void), engine_count;
extern const struct { const char *name; int (*compute)(int); } engine_type;
int add(int a, int b) { return a + b + engine_type.name[0]; }
int compute(int a, int b) { return engine_compute(a) + b; }
int count(int a, int b) { return engine_count + a + b; }
int count_up(int a, int b) { return engine_count = a + b; }
int choice(int a, int b) { return engine_choice() + a + b; }
int indirect(int a, int b) { return engine_type.compute(a) + b; }
"""
# A library of C++ that catches what it calls, and one that lets its caller catch it.
CATCHING = """\
#include <exception>
#include <cstdio>
struct Type { const char *name; int (*compute)(int); };
extern "C" int engine_compute(int);
extern "C" const Type engine_type;
static char last[1000];
static int guard(int (*function)(const Type *, int), int a) {
    try { return function(&engine_type, a); }
    catch (const std::exception &error) { std::snprintf(last, sizeof last, "%s", error.what()); return -1; }
}
static int direct(const Type *, int a) { return engine_compute(a); }
static int by_table(const Type *type, int a) { return 1 + type->compute(a); }
static int by_register(const Type *type, int a) { int (*volatile function)(int) = type->compute; return function(a); }
extern "C" int direct_guarded(int a, int) { return guard(direct, a); }
extern "C" int table_guarded(int a, int) { return guard(by_table, a); }
extern "C" int register_guarded(int a, int) { return guard(by_register, a); }
extern "C" int unguarded(int a, int b) noexcept { return engine_compute(a) + b; }
extern "C" const char *caught() { return last; }
"""
DRIVEN = FILLER.format("driven_unused") + "extern int cuInit(int);\nint driven(void) { return cuInit(0); }\n"
HANDLER = """\
import ctypes, os
import net

library = ctypes.CDLL(os.path.join(os.path.dirname(net.__file__), "libnet.so"))


def handler(event, context):
    do = event["do"]
    if not do.endswith("guarded"):
        return getattr(library, do)(1, 2)
    catching = ctypes.CDLL(os.path.join(os.path.dirname(net.__file__), "libcatching.so"))
    catching.caught.restype = ctypes.c_char_p
    return [getattr(catching, do)(1, 2) for _ in range(3)] + [catching.caught().decode()]
"""
RUN = "import json, site, sys; site.addsitedir(sys.argv[1]); sys.path.insert(0, sys.argv[2]); import handler\n"
RUN += "print(handler.handler({'do': sys.argv[3]}, None))\n"
HAS = "import ctypes, sys; f = ctypes.CDLL(sys.argv[1]); print(*(hasattr(f, each) for each in sys.argv[2:]))"
LIBRARY, DRIVEN_LIBRARY = "nvidia/engine/lib/libengine.so.1", "net/libnet_driven.so"
PART_LIBRARY = "net/libpart.so"
CATCHING_LIBRARY = "net/libcatching.so"
BUILT = ("net/libnet.so", PART_LIBRARY, DRIVEN_LIBRARY, CATCHING_LIBRARY)


def build(target: Path, code: str, *options: object, language: str = "c") -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    compiler = "gcc" if language == "c" else "g++"
    command = [compiler, "-shared", "-fPIC", "-Wl,-z,now", "-o", target, "-x", language, "-", "-x", "none", *options]
    subprocess.run(command, input=code, text=True, check=True)


@dataclass
class Project:
    """A handler that uses a package which is linked to libraries for a GPU."""

    desk: Desk
    env: Environment

    def minimize(self, do: str, *options: str) -> dict[str, Any]:
        self.desk.write("event.json", json.dumps({"do": do}))
        cache = {"XDG_CACHE_HOME": str(self.desk.folder / "cache")}
        arguments = ("--event", self.desk.work / "event.json", "--json", "--cold", "keep", *options)
        return json.loads(self.desk.minimize(self.env, *arguments, variables=cache).out)

    def run(self, do: str) -> subprocess.CompletedProcess[str]:
        layer = self.desk.folder / "layer"
        if not layer.exists():
            unzip(self.desk.output, layer)
        top = next(layer.glob("python/lib/python3*/site-packages"))
        arguments = [sys.executable, "-I", "-c", RUN, top, self.desk.work, do]
        return subprocess.run(arguments, capture_output=True, text=True, check=False)


@pytest.fixture
def project(desk: Desk, env: Environment, tmp_path: Path) -> Project:
    desk.write("handler.py", HANDLER)
    made, versions, driver = tmp_path / "made", tmp_path / "versions", tmp_path / "made/libcuda.so.1"
    versions.write_text(VERSIONS)
    build(made / PART_LIBRARY, PART, "-Wl,-soname,libpart.so")
    linked = (made / PART_LIBRARY, "-Wl,-rpath,$ORIGIN/../../../net")
    build(made / LIBRARY, ENGINE, *linked, f"-Wl,--version-script={versions}", "-Wl,-soname,libengine.so.1")
    above = (made / LIBRARY, "-Wl,-rpath,$ORIGIN/../nvidia/engine/lib")
    build(made / "net/libnet.so", NET, *above)
    if shutil.which("g++"):
        build(made / CATCHING_LIBRARY, CATCHING, *above, "-O2", language="c++")
    build(driver, "int cuInit(int flags) { return flags; }", "-Wl,-soname,libcuda.so.1")
    build(made / DRIVEN_LIBRARY, DRIVEN, driver)
    env.install(
        "nvidia-engine", {LIBRARY: (made / LIBRARY).read_bytes(), "nvidia/engine/tables.bin": "x" * 100_000}, "13.0"
    )
    files = {path: (made / path).read_bytes() for path in BUILT if (made / path).exists()}
    env.install("net", {"net/__init__.py": "", **files})
    return Project(desk, env)


def test_only_links_are_shipped_and_calls_end_in_an_error(project: Project) -> None:
    report = project.minimize("add")
    gpu, verdicts = report["gpu"], {file["path"]: (file["verdict"], file["reason"]) for file in report["files"]}
    assert verdicts[DRIVEN_LIBRARY] == verdicts["nvidia/engine/tables.bin"] == ("dropped", "GPU")
    assert verdicts[LIBRARY] == ("compacted", "TRACED")
    assert gpu["files"] >= 3
    assert gpu["bytes"] > 2_600_000
    assert gpu["shipped"] < 40_000
    assert set(gpu["distributions"]) == {"net", "nvidia-engine"}
    assert report["layer"]["unzipped_bytes"] < 400_000
    assert project.run("add").stdout.strip() == str(3 + ord("e"))
    for use in ("compute", "count", "count_up", "choice", "indirect"):
        ended = project.run(use)
        assert ended.returncode == -6, ended
        assert f"of {LIBRARY}: it was dropped, because it is for a GPU (nvidia-engine 13.0)" in ended.stderr
        assert "build the layer with --gpu keep" in ended.stderr


@pytest.mark.skipif(not shutil.which("g++"), reason="no g++")
def test_callers_in_cxx_get_an_exception(project: Project) -> None:
    project.minimize("add", "--include", CATCHING_LIBRARY)
    why = f"of {LIBRARY}: it was dropped, because it is for a GPU (nvidia-engine 13.0): build the layer with --gpu keep"
    for way in ("direct", "table", "register"):
        done = project.run(f"{way}_guarded")
        assert done.stdout.startswith("[-1, -1, -1, 'layer_minimizer: cannot restore page "), done
        assert why in done.stdout
        assert done.stderr.count(why) == 3
    ended = project.run("unguarded")
    assert ended.returncode == -6
    assert why in ended.stderr


def test_what_the_run_used_of_it_works(project: Project) -> None:
    report = project.minimize("compute")
    (library,) = [each for each in report["libraries"] if each["path"] == LIBRARY]
    assert library["gpu"]
    assert library["dropped"] > 800_000
    assert library["shipped"] < 800_000
    assert project.run("compute").stdout.strip() == "9"
    assert project.run("count").stdout.strip() == "8"
    # It calls one function of C++ by its name itself, another library the other one.
    shipped = next((project.desk.folder / "layer").rglob(LIBRARY))
    ask = [sys.executable, "-c", HAS, shipped, "_Z5innerv", "_Z6secretv", "engine_compute"]
    assert subprocess.run(ask, capture_output=True, text=True, check=True).stdout == "False True True\n"


def test_all_of_it_is_shipped_on_request(project: Project) -> None:
    report = project.minimize("add", "--gpu", "keep")
    assert report["gpu"] == {"files": 0, "bytes": 0, "shipped": 0, "distributions": {}, "cpu_builds": {}}
    for use, result in (("add", 3 + ord("e")), ("compute", 9), ("choice", 6), ("count_up", 3), ("indirect", 9)):
        assert project.run(use).stdout.strip() == str(result)
