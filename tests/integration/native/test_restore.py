"""Cold pages are restored whatever a program does; if that fails, the process ends with one message."""

import itertools
import platform
import random
import shutil
import signal
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from layer_minimizer.layer.log_messages import count_restored_pages
from layer_minimizer.native import compact
from layer_minimizer.payload.runtime import messages
from layer_minimizer.trace.restore_log import RestoreLog
from layer_minimizer.verify.alone import find_missing_pages

Check = Callable[[subprocess.CompletedProcess[str]], None]
Run = Callable[..., subprocess.CompletedProcess[str]]
PLUGIN = """
#include <signal.h>
static struct sigaction before;
static void ours(int number) { (void)number; }
void install(void) {
    struct sigaction action = {.sa_handler = ours};
    sigset_t all;
    sigfillset(&all);
    sigaction(SIGSEGV, &action, &before);
    sigprocmask(SIG_SETMASK, &all, 0);
}
void remove_again(void) { sigaction(SIGSEGV, &before, 0); }
"""


@pytest.fixture(scope="module")
def driver(kit: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    source = Path(__file__).with_name("driver.c")
    return kit.build("gcc", tmp_path_factory.mktemp("driver") / "driver", "-O1", "-g", source, "-pthread", "-ldl")


@pytest.fixture
def run(kit: ModuleType, driver: Path) -> Run:
    def run(*words: object, **variables: str) -> subprocess.CompletedProcess[str]:
        return kit.execute(driver, *map(str, words), **variables)

    return run


@pytest.fixture
def tree(kit: ModuleType, parts: Any, library: Path, tmp_path: Path) -> Any:
    """The library with all cold that may be."""
    return kit.compacted(library, tmp_path / "top", parts.runtime)


def test_pages_are_restored(scenario: str, run: Run, tree: Any, library: Path, good: Check) -> None:
    good(run(scenario, library))  # with the original: the scenario itself is right
    good(run(scenario, tree.library))


def test_pages_of_large_chunks_are_restored(kit: ModuleType, parts: Any, tmp_path: Path) -> None:
    code = "\n".join(f".rept 150000\naddq ${n}, %rax\nnop\n.endr" for n in range(1, 8))
    if platform.machine() != "x86_64":
        code = "\n".join(f".rept 150000\nadd x0, x0, #{n}\nnop\n.endr" for n in range(1, 8))
    start = "xorl %eax, %eax" if platform.machine() == "x86_64" else "mov x0, #0"
    (tmp_path / "long.s").write_text(f".globl total\n.type total, %function\ntotal:\n{start}\n{code}\nret\n")
    original = kit.build("gcc", tmp_path / "liblong.so", "-shared", tmp_path / "long.s")
    tree = kit.compacted(original, tmp_path / "top", parts.runtime, large=True)
    assert max(chunk.pages * 4096 for chunk in tree.parts.chunks) == compact.LARGE_CHUNK_BYTES
    ask = "import ctypes, json, sys; print(ctypes.CDLL(json.loads(sys.argv[1])).total())"
    for path in (original, tree.library):
        assert kit.python(ask, str(path)).stdout.split() == [str(150000 * sum(range(1, 8)))]


@pytest.mark.skipif(
    tuple(map(int, platform.libc_ver()[1].split("."))) < (2, 35), reason="glibc lists other namespaces from 2.35 on"
)
def test_pages_are_restored_in_other_namespaces(run: Run, tree: Any, library: Path, good: Check) -> None:
    good(run("other_namespaces", library))
    good(run("other_namespaces", tree.library))


@pytest.mark.parametrize("scenario", ["null_write", "cold_code_write", "restored_code_write", "sent_signal"])
def test_genuine_faults_end_the_process_as_ever(scenario: str, run: Run, tree: Any, library: Path) -> None:
    for path in (library, tree.library):
        done = run(scenario, path)
        assert (done.returncode, done.stdout, done.stderr) == (-signal.SIGSEGV, "", "")


def copies(kit: ModuleType, parts: Any, library: Path, top: Path, count: int) -> list[Any]:
    made = []
    for i in range(count):
        (top / str(i)).mkdir()
        copy = Path(shutil.copy(library, top / str(i) / f"lib{i}.so"))
        made.append(kit.compacted(copy, top / "shared", parts.runtime))
    return made


def test_libraries_share_one_runtime(
    run: Run, kit: ModuleType, parts: Any, library: Path, tmp_path: Path, good: Check
) -> None:
    trees = copies(kit, parts, library, tmp_path, 4)
    assert len({tree.runtime for tree in trees}) == 1
    good(run("many_at_once", *(tree.library for tree in trees)))


def test_two_copies_of_the_runtime_share_a_process(
    run: Run, kit: ModuleType, parts: Any, library: Path, tmp_path: Path, good: Check
) -> None:
    trees = [kit.compacted(library, tmp_path / name, parts.runtime) for name in "abc"]
    good(run("many_at_once", *(tree.library for tree in trees)))
    script = """
import ctypes, faulthandler, json, signal, sys
for path in map(json.loads, sys.argv[1:]):
    library = ctypes.CDLL(path)
    assert [library.call(n, 7) for n in range(300)] == [7 * (n + 3) + n % 7 for n in range(300)]
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    faulthandler.enable()
if len(sys.argv) == 3:
    ctypes.string_at(8)
"""
    done = kit.python(script, *(str(tree.library) for tree in trees))
    assert (done.returncode, done.stderr) == (0, "")
    done = kit.python(script, *(str(tree.library) for tree in trees[:2]))
    assert done.returncode == -signal.SIGSEGV
    assert done.stderr.count("Fatal Python error: Segmentation fault") == 1


@pytest.mark.parametrize("enabled", ["before", "after"])
def test_faulthandler_still_reports(enabled: str, kit: ModuleType, tree: Any) -> None:
    script = """
import ctypes, faulthandler, json, sys
path, enabled, crash = map(json.loads, sys.argv[1:])
if enabled == "before":
    faulthandler.enable()
library = ctypes.CDLL(path)
if enabled == "after":
    faulthandler.enable()
assert [library.call(n, 7) for n in range(300)] == [7 * (n + 3) + n % 7 for n in range(300)]
if crash:
    ctypes.string_at(8)
"""
    done = kit.python(script, str(tree.library), enabled, 0)
    assert (done.returncode, done.stderr) == (0, "")
    done = kit.python(script, str(tree.library), enabled, 1)
    assert done.returncode == -signal.SIGSEGV
    assert done.stderr.startswith("Fatal Python error: Segmentation fault\n")


@pytest.fixture
def plugin(kit: ModuleType, tmp_path: Path) -> Path:
    (tmp_path / "plugin.c").write_text(PLUGIN)
    return kit.build("gcc", tmp_path / "plugin.so", "-shared", "-fPIC", tmp_path / "plugin.c")


def test_a_library_that_is_loaded_again_does_not_get_past_the_runtime(
    run: Run, tree: Any, plugin: Path, good: Check
) -> None:
    good(run("plugin_again", tree.library, plugin))


def test_other_threads_load_and_unload(run: Run, tree: Any, plugin: Path, good: Check) -> None:
    good(run("unloading_elsewhere", tree.library, plugin))


# ---- places -------------------------------------------------------------------------------------------------------


def test_a_relative_path_and_another_folder_afterwards(run: Run, tree: Any, good: Check) -> None:
    good(run("relative_path", "./libshapes.so", tree.library.parent))
    good(run("relative_path", "package/libshapes.so", tree.library.parent.parent))


def test_a_plain_name_from_the_search_path(run: Run, tree: Any, good: Check) -> None:
    good(run("plain", "libshapes.so", LD_LIBRARY_PATH=str(tree.library.parent)))


def test_a_program_that_is_linked_against_the_library(
    kit: ModuleType, tree: Any, library: Path, tmp_path: Path
) -> None:
    (tmp_path / "main.c").write_text(
        "int call(int, int);\nint main(void) { for (int n = 0; n < 300; n++) if (call(n, 7) != 7 * (n + 3) + n % 7)"
        " return 1; return 0; }"
    )
    for relro in ("lazy", "now"):
        program = kit.build("gcc", tmp_path / relro, f"-Wl,-z,{relro}", tmp_path / "main.c", library)
        done = kit.execute(program, LD_LIBRARY_PATH=str(tree.library.parent))
        assert (done.returncode, done.stderr) == (0, "")


def test_a_moved_tree_and_a_read_only_one(run: Run, tree: Any, tmp_path: Path, good: Check) -> None:
    moved = Path(shutil.move(tree.library.parents[1], tmp_path / "with spaces" / "and ünïcode"))
    for path in (moved, *moved.rglob("*")):
        path.chmod(0o555)
    good(run("plain", moved / "package" / "libshapes.so"))


def test_the_log_names_what_was_put_back(run: Run, tree: Any, tmp_path: Path, good: Check) -> None:
    log = tmp_path / "log"
    good(run("plain", tree.library, LAYER_MINIMIZER_LOG=str(log)))
    lines = log.read_text().splitlines()
    runs = [(run_.page, run_.pages) for chunk in tree.parts.chunks for run_ in chunk.runs]
    assert 0 < len(lines) <= len(tree.parts.chunks)
    assert set(lines) <= {f"restored pages {at:#x}+{size:#x} of package/libshapes.so" for at, size in runs}
    # The tool derives its patterns from the runtime's messages, and reads such a log.
    assert set(lines) <= {messages.RESTORED_PAGES % (at, size, "package/libshapes.so") for at, size in runs}
    assert count_restored_pages(log.read_bytes()) == len(lines)
    (pages,) = RestoreLog.read([log.read_text()]).pages.items()
    first_and_count = [line.split()[2].split("+") for line in lines]
    expected = {int(at, 16) + each for at, count in first_and_count for each in range(int(count, 16))}
    assert pages == ("package/libshapes.so", expected)
    # Without a slash the value names no file.
    logged = run("plain", tree.library, LAYER_MINIMIZER_LOG="1")
    assert set(lines) <= set(logged.stderr.splitlines())


# The runtime as Python loads it, and one that asks it for pages, as they stand in the log, before they are touched.
AHEAD = """
import ctypes, json, os, sys
from _imp import create_dynamic, exec_dynamic
from importlib.machinery import ModuleSpec
runtime, library, lines, wanted = map(json.loads, sys.argv[1:])
native = create_dynamic(ModuleSpec("native", None, origin=runtime))
exec_dynamic(native)
assert not native.restore_pages(lines[0])  # the library is not loaded
shapes = ctypes.CDLL(library)
if wanted:
    assert any([native.restore_pages(line) for line in lines])  # the loader may have touched some
    for other in ("", "0x", "0x1+0x1", "0x1+0x1 of ", "0x1+0x1 of other.so", "0x2+0xffffffffffffffff of other.so"):
        assert not native.restore_pages(other)
    assert not any([native.restore_pages(line) for line in lines])
if os.path.exists(os.environ["LAYER_MINIMIZER_LOG"]):
    os.truncate(os.environ["LAYER_MINIMIZER_LOG"], 0)  # of what the loader has touched
print([shapes.call(number, 2) for number in range(300)])
"""


def test_pages_are_restored_before_they_are_touched(kit: ModuleType, tree: Any, tmp_path: Path) -> None:
    runtime = str(next((tree.library.parent.parent / "layer_minimizer.libs").glob("liblayercold*")))
    ends = [chunk.runs[0] for chunk in tree.parts.chunks]
    lines = [f"{run.page:#x}+{run.pages:#x} of package/libshapes.so" for run in ends]
    restored, printed = [], []
    for wanted in (False, True):
        log = tmp_path / f"log{wanted}"
        done = kit.python(AHEAD, runtime, str(tree.library), lines, wanted, LAYER_MINIMIZER_LOG=str(log))
        assert (done.returncode, done.stderr) == (0, "")
        printed.append(done.stdout)
        restored.append(count_restored_pages(log.read_bytes()) if log.exists() else 0)
    assert printed[0] == printed[1]
    assert restored[0] > 0 == restored[1]


def test_the_tool_reads_which_dropped_page_was_touched(
    run: Run, kit: ModuleType, parts: Any, library: Path, tmp_path: Path
) -> None:
    tree = kit.compacted(library, tmp_path / "dropped", parts.runtime, keep=False)
    done = run("plain", tree.library)
    assert done.returncode == -signal.SIGABRT
    ((name, addresses),) = find_missing_pages(done.stderr).items()
    (address,) = addresses
    assert name == "package/libshapes.so"
    message = messages.PAGE_DROPPED % (address, name)
    assert done.stderr.startswith(f"layer_minimizer: {message}; build the layer with --cold keep")


# ---- damage -------------------------------------------------------------------------------------------------------


def ends_with_one_line(done: subprocess.CompletedProcess[str], why: str, name: str = "package/libshapes.so") -> None:
    assert done.returncode == -signal.SIGABRT
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("layer_minimizer: cannot restore page 0x")
    assert name in done.stderr
    assert done.stderr.rstrip("\n").endswith(why)


MISSING = "its cold store is missing; if the library was copied, build the layer with --native off"


def test_a_missing_store(run: Run, tree: Any) -> None:
    tree.store.unlink()
    ends_with_one_line(run("plain", tree.library), MISSING)


@pytest.mark.parametrize("change", [-1, 1, -4096, None])
def test_a_store_of_another_size(change: int | None, run: Run, tree: Any) -> None:
    data = tree.store.read_bytes()
    tree.store.write_bytes(b"" if change is None else data[: len(data) + change] + bytes(max(change, 0)))
    ends_with_one_line(run("plain", tree.library), "its cold store has been cut or replaced")


def test_a_store_of_the_same_size_and_other_bytes(run: Run, tree: Any) -> None:
    tree.store.write_bytes(random.Random(1).randbytes(tree.store.stat().st_size))
    ends_with_one_line(run("plain", tree.library), "its cold store is damaged")


@pytest.mark.parametrize("seed", range(12))
def test_a_flipped_bit_in_the_store(seed: int, run: Run, tree: Any, good: Check) -> None:
    dice = random.Random(seed)
    data = bytearray(tree.store.read_bytes())
    data[dice.randrange(len(data) - 8)] ^= 1 << dice.randrange(8)
    tree.store.write_bytes(data)
    done = run("plain", tree.library)
    if done.returncode != 0:  # the last bits of a stream may say nothing
        ends_with_one_line(done, "its cold store is damaged")
    else:
        good(done)


def index_bounds(data: bytes) -> tuple[int, int]:
    start = data.rindex(b"LAYCOLD1")
    return start, start + struct.unpack_from("<I", data, start + 8)[0]


@pytest.mark.parametrize("part", range(4))
def test_a_flipped_byte_anywhere_in_the_index(part: int, run: Run, tree: Any) -> None:
    whole = tree.library.read_bytes()
    start, stop = index_bounds(whole)
    places = [*range(start, start + 68), *range(start + 68, stop, (stop - start - 68) // 24), stop - 1]
    for place, mask in itertools.product(places[part::4], (1, 0x80)):
        data = bytearray(whole)
        data[place] ^= mask
        tree.library.unlink()
        tree.library.write_bytes(data)
        ends_with_one_line(run("plain", tree.library), "its index is damaged", str(tree.library))


def test_dropped_pages(run: Run, kit: ModuleType, parts: Any, library: Path, tmp_path: Path, good: Check) -> None:
    tree = kit.compacted(library, tmp_path / "top", parts.runtime, keep=False)
    assert not tree.store.exists()
    ends_with_one_line(run("plain", tree.library), "trace this use")
    good(run("plain", kit.compacted(library, tmp_path / "all", parts.runtime, set(range(1000)), keep=False).library))


# ---- what the runtime needs ---------------------------------------------------------------------------------------


def test_the_parts_run_with_an_old_c_library_and_no_other(kit: ModuleType, parts: Any) -> None:
    for part in (parts.runtime, parts.tracer):
        shown = kit.execute(kit.need("readelf"), "-dW", "--version-info", part).stdout
        needed = [line.rpartition("[")[2].rstrip("]") for line in shown.splitlines() if "(NEEDED)" in line]
        assert needed == ["libc.so.6"]
        versions = {word for word in shown.split() if word.startswith("GLIBC_")}
        assert versions
        assert all(tuple(map(int, v.removeprefix("GLIBC_").split("."))) <= (2, 17) for v in versions), versions
