"""What layers say in their logs, as patterns for those who read it: the sentences are the runtime's own."""

from __future__ import annotations

import re

from layer_minimizer.payload.runtime import messages

_FIELD = re.compile(r"%#?[sx]")
_NUMBER = "0x(?P<{}>[0-9a-f]+)"
# A file's name ends with the line, or with the text of a logging format that quotes it.
_NAME = r"(?P<{}>[^\"\r\n]+)"


def _pattern(sentence: str, *fields: str) -> str:
    """Return the regular expression of a sentence up to what follows its first ``fields``."""
    parts = list(map(re.escape, _FIELD.split(sentence)))
    return parts[0] + "".join(field + part for field, part in zip(fields, parts[1:], strict=False))


# Whatever a logging format puts around it.
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
# A page of a library in a layer that was made without a way back.
PAGE_DROPPED = re.compile(_pattern(messages.PAGE_DROPPED, _NUMBER.format("address"), r"(?P<path>\S+)"))
_RESTORED_PAGES = messages.RESTORED_PAGES.partition("%")[0].encode()


def count_restored_pages(log: bytes) -> int:
    """Return how often pages of a library were restored."""
    return log.count(_RESTORED_PAGES)
