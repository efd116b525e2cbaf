"""``minimize diff``: compare two reports, and fail if the layer grew more than allowed."""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from layer_minimizer.core.errors import GrowthError
from layer_minimizer.core.files import read_saved
from layer_minimizer.core.option_declarations import Options, option
from layer_minimizer.core.option_kinds import FLAG, INPUT_FILE, Kind
from layer_minimizer.report.diff import SavedReport, diff_reports, signed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from layer_minimizer.settings import Messages

_ALLOWANCE = re.compile(r"(\d+(?:\.\d+)?)\s*%")
_REPORT_IN_FOLDER = "report.json"


def _fraction(value: Any) -> float:
    if isinstance(value, float) and value >= 0:
        return value
    found = _ALLOWANCE.fullmatch(value.strip()) if isinstance(value, str) else None
    if not found:
        raise ValueError
    return float(found[1]) / 100


_PERCENTAGE = Kind("a percentage, for instance 5%", _fraction, metavar="PERCENT")


@dataclass(frozen=True, slots=True)
class DiffOptions(Options):
    """The options of ``minimize diff``."""

    old: str = option(
        "", INPUT_FILE, "the earlier report.json, or its folder", "reports", positional=True, required=True
    )
    new: str = option("", INPUT_FILE, "the later report", "reports", positional=True, required=True)
    fail_above: float | None = option(
        None, _PERCENTAGE, "exit code 9 if the layer grew by more, e.g. 5%", "what is shown"
    )
    json: bool = option(default=False, kind=FLAG, help_text="print all changes as JSON", group="what is shown")


def run(options: DiffOptions, messages: Messages) -> Iterator[str]:
    """Compare the two reports; yield the text for standard output.

    Raises:
        UsageError: a file is not a report.
        GrowthError: the layer has grown by more than ``fail_above``; raised after the whole text was yielded.
    """
    old, new = (
        read_saved(Path(file), "diff", lambda data, file=file: SavedReport.from_json(data, file))  # type: ignore[misc]
        for file in map(_report_file, (options.old, options.new))
    )
    found = diff_reports(old, new)
    if options.json:
        yield json.dumps(found.to_json(), indent=2) + "\n"
    else:
        yield "".join(f"{line}\n" for line in found.lines(everything=messages.verbose))
    if options.fail_above is not None and found.growth > options.fail_above:
        grown = found.new.unzipped - found.old.unzipped
        raise GrowthError(
            f"the layer has grown by {grown:,} bytes ({signed(found.growth)}), and --fail-above allows "
            f"{signed(options.fail_above)}; see above for what grew. If the growth is intended, use {options.new} as "
            "the old report of the next comparison"
        )


def _report_file(name: str) -> str:
    """Return the path of a report; for a folder, the report that ``--report`` has written into it."""
    return os.path.join(name, _REPORT_IN_FOLDER) if os.path.isdir(name) else name
