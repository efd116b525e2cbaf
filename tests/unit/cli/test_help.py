"""The manual on the command line: the topics, the formatted pages, and the message about an unknown topic."""

from __future__ import annotations

import io
import re
from typing import TYPE_CHECKING

import pytest
from rich.console import Console

from layer_minimizer import docs
from layer_minimizer.cli.commands.help import render
from layer_minimizer.core.errors import UsageError
from tests.support import command

if TYPE_CHECKING:
    from pathlib import Path

TOPICS = [
    "architecture", "aws", "ci", "comparison", "contents", "images", "installation", "layers", "options", "packages",
    "reports", "settings", "tracing",
]  # fmt: skip


def page_of(topic: str, console: Console | None = None) -> str:
    return render(topic, console or Console(file=io.StringIO()))


def terminal(width: int = 80, color: str | None = "256") -> Console:
    return Console(file=io.StringIO(), force_terminal=True, color_system=color, width=width, soft_wrap=True)  # type: ignore[arg-type]


def test_topics_are_the_pages() -> None:
    assert list(docs.topics()) == TOPICS


def test_the_list_has_a_line_for_each_topic() -> None:
    lines = [line for line in page_of("").splitlines() if line.startswith("  ")]
    assert [line.split()[0] for line in lines] == TOPICS
    assert all(len(line.split(maxsplit=1)[1]) > len("a title") for line in lines)
    assert max(map(len, page_of("").splitlines())) <= 100


@pytest.mark.parametrize("topic", TOPICS)
def test_a_pipe_gets_the_page_without_its_comments(topic: str) -> None:
    page = page_of(topic)
    assert page == re.sub(r"(?s)<!--.*?-->\n?", "", docs.read(topic))
    assert page.startswith(f"# {docs.topics()[topic]}\n")
    assert "<!--" not in page


@pytest.mark.parametrize("topic", TOPICS)
@pytest.mark.parametrize("width", [40, 80, 300])
def test_a_terminal_gets_the_page_formatted(topic: str, width: int) -> None:
    shown = page_of(topic, terminal(width))
    assert "\x1b[" in shown
    plain = re.sub(r"\x1b\[[\d;]*m", "", shown)
    assert plain.split()
    assert "<!--" not in plain
    # Links are of use in a browser alone.
    assert "\x1b]8;" not in shown
    assert not re.search(r"\((?:\.\./|#)", plain)
    code = [line for line in docs.read(topic).splitlines() if line.startswith("    ")]
    longest = max([min(width, 100), *map(len, code)])
    assert max(map(len, plain.splitlines())) <= longest


def test_a_terminal_without_colors_gets_none() -> None:
    assert "\x1b" not in page_of("aws", terminal(color=None))


def test_links_to_pages_become_topics() -> None:
    shown = page_of("tracing", terminal(color=None))
    assert re.search(r"contents\s+\(minimize\s+help\s+contents\)", shown)


@pytest.mark.parametrize(
    ("topic", "meant"),
    [
        ("trace", "; it is a command: minimize trace --help"),
        ("traceing", "; did you mean 'tracing'?"),
        ("option", "; did you mean 'options'?"),
        ("xyz", f"; topics are {', '.join(TOPICS)}"),
        ("../README", f"; topics are {', '.join(TOPICS)}"),
    ],
)
def test_an_unknown_topic_is_told_what_could_be_meant(topic: str, meant: str) -> None:
    with pytest.raises(UsageError) as caught:
        page_of(topic)
    assert str(caught.value) == f"unknown topic {topic!r}{meant}"


def test_the_command(tmp_path: Path) -> None:
    def shown(*arguments: str) -> command.Ended:
        return command.run_here(["help", *arguments], {"COLUMNS": "100"}, tmp_path)

    assert shown() == command.Ended(0, page_of(""), "")
    assert shown("aws") == command.Ended(0, page_of("aws"), "")
    meant = "minimize: unknown topic 'awss'; did you mean 'aws'?\n"
    assert shown("awss") == command.Ended(UsageError.exit_code, "", meant)
