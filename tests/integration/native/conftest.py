"""Shared by the tests of the native parts: the compiled C parts, a test library with many features, compacting it."""

import json
import random
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from layer_minimizer.layer import layout
from layer_minimizer.native import coldstore, compact
from tests.support.places import CHECKOUT

SOURCES = CHECKOUT / "layer_minimizer" / "native" / "src"
FUNCTIONS = 300
LINKS = 40  # functions of the C++ chain
SECONDS = 60
# In layers, the file name contains a digest.
RUNTIME = layout.RUNTIME.format(digest="0" * 16)


@pytest.fixture(scope="session")
def kit() -> ModuleType:
    """Return this module, for tests that cannot import it."""
    return sys.modules[__name__]


@pytest.fixture(scope="session")
def good() -> Callable[[subprocess.CompletedProcess[str]], None]:
    """Return a function that checks that a scenario of the driver succeeded."""

    def check(done: subprocess.CompletedProcess[str]) -> None:
        assert (done.returncode, done.stdout, done.stderr) == (0, "ok\n", "")

    return check


@pytest.fixture(
    params=[
        "plain", "threads", "fork_before", "fork_after", "fork_among_threads", "sigaction_before", "sigaction_after",
        "signal_before", "signal_after", "blocked_by_thread", "blocked_by_process", "blocked_before_loading",
        "in_handler", "on_alternate_stack", "small_stack", "again_and_again", "no_descriptors",
    ]
)  # fmt: skip
def scenario(request: pytest.FixtureRequest) -> str:
    """One of the driver's scenarios that only need a library."""
    return str(request.param)


# ---- tools --------------------------------------------------------------------------------------------------------


def need(program: str) -> str:
    found = shutil.which(program)
    if not found:
        pytest.skip(f"{program} is not installed")
    return found


def execute(*command: str | Path, cwd: Path | None = None, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a program without checking its exit code; `variables` are added to a minimal environment."""
    environment = {"PATH": "/usr/bin:/bin", "LC_ALL": "C", **variables}
    return subprocess.run(
        list(map(str, command)), check=False, capture_output=True, text=True, timeout=SECONDS, env=environment, cwd=cwd
    )


def build(compiler: str, output: Path, *arguments: str | Path) -> Path:
    done = execute(need(compiler), "-o", output, *arguments)
    assert done.returncode == 0, done.stderr
    return output


def python(script: str, *arguments: object, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run Python code in a child process that can import this project; arguments are passed as JSON in sys.argv."""
    path = {"PYTHONPATH": str(CHECKOUT), "PYTHONDONTWRITEBYTECODE": "1"}
    return execute(sys.executable, "-c", script, *map(json.dumps, arguments), **path, **variables)


# ---- the C parts --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Parts:
    """The compiled C parts."""

    runtime: Path
    tracer: Path


def built_parts(compiler: str, folder: Path, *more: str) -> Parts:
    """Compile the C parts as libraries.toml says, with all warnings as errors."""
    made = {}
    for library in tomllib.loads((SOURCES / "libraries.toml").read_text())["library"]:
        flags = ["-shared", "-fPIC", "-Wall", "-Wextra", "-Werror", *more, *library["compile-args"]]
        output = folder / f"{library['name']}.so"
        made[library["name"]] = build(compiler, output, *flags, SOURCES / library["source"], *library["link-args"])
    return Parts(made["_coldpages"], made["_pagetrace"])


@pytest.fixture(scope="session")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Parts:
    """Return the C parts, compiled for this machine."""
    return built_parts("gcc", tmp_path_factory.mktemp("parts"))


# ---- the test library ---------------------------------------------------------------------------------------------


def c_source() -> str:
    """Return C code with functions spread over many pages of random bytes, and features that loaders handle."""
    dice = random.Random(1)
    lines = [_C_HEAD]
    for i in range(FUNCTIONS):
        lines.append(f"PLACED int f{i}(int x) {{ visits++; return x * {i + 3} + {i % 7}; }}")
        filler = ",".join(str(dice.getrandbits(32)) for _ in range(200 if i % 3 else 1))
        lines.append(f'__asm__(".text\\n.long {filler}\\n");')
    lines.append(f"static function const table[] = {{{','.join(f'f{i}' for i in range(FUNCTIONS))}}};")
    texts = ",".join(f'"text number {i}"' for i in range(FUNCTIONS))
    lines.append(f"static const char *const texts[] = {{{texts}}};")
    lines.append(_C_TAIL)
    return "\n".join(lines)


_C_HEAD = """
#include <stddef.h>
#include <unistd.h>
#define PLACED __attribute__((noinline, used, aligned(1024)))
typedef int (*function)(int);
__thread int visits = 5;
static int built;
static char aligned_room[64] __attribute__((aligned(64)));
__attribute__((constructor)) PLACED static void construct(void) { built = 42; }
PLACED __attribute__((section(".text.unlikely"))) static void *decide(void *answer) { return answer; }
"""
_C_TAIL = """
int call(int n, int x) { return table[n](x); }
void *place(int n) { return (void *)table[n]; }
const char *text(int n) { return texts[n]; }
int was_built(void) { return built; }
int *visits_here(void) { return &visits; }
void *room(void) { return aligned_room; }
long say(int file, int n) { return write(file, texts[n], 4); }
static PLACED int one_of_many(int x) { return x + 1000; }
/* The resolver itself never goes cold; what it calls, far from it, may. */
static PLACED void *choose(void) { return decide((void *)one_of_many); }
int chosen(int x) __attribute__((ifunc("choose")));
int call_chosen(int x) { return chosen(x); }
PLACED int older(void) { return 1; }
PLACED int newer(void) { return 2; }
__asm__(".symver older, versioned@V1");
__asm__(".symver newer, versioned@@V2");
"""
VERSIONS = "V1 { global: *; };\nV2 { } V1;\n"


def cpp_source() -> str:
    """Return a chain of functions, each on a page of its own, that throws at its end or counts its frames."""
    lines = [_CPP_HEAD, *(f"int t{i}(int);" for i in range(LINKS + 1))]
    lines += [
        f"PLACED int t{i}(int n) {{ Counted c; if (n == {i}) throw Trouble{{{i}}}; return t{i + 1}(n) + 1; }}"
        for i in range(LINKS)
    ]
    return "\n".join([*lines, _CPP_TAIL.replace("LINKS", str(LINKS))])


_CPP_HEAD = """
#include <execinfo.h>
#define PLACED __attribute__((noinline, used, aligned(4096)))
namespace {
struct Trouble { int where; };
int destroyed;
struct Counted { ~Counted() { destroyed++; } };
}
"""
_CPP_TAIL = """
static int frames;
int tLINKS(int) { void *found[200]; frames = backtrace(found, 200); return 0; }
extern "C" int caught(int n) {
    destroyed = 0;
    try { return t0(n); } catch (const Trouble &trouble) { return 1000 * (trouble.where + 1) + destroyed; }
}
extern "C" int count_frames() { t0(-1); return frames; }
"""


@dataclass(frozen=True, slots=True)
class Objects:
    """The object files of the library from one compiler, and its version script."""

    files: tuple[Path, ...]
    versions: Path


@pytest.fixture(scope="session")
def objects_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Objects]:
    """Return a function that compiles the objects with ``gcc`` or ``clang``."""
    made: dict[str, Objects] = {}

    def compile_all(compiler: str) -> Objects:
        if compiler not in made:
            folder = tmp_path_factory.mktemp(compiler)
            (folder / "shapes.c").write_text(c_source())
            (folder / "chain.cc").write_text(cpp_source())
            (folder / "versions").write_text(VERSIONS)
            files = [
                build(compiler, folder / f"{name}.o", "-O1", "-g", "-fPIC", "-c", folder / name)
                for name in ("shapes.c", "chain.cc")
            ]
            made[compiler] = Objects(tuple(files), folder / "versions")
        return made[compiler]

    return compile_all


def link(objects: Objects, output: Path, *flags: str, compiler: str = "g++") -> Path:
    script = f"-Wl,--version-script={objects.versions}"
    return build(compiler, output, "-shared", *objects.files, script, "-Wl,-soname,libshapes.so", *flags)


@pytest.fixture(scope="session")
def library(objects_of: Callable[[str], Objects], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The library, linked with the compiler's default options."""
    return link(objects_of("gcc"), tmp_path_factory.mktemp("library") / "libshapes.so")


# ---- its compaction -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Tree:
    """A compacted library in a layer's folders."""

    library: Path
    store: Path
    runtime: Path
    parts: compact.Split


def compacted(
    original: Path,
    top: Path,
    runtime: Path,
    hot: Collection[int] = (),
    *,
    keep: bool = True,
    splitter: Callable[..., compact.Split] = compact.split,
    **split: Any,
) -> Tree:
    """Write a library compacted to ``top``/package, and the runtime and the store next to that folder."""
    folder, native = top / "package", top / layout.NATIVE_FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    native.mkdir(exist_ok=True)
    parts = splitter(original.read_bytes(), hot, **split)
    packed = coldstore.pack_chunks(parts, "a library") if keep else coldstore.without_data(parts)
    tree = Tree(folder / original.name, native / f"{original.name}.cold", native / RUNTIME, parts)
    small = compact.rewrite(
        parts,
        name=f"package/{original.name}",
        runtime=f"$ORIGIN/../{layout.NATIVE_FOLDER}/{RUNTIME}",
        store=f"../{layout.NATIVE_FOLDER}/{tree.store.name}" if keep else "",
        packed=packed,
    )
    tree.library.write_bytes(small)
    if keep:
        tree.store.write_bytes(b"".join(chunk.data for chunk in packed))
    shutil.copyfile(runtime, tree.runtime)
    return tree


def expected(n: int, x: int) -> int:
    """Return the result of function ``n`` of the library."""
    return x * (n + 3) + n % 7


CHECK = """
import ctypes, json, os, sys
from layer_minimizer.native.elf_image import Right, Tag, read_image

class Place(ctypes.Structure):
    _fields_ = [(name, ctypes.c_void_p) for name in ("file", "base", "symbol", "address")]

def behaviour(path):
    lib = ctypes.CDLL(path)
    lib.text.restype = ctypes.c_char_p
    lib.visits_here.restype = ctypes.POINTER(ctypes.c_int)
    lib.place.restype = lib.room.restype = ctypes.c_void_p
    found = [[lib.call(n, 7) for n in range(300)], [lib.text(n).decode() for n in range(300)]]
    found += [lib.was_built(), lib.visits_here()[0], lib.chosen(1), lib.call_chosen(2), lib.room() % 64]
    found += [[lib.caught(n) for n in range(41)], lib.count_frames()]
    where = Place()
    loader = ctypes.CDLL(None)
    loader.dladdr.argtypes = [ctypes.c_void_p, ctypes.c_void_p]
    for n in (0, 150, 299):
        assert loader.dladdr(lib.place(n), ctypes.byref(where)), n
        found.append([ctypes.string_at(where.address and where.symbol or 0, 0).decode(), where.address == lib.place(n)])
        assert os.path.samefile(ctypes.string_at(where.file).decode(), path)
    loader.dlvsym.restype = ctypes.c_void_p
    for version in (b"V1", b"V2"):
        versioned = loader.dlvsym(ctypes.c_void_p(lib._handle), b"versioned", version)
        found.append(ctypes.CFUNCTYPE(ctypes.c_int)(versioned)())
    read, write = os.pipe()
    found.append([lib.say(write, 3), os.read(read, 100).decode()])
    return lib, found

def same_memory(lib, original):
    image = read_image(open(original, "rb").read())
    base = ctypes.c_size_t.from_address(lib._handle).value
    strings = image.value(Tag.STRTAB)
    first, stop = -(-strings // 4096), (strings + image.value(Tag.STRSZ)) // 4096
    compared = 0
    for segment in image.loads:
        if segment.flags & Right.WRITE:
            continue
        at = max(segment.address, 64)
        while at < segment.address + segment.file_size:
            end = min((at // 4096 + 1) * 4096, segment.address + segment.file_size)
            if not first <= at // 4096 < stop:
                start = segment.offset + at - segment.address
                assert ctypes.string_at(base + at, end - at) == bytes(image.data[start : start + end - at]), hex(at)
                compared += 1
            at = end
    return compared

original, *others = map(json.loads, sys.argv[1:])
_, wanted = behaviour(original)
for path in others:
    lib, found = behaviour(path)
    assert found == wanted, (path, found, wanted)
    assert same_memory(lib, original) > 60
print(json.dumps(wanted))
"""


def same_behaviour(original: Path, trees: Sequence[Tree]) -> None:
    """Check in one child process that the original and compacted copies behave the same and have equal memory."""
    done = python(CHECK, str(original), *(str(tree.library) for tree in trees))
    assert done.returncode == 0, done.stderr[-3000:] or done.returncode
    wanted = json.loads(done.stdout)
    assert wanted[0] == [expected(n, 7) for n in range(FUNCTIONS)]
    assert wanted[2:7] == [42, 5 + FUNCTIONS, 1001, 1002, 0]
    assert wanted[7] == [1001 * (n + 1) for n in range(LINKS)] + [LINKS]
