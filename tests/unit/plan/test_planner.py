"""Every verdict and its reason, and what must hold for any trace and any environment."""

import random
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from layer_minimizer.core.errors import PlanError
from layer_minimizer.model.installed import InstalledFile, Inventory, PthFile
from layer_minimizer.model.plan import FINAL_REASONS, KeepPlan, Reason, Verdict
from layer_minimizer.model.trace import Trace, TracedModule, TracedStandIn, Use
from layer_minimizer.plan.draft import Draft
from layer_minimizer.plan.globs import matching
from layer_minimizer.plan.planner import Analyses, PlanRequest, plan


def no_libraries(_paths: Iterable[str]) -> list[tuple[str, str]]:
    return []


def decide(trace: Trace, inventory: Inventory, request: PlanRequest | None = None, **more: Any) -> KeepPlan:
    return plan(trace, inventory, request or PlanRequest(), **{"library_needs": no_libraries, **more})


def verdicts(planned: KeepPlan) -> dict[str, tuple[Verdict, Reason]]:
    return {d.path: (d.verdict, d.reason) for d in planned.decisions}


def kept(planned: KeepPlan) -> set[str]:
    return {d.path for d in planned.kept}


KEPT, DROPPED = Verdict.KEPT, Verdict.DROPPED


# ---- one case a reason --------------------------------------------------------------------------------------------


def test_a_used_file_is_kept_and_its_neighbour_is_not(build: Any) -> None:
    planned = decide(build.trace(["a/used.txt"]), build.inventory({"a/used.txt": "a", "a/other.txt": "a"}))
    assert verdicts(planned) == {"a/used.txt": (KEPT, Reason.TRACED), "a/other.txt": (DROPPED, Reason.UNUSED)}
    assert planned.python == "3.11.7"


def test_the_evidence_of_an_import_names_the_importer_and_its_line(build: Any) -> None:
    trace = build.trace({"a.py": "spec open"}, [("handler", "", "__main__", 1), ("a", "a.py", "handler", 7)])
    planned = decide(trace, build.inventory({"a.py": "a"}))
    (decision,) = planned.decisions
    assert "a by handler, line 7" in decision.evidence
    assert decision.cause == "handler"
    assert [m.name for m in planned.chains] == ["handler", "a"]


@pytest.mark.parametrize("use", list(Use))
def test_every_kind_of_use_keeps_a_file(build: Any, use: Use) -> None:
    planned = decide(build.trace({"a.bin": use.value}), build.inventory({"a.bin": "a"}))
    assert verdicts(planned)["a.bin"] == (KEPT, Reason.TRACED)
    assert planned.decisions[0].evidence


def test_a_package_comes_with_the_init_of_all_its_parents(build: Any) -> None:
    files = {"a/__init__.py": "a", "a/b/__init__.py": "a", "a/b/c.txt": "a", "a/d/__init__.py": "a"}
    planned = decide(build.trace(["a/b/c.txt"]), build.inventory(files))
    assert kept(planned) == {"a/__init__.py", "a/b/__init__.py", "a/b/c.txt"}
    assert verdicts(planned)["a/__init__.py"] == (KEPT, Reason.PACKAGE)


def test_a_library_that_a_kept_one_needs_is_kept_over_several_steps(build: Any) -> None:
    needs = {"a/ext.so": ["a.libs/one.so"], "a.libs/one.so": ["a.libs/two.so"], "b/ext.so": ["a.libs/three.so"]}

    def direct(paths: Iterable[str]) -> list[tuple[str, str]]:
        return [(needed, path) for path in paths for needed in needs.get(path, ())]

    files = dict.fromkeys([*needs, "a.libs/two.so", "a.libs/three.so"], "a")
    planned = decide(build.trace({"a/ext.so": "map"}), build.inventory(files), library_needs=direct)
    assert kept(planned) == {"a/ext.so", "a.libs/one.so", "a.libs/two.so"}
    assert verdicts(planned)["a.libs/two.so"] == (KEPT, Reason.NEEDED)
    two = next(d for d in planned.decisions if d.path == "a.libs/two.so")
    assert two.cause == "a.libs/one.so"


def test_libraries_of_included_files_are_followed_too(build: Any) -> None:
    files = {"a.py": "a", "b/ext.so": "b", "b/needed.so": "b"}

    def direct(paths: Iterable[str]) -> list[tuple[str, str]]:
        return [("b/needed.so", path) for path in paths if path == "b/ext.so"]

    planned = decide(
        build.trace(["a.py"]), build.inventory(files), PlanRequest(include=("b/ext.so",)), library_needs=direct
    )
    assert verdicts(planned)["b/needed.so"] == (KEPT, Reason.NEEDED)


def info(name: str, *files: str) -> dict[str, str]:
    return {f"{name}-1.0.dist-info/{file}": name for file in ("METADATA", "RECORD", *files)}


def test_metadata_that_was_asked_for_by_name_is_kept(build: Any) -> None:
    files = {"a.py": "a", **info("a", "entry_points.txt"), **info("b")}
    planned = decide(build.trace(["a.py"], metadata={"a": "handler"}), build.inventory(files))
    assert verdicts(planned)["a-1.0.dist-info/METADATA"] == (KEPT, Reason.METADATA)
    # What the run did not read of it is of no use.
    assert kept(planned) == {"a.py", "a-1.0.dist-info/METADATA"}
    (decision,) = [d for d in planned.kept if d.reason is Reason.METADATA]
    assert "handler asked" in decision.evidence


def test_metadata_of_a_distribution_without_other_use_is_kept_when_asked_for(build: Any) -> None:
    planned = decide(build.trace(["a.py"], metadata={"b": ""}), build.inventory({"a.py": "a", **info("b")}))
    assert "b-1.0.dist-info/METADATA" in kept(planned)


def test_metadata_read_of_a_used_distribution_is_kept_with_its_name(build: Any) -> None:
    files = {"a.py": "a", **info("a", "entry_points.txt")}
    planned = decide(build.trace(["a.py", "a-1.0.dist-info/entry_points.txt"]), build.inventory(files))
    assert kept(planned) == {"a.py", "a-1.0.dist-info/entry_points.txt", "a-1.0.dist-info/METADATA"}


def test_metadata_that_was_read_in_a_scan_of_everything_is_no_use(build: Any) -> None:
    files = {"a.py": "a", **info("a", "entry_points.txt"), **info("b", "entry_points.txt")}
    read = [path for path in files if path.endswith("entry_points.txt")]
    planned = decide(build.trace(["a.py", *read]), build.inventory(files))
    assert verdicts(planned)["b-1.0.dist-info/entry_points.txt"] == (DROPPED, Reason.SCANNED)
    assert verdicts(planned)["b-1.0.dist-info/METADATA"] == (DROPPED, Reason.UNUSED)
    assert verdicts(planned)["a-1.0.dist-info/entry_points.txt"] == (KEPT, Reason.METADATA)


def test_an_egg_info_file_is_metadata_too(build: Any) -> None:
    inventory = build.inventory({"a.py": "a", "b-1.0.dist-info": "b"})
    planned = decide(build.trace(["a.py"], metadata={"b": "handler"}), inventory)
    assert verdicts(planned)["b-1.0.dist-info"] == (KEPT, Reason.METADATA)


def test_a_module_that_a_model_names_is_kept(build: Any) -> None:
    inventory = build.inventory({"a.py": "a", "b/__init__.py": "b", "b/net.py": "b", "b/rest.py": "b"})
    planned = decide(build.trace(["a.py"]), inventory, pickled=[("model.pkl", "b.net", "Net"), ("model.pkl", "x", "y")])
    assert verdicts(planned)["b/net.py"] == (KEPT, Reason.PICKLED)
    assert verdicts(planned)["b/__init__.py"] == (KEPT, Reason.PACKAGE)
    assert verdicts(planned)["b/rest.py"] == (DROPPED, Reason.UNUSED)
    (decision,) = [d for d in planned.kept if d.reason is Reason.PICKLED]
    assert decision.evidence == "model.pkl names b.net.Net"


def test_a_copy_of_a_kept_library_is_kept_as_a_link_to_it(build: Any) -> None:
    inventory = build.inventory(dict.fromkeys(["a/lib.so.1", "a/lib.so", "a/other.so.1", "a/other.so"], "a"))
    copies = {"a/lib.so": "a/lib.so.1", "a/other.so": "a/other.so.1"}
    trace = build.trace(["a/lib.so.1"])
    planned = decide(trace, inventory, PlanRequest(cold=True, copies=copies))
    assert verdicts(planned)["a/lib.so"] == (KEPT, Reason.LINKED)
    assert kept(planned) == {"a/lib.so.1", "a/lib.so"}
    assert kept(decide(trace, inventory, PlanRequest(copies=copies))) == {"a/lib.so.1"}


def test_modules_that_kept_code_could_import_are_kept_on_demand(build: Any) -> None:
    inventory = build.inventory({"a/__init__.py": "a", "a/late.py": "a", "a/never.py": "a"})
    planned = decide(build.trace(["a/__init__.py"]), inventory, PlanRequest(static_modules=("a.late", "gone")))
    assert verdicts(planned)["a/late.py"] == (KEPT, Reason.STATIC)
    assert verdicts(planned)["a/never.py"] == (DROPPED, Reason.UNUSED)


def test_a_module_that_the_user_keeps_is_kept_with_its_package(build: Any) -> None:
    files = dict.fromkeys(["a.py", "b/__init__.py", "b/c.py", "b/d.py", "space/e/__init__.py"], "a")
    planned = decide(build.trace(["a.py"]), build.inventory(files), PlanRequest(keep=("b.c", "space")))
    assert {d.path for d in planned.kept} == {"a.py", "b/__init__.py", "b/c.py"}


def test_a_module_of_the_standard_library_can_be_kept_real_and_needs_no_file(build: Any) -> None:
    inventory = build.inventory({"a.py": "a"})
    planned = decide(build.trace(["a.py"]), inventory, PlanRequest(keep=("email.mime",)))
    assert {d.path for d in planned.kept} == {"a.py"}


def test_what_the_user_includes_is_kept_with_its_package(build: Any) -> None:
    inventory = build.inventory({"a.py": "a", "b/__init__.py": "b", "b/x.py": "b", "b/y.py": "b"})
    planned = decide(build.trace(["a.py"]), inventory, PlanRequest(include=("b/x.*",)))
    assert verdicts(planned)["b/x.py"] == (KEPT, Reason.INCLUDED)
    assert verdicts(planned)["b/__init__.py"] == (KEPT, Reason.PACKAGE)
    assert verdicts(planned)["b/y.py"] == (DROPPED, Reason.UNUSED)


def test_what_an_attempt_missed_is_kept(build: Any) -> None:
    inventory = build.inventory({"a.py": "a", "b/__init__.py": "b", "b/x.py": "b"})
    planned = decide(build.trace(["a.py"]), inventory, PlanRequest(repaired=frozenset({"b/x.py", "gone.py"})))
    assert verdicts(planned)["b/x.py"] == (KEPT, Reason.REPAIRED)
    assert verdicts(planned)["b/__init__.py"] == (KEPT, Reason.PACKAGE)


def test_the_users_exclusion_wins_over_every_other_reason(build: Any) -> None:
    inventory = build.inventory({"a/x.py": "a", "a/y.py": "a", "a/z.py": "a"})
    request = PlanRequest(include=("a/y.py",), exclude=("a/x.py", "a/y.py"), repaired=frozenset({"a/x.py"}))
    planned = decide(build.trace(["a/x.py", "a/z.py"]), inventory, request)
    assert verdicts(planned)["a/x.py"] == verdicts(planned)["a/y.py"] == (DROPPED, Reason.EXCLUDED)
    assert kept(planned) == {"a/z.py"}


def test_a_provided_distribution_is_left_out_whatever_the_spelling_of_its_name(build: Any) -> None:
    inventory = build.inventory({"a.py": "a", "big/x.so": "big-one", "big/y.so": "big-one"})
    planned = decide(build.trace(["a.py", "big/x.so"]), inventory, PlanRequest(provided=("Big_One",)))
    assert verdicts(planned)["big/x.so"] == verdicts(planned)["big/y.so"] == (DROPPED, Reason.PROVIDED)


def test_a_shadowed_file_is_dropped_next_to_the_one_that_shadows_it(build: Any) -> None:
    lower = InstalledFile("a.py", 3, "a", "/lower/a.py")
    planned = decide(build.trace(["a.py"]), build.inventory({"a.py": "a"}, shadowed=[lower]))
    assert [(d.path, d.verdict, d.reason) for d in planned.decisions] == [
        ("a.py", KEPT, Reason.TRACED),
        ("a.py", DROPPED, Reason.SHADOWED),
    ]


# ---- links --------------------------------------------------------------------------------------------------------


def test_a_used_link_brings_its_target(build: Any) -> None:
    inventory = build.inventory({"a/lib.so": "a", "a/lib.so.1": "a"}, links={"a/lib.so": "lib.so.1"})
    planned = decide(build.trace(["a/lib.so"]), inventory)
    assert kept(planned) == {"a/lib.so", "a/lib.so.1"}


def test_a_link_that_is_kept_for_another_reason_brings_its_target_as_linked(build: Any) -> None:
    links = {"a/one.so": "../b/two.so", "b/two.so": "three.so"}
    inventory = build.inventory(
        {"x.py": "a", "a/one.so": "a", "b/two.so": "a", "b/three.so": "a", "b/four.so": "a"}, links=links
    )
    planned = decide(build.trace(["x.py"]), inventory, PlanRequest(include=("a/one.so",)))
    assert verdicts(planned)["b/two.so"] == verdicts(planned)["b/three.so"] == (KEPT, Reason.LINKED)
    assert verdicts(planned)["b/four.so"] == (DROPPED, Reason.UNUSED)


def test_a_file_used_through_a_linked_folder_is_kept_with_the_link(build: Any) -> None:
    inventory = build.inventory({"a/data": "a", "a/v2/x.txt": "a", "a/v2/y.txt": "a"}, links={"a/data": "v2"})
    planned = decide(build.trace(["a/data/x.txt"]), inventory)
    assert kept(planned) == {"a/data", "a/v2/x.txt"}


def test_a_kept_link_to_a_package_brings_its_init(build: Any) -> None:
    inventory = build.inventory(
        {"x.py": "a", "alias": "a", "pkg/__init__.py": "a", "pkg/other.py": "a"}, links={"alias": "pkg"}
    )
    planned = decide(build.trace(["x.py"]), inventory, PlanRequest(include=("alias",)))
    assert verdicts(planned)["pkg/__init__.py"] == (KEPT, Reason.LINKED)
    assert verdicts(planned)["pkg/other.py"] == (DROPPED, Reason.UNUSED)


def test_links_that_lead_in_a_circle_do_not_hang_the_plan(build: Any) -> None:
    inventory = build.inventory({"a": "a", "b": "a"}, links={"a": "b", "b": "a"})
    assert kept(decide(build.trace(["a"]), inventory)) == {"a", "b"}


# ---- the start of Python ------------------------------------------------------------------------------------------


def startup(build: Any, *used: str) -> tuple[Trace, Inventory]:
    """Make a case of a ``.pth`` file that imports a module of its distribution at every start of Python."""
    inventory = build.inventory(
        {"a.pth": "a", "_a_start.py": "a", "a.py": "a", "b.py": "b"},
        pth=[PthFile("a.pth", runs_code=True, folders=(), leaves_site=False)],
    )
    modules = [("_a_start", "_a_start.py", "", 0, True), *((path[:-3], path, "handler", 1) for path in used)]
    return build.trace(["a.pth", "_a_start.py", *used], modules), inventory


def test_a_pth_file_of_a_used_distribution_is_kept_with_what_it_imports(build: Any) -> None:
    found = verdicts(decide(*startup(build, "a.py")))
    assert found["a.pth"] == found["_a_start.py"] == (KEPT, Reason.STARTUP)


def test_a_pth_file_of_an_unused_distribution_is_dropped_with_what_it_imports(build: Any) -> None:
    found = verdicts(decide(*startup(build, "b.py")))
    assert found["a.pth"] == found["_a_start.py"] == (DROPPED, Reason.IDLE)


def test_a_pth_file_of_a_distribution_that_code_refers_to_is_kept_with_what_it_imports(build: Any) -> None:
    """Whoever imports a module of it later finds the process as it is in the environment."""
    found = verdicts(decide(*startup(build, "b.py"), PlanRequest(cold=True, reachable={"a": "b.py names it"})))
    assert found["a.pth"] == found["_a_start.py"] == (KEPT, Reason.STARTUP)
    assert found["a.py"] == (Verdict.COLD, Reason.REACHABLE)


def test_asking_for_the_metadata_of_a_distribution_is_no_use_of_it(build: Any) -> None:
    trace, inventory = startup(build, "b.py")
    files = {file.path: file.distribution for file in inventory.files} | info("a")
    asking = build.trace(
        {file.path: "open" for file in trace.files},
        [(m.name, m.path, m.importer, m.line, m.startup) for m in trace.modules],
        metadata={"a": "b"},
    )
    found = verdicts(decide(asking, build.inventory(files, pth=inventory.pth)))
    assert found["a-1.0.dist-info/METADATA"] == (KEPT, Reason.METADATA)
    assert found["a.pth"] == (DROPPED, Reason.IDLE)


def test_a_module_that_the_workload_imports_too_is_no_mere_companion_of_the_start(build: Any) -> None:
    trace, inventory = startup(build, "_a_start.py")
    assert verdicts(decide(trace, inventory))["_a_start.py"] == (KEPT, Reason.TRACED)


def test_a_module_without_an_owner_that_the_start_imported_is_kept(build: Any) -> None:
    inventory = build.inventory({"sitecustomize.py": "", "b.py": "b"})
    trace = build.trace(["sitecustomize.py", "b.py"], [("sitecustomize", "sitecustomize.py", "", 0, True)])
    assert verdicts(decide(trace, inventory))["sitecustomize.py"] == (KEPT, Reason.STARTUP)


def test_a_pth_file_that_names_a_folder_with_kept_files_is_kept(build: Any) -> None:
    pth = [
        PthFile("a.pth", runs_code=False, folders=("a/lib",), leaves_site=False),
        PthFile("b.pth", runs_code=False, folders=("b/lib",), leaves_site=False),
    ]
    files = {"a.pth": "a", "b.pth": "b", "a/lib/x.py": "a", "b/lib/y.py": "b"}
    found = verdicts(decide(build.trace(["a/lib/x.py"]), build.inventory(files, pth=pth)))
    assert found["a.pth"] == (KEPT, Reason.STARTUP)
    assert found["b.pth"] == (DROPPED, Reason.IDLE)


def test_a_pth_file_that_leads_elsewhere_is_dropped_even_if_its_distribution_is_used(build: Any) -> None:
    files = {"a.pth": "a", "a.py": "a", "e.pth": "e", "e.py": "e", "_e_finder.py": "e"}
    pth = [
        PthFile("a.pth", runs_code=False, folders=(), leaves_site=True),
        PthFile("e.pth", runs_code=True, folders=(), leaves_site=False),
    ]
    trace = build.trace(["a.py", "e.py", "_e_finder.py"], [("_e_finder", "_e_finder.py", "", 0, True)])
    found = verdicts(decide(trace, build.inventory(files, pth=pth, editable=["e"])))
    assert found["a.pth"] == found["e.pth"] == found["_e_finder.py"] == (DROPPED, Reason.IDLE)
    assert found["a.py"] == found["e.py"] == (KEPT, Reason.TRACED)


# ---- plugins, and tests that are used ------------------------------------------------------------------------------


@pytest.mark.parametrize("extends", [True, False])
def test_a_distribution_that_code_names_is_cold_and_can_be_listed(build: Any, *, extends: bool) -> None:
    files = {"host/__init__.py": "host", "plug/__init__.py": "plug", "other.py": "other"}
    files |= {f"plug-1.0.dist-info/{name}": "plug" for name in ("METADATA", "RECORD", "entry_points.txt")}
    inventory = build.inventory(files)
    # entry_points() reads the file of every distribution: that alone says nothing.
    trace = build.trace(["host/__init__.py", "plug-1.0.dist-info/entry_points.txt"])
    reachable = {"plug": "host/__init__.py names it"} if extends else {}
    found = verdicts(decide(trace, inventory, PlanRequest(cold=True, reachable=reachable)))
    expected = (Verdict.COLD, Reason.REACHABLE) if extends else (DROPPED, Reason.UNUSED)
    assert found["plug/__init__.py"] == expected
    assert found["plug-1.0.dist-info/entry_points.txt"][0] is (KEPT if extends else DROPPED)
    assert found["plug-1.0.dist-info/METADATA"][0] is (KEPT if extends else DROPPED)
    assert found["other.py"][0] is DROPPED


@pytest.mark.parametrize("used", ["a/tests/check.py", "a/tests/data/one.csv"])
def test_a_folder_of_tests_that_the_program_itself_uses_is_as_any_other(build: Any, used: str) -> None:
    files = ["a/__init__.py", "a/tests/__init__.py", "a/tests/check.py", "a/tests/test_x.py", "a/sub/tests/test_y.py"]
    inventory = build.inventory(dict.fromkeys([*files, "a/tests/data/one.csv", "a/tests/data/two.csv"], "a"))
    decided = {}
    for traced in (["a/__init__.py", "a/tests/__init__.py"], ["a/__init__.py", used]):
        found = verdicts(decide(build.trace(traced), inventory, PlanRequest(cold=True)))
        assert found["a/sub/tests/test_y.py"] == (DROPPED, Reason.DEVELOPMENT)
        decided[traced[1]] = {found["a/tests/test_x.py"], found["a/tests/data/two.csv"]}
    assert decided["a/tests/__init__.py"] == {(DROPPED, Reason.DEVELOPMENT)}
    assert decided[used] == {(Verdict.COLD, Reason.UNTOUCHED)}


# ---- folders ------------------------------------------------------------------------------------------------------


def test_a_folder_that_was_looked_into_stays_although_none_of_its_files_is_used(build: Any) -> None:
    inventory = build.inventory({"a/x.py": "a", "a/plugins/p.txt": "a", "a/other/o.txt": "a", "b/data/d.txt": "b"})
    trace = build.trace({"a/x.py": "open", "a/plugins": "list", "b/data": "list", "a": "stat"})
    # A folder of a distribution without any kept file would turn into an importable namespace package.
    assert decide(trace, inventory).folders == ("a/plugins",)


def test_an_empty_folder_whose_existence_was_asked_for_stays(build: Any) -> None:
    inventory = build.inventory({"a/x.py": "a"}, folders=["a/cache", "a/never"])
    assert decide(build.trace({"a/x.py": "open", "a/cache": "stat"}), inventory).folders == ("a/cache",)


def test_folders_of_what_was_taken_out_do_not_stay(build: Any) -> None:
    inventory = build.inventory({"a/x.py": "a", "a/gone/g.txt": "a", "a/plug/p.txt": "big"})
    trace = build.trace({"a/x.py": "open", "a/gone": "list", "a/plug": "list"})
    assert decide(trace, inventory, PlanRequest(exclude=("a/gone",), provided=("big",))).folders == ()


def test_metadata_folders_do_not_stay_without_their_files(build: Any) -> None:
    inventory = build.inventory({"a.py": "a", **info("a", "licenses/LICENSE")})
    uses = {"a.py": "open", "a-1.0.dist-info": "list", "a-1.0.dist-info/licenses": "list"}
    assert decide(build.trace(uses, metadata={"a": ""}), inventory).folders == ()


# ---- refusals -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("refused", "option"),
    [
        (PlanRequest(include=("b/*",)), "--include b/\\*"),
        (PlanRequest(keep=("b.c",)), "--keep b.c"),
        (PlanRequest(exclude=("b/*",)), "--exclude b/\\*"),
        (PlanRequest(provided=("b",)), "--provided b"),
    ],
)
def test_a_request_that_matches_nothing_is_an_error(build: Any, refused: PlanRequest, option: str) -> None:
    with pytest.raises(PlanError, match=option):
        decide(build.trace(["a.py"]), build.inventory({"a.py": "a"}), refused)


def test_a_workload_that_uses_nothing_needs_no_layer(build: Any) -> None:
    with pytest.raises(PlanError, match=r"handler\.py uses no installed file"):
        decide(build.trace(["elsewhere.py"]), build.inventory({"a.py": "a"}))


# ---- what holds for everything ------------------------------------------------------------------------------------

OWNERS = ("a", "b", "c")
PATHS = [
    *(
        f"{owner}/{part}"
        for owner in OWNERS
        for part in ("__init__.py", "m.py", "sub/__init__.py", "sub/n.py", "d.txt")
    ),
    *(f"{owner}/lib.so" for owner in OWNERS),
    *(f"{owner}-1.0.dist-info/{part}" for owner in OWNERS for part in ("METADATA", "RECORD", "entry_points.txt")),
    *(f"{owner}.pth" for owner in OWNERS),
    "alone.py",
]
NEEDS = {"a/lib.so": "b/lib.so", "b/lib.so": "c/lib.so"}
GLOBS = ["a/*", "b/**", "c", "**/n.py", "alone.py", "*.pth"]


def owner_of(path: str) -> str:
    return path[0] if path[0] in OWNERS and path != "alone.py" else ""


def needs(paths: Iterable[str]) -> list[tuple[str, str]]:
    return [(NEEDS[path], path) for path in paths if path in NEEDS]


def name_of(path: str) -> str:
    return path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


@st.composite
def cases(draw: st.DrawFn, build: Any) -> tuple[Trace, Inventory, PlanRequest, list[tuple[str, str, str]]]:
    installed = draw(st.sets(st.sampled_from(PATHS), min_size=1))
    linked = draw(st.booleans()) and {"a/d.txt", "b/d.txt"} <= installed
    pth = [
        PthFile(path, draw(st.booleans()), draw(st.sampled_from([(), ("a/sub",)])), draw(st.booleans()))
        for path in sorted(installed)
        if path.endswith(".pth")
    ]
    inventory = build.inventory(
        {path: owner_of(path) for path in sorted(installed)},
        links={"a/d.txt": "../b/d.txt"} if linked else {},
        pth=pth,
        editable=draw(st.sets(st.sampled_from(OWNERS))),
        shadowed=[InstalledFile("a/m.py", 1, "a", "/lower/a/m.py")] if draw(st.booleans()) else [],
    )
    used = draw(st.sets(st.sampled_from(PATHS), min_size=1))
    modules = [
        (name_of(path), path, "handler", 1, draw(st.booleans())) for path in sorted(used) if path.endswith(".py")
    ]
    uses = {path: draw(st.sampled_from(["open", "stat", "spec open", "map", "list"])) for path in sorted(used)}
    trace = build.trace(uses, modules, metadata=dict.fromkeys(draw(st.sets(st.sampled_from(OWNERS))), ""))
    fitting = [glob for glob in GLOBS if matching(glob, installed)]
    globs = st.sets(st.sampled_from(fitting), max_size=2).map(tuple) if fitting else st.just(())
    owners = sorted({owner_of(path) for path in installed} - {""})
    request = PlanRequest(
        include=draw(globs),
        exclude=draw(globs),
        provided=tuple(draw(st.sets(st.sampled_from(owners), max_size=1))) if owners else (),
        static_modules=tuple(draw(st.sets(st.sampled_from(["a.m", "b.sub.n", "gone"])))),
        repaired=frozenset(draw(st.sets(st.sampled_from(PATHS), max_size=2))),
    )
    pickled = [("model", name, "X") for name in sorted(draw(st.sets(st.sampled_from(["b.m", "c.sub.n", "numpy"]))))]
    return trace, inventory, request, pickled


def solve(case: tuple[Trace, Inventory, PlanRequest, list[tuple[str, str, str]]]) -> KeepPlan | None:
    trace, inventory, request, pickled = case
    try:
        return plan(trace, inventory, request, pickled=pickled, library_needs=needs)
    except PlanError as exc:
        assert "uses no installed file" in str(exc)  # noqa: PT017 - any other refusal would be a mistake of the case
        return None


@given(data=st.data())
def test_every_file_gets_one_verdict_with_a_reason_and_evidence(build: Any, data: st.DataObject) -> None:
    case = data.draw(cases(build))
    planned = solve(case)
    if planned is None:
        return
    inventory = case[1]
    expected = [file.path for file in (*inventory.files, *inventory.shadowed)]
    assert sorted(d.path for d in planned.decisions) == sorted(expected)
    assert all(d.evidence for d in planned.decisions)
    keeping = set(Reason) - {
        Reason.UNUSED, Reason.EXCLUDED, Reason.PROVIDED, Reason.SCANNED, Reason.IDLE, Reason.SHADOWED
    }  # fmt: skip
    assert all((d.verdict is KEPT) == (d.reason in keeping) for d in planned.decisions)


@given(data=st.data())
def test_only_what_is_installed_and_not_forbidden_is_kept(build: Any, data: st.DataObject) -> None:
    case = data.draw(cases(build))
    planned = solve(case)
    if planned is None:
        return
    _, inventory, request, _ = case
    installed = {file.path: file.distribution for file in inventory.files}
    assert kept(planned) <= installed.keys()
    assert not [path for path in kept(planned) if installed[path] in request.provided]
    assert not [path for pattern in request.exclude for path in matching(pattern, kept(planned))]
    assert set(planned.folders) <= inventory.folders


@given(data=st.data())
def test_packages_are_never_kept_without_their_inits(build: Any, data: st.DataObject) -> None:
    case = data.draw(cases(build))
    planned = solve(case)
    if planned is None:
        return
    reasons = {d.path: d.reason for d in planned.decisions if d.verdict is DROPPED}
    for path in kept(planned):
        folder = path.rpartition("/")[0]
        while folder:
            # Only the user's own word takes an __init__ out of a kept package.
            assert reasons.get(f"{folder}/__init__.py") in (None, Reason.EXCLUDED, Reason.PROVIDED, Reason.SHADOWED)
            folder = folder.rpartition("/")[0]


@given(data=st.data())
def test_more_traced_files_never_keep_less(build: Any, data: st.DataObject) -> None:
    trace, inventory, request, pickled = data.draw(cases(build))
    fewer = solve((trace, inventory, request, pickled))
    if fewer is None:
        return
    more = dict.fromkeys(data.draw(st.sets(st.sampled_from(PATHS))), "open")
    uses = {file.path: " ".join(sorted(file.uses)) for file in trace.files}
    files = {path: f"{uses.get(path, '')} {more.get(path, '')}".strip() for path in (*uses, *more)}
    modules = [(m.name, m.path, m.importer, m.line, m.startup) for m in trace.modules]
    asked = {m.distribution: m.asked_by for m in trace.metadata}
    wider = solve((build.trace(files, modules, metadata=asked), inventory, request, pickled))
    assert wider is not None
    assert kept(fewer) <= kept(wider)


@given(data=st.data(), seed=st.integers(0, 2**32))
def test_the_order_of_the_inputs_is_irrelevant(build: Any, data: st.DataObject, seed: int) -> None:
    trace, inventory, request, pickled = data.draw(cases(build))
    shuffled = random.Random(seed).sample

    def mixed(values: Iterable[Any]) -> tuple[Any, ...]:
        return tuple(shuffled(list(values), len(list(values))))

    other_trace = type(trace)(**{
        **{name: getattr(trace, name) for name in trace.__slots__},
        "files": mixed(trace.files), "modules": mixed(trace.modules), "metadata": mixed(trace.metadata),
    })  # fmt: skip
    other_inventory = type(inventory)(**{
        **{name: getattr(inventory, name) for name in inventory.__slots__},
        "files": mixed(inventory.files), "distributions": mixed(inventory.distributions), "pth": mixed(inventory.pth),
    })  # fmt: skip
    wanted: dict[str, Callable[..., Any]] = {"include": mixed, "exclude": mixed, "static_modules": mixed}
    other_request = type(request)(**{
        name: wanted.get(name, lambda value: value)(getattr(request, name)) for name in request.__slots__
    })  # fmt: skip
    one = solve((trace, inventory, request, pickled))
    two = solve((other_trace, other_inventory, other_request, list(mixed(pickled))))
    assert (one is None) == (two is None)
    if one is not None and two is not None:
        assert sorted((d.path, d.verdict, d.reason) for d in one.decisions) == sorted(
            (d.path, d.verdict, d.reason) for d in two.decisions
        )
        assert one.folders == two.folders


@given(data=st.data())
def test_planning_again_gives_the_same_plan(build: Any, data: st.DataObject) -> None:
    case = data.draw(cases(build))
    assert solve(case) == solve(case)


@given(data=st.data())
def test_what_analyses_find_counts_as_if_it_had_been_known_from_the_start(build: Any, data: st.DataObject) -> None:
    trace, inventory, request, pickled = data.draw(cases(build))
    request = replace(request, static_modules=(), cold=True)
    reachable = {name: f"{name}'s reason" for name in data.draw(st.sets(st.sampled_from(OWNERS)))}
    companions = tuple(sorted(data.draw(st.sets(st.sampled_from(["a.sub.n", "b.m", "c"])))))
    static = tuple(sorted(data.draw(st.sets(st.sampled_from(["a.m", "b.sub.n", "gone"])))))
    asked: list[str] = []

    def answer(name: str, found: Any) -> Callable[[Any], Any]:
        def look(_: Any) -> Any:
            asked.append(name)
            return found

        return look

    analyses = Analyses(
        references=answer("references", reachable),
        companions=answer("companions", companions),
        static=answer("static", static),
    )
    known = replace(request, reachable=reachable, companions=companions, static_modules=static)
    more: dict[str, Any] = {"pickled": pickled, "library_needs": needs}
    try:
        found = plan(trace, inventory, request, analyses=analyses, **more)
    except PlanError:
        with pytest.raises(PlanError):
            plan(trace, inventory, request, **more)
        assert asked == []
        return
    assert found == plan(trace, inventory, known, **more)
    assert asked == ["references", "companions", "static"]


@given(data=st.data())
def test_each_analysis_sees_what_a_plan_without_it_decides(build: Any, data: st.DataObject) -> None:
    trace, inventory, request, pickled = data.draw(cases(build))
    # License texts are added to a finished plan.
    request = replace(request, static_modules=(), cold=True, licenses=False)
    more: dict[str, Any] = {"pickled": pickled, "library_needs": needs}
    seen: list[Any] = []

    def look(draft: Draft) -> tuple[str, ...]:
        seen.append(({d.path: d for d in draft.decisions({})}, set(draft.available())))
        return ()

    def references(draft: Draft) -> dict[str, str]:
        seen.append(draft.used_distributions())
        return {}

    try:
        planned = plan(trace, inventory, request, analyses=Analyses(references, look, look), **more)
    except PlanError:
        return
    used, *drafts = seen
    idle = (Reason.METADATA, Reason.STARTUP)
    assert used == {d.distribution for d in planned.kept if d.reason not in idle}
    shadowed = {id(d) for d in planned.decisions if d.reason is Reason.SHADOWED}
    expected = [d for d in planned.decisions if id(d) not in shadowed]
    for decisions, available in drafts:
        assert [replace(d, cause="") for d in decisions.values()] == [replace(d, cause="") for d in expected]
        assert available == {d.path for d in expected if d.reason not in FINAL_REASONS}


def test_what_is_for_a_gpu_and_no_event_needs_is_not_cold_behind_stand_ins(build: Any) -> None:
    files = ["a/__init__.py", "g/__init__.py", "g/deep.py", "g/compiler.so"]
    names = dict.fromkeys(files, "g")
    trace = replace(
        build.trace(["a/__init__.py"]),
        stand_ins=(TracedStandIn("g", "g/__init__.py", {}),),
        asleep=(
            TracedModule("g.deep", "g/deep.py", "g", 1),
            TracedModule("g.compiler", "g/compiler.so", "g", 2),
        ),
    )
    for gpu, expected in (({}, Verdict.COLD), (dict.fromkeys(files[1:], "g is for a GPU"), DROPPED)):
        found = verdicts(
            decide(trace, build.inventory({**names, "a/__init__.py": "a"}), PlanRequest(cold=True, gpu=gpu))
        )
        assert found["g/__init__.py"] == (expected, Reason.STAND_IN)
        assert [found[path][0] for path in files[2:]] == [expected] * 2
    assert found["g/compiler.so"][1] is Reason.GPU


def test_what_is_for_a_gpu_is_never_cold_and_is_kept_where_the_run_used_it(build: Any) -> None:
    inventory = build.inventory(dict.fromkeys(["a/__init__.py", "a/cpu.so", "a/cuda.so", "a/linked.so"], "a"))
    gpu = dict.fromkeys(["a/cuda.so", "a/linked.so"], "it needs libcuda.so.1")
    for cold in (True, False):
        request = PlanRequest(cold=cold, gpu=gpu)
        found = verdicts(decide(build.trace(["a/__init__.py", "a/linked.so"]), inventory, request))
        assert found["a/linked.so"] == (KEPT, Reason.TRACED)
        assert found["a/cuda.so"] == (DROPPED, Reason.GPU)
        assert found["a/cpu.so"][0] is (Verdict.COLD if cold else DROPPED)
