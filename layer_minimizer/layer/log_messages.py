"""Regular expressions for the log messages of layers, derived from the runtime's own messages."""

from __future__ import annotations

import re

from layer_minimizer.payload.runtime import messages

_FIELD = re.compile(r"%#?[sx]")
_NUMBER = "0x(?P<{}>[0-9a-f]+)"
# A file name ends at the end of the line, or at the quote of a logging format that quotes messages.
_NAME = r"(?P<{}>[^\"\r\n]+)"


def _pattern(message: str, *fields: str) -> str:
    """Return the regular expression of a message, up to the text after its first ``fields``."""
    parts = list(map(re.escape, _FIELD.split(message)))
    return parts[0] + "".join(field + part for field, part in zip(fields, parts[1:], strict=False))


# Matches anywhere in a line: logging formats add text before and after a message.
RESTORED = re.compile(
    "|".join(
        r"\b" + pattern
        for pattern in (
            _pattern(messages.RESTORED_MODULE, r"(?P<module>[\w.]+)"),
            _pattern(messages.WOKE, r"(?P<woken>[\w.]+)"),
            _pattern(messages.RESTORED_FILE, _NAME.format("file")),
            _pattern(messages.RESTORED_PAGES, _NUMBER.format("page"), _NUMBER.format("count"), _NAME.format("library")),
        )
    )
)
# An access to a page that was dropped with --cold drop.
PAGE_DROPPED = re.compile(_pattern(messages.PAGE_DROPPED, _NUMBER.format("address"), r"(?P<path>\S+)"))
# A compacted library that was loaded from elsewhere than from its place in the layer; see native/src/coldpages.c.
STORE_MISSING = re.compile(r"cannot restore page 0x[0-9a-f]+ of (?P<path>\S+): its cold store is missing")
_RESTORED_PAGES = messages.RESTORED_PAGES.partition("%")[0].encode()


def count_restored_pages(log: bytes) -> int:
    """Return how many times pages of a library were restored."""
    return log.count(_RESTORED_PAGES)
