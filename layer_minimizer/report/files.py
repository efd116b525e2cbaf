"""Write a report's files: JSON and HTML."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from layer_minimizer.core.errors import PackError
from layer_minimizer.core.files import write_text
from layer_minimizer.report import html
from layer_minimizer.report.report import Report, json_text

if TYPE_CHECKING:
    from pathlib import Path

# The files that --report writes.
REPORT_FILES = ("report.json", "report.html")


def write_report(report: Report, file: Path) -> None:
    """Write the report's JSON into ``file``.

    Raises:
        PackError: it cannot be written.
    """
    write_text(file, json_text(report.to_json()), "--report-json")


def write_report_folder(report: dict[str, Any], folder: Path) -> None:
    """Write a report's JSON and its page into ``folder``, which is created if needed.

    Raises:
        PackError: they cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        raise PackError(f"--report {folder}: {exc.strerror}") from exc
    for name, text in zip(REPORT_FILES, (json_text(report), html.render(report)), strict=True):
        write_text(folder / name, text, "--report")
