"""Shows a report as a page."""

from __future__ import annotations

import html
import json
from typing import Any


def render(report_json: dict[str, Any]) -> str:
    """Give the page."""
    return f"<!doctype html><pre>{html.escape(json.dumps(report_json, indent=2))}</pre>\n"
