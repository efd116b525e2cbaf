"""Prints a table of the results of all cases at the end of a test run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pytest

_COLUMNS = ("before", "keep", "ratio", "zipped", "drop", "import", "on layer", "tool")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option --case-table."""
    parser.addoption("--case-table", metavar="FILE", help="also write the table of case results to FILE")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print a line per case: megabytes, seconds, and the results of its unseen events."""
    reports = [report for key in ("passed", "failed") for report in terminalreporter.stats.get(key, ())]
    rows = [value for report in reports for name, value in report.user_properties if name == "case"]
    if not rows:
        return
    lines = [f"{'case':24}" + "".join(f"{column:>9}" for column in _COLUMNS) + "  unseen"]
    for row in sorted(rows, key=lambda row: row["case"]):
        values = {**row, "ratio": row["keep"] / row["before"]}
        numbers = "".join(f"{values[name]:9.2f}" if name in values else f"{'-':>9}" for name in _COLUMNS)
        lines.append(f"{row['case']:24}{numbers}  {row['unseen']}")
    terminalreporter.section("cases, MB and s")
    for line in lines:
        terminalreporter.line(line)
    if file := config.getoption("--case-table"):
        Path(file).write_text("\n".join(lines) + "\n")
