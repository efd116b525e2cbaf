"""Compacting libraries: once for equal inputs, and according to the adjustments of earlier attempts."""

import random
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from layer_minimizer.core.compression import Density
from layer_minimizer.environment.site import Site
from layer_minimizer.layer.layout import NATIVE_FOLDER
from layer_minimizer.model.adjustments import Adjustments, OmittedChunk
from layer_minimizer.model.plan import Cold
from layer_minimizer.model.trace import LibraryPages
from layer_minimizer.model.traced import Traced
from layer_minimizer.native import coldstore, parts
from layer_minimizer.pack.libraries import (
    Compactor,
    PackedLibrary,
    _store_name,
    hot_pages,
    mark_page_size,
    place_runtime,
    refilled,
)
from layer_minimizer.settings import Settings
from tests.support.sites import write_files

pytestmark = pytest.mark.skipif(
    bool(parts.unavailable_reason()) or not shutil.which("gcc"), reason=parts.unavailable_reason() or "no gcc"
)
LIBRARY = "a/lib.so"
NOTHING = Adjustments()


FUNCTION = "long f{0}(long x) {{ volatile long y = x + {0};\n{1}return y; }}\n"


@pytest.fixture(scope="module")
def content(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A library with code for several chunks, each page of which compresses badly."""
    folder = tmp_path_factory.mktemp("library")
    chance = random.Random(7)
    with (folder / "code.c").open("w") as code:
        for number in range(120):
            lines = (f"y = y * {chance.getrandbits(30)} + {chance.getrandbits(30)};\n" for _ in range(600))
            code.write(FUNCTION.format(number, "".join(lines)))
    subprocess.run(["gcc", "-O0", "-shared", "-fPIC", folder / "code.c", "-o", folder / "lib.so"], check=True)
    return (folder / "lib.so").read_bytes()


class Workbench:
    """A site with a library, of which a run touched some pages."""

    def __init__(self, build: Any, folder: Path, files: dict[str, bytes], hot: dict[str, set[int]]) -> None:
        sources = write_files(folder / "site", files)
        owners = {path: ("a", len(data)) for path, data in files.items()}
        self.site = Site(build.interpreter(sources), build.inventory(owners, sources=sources))
        watched = tuple(LibraryPages.of(path, len(files[path]), pages) for path, pages in hot.items())
        self.traced = Traced(replace(build.trace(dict.fromkeys(hot, "map")), libraries=watched))
        self.scratch = folder / "scratch"

    def compactor(self, cold: Cold = Cold.KEEP) -> Compactor:
        made = Compactor.of(self.traced, self.site, Settings(cold=cold), self.scratch)
        assert made is not None
        return made


@pytest.fixture
def workbench(build: Any, tmp_path: Path, content: bytes) -> Workbench:
    return Workbench(build, tmp_path, {LIBRARY: content}, {LIBRARY: {0}})


def made(compactor: Compactor, adjustments: Adjustments = NOTHING, **more: Any) -> PackedLibrary:
    found = compactor.compacted(LIBRARY, adjustments, **more)
    assert found is not None
    return found


def test_a_library_is_compacted_once_for_the_same_inputs(workbench: Workbench, monkeypatch: pytest.MonkeyPatch) -> None:
    packed: list[str] = []
    real = coldstore.pack_chunks

    def pack_chunks(pages: Any, name: str, density: Density) -> Any:
        packed.append(name)
        return real(pages, name, density)

    monkeypatch.setattr(coldstore, "pack_chunks", pack_chunks)
    compactor = workbench.compactor()
    first = made(compactor)
    assert made(compactor) is first
    assert made(compactor, Adjustments(rounds=3, repaired=frozenset({"b.py"}))) is first
    # To leave chunks out nothing is compressed, and to ship it whole neither.
    omitted = Adjustments(omitted_chunks=frozenset({OmittedChunk(LIBRARY, 0, first.chunks[0].chunk)}))
    assert made(compactor, omitted) is made(compactor, omitted)
    assert made(compactor, Adjustments(whole_libraries=frozenset({LIBRARY}))).file is None
    assert packed == [LIBRARY]
    more = Adjustments(extra_pages={LIBRARY: frozenset({first.page_size})}, refills={LIBRARY: 1})
    assert made(compactor, more) is not first
    assert packed == [LIBRARY, LIBRARY]


def test_its_files_are_written_with_the_runtime(workbench: Workbench, tmp_path: Path, content: bytes) -> None:
    compactor = workbench.compactor()
    library = made(compactor)
    top = tmp_path / "layer"
    top.mkdir()
    size = library.place(top)
    place_runtime(compactor.runtime, top)
    sizes = library.sizes
    assert (sizes.path, sizes.file, sizes.problem) == (LIBRARY, len(content), "")
    assert size == sizes.shipped + sizes.cold == (top / LIBRARY).stat().st_size + library.store.stat().st_size  # type: ignore[union-attr]
    assert sorted(path.name for path in (top / NATIVE_FOLDER).iterdir()) == sorted(
        ["a%2Flib.so.cold", compactor.runtime_name]
    )
    assert sizes.shipped < len(content)


def linked(folder: Path, source: str, *flags: str) -> bytes:
    """A library without symbols and sections that nothing needs."""
    (folder / "code.c").write_text(source)
    command = ["gcc", "-O1", "-shared", "-fPIC", "-s", *flags, folder / "code.c", "-o", folder / "lib.so"]
    subprocess.run(command, check=True)
    return (folder / "lib.so").read_bytes()


def filled(count: int, seed: int) -> str:
    """Code of so many bytes that cannot be compressed."""
    words = ", ".join(map(str, random.Random(seed).randbytes(count)))
    return f'__asm__(".text\\n.byte {words}");\nint here(void) {{ return 1; }}\n'


@pytest.mark.parametrize("alignment", ["4096", "0x10000", "0x200000"])
def test_the_alignment_of_segments_makes_no_library_larger(build: Any, tmp_path: Path, alignment: str) -> None:
    """Linkers align to the largest page that a kernel may have: 64 KiB, or 2 MiB in older ones for x86_64."""
    content = linked(tmp_path, filled(600_000, 1), f"-Wl,-z,max-page-size={alignment}")
    sizes = made(Workbench(build, tmp_path, {LIBRARY: content}, {LIBRARY: {0}}).compactor(Cold.DROP)).sizes
    assert sizes.problem == ""
    assert sizes.dropped > 590_000
    assert sizes.shipped < len(content) - 590_000


def test_a_library_that_would_not_become_smaller_stays_as_it_is(build: Any, tmp_path: Path) -> None:
    content = linked(tmp_path, filled(80_000, 1))
    bench = Workbench(build, tmp_path, {LIBRARY: content}, {LIBRARY: {0}})
    kept = made(bench.compactor())
    assert (kept.file, kept.sizes.shipped, kept.sizes.cold) == (None, len(content), 0)
    assert kept.sizes.problem == "shipped whole: what is added to compact it is as large as what is removed"
    dropped = made(bench.compactor(Cold.DROP))
    assert dropped.sizes.shipped < len(content) - 70_000


def test_the_size_of_pages_is_written_for_machines_with_several(workbench: Workbench, tmp_path: Path) -> None:
    (tmp_path / NATIVE_FOLDER).mkdir()
    library = made(workbench.compactor())
    mark_page_size([library], "x86_64", tmp_path)
    assert list((tmp_path / NATIVE_FOLDER).iterdir()) == []
    whole = replace(library, file=None, page_size=16384)
    mark_page_size([library, whole, replace(library, page_size=65536)], "aarch64", tmp_path)
    assert [path.name for path in (tmp_path / NATIVE_FOLDER).iterdir()] == ["pages-4096"]


def test_pages_of_another_size_do_not_count(workbench: Workbench) -> None:
    """A trace from a kernel with pages of 64 KiB has other numbers for the same addresses."""
    trace = replace(workbench.traced.trace, page_size=65536)
    assert hot_pages(replace(workbench.traced, trace=trace), workbench.site, Cold.KEEP)[0] == {}


def test_omitting_chunks_does_not_change_the_others(workbench: Workbench) -> None:
    compactor = workbench.compactor(Cold.AUTO)
    full = made(compactor)
    gone = {chunk.chunk for chunk in full.chunks[1:]}
    less = made(compactor, Adjustments(omitted_chunks=frozenset(OmittedChunk(LIBRARY, 0, each) for each in gone)))
    assert less.chunks == full.chunks[:1]
    assert less.sizes.cold == full.chunks[0].size
    assert less.sizes.dropped > 0
    assert full.sizes.dropped == 0
    assert less.store.read_bytes() == full.store.read_bytes()[: full.chunks[0].size]  # type: ignore[union-attr]
    nothing = made(
        compactor, Adjustments(omitted_chunks=frozenset(OmittedChunk(LIBRARY, 0, n.chunk) for n in full.chunks))
    )
    assert (nothing.store, nothing.chunks, nothing.sizes.cold) == (None, (), 0)


def test_omitted_chunks_are_ignored_after_pages_were_added(workbench: Workbench) -> None:
    compactor = workbench.compactor(Cold.AUTO)
    full = made(compactor)
    omitted = Adjustments(omitted_chunks=frozenset(OmittedChunk(LIBRARY, 0, each.chunk) for each in full.chunks))
    grown, more = refilled(omitted, {LIBRARY: made(compactor, omitted)}, {LIBRARY: {200 * full.page_size}})
    assert more == (LIBRARY,)
    again = made(compactor, grown)
    assert again.sizes.dropped == 0
    assert again.sizes.hot > full.sizes.hot


def test_what_is_dropped_has_no_store(workbench: Workbench) -> None:
    library = made(workbench.compactor(Cold.DROP))
    assert (library.store, library.chunks, library.sizes.cold) == (None, (), 0)
    assert library.sizes.dropped > 0


def test_a_library_that_is_shipped_whole_has_a_reason(
    build: Any, tmp_path: Path, workbench: Workbench, content: bytes
) -> None:
    whole = made(workbench.compactor(), whole=True)
    assert (whole.file, whole.sizes.shipped, whole.sizes.hot) == (None, len(content), whole.sizes.mapped)
    assert "needed more of it" in whole.sizes.problem
    assert whole.place(tmp_path) == 0
    damaged = Workbench(build, tmp_path / "damaged", {LIBRARY: b"\x7fELF" + bytes(5000)}, {LIBRARY: {0}})
    assert made(damaged.compactor()).sizes.problem.startswith("shipped whole: ")
    assert made(damaged.compactor(), whole=True).sizes.problem == made(damaged.compactor()).sizes.problem


def test_a_library_that_was_not_traced_is_not_compacted(workbench: Workbench) -> None:
    assert workbench.compactor().compacted("a/other.so", NOTHING) is None
    assert Compactor.of(workbench.traced, workbench.site, Settings(native="off"), workbench.scratch) is None
    nothing = Traced(replace(workbench.traced.trace, libraries=()))
    assert Compactor.of(nothing, workbench.site, Settings(), workbench.scratch) is None


def test_copies_share_hot_pages_and_other_builds_have_none(build: Any, tmp_path: Path) -> None:
    files = {"a/x.so": b"same", "b/x.so": b"same", "c/x.so": b"else", "d/x.so": b"another build"}
    workbench = Workbench(build, tmp_path, files, {"a/x.so": {1}, "b/x.so": {2}, "c/x.so": {3}, "d/x.so": {4}})
    trace = workbench.traced.trace
    other = tuple(replace(lib, size=1) if lib.path == "d/x.so" else lib for lib in trace.libraries)
    hot, copies = hot_pages(Traced(replace(trace, libraries=other)), workbench.site, Cold.KEEP)
    assert hot == {"a/x.so": {1, 2}, "b/x.so": {1, 2}, "c/x.so": {3}}
    assert copies == {"a/x.so": {"a/x.so", "b/x.so"}, "b/x.so": {"a/x.so", "b/x.so"}, "c/x.so": {"c/x.so"}}


def test_the_store_of_a_library_with_a_long_path_has_a_name_that_a_file_can_have() -> None:
    folders = "/".join("folder" for _ in range(40))
    names = {_store_name(f"{folders}/{name}.so") for name in ("a", "b")}
    assert len(names) == 2
    assert all(len(name) < 255 and "/" not in name and name.endswith(".cold") for name in names)
    assert _store_name("a%/b.so") == "a%25%2Fb.so.cold"
