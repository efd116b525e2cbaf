"""Layers of real workloads work, with the default options, also for events that the tool was not given.

Each folder next to this file is a case. The tool's command makes its layer; then the handler runs on the layer with the
environment hidden, and the results must be exactly those in the environment. The environment of a case is cached. A new
case is a new folder, see running.py.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from . import running

pytestmark = pytest.mark.case


def require_same(case: running.Case, original: running.Played, played: running.Played, expected: Sequence[str]) -> None:
    wrong = list(case.differences(original, played, expected))
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("name", running.parameters())
@pytest.mark.usefixtures("namespaces")
def test_case(name: str, tmp_path: Path, record_property: Callable[[str, object], None]) -> None:
    case = running.Case.read(name)
    expected = case.expected
    try:
        environment = case.environment()
    except LookupError as problem:
        pytest.skip(str(problem))
    task = case.make_task(environment, tmp_path / "task")
    trace = tmp_path / "trace.json"
    # By default the same is compressed less, as far as the limit for the size allows it.
    layer = case.minimize(environment, tmp_path / "keep", *case.workload(task), "--smallest", "--save-trace", trace)
    seen, unseen = (case.play(task, file, environment) for file in (case.events_file, case.unseen_file))
    seen_alone, unseen_alone = (
        case.play(task, file, environment, layer) for file in (case.events_file, case.unseen_file)
    )
    row = running.row(case, layer, unseen, unseen_alone)
    record_property("case", row)

    assert layer.report["verified"] is True
    assert {kind for kind, _ in seen.results} == {"ok"}, seen.results
    same = ["same"] * len(seen.results)
    require_same(case, seen, seen_alone, same)
    require_same(case, unseen, unseen_alone, expected.unseen)
    assert not running.missing(expected.must_keep, layer.files)
    assert not running.present(expected.must_drop, layer.files)
    assert layer.megabytes <= expected.max_mb

    if expected.max_mb_drop:
        # The layer for users without other inputs, from the same trace.
        small = case.minimize(environment, tmp_path / "drop", "--trace", trace, "--cold", "drop")
        row["drop"] = small.megabytes
        require_same(case, seen, case.play(task, case.events_file, environment, small), same)
        assert small.megabytes <= expected.max_mb_drop
