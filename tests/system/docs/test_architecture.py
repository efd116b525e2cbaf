"""architecture.md describes the folders and the import contract that the package has."""

from __future__ import annotations

import re
import tomllib

from .claims import Claim
from .documents import CHECKOUT, MANUAL

PAGE = f"{MANUAL}/architecture.md"
PACKAGE = CHECKOUT / "layer_minimizer"


def test_the_tree_names_every_room() -> None:
    tree = Claim(PAGE, "layer_minimizer/\n").find().text
    named = set(re.findall(r"^  (\w+)/? ", tree, re.MULTILINE)) | set(re.findall(r"^  (\w+\.py) ", tree, re.MULTILINE))
    rooms = {path.name for path in PACKAGE.iterdir() if path.is_dir() and not path.name.startswith("_")}
    modules = {path.name for path in PACKAGE.glob("*.py") if not path.name.startswith("_")}
    assert named == rooms | modules


def test_the_contract_is_that_of_pyproject() -> None:
    shown = Claim(PAGE, "cli\ncontainer | pipeline\n").find().text
    contracts = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    (layers,) = [contract["layers"] for contract in contracts if contract["type"] == "layers"]
    assert [sorted(line.split(" | ")) for line in shown.splitlines()] == [
        sorted(" ".join(line.split()).split(" | ")) for line in layers
    ]


def test_the_places_are_there() -> None:
    text = (CHECKOUT / PAGE).read_text()
    places = re.findall(r"`((?:\w+/)+(?:\w+\.\w+)?|\w+\.py)`", text)
    assert len(places) > 15
    assert [place for place in places if not (PACKAGE / place).exists()] == []
