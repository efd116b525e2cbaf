"""Globs of installed files, as in --include and --exclude.

They are relative to site-packages; ``*`` matches within a folder, ``**`` across folders.
"""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


# pathspec is not used: its sets match a ``/`` (``[!b]``), it fails for ``[b-a]``, warns about ``[[]``, and handles
# backslashes and trailing spaces as git does. Existing patterns of --include and --exclude must keep their meaning.
@cache
def _compiled(pattern: str) -> re.Pattern[str]:
    """Translate a glob: ``**`` matches any number of folders, ``*`` and ``?`` match in a name, ``[...]`` is a set."""
    parts = []
    for token in re.findall(r"\*\*/|\*\*|\*|\?|\[[^\]]+\]|.", pattern.removeprefix("/"), flags=re.DOTALL):
        known = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
        if token in known:
            parts.append(known[token])
        elif len(token) > 1:
            parts.append(_set(token[1:-1]))
        else:
            parts.append(re.escape(token))
    return re.compile("".join(parts), re.DOTALL)


def _set(listed: str) -> str:
    """Translate the inside of ``[...]``: characters and ranges like ``a-z``, negated by a leading ``!``."""
    negated = listed[0] in "!^" and len(listed) > 1
    inside = ""
    for part in re.findall(".-.|.", listed[negated:], flags=re.DOTALL):
        first, last = part[0], part[-1]
        if first <= last:
            inside += f"{re.escape(first)}-{re.escape(last)}"
    if negated:
        return f"[^/{inside}]"
    return f"(?!/)[{inside}]" if inside else "(?!)"


def matching(pattern: str, paths: Iterable[str]) -> list[str]:
    """Return the paths that a glob matches: files, and all files in a folder that it matches."""
    whole = _compiled(pattern.rstrip("/"))
    inside = _compiled(pattern.rstrip("/") + "/**")
    return [path for path in paths if whole.fullmatch(path) or inside.fullmatch(path)]
