"""The loop of attempts: trace, plan, pack, verify, learn, and again."""

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from layer_minimizer import pipeline
from layer_minimizer.core.errors import PackError, VerifyError
from layer_minimizer.core.workspace import Workspace
from layer_minimizer.environment.site import Site
from layer_minimizer.model.adjustments import Adjustments
from layer_minimizer.model.outcome import LayerArchive
from layer_minimizer.model.traced import Traced
from layer_minimizer.pack.budget import EvictableFile, Oversized, ReservedBytes
from layer_minimizer.pack.builder import Packed
from layer_minimizer.settings import Settings, choose
from layer_minimizer.verify import alone
from layer_minimizer.verify.alone import Attempt
from tests.support.sites import write_files

GOOD = Attempt(1, "", (), (), {}, (), isolated=True, cold_faults=2)
ARCHIVE = LayerArchive(Path("layer.zip"), "0" * 64, 1, 10, 5)
PACKED = Packed(ARCHIVE, {"a.py": 10}, (), {}, ("a warning",), lossy=False)
LARGE = Oversized(5, Counter(a=10**9), evictable=(EvictableFile(0.1, 5, "late.py"),))


class Stages:
    """Replaces the builder and the verifier by prepared results, one per attempt."""

    def __init__(self, build: Any, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        sources = write_files(folder / "site", {"a.py": "", "b.py": "", "late.py": ""})
        entry = write_files(folder / "task", {"handler.py": ""}) / "handler.py"
        self.site = Site(
            build.interpreter(sources), build.inventory({"a.py": "a", "b.py": "b", "late.py": "a"}, sources=sources)
        )
        trace = build.trace(["a.py"], results={"event": "1"})
        self.traced = Traced(replace(trace, workload=replace(trace.workload, entry=entry)))
        self.workspace = Workspace(folder / "scratch", folder / "part", None, ())
        self.layers: list[Any] = []
        self.attempts: list[Attempt] = []
        self.adjustments: list[Adjustments] = []
        self.kept: list[set[str]] = []
        self.runs: list[tuple[int, bool]] = []
        monkeypatch.setattr(pipeline.Builder, "pack", self.pack)
        monkeypatch.setattr(alone, "run_repeatedly", self.run_repeatedly)
        monkeypatch.setattr(alone, "check_deterministic", lambda *_: None)

    def pack(self, plan: Any, adjustments: Adjustments, _required: Any, _reserved: ReservedBytes) -> Any:
        self.adjustments.append(adjustments)
        self.kept.append({decision.path for decision in plan.kept})
        return self.layers.pop(0)

    def run_repeatedly(self, *_: Any, runs: int, until_missed: bool) -> Attempt:
        self.runs.append((runs, until_missed))
        return self.attempts.pop(0)

    def prove(self, layers: list[Any], attempts: list[Attempt], **options: Any) -> pipeline.VerifiedLayer:
        self.layers, self.attempts = layers, attempts
        return pipeline.prove(
            self.traced, self.site, choose(Settings(native="off", observe="probe"), options), self.workspace
        )


@pytest.fixture
def stages(build: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stages:
    return Stages(build, tmp_path, monkeypatch)


def test_a_layer_that_works_is_verified_at_once(stages: Stages) -> None:
    layer = stages.prove([PACKED], [GOOD])
    assert stages.adjustments == [Adjustments()]
    assert stages.runs == [(1, True)]
    proof = layer.proof
    assert (proof.events, proof.repaired, proof.runs, proof.cold_faults) == (1, (), 1, 2)
    assert (proof.shipped, proof.warnings) == ({"a.py": 10}, ("a warning",))


def test_a_layer_with_dropped_parts_runs_several_times(stages: Stages) -> None:
    assert stages.prove([replace(PACKED, lossy=True)], [GOOD]).proof.runs == pipeline.RUNS
    assert stages.prove([replace(PACKED, lossy=True)], [GOOD], runs=3).proof.runs == 3
    assert stages.runs == [(pipeline.RUNS, True), (3, True)]


def test_missed_files_are_planned_and_packed_again(stages: Stages) -> None:
    layer = stages.prove([PACKED, PACKED], [replace(GOOD, missed=("b.py",)), GOOD])
    assert stages.kept == [{"a.py"}, {"a.py", "b.py"}]
    assert layer.proof.repaired == ("b.py",)
    assert layer.adjustments == stages.adjustments[-1] == Adjustments(rounds=1, repaired=frozenset({"b.py"}))


def test_a_layer_that_is_too_large_is_not_run(stages: Stages) -> None:
    layer = stages.prove([LARGE, PACKED], [GOOD], cold="auto")
    assert len(stages.runs) == 1
    assert layer.adjustments == Adjustments(omitted_cold=frozenset({"late.py"}))


def test_a_layer_that_cannot_be_made_smaller_is_an_error(stages: Stages) -> None:
    with pytest.raises(PackError, match="the layer would be 1,000,000,000 bytes"):
        stages.prove([replace(LARGE, evictable=())], [], cold="auto")


def test_the_loop_ends_after_some_rounds(stages: Stages) -> None:
    failed = replace(GOOD, error="MemoryError")
    with pytest.raises(VerifyError, match="MemoryError"):
        stages.prove([PACKED] * 20, [failed, *(replace(failed, missed=("b.py",)) for _ in range(20))])
    assert all(one < two for one, two in zip(stages.adjustments, stages.adjustments[1:], strict=False))


def test_missed_files_of_the_last_round_are_ignored(stages: Stages) -> None:
    """A run that looks up other files each time and works without them is verified in the end."""
    lost = [f"m{n}.py" for n in range(8)]
    inventory = stages.site.inventory
    more = tuple(replace(inventory.files[0], path=path, distribution=path) for path in lost)
    stages.site = Site(stages.site.interpreter, replace(inventory, files=(*inventory.files, *more)))
    attempts = [replace(GOOD, missed=(path,)) for path in lost]
    layer = stages.prove([PACKED] * 8, [*attempts])
    assert layer.attempt == attempts[-1]
    assert [until_missed for _, until_missed in stages.runs] == [True] * 7 + [False]


# ---- outputs ------------------------------------------------------------------------------------------------------


def test_only_what_is_committed_stays(tmp_path: Path) -> None:
    with Workspace.open(tmp_path / "layer.zip", tmp_path / "function.zip") as workspace:
        workspace.layer.write_text("layer")
        (workspace.function or tmp_path).write_text("function")
        assert workspace.scratch.is_dir()
        workspace.commit()
    with Workspace.open(tmp_path / "other.zip", None) as unfinished:
        unfinished.layer.write_text("half a layer")
        assert unfinished.function is None
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {
        "layer.zip": "layer",
        "function.zip": "function",
    }
    assert not workspace.scratch.exists()


def test_an_output_that_cannot_be_renamed(tmp_path: Path) -> None:
    with Workspace.open(tmp_path / "layer.zip", None) as workspace:
        workspace.layer.write_text("layer")
        (tmp_path / "layer.zip").mkdir()
        with pytest.raises(PackError, match=r"cannot write .*layer\.zip"):
            workspace.commit()
