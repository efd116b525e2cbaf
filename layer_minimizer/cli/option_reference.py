"""Generate the tables of the documentation: all options, and all exit codes."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from layer_minimizer.core.errors import exit_codes
from layer_minimizer.core.option_declarations import Option, declared
from layer_minimizer.core.option_kinds import FLAG, TEXT
from layer_minimizer.settings import GROUPS, MAIN_PARTS, FileOptions, PublishOptions

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

# The page with the tables; each stands between two Markdown comments.
PAGE = Path(__file__).parents[1] / "docs" / "options.md"


def updated(text: str) -> str:
    """Return the text of the page with its tables regenerated."""
    for name, table in (("options", options_table()), ("exit codes", exit_codes_table())):
        beginning, end = f"<!-- {name}: generated -->", "<!-- end -->"
        between = re.compile(rf"(?<={beginning}\n).*?(?={end})", re.DOTALL)
        text = between.sub(lambda _, table=table: f"\n{table}\n", text, count=1)  # type: ignore[misc]
    return text


def options_table() -> str:
    """Return the options of ``minimize``, and those of ``minimize publish``, as Markdown: a table for each group."""
    main = [each for part in (*MAIN_PARTS, FileOptions) for each in declared(part)]
    sections = [*_sections(main, ""), *_sections(declared(PublishOptions), "`minimize publish`: ")]
    return "\n".join(sections)


def exit_codes_table() -> str:
    """Return the exit codes as Markdown."""
    rows = [(f"{code}", meaning) for code, meaning in exit_codes().items()]
    return _table(("code", "meaning"), rows, "---:|---")


def _sections(options: Sequence[Option], title: str) -> Iterator[str]:
    for group in GROUPS:
        if chosen := [each for each in options if each.group == group]:
            yield f"### {title}{group}\n\n{_table(('option', 'value', 'meaning'), map(_row, chosen), '---|---|---')}"


def _row(option: Option) -> tuple[str, str, str]:
    names = f"`{option.key}`" if option.positional else f"`--{option.name}`"
    if option.short:
        names = f"`{option.short}`, {names}"
    if option.kind is FLAG:
        value = "" if option.name.startswith("no-") else f"`--no-{option.name}`: off"
    elif option.kind.choices or option.kind.allowed == TEXT.allowed:
        value = ", ".join(f"`{each}`" for each in option.kind.choices or option.value.split("|"))
    else:
        value = option.kind.allowed
    notes = [] if option.in_file else ["command line only"]
    return names, value, re.sub(r"([*|<])", r"\\\1", "; ".join([option.long_text, *notes]))


def _table(head: Sequence[str], rows: Iterable[Sequence[str]], line: str) -> str:
    lines = [f"| {' | '.join(cells)} |" for cells in (head, *rows)]
    return "\n".join([lines[0], f"|{line}|", *lines[1:]]) + "\n"


if __name__ == "__main__":
    PAGE.write_text(updated(PAGE.read_text("utf-8")), "utf-8")
