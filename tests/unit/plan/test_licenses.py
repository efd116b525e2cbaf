"""Which license texts and METADATA files are kept, and which are left out by --licenses drop."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from layer_minimizer.model.installed import DeclaredLicense, InstalledFile
from layer_minimizer.model.plan import KeepPlan, Reason, Verdict
from layer_minimizer.plan.licenses import is_license_text, without_text
from layer_minimizer.plan.planner import PlanRequest, plan

if TYPE_CHECKING:
    from collections.abc import Iterable

    from layer_minimizer.model.installed import Inventory


def decide(build: Any, used: Iterable[str], inventory: Inventory, **request: Any) -> KeepPlan:
    return plan(build.trace(list(used)), inventory, PlanRequest(**request), library_needs=lambda _paths: [])


def kept(planned: KeepPlan) -> set[str]:
    return {decision.path for decision in planned.kept if decision.reason is Reason.LICENSE}


INFO = "a-1.0.dist-info"
FILES = [
    "a/code.py", "a/LICENSE.txt", "a/other/code.py", "a/other/COPYING", "a/_vendor/b-2.dist-info/LICENSE",
    "a/_vendor/b/code.py", f"{INFO}/METADATA", f"{INFO}/RECORD", f"{INFO}/licenses/third/MIT.txt", f"{INFO}/NOTICE",
]  # fmt: skip


@pytest.mark.parametrize("cold", [True, False])
def test_of_what_is_shipped(build: Any, *, cold: bool) -> None:
    files = {**dict.fromkeys(FILES, "a"), "c.py": "c", "c-1.0.dist-info/METADATA": "c", "c-1.0.dist-info/LICENSE": "c"}
    planned = decide(build, ["a/code.py", "a/_vendor/b/code.py"], build.inventory(files), cold=cold)
    always = {"a/LICENSE.txt", "a/_vendor/b-2.dist-info/LICENSE", f"{INFO}/METADATA", f"{INFO}/NOTICE"}
    expected = always | {f"{INFO}/licenses/third/MIT.txt"}
    # A text inside a package is about what is in its folder: without that it is of no use.
    assert kept(planned) == (expected | {"a/other/COPYING"} if cold else expected)
    assert without_text(planned.decisions) == ()


def test_a_license_alone_keeps_nothing(build: Any) -> None:
    files = {"a.py": "a", "b.py": "b", "b-1.0.dist-info/METADATA": "b", "b/LICENSE": "b"}
    planned = decide(build, ["a.py"], build.inventory(files), cold=True)
    assert kept(planned) == set()
    assert without_text(planned.decisions) == ("a",)


def test_declared_files_of_any_name(build: Any) -> None:
    names = ["MIT.txt", "licenses/legal/terms.txt", "license_files/BSD", "GPL.txt"]
    files = {"a.py": "a", **dict.fromkeys((f"{INFO}/{name}" for name in names), "a")}
    inventory = build.inventory(files)
    declared = DeclaredLicense(files=("MIT.txt", "legal/terms.txt", "texts/BSD"))
    (distribution,) = inventory.distributions
    inventory = replace(inventory, distributions=(replace(distribution, license=declared),))
    assert kept(decide(build, ["a.py"], inventory)) == {f"{INFO}/{name}" for name in names[:3]}


def test_metadata_that_is_a_file_and_of_an_egg(build: Any) -> None:
    inventory = build.inventory({"a.py": "a", "a.egg-info": "a", "b.py": "b", "b.egg-info/PKG-INFO": "b"})
    places = {"a": "a.egg-info", "b": "b.egg-info"}
    found = tuple(replace(each, metadata=places[each.name]) for each in inventory.distributions)
    planned = decide(build, ["a.py", "b.py"], replace(inventory, distributions=found))
    assert kept(planned) == {"a.egg-info", "b.egg-info/PKG-INFO"}


def test_what_the_user_or_another_layer_decides_stays(build: Any) -> None:
    files = {"a.py": "a", f"{INFO}/LICENSE": "a", f"{INFO}/NOTICE": "a", f"{INFO}/AUTHORS.md": "a"}
    request = {"exclude": ("**/NOTICE",), "base_files": {f"{INFO}/LICENSE": "torch.zip"}}
    shadowed = (InstalledFile("a-0.9.dist-info/LICENSE", 1, "a", "/later/LICENSE"),)
    planned = decide(build, ["a.py"], build.inventory(files, shadowed=shadowed), **request)
    assert kept(planned) == {f"{INFO}/AUTHORS.md"}


def test_left_out_unless_an_event_read_them(build: Any) -> None:
    files = {"a.py": "a", "a/LICENSE": "a", f"{INFO}/LICENSE": "a", f"{INFO}/METADATA": "a"}
    planned = decide(build, ["a.py", "a/LICENSE"], build.inventory(files), cold=True, licenses=False)
    found = {decision.path: (decision.verdict, decision.reason) for decision in planned.decisions}
    assert found[f"{INFO}/LICENSE"] == (Verdict.DROPPED, Reason.EXCLUDED)
    assert found["a/LICENSE"] == (Verdict.KEPT, Reason.TRACED)
    assert found[f"{INFO}/METADATA"] == (Verdict.COLD, Reason.UNTOUCHED)


@pytest.mark.parametrize(
    "path",
    [
        "a/LICENSE", "a/license.txt", "a/LICENCE-MIT", "a/LICENSE_DEJAVU", "a/COPYING.LESSER", "a/NOTICES",
        "a/AUTHORS.rst",
        "a/UNLICENSE", "a/LICENSE.APACHE2", "a/third_party_licenses", "a/licenses/MIT", "a/licenses/deep/zlib.txt",
        "a-1.dist-info/licenses/anything.at.all", "a/ThirdPartyNotices.txt",
    ],
)  # fmt: skip
def test_names_of_license_texts(path: str) -> None:
    assert is_license_text(path)


@pytest.mark.parametrize(
    "path",
    [
        "a/license.py", "a/licenses/__init__.py", "a/licenses/spdx.json", "a/notice.html", "a/authors.po",
        "a/README.md",
        "licensing/rules.txt", "a/.license", "a/copyright.svg", "a-1.dist-info/METADATA", "a/licenses/template.j2",
    ],
)  # fmt: skip
def test_names_of_other_files(path: str) -> None:
    assert not is_license_text(path)
