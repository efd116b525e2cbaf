"""Tells what has changed between two reports."""

from __future__ import annotations

from typing import TYPE_CHECKING

from layer_minimizer.errors import UsageError

if TYPE_CHECKING:
    import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    parser.add_argument("old", metavar="FILE", help="a report's JSON")
    parser.add_argument("new", metavar="FILE", help="another one's")


def answer(options: argparse.Namespace) -> tuple[str, int]:
    """Give what is to be printed, and the exit code.

    Raises:
        UsageError: always.
    """
    raise UsageError(f"{options.old}, {options.new}: not there yet")
