"""Values can be saved and read, and traces can be merged."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from layer_minimizer.core.errors import UsageError
from layer_minimizer.model.plan import PLAN_FORMAT, Decision, KeepPlan, Reason, Verdict
from layer_minimizer.model.trace import TRACE_FORMAT, ForeignRoot, Trace, TracedFile, TracedMetadata, TracedModule, Use
from layer_minimizer.model.workload import Event, Result, Workload
from layer_minimizer.trace.merge import merge_traces

# Surrogate escapes represent bytes that are not UTF-8.
TEXT = st.text(st.characters(exclude_categories=["Cs"]) | st.just("\udcff"), max_size=6)
JSON = st.recursive(st.none() | st.booleans() | st.integers() | TEXT, lambda inner: st.lists(inner, max_size=2))
NAMES = st.text("abc", min_size=1, max_size=2)
PATHS = NAMES.map(lambda name: f"{name}.py")
FACTS = st.builds(
    Trace,
    python=st.just("3.11.7"),
    observers=st.lists(st.sampled_from(["probe", "strace"]), unique=True).map(tuple),
    kind=st.just("handler"),
    modules=st.lists(
        st.builds(TracedModule, NAMES, st.just("") | PATHS, TEXT, st.integers(0, 99), st.booleans()),
        unique_by=lambda m: m.name,
    ).map(tuple),
    files=st.lists(
        st.builds(TracedFile, TEXT, st.frozensets(st.sampled_from(Use), min_size=1)), unique_by=lambda f: f.path
    ).map(tuple),
    metadata=st.lists(st.builds(TracedMetadata, NAMES, TEXT), unique_by=lambda m: m.distribution).map(tuple),
    foreign=st.lists(st.builds(ForeignRoot, NAMES, TEXT), unique_by=lambda r: r.name).map(tuple),
    unplaced=st.lists(TEXT, unique=True).map(tuple),
    processes=st.integers(1, 9),
    results=st.lists(st.builds(Result, NAMES, st.just("1")), unique_by=lambda r: r.event).map(tuple),
    seconds=st.floats(0, 9),
    workload=st.builds(
        Workload,
        NAMES.map(Path),
        NAMES,
        st.lists(NAMES.map(Path), unique=True).map(tuple),
        st.lists(
            st.builds(Event, NAMES, JSON, st.dictionaries(NAMES, JSON, max_size=2)), unique_by=lambda e: e.name
        ).map(tuple),
    ),
)
PLANS = st.builds(
    KeepPlan,
    python=st.just("3.11.7"),
    decisions=st.lists(
        st.builds(Decision, TEXT, st.integers(0), TEXT, st.sampled_from(Verdict), st.sampled_from(Reason), TEXT, TEXT)
    ).map(tuple),
    folders=st.lists(TEXT).map(tuple),
    chains=st.lists(st.builds(TracedModule, NAMES, PATHS, TEXT, st.integers(0, 99), st.booleans())).map(tuple),
)


@given(FACTS)
def test_a_trace_survives_its_json(trace: Trace) -> None:
    assert Trace.from_json(json.loads(json.dumps(trace.to_json()))) == trace


@given(PLANS)
def test_a_plan_survives_its_json(plan: KeepPlan) -> None:
    assert KeepPlan.from_json(json.loads(json.dumps(plan.to_json()))) == plan


def test_saved_values_contain_their_format(build: Any) -> None:
    assert build.trace().to_json()["format"] == TRACE_FORMAT
    assert KeepPlan("3.11.7", (), (), ()).to_json()["format"] == PLAN_FORMAT


@pytest.mark.parametrize("data", [None, [], 1, "trace", {}, {"format": 1}])
def test_other_values_are_not_read_as_trace_or_plan(data: Any) -> None:
    with pytest.raises(UsageError, match="not a trace"):
        Trace.from_json(data)
    with pytest.raises(UsageError, match="not a plan"):
        KeepPlan.from_json(data)


@pytest.mark.parametrize("number", [0, 2, None, "1"])
def test_another_format_is_refused(build: Any, number: Any) -> None:
    with pytest.raises(UsageError, match="format"):
        Trace.from_json(build.trace().to_json() | {"format": number})
    with pytest.raises(UsageError, match="format"):
        KeepPlan.from_json(KeepPlan("3.11.7", (), (), ()).to_json() | {"format": number})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("modules", [["only a name"]]),
        ("modules", [["n", "p", "i", 1, False, "too much"]]),
        ("modules", 5),
        ("files", [["a.py"]]),
        ("files", [["a.py", ["chewed"]]]),
        ("files", [["a.py", [[]]]]),
        ("metadata", [[1, 2, 3]]),
        ("foreign", [[]]),
        ("observers", None),
        ("results", [["event"]]),
        ("workload", []),
        ("workload", {}),
        ("workload", {"entry": 5, "handler": "", "models": [], "events": []}),
        ("workload", {"entry": "h.py", "handler": "", "models": [], "events": [[]]}),
    ],
)
def test_a_damaged_trace_is_refused(build: Any, name: str, value: Any) -> None:
    with pytest.raises(UsageError, match="damaged"):
        Trace.from_json(build.trace(["a.py"]).to_json() | {name: value})


@pytest.mark.parametrize("name", ["python", "observers", "kind", "files", "metadata", "results", "seconds", "workload"])
def test_a_trace_that_lacks_a_part_is_refused(build: Any, name: str) -> None:
    data = build.trace().to_json()
    del data[name]
    with pytest.raises(UsageError, match="damaged"):
        Trace.from_json(data)


GOOD = ["a", 1, "a", "kept", "TRACED", "x", ""]


@pytest.mark.parametrize(
    "row", [GOOD[:-1], [*GOOD, ""], ["a", 1, "a", "maybe", *GOOD[4:]], [*GOOD[:4], "WHY", "x", ""]]
)
def test_a_damaged_plan_is_refused(row: list[Any]) -> None:
    data = KeepPlan("3.11.7", (), (), ()).to_json()
    assert KeepPlan.from_json(data | {"decisions": [GOOD]}).kept[0].size == 1
    with pytest.raises(UsageError, match="damaged"):
        KeepPlan.from_json(data | {"decisions": [row]})


def test_a_plan_lists_what_it_keeps() -> None:
    rows = [("a", 5, Verdict.KEPT), ("b", 7, Verdict.DROPPED), ("c", 1, Verdict.KEPT)]
    decisions = tuple(Decision(path, size, "", verdict, Reason.TRACED, "") for path, size, verdict in rows)
    plan = KeepPlan("3.11.7", decisions, (), ())
    assert [(d.path, d.size) for d in plan.kept] == [("a", 5), ("c", 1)]


def test_values_cannot_be_changed(build: Any) -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        build.trace().kind = "script"
    assert build.interpreter(Path("/site"), version=(3, 6, 15)).folder == "python3.6"


# ---- union --------------------------------------------------------------------------------------------------------


def test_the_merged_trace_has_the_uses_of_each_run(build: Any) -> None:
    one = build.trace(
        {"a": "open", "b": "stat"}, [("a", "a.py", "handler", 1)], metadata={"x": "one"}, results={"e1": "1"}
    )
    two = build.trace(
        {"b": "map", "c": "list"}, [("c", "c.py", "handler", 2)], metadata={"y": "two"}, results={"e2": "2"},
        observers=("strace",), foreign=[ForeignRoot("f", "/src/f")],
    )  # fmt: skip
    union = merge_traces([one, two])
    assert {f.path: f.uses for f in union.files} == {"a": {Use.OPEN}, "b": {Use.STAT, Use.MAP}, "c": {Use.LIST}}
    assert [m.name for m in union.modules] == ["a", "c"]
    assert {m.distribution for m in union.metadata} == {"x", "y"}
    assert [(r.event, r.value) for r in union.results] == [("e1", "1"), ("e2", "2")]
    assert union.observers == ("probe", "strace")
    assert (union.processes, union.seconds) == (2, 3.0)
    assert union.foreign == (ForeignRoot("f", "/src/f"),)


def test_a_module_that_one_run_needed_is_no_companion_of_the_start(build: Any) -> None:
    idle, used = (build.trace([], [("a", "a.py", "", 0, startup)]) for startup in (True, False))
    for union in (merge_traces([idle, used]), merge_traces([used, idle])):
        assert [m.startup for m in union.modules] == [False]


def test_a_module_that_one_run_found_in_the_site_lies_there(build: Any) -> None:
    nowhere, placed = (build.trace([], [("a", path, "", 0)]) for path in ("", "a.py"))
    for union in (merge_traces([nowhere, placed]), merge_traces([placed, nowhere])):
        assert [m.path for m in union.modules] == ["a.py"]


def test_traces_of_two_versions_cannot_be_merged(build: Any) -> None:
    with pytest.raises(UsageError, match=r"3\.11\.7 and 3\.12\.1"):
        merge_traces([build.trace(), build.trace(python="3.12.1")])
    assert merge_traces([build.trace(), build.trace(python="3.11.2")]).python == "3.11.7"


def test_traces_with_different_results_for_one_event_cannot_be_merged(build: Any) -> None:
    with pytest.raises(UsageError, match="'e'"):
        merge_traces([build.trace(results={"e": "1"}), build.trace(results={"e": "2"})])
    merge_traces([build.trace(results={"e": "1"}), build.trace(results={"e": "1"})])


def test_the_union_has_an_event_for_every_result(build: Any) -> None:
    def run(*names: str) -> Trace:
        events = tuple(Event(name, {"n": name}) for name in names)
        results = dict.fromkeys(names or ["(no event)"], "1")
        made: Trace = build.trace(results=results, workload=Workload(Path("/f/handler.py"), events=events))
        return made

    for traces in ([run("a"), run("b", "a")], [run(), run("a")], [run("a"), run()], [run("a"), run(), run("b")]):
        union = merge_traces(traces)
        assert sorted(e.name for e in union.workload.events) == sorted(r.event for r in union.results)
    assert merge_traces([run(), run()]).workload.events in ((), (Event("(no event)", {}),))


def test_two_events_of_one_name_both_stay(build: Any) -> None:
    traces = [
        build.trace(results={"a": value}, workload=Workload(Path("/f/handler.py"), events=(Event("a", payload),)))
        for payload, value in [(1, "10"), (2, "20"), (3, "30")]
    ]
    union = merge_traces(traces)
    assert sorted(e.payload for e in union.workload.events) == [1, 2, 3]
    values = {r.event: r.value for r in union.results}
    assert {values[e.name] for e in union.workload.events} == {"10", "20", "30"}
    assert all(values[e.name] == f"{e.payload}0" for e in union.workload.events)


def test_the_union_has_the_models_of_all(build: Any) -> None:
    def run(*models: str) -> Trace:
        workload = Workload(Path("/f/handler.py"), models=tuple(map(Path, models)))
        made: Trace = build.trace(workload=workload)
        return made

    assert merge_traces([run("a", "b"), run("c", "a")]).workload.models == (Path("a"), Path("b"), Path("c"))


@given(FACTS)
def test_a_trace_united_with_itself_says_nothing_new(trace: Trace) -> None:
    union = merge_traces([trace, trace])
    assert {(f.path, f.uses) for f in union.files} == {(f.path, f.uses) for f in trace.files}
    assert (union.modules, set(union.metadata), set(union.results)) == (
        trace.modules, set(trace.metadata), set(trace.results)
    )  # fmt: skip
    assert merge_traces([trace]) == trace


@given(st.lists(FACTS, min_size=1, max_size=4), st.randoms())
def test_the_order_of_traces_is_irrelevant_to_what_was_used(traces: list[Trace], chance: Any) -> None:
    union = merge_traces(traces)
    chance.shuffle(traces)
    other = merge_traces(traces)
    assert union.files == other.files
    assert {m.name for m in union.modules} == {m.name for m in other.modules}
    assert {m.distribution for m in union.metadata} == {m.distribution for m in other.metadata}


def test_a_trace_of_another_entry_says_what_must_be_there_and_nothing_of_results(build: Any) -> None:
    mine = build.trace(
        {"a.py": "open"}, results={"x": "1"}, workload=Workload(Path("/one/handler.py"), events=(Event("x", 1),))
    )
    other = build.trace(
        {"b.py": "open"},
        results={"x": "2", "y": "3"},
        kind="script",
        workload=Workload(Path("/two/script.py"), models=(Path("/two/model"),), events=(Event("y", 2),)),
    )
    both = merge_traces([mine, other])
    assert [file.path for file in both.files] == ["a.py", "b.py"]
    assert both.results == mine.results
    assert both.workload == mine.workload
    assert both.kind == "handler"
