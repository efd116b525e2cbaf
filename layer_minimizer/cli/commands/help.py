"""The command ``help``: lists the topics of the manual, or shows one of its pages."""

from __future__ import annotations

import io
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from rich.theme import Theme

from layer_minimizer import docs
from layer_minimizer.cli import help_text
from layer_minimizer.core.errors import UsageError
from layer_minimizer.core.option_declarations import Options, option
from layer_minimizer.core.option_kinds import TEXT, nearest

if TYPE_CHECKING:
    from rich.console import Console

_WIDEST = 100
_COMMENT = re.compile(r"<!--.*?-->\n?", re.DOTALL)
_LINK = re.compile(r"\[(?P<text>[^\]]*)\]\((?:(?P<topic>\w+)\.md(?:#[\w-]*)?|(?!\w+:)[^)\s]*)\)")
# Without backgrounds, which terminals of other colours would show as bars.
_THEME = Theme({"markdown.code": "bold cyan"})
_CODE_THEME = "ansi_dark"


# Completed by shells; any text is accepted, so that `answer` can name the nearest topic.
_TOPIC = replace(TEXT, choices=tuple(docs.topics()), metavar="TOPIC")


@dataclass(frozen=True, slots=True)
class HelpOptions(Options):
    """What ``minimize help`` takes."""

    topic: str = option("", _TOPIC, "default: list all topics", "what is shown", positional=True)


def answer(options: HelpOptions, console: Console) -> str:
    """Return the list of topics, or a page: formatted for a terminal, as Markdown for everything else.

    Raises:
        UsageError: there is no such topic.
    """
    found = docs.topics()
    if not options.topic:
        width = max(map(len, found))
        listed = "".join(f"  {topic:{width}}  {title}\n" for topic, title in found.items())
        return f"topics:\n{listed}\nminimize help TOPIC shows a page, minimize COMMAND --help a command's options.\n"
    if options.topic not in found:
        raise UsageError(f"unknown topic {options.topic!r}{_meant(options.topic, found)}")
    page = _COMMENT.sub("", docs.read(options.topic))
    return _formatted(page, console) if console.is_terminal else page


def _meant(topic: str, known: dict[str, str]) -> str:
    """Return what could have been meant, as the rest of a sentence."""
    if topic in help_text.COMMANDS:
        return f"; it is a command: minimize {topic} --help"
    return nearest(topic, known) or f"; topics are {', '.join(known)}"


def _formatted(page: str, console: Console) -> str:
    """Return a page as a terminal shows it."""
    from rich.markdown import Markdown  # noqa: PLC0415 - it takes longer to import than most commands do

    console.file = text = io.StringIO()
    shown = Markdown(_LINK.sub(_offline, page), code_theme=_CODE_THEME, hyperlinks=False)
    with console.use_theme(_THEME):
        console.print(shown, width=min(console.width, _WIDEST), soft_wrap=False)
    return text.getvalue()


def _offline(link: re.Match[str]) -> str:
    """Return what a link within the project becomes where nothing can be opened."""
    return f"{link['text']} (`minimize help {link['topic']}`)" if link["topic"] else link["text"]
