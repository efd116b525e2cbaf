"""Read import statements from the tokens of a source whose grammar is not that of the running Python.

A site's packages may be written for an older Python (``async`` as a name, up to CPython 3.6) or a newer one (``lazy
import``, ``except A, B:``, type parameters), and `ast` knows the running Python's grammar alone. Tokens are the same in
all of them, and so is the shape of what matters here: blocks and import statements.
"""

from __future__ import annotations

import ast
import io
import itertools
import tokenize
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    Tokens = list[tokenize.TokenInfo]

_IF, _DEF, _TRY, _OTHER = "if", "def", "try", "other"
_BLOCKS = {
    "if": _IF, "elif": _IF, "match": _IF, "case": _IF, "def": _DEF, "try": _TRY, "except": _TRY, "finally": _TRY,
    "class": _OTHER, "for": _OTHER, "while": _OTHER, "with": _OTHER,
}  # fmt: skip
_NO_CODE = {tokenize.ENCODING, tokenize.COMMENT, tokenize.NL, tokenize.ENDMARKER}
_PYTHON_2 = {"print", "exec"}
_DEEPEST = 200  # CPython refuses more nested brackets: MAXLEVEL in Parser/lexer/state.h


@dataclass(frozen=True, slots=True)
class FoundImport:
    """An import statement, and whether it is inside an ``if`` or ``match``, a function, a ``try``."""

    node: ast.Import | ast.ImportFrom
    conditional: bool
    function: bool
    tryexcept: bool


def find_imports(content: bytes) -> tuple[FoundImport, ...]:
    """Return the import statements in the order of their lines; none if this is no source of any Python 3."""
    try:
        return tuple(_find(content))
    except (tokenize.TokenError, SyntaxError, ValueError, RecursionError):
        return ()


def _find(content: bytes) -> Iterator[FoundImport]:
    blocks: list[str] = []
    last = [_OTHER]  # the kind of the last block statement at each depth, whose `else` may follow
    opened = False
    for line in _lines(content):
        tokens = list(line)
        while tokens and tokens[0].type in (tokenize.INDENT, tokenize.DEDENT):
            if tokens.pop(0).type == tokenize.INDENT:
                if not opened:
                    raise SyntaxError("unexpected indent")
                blocks.append(last[-1])
                last.append(_OTHER)
            else:
                blocks.pop()
                last.pop()
        kind, body = _header(tokens, last[-1])
        if kind:
            last[-1] = kind
        opened = bool(kind) and not body
        inside = {*blocks, kind}
        for statement in _statements(body):
            node = _import(statement)
            if node is not None:
                ast.increment_lineno(node, statement[0].start[0] - 1)
                yield FoundImport(node, _IF in inside, _DEF in inside, _TRY in inside)


def _lines(content: bytes) -> Iterator[Tokens]:
    """Yield the tokens of each logical line, with the indents and dedents before it.

    Raises:
        SyntaxError: it is not Python 3.
    """
    line: Tokens = []
    depth = 0
    for token in tokenize.tokenize(io.BytesIO(content).readline):
        if token.type == tokenize.ERRORTOKEN:
            raise SyntaxError(token.string)
        if token.type == tokenize.NEWLINE:
            yield line
            line = []
        elif token.type not in _NO_CODE:
            depth += (token.string in "([{") - (token.string in ")]}") if token.type == tokenize.OP else 0
            if not 0 <= depth <= _DEEPEST:
                raise SyntaxError("brackets without match, or too many")
            line.append(token)
    if line:
        yield line


def _header(tokens: Tokens, last: str) -> tuple[str, Tokens]:
    """Return the kind of block that a line opens, or an empty string, and the statements in the line."""
    words = [token.string for token in tokens[:2]]
    word = words[-1] if words[:1] == ["async"] else "".join(words[:1])
    kind = last if word == "else" else _BLOCKS.get(word, "")
    depth = lambdas = 0
    for at, token in enumerate(tokens if kind else ()):
        if token.type == tokenize.OP:
            depth += (token.string in "([{") - (token.string in ")]}")
        lambdas += token.string == "lambda" and not depth
        if token.string == ":" and not depth:
            if not lambdas:
                return kind, tokens[at + 1 :]
            lambdas -= 1
    return "", tokens  # `match` and `case` may be names


def _statements(tokens: Tokens) -> Iterator[Tokens]:
    for separates, group in itertools.groupby(tokens, lambda token: token.string == ";"):
        if not separates:
            yield list(group)


def _import(statement: Tokens) -> ast.Import | ast.ImportFrom | None:
    words = [token.string for token in statement]
    if words[0] in _PYTHON_2 and len(words) > 1 and statement[1].type in (tokenize.NAME, tokenize.STRING):
        raise SyntaxError("Python 2")
    if words[0] == "lazy" and words[1:2] in (["import"], ["from"]):
        words = words[1:]
    if words[0] not in ("import", "from"):
        return None
    node = ast.parse(" ".join(words)).body[0]
    return node if isinstance(node, ast.Import | ast.ImportFrom) else None
