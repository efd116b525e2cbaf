"""The readelf, ldd, loader and C library of Debian's releases take a compacted library as they take the original.

Each release is a minimal root tree, made once in the folder where the examples keep their environments.
"""

import functools
import os
import random
import shlex
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.support.debian import tree_of

DEBIANS = {"bullseye": "2.31", "bookworm": "2.36", "trixie": "2.41"}
PACKAGES = "base-files,bash,binutils,libc-bin,libstdc++6"  # and what they depend on
MINUTES = 5 * 60
# Versions of the C library without support for packed relative relocations refuse libraries that have them.
PACKED = "GLIBC_ABI_DT_RELR"
LAYOUTS = {
    f"{compiler}-{linker}": (compiler, [f"-fuse-ld={linker}"])
    for compiler in ("gcc", "clang")
    for linker in ("bfd", "gold", "lld")
} | {
    "patchelf": ("gcc", []),
    "packed-relocations": ("gcc", ["-Wl,-z,pack-relative-relocs"]),
    "64k-pages": ("gcc", ["-Wl,-z,max-page-size=65536"]),
    "2m-one-segment": ("gcc", ["-Wl,-z,max-page-size=2097152,-z,noseparate-code"]),
    "full-relro": ("gcc", ["-Wl,-z,relro,-z,now"]),
    "sysv-hash": ("gcc", ["-Wl,--hash-style=sysv"]),
}
# Uses all features of the library that involve the loader or the unwinder, and prints the results.
PROBE = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <gnu/libc-version.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void *library;

static void *find(const char *name, const char *version) {
    void *found = version ? dlvsym(library, name, version) : dlsym(library, name);
    if (!found) puts(dlerror()), exit(1);
    return found;
}
#define CALL(result, name, types, ...) ((result(*) types)find(name, NULL))(__VA_ARGS__)

int main(int count, char **arguments) {
    int ends[2];
    char said[8] = "";
    Dl_info at;
    alarm(40);
    if (count != 2) return 3;
    library = dlopen(arguments[1], RTLD_LAZY);
    if (!library) return puts(dlerror()), 2;
    printf("glibc %s\n", gnu_get_libc_version());
    printf("caught");
    for (int n = 0; n <= 40; n++) printf(" %d", CALL(int, "caught", (int), n));
    printf("\nframes %d\n", CALL(int, "count_frames", (void)));
    printf("calls");
    for (int n = 0; n < 300; n++) printf(" %d", CALL(int, "call", (int, int), n, 7));
    printf("\nvisits %d\n", *CALL(int *, "visits_here", (void)));
    printf("texts");
    for (int n = 0; n < 300; n++) printf(" %s", strrchr(CALL(const char *, "text", (int), n), ' ') + 1);
    printf("\nbuilt %d\n", CALL(int, "was_built", (void)));
    printf("room %d\n", (int)((uintptr_t)CALL(void *, "room", (void)) % 64));
    printf("chosen %d %d\n", CALL(int, "chosen", (int), 1), CALL(int, "call_chosen", (int), 2));
    printf("versions %d %d\n", ((int (*)(void))find("versioned", "V1"))(), ((int (*)(void))find("versioned", "V2"))());
    for (int n = 0; n < 300; n += 149) {
        void *place = CALL(void *, "place", (int), n);
        if (!dladdr(place, &at)) return 4;
        printf("name-%d %s %d %s\n", n, at.dli_sname, place == at.dli_saddr, strrchr(at.dli_fname, '/'));
    }
    if (pipe(ends)) return 5;
    printf("wrote %ld\n", CALL(long, "say", (int, int), ends[1], 3));
    if (read(ends[0], said, sizeof said - 1) < 0) return 6;
    printf("said %s\n", said);
    return dlclose(library);
}
"""
SCENARIOS = [
    "plain", "threads", "fork_before", "fork_after", "fork_among_threads", "sigaction_before", "sigaction_after",
    "signal_before", "signal_after", "blocked_by_thread", "blocked_by_process", "blocked_before_loading", "in_handler",
    "on_alternate_stack", "small_stack", "again_and_again", "no_descriptors", "other_namespaces",
]  # fmt: skip


# ---- the trees ----------------------------------------------------------------------------------------------------


def numbers(version: str) -> tuple[int, ...]:
    return tuple(map(int, version.split(".")))


@dataclass(frozen=True, slots=True)
class Debian:
    """A release's root tree, with a folder in it for the tests' files."""

    kit: ModuleType
    suite: str
    root: Path
    work: Path

    @property
    def version(self) -> tuple[int, ...]:
        """The version of the C library."""
        return numbers(DEBIANS[self.suite])

    @property
    def libraries(self) -> Path:
        """The folder of the C library."""
        return next(self.root.glob("lib/*/libc.so.6")).parent

    @property
    def loader(self) -> Path:
        return next(self.libraries.glob("ld-linux-*.so.*"))

    def inside(self, word: str | Path) -> str:
        return f"/{word.relative_to(self.root)}" if isinstance(word, Path) else word

    def run(self, *words: str | Path, proc: bool = True, **variables: str | Path) -> Any:
        """Run a program of the tree. Paths and variables are for the program, not for the command that changes root."""
        assigned = " ".join(f"{name}={shlex.quote(self.inside(value))}" for name, value in variables.items())
        root = [self.kit.need("unshare"), "--mount-proc" if proc else "--mount", f"--root={self.root}"]
        shell = ["/bin/bash", "-c", f'{assigned} exec "$@"', "bash"]
        return self.kit.execute(*root, *shell, *map(self.inside, words))

    def build(self, output: str, source: Path, *more: str | Path) -> Path:
        """Compile for this tree: the host's compiler, the tree's C library, so that no newer version is required."""
        parts = [self.libraries / name for name in ("libc.so.6", "libdl.so.2", "libpthread.so.0")]
        flags = ["-std=gnu11", "-O1", "-nodefaultlibs", "-Wl,--allow-shlib-undefined", "-Wl,--no-as-needed"]
        path = f"-Wl,-rpath-link,{self.libraries}"
        made: Path = self.kit.build("gcc", self.work / output, *flags, source, *more, *parts, path)
        return made


@pytest.fixture(scope="session", params=DEBIANS)
def debian(kit: ModuleType, request: pytest.FixtureRequest) -> Iterator[Debian]:
    """One of the releases."""
    if os.geteuid() != 0:
        pytest.skip("to change the root takes root")
    root = tree_of(request.param, PACKAGES)
    with tempfile.TemporaryDirectory(dir=root / "tmp") as work:
        made = Debian(kit, request.param, root, Path(work))
        tried = made.run("bash", "-c", "")
        if tried.stderr.startswith("unshare: "):
            pytest.skip(tried.stderr.strip())
        assert tried.returncode == 0, tried.stderr
        yield made


# ---- the libraries and programs in them ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class LibrarySet:
    """A library and its compacted versions: one without hot pages, one with some."""

    original: Path
    compacted: tuple[Path, Path]


LibrarySets = Callable[[str], LibrarySet]


@pytest.fixture(scope="session")
def made(kit: ModuleType, parts: Any, objects_of: Any, tmp_path_factory: pytest.TempPathFactory) -> LibrarySets:
    """Return a function that builds the library and its compacted versions in a layout."""

    @functools.cache
    def make(layout: str) -> LibrarySet:
        compiler, flags = LAYOUTS[layout]
        for flag in flags:
            if flag.startswith("-fuse-ld="):
                kit.need(f"ld.{flag.partition('=')[2]}")
        top = tmp_path_factory.mktemp(layout)
        (top / "original").mkdir()
        original = kit.link(objects_of(compiler), top / "original/libshapes.so", *flags)
        if layout == "patchelf":
            done = kit.execute(kit.need("patchelf"), "--set-rpath", "$ORIGIN/" + "long/" * 2000, original)
            assert done.returncode == 0, done.stderr
        pages = original.stat().st_size // 4096
        some = set(random.Random(layout).sample(range(pages), pages // 8))
        trees = [kit.compacted(original, top / name, parts.runtime, hot) for name, hot in (("all", ()), ("some", some))]
        for tree in trees:
            tree.library.chmod(0o755)  # as linkers leave libraries; ldd asks for it
            assert tree.parts.cold_bytes > 64 * 4096
        return LibrarySet(original, (trees[0].library, trees[1].library))

    return make


@pytest.fixture
def libraries_in(made: LibrarySets, debian: Debian) -> LibrarySets:
    """Return a function that copies the libraries of a layout into the tree."""

    def copy_in(layout: str) -> LibrarySet:
        outside = made(layout)
        top = outside.original.parents[1]
        folder = debian.work / layout
        if not folder.exists():
            shutil.copytree(top, folder)
        one, two = (folder / path.relative_to(top) for path in outside.compacted)
        return LibrarySet(folder / outside.original.relative_to(top), (one, two))

    return copy_in


@dataclass(frozen=True, slots=True)
class Programs:
    """The programs for a tree: the probe, the probe linked with the library, and the driver of scenarios."""

    probe: Path
    linked: Path
    driver: Path


@pytest.fixture(scope="session")
def programs(debian: Debian, library: Path) -> Programs:
    source = debian.work / "probe.c"
    source.write_text(PROBE)
    return Programs(
        debian.build("probe", source),
        debian.build("linked", source, library),
        debian.build("driver", Path(__file__).with_name("driver.c"), "-pthread"),
    )


def versions_needed(kit: ModuleType, path: Path) -> set[str]:
    shown = kit.execute(kit.need("readelf"), "--version-info", "--wide", path).stdout
    return {word for word in shown.split() if word.startswith("GLIBC_")}


# ---- the trees themselves -----------------------------------------------------------------------------------------


def test_the_tree_runs_its_own_c_library(debian: Debian, programs: Programs, kit: ModuleType) -> None:
    version = DEBIANS[debian.suite]
    says = debian.run(debian.libraries / "libc.so.6").stdout
    assert says.startswith("GNU C Library (Debian GLIBC ")
    assert f" stable release version {version}.\n" in says
    assert debian.run("ldd", "--version").stdout.splitlines()[0].endswith(f" {version}")
    for program in (programs.probe, programs.linked, programs.driver):
        asked = {numbers(name.removeprefix("GLIBC_")) for name in versions_needed(kit, program)}
        assert (2, 2, 5) <= max(asked) <= debian.version


# ---- readelf, ldd, the loader -------------------------------------------------------------------------------------


READ = ["-W", "-h", "-l", "-d", "-n", "-r", "-V"]


def without_warnings(done: Any) -> str:
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    lower = done.stdout.lower()
    assert "warning" not in lower
    assert "error" not in lower
    assert "<corrupt" not in lower
    return str(done.stdout)


def dynamic_symbols(readelf: Callable[..., Any], library: Path) -> list[str]:
    """Return the dynamic symbols, which are found without a section table; their addresses do not change."""
    shown = without_warnings(readelf("-W", "-D", "-s", library)).splitlines()
    lines = [line.split() for line in shown if line.split()[:1] and line.split()[0].rstrip(":").isdigit()]
    return sorted(" ".join([*words[1:6], *words[-1:]]) for words in lines)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_readelf_has_no_warnings(layout: str, debian: Debian, libraries_in: LibrarySets) -> None:
    found = libraries_in(layout)
    readelf = functools.partial(debian.run, "readelf")
    for library in found.compacted:
        shown = without_warnings(readelf(*READ, library))
        assert f"{debian.kit.RUNTIME}]" in shown
        assert "There are no sections" in without_warnings(readelf("-S", library))
        symbols = dynamic_symbols(readelf, library)
        assert len(symbols) > 300
        assert symbols == dynamic_symbols(readelf, found.original)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_installed_readers_have_no_warnings(layout: str, kit: ModuleType, made: LibrarySets) -> None:
    kit.need("readelf")
    for program in filter(shutil.which, ("readelf", "llvm-readelf", "eu-readelf")):
        for library in made(layout).compacted:
            assert f"{kit.RUNTIME}]" in without_warnings(kit.execute(program, "-W", "-l", "-d", library))


def listed(done: Any) -> list[str]:
    """Return the names for which ldd found files."""
    assert done.returncode == 0, (done.stdout, done.stderr)
    assert done.stderr == ""
    assert "not found" not in done.stdout
    assert "undefined" not in done.stdout
    assert "symbol" not in done.stdout
    lines = done.stdout.partition("\n\tVersion information:")[0].splitlines()
    return [line.split()[0].rpartition("/")[2] for line in lines if line.startswith("\t")]


def refuses(debian: Debian, library: Path) -> bool:
    """Return whether this release's C library cannot load a library."""
    return PACKED in versions_needed(debian.kit, library) and debian.version < (2, 36)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_ldd_lists_one_library_more(layout: str, debian: Debian, libraries_in: LibrarySets) -> None:
    found = libraries_in(layout)
    if refuses(debian, found.original):
        pytest.skip(f"glibc {DEBIANS[debian.suite]} cannot relocate the original")
    for tool in (["ldd"], ["ldd", "-r", "-v"], [debian.loader, "--list"]):
        before = listed(debian.run(*tool, found.original))
        assert {"libc.so.6", "libstdc++.so.6", debian.loader.name} < set(before)
        for library in found.compacted:
            after = listed(debian.run(*tool, library))
            assert debian.kit.RUNTIME in after
            assert sorted(after) == sorted([*before, debian.kit.RUNTIME])


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_loader_verifies_it(layout: str, debian: Debian, libraries_in: LibrarySets) -> None:
    found = libraries_in(layout)
    verdicts = [debian.run(debian.loader, "--verify", library) for library in (found.original, *found.compacted)]
    assert [verdict.returncode for verdict in verdicts] == [2, 2, 2]  # "dynamic, and asks for no interpreter"
    assert {verdict.stdout + verdict.stderr for verdict in verdicts} == {""}
    assert debian.run(debian.loader, "--verify", debian.root / "etc/debian_version").returncode == 1


# ---- loading and running ------------------------------------------------------------------------------------------


def opened(debian: Debian, programs: Programs, library: Path) -> Any:
    return debian.run(programs.probe, library)


def bound_at_once(debian: Debian, programs: Programs, library: Path) -> Any:
    return debian.run(programs.probe, library, LD_BIND_NOW="1")


def linked(debian: Debian, programs: Programs, library: Path) -> Any:
    return debian.run(programs.linked, "libshapes.so", LD_LIBRARY_PATH=library.parent)


def preloaded(debian: Debian, programs: Programs, library: Path) -> Any:
    return debian.run(programs.probe, "libshapes.so", LD_PRELOAD=library)


def by_the_loader(debian: Debian, programs: Programs, library: Path) -> Any:
    folder = debian.inside(library.parent)
    return debian.run(debian.loader, "--library-path", folder, programs.linked, "libshapes.so")


def without_proc(debian: Debian, programs: Programs, library: Path) -> Any:
    return debian.run(programs.probe, library, proc=False)


WAYS = {way.__name__: way for way in (opened, bound_at_once, linked, preloaded, by_the_loader, without_proc)}


def check_answers(kit: ModuleType, debian: Debian, output: str) -> None:
    answers = {line.split()[0]: line.split()[1:] for line in output.splitlines()}
    assert answers.pop("glibc") == [DEBIANS[debian.suite]]
    assert answers.pop("caught") == [str(1001 * (n + 1)) for n in range(kit.LINKS)] + [str(kit.LINKS)]
    assert int(answers.pop("frames")[0]) > kit.LINKS + 2
    assert answers.pop("calls") == [str(kit.expected(n, 7)) for n in range(kit.FUNCTIONS)]
    assert answers.pop("visits") == [str(5 + kit.FUNCTIONS)]
    assert answers.pop("texts") == [str(n) for n in range(kit.FUNCTIONS)]
    assert answers.pop("built") == ["42"]
    assert answers.pop("room") == ["0"]
    assert answers.pop("chosen") == ["1001", "1002"]
    assert answers.pop("versions") == ["1", "2"]
    for n in (0, 149, 298):
        assert answers.pop(f"name-{n}") == [f"f{n}", "1", "/libshapes.so"]
    assert answers.pop("wrote") == ["4"]
    assert answers.pop("said") == ["text"]
    assert not answers


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_it_behaves_as_the_original(
    layout: str, way: str, debian: Debian, libraries_in: LibrarySets, programs: Programs
) -> None:
    found = libraries_in(layout)
    run = functools.partial(WAYS[way], debian, programs)
    wanted = run(found.original)
    if refuses(debian, found.original):
        assert f"version `{PACKED}' not found" in wanted.stdout + wanted.stderr
        for library in found.compacted:
            done = run(library)
            assert done.returncode == wanted.returncode != 0
            assert f"version `{PACKED}' not found" in done.stdout + done.stderr
        return
    assert (wanted.returncode, wanted.stderr) == (0, ""), wanted
    check_answers(debian.kit, debian, wanted.stdout)
    for library in found.compacted:
        done = run(library)
        assert (done.returncode, done.stdout, done.stderr) == (0, wanted.stdout, "")


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_pages_are_restored(scenario: str, debian: Debian, libraries_in: LibrarySets, programs: Programs) -> None:
    if scenario == "other_namespaces" and debian.version < (2, 35):
        pytest.skip("glibc lists other namespaces from 2.35 on")
    found = libraries_in("gcc-bfd")
    for library in (found.original, *found.compacted):
        done = debian.run(programs.driver, scenario, library)
        assert (done.returncode, done.stdout, done.stderr) == (0, "ok\n", "")


@pytest.mark.parametrize("scenario", ["null_write", "cold_code_write", "restored_code_write", "sent_signal"])
def test_genuine_faults_end_the_process(
    scenario: str, debian: Debian, libraries_in: LibrarySets, programs: Programs
) -> None:
    found = libraries_in("gcc-bfd")
    for library in (found.original, *found.compacted):
        done = debian.run(programs.driver, scenario, library)
        assert (done.returncode, done.stdout, done.stderr) == (-signal.SIGSEGV, "", "")


def test_restored_pages_are_from_the_store(debian: Debian, libraries_in: LibrarySets, programs: Programs) -> None:
    """So the tests above do not pass because of another file or pages that were never cold."""
    library = (
        Path(shutil.copytree(libraries_in("gcc-bfd").compacted[0].parents[1], debian.work / "own"))
        / "package/libshapes.so"
    )
    log = debian.work / "log"
    assert debian.run(programs.probe, library, LAYER_MINIMIZER_LOG=log).returncode == 0
    lines = log.read_text().splitlines()
    assert len(lines) >= 2
    assert {line.split(" of ")[1] for line in lines} == {"package/libshapes.so"}
    (store,) = debian.work.glob("own/*/libshapes.so.cold")
    store.write_bytes(random.Random(1).randbytes(store.stat().st_size))
    copied = "; if the library was copied, build the layer with --native off"
    for why in ("its cold store is damaged", f"its cold store is missing{copied}"):
        done = debian.run(programs.driver, "plain", library)
        assert (done.returncode, done.stdout) == (-signal.SIGABRT, "")
        assert done.stderr.startswith("layer_minimizer: cannot restore page 0x")
        assert done.stderr.endswith(f" of package/libshapes.so: {why}\n")
        store.unlink(missing_ok=True)
