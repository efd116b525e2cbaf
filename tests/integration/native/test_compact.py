"""Compacted libraries behave as their originals, with every linker and every choice of hot pages."""

import itertools
import random
import shutil
import struct
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from layer_minimizer.native import compact, hotness
from layer_minimizer.native.elf_image import UnsupportedLibraryError, read_image

LAYOUTS = {
    "one-segment": ("gcc", ["-Wl,-z,noseparate-code"]),
    "four-segments": ("gcc", ["-Wl,-z,separate-code"]),
    "gold": ("gcc", ["-fuse-ld=gold"]),
    "lld": ("gcc", ["-fuse-ld=lld"]),
    "packed-relocations": ("gcc", ["-Wl,-z,pack-relative-relocs"]),
    "clang": ("clang", []),
    "gnu-hash": ("gcc", ["-Wl,--hash-style=gnu"]),
    "sysv-hash": ("gcc", ["-Wl,--hash-style=sysv"]),
    "both-hashes": ("gcc", ["-Wl,--hash-style=both"]),
    "full-relro": ("gcc", ["-Wl,-z,relro,-z,now"]),
    "no-relro": ("gcc", ["-Wl,-z,norelro"]),
    "64k-pages": ("gcc", ["-Wl,-z,max-page-size=65536"]),
    "2m-pages": ("gcc", ["-Wl,-z,max-page-size=2097152"]),
    "2m-one-segment": ("gcc", ["-Wl,-z,max-page-size=2097152,-z,noseparate-code"]),
    "stripped": ("gcc", ["-s"]),
}
LINKERS = {"-fuse-ld=gold": "ld.gold", "-fuse-ld=lld": "ld.lld"}


def linked(kit: ModuleType, objects_of: Any, layout: str, output: Path) -> Path:
    compiler, flags = LAYOUTS[layout]
    for flag in flags:
        if flag in LINKERS:
            kit.need(LINKERS[flag])
    return kit.link(objects_of(compiler), output, *flags)


def accepted(kit: ModuleType, library: Path) -> None:
    done = kit.execute(kit.need("readelf"), "-lWd", library)
    assert done.returncode == 0
    assert not done.stderr
    assert "arning" not in done.stdout


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_behaves_and_reads_the_same(
    layout: str, kit: ModuleType, parts: Any, objects_of: Any, tmp_path: Path
) -> None:
    original = linked(kit, objects_of, layout, tmp_path / "libshapes.so")
    dice = random.Random(layout)
    pages = original.stat().st_size // 4096
    nothing = kit.compacted(original, tmp_path / "nothing", parts.runtime)
    some = kit.compacted(original, tmp_path / "some", parts.runtime, set(dice.sample(range(pages), pages // 8)))
    assert nothing.parts.cold_bytes > 64 * 4096
    assert 0 < some.parts.cold_bytes < nothing.parts.cold_bytes
    for tree in (nothing, some):
        accepted(kit, tree.library)
        assert tree.library.stat().st_size + tree.parts.cold_bytes < original.stat().st_size + 16 * 4096
    kit.same_behaviour(original, [nothing, some])


def test_a_library_that_patchelf_has_edited(kit: ModuleType, parts: Any, library: Path, tmp_path: Path) -> None:
    original = Path(shutil.copy(library, tmp_path))
    done = kit.execute(kit.need("patchelf"), "--set-rpath", "$ORIGIN/" + "long/" * 2000, original)
    assert done.returncode == 0, done.stderr
    tree = kit.compacted(original, tmp_path / "top", parts.runtime)
    accepted(kit, tree.library)
    kit.same_behaviour(original, [tree])


@settings(max_examples=6, deadline=None, suppress_health_check=list(HealthCheck))
@given(seed=st.integers(0, 2**32), share=st.floats(0, 1), run=st.integers(1, 20))
def test_any_choice_of_hot_pages(
    seed: int, share: float, run: int, kit: ModuleType, parts: Any, library: Path, tmp_path_factory: Any
) -> None:
    dice = random.Random(seed)
    starts = [page for page in range(0, library.stat().st_size // 4096, run) if dice.random() < share]
    hot = {page for start in starts for page in range(start, start + run)}
    tree = kit.compacted(library, tmp_path_factory.mktemp("any"), parts.runtime, hot)
    assert not any(page in hot for run_ in tree.parts.cold for page in range(run_.page, run_.stop))
    kit.same_behaviour(library, [tree])


def test_variables_keep_an_alignment_beyond_a_page(kit: ModuleType, parts: Any, tmp_path: Path) -> None:
    source = tmp_path / "aligned.c"
    filler = "".join(f'int f{i}(void) {{ __asm__(".skip 4096"); return {i}; }}\n' for i in range(20))
    source.write_text(
        f"__attribute__((aligned(65536))) char room[65536] = {{1}};\nvoid *at(void) {{ return room; }}\n{filler}"
    )
    original = kit.build("gcc", tmp_path / "libaligned.so", "-shared", "-fPIC", "-Wl,-z,max-page-size=65536", source)
    tree = kit.compacted(original, tmp_path / "top", parts.runtime)
    largest = max(s.align for s in read_image(original.read_bytes()).loads)
    assert largest == 65536
    loads = [line.split() for line in kit.execute("readelf", "-lW", tree.library).stdout.splitlines() if "LOAD" in line]
    assert max(int(fields[-1], 16) for fields in loads) == largest
    for fields in loads:
        offset, address, align = int(fields[1], 16), int(fields[2], 16), int(fields[-1], 16)
        assert (address - offset) % align == 0
    ask = (
        "import ctypes, json, sys; at = ctypes.CDLL(json.loads(sys.argv[1])).at; at.restype = ctypes.c_void_p;"
        " print(at() % 65536)"
    )
    assert {kit.python(ask, str(path)).stdout for path in [tree.library] * 8} == {
        kit.python(ask, str(path)).stdout for path in [original] * 8
    }


def test_a_short_text_between_code_and_unwind_tables_stays(kit: ModuleType, parts: Any, tmp_path: Path) -> None:
    """Data for system calls must be in the file: the kernel raises no signal, the call fails."""
    source = tmp_path / "short.c"
    say = 'long say(int file) { return write(file, "hello\\n", 6); }\n__asm__(".text\\n.skip 560000");'
    filler = "".join(f"int f{i}(int (*p)(void)) {{ return p() + {i}; }}\n" for i in range(900))
    source.write_text(f"#include <unistd.h>\n{say}\n{filler}")
    flags = ["-O1", "-shared", "-fPIC", "-Wl,-z,noseparate-code"]
    original = kit.build("gcc", tmp_path / "libshort.so", *flags, source)
    sections = {section.name: section for section in read_image(original.read_bytes()).sections}
    assert sections[".rodata"].size < 32
    assert sections[".eh_frame_hdr"].address - sections[".rodata"].address < 64
    assert sections[".rodata"].address - sections[".text"].address > compact.CHUNK_BYTES
    tree = kit.compacted(original, tmp_path / "top", parts.runtime)
    ask = "import ctypes,json,sys; print(ctypes.CDLL(json.loads(sys.argv[1])).say(1))"
    assert kit.python(ask, str(original)).stdout.split() == ["hello", "6"]
    assert kit.python(ask, str(tree.library)).stdout.split() == ["hello", "6"]


def test_everything_except_code_and_unwind_tables_is_hot(library: Path) -> None:
    image = read_image(library.read_bytes())
    pages = {p for first, stop, _ in hotness.cold_candidates(image) for p in range(first, stop)}
    for section in image.sections:
        touched = set(range(section.address // 4096, (section.address + max(section.size, 1) - 1) // 4096 + 1))
        if section.size and not hotness.can_be_cold(section):
            assert not touched & pages, section.name


def test_another_hot_page_changes_the_chunks_of_its_area_alone(kit: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "wide.c").write_text('__asm__(".text\\n.fill 8388608, 1, 0x90\\n");\n')
    wide = kit.build("gcc", tmp_path / "libwide.so", "-shared", tmp_path / "wide.c").read_bytes()
    area = compact._AREA_BYTES // 4096

    def chunks(hot: set[int]) -> list[compact.Chunk]:
        found = list(compact.split(wide, hot).chunks)
        for chunk in found:
            assert chunk.pages * 4096 <= compact.CHUNK_BYTES
            assert len({page // area for run in chunk.runs for page in (run.page, run.stop - 1)}) == 1
        return found

    dice = random.Random(8)
    pages = list(range(8388608 // 4096))
    for turn in range(50):
        hot = set(dice.sample(pages, 20 * turn))
        around = {page: {page - 1, page, page + 1} for page in dice.sample(pages[2:-2], 500)}
        page = next(p for p, near in around.items() if not near & hot and len({other // area for other in near}) == 1)
        before, after = chunks(hot), chunks(hot | {page})
        assert sum(chunk.pages for chunk in before) > sum(chunk.pages for chunk in after)
        other = set(before) ^ set(after)
        assert {run.page // area for chunk in other for run in chunk.runs} == {page // area}


# ---- unsupported libraries ----------------------------------------------------------------------------------------


def refused(data: bytes) -> str:
    with pytest.raises(UnsupportedLibraryError) as caught:
        compact.split(data, ())
    return str(caught.value)


def test_other_files_are_refused(library: Path) -> None:
    data = library.read_bytes()
    assert refused(b"") == refused(b"#!/bin/sh\n" * 10) == refused(data[:20]) == "it is not an ELF file"
    assert refused(data[:4] + b"\x01" + data[5:]) == "it is not 64-bit little-endian"
    assert refused(data[:5] + b"\x02" + data[6:]) == "it is not 64-bit little-endian"
    assert refused(data[:18] + struct.pack("<H", 243) + data[20:]) == "it is not a shared library for x86_64 or aarch64"


def test_a_library_without_section_headers_is_refused(library: Path) -> None:
    data = bytearray(library.read_bytes())
    data[60:62] = b"\0\0"
    assert "no section headers" in refused(bytes(data))


def test_appended_data_is_refused(library: Path) -> None:
    data = library.read_bytes()
    assert "appended data" in refused(data + bytes(5000))


@pytest.mark.parametrize("share", [0.02, 0.3, 0.6, 0.9, 0.999])
def test_a_truncated_library_is_refused(share: float, library: Path) -> None:
    data = library.read_bytes()
    reason = refused(data[: int(len(data) * share)])
    assert "truncated" in reason or "damaged" in reason


def test_a_program_is_refused(kit: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "main.c").write_text("int main(void) { return 0; }")
    program = kit.build("gcc", tmp_path / "main", "-fPIE", "-pie", tmp_path / "main.c")
    assert refused(program.read_bytes()) == "it is an executable"


def test_relocations_in_code_are_refused(kit: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "text.s").write_text(".text\n.globl here\nhere: .quad here\n")
    flags = ["-shared", "-nostdlib", "-Wl,-z,notext"]
    made = kit.build("gcc", tmp_path / "libtext.so", *flags, tmp_path / "text.s")
    assert "DT_TEXTREL" in refused(made.read_bytes())


def test_a_compacted_library_is_not_compacted_again(kit: ModuleType, parts: Any, library: Path, tmp_path: Path) -> None:
    tree = kit.compacted(library, tmp_path, parts.runtime)
    assert refused(tree.library.read_bytes())  # it has no sections any more, or else its own mark


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(changes=st.lists(st.tuples(st.integers(0, 1200), st.integers(0, 255)), min_size=1, max_size=4))
def test_a_damaged_head_is_refused_or_handled_and_never_another_error(
    changes: list[tuple[int, int]], library: Path
) -> None:
    data = bytearray(library.read_bytes())
    for at, value in changes:
        data[at] = value
    try:
        parts = compact.split(bytes(data), ())
    except UnsupportedLibraryError:
        return
    for one, two in itertools.pairwise(parts.cold):
        assert one.stop <= two.page


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(changes=st.lists(st.tuples(st.integers(0, 4000), st.integers(0, 255)), min_size=1, max_size=3))
def test_damaged_section_headers_are_refused_or_handled(changes: list[tuple[int, int]], library: Path) -> None:
    data = bytearray(library.read_bytes())
    for back, value in changes:
        data[max(0, len(data) - 1 - back)] = value
    try:
        parts = compact.split(bytes(data), ())
    except UnsupportedLibraryError:
        return
    assert sum(chunk.pages for chunk in parts.chunks) == sum(run.pages for run in parts.cold)
