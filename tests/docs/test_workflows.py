"""Workflows of the documentation: their form, and their commands in a repository."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .documents import Shown


def is_workflow(shown: Shown) -> bool:
    """Tell a workflow of GitHub Actions from other blocks."""
    return shown.info in ("yaml", "yml") and "\njobs:" in shown.text
