"""Parses the documentation: code blocks, inline code, tables, links and headings, with line numbers."""

from __future__ import annotations

import functools
import itertools
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from markdown_it import MarkdownIt

if TYPE_CHECKING:
    from markdown_it.token import Token

CHECKOUT = Path(__file__).resolve().parents[3]
# The manual, which is shipped with the package.
MANUAL = "layer_minimizer/docs"
DOCUMENTS = (
    "README.md",
    *sorted(str(path.relative_to(CHECKOUT)) for path in CHECKOUT.glob(f"{MANUAL}/*.md")),
    *sorted(
        str(path.relative_to(CHECKOUT)) for path in CHECKOUT.glob("examples/**/README.md") if "out" not in path.parts
    ),
    ".github/CONTRIBUTING.md",
    ".github/SECURITY.md",
    "docker/README.md",
    "tests/README.md",
    "tests/system/cases/README.md",
)
# The first words of commands; other inline code is a name, a value or a sample.
PROGRAMS = (
    "apt-get", "aws", "bash", "cat", "cd", "curl", "docker", "export", "git", "minimize", "pip", "podman", "pyenv",
    "pytest", "python", "python3", "sam", "systemctl", "terraform", "unzip", "zip",
)  # fmt: skip


@dataclass(frozen=True)
class Shown:
    """A code block or inline code.

    ``info`` is the info string of a fenced block; ``recorded``: record.py has written the block from a real run.
    """

    file: str
    line: int
    text: str
    info: str = ""
    recorded: bool = False

    def __str__(self) -> str:
        first, _, more = self.text.strip().partition("\n")
        return f"{self.file}:{self.line}: {first}{' …' if more else ''}"


@dataclass(frozen=True)
class Document:
    """One file of the documentation."""

    blocks: tuple[Shown, ...]
    spans: tuple[Shown, ...]
    links: tuple[Shown, ...]
    tables: tuple[tuple[tuple[str, ...], ...], ...]
    headings: tuple[str, ...]


@functools.cache
def read(file: str) -> Document:
    """Return a parsed file; ``file`` is relative to the checkout."""
    return parse(file, (CHECKOUT / file).read_text())


def parse(file: str, text: str) -> Document:
    """Parse Markdown."""
    tokens = MarkdownIt("commonmark").enable("table").parse(text)
    lines = [token.map[0] + 1 if token.map else 0 for token in tokens]
    blocks, recorded = [], False
    for line, token in zip(lines, tokens, strict=True):
        if token.type == "html_block":
            recorded = "<!-- recorded:" in token.content and "<!-- end of" not in token.content
        elif token.type in ("code_block", "fence"):
            blocks.append(Shown(file, line, token.content, token.info.strip(), recorded=recorded))
    spans, links = [], []
    for start, token in zip(lines, tokens, strict=True):
        line = start
        for child in token.children or ():
            if child.type == "code_inline":
                spans.append(Shown(file, line, child.content))
            elif child.type == "link_open":
                links.append(Shown(file, line, str(child.attrs["href"])))
            line += child.type in ("softbreak", "hardbreak")
    headings = [token.content for before, token in itertools.pairwise(tokens) if before.type == "heading_open"]
    return Document(tuple(blocks), tuple(spans), tuple(links), tuple(_tables(tokens)), tuple(headings))


def _tables(tokens: list[Token]) -> list[tuple[tuple[str, ...], ...]]:
    tables: list[list[list[str]]] = []
    for before, token in itertools.pairwise(tokens):
        if token.type == "table_open":
            tables.append([])
        elif token.type == "tr_open":
            tables[-1].append([])
        elif before.type in ("th_open", "td_open"):
            tables[-1][-1].append(token.content)
    return [tuple(tuple(row) for row in table) for table in tables]


def blocks() -> tuple[Shown, ...]:
    """Return all code blocks of the documentation."""
    return tuple(block for file in DOCUMENTS for block in read(file).blocks)


def spans() -> tuple[Shown, ...]:
    """Return all inline code of the documentation."""
    return tuple(span for file in DOCUMENTS for span in read(file).spans)


def is_command(text: str) -> bool:
    """Return whether inline code is a command with arguments."""
    first, _, rest = text.partition(" ")
    return bool(rest) and (first in PROGRAMS or first.startswith(("./", "~/")))


def anchor(heading: str) -> str:
    """Return the anchor of a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def names_in(sample: str) -> dict[str, list[str]]:
    """Return the names in a sample of JSON, each with the names in its value. Values may be omitted or described.

    Names that are data (``{name: bytes}``, ``{"TRACED": bytes, …}``) are omitted.
    """
    described = re.sub(r':\s*"[^"]*"(\s+or\s+"[^"]*")*', ":", sample)
    depth, name, names = 0, "", {}
    for found in re.finditer(r'[{\[]|[}\]]|"(\w+)"|…', described):
        depth += (found[0] in "{[") - (found[0] in "}]")
        if found[1] and depth == 1:
            name = found[1]
            names[name] = []
        elif found[1]:
            names[name].append(found[1])
        elif found[0] == "…" and depth > 1:
            names[name] = []
    return names
