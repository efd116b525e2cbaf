"""The list of what is put back before a snapshot has the form of the log that it is made of."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from layer_minimizer.core.errors import UsageError
from layer_minimizer.layer.cold_store import PACKAGE
from layer_minimizer.layer.snapshot_list import has_list, read_needs, write_list
from layer_minimizer.model.snapshot import Needs, PutBack
from layer_minimizer.payload.runtime import snapshot

if TYPE_CHECKING:
    from pathlib import Path

LOG = """\
START RequestId: 1
woke b.part for x (()) at /var/task/handler.py:7
{"level": "INFO", "message": "restored file b/data/with blanks.txt", "logger": "layer_minimizer"}
[INFO]\t2026-01-01T00:00:00.000Z\t\trestored module a.late
restored pages 0x1f+0x3 of a/ext.so
restored file b/data/with blanks.txt
woke b.part for y (()) at /var/task/handler.py:9
"""


def test_a_log_is_read_once_and_in_its_order(tmp_path: Path) -> None:
    (tmp_path / "one.log").write_text(LOG)
    (tmp_path / "two.log").write_bytes(b"\xffrestored module a.first\nrestored module a.late\n")
    assert read_needs([tmp_path / "one.log", tmp_path / "two.log"], "--snapstart") == Needs(
        ("b.part", "a.late", "a.first"), ("b/data/with blanks.txt",), ((0x1F, 3, "a/ext.so"),)
    )
    assert read_needs([], "--snapstart") == Needs()


def test_what_is_no_log_is_refused(tmp_path: Path) -> None:
    (tmp_path / "own.log").write_text("my own program restored files\n")
    with pytest.raises(UsageError, match=r"--snapstart .*own\.log does not say what a layer restored: set LAYER_M"):
        read_needs([tmp_path / "own.log"], "--snapstart")
    with pytest.raises(UsageError, match=r"--snapstart .*gone\.log cannot be read: No such file"):
        read_needs([tmp_path / "gone.log"], "--snapstart")


def test_the_runtime_and_the_tool_read_the_list(tmp_path: Path) -> None:
    put_back = PutBack(("b.part",), ("a.late",), ("b/data/with blanks.txt",), ((0x1F, 3, "a/ext.so"),))
    write_list(put_back, tmp_path)
    write_list(PutBack(modules=("of.another.layer",)), tmp_path)
    (one, two) = sorted((tmp_path / PACKAGE / snapshot.FOLDER).iterdir())
    needs = read_needs([one, two], "--snapstart")
    assert sorted(needs.modules) == ["a.late", "b.part", "of.another.layer"]
    assert (needs.files, needs.pages) == (put_back.files, put_back.pages)
    assert has_list(tmp_path)


def test_an_empty_list_is_not_written(tmp_path: Path) -> None:
    write_list(PutBack(), tmp_path)
    assert list(tmp_path.iterdir()) == []
    assert not has_list(tmp_path)
