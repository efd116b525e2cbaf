"""The plan of an attempt: analyses of the installed files, and adjustments by earlier attempts."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from layer_minimizer.core.errors import PlanError
from layer_minimizer.environment.site import Site
from layer_minimizer.model.adjustments import Adjustments
from layer_minimizer.model.plan import Cold, KeepPlan, Reason, Verdict
from layer_minimizer.model.traced import Traced
from layer_minimizer.model.workload import Workload
from layer_minimizer.plan import planning
from layer_minimizer.settings import Settings
from tests.support.sites import write_files

if TYPE_CHECKING:
    from layer_minimizer.model.trace import Trace

KEPT, COLD, DROPPED = Verdict.KEPT, Verdict.COLD, Verdict.DROPPED
FILES = {
    "app/__init__.py": "import os\ndef late():\n    import extra\n",
    "app/used.py": "",
    "app/rest.py": "",
    "app/ruled.py": "import app.rest\ndef f():\n    import far\n",
    "extra/__init__.py": "import further\n",
    "extra/more.py": "",
    "further.py": "",
    "far.py": "",
    "unnamed.py": "",
}


class Place:
    """A synthetic site, and a trace of a workload that used ``app``."""

    def __init__(self, build: Any, folder: Path, files: Mapping[str, str] = FILES) -> None:
        sources = write_files(folder / "site", files)
        entry = write_files(folder / "task", {"handler.py": "import app\n"}) / "handler.py"
        owners = {path: path.split("/")[0].removesuffix(".py") for path in files}
        self.site = Site(build.interpreter(sources), build.inventory(owners, sources=sources))
        self.trace: Trace = build.trace(["app/__init__.py", "app/used.py"], workload=Workload(entry))

    def plan(self, adjustments: Adjustments | None = None, **options: Any) -> KeepPlan:
        pickled = options.pop("pickled", ())
        traced = Traced(self.trace, pickled=pickled)
        return planning.make_plan(traced, self.site, Settings(**options), adjustments or Adjustments())

    def verdicts(self, *args: Any, **options: Any) -> dict[str, tuple[Verdict, Reason]]:
        return {d.path: (d.verdict, d.reason) for d in self.plan(*args, **options).decisions}


@pytest.fixture
def place(build: Any, tmp_path: Path) -> Place:
    return Place(build, tmp_path)


def test_what_code_names_is_cold_and_what_nothing_names_is_dropped(place: Place) -> None:
    assert place.verdicts() == {
        "app/__init__.py": (KEPT, Reason.TRACED),
        "app/used.py": (KEPT, Reason.TRACED),
        "app/rest.py": (COLD, Reason.UNTOUCHED),
        "app/ruled.py": (COLD, Reason.UNTOUCHED),
        "extra/__init__.py": (COLD, Reason.REACHABLE),
        "extra/more.py": (COLD, Reason.REACHABLE),
        "further.py": (COLD, Reason.REACHABLE),
        "far.py": (COLD, Reason.REACHABLE),
        "unnamed.py": (DROPPED, Reason.UNUSED),
    }


TESTS = {
    "imports": "from app.imports.tests.test_all import run\n",
    "relative": "from . import test_all\n",
    "later": "def run():\n    from . import test_all\n",
    "nothing": "VERSION = 1\n",
}


def test_a_test_folder_whose_package_imports_a_test_module_is_cold(build: Any, tmp_path: Path) -> None:
    files = {f"app/{name}/tests/__init__.py": source for name, source in TESTS.items()}
    files |= {f"app/{name}/tests/{file}": "" for name in TESTS for file in ("test_all.py", "data.csv")}
    place = Place(build, tmp_path, {"app/__init__.py": "", "app/used.py": "", **files})
    for cold, expected in ((Cold.KEEP, {"imports", "relative"}), (Cold.DROP, set())):
        found = place.verdicts(cold=cold)
        for file in ("test_all.py", "data.csv"):
            assert {name for name in TESTS if found[f"app/{name}/tests/{file}"][0] is COLD} == expected


def test_what_there_is_no_room_for_is_left_out(place: Place) -> None:
    found = place.verdicts(Adjustments(omitted_distributions=frozenset({"extra"})))
    assert found["extra/__init__.py"] == (DROPPED, Reason.UNUSED)
    assert found["further.py"] == (COLD, Reason.REACHABLE)


def test_without_a_way_back_nothing_is_cold(place: Place) -> None:
    found = place.verdicts(cold=Cold.DROP)
    assert {verdict for verdict, _ in found.values()} == {KEPT, DROPPED}


def test_what_a_run_on_the_layer_missed_is_kept(place: Place) -> None:
    found = place.verdicts(Adjustments(repaired=frozenset({"unnamed.py"})), cold=Cold.DROP)
    assert found["unnamed.py"] == (KEPT, Reason.REPAIRED)


def test_a_module_that_did_not_run_comes_with_what_it_needs_to_run(place: Place) -> None:
    found = place.verdicts(cold=Cold.DROP, pickled=(("model", "app.ruled", "X"),))
    assert found["app/ruled.py"] == (KEPT, Reason.PICKLED)
    assert found["app/rest.py"] == (KEPT, Reason.STATIC)
    # Only a function imports it, and it is of another distribution.
    assert found["far.py"] == (DROPPED, Reason.UNUSED)


def test_the_static_closure_follows_all_that_is_kept(place: Place) -> None:
    found = place.verdicts(cold=Cold.DROP, closure="static")
    assert found["extra/__init__.py"] == (KEPT, Reason.STATIC)
    assert found["further.py"] == (KEPT, Reason.STATIC)
    assert found["far.py"] == (DROPPED, Reason.UNUSED)


def test_a_plan_is_made_anew_and_is_the_same(place: Place) -> None:
    assert place.plan() == place.plan()


def test_a_workload_without_packages_needs_no_layer(place: Place, build: Any) -> None:
    place.trace = replace(build.trace(["elsewhere.py"]), workload=place.trace.workload)
    with pytest.raises(PlanError, match="uses no installed file"):
        place.plan()


def test_what_missed_modules_import(place: Place) -> None:
    plan = place.plan(exclude=("further.py",))
    assert planning.imported_files(plan, place.site, ["extra/__init__.py"]) == {"extra/__init__.py"}
    plan = place.plan()
    assert planning.imported_files(plan, place.site, ["extra/__init__.py"]) == {"extra/__init__.py", "further.py"}
    assert planning.imported_files(plan, place.site, ["extra/data.txt", "gone.py"]) == frozenset()


def test_what_kept_code_could_import_and_is_not_there(place: Place) -> None:
    assert [(each.module, each.importer) for each in planning.not_exercised(place.plan(), place.site)] == [
        ("extra", "app")
    ]
