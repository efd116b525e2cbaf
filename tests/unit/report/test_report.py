"""The report as text and as JSON."""

import dataclasses
import io
import json
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from layer_minimizer.model.installed import Size
from layer_minimizer.model.outcome import (
    Bundled,
    Emulated,
    LayerArchive,
    LibrarySizes,
    Proof,
    RuntimeDistributions,
    Start,
    Starts,
)
from layer_minimizer.model.plan import Decision, KeepPlan, NotExercised, Reason, Verdict
from layer_minimizer.model.trace import MissingObserver
from layer_minimizer.report.cost import Cost
from layer_minimizer.report.report import Report, json_text
from layer_minimizer.report.text import show


@pytest.fixture
def report(build: Any) -> Report:
    rows = [
        ("big/a.so", 3_000_000, "big", Verdict.KEPT, Reason.NEEDED),
        ("big/b.py", 500, "big", Verdict.KEPT, Reason.TRACED),
        ("small/c.py", 1_000, "small", Verdict.KEPT, Reason.TRACED),
        ("loose.py", 200, "", Verdict.KEPT, Reason.INCLUDED),
        ("big/dropped.py", 9_000_000, "big", Verdict.DROPPED, Reason.UNUSED),
    ]
    return Report(
        trace=build.trace(results={"e": "1"}, observers=("probe", "strace")),
        plan=KeepPlan("3.11.7", tuple(Decision(*row, "said") for row in rows), (), ()),
        before=Size(files=1234, bytes=50_000_000, distributions=7),
        archive=LayerArchive(Path("/out/layer [x].zip"), "0" * 64, 4, 3_001_700, 900_000),
        proof=Proof(events=2, repaired=("small/c.py",), isolated=True, runs=1),
        not_exercised=(NotExercised("big.late", "big", 5), NotExercised("big.later", "big", 6)),
        warnings=("a [warning] of the inventory",),
        seconds={"trace": 1.5, "plan": 0.1, "pack": 0.2, "verify": 1.0},
    )


def text(report: Report) -> str:
    out = io.StringIO()
    show(report, Console(file=out, width=40))
    return out.getvalue()


def test_the_json_has_the_names_of_format_1(report: Report, require_schema: Callable[[Any], None]) -> None:
    said = json.loads(json_text(report.to_json()))
    require_schema({**said, "seconds": {**said["seconds"], "search": 0.0}})
    assert said.pop("files")[0] == {
        "path": "big/a.so", "distribution": "big", "bytes": 3_000_000, "shipped": 3_000_000, "verdict": "kept",
        "reason": "NEEDED", "evidence": "said", "cause": "",
    }  # fmt: skip
    assert said == {
        "format": 1,
        "version": metadata.version("layer_minimizer"),
        "python": "3.11.7",
        "entry": "handler.py",
        "budget": {"limit": 262_144_000, "layer": 3_001_700, "base_layers": 0, "function": 0},
        "import_time": None,
        "imports": [],
        "before": {"files": 1234, "bytes": 50_000_000, "distributions": 7},
        "layer": {
            "path": "/out/layer [x].zip",
            "sha256": "0" * 64,
            "files": 4,
            "unzipped_bytes": 3_001_700,
            "zipped_bytes": 900_000,
            "distributions": 3,
        },
        "function": None,
        "verified": True,
        "verification": {
            "events": 2,
            "mismatches": 0,
            "repaired": ["small/c.py"],
            "isolated": True,
            "runs": 1,
            "cold_faults": 0,
        },
        "output": "layer",
        "image": None,
        "lambda": None,
        "kept": {"INCLUDED": 200, "NEEDED": 3_000_000, "TRACED": 1_500},
        "distributions": {"big": 3_000_500, "small": 1_000, "(no distribution)": 200},
        "stand_ins": [],
        "standard_library": [],
        "cold": {"files": 0, "bytes": 0, "stored_bytes": 0},
        "gpu": {"files": 0, "bytes": 0, "shipped": 0, "distributions": {}, "cpu_builds": {}},
        "libraries": [],
        "bundled": [],
        "not_exercised": [
            {"module": "big.late", "importer": "big", "line": 5},
            {"module": "big.later", "importer": "big", "line": 6},
        ],
        "observers": ["probe", "strace"],
        "lazy_imports": "",
        "missing_observers": [],
        "differences": [],
        "warnings": ["a [warning] of the inventory"],
        "base_layers": [],
        "base_bytes": 0,
        "conflicts": [],
        "cost": None,
        "licenses": {"files": 0, "bytes": 0, "equal": 0, "without": ["big", "small"]},
        "runtime_distributions": None,
        "snapshot": {"stand_ins": [], "modules": [], "files": [], "pages": []},
        "search": None,
        "seconds": {"trace": 1.5, "plan": 0.1, "pack": 0.2, "verify": 1.0},
    }


def test_missing_observers_are_named_with_the_cause(report: Report, require_schema: Callable[[Any], None]) -> None:
    missing = (MissingObserver("strace", "it is not installed"), MissingObserver("pages", "no loader"))
    trace = dataclasses.replace(report.trace, observers=("probe",), missing_observers=missing)
    found = dataclasses.replace(report, trace=trace)
    lines = "Observed by: probe, in 1 process; not by strace (it is not installed) and pages (no loader).\n"
    assert lines in text(found)
    said = json.loads(json_text(found.to_json()))
    require_schema({**said, "seconds": {**said["seconds"], "search": 0.0}})
    assert said["missing_observers"] == [
        {"observer": "strace", "cause": "it is not installed"},
        {"observer": "pages", "cause": "no loader"},
    ]


def test_compacted_libraries_count_with_what_they_ship(report: Report) -> None:
    compacted = LibrarySizes("big/a.so", 3_000_000, 2_500_000, 400_000, 500_000, 700_000, 0, "")
    compacted_report = dataclasses.replace(
        report, proof=dataclasses.replace(report.proof, libraries=(compacted,), cold_faults=3)
    )
    assert compacted_report.kept == {"INCLUDED": 200, "NEEDED": 1_200_000, "TRACED": 1_500}
    assert compacted_report.to_json()["libraries"] == [
        {
            "path": "big/a.so",
            "file": 3_000_000,
            "mapped": 2_500_000,
            "hot": 400_000,
            "shipped": 500_000,
            "cold": 700_000,
            "dropped": 0,
            "problem": "",
            "gpu": False,
        }
    ]
    said = " ".join(text(compacted_report).split())
    assert "1 compacted, 3.0 MB → 0.5 MB and 0.7 MB of cold pages; the verifying run restored 3" in said
    assert "Shared libraries" not in text(report)


def test_an_emulated_lambda_is_shown_with_its_limits(report: Report) -> None:
    emulated = Emulated(2, 1.94, 303 << 20, 12 << 20, 1769, 512, "namespaces", ("own",), ("a warning",))
    told = dataclasses.replace(report, emulated=emulated)
    assert (
        "Verified in emulated Lambda (namespaces): 2 events; init 1.9 of 10 s, peak 303 of 1,769 MB, /tmp 12 of 512 MB."
    ) in text(told)
    assert told.to_json()["lambda"] == {
        "events": 2,
        "init_seconds": 1.94,
        "peak_bytes": 303 << 20,
        "tmp_bytes": 12 << 20,
        "memory": 1769,
        "tmp_size": 512,
        "where": "namespaces",
        "skipped": ("own",),
    }


def test_bundled_libraries_are_listed(report: Report) -> None:
    bundled = Bundled("libgomp.so.1", "/usr/lib/libgomp.so.1", "big/a.so", 300_000)
    with_one = dataclasses.replace(report, proof=dataclasses.replace(report.proof, bundled=(bundled,)))
    assert with_one.to_json()["bundled"] == [dataclasses.asdict(bundled)]
    said = "Bundled: libgomp.so.1 (0.3 MB, /usr/lib/libgomp.so.1), which big/a.so needs and the runtime may not have"
    assert said in text(with_one)
    assert "Bundled" not in text(report)


def test_the_largest_come_first_with_their_main_reason(report: Report) -> None:
    assert report.largest == (
        ("big", 3_000_500, "NEEDED"), ("small", 1_000, "TRACED"), ("(no distribution)", 200, "INCLUDED")
    )  # fmt: skip
    assert list(report.to_json()["distributions"]) == ["big", "small", "(no distribution)"]
    assert sum(report.kept.values()) == sum(decision.size for decision in report.plan.kept)


def test_the_text_mentions_what_matters(report: Report) -> None:
    said = text(report)
    assert "50.0 MB \u2192 3.0 MB unzipped, 900.0 kB zipped" in said or "0.9 MB zipped" in said
    assert "1,234 \u2192 4 files, 7 \u2192 3 distributions" in said
    assert "Verified: 2 events, same results on the layer alone (the original environment hidden)" in said
    assert "1 file restored" in said
    assert said.index("big (NEEDED)") < said.index("small (TRACED)")
    assert "probe and strace, in 1 process" in said
    assert "Not exercised: 2 modules" in said
    assert "big (2)" in said
    # Square brackets are no markup, and long lines are not broken: both would damage what people copy.
    assert "Warning: a [warning] of the inventory\n" in said
    assert "minimize publish '/out/layer [x].zip' --name NAME --runtime python3.11" in said
    assert "dropped.py" not in said


def test_a_script_and_an_open_environment_are_named_as_such(report: Report, build: Any) -> None:
    proof = dataclasses.replace(report.proof, isolated=False, repaired=(), events=1)
    said = text(dataclasses.replace(report, proof=proof, trace=build.trace(kind="script"), not_exercised=()))
    assert "Verified: the script's output, same results on the layer alone (no file of the original" in said
    assert "restored" not in said
    assert "Not exercised" not in said


def test_licenses_cost_and_the_distributions_of_the_runtime_have_a_line_each(report: Report) -> None:
    assert "Licenses:" not in text(report)
    assert "Cost:" not in text(report)
    rows = [
        ("big-1.dist-info/LICENSE", 900, "big", Verdict.KEPT, Reason.LICENSE),
        ("big-1.dist-info/METADATA", 300, "big", Verdict.KEPT, Reason.LICENSE),
        ("small-1.dist-info/LICENSE", 900, "small", Verdict.KEPT, Reason.LICENSE),
        ("third/__init__.py", 5, "third", Verdict.COLD, Reason.UNTOUCHED),
    ]
    decisions = (*report.plan.decisions, *(Decision(*row, "said") for row in rows))
    more = dataclasses.replace(
        report,
        plan=dataclasses.replace(report.plan, decisions=decisions),
        proof=dataclasses.replace(
            report.proof,
            shipped={"small-1.dist-info/LICENSE": 30},
            brought=RuntimeDistributions("python3.12", ("six",), ("boto3", "botocore")),
        ),
        cost=Cost(Starts(Start(2.0, 300 << 20), Start(1.0, 200 << 20)), 1024, 0.00001, "Lambda on arm64, 2026-01-01"),
    )
    said = text(more)
    assert "Licenses: 3 texts and METADATA files, 1 of them links to equal ones, 1.2 kB; --licenses drop leaves" in said
    assert " Without a license text: third.\n" in said
    assert "python3.12, too: six. Those of the layer come first; boto3, botocore would be the runtime's." in said
    assert "Cost: init 2.00 \u2192 1.00 s, memory 300 \u2192 200 MB, measured here; a million" in said
    assert "at 1,024 MB: $20.00 \u2192 $10.00 (0.0000100000 per GB-second, Lambda on arm64, 2026-01-01)." in said
    assert more.to_json()["cost"]["before"] == {
        "seconds": 2.0, "peak_bytes": 300 << 20, "per_million_starts": 20.0,
    }  # fmt: skip


def test_several_runs_are_mentioned(report: Report) -> None:
    often = dataclasses.replace(report, proof=dataclasses.replace(report.proof, runs=10))
    assert "Verified: 2 events, same results in 10 runs on the layer alone (" in text(often)
    assert often.to_json()["verification"]["runs"] == 10


def test_a_zip_too_large_for_a_direct_upload_goes_by_s3(report: Report) -> None:
    limit = 50 * 1024 * 1024
    direct = dataclasses.replace(report.archive, zipped_bytes=limit)
    assert "--bucket" not in text(dataclasses.replace(report, archive=direct))
    larger = dataclasses.replace(report.archive, zipped_bytes=limit + 1)
    assert "--bucket" in text(dataclasses.replace(report, archive=larger))


def test_every_file_has_one_of_five_verdicts(report: Report) -> None:
    rows = [
        ("big/a.so", 3_000_000, "big", Verdict.KEPT, Reason.NEEDED),
        ("big/b.py", 500, "big", Verdict.COLD, Reason.STAND_IN),
        ("big/c.txt", 400, "big", Verdict.COLD, Reason.UNTOUCHED),
        ("small/c.py", 1_000, "small", Verdict.KEPT, Reason.TRACED),
        ("big/dropped.py", 9_000_000, "big", Verdict.DROPPED, Reason.UNUSED),
        ("pip/__init__.py", 9_000, "pip", Verdict.DROPPED, Reason.UNUSED),
    ]
    compacted = LibrarySizes("big/a.so", 3_000_000, 2_500_000, 400_000, 500_000, 700_000, 0, "")
    made = dataclasses.replace(
        report,
        plan=KeepPlan("3.11.7", tuple(Decision(*row, "said") for row in rows), (), ()),
        proof=dataclasses.replace(report.proof, libraries=(compacted,), shipped={"big/b.py": 70, "small/c.py": 600}),
    )
    assert [(file["path"], file["verdict"], file["shipped"]) for file in made.to_json()["files"]] == [
        ("big/a.so", "compacted", 1_200_000),
        ("big/b.py", "stand-in", 70),
        ("big/c.txt", "cold", 0),
        ("small/c.py", "kept", 600),
        ("big/dropped.py", "dropped", 0),
    ]


def test_the_text_of_the_json_has_a_row_for_each_file(report: Report) -> None:
    lines = json_text(report.to_json()).splitlines()
    assert len([line for line in lines if line.startswith('    {"path": ')]) == len(report.plan.decisions)
    strange = '\udcff\u2028\n"</script>'
    data = {"files": [{"path": strange}], "warnings": [], "before": {"files": 1}}
    assert json.loads(json_text(data)) == data
