"""Knowledge about distributions that no trace can show: one TOML file each, read here.

A rule names files that other inputs than the traced ones need, and that ``opened_in_c`` does not find. ``when`` is an
import name: the rule applies once a traced module is this one or lies below it. ``files`` are globs over site-relative
paths; ``*`` stays within a folder, ``**`` crosses folders. ``because`` is shown as the decision's evidence and links
its source.

``runtimes.toml`` is of another kind: what Lambda's runtimes have (see ``lambda_rules``).
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
    """Files of a distribution that must be kept once ``when`` was imported."""

    when: str
    files: tuple[str, ...]
    because: str


@cache
def load_rules() -> tuple[Rule, ...]:
    """Read the rules that come with this tool, in the order of their files' names."""
    found = []
    for file in sorted(resources.files(__name__).iterdir(), key=lambda file: file.name):
        if file.name.endswith(".toml") and file.name != "runtimes.toml":
            data = tomllib.loads(file.read_text("utf-8"))
            found += [Rule(keep["when"], tuple(keep["files"]), keep["because"]) for keep in data["keep"]]
    return tuple(found)


# Not by pathspec: its sets match a ``/`` (``[!b]``), it fails for ``[b-a]``, warns about ``[[]``, and reads a backslash
# and a space at the end as git does. What users have written for --include and --exclude must go on meaning the same.
@cache
def _compiled(pattern: str) -> re.Pattern[str]:
    """Translate a glob: ``**`` any number of folders, ``*`` and ``?`` within a name, ``[...]`` a set."""
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
    """Translate the inside of ``[...]``: characters and ranges like ``a-z``, or all others after a ``!``."""
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
    """Return the paths that a glob names: the files themselves, or all files below a folder that it names."""
    whole = _compiled(pattern.rstrip("/"))
    below = _compiled(pattern.rstrip("/") + "/**")
    return [path for path in paths if whole.fullmatch(path) or below.fullmatch(path)]
