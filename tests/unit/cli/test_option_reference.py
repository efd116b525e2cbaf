"""The generated tables of the documentation are up to date."""

from __future__ import annotations

import itertools

import pytest
from markdown_it import MarkdownIt

from layer_minimizer.cli import option_reference, parser
from layer_minimizer.core import errors


def test_the_page_is_up_to_date() -> None:
    if not option_reference.PAGE.exists():
        pytest.skip("the page is not installed")
    text = option_reference.PAGE.read_text("utf-8")
    for name, made in (
        ("options", option_reference.options_table()),
        ("exit codes", option_reference.exit_codes_table()),
    ):
        beginning, end = f"<!-- {name}: generated -->\n", "<!-- end -->"
        assert text.count(beginning) == 1
        written = text.partition(beginning)[2].partition(end)[0].strip()
        assert written == made.strip(), "python -m layer_minimizer.cli.option_reference regenerates it"
    assert option_reference.updated(text) == text


def cells(markdown: str) -> list[str]:
    tokens = MarkdownIt("commonmark").enable("table").parse(markdown)
    return [token.content for before, token in itertools.pairwise(tokens) if before.type == "td_open"]


def test_every_option_has_a_row() -> None:
    listed = {cell.split(", ")[-1].strip("`-") for cell in cells(option_reference.options_table())[::3]}
    known = {option.name for name in ("", "publish") for option in parser.command_parser(name).options.values()}
    assert listed == known


def test_every_exit_code_has_a_row() -> None:
    listed = cells(option_reference.exit_codes_table())[::2]
    assert list(map(int, listed)) == list(errors.exit_codes())
    assert {0, 1, 2, 9, 130} <= errors.exit_codes().keys()
