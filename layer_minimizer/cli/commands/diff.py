"""``minimize diff``: compare two reports, and fail where the layer grew more than allowed."""

from __future__ import annotations

import argparse
import json
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from layer_minimizer.core.errors import GrowthError
from layer_minimizer.core.files import read_saved
from layer_minimizer.report.diff import SavedReport, diff_reports, signed

if TYPE_CHECKING:
    from collections.abc import Iterator

_ALLOWANCE = re.compile(r"(\d+(?:\.\d+)?)\s*%")
_REPORT_IN_FOLDER = "report.json"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``minimize diff``."""
    parser.add_argument("old", metavar="FILE", help="the earlier report.json, or its folder")
    parser.add_argument("new", metavar="FILE", help="the later one")
    parser.add_argument(
        "--fail-above", type=_share, metavar="PERCENT", help="exit code 9 if the layer grew by more: 5%%, or 0%%"
    )
    parser.add_argument("--json", action="store_true", help="print all of it as JSON")


def answer(options: argparse.Namespace) -> Iterator[str]:
    """Compare the two reports and give what is to be printed.

    Raises:
        UsageError: one of them is no report.
        GrowthError: the layer has grown by more than is allowed; what is to be printed has been given by then.
    """
    old, new = (
        read_saved(Path(file), "diff", lambda data, file=file: SavedReport.from_json(data, file))  # type: ignore[misc]
        for file in map(_file, (options.old, options.new))
    )
    found = diff_reports(old, new)
    if options.json:
        yield json.dumps(found.to_json(), indent=2) + "\n"
    else:
        yield "".join(f"{line}\n" for line in found.lines(everything=options.verbose))
    if options.fail_above is not None and found.growth > options.fail_above:
        grown = found.new.unzipped - found.old.unzipped
        raise GrowthError(
            f"the layer has grown by {grown:,} bytes ({signed(found.growth)}), and --fail-above allows "
            f"{signed(options.fail_above)}; what grew stands above. If that is right, make {options.new} the report "
            "that the next one is compared with"
        )


def _file(name: str) -> str:
    """Give the report that is meant: a folder stands for the one that ``--report`` has written into it."""
    return os.path.join(name, _REPORT_IN_FOLDER) if os.path.isdir(name) else name


def _share(text: str) -> float:
    found = _ALLOWANCE.fullmatch(text.strip())
    if not found:
        raise argparse.ArgumentTypeError(f"{text!r} is no percentage; write for instance 5%")
    return float(found[1]) / 100
