"""Rules: files that must be kept for a distribution although a trace does not show it. One TOML file each.

A rule has files that other inputs than the traced ones need, and that ``c_opened_files`` does not find. ``when`` is an
import name: the rule applies if this module or a submodule of it was traced. ``files`` are globs of site-relative
paths; ``*`` matches within a folder, ``**`` across folders. ``because`` is the evidence of the decision and has a link
to its source.
"""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


@dataclass(frozen=True, slots=True)
class Rule:
    """Files that must be kept if the module ``when`` was imported, and why."""

    when: str
    files: tuple[str, ...]
    because: str


@cache
def load_rules() -> tuple[Rule, ...]:
    """Read the rules that are shipped with this tool, in the order of their file names."""
    found = []
    for file in sorted(resources.files(__name__).iterdir(), key=lambda file: file.name):
        if file.name.endswith(".toml"):
            data = tomllib.loads(file.read_text("utf-8"))
            found += [Rule(keep["when"], tuple(keep["files"]), keep["because"]) for keep in data["keep"]]
    return tuple(found)


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
