"""The search for modules that can be stood in for: what it tries, what it takes back, and what it remembers."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from layer_minimizer.model.trace import Trace, TracedStandIn
from layer_minimizer.trace import stand_in_search
from layer_minimizer.trace.stand_in_search import Found, Search
from layer_minimizer.trace.tracer import Study

SIZE = stand_in_search._WORTH_BYTES


@dataclass
class Program:
    """A program that needs some modules: instead of a tracer that runs one, it says what a run would show.

    ``needs`` are the modules that must be real; of ``breaks`` a stand-in makes the run fail, ``unfit`` are found in the
    check, ``implicit`` are expected to be loaded unless a stand-in imports them also.
    """

    first: Trace
    needs: frozenset[str] = frozenset()
    breaks: frozenset[str] = frozenset()
    unfit: frozenset[str] = frozenset()
    implicit: frozenset[str] = frozenset()
    fills: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    runs: list[frozenset[str]] = field(default_factory=list)
    tables: list[Mapping[str, Any]] = field(default_factory=list)
    bytecode: None = None

    def stand_in(
        self, _workload: Any, _scratch: Path, tables: Mapping[str, Any], **more: Any
    ) -> tuple[Trace | None, Study]:
        standing = frozenset(tables)
        self.runs.append(standing)
        self.tables.append(tables)
        also = {name for table in tables.values() for name in table["also"]}
        study = Study(
            tables={},
            ran=frozenset(),
            woken=dict.fromkeys(standing & self.needs, "needed"),
            implicit=(self.implicit & standing) - also,
            unfit=dict.fromkeys(standing & self.unfit, "has effects") if more.get("check") else {},
            fills=self.fills if more.get("check") else {},
            touched={},
        )
        trace = replace(
            self.first,
            stand_ins=tuple(TracedStandIn(name, f"{name.replace('.', '/')}.py", {}) for name in sorted(standing)),
        )
        return None if standing & self.breaks else trace, study


@pytest.fixture
def make(build: Any, tmp_path: Path) -> Any:
    """Make a search among these modules, for a program."""

    def make(
        names: Iterable[str], importers: Mapping[str, str] | None = None, **program: Any
    ) -> tuple[Search, Program]:
        names = list(names)
        source = tmp_path / "module.py"
        source.write_text("#" * SIZE)
        rows = [(name, f"{name.replace('.', '/')}.py", (importers or {}).get(name, "handler"), 1) for name in names]
        first = build.trace(modules=rows, results={"event": "1"})
        tables = {name: {"file": str(source), "names": {}, "dynamic": False} for name in names}
        study = Study(tables=tables, ran=frozenset(), woken={})
        runner = Program(
            first, **{key: frozenset(value) if key != "fills" else value for key, value in program.items()}
        )
        found = Search(
            tracer=runner,  # type: ignore[arg-type]
            first=first,
            study=study,
            groups=stand_in_search.candidates(study, first, ()),
            tolerance=0.0,
            scratch=tmp_path / "search",
            seconds=60.0,
        )
        return found, runner

    return make


def test_what_nobody_needs_is_found_in_one_run_and_checked_in_another(make: Any) -> None:
    trials, program = make(["a", "a.b", "c"])
    assert trials.find() == Found(frozenset({"a", "c"}))
    assert program.runs == [{"a", "a.b", "c"}] * 2


def test_what_is_needed_is_taken_back_with_its_group(make: Any) -> None:
    trials, program = make(["a", "a.b", "c"], needs=["a.b"])
    assert trials.find().groups == {"c"}
    assert program.runs[1] == {"c"}


def test_where_a_run_fails_groups_are_tried_by_halves(make: Any) -> None:
    names = [f"m{n}" for n in range(8)]
    trials, _ = make(names, breaks=["m5"])
    assert trials.find().groups == {*names} - {"m5"}


def test_what_must_be_loaded_is_imported_by_the_stand_in_through_which_it_was(make: Any) -> None:
    trials, program = make(["a", "b"], importers={"b": "a"}, implicit=["b"])
    found = trials.find()
    assert found == Found(frozenset({"a", "b"}), also={"a": ("b",)})
    assert program.tables[-1]["a"]["also"] == ["b"]


def test_what_nobody_could_import_ends_the_attempt(make: Any) -> None:
    trials, _ = make(["a", "b"], implicit=["b"])
    assert trials.find().groups == {"a"}


def test_what_has_effects_is_real_after_all(make: Any) -> None:
    trials, _ = make(["a", "b"], unfit=["b"], fills={"a": ("pkg",)})
    found = trials.find()
    assert (found.groups, found.fills) == (frozenset({"a"}), {"a": ("pkg",)})


def test_a_found_value_is_confirmed_by_its_own_tables(make: Any) -> None:
    trials, program = make(["a", "b"])
    known = Found(frozenset({"a"}), also={"a": ("b",)}, fills={"a": ("pkg",)})
    trace = trials.confirm(known, program)
    assert [(each.name, each.table["also"], each.table["fills"]) for each in trace.stand_ins] == [("a", ["b"], ["pkg"])]
    assert [module.name for module in trace.asleep] == []
    # What was confirmed is nothing that the search has found: it begins as if there were none.
    assert trials.find() == Found(frozenset({"a", "b"}))


def test_what_is_needed_after_all_is_not_confirmed(make: Any) -> None:
    trials, program = make(["a"], needs=["a"])
    assert trials.confirm(Found(frozenset({"a"})), program) is None


def test_candidates_are_the_highest_packages_of_which_nothing_ran(build: Any) -> None:
    names = ["used", "used.idle", "used.idle.deep", "idle", "idle.part", "kept", "kept.part", "start"]
    first = build.trace(modules=[("start", "start.py", "", 0, True)])
    study = Study(tables={name: {} for name in names}, ran=frozenset({"used"}), woken={})
    groups = stand_in_search.candidates(study, first, ["kept"])
    assert groups == {"idle": {"idle", "idle.part"}, "used.idle": {"used.idle", "used.idle.deep"}}
    assert list(groups) == ["idle", "used.idle"]


# ---- memory -------------------------------------------------------------------------------------------------------


def test_what_was_found_is_remembered_by_its_inputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    file = stand_in_search.cache_file("1.0", ["a"])
    assert file != stand_in_search.cache_file("1.0", ["b"])
    assert stand_in_search.remembered(file) is None
    found = Found(frozenset({"a", "b"}), {"a": ("b",)}, {"b": ("c", "d")}, {"a": ("pkg",)})
    stand_in_search.remember(file, found)
    assert stand_in_search.remembered(file) == found
    assert [path.name for path in file.parent.iterdir()] == [file.name]


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", '{"groups": []}', '{"groups": 1, "also": 1, "bound": {}, "fills": {}}']
)
def test_what_cannot_be_read_was_not_found(tmp_path: Path, content: str) -> None:
    (tmp_path / "memory.json").write_text(content)
    assert stand_in_search.remembered(tmp_path / "memory.json") is None


def test_a_memory_that_cannot_be_written_is_none(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    stand_in_search.remember(tmp_path / "file" / "memory.json", Found())
