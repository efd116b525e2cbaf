"""What is said of workloads that depend on chance or on the order of files, from the results of their runs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pytest

from layer_minimizer.core.errors import TraceError, VerifyError
from layer_minimizer.model.trace import TracedFile, Use
from layer_minimizer.model.workload import Result
from layer_minimizer.trace.repeatability import check_repeatable, listed_folders, warn_of_order
from layer_minimizer.trace.tracer import Study

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from layer_minimizer.execution.observed_run import Listing
    from layer_minimizer.model.trace import Trace


@dataclass(frozen=True)
class Runs:
    """Gives the results of runs without running anything; ``result`` gets a run's number and its reversed folders."""

    interpreter: Any
    first: Trace
    result: Callable[[int, frozenset[str]], str]
    counted: list[int]
    listing: Listing | None = None

    def run_again(self, _workload: object, _scratch: Path, *, studied: bool) -> tuple[Trace, Study]:
        self.counted.append(1)
        site = self.interpreter.site_dirs[0]
        folders = self.listing.folders if self.listing else ()
        names = frozenset(folder.removeprefix(site).strip("/") for folder, *_ in folders)
        value = self.result(len(self.counted), names)
        study = Study(tables={}, ran=frozenset({f"run{len(self.counted)}"} if studied else ()), woken={})
        return replace(self.first, results=(Result("e", value),)), study


@pytest.fixture
def check(build: Any, tmp_path: Path) -> Callable[..., tuple[str, ...]]:
    def run(result: Callable[[int, frozenset[str]], str], *listed: str, tolerance: float = 0.0) -> tuple[str, ...]:
        files = tuple(TracedFile(path, frozenset({Use.LIST})) for path in listed)
        first = replace(build.trace(), files=files, results=(Result("e", "1.0"),))
        runs: Any = Runs(build.interpreter(tmp_path.resolve()), first, result, [])
        return check_repeatable(first, runs, tolerance, tmp_path / "scratch")[0]

    return run


def test_one_more_run_is_enough_for_a_workload_that_gives_the_same(check: Callable[..., tuple[str, ...]]) -> None:
    counted: list[int] = []

    def result(number: int, folders: frozenset[str]) -> str:
        counted.append(number)
        assert folders == {""}
        return "1.0"

    assert check(result, "a", "b") == ()
    assert counted == [1]


@pytest.mark.parametrize("studied", [True, False])
def test_a_run_with_the_same_results_is_studied(build: Any, tmp_path: Path, *, studied: bool) -> None:
    """The first one, which has other results, is not."""
    first = replace(build.trace(), results=(Result("e", "1.0"),))
    runs: Any = Runs(build.interpreter(tmp_path), first, lambda number, _: "2.0" if number == 1 else "1.0", [])
    _, study = check_repeatable(first, runs, 0.0, tmp_path / "scratch", studied=studied)
    assert study == (Study(tables={}, ran=frozenset({"run2"}), woken={}) if studied else None)


@pytest.mark.parametrize("matter", [{"c"}, {"a", "d"}, {"."}])
def test_the_folders_whose_order_matters_are_found(matter: set[str], check: Callable[..., tuple[str, ...]]) -> None:
    wanted = {"" if each == "." else each for each in matter}

    def result(_number: int, folders: frozenset[str]) -> str:
        everything = folders == {""} and _number == 1
        return "2.0" if everything or wanted & folders else "1.0"

    assert check(result, "a", "b", "c", "d") == tuple(sorted(matter))


def test_folders_that_matter_together_only_are_all_named(check: Callable[..., tuple[str, ...]]) -> None:
    def result(number: int, folders: frozenset[str]) -> str:
        return "2.0" if number == 1 or folders >= {"a", "b"} else "1.0"

    assert check(result, "a", "b") == ("a", "b")


def test_chance_is_told_apart_from_order(check: Callable[..., tuple[str, ...]]) -> None:
    with pytest.raises(VerifyError, match=r"nondeterministic.*\n.*first 1\.0, then 1\.2") as refused:
        check(lambda number, _folders: f"1.{number}", "a")
    assert "Seed" in str(refused.value)
    with pytest.raises(VerifyError, match=r"--tolerance 1e-11"):
        check(lambda number, _folders: f"1.00000000000{number}", "a")
    assert check(lambda number, _folders: f"1.00000000000{number}", "a", tolerance=1e-9) == ()


def test_a_second_run_that_fails_is_told(check: Callable[..., tuple[str, ...]]) -> None:
    def result(_number: int, _folders: frozenset[str]) -> str:
        raise TraceError("handler.py raised: FileExistsError")

    with pytest.raises(VerifyError, match=r"not a second time:\nhandler\.py raised: FileExistsError"):
        check(result, "a")


def test_a_run_that_fails_in_another_order_only_depends_on_it(check: Callable[..., tuple[str, ...]]) -> None:
    def result(_number: int, folders: frozenset[str]) -> str:
        if folders & {"", "a"}:
            raise TraceError("wrong order")
        return "1.0"

    assert "a" in check(result, "a", "b")


def test_the_order_of_all_listed_folders_is_kept(build: Any, tmp_path: Path) -> None:
    for name in ("b", "a", "c"):
        (tmp_path / "pkg" / name).mkdir(parents=True)
    files = (TracedFile("pkg", frozenset({Use.LIST})), TracedFile("gone", frozenset({Use.LIST})))
    found = listed_folders(replace(build.trace(), files=files), build.interpreter(tmp_path))
    assert [(each.path, sorted(each.names)) for each in found] == [(".", ["pkg"]), ("pkg", ["a", "b", "c"])]


def test_the_warning_names_some_folders() -> None:
    assert "(site-packages itself, a)" in warn_of_order([".", "a"])
    assert "(a, b, c, d, e and 2 more)" in warn_of_order(list("abcdefg"))
