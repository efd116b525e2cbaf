"""Read the records that the probe writes; ``payload/probe/probe.py`` describes their forms."""

from __future__ import annotations

import ast
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

# Records of text without quotes and escapes, and of numbers.
_FIELD = r"""(?:'[^'"\\]*'|[0-9]+)"""
_PLAIN_FACT = re.compile(rf"\({_FIELD}(?:, {_FIELD})+\)\n?")
_PLAIN_FIELD = re.compile(r"'([^']*)'|([0-9]+)")


def parse_fact(line: str) -> Iterator[tuple[Any, ...]]:
    """Yield the record of one line; a process killed while writing leaves part of a record in front of the next."""
    if _PLAIN_FACT.fullmatch(line):  # nearly all are: literal_eval would take most of the time of reading them
        yield tuple(text if text or not number else int(number) for text, number in _PLAIN_FIELD.findall(line))
        return
    at = 0
    while at >= 0:
        try:
            yield ast.literal_eval(line[at:])
        except (SyntaxError, ValueError):
            at = line.find("('", at + 1)
        else:
            return
