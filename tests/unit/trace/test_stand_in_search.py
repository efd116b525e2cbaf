"""The search for modules that stand-ins can replace: its runs, the stand-ins that it removes, and its cache."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from layer_minimizer.model.search import SearchResult, Trial
from layer_minimizer.model.trace import Trace, TracedStandIn
from layer_minimizer.trace import module_groups, stand_in_search
from layer_minimizer.trace.search_cache import SearchCache
from layer_minimizer.trace.stand_in_search import Search
from layer_minimizer.trace.tracer import Study

SIZE = stand_in_search._MIN_PART_BYTES


@dataclass
class Program:
    """Replaces the tracer: returns the trace and study of a run of a simulated program.

    ``needs``: modules that must be real; ``wakes``: others that must be real if a module is replaced; ``needed_by``:
    modules that must be real if a module is; ``breaks``: modules whose stand-ins make the run fail; ``unfit``: modules
    that the check reports; ``implicit``: modules that are expected to be loaded unless a stand-in imports them.
    """

    first: Trace
    needs: frozenset[str] = frozenset()
    breaks: frozenset[str] = frozenset()
    unfit: frozenset[str] = frozenset()
    implicit: frozenset[str] = frozenset()
    fills: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    wakes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    needed_by: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    runs: list[frozenset[str]] = field(default_factory=list)
    tables: list[Mapping[str, Any]] = field(default_factory=list)
    bytecode: None = None
    last_run: int = 1000

    def trace_with_stand_ins(
        self, _workload: Any, _scratch: Path, tables: Mapping[str, Any], **more: Any
    ) -> tuple[Trace | None, Study]:
        replaced = frozenset(tables)
        if len(self.runs) == self.last_run:
            raise KeyboardInterrupt
        self.runs.append(replaced)
        self.tables.append(tables)
        woken = {other for name in replaced for other in self.wakes.get(name, ())} | self.needs
        woken |= {other for name, others in self.needed_by.items() if name not in replaced for other in others}
        also = {name for table in tables.values() for name in table["also"]}
        study = Study(
            tables={},
            ran=frozenset(),
            woken=dict.fromkeys(replaced & woken, "needed"),
            implicit=(self.implicit & replaced) - also,
            unfit=dict.fromkeys(replaced & self.unfit, "has effects") if more.get("check") else {},
            fills=self.fills if more.get("check") else {},
            touched={},
        )
        trace = replace(
            self.first,
            stand_ins=tuple(TracedStandIn(name, f"{name.replace('.', '/')}.py", {}) for name in sorted(replaced)),
        )
        return None if replaced & self.breaks else trace, study


@pytest.fixture
def make(build: Any, tmp_path: Path) -> Any:
    """Make a search among these modules, for a program."""

    def make(
        names: Iterable[str],
        importers: Mapping[str, str] | None = None,
        *,
        work: float = 60.0,
        seconds: float = 60.0,
        cache: SearchCache | None = None,
        ran: Iterable[str] = (),
        **program: Any,
    ) -> tuple[Search, Program]:
        names = list(names)
        source = tmp_path / "module.py"
        source.write_text("#" * SIZE)
        rows = [(name, f"{name.replace('.', '/')}.py", (importers or {}).get(name, "handler"), 1) for name in names]
        first = build.trace(modules=rows, results={"event": "1"})
        tables = {name: {"file": str(source), "names": {}, "dynamic": False} for name in names}
        study = Study(tables=tables, ran=frozenset(ran), woken={})
        runner = Program(
            first, **{key: frozenset(value) if isinstance(value, list) else value for key, value in program.items()}
        )
        found = Search(
            tracer=runner,  # type: ignore[arg-type]
            first=first,
            study=study,
            groups=module_groups.candidates(study, first, ()),
            tolerance=0.0,
            scratch=tmp_path / "search",
            work=work,
            seconds=seconds,
            cache=cache,
        )
        return found, runner

    return make


def test_unused_modules_are_found_in_one_run_and_checked_in_another(make: Any) -> None:
    search, program = make(["a", "a.b", "c"])
    assert search.find() == SearchResult(frozenset({"a", "c"}))
    assert program.runs == [{"a", "a.b", "c"}] * 2


def test_a_needed_module_is_removed_with_its_group(make: Any) -> None:
    search, program = make(["a", "a.b", "c"], needs=["a.b"])
    assert search.find().groups == {"c"}
    assert program.runs[1] == {"c"}


def test_if_a_run_fails_the_groups_are_bisected(make: Any) -> None:
    names = [f"m{n}" for n in range(8)]
    search, _ = make(names, breaks=["m5"])
    assert search.find().groups == {*names} - {"m5"}


def test_groups_that_wake_others_are_given_up_without_bisection(make: Any) -> None:
    """What the part "p.bad" wakes is more than what it would save."""
    large, good = [f"large{number}" for number in range(9)], [f"p.good{number}" for number in range(4)]
    search, program = make(["p", "p.bad", *good, *large], ran=["p"], wakes={"p.bad": ("p.bad", *large)})
    assert search.find().groups == {*large, *good}
    # The packages, with all parts, without the bad one, and the check.
    assert [len(each) for each in program.runs] == [9, 14, 13, 13]


def test_an_expected_module_is_imported_by_the_stand_in_of_its_importer(make: Any) -> None:
    search, program = make(["a", "b"], importers={"b": "a"}, implicit=["b"])
    found = search.find()
    assert found == SearchResult(frozenset({"a", "b"}), also={"a": ("b",)})
    assert program.tables[-1]["a"]["also"] == ["b"]


def test_an_expected_module_without_an_importer_fails_the_attempt(make: Any) -> None:
    search, _ = make(["a", "b"], implicit=["b"])
    assert search.find().groups == {"a"}


def test_a_module_with_import_side_effects_is_not_replaced(make: Any) -> None:
    search, _ = make(["a", "b"], unfit=["b"], fills={"a": ("pkg",)})
    found = search.find()
    assert (found.groups, found.fills) == (frozenset({"a"}), {"a": ("pkg",)})


def test_of_a_package_only_the_unfit_module_is_real(make: Any) -> None:
    search, program = make(["p", "p.bad", "p.deep", "p.deep.one", "q"], importers={"p.bad": "q"}, unfit=["p.bad"])
    found = search.find()
    assert (found.groups, found.refused) == ({"p.deep", "q"}, {"p.bad"})
    assert program.runs[-1] == {"p.deep", "p.deep.one", "q"}
    # Its effects are there from the start: what imports it is replaced.
    assert program.tables[-1]["q"]["also"] == ["p.bad"]
    assert [each.name for each in search.confirm(found, program).stand_ins] == ["p.deep", "p.deep.one", "q"]


def test_of_a_package_only_what_a_real_module_needs_is_real(make: Any) -> None:
    names = ["p", "p.bad", "p.used", "p.idle", "q"]
    search, program = make(names, unfit=["p.bad"], needed_by={"p.bad": ("p.used", "q")})
    found = search.find()
    assert (found.groups, found.refused) == ({"p.idle"}, {"p.bad", "p.used", "q"})
    assert program.runs[-1] == {"p.idle"}


def test_groups_without_a_module_are_formed_anew() -> None:
    groups = {"p": frozenset({"p", "p.a", "p.a.x", "p.b", "p.b.y"}), "q.r": frozenset({"q.r", "q.r.s"})}
    assert module_groups.without(groups, []) == groups
    assert module_groups.without(groups, ["p.b.y"]) == {"p.a": {"p.a", "p.a.x"}, "q.r": groups["q.r"]}
    assert module_groups.without(groups, ["p", "q.r.s"]) == {"p.a": {"p.a", "p.a.x"}, "p.b": {"p.b", "p.b.y"}}


def test_a_cached_result_is_confirmed_with_its_own_tables(make: Any) -> None:
    search, program = make(["a", "b"])
    known = SearchResult(frozenset({"a"}), also={"a": ("b",)}, fills={"a": ("pkg",)})
    trace = search.confirm(known, program)
    assert [(each.name, each.table["also"], each.table["fills"]) for each in trace.stand_ins] == [("a", ["b"], ["pkg"])]
    assert [module.name for module in trace.asleep] == []
    # Confirming a result does not change the state of the search.
    assert search.find() == SearchResult(frozenset({"a", "b"}))


def test_a_result_with_a_needed_module_is_not_confirmed(make: Any) -> None:
    search, program = make(["a"], needs=["a"])
    assert search.confirm(SearchResult(frozenset({"a"})), program) is None


def test_candidates_are_the_topmost_packages_of_which_nothing_ran(build: Any) -> None:
    names = ["used", "used.idle", "used.idle.deep", "idle", "idle.part", "kept", "kept.part", "start"]
    first = build.trace(modules=[("start", "start.py", "", 0, True)])
    study = Study(tables={name: {} for name in names}, ran=frozenset({"used"}), woken={})
    groups = module_groups.candidates(study, first, ["kept"])
    assert groups == {"idle": {"idle", "idle.part"}, "used.idle": {"used.idle", "used.idle.deep"}}
    assert list(groups) == ["idle", "used.idle"]


def test_values_that_differ_between_two_runs_are_no_values() -> None:
    def study(number: int, order: list[str], ran: str) -> Study:
        names = {
            "VERSION": ["value", "1.2"],
            "MADE_AT": ["value", number],
            "__all__": ["list", order],
            "OTHERS": ["list", [*order, str(number)]],
            "function": ["function", "m", "f", str(number)],
        }
        return Study(tables={"m": {"names": names, "dynamic": False}}, ran=frozenset({ran}), woken={})

    one, other = study(1, ["b", "a"], "m"), study(2, ["a", "b"], "n")
    agreed = one.agreed_with(other, restores=False)
    assert agreed.ran == {"m", "n"}
    assert one.agreed_with(other, restores=True) == replace(agreed, ran=frozenset())
    assert agreed.tables["m"]["names"] == {
        "VERSION": ["value", "1.2"],
        "MADE_AT": ["other"],
        "__all__": ["list", ["a", "b"]],
        "OTHERS": ["other"],
        "function": ["function", "m", "f", "1"],
    }


# ---- limits -------------------------------------------------------------------------------------------------------


def test_the_work_limit_counts_runs_and_not_seconds(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    names = [f"m{n}" for n in range(8)]
    monkeypatch.setattr(stand_in_search, "_WORK_PER_RUN", 1.0)
    monkeypatch.setattr(stand_in_search, "_WORK_PER_MODULE", 0.0)
    search, program = make(names, breaks=["m5"], work=3.0)
    found = search.find()
    assert found.complete
    assert found.runs == len(program.runs)
    # All, the first half, two of the second one, one of them, and the final check; none of them twice.
    assert list(map(len, program.runs)) == [8, 4, 6, 5, 5]
    assert found.groups == {"m0", "m1", "m2", "m3", "m4"}


def test_a_time_limit_makes_the_search_incomplete(make: Any) -> None:
    search, program = make(["a", "b"], breaks=["b"], seconds=0.0)
    found = search.find()
    assert (found.groups, found.complete, found.runs) == (frozenset(), False, 0)
    assert program.runs == []


def test_an_interrupted_search_is_continued(make: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAYER_MINIMIZER_CACHE", str(tmp_path / "cache"))
    names, cache = [f"m{n}" for n in range(8)], SearchCache.of("inputs")
    undisturbed, first = make(names, breaks=["m5"], cache=SearchCache.of("the same"))
    expected = undisturbed.find()
    interrupted, second = make(names, breaks=["m5"], cache=cache, last_run=4)
    with pytest.raises(KeyboardInterrupt):
        interrupted.find()
    resumed, third = make(names, breaks=["m5"], cache=cache)
    assert resumed.find() == expected
    assert second.runs == first.runs[:4]
    assert third.runs == first.runs[4:]


# ---- cache --------------------------------------------------------------------------------------------------------


@pytest.fixture
def cached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SearchCache:
    monkeypatch.setenv("LAYER_MINIMIZER_CACHE", str(tmp_path / "cache"))
    return SearchCache.of("1.0", ["a"])


FOUND = SearchResult(frozenset({"a", "b"}), {"a": ("b",)}, {"b": ("c", "d")}, {"a": ("pkg",)}, runs=3)
TRIAL = Trial(
    same=True,
    replaced=frozenset({"a"}),
    loaded=frozenset({"b", "c"}),
    woken=(("b", "why"),),
    implicit=frozenset({"c"}),
    unfit=(("d", "why"),),
    fills=(("a", ("pkg",)),),
    remaining_bytes=5,
)


def test_a_result_is_cached_by_its_inputs_and_ends_the_trials(cached: SearchCache, tmp_path: Path) -> None:
    assert cached != SearchCache.of("1.0", ["b"])
    name, other = cached.trial_name({"a": 1}, 5), cached.trial_name({"a": 1}, 6)
    assert cached.read() is cached.read_trial(name) is None
    cached.write_trial(TRIAL, name)
    assert cached.read_trial(name) == TRIAL
    assert cached.read_trial(other) is None
    cached.write(FOUND)
    assert cached.read() == FOUND
    assert [path.name for path in (tmp_path / "cache/stand-ins").iterdir()] == [f"{cached.name}.json"]


@pytest.mark.parametrize(
    "content",
    ["", "[]", '{"groups": 1, "also": {}, "bound": {}, "fills": {}}', '{"groups": ["a"], "also": 1}'],
)
def test_an_unreadable_cache_file_is_ignored(cached: SearchCache, content: str) -> None:
    cached.write(FOUND)
    cached._file.write_text(content)
    assert cached.read() is None


def test_a_cache_that_cannot_be_written_is_ignored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("LAYER_MINIMIZER_CACHE", str(tmp_path / "file"))
    cache = SearchCache.of("inputs")
    cache.write(FOUND)
    cache.write_trial(TRIAL, "stand-ins")
    assert cache.read() is cache.read_trial("stand-ins") is None
