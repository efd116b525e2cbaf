"""The bytes sent to a terminal: colours, but no control sequences of the traced program."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from layer_minimizer.execution import process

if TYPE_CHECKING:
    from pathlib import Path


def test_lines_that_come_at_once_are_handed_over_at_once(tmp_path: Path) -> None:
    heard: list[str] = []
    many = [sys.executable, "-c", "import os; os.write(1, b''.join(b'line %d\\n' % n for n in range(20000)))"]
    ended = process.run(many, os.environ, tmp_path, timeout=60, on_output=heard.append)
    assert ended.returncode == 0
    assert "\n".join(heard).split("\n") == [f"line {number}" for number in range(20000)]
    assert len(heard) < 200
