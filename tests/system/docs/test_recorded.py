"""The output of record.py in README.md is up to date."""

from __future__ import annotations

import re
import struct
from typing import TYPE_CHECKING

import pytest

from . import record

if TYPE_CHECKING:
    from pathlib import Path

NUMBER = re.compile(r"\d[\d,.]*")


def shape(text: str) -> list[str]:
    """Return the words of a text without numbers, times and line breaks, which depend on the machine."""
    text = re.sub(r"  \d+\.\d s\n", "  0.0 s\n", text)
    return NUMBER.sub("0", text).split()


def test_the_first_run_is_what_a_terminal_shows(tmp_path: Path) -> None:
    written = record.block("run", record.README.read_text("utf-8"))
    home = tmp_path / "home"
    home.mkdir()
    now = f"```text\n{record.first_run(home, record.quickstart_python())}```\n"
    for text in (written, now):
        assert "Verified: 2 events, same results on the layer alone" in text
        assert "\u2713 tracing handler.py" in text
    # The output also depends on whether the machine has strace and namespaces.
    assert [line for line in written.splitlines() if line.startswith("$ ")] == [
        f"$ {command}" for command in record.COMMANDS
    ]
    common = set(shape(written)) & set(shape(now))
    assert len(common) > 0.85 * len(set(shape(written))), set(shape(written)) ^ set(shape(now))


def test_the_table_has_a_row_for_each_example() -> None:
    table = record.block("sizes", record.README.read_text("utf-8")).splitlines()
    rows = table[2:]
    assert len(rows) == len(record.ROWS)
    for row, written in zip(record.ROWS, rows, strict=True):
        text, *sizes = [cell.strip() for cell in written.strip("|").split("|")]
        assert re.fullmatch(re.escape(row.text).replace(re.escape("{base}"), r"[\d.]+ MB"), text)
        before, layer, zipped = (float(size.removesuffix(" MB").replace(",", "")) for size in sizes)
        assert before > layer > zipped > 0


@pytest.mark.parametrize("name", [name for name, *_ in record.SHOTS])
def test_the_pictures_are_there_in_their_size(name: str) -> None:
    (size,) = [size for shot, size, *_ in record.SHOTS if shot == name]
    content = (record.PICTURES / name).read_bytes()
    assert content[:8] == b"\x89PNG\r\n\x1a\n"
    assert struct.unpack(">II", content[16:24]) == size
    assert len(content) < 400_000
    assert f"(examples/pictures/{name})" in record.README.read_text("utf-8")


@pytest.mark.example
def test_the_size_of_the_quickstart_is_that_of_today(tmp_path: Path) -> None:
    row, *_ = record.ROWS
    written = record.block("sizes", record.README.read_text("utf-8")).splitlines()[2]
    now = record.line(row, record.run_example(row, tmp_path / "report"))
    sizes = [[float(cell.split()[0]) for cell in text.strip("|\n").split("|")[1:]] for text in (written, now)]
    assert sizes[0] == pytest.approx(sizes[1], rel=0.05)
