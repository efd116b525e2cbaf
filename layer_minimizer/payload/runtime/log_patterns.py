"""Reads what layers log: in the tool, and in a layer that puts back before a snapshot what such a log names."""

import re

from . import messages

_FIELD = re.compile(r"%#?[sx]")
_NUMBER = "0x(?P<{}>[0-9a-f]+)"
# A file name ends at the end of the line, or at the quote of a logging format that quotes messages.
_NAME = r"(?P<{}>[^\"\r\n]+)"


def pattern(message: str, *fields: str) -> str:
    """Return the regular expression of a message, up to the text after its first ``fields``."""
    parts = [re.escape(part) for part in _FIELD.split(message)]
    return parts[0] + "".join(field + part for field, part in zip(fields, parts[1:]))  # noqa: B905 - not before 3.10


# Matches anywhere in a line: logging formats add text before and after a message.
RESTORED = re.compile(
    "|".join(
        r"\b" + each
        for each in (
            pattern(messages.RESTORED_MODULE, r"(?P<module>[\w.]+)"),
            pattern(messages.WOKE, r"(?P<woken>[\w.]+)"),
            pattern(messages.RESTORED_FILE, _NAME.format("file")),
            pattern(messages.RESTORED_PAGES, _NUMBER.format("page"), _NUMBER.format("count"), _NAME.format("library")),
        )
    )
)
