"""Which handler an entry defines: the same as a traced run chooses."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import pytest

import layer_minimizer
from layer_minimizer.analysis.handler_names import handler_name

PROBE = Path(layer_minimizer.__file__).parent / "payload/probe"


@pytest.fixture
def harness(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The program that runs the entry, with the modules beside it."""
    monkeypatch.syspath_prepend(PROBE)
    return importlib.import_module("harness")


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("def handler(e, c): pass", "handler"),
        ("if True:\n    from x import y as lambda_handler", "lambda_handler"),
        ("def lambda_handler(e, c): pass\nhandler = lambda_handler", "handler"),
        ("a, (handler, b) = x", "handler"),
        ("handler: object = app", "handler"),
        ("try:\n    import handler.b\nexcept ImportError:\n    async def lambda_handler(e, c): pass", "handler"),
        ("class handler:\n    def lambda_handler(self): pass", "handler"),
        ("def f():\n    handler = 1\nprint(handler)", ""),
        ("x.handler = handler[0] = 1", ""),
        (
            "import logging\nfor handler in logging.root.handlers: pass\ndef lambda_handler(e, c): pass",
            "lambda_handler",
        ),
        ("# coding: latin-1\nx = '\xe9'\ndef lambda_handler(e, c): pass", "lambda_handler"),
    ],
)
def test_the_handler_that_an_entry_defines(harness: Any, tmp_path: Path, text: str, name: str) -> None:
    entry = tmp_path / "entry.py"
    entry.write_text(text, "latin-1")
    assert handler_name(entry) == harness.handler_name(str(entry), "") == name


def test_what_is_not_python_defines_none(tmp_path: Path) -> None:
    entry = tmp_path / "entry.py"
    assert not handler_name(entry)
    entry.write_text("def handler(:")
    assert not handler_name(entry)
