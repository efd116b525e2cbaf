"""Exceptions pass through libraries of which only used pages are shipped, although no run has raised one."""

from __future__ import annotations

import signal
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from layer_minimizer.native import compact
from layer_minimizer.native.elf_image import Right, SegmentType, UnsupportedLibraryError, read_image
from layer_minimizer.native.unwinding import of_functions
from layer_minimizer.native.used_pages import split_used

if TYPE_CHECKING:
    from pathlib import Path
    from types import ModuleType

LINKERS = {"bfd": "ld.bfd", "gold": "ld.gold", "lld": "ld.lld"}
USED = 6  # functions of the chain
# What compilers add to each library: it is called when the library is loaded and unloaded.
FROM_THE_COMPILER = ("frame_dummy", "register_tm_clones", "deregister_tm_clones", "__do_global_dtors_aux")
ASK = "import ctypes, json, sys; print(ctypes.CDLL(json.loads(sys.argv[1])).caught(json.loads(sys.argv[2])))"


def used_code(kit: ModuleType, library: Path) -> set[int]:
    """Return the pages of the first functions of the chain, of their caller, of constructors, and outside of .text."""
    wanted = {"caught", "construct", *(f"_Z2t{i}i" for i in range(USED)), *FROM_THE_COMPILER}
    table = kit.execute(kit.need("nm"), library).stdout.splitlines()
    pages = {
        int(place, 16) // 4096
        for place, _, name in (line.split() for line in table if line[0] != " ")
        if name in wanted
    }
    assert len(pages) > USED
    code = [each for each in read_image(library.read_bytes()).sections if each.executable and each.name != ".text"]
    return pages.union(*(range(each.address // 4096, (each.address + each.size - 1) // 4096 + 1) for each in code))


@pytest.mark.parametrize("linker", LINKERS)
@pytest.mark.parametrize("compiler", ["gcc", "clang"])
def test_exceptions_that_no_run_raised(
    compiler: str, linker: str, kit: ModuleType, parts: Any, objects_of: Any, tmp_path: Path
) -> None:
    kit.need(LINKERS[linker])
    original = kit.link(objects_of(compiler), tmp_path / "libshapes.so", f"-fuse-ld={linker}")
    hot = used_code(kit, original)
    tree = kit.compacted(original, tmp_path / "top", parts.runtime, hot, keep=False, splitter=split_used)
    assert tree.library.stat().st_size < original.stat().st_size / 2
    for thrower in range(USED):
        expected = kit.python(ASK, str(original), thrower).stdout
        assert expected == f"{1000 * (thrower + 1) + thrower + 1}\n"
        done = kit.python(ASK, str(tree.library), thrower)
        assert (done.stdout, done.stderr) == (expected, "")
    beyond = kit.python(ASK, str(tree.library), USED)
    assert beyond.returncode == -signal.SIGABRT
    assert "it was dropped" in beyond.stderr

    # What no run has read is needed: the same pages without it do not let them pass.
    plain = kit.compacted(
        original, tmp_path / "plain", parts.runtime, hot, keep=False, splitter=compact.split, constants=True
    )
    assert kit.python(ASK, str(plain.library), 1).returncode == -signal.SIGABRT


def test_functions_without_code_that_stays_have_no_entry(library: Path) -> None:
    image = read_image(library.read_bytes())
    code = [(s.address, s.end - 1) for s in image.loads if s.flags & Right.EXECUTE]
    everything, nothing = of_functions(image, code), of_functions(image, [])
    assert everything is not None
    assert nothing is not None
    assert len(everything.at(1 << 20)) > 10 * len(nothing.at(1 << 20))
    assert everything.handlers
    assert not nothing.handlers
    assert of_functions(replace(image, segments=image.loads), code) is None


def test_tables_of_another_kind_are_refused(kit: ModuleType, library: Path) -> None:
    data = bytearray(library.read_bytes())
    image = read_image(bytes(data))
    place = next(segment.offset for segment in image.segments if segment.type == SegmentType.GNU_EH_FRAME)
    data[place + 3] = 0x3C  # rows of eight bytes
    with pytest.raises(UnsupportedLibraryError, match="one of another kind"):
        of_functions(read_image(bytes(data)), [])
    split_used(bytes(data), used_code(kit, library))
