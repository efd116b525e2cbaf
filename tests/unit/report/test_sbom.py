"""The bill of materials as a CycloneDX document: valid, complete, and the same for the same layer."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from layer_minimizer.core.errors import UsageError
from layer_minimizer.environment.site import Site
from layer_minimizer.layer.archive import write_zip
from layer_minimizer.model.installed import DeclaredLicense
from layer_minimizer.model.outcome import Bundled, Proof
from layer_minimizer.plan.planner import PlanRequest, plan
from layer_minimizer.report import sbom
from layer_minimizer.report.cyclonedx_json import document
from tests.support.sites import write_files

if TYPE_CHECKING:
    from pathlib import Path

    from layer_minimizer.model.bill import Bill

FILES = {
    "a/__init__.py": "a", "a/unused.py": "a", "a.libs/libz-1.so.1": "a", "a/ext.cpython-311-x86_64-linux-gnu.so": "a",
    "b.py": "b", "c.py": "c", "d.py": "d", "loose.py": "", "no_metadata/x.py": "no-metadata",
}  # fmt: skip
LICENSES = {
    "a": DeclaredLicense("MIT AND (Apache-2.0 OR BSD-2-Clause)"),
    "b": DeclaredLicense(names=("BSD License", "MIT License")),
    "c": DeclaredLicense(names=("mit",)),
    "d": DeclaredLicense("No such expression, sorry"),
}


@pytest.fixture
def bill(build: Any, tmp_path: Path) -> Bill:
    site = write_files(tmp_path / "site", dict.fromkeys(FILES, "content\n"))
    inventory = build.inventory(FILES, sources=site)
    requires = {"a": ("b>=1", "absent", 'd; extra == "more"'), "b": ("a", "c")}
    distributions = tuple(
        replace(each, license=LICENSES[each.name], requires=requires.get(each.name, ()), editable=each.name == "b")
        for each in inventory.distributions
        if each.name in LICENSES
    )
    inventory = replace(inventory, distributions=distributions)
    used = ["a/__init__.py", "b.py", "loose.py", "no_metadata/x.py", "d.py", "a.libs/libz-1.so.1"]
    planned = plan(build.trace(used), inventory, PlanRequest(exclude=("d.py",)), library_needs=lambda _paths: [])
    library = write_files(tmp_path, {"libgomp.so.1": "gomp"}) / "libgomp.so.1"
    proof = Proof(
        events=1,
        repaired=(),
        isolated=True,
        runs=1,
        shipped={decision.path: 1 for decision in planned.kept},
        bundled=(Bundled("libgomp.so.1", str(library), "a/ext.so", 4),),
    )
    folder = write_files(tmp_path / "layer", {"python/a/__init__.py": "", "python/_layer_minimizer/files.pyc": ""})
    archive = write_zip(folder, tmp_path / "part.zip")
    return sbom.make_bill("layer.zip", archive, planned, proof, Site(build.interpreter(site), inventory))


def read(bill: Bill) -> dict[str, Any]:
    text = document(bill)
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    found: dict[str, Any] = json.loads(text)
    return found


def properties(component: dict[str, Any]) -> dict[str, str]:
    return {each["name"].removeprefix("layer_minimizer:"): each["value"] for each in component["properties"]}


def test_what_is_shipped_and_what_is_left_out(bill: Bill) -> None:
    found = {each["name"]: each for each in read(bill)["components"]}
    assert {name: each.get("scope") for name, each in found.items()} == {
        "a": "required", "b": "required", "c": "excluded", "d": "excluded", "no-metadata": "required",
        "libgomp.so.1": None, "layer_minimizer": None,
    }  # fmt: skip
    assert properties(found["a"])["shipped"] == "part"
    assert properties(found["a"])["files"] == "2 of 4"
    assert properties(found["b"])["shipped"] == "whole"
    assert properties(found["c"]) == {"left_out": "no event needed it"}
    assert properties(found["d"]) == {"left_out": "--exclude d.py"}
    assert found["a"]["purl"] == "pkg:pypi/a@1.0"
    assert "purl" not in found["b"]  # an editable install is no release
    assert found["no-metadata"].get("version") is None
    assert [each["name"] for each in found["a"]["components"]] == ["libz-1.so.1"]
    assert properties(found["libgomp.so.1"])["needed_by"] == "a/ext.so"


def test_licenses(bill: Bill) -> None:
    found = {each["name"]: each.get("licenses") for each in read(bill)["components"]}
    assert found["a"] == [{"expression": "MIT AND (Apache-2.0 OR BSD-2-Clause)", "acknowledgement": "declared"}]
    assert [each["license"]["name"] for each in found["b"]] == ["BSD License", "MIT License"]
    assert found["c"][0]["license"]["id"] == "MIT"
    assert found["d"][0]["license"]["name"] == "No such expression, sorry"
    assert found["no-metadata"] is None


def test_the_digest_is_of_the_lines_of_sha256sum(bill: Bill) -> None:
    (found,) = [each for each in read(bill)["components"] if each["name"] == "b"]
    line = f"{hashlib.sha256(b'content' + bytes([10])).hexdigest()}  b.py\n"
    assert found["hashes"] == [{"alg": "SHA-256", "content": hashlib.sha256(line.encode()).hexdigest()}]


def test_the_graph_starts_at_the_layer(bill: Bill) -> None:
    said = read(bill)
    graph = {each["ref"]: each.get("dependsOn", []) for each in said["dependencies"]}
    assert graph["a@1.0"] == ["b@1.0"]
    assert graph["b@1.0"] == ["a@1.0", "c@1.0"]
    # Two that require each other are reached through one of them.
    assert graph["layer"] == ["a@1.0", "layer_minimizer/runtime", "no-metadata@", "system/libgomp.so.1"]
    assert said["metadata"]["component"]["name"] == "layer.zip"
    assert properties(said["metadata"]["component"])["files_without_distribution"] == "1"


def test_the_same_layer_gives_the_same_document(bill: Bill, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SOURCE_DATE_EPOCH", raising=False)
    first = document(bill)
    assert document(bill) == first
    assert "timestamp" not in json.loads(first)["metadata"]
    other = document(replace(bill, archive=("layer.zip", "0" * 64)))
    assert json.loads(other)["serialNumber"] != json.loads(first)["serialNumber"]
    for wrong in ("1700000000000000", "\u00b2", "today"):
        monkeypatch.setenv("SOURCE_DATE_EPOCH", wrong)
        with pytest.raises(UsageError, match=f"SOURCE_DATE_EPOCH={wrong} is no time in seconds"):
            sbom.check_library()
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    sbom.check_library()
    assert read(bill)["metadata"]["timestamp"] == "2023-11-14T22:13:20+00:00"
