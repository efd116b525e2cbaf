"""Building a layer from a plan: the result, and that builds of one builder do not affect each other."""

import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from layer_minimizer.core.errors import PackError
from layer_minimizer.environment.site import Site
from layer_minimizer.layer import layout
from layer_minimizer.layer.archive import zip_entries
from layer_minimizer.layer.cold_store import PUT_BACK
from layer_minimizer.model.adjustments import Adjustments
from layer_minimizer.model.outcome import Bundled, Requirements
from layer_minimizer.model.plan import Cold, Decision, KeepPlan, Reason, Verdict
from layer_minimizer.model.traced import Traced
from layer_minimizer.pack.budget import NOTHING_RESERVED, EvictableFile, Oversized, ReservedBytes
from layer_minimizer.pack.builder import Builder, Packed
from layer_minimizer.settings import Settings, choose
from tests.support.sites import write_files

KEPT, COLD, DROPPED = Verdict.KEPT, Verdict.COLD, Verdict.DROPPED
FILES = {
    "a/__init__.py": "A = 1\n",
    "a/data.txt": "data",
    "a/late.py": "".join(f"L{n} = {n**5}\n" for n in range(9999)),
}
VERDICTS = {
    "a/__init__.py": (KEPT, Reason.TRACED),
    "a/data.txt": (KEPT, Reason.TRACED),
    "a/late.py": (COLD, Reason.UNTOUCHED),
}
PREFIX = "python/lib/python3.11/site-packages/"


class Workbench:
    """A site, a plan for it, and a builder. Bytecode is off, because it needs another process."""

    def __init__(self, build: Any, folder: Path) -> None:
        sources = write_files(folder / "site", FILES)
        owners = {path: ("a", len(text)) for path, text in FILES.items()}
        self.site = Site(build.interpreter(sources), build.inventory(owners, sources=sources))
        self.traced = Traced(build.trace(["a/__init__.py", "a/data.txt"]))
        self.folder = folder
        rows = [Decision(path, len(FILES[path]), "a", *verdict, "evidence") for path, verdict in VERDICTS.items()]
        self.plan = KeepPlan("3.11.7", tuple(rows), (), ())
        self.settings = Settings(bytecode="source")

    def builder(self, **options: Any) -> Builder:
        settings = choose(self.settings, options)
        return Builder.of(self.traced, self.site, settings, self.folder / "layer.zip", self.folder / "build")

    def pack(
        self, adjustments: Adjustments | None = None, *, plan: KeepPlan | None = None, **options: Any
    ) -> Packed | Oversized:
        return self.builder(**options).pack(
            plan or self.plan, adjustments or Adjustments(), Requirements(), NOTHING_RESERVED
        )


@pytest.fixture
def workbench(build: Any, tmp_path: Path) -> Workbench:
    return Workbench(build, tmp_path)


def test_the_result_of_a_layer(workbench: Workbench) -> None:
    packed = workbench.pack()
    assert isinstance(packed, Packed)
    with zipfile.ZipFile(packed.archive.path) as archive:
        sizes = {entry.filename: entry.file_size for entry in archive.infolist()}
    assert packed.shipped["a/__init__.py"] == sizes[f"{PREFIX}a/__init__.py"] == 6
    assert packed.shipped["a/data.txt"] == 4
    assert packed.archive.unzipped_bytes == sum(sizes.values())
    # Of a cold file, a link to where it is restored.
    assert sizes[f"{PREFIX}a/late.py"] == len(f"{PUT_BACK}{'0' * 16}/a/late.py")
    assert 0 < packed.shipped["a/late.py"] < len(FILES["a/late.py"])
    assert (packed.bundled, packed.libraries, packed.library_sizes, packed.warnings, packed.lossy) == (
        (),
        {},
        (),
        (),
        False,
    )
    assert not (workbench.folder / "build/stage").exists()


def test_without_a_native_runtime_unused_files_lie_in_place(workbench: Workbench) -> None:
    packed = workbench.pack(native="off")
    assert isinstance(packed, Packed)
    with zipfile.ZipFile(packed.archive.path) as archive:
        names = [name.removeprefix(PREFIX) for name in archive.namelist()]
    assert sorted(names) == sorted(FILES)
    assert packed.shipped == {path: len(text) for path, text in FILES.items()}
    (warning,) = packed.warnings
    assert warning.startswith(
        "0.3 MB of unused files lie in the layer uncompressed, for want of a way back: --native off"
    )
    assert not packed.lossy


def test_a_layer_with_dropped_files_is_lossy(workbench: Workbench) -> None:
    packed = workbench.pack(cold=Cold.DROP)
    assert isinstance(packed, Packed)
    assert packed.lossy


def test_layers_of_one_builder_are_independent(workbench: Workbench) -> None:
    builder, none = workbench.builder(), Adjustments()
    less = Adjustments(omitted_cold=frozenset({"a/late.py"}))
    first, second, third = (
        builder.pack(workbench.plan, each, Requirements(), NOTHING_RESERVED) for each in (none, less, none)
    )
    assert first == third
    assert isinstance(second, Packed)
    assert "a/late.py" not in second.shipped


def test_a_layer_that_is_too_large_lists_what_could_be_omitted(workbench: Workbench) -> None:
    full = workbench.pack()
    assert isinstance(full, Packed)
    large = workbench.pack(max_size=full.archive.unzipped_bytes - 1)
    assert isinstance(large, Oversized)
    assert large.excess == 1
    assert large.sizes.total() == full.archive.unzipped_bytes
    assert large.sizes["a"] == sum(full.shipped.values())
    assert large.shipped == full.shipped
    assert large.evictable == (EvictableFile(0.5 * 2 / 3, full.shipped["a/late.py"], "a/late.py"),)
    assert isinstance(workbench.pack(max_size=full.archive.unzipped_bytes), Packed)


def test_reserved_bytes_count_for_the_limit(workbench: Workbench) -> None:
    full = workbench.pack()
    assert isinstance(full, Packed)
    builder = workbench.builder(max_size=full.archive.unzipped_bytes + 99)
    large = builder.pack(workbench.plan, Adjustments(), Requirements(), ReservedBytes(code=40, layers=60))
    assert isinstance(large, Oversized)
    assert large.excess == 1


def test_kept_files_over_the_limit_are_refused_before_anything_is_copied(workbench: Workbench) -> None:
    with pytest.raises(PackError, match="the layer would be 10 bytes"):
        workbench.pack(max_size=9)
    assert not (workbench.folder / "build").exists()


def test_what_is_omitted_for_the_limit_is_a_warning(workbench: Workbench) -> None:
    lessons = Adjustments(omitted_distributions=frozenset({"y", "x"}))
    packed = workbench.pack(lessons)
    assert isinstance(packed, Packed)
    assert packed.warnings == ("omitted to fit the size limit: distributions named in code that no event needed: x, y",)


def test_libraries_of_this_machine_are_bundled(workbench: Workbench) -> None:
    library = write_files(workbench.folder, {"libx.so.1": "library"}) / "libx.so.1"
    required = Requirements((Bundled("libx.so.1", str(library), "a/x.so", 7),), ("it may fail",))
    packed = workbench.builder().pack(workbench.plan, Adjustments(), required, NOTHING_RESERVED)
    assert isinstance(packed, Packed)
    assert (packed.bundled, packed.warnings) == (required.bundled, required.warnings)
    assert "lib/libx.so.1" in {name for name, _ in zip_entries(packed.archive.path)}
    large = workbench.builder(max_size=100).pack(workbench.plan, Adjustments(), required, NOTHING_RESERVED)
    assert isinstance(large, Oversized)
    assert large.sizes[layout.SYSTEM_LIBRARIES] == 7


def test_the_layer_lists_modules_of_dropped_distributions(workbench: Workbench) -> None:
    gone = Decision("b/__init__.py", 1, "b", DROPPED, Reason.UNUSED, "evidence")
    with_more, without = (
        workbench.pack(plan=each)
        for each in (replace(workbench.plan, decisions=(*workbench.plan.decisions, gone)), workbench.plan)
    )
    assert isinstance(with_more, Packed)
    assert isinstance(without, Packed)
    assert with_more.archive.sha256 != without.archive.sha256


def test_the_excess_of_many_times_the_limit_is_estimated(workbench: Workbench) -> None:
    """One chunk is all of the sample, so that the estimate is exact."""
    dense = workbench.pack(Adjustments(density=100))
    assert isinstance(dense, Packed)
    limit = dense.archive.unzipped_bytes
    sizes = {path: 4 * limit if verdict[0] is COLD else 1 for path, verdict in VERDICTS.items()}
    rows = [replace(decision, size=sizes[decision.path]) for decision in workbench.plan.decisions]
    plan = replace(workbench.plan, decisions=tuple(rows))
    large = workbench.pack(plan=plan, max_size=limit - 1)
    assert isinstance(large, Oversized)
    assert (large.excess, large.estimated, large.uncompressed) == (1, True, 0)
    assert isinstance(workbench.pack(Adjustments(density=100), plan=plan, max_size=limit), Packed)
    for options in ({"cold": Cold.DROP}, {"native": "off"}):
        assert getattr(workbench.pack(plan=plan, max_size=100, **options), "estimated", False) is False
