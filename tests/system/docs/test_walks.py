"""Runs the commands of the documentation literally on a small function."""

from __future__ import annotations

import json
import re
import shutil
from typing import TYPE_CHECKING

import pytest

from tests.support.places import cache
from tests.support.sites import install

from . import documents
from .claims import Claim, walks
from .documents import MANUAL

if TYPE_CHECKING:
    from pathlib import Path

    from .conftest import Desk
    from .documents import Shown

MODULE = "alpha/png.pyc"
ABOUT = "--entry handler.py --event event.json --python .venv/bin/python"


# ---- the first steps ------------------------------------------------------------------------------------------------


@walks("README.md", "python3 -m venv ~/minimizer")
def test_install(home: Path, shown: list[Shown]) -> None:
    """The fixture ``home`` has run the block."""
    assert "~/minimizer/bin/pip install ." in shown[0].text
    assert (home / "minimizer/bin/minimize").is_file()


@walks("README.md", "apt-get install strace")
@walks(f"{MANUAL}/installation.md", "apt-get install gcc libc6-dev")
def test_programs_are_packages(desk: Desk, shown: list[Shown]) -> None:
    if shutil.which("apt-get") is None:
        pytest.skip("not a Debian system")
    for command in shown:
        # Without a change to the machine.
        out = desk.run(command, {"apt-get": "apt-get --simulate"}).out
        assert all(name in out for name in command.text.split()[2:])


@walks("README.md", "minimize --entry handler.py --model export.pkl --event event.json --output layer.zip")
def test_first_line(desk: Desk, shown: list[Shown]) -> None:
    assert "Verified" in desk.run(shown[0]).out
    assert MODULE in desk.names()


@walks("README.md", "~/minimizer/bin/minimize --python .venv/bin/python --entry handler.py")
def test_own_environment(desk: Desk, shown: list[Shown]) -> None:
    assert "Verified" in desk.run(shown[0]).out
    assert MODULE in desk.names()


@walks("examples/quickstart/README.md", "minimize --entry handler.py --event events.json")
def test_quickstart_by_hand(desk: Desk, shown: list[Shown]) -> None:
    (desk.folder / "path/to").mkdir(parents=True)
    (desk.folder / "path/to/env").symlink_to(desk.folder / ".venv")
    assert "Verified" in desk.run(shown[0]).out
    assert {MODULE, "alpha/gif.pyc"} <= desk.names()


@walks(f"{MANUAL}/layers.md", "from layer_minimizer import MinimizeError, minimize")
def test_build_script(desk: Desk, shown: list[Shown]) -> None:
    assert shown[0].info == "python"
    ended = desk.shell("~/minimizer/bin/python -", stdin=shown[0].text)
    assert re.fullmatch(r"[0-9a-f]{64} \d+\n", ended.out)
    assert MODULE in desk.names()


# ---- traces ---------------------------------------------------------------------------------------------------------


@walks(f"{MANUAL}/tracing.md", "minimize trace --entry handler.py --python .venv/bin/python --event monday.json")
def test_traces(desk: Desk, shown: list[Shown]) -> None:
    first = shown[0].text.splitlines()[0]
    desk.shell(first.replace("monday", "tuesday"))
    ended = desk.run(shown[0])
    sample = Claim(f"{MANUAL}/tracing.md", "only in tuesday.trace: ").find()
    assert re.search(sample.text.split("pillow")[0] + "alpha: alpha.gif", ended.out)
    assert "Verified" in ended.out
    assert {MODULE, "alpha/gif.pyc"} <= desk.names()


@walks(
    f"{MANUAL}/options.md",
    "minimize trace … --save-trace a.json",
    "minimize compare a.json b.json",
    "minimize probe probe.zip",
)
def test_traces_of_the_table(desk: Desk, shown: list[Shown]) -> None:
    desk.run(shown[0], {"…": ABOUT})
    desk.run(shown[0], {"…": ABOUT.replace("event.json", "tuesday.json"), "a.json": "b.json"})
    assert "only in b.json: alpha" in desk.run(shown[1]).out
    compared = json.loads(desk.shell(f"{shown[1].text} --json").out)
    assert "alpha" in json.dumps(compared)
    desk.run(shown[2])
    assert (desk.folder / "probe.zip").is_file()


# ---- what is in a layer ---------------------------------------------------------------------------------------------


@walks(f"{MANUAL}/contents.md", "unzip -p layer.zip")
@walks(
    f"{MANUAL}/reports.md",
    "minimize --python .venv/bin/python --entry handler.py --event event.json --output layer.zip --sbom",
)
def test_licenses_and_bill_of_materials(desk: Desk, shown: list[Shown]) -> None:
    site = next(desk.folder.glob(".venv/lib/*/site-packages"))
    (site / "alpha-1.0.dist-info" / "licenses").mkdir()
    (site / "alpha-1.0.dist-info" / "licenses" / "MIT").write_text("Permission is hereby granted\n")
    texts, bill = sorted(shown, key=lambda each: each.text, reverse=True)
    said = desk.run(bill).out
    assert "Licenses: 2 texts and METADATA files" in said
    (first, *_) = json.loads((desk.folder / "sbom.json").read_text())["components"]
    assert first["name"] == "alpha"
    assert desk.run(texts).out == "Permission is hereby granted\n"


# ---- layers above layers --------------------------------------------------------------------------------------------


@walks(f"{MANUAL}/layers.md", "minimize --entry handler.py --python .venv/bin/python --base-layer torch.zip")
def test_layer_above_another(desk: Desk, shown: list[Shown]) -> None:
    desk.shell(f"minimize {ABOUT} --output torch.zip")
    install(next(desk.folder.glob(".venv/lib/*/site-packages")), "beta", {"beta.py": "VALUE = 1\n"})
    desk.write({"handler.py": "import alpha, beta\n\n\ndef handler(event, context):\n    return alpha.read('png')\n"})
    assert "Verified" in desk.run(shown[0]).out
    assert MODULE in desk.names("torch.zip")
    assert "beta.pyc" in desk.names("fastai.zip")
    assert MODULE not in desk.names("fastai.zip")


# ---- the examples' arguments ----------------------------------------------------------------------------------------


@walks(
    "examples/quickstart/README.md",
    "./examples/quickstart/run.sh --json",
    "./examples/quickstart/run.sh --event my_event.json",
)
def test_arguments_of_an_example(checkout: Path, home: Path, desk: Desk, shown: list[Shown]) -> None:
    desk.folder = checkout
    desk.more = {"MINIMIZE": f"{home}/minimizer/bin/minimize --effort 0", "LAYER_MINIMIZER_CACHE": str(cache())}
    first = json.loads(desk.run(shown[0]).out)
    assert first["verified"] is True
    shutil.copy(checkout / "examples/quickstart/out/events.json", checkout / "my_event.json")
    desk.run(shown[1])
    report = json.loads((checkout / "examples/quickstart/out/report.json").read_text())
    assert report["verification"]["events"] > first["verification"]["events"]


@walks(
    "examples/README.md",
    "python3 -m json.tool examples/quickstart/out/report.json",
    "./examples/quickstart/run.sh --explain pillow",
)
def test_quickstart_of_the_examples(checkout: Path, home: Path, desk: Desk, shown: list[Shown]) -> None:
    desk.folder = checkout
    desk.more = {"MINIMIZE": f"{home}/minimizer/bin/minimize", "LAYER_MINIMIZER_CACHE": str(cache())}
    first = Claim("examples/README.md", "./examples/quickstart/run.sh\n").find()
    output = desk.run(first).out
    # The labels that the text refers to are in the output.
    lines = [span.text for span in documents.read("examples/README.md").spans if span.line < line_of("## 2.")]
    assert [line for line in lines if line.endswith(":") and f"\n{line}" not in output] == []
    assert "Verified: 2 events, same results on the layer alone" in output
    assert "_layer_minimizer" in desk.run(shown[0]).out
    parts = shown[1].text.splitlines()
    assert "PIL.Image is imported by handler" in desk.shell(parts[0]).out
    assert not (checkout / "examples/quickstart/out/layer.zip").exists()
    dropped = desk.run(shown[1]).out
    assert "\nCold: " not in dropped.partition("Verified")[2]
    report = json.loads((checkout / "examples/quickstart/out/report.json").read_text())
    assert report["layer"]["unzipped_bytes"] < 3e6
    assert report["cold"]["files"] == 0


def line_of(heading: str) -> int:
    """Return the number of the line in examples/README.md that starts with ``heading``."""
    text = (documents.CHECKOUT / "examples/README.md").read_text().splitlines()
    return next(number for number, line in enumerate(text, 1) if line.startswith(heading))


@walks("examples/README.md", "minimize --python .venv/bin/python --entry handler.py --event event.json")
def test_your_own(desk: Desk, shown: list[Shown]) -> None:
    assert "Verified" in desk.run(shown[0]).out
