"""Distributions that a runtime brings, too: the whole chain that fits together comes from one place."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from layer_minimizer.aws.runtimes import load_runtimes
from layer_minimizer.core.errors import PackError
from layer_minimizer.environment.base_layers import BaseLayers
from layer_minimizer.environment.site import Site
from layer_minimizer.model.installed import Distribution
from layer_minimizer.plan.planner import PlanRequest, plan
from layer_minimizer.plan.runtime_distributions import Findings, check_brought

if TYPE_CHECKING:
    from collections.abc import Iterable

INSTALLED = {
    "boto3": ("1.44.8", ["botocore<1.45.0,>=1.44.8", "jmespath<2.0.0,>=0.7.1", "s3transfer<0.20.0,>=0.19.0"]),
    "botocore": ("1.44.8", ["jmespath<2.0.0,>=0.7.1", "python-dateutil<3.0.0,>=2.1", "urllib3!=2.2.0,<3,>=1.25.4"]),
    "s3transfer": ("0.19.3", ["botocore<2.0a.0,>=1.37.4"]),
    "jmespath": ("1.1.0", []),
    "urllib3": ("2.7.0", []),
    "python-dateutil": ("2.9.0", ["six>=1.5"]),
    "six": ("1.17.0", []),
    "pandas": ("3.0.1", ["python-dateutil>=2.8.2"]),
}
CHAIN = ("boto3", "botocore", "jmespath", "python-dateutil", "s3transfer", "six", "urllib3")


def check(
    build: Any,
    used: Iterable[str],
    *,
    installed: Iterable[str] = INSTALLED,
    runtime: str = "python3.12",
    base: Iterable[str] = (),
    **request: Any,
) -> Findings:
    files = {f"{name}/__init__.py": name for name in installed}
    inventory = build.inventory(files)
    known = tuple(
        Distribution(name, INSTALLED[name][0], f"{name}.dist-info", requires=tuple(INSTALLED[name][1]))
        for name in sorted(installed)
    )
    inventory = replace(inventory, distributions=known)
    used = [f"{name}/__init__.py" for name in used]
    trace = build.trace(used, [(path.split("/")[0], path, "handler", 1) for path in used])
    provided = {f"{name}/__init__.py": "torch.zip" for name in base}
    planned = plan(trace, inventory, PlanRequest(base_files=provided, **request), library_needs=lambda _paths: [])
    version = (*load_runtimes()[runtime].python, 1)
    site = Site(build.interpreter("/site", version=version), inventory, BaseLayers(provided=provided))
    return check_brought(load_runtimes()[runtime], planned, trace, site)


def test_the_whole_chain_or_none(build: Any) -> None:
    whole = check(build, CHAIN)
    assert (whole.places.layer, whole.places.own, whole.warnings) == (CHAIN, (), ())
    none = check(build, [*CHAIN, "pandas"], provided=CHAIN)
    assert (none.places.layer, none.places.own, none.warnings) == ((), CHAIN, ())


@pytest.mark.parametrize(
    ("provided", "inside", "outside"),
    [
        (["boto3"], "botocore 1.44.8", "boto3"), (["botocore"], "boto3 1.44.8", "botocore"),
        (["s3transfer"], "boto3 1.44.8", "s3transfer"),
    ],
)  # fmt: skip
def test_a_half_is_refused(build: Any, provided: list[str], inside: str, outside: str) -> None:
    with pytest.raises(PackError) as raised:
        check(build, CHAIN, provided=tuple(provided))
    said = str(raised.value)
    assert f"--runtime python3.12: {inside}" in said
    assert f"is in the layer and {outside} is not" in said
    assert "--provided boto3 botocore s3transfer" in said
    with pytest.raises(PackError):
        check(build, CHAIN, exclude=(f"{outside}/**",))


def test_another_layer_of_the_function_counts_as_the_layer(build: Any) -> None:
    found = check(build, CHAIN, base=["botocore", "s3transfer"])
    assert (found.places.layer, found.warnings) == (CHAIN, ())


def test_a_wide_range_is_a_warning(build: Any) -> None:
    (said,) = check(build, CHAIN, provided=("urllib3",)).warnings
    assert said.startswith("botocore 1.44.8 in the layer takes urllib3 from python3.12")


def test_what_no_event_used_is_a_warning(build: Any) -> None:
    # boto3 is not installed here, and the runtime's needs its own botocore.
    used = ["botocore", "jmespath", "urllib3", "python-dateutil", "six"]
    (said,) = check(build, used, installed=used).warnings
    assert said.startswith("botocore 1.44.8 in the layer comes before that of python3.12, whose own boto3 needs")
    # With --cold drop s3transfer stays behind; the runtime's is found, and may not fit.
    (said,) = check(build, [name for name in CHAIN if name != "s3transfer"]).warnings
    assert said.startswith("boto3 1.44.8 in the layer takes s3transfer from python3.12")


def test_parts_that_others_bring_are_no_news(build: Any) -> None:
    used = ["pandas", "python-dateutil", "six"]
    found = check(build, used, installed=used)
    assert (found.places.layer, found.warnings) == (("python-dateutil", "six"), ())
    assert check(build, ["urllib3"], installed=["urllib3"]).warnings == ()


def test_a_version_that_the_runtimes_own_cannot_use(build: Any) -> None:
    """botocore of the runtimes below Python 3.10 fails with urllib3 2, which requests brings."""
    (said,) = check(build, ["urllib3"], installed=["urllib3"], runtime="python3.9").warnings
    assert "urllib3 2.7.0 in the layer comes before that of python3.9, whose own botocore needs urllib3<1.27" in said
