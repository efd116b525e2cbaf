"""The native parts on aarch64: cross-compiled, and run under QEMU's user emulation.

Debian's packages: g++-aarch64-linux-gnu (which brings gcc and libc6-dev-arm64-cross) and qemu-user.

What the emulation shows, and what it does not:

- Signals, system calls, the loader and the C library behave as on aarch64; caches are always coherent.
- Before version 8.2 it does not put the ESR record into signal frames, which the kernel always does: what the runtime
  then makes of a fault is what these tests run. That it reads the record right is tested with frames made by hand.
- Up to version 8.2 ``-p 65536`` gives programs pages of 64 KiB (AT_PAGESZ, where mappings begin and end, what the
  loader refuses); smaller changes of rights are not refused as by the kernel, but rounded. From 9.0 on it does nothing.
  With it the loader refuses every audit library, an empty one too: the page tracer has pages of 4 KiB alone here.
"""

import random
import re
import resource
import shutil
import signal
import subprocess
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from layer_minimizer.native import compact, hotness, pagetrace
from layer_minimizer.native.elf_image import ElfImage, Right, Tag, read_image

Check = Callable[[subprocess.CompletedProcess[str]], None]
Run = Callable[..., subprocess.CompletedProcess[str]]
PREFIX = "aarch64-linux-gnu-"
SYSROOT = Path("/usr/aarch64-linux-gnu")
LAYOUTS = {
    "64k-pages": ["-Wl,-z,max-page-size=65536"],  # what the linker does unasked, as a test below proves
    "4k-pages": ["-Wl,-z,max-page-size=4096"],
    "four-segments": ["-Wl,-z,max-page-size=4096,-z,separate-code"],
    "64k-four-segments": ["-Wl,-z,separate-code"],
    "now": ["-Wl,-z,max-page-size=4096,-z,now,-z,relro"],
}
ALIGNMENTS = {"64k-pages": 65536, "4k-pages": 4096}
SOME = [3, 50, 51, 120, 200, 290]  # numbers of functions, each at least a page from the others


@pytest.fixture(scope="module", autouse=True)
def no_core_files() -> Iterator[None]:
    """Keep QEMU from writing a core file for every crash."""
    before = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (0, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_CORE, before)


@pytest.fixture(scope="module")
def emulator() -> str:
    found = shutil.which("qemu-aarch64") or shutil.which("qemu-aarch64-static")
    if not found:
        pytest.skip("there is no qemu-aarch64 (Debian: qemu-user)")
    for tool in ("gcc", "g++", "readelf"):
        if not shutil.which(PREFIX + tool):
            pytest.skip(f"there is no {PREFIX}{tool} (Debian: g++-aarch64-linux-gnu)")
    if not (SYSROOT / "lib" / "ld-linux-aarch64.so.1").exists():
        pytest.skip(f"there is no C library for aarch64 in {SYSROOT} (Debian: libc6-dev-arm64-cross)")
    return found


@pytest.fixture(scope="module")
def run(kit: ModuleType, emulator: str, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Run a program for aarch64; `page_size` is that of the emulated kernel."""
    folder = tmp_path_factory.mktemp("cwd")

    def run(*words: object, page_size: int = 0, **variables: str) -> subprocess.CompletedProcess[str]:
        # In QEMU's own environment, LD_AUDIT would apply to the loader of QEMU.
        given = [word for name, value in variables.items() for word in ("-E", f"{name}={value}")]
        pages = ["-p", str(page_size)] if page_size else []
        done: subprocess.CompletedProcess[str] = kit.execute(
            emulator, "-L", SYSROOT, *pages, *given, *map(str, words), cwd=folder
        )
        done.stderr = re.sub(r"^qemu: uncaught target signal \d+ .*\n", "", done.stderr, flags=re.MULTILINE)
        return done

    return run


# ---- what is built ------------------------------------------------------------------------------------------------


def built_parts(kit: ModuleType, folder: Path, *more: str) -> Any:
    """Compile the C parts for aarch64."""
    return kit.built_parts(f"{PREFIX}gcc", folder, *more)


@pytest.fixture(scope="module")
def parts(kit: ModuleType, emulator: str, tmp_path_factory: pytest.TempPathFactory) -> Any:
    assert emulator
    return built_parts(kit, tmp_path_factory.mktemp("parts"))


@pytest.fixture(scope="module")
def survey(kit: ModuleType, emulator: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    assert emulator
    source = Path(__file__).with_name("survey.c")
    output = tmp_path_factory.mktemp("survey") / "survey"
    kit.build(f"{PREFIX}gcc", output, "-O1", source, "-ldl")
    return output


@pytest.fixture(scope="module")
def driver(kit: ModuleType, emulator: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    assert emulator
    source = Path(__file__).with_name("driver.c")
    output = tmp_path_factory.mktemp("driver") / "driver"
    kit.build(f"{PREFIX}gcc", output, "-O1", "-g", source, "-pthread", "-ldl")
    return output


@pytest.fixture(scope="module")
def linked(
    kit: ModuleType, emulator: str, objects_of: Callable[[str], Any], tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., Path]:
    """Return the library by the name of its layout, or of linker flags."""
    assert emulator
    made: dict[tuple[str, ...], Path] = {}

    def link(*flags: str) -> Path:
        if flags not in made:
            output = tmp_path_factory.mktemp("linked") / "libshapes.so"
            made[flags] = kit.link(objects_of(f"{PREFIX}gcc"), output, *flags, compiler=f"{PREFIX}g++")
        return made[flags]

    return link


@pytest.fixture(params=ALIGNMENTS)
def library(request: pytest.FixtureRequest, linked: Callable[..., Path]) -> Path:
    return linked(*LAYOUTS[request.param])


@pytest.fixture
def tree(kit: ModuleType, parts: Any, library: Path, tmp_path: Path) -> Any:
    """The library with as many cold pages as possible."""
    return kit.compacted(library, tmp_path / "top", parts.runtime)


def image_of(library: Path, page_size: int = 4096) -> ElfImage:
    return read_image(library.read_bytes(), page_size)


def alignment_of(library: Path) -> int:
    return max(segment.align for segment in image_of(library).loads)


def test_they_are_for_aarch64_and_run_with_its_oldest_c_library_and_no_other(kit: ModuleType, parts: Any) -> None:
    for part in (parts.runtime, parts.tracer):
        shown = kit.execute(f"{PREFIX}readelf", "-hdW", "--version-info", part).stdout
        assert "Machine:                           AArch64" in shown
        needed = [line.rpartition("[")[2].rstrip("]") for line in shown.splitlines() if "(NEEDED)" in line]
        assert needed == ["libc.so.6"]
        assert set(re.findall(r"GLIBC_[\w.]+", shown)) == {"GLIBC_2.17"}
        # A kernel with pages of 64 KiB loads nothing that is linked for smaller ones.
        loads = kit.execute(f"{PREFIX}readelf", "-lW", part).stdout
        assert {line.split()[-1] for line in loads.splitlines() if "LOAD" in line} == {"0x10000"}


def test_the_linker_makes_pages_of_64_kib_by_default(linked: Callable[..., Path]) -> None:
    assert alignment_of(linked()) == alignment_of(linked(*LAYOUTS["64k-pages"])) == 65536
    assert alignment_of(linked(*LAYOUTS["4k-pages"])) == 4096
    assert image_of(linked()).machine == "aarch64"


# ---- compacted libraries behave and read as their originals -------------------------------------------------------


def readable(image: ElfImage) -> Iterator[tuple[int, int]]:
    """Yield (address, size) of what the file holds, except for parts that are rewritten or writable."""
    strings, page = image.value(Tag.STRTAB) or 0, image.page_size
    moved = -(-strings // page) * page, (strings + (image.value(Tag.STRSZ) or 0)) // page * page
    for segment in image.loads:
        if segment.flags & Right.WRITE:
            continue
        start, stop = max(segment.address, 64), segment.address + segment.file_size
        if moved[0] < moved[1] and start <= moved[0] < stop:
            yield start, moved[0] - start
            start = moved[1]
        if start < stop:
            yield start, stop - start


def same_memory(run: Run, survey: Path, path: Path, original: Path, out: Path, **more: Any) -> None:
    image = image_of(original, more.get("page_size", 4096))
    spans = list(readable(image))
    done = run(survey, "memory", path, out, *(word for span in spans for word in span), **more)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    wanted = b"".join(bytes(image.read(*span)) for span in spans)
    assert len(wanted) > 600_000
    assert out.read_bytes() == wanted


def same_answers(run: Run, survey: Path, paths: Collection[Path], kit: ModuleType, original: Path, **more: Any) -> None:
    wanted = run(survey, "answers", original, **more)
    assert (wanted.returncode, wanted.stderr) == (0, "")
    lines = wanted.stdout.splitlines()
    assert lines[: kit.FUNCTIONS] == [f"call {n} {kit.expected(n, 7)}" for n in range(kit.FUNCTIONS)]
    caught = [f"caught {n} {1001 * (n + 1)}" for n in range(kit.LINKS)] + [f"caught {kit.LINKS} {kit.LINKS}"]
    assert lines[2 * kit.FUNCTIONS : 2 * kit.FUNCTIONS + kit.LINKS + 1] == caught
    rest = lines[2 * kit.FUNCTIONS + kit.LINKS + 1 :]
    assert int(rest[0].split()[1]) > kit.LINKS
    assert rest[1:5] == ["built 42", f"visits {5 + kit.FUNCTIONS}", "chosen 1001 1002", "room 0"]
    assert [line for line in rest[5:-2] if not re.fullmatch(r"place 1 f\d+ 1", line)] == []
    assert rest[-2:] == ["versions 1 2", "said 4 4 text"]
    for path in paths:
        done = run(survey, "answers", path, **more)
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout == wanted.stdout


def every_choice(kit: ModuleType, parts: Any, original: Path, top: Path, **more: Any) -> list[Any]:
    trees = [kit.compacted(original, top / "nothing", parts.runtime, **more)]
    cold = [page for run in trees[0].parts.cold for page in range(run.page, run.stop)]
    dice = random.Random(1)
    for count in (1, len(cold) // 4):
        trees.append(kit.compacted(original, top / str(count), parts.runtime, set(dice.sample(cold, count)), **more))
        assert 0 < trees[-1].parts.cold_bytes < trees[0].parts.cold_bytes
    assert trees[0].parts.cold_bytes >= 7 * 65536
    return trees


def accepted(kit: ModuleType, library: Path) -> None:
    done = kit.execute(f"{PREFIX}readelf", "-lWd", library)
    assert (done.returncode, done.stderr) == (0, "")
    assert "arning" not in done.stdout


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_behaves_and_reads_the_same(
    layout: str, run: Run, survey: Path, kit: ModuleType, parts: Any, linked: Callable[..., Path], tmp_path: Path
) -> None:
    original = linked(*LAYOUTS[layout])
    trees = every_choice(kit, parts, original, tmp_path)
    for tree in trees:
        accepted(kit, tree.library)
        same_memory(run, survey, tree.library, original, tmp_path / "bytes")
    same_answers(run, survey, [tree.library for tree in trees], kit, original)


def test_signed_return_addresses_and_branch_targets(
    run: Run, survey: Path, kit: ModuleType, parts: Any, objects_of: Callable[[str], Any], tmp_path: Path
) -> None:
    """The loader enables BTI on the hot pages, and the unwinder authenticates addresses with cold tables."""
    plain = objects_of(f"{PREFIX}gcc")
    files = []
    for name in ("shapes.c", "chain.cc"):
        flags = ["-O1", "-fPIC", "-mbranch-protection=standard", "-c", plain.versions.with_name(name)]
        files.append(kit.build(f"{PREFIX}gcc", tmp_path / f"{name}.o", *flags))
    objects = kit.Objects(tuple(files), plain.versions)
    # Without the start files: Debian's do not support BTI, so the original would crash, too.
    flags = ["-Wl,-z,max-page-size=4096", "-Wl,-z,force-bti", "-nostartfiles"]
    original = kit.link(objects, tmp_path / "libshapes.so", *flags, compiler=f"{PREFIX}g++")
    assert "Properties: AArch64 feature: BTI" in kit.execute(f"{PREFIX}readelf", "-nW", original).stdout
    trees = every_choice(kit, parts, original, tmp_path)
    for tree in trees:
        same_memory(run, survey, tree.library, original, tmp_path / "bytes")
    same_answers(run, survey, [tree.library for tree in trees], kit, original)


# ---- whatever a program does --------------------------------------------------------------------------------------


def test_pages_are_restored(scenario: str, run: Run, driver: Path, tree: Any, library: Path, good: Check) -> None:
    good(run(driver, scenario, library))  # with the original: the scenario itself is right
    good(run(driver, scenario, tree.library))


@pytest.mark.parametrize("scenario", ["null_write", "cold_code_write", "restored_code_write", "sent_signal"])
def test_genuine_faults_end_the_process(scenario: str, run: Run, driver: Path, tree: Any, library: Path) -> None:
    for path in (library, tree.library):
        done = run(driver, scenario, path)
        assert (done.returncode, done.stdout, done.stderr) == (-signal.SIGSEGV, "", "")


def test_a_relative_path(run: Run, driver: Path, tree: Any, good: Check) -> None:
    good(run(driver, "relative_path", "./libshapes.so", tree.library.parent))


def test_dropped_pages(
    run: Run, driver: Path, kit: ModuleType, parts: Any, library: Path, tmp_path: Path, good: Check
) -> None:
    tree = kit.compacted(library, tmp_path / "top", parts.runtime, keep=False)
    done = run(driver, "plain", tree.library)
    assert (done.returncode, done.stdout) == (-signal.SIGABRT, "")
    assert re.fullmatch(
        r"layer_minimizer: cannot restore page 0x[0-9a-f]+ of package/libshapes\.so: .* dropped;"
        r" build the layer with --cold keep, or trace this use\n",
        done.stderr,
    )
    all_hot = kit.compacted(library, tmp_path / "all", parts.runtime, set(range(1000)), keep=False)
    good(run(driver, "plain", all_hot.library))


def test_a_damaged_store(run: Run, driver: Path, tree: Any) -> None:
    tree.store.write_bytes(random.Random(1).randbytes(tree.store.stat().st_size))
    done = run(driver, "plain", tree.library)
    assert done.returncode == -signal.SIGABRT
    assert done.stderr.startswith("layer_minimizer: cannot restore page 0x")
    assert done.stderr.endswith(": its cold store is damaged\n")


# ---- what the processor reports of a fault ------------------------------------------------------------------------

# Frames as the kernel lays them out: arch/arm64/include/uapi/asm/sigcontext.h.
FRAMES = """
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include "faults.h"
static int mend(uintptr_t address, enum Access access, ucontext_t *context) {
    (void)address, (void)access, (void)context;
    return 0;
}
int main(int count, char **words) {
    static ucontext_t context;
    unsigned char *at = context.uc_mcontext.__reserved;
    (void)count, (void)on_fault;
    context.uc_mcontext.pc = strtoul(words[1], NULL, 0);
    ((struct _aarch64_ctx *)at)->magic = FPSIMD_MAGIC;
    ((struct _aarch64_ctx *)at)->size = sizeof(struct fpsimd_context);
    at += sizeof(struct fpsimd_context);
    if (words[3]) {
        struct esr_context *record = (struct esr_context *)at;
        record->head.magic = ESR_MAGIC;
        record->head.size = sizeof *record;
        record->esr = strtoul(words[3], NULL, 0);
        at += sizeof *record;
    }
    int access = access_of(&context, strtoul(words[2], NULL, 0));
    puts(access == ACCESS_READ ? "read" : access == ACCESS_WRITE ? "write" : "execute");
    return 0;
}
"""


def test_the_kind_of_access_is_read_from_the_frame(run: Run, kit: ModuleType, emulator: str, tmp_path: Path) -> None:
    assert emulator
    source = tmp_path / "frames.c"
    source.write_text(FRAMES)
    program = kit.build(f"{PREFIX}gcc", tmp_path / "frames", "-I", kit.SOURCES, source)
    code, data = 0x400000, 0x500000
    kinds = {
        (code, data, 0x92000007): "read",  # EC 0x24, data abort; translation fault
        (code, data, 0x9200004F): "write",  # WnR; permission fault
        (code, data, 0x9200000F): "read",
        (code, data, 0x92000147): "read",  # CM: cache maintenance, which needs the right to read
        (code, code, 0x92000007): "read",  # an instruction that reads itself
        (code, code, 0x82000007): "execute",  # EC 0x20, instruction abort
        (data, data, 0x8200000F): "execute",
        (code, code): "execute",
        (code, data): "read",
    }
    found = {}
    for words in kinds:
        done = run(program, *words)
        assert (done.returncode, done.stderr) == (0, "")
        found[words] = done.stdout.strip()
    assert found == kinds


def test_frames_have_the_record(run: Run, survey: Path) -> None:
    shown = run(survey, "syndrome").stdout.strip()
    assert shown in {"yes", "no"}
    if shown == "no":
        pytest.skip("this QEMU puts no ESR record into signal frames (it does from 8.2 on, and the kernel always)")


# ---- pages of 64 KiB ----------------------------------------------------------------------------------------------


@pytest.fixture
def large_pages(run: Run, survey: Path) -> int:
    size = 65536
    if run(survey, "page-size", page_size=size).stdout != f"{size}\n":
        pytest.skip("this QEMU does not emulate pages of 64 KiB in user emulation (-p, up to 8.2)")
    return size


def test_a_kernel_with_pages_of_64_kib(
    run: Run,
    survey: Path,
    driver: Path,
    large_pages: int,
    kit: ModuleType,
    parts: Any,
    linked: Callable[..., Path],
    tmp_path: Path,
    good: Check,
) -> None:
    original = linked()
    trees = every_choice(kit, parts, original, tmp_path, page_size=large_pages)
    for tree in trees:
        same_memory(run, survey, tree.library, original, tmp_path / "bytes", page_size=large_pages)
    same_answers(run, survey, [tree.library for tree in trees], kit, original, page_size=large_pages)
    for scenario in ("plain", "threads", "fork_after", "sigaction_after", "again_and_again"):
        good(run(driver, scenario, trees[0].library, page_size=large_pages))
    assert run(driver, "null_write", trees[0].library, page_size=large_pages).returncode == -signal.SIGSEGV


@pytest.mark.parametrize("layout", ALIGNMENTS)
def test_a_kernel_with_pages_of_64_kib_refuses_libraries_for_smaller_ones(
    layout: str,
    run: Run,
    driver: Path,
    large_pages: int,
    kit: ModuleType,
    parts: Any,
    linked: Callable[..., Path],
    tmp_path: Path,
    good: Check,
) -> None:
    """The loader refuses by name what was compacted for pages of 4 KiB, also if it loads the original."""
    original = linked(*LAYOUTS[layout])
    trees = every_choice(kit, parts, original, tmp_path)
    if ALIGNMENTS[layout] == large_pages:
        good(run(driver, "plain", original, page_size=large_pages))
    for path in [tree.library for tree in trees] + ([original] if ALIGNMENTS[layout] < large_pages else []):
        done = run(driver, "plain", path, page_size=large_pages)
        assert (done.returncode, done.stderr) == (1, "")
        assert str(path) in done.stdout
        assert done.stdout.endswith("not page-aligned\n")


def test_segments_that_fit_larger_pages_by_chance_are_moved_in_the_file(library: Path) -> None:
    """As those of an original do whose addresses are its offsets."""
    image = image_of(library)
    assert compact._suits_larger_pages(image, image.loads)
    assert not compact._suits_larger_pages(replace(image, page_size=65536), image.loads)


# ---- the page tracer ----------------------------------------------------------------------------------------------


def function_pages(kit: ModuleType, library: Path, names: Iterable[str]) -> set[int]:
    """Return the pages of functions, from the symbol table; each function fits into one page."""
    wanted = set(names)
    pages = set()
    size = image_of(library).page_size
    for line in kit.execute(f"{PREFIX}readelf", "-sW", library).stdout.splitlines():
        fields = line.split()
        if len(fields) == 8 and fields[7] in wanted and fields[3] in {"FUNC", "NOTYPE"}:
            address, length = int(fields[1], 16), int(fields[2])
            assert address // size == (address + max(length, 1) - 1) // size
            pages.add(address // size)
            wanted.discard(fields[7])
    assert not wanted
    return pages


def pages_of_loading(kit: ModuleType, library: Path) -> set[int]:
    """Return the pages of code that loading and unloading touch."""
    names = ("construct", "choose", "_init", "_fini", "frame_dummy", "register_tm_clones", "call_weak_fn")
    pages = function_pages(kit, library, (*names, "deregister_tm_clones", "__do_global_dtors_aux"))
    image = image_of(library)
    for section in image.sections:
        if section.name.startswith((".plt", ".init", ".fini")):
            stop = (section.address + section.size - 1) // image.page_size + 1
            pages.update(range(section.address // image.page_size, stop))
    return pages


def traced(
    run: Run, tracer: Path, library: Path, folder: Path, *command: object, **more: Any
) -> tuple[subprocess.CompletedProcess[str], frozenset[int]]:
    table = folder / "table"
    assert pagetrace.make_table([("lib", library)], table) == {}
    done = run(*command, LD_AUDIT=str(tracer), LAYER_MINIMIZER_PAGES=str(table), **more)
    return done, pagetrace.read_table(table, [("lib", library)])["lib"]


def answered(kit: ModuleType, done: subprocess.CompletedProcess[str], numbers: Iterable[int]) -> None:
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [f"f{n} {kit.expected(n, 7)}" for n in numbers]


def marks_exactly(kit: ModuleType, library: Path, touched: frozenset[int], numbers: Iterable[int]) -> None:
    watched = {page for first, stop, _ in hotness.cold_candidates(image_of(library)) for page in range(first, stop)}
    called = function_pages(kit, library, [f"f{n}" for n in numbers]) & watched
    assert called <= touched
    assert touched - called <= pages_of_loading(kit, library)


@pytest.mark.parametrize("way", ["use", "in-child"])
@pytest.mark.parametrize("numbers", [[], SOME, list(range(300))], ids=len)
def test_it_marks_the_pages_of_the_functions_that_were_called(
    way: str, numbers: list[int], run: Run, survey: Path, kit: ModuleType, parts: Any, library: Path, tmp_path: Path
) -> None:
    done, touched = traced(run, parts.tracer, library, tmp_path, survey, way, library, *numbers)
    answered(kit, done, numbers)
    marks_exactly(kit, library, touched, numbers)


@pytest.mark.parametrize("scenario", ["threads", "sigaction_before", "signal_after", "blocked_by_process"])
def test_it_changes_nothing_else(
    scenario: str, run: Run, driver: Path, kit: ModuleType, parts: Any, library: Path, tmp_path: Path, good: Check
) -> None:
    done, touched = traced(run, parts.tracer, library, tmp_path, driver, scenario, library)
    good(done)
    marks_exactly(kit, library, touched & function_pages(kit, library, [f"f{n}" for n in range(300)]), range(300))


def test_results_are_those_of_an_untraced_run(
    run: Run, survey: Path, parts: Any, library: Path, tmp_path: Path
) -> None:
    alone = run(survey, "answers", library)
    done, touched = traced(run, parts.tracer, library, tmp_path, survey, "answers", library)
    assert touched
    assert (done.returncode, done.stdout, done.stderr) == (0, alone.stdout, "")


def test_genuine_faults_end_a_traced_process(run: Run, survey: Path, parts: Any, library: Path, tmp_path: Path) -> None:
    alone = run(survey, "scribble", library)
    done, touched = traced(run, parts.tracer, library, tmp_path, survey, "scribble", library, *SOME)
    assert touched
    assert alone.returncode == done.returncode == -signal.SIGSEGV
    assert done.stderr == ""


def test_a_run_on_hot_pages_alone_touches_no_cold_one(
    run: Run, survey: Path, kit: ModuleType, parts: Any, library: Path, tmp_path: Path
) -> None:
    _, touched = traced(run, parts.tracer, library, tmp_path, survey, "use", library, 3, 50)
    tree = kit.compacted(library, tmp_path / "top", parts.runtime, touched, keep=False)
    assert tree.parts.cold_bytes >= 4 * 65536
    answered(kit, run(survey, "use", tree.library, 3, 50), [3, 50])
    done = run(survey, "use", tree.library, *range(300))
    assert done.returncode == -signal.SIGABRT
    assert "dropped; build the layer with --cold keep" in done.stderr


def test_a_tracer_that_was_built_with_an_older_c_library(
    run: Run, survey: Path, kit: ModuleType, linked: Callable[..., Path], tmp_path: Path
) -> None:
    """From glibc 2.35 on the loader for aarch64 refuses audit libraries that return a version other than its own."""
    headers = tmp_path / "headers"
    headers.mkdir()
    (headers / "link.h").write_text("#include_next <link.h>\n#undef LAV_CURRENT\n#define LAV_CURRENT 1\n")
    tracer = built_parts(kit, tmp_path, "-I", str(headers)).tracer
    library = linked(*LAYOUTS["4k-pages"])
    done, touched = traced(run, tracer, library, tmp_path, survey, "use", library, *SOME)
    answered(kit, done, SOME)
    marks_exactly(kit, library, touched, SOME)
