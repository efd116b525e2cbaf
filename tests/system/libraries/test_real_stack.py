"""Restoring pages of real libraries: operations that were not traced give the original results, bit by bit.

Uses the environment of the example, and its layer with libraries compacted for one small workload.
"""

import json
import random
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from elftools.elf.dynamic import DynamicSegment
from elftools.elf.elffile import ELFFile

pytestmark = pytest.mark.example
PAGE = 4096
# Kernels that this machine does not select by default.
FLAVOURS = {
    "as traced": {},
    "oldest": {"ATEN_CPU_CAPABILITY": "default", "OPENBLAS_CORETYPE": "Nehalem", "ONEDNN_MAX_CPU_ISA": "SSE41"},
    "avx2": {"ATEN_CPU_CAPABILITY": "avx2", "OPENBLAS_CORETYPE": "Haswell"},
}
# The libraries use one thread each, since the program uses many.
ALONE = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


def restored(log: Path) -> list[str]:
    """Return the library of each restored chunk."""
    return re.findall(r"^restored pages \S+ of (.+)", log.read_text(), re.MULTILINE)


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_operations_that_no_trace_saw(fastai_stack: Any, flavour: str, tmp_path: Path) -> None:
    stack, variables = fastai_stack, FLAVOURS[flavour]
    log = tmp_path / "cold"
    expected = stack.run("operations.py", stack.original, "alone", **variables).splitlines()
    assert len(expected) > 80
    found = stack.run("operations.py", stack.mixed, "alone", LAYER_MINIMIZER_LOG=str(log), **variables)
    assert found.splitlines() == expected
    assert {"torch/lib/libtorch_cpu.so", "torch/lib/libtorch_python.so"} <= set(restored(log))
    assert len(set(restored(log))) > 20


# ---- concurrency --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def expected(fastai_stack: Any) -> list[str]:
    """Return the results of the operations on the original packages, in sequence."""
    return str(fastai_stack.run("operations.py", fastai_stack.original, "alone", **ALONE)).splitlines()


@pytest.mark.parametrize("turn", range(6))
def test_sixteen_threads_do_something_new_at_once(
    fastai_stack: Any, expected: list[str], turn: int, tmp_path: Path
) -> None:
    log = tmp_path / "cold"
    variables = {**ALONE, "LAYER_MINIMIZER_LOG": str(log)}
    found = fastai_stack.run("operations.py", fastai_stack.mixed, "threads", turn, **variables).splitlines()
    assert len(found) == 16
    assert found == [line for line in expected if line in found]
    assert len(restored(log)) > 50


def test_children_and_their_parent_do_something_new_at_once(
    fastai_stack: Any, expected: list[str], tmp_path: Path
) -> None:
    log = tmp_path / "cold"
    variables = {**ALONE, "LAYER_MINIMIZER_LOG": str(log)}
    found = fastai_stack.run("operations.py", fastai_stack.mixed, "children", **variables).splitlines()
    assert found == [line for k in range(6) for line in expected[k % 3 :: 3]]
    lines = log.read_text().splitlines()
    assert len(lines) - len(set(lines)) > 50  # each process restores the pages that it needs


# ---- all pages ----------------------------------------------------------------------------------------------------


def cold_pages(original: Path, compacted: Path) -> Iterator[tuple[int, int, int]]:
    """Yield (address, offset in the original, bytes) of each cold page."""
    with original.open("rb") as whole, compacted.open("rb") as small:
        image = ELFFile(whole)
        dynamic = next(segment for segment in image.iter_segments() if isinstance(segment, DynamicSegment))
        tags = {tag.entry.d_tag: tag.entry.d_val for tag in dynamic.iter_tags()}
        strings = range(tags["DT_STRTAB"], tags["DT_STRTAB"] + tags["DT_STRSZ"])
        for segment in ELFFile(small).iter_segments("PT_LOAD"):
            start, stop = segment["p_vaddr"], segment["p_vaddr"] + segment["p_memsz"]
            # The compacted file has its dynamic strings at another address, and nothing reads them at the old one.
            if segment["p_flags"] or (start in strings and stop - 1 in strings):
                continue
            for address in range(start, stop, PAGE):
                if address not in strings:
                    size = min(PAGE, stop - address)
                    yield address, next(image.address_offsets(address, size)), size


@pytest.fixture(scope="module")
def cold(fastai_stack: Any) -> dict[str, list[tuple[int, int, int]]]:
    """Return the cold pages of all compacted libraries that can be loaded; torchvision's need libraries of a GPU."""
    original, mixed = fastai_stack.original, fastai_stack.mixed
    names = [name for name in sorted(fastai_stack.libraries) if not name.startswith("torchvision/")]
    found = {name: pages for name in names if (pages := list(cold_pages(original / name, mixed / name)))}
    assert len(found) > 100
    assert sum(map(len, found.values())) > 50_000
    return found


@pytest.mark.parametrize("seed", range(3))
def test_random_pages_from_many_threads_and_children(
    fastai_stack: Any, cold: dict[str, list[tuple[int, int, int]]], seed: int, tmp_path: Path
) -> None:
    dice = random.Random(seed)
    every = [(name, *page) for name, pages in cold.items() for page in pages]
    # Half of the pages are chosen from all pages, half from as many libraries as possible.
    rows = set(dice.sample(every, 100))
    while len(rows) < 200:
        name = dice.choice(list(cold))
        rows.add((name, *dice.choice(cold[name])))
    (tmp_path / "pages").write_text(json.dumps(sorted(rows)))
    log = tmp_path / "cold"
    output = fastai_stack.run(
        "storm.py",
        fastai_stack.mixed,
        fastai_stack.original,
        tmp_path / "pages",
        seed,
        LAYER_MINIMIZER_LOG=str(log),
    )
    found = json.loads(output)
    assert found["missing"] > 150
    assert (found["still"], found["wrong"], found["children"]) == (0, [], [0, 0, 0, 0])
    assert len(set(restored(log))) > 50
