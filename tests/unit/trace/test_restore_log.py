"""Reading restored modules, files and pages from logs, and adding them to a trace."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from layer_minimizer.model.trace import LibraryPages, TracedStandIn, Use
from layer_minimizer.trace.restore_log import RestoreLog

LOG = """\
INIT_START Runtime Version: python:3.12.v36
[INFO]\t2026-01-01T00:00:00.000Z\t\trestored module a.late
{"level": "INFO", "message": "restored file a/data/with blanks.txt", "logger": "layer_minimizer"}
woke b.part for an attribute 'x' at /var/task/handler.py:7
restored pages 0x1f+0x3 of a/ext.so
restored pages 0x2+0x1 of a/ext.so
my own program restored filenames and awoke everybody for lunch
"""


def test_other_lines_of_a_log_are_ignored() -> None:
    restored = RestoreLog.read([LOG, LOG, ""])
    assert restored.modules == {"a.late", "b.part"}
    assert restored.files == {"a/data/with blanks.txt"}
    assert restored.pages == {"a/ext.so": {2, 31, 32, 33}}
    assert restored
    assert not RestoreLog.read(["restored nothing", ""])


def test_what_was_restored_counts_as_touched(build: Any) -> None:
    files = ["a/__init__.py", "a/late.py", "a/data/with blanks.txt", "a/ext.so", "b/__init__.py", "b/part.py"]
    inventory = build.inventory(dict.fromkeys(files, "a"))
    trace = replace(
        build.trace(["a/__init__.py"]),
        libraries=(LibraryPages.of("a/ext.so", 10**6, {1, 2}), LibraryPages.of("a/other.so", 10**6, {5})),
        stand_ins=(TracedStandIn("b", "b/__init__.py", {}), TracedStandIn("b.part", "b/part.py", {})),
    )
    restored = RestoreLog.read([LOG, "restored module gone\nrestored file gone.txt\nrestored pages 0x1+0x1 of gone.so"])
    added = restored.add_to(trace, inventory)
    uses = {file.path: file.uses for file in added.files}
    assert uses["a/late.py"] == uses["b/part.py"] == {Use.SPEC}
    assert uses["a/data/with blanks.txt"] == {Use.OPEN}
    assert uses.keys() == {"a/__init__.py", "a/late.py", "b/part.py", "a/data/with blanks.txt"}
    assert {library.path: library.pages() for library in added.libraries} == {
        "a/ext.so": {1, 2, 31, 32, 33},
        "a/other.so": {5},
    }
    assert [module.name for module in added.stand_ins] == ["b"]
