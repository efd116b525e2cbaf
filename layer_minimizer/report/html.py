"""Render the report as one self-contained HTML page: it needs no network, no server and no second file.

The page's parts are in ``page/``: a template, a style sheet, scripts, and d3-hierarchy, which computes the treemap. The
page has the report's data as compressed columns; scripts insert it as text, never as markup.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import zlib
from importlib import resources
from itertools import pairwise
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

# Joined in this order to one module: each script uses names of those before it.
_SCRIPTS = (
    "text.js", "words.js", "data.js", "nodes.js", "treemap.js", "tree.js", "details.js", "search.js", "summary.js",
    "tables.js", "page.js",
)  # fmt: skip
_LIBRARY = "d3-hierarchy.min.js"
# The tables of the report that have a row for each file or module.
_LONG = ("files", "imports", "not_exercised")


def render(report: Mapping[str, Any]) -> str:
    """Return the page for a report's JSON (format 1) as HTML text, to be written as UTF-8."""
    style, library = _part("page.css"), _part(_LIBRARY)
    script = "\n".join(map(_part, _SCRIPTS))
    parts = {
        "policy": f"default-src 'none'; script-src {_allowed(library)} {_allowed(script)}; style-src {_allowed(style)}",
        "style": style,
        "licence": _part("d3-hierarchy.LICENSE"),
        "library": library,
        "script": script,
        "data": base64.b64encode(pack(report)).decode(),
    }
    return re.sub(r"\{\{(\w+)\}\}", lambda found: parts[found[1]], _part("page.html"))


def pack(report: Mapping[str, Any]) -> bytes:
    """Return the report's JSON as a zlib stream, with its long tables as columns: 26,000 files take about 400 kB."""
    packed = {key: _columns(value) if key in _LONG else value for key, value in report.items()}
    return zlib.compress(json.dumps(packed, separators=(",", ":")).encode(), 9)


def _columns(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return a table as columns; texts as indices into distinct strings without shared prefixes."""
    columns: dict[str, Any] = {}
    for key in rows[0] if rows else ():
        values = [row[key] for row in rows]
        columns[key] = _strings(values) if all(isinstance(value, str) for value in values) else values
    return columns


def _strings(values: Iterable[str]) -> dict[str, Any]:
    places: dict[str, int] = {}
    at = [places.setdefault(value, len(places)) for value in values]
    shared, rest = [], []
    for last, text in pairwise(["", *places]):
        common = _common(last, text)
        # JavaScript counts in units of UTF-16.
        shared.append(len(text[:common].encode("utf-16-le", "surrogatepass")) // 2)
        rest.append(text[common:])
    # Without repeated values, as in most columns of paths, the indices are redundant.
    return {"shared": shared, "rest": rest, "at": at if len(places) < len(at) else None}


def _common(one: str, two: str) -> int:
    end = min(len(one), len(two))
    return next((at for at in range(end) if one[at] != two[at]), end)


def _allowed(text: str) -> str:
    """Return the source expression with which a content security policy allows exactly this text."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _part(name: str) -> str:
    return (resources.files("layer_minimizer.report") / "page" / name).read_text("utf-8")
