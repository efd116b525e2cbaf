"""Regular expressions for the log messages of layers, derived from the runtime's own messages."""

from __future__ import annotations

import re

from layer_minimizer.payload.runtime import log_patterns, messages

RESTORED = log_patterns.RESTORED

# An access to a page that was dropped with --cold drop.
PAGE_DROPPED = re.compile(log_patterns.pattern(messages.PAGE_DROPPED, "0x(?P<address>[0-9a-f]+)", r"(?P<path>\S+)"))
# A compacted library that was loaded from elsewhere than from its place in the layer; see native/src/coldpages.c.
STORE_MISSING = re.compile(r"cannot restore page 0x[0-9a-f]+ of (?P<path>\S+): its cold store is missing")
_RESTORED_PAGES = messages.RESTORED_PAGES.partition("%")[0].encode()


def count_restored_pages(log: bytes) -> int:
    """Return how many times pages of a library were restored."""
    return log.count(_RESTORED_PAGES)
