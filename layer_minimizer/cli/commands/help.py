"""``minimize help``: list the topics of the manual, or show one of its pages."""

from __future__ import annotations

import io
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from rich.theme import Theme

from layer_minimizer import docs
from layer_minimizer.cli import display, help_text
from layer_minimizer.core.errors import UsageError
from layer_minimizer.core.option_declarations import Options, option
from layer_minimizer.core.option_kinds import TEXT, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import Console

    from layer_minimizer.settings import Messages

_MAX_WIDTH = 100
_COMMENT = re.compile(r"<!--.*?-->\n?", re.DOTALL)
_LINK = re.compile(r"\[(?P<text>[^\]]*)\]\((?:(?P<topic>\w+)\.md(?:#[\w-]*)?|(?!\w+:)[^)\s]*)\)")
# No background colours: they would show as bars on terminals of another colour.
_THEME = Theme({"markdown.code": "bold cyan"})
_CODE_THEME = "ansi_dark"


# Choices for shells to complete; any text is accepted, so that `render` can suggest the nearest topic.
_TOPIC = replace(TEXT, choices=tuple(docs.topics()), metavar="TOPIC")


@dataclass(frozen=True, slots=True)
class HelpOptions(Options):
    """The options of ``minimize help``."""

    topic: str = option("", _TOPIC, "default: list all topics", "what is shown", positional=True)


def run(options: HelpOptions, messages: Messages) -> Iterator[str]:
    """Yield the list of topics, or a page.

    Raises:
        UsageError: the topic is unknown.
    """
    yield render(options.topic, display.console(messages.color))


def render(topic: str, console: Console) -> str:
    """Return the page of a topic, formatted for a terminal and as Markdown otherwise; without a topic, the list.

    Raises:
        UsageError: the topic is unknown.
    """
    found = docs.topics()
    if not topic:
        width = max(map(len, found))
        listed = "".join(f"  {name:{width}}  {title}\n" for name, title in found.items())
        return f"topics:\n{listed}\nminimize help TOPIC shows a page, minimize COMMAND --help a command's options.\n"
    if topic not in found:
        raise UsageError(f"unknown topic {topic!r}{_suggestion(topic, found)}")
    page = _COMMENT.sub("", docs.read(topic))
    return _formatted(page, console) if console.is_terminal else page


def _suggestion(topic: str, known: dict[str, str]) -> str:
    """Return the rest of the error message: the nearest topic or command, or all topics."""
    if topic in help_text.COMMANDS:
        return f"; it is a command: minimize {topic} --help"
    return did_you_mean(topic, known) or f"; topics are {', '.join(known)}"


def _formatted(page: str, console: Console) -> str:
    """Return a page formatted for a terminal."""
    from rich.markdown import Markdown  # noqa: PLC0415 - it takes longer to import than most commands do

    console.file = text = io.StringIO()
    shown = Markdown(_LINK.sub(_link_text, page), code_theme=_CODE_THEME, hyperlinks=False)
    with console.use_theme(_THEME):
        console.print(shown, width=min(console.width, _MAX_WIDTH), soft_wrap=False)
    return text.getvalue()


def _link_text(link: re.Match[str]) -> str:
    """Return the text that replaces a link to a page of the project."""
    return f"{link['text']} (`minimize help {link['topic']}`)" if link["topic"] else link["text"]
