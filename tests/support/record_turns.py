"""Distributes the long tests over the turns of `selection`, by their durations in JUnit files.

usage: python tests/support/record_turns.py JUNIT.xml...

Each turn gets about the same duration. Tests that no file contains keep their turn; of several durations of a test the
shortest counts, as other work on a machine can only prolong it. Modules whose tests share a large layer or an installed
tool have one turn.
``pytest --junitxml FILE`` writes such a file; those of all turns together contain all tests.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

TURNS = 8
_SHARING = (
    "tests/system/libraries/",
    "tests/system/examples/test_unseen_calls.py",
    "tests/system/distributions/test_standin_distributions.py",
    "tests/system/docs/test_workflows.py",
)
FILE = Path(__file__).with_name("long_tests.json")
_LONG = 5.0  # seconds


def durations(files: list[Path]) -> dict[str, float]:
    """Return the seconds of each test that was run, by its name in pytest, and of each module that has one turn."""
    found: dict[str, float] = {}
    for file in files:
        for case in ET.parse(file).iter("testcase"):
            if case.find("skipped") is None and "classname" in case.attrib:  # an interrupted test has none
                name = f"{case.attrib['classname'].replace('.', '/')}.py::{case.attrib['name']}"
                seconds = float(case.attrib["time"])
                found[name] = min(seconds, found.get(name, seconds))
    for name in [name for name in found if name.startswith(_SHARING)]:
        module = name.partition("::")[0]
        found[module] = found.get(module, 0.0) + found.pop(name)
    return found


def distribute(seconds: dict[str, float], turns: list[list[str]]) -> list[list[str]]:
    """Return the long tests of each turn, the longest first where there is least; unknown ones keep their turn."""
    made = [[name for name in names if name not in seconds] for names in turns] or [[] for _ in range(TURNS)]
    loads = [0.0] * len(made)
    for name in sorted(seconds, key=lambda name: (-seconds[name], name)):
        if seconds[name] >= _LONG:
            turn = loads.index(min(loads))
            loads[turn] += seconds[name]
            made[turn].append(name)
    return [sorted(names) for names in made]


def main() -> None:
    """Write the file, and print the duration of the long tests in each turn."""
    seconds = durations([Path(name) for name in sys.argv[1:]])
    known = json.loads(FILE.read_bytes()) if FILE.exists() else []
    turns = distribute(seconds, known)
    FILE.write_text(json.dumps(turns, indent=1) + "\n")
    for number, names in enumerate(turns, 1):
        sys.stdout.write(f"{number}/{TURNS}: {len(names)} tests, {sum(seconds.get(n, 0) for n in names):.0f} s\n")


if __name__ == "__main__":
    main()
