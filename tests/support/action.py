"""The GitHub Action of this project, and the program beside it."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING, Any

import yaml

from .places import CHECKOUT

if TYPE_CHECKING:
    from types import ModuleType

ACTION = CHECKOUT / ".github/actions/minimize"
STEPS = ACTION / "steps.py"


def load_steps() -> ModuleType:
    """Return the program as a module."""
    spec = importlib.util.spec_from_file_location("steps", STEPS)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def read_action() -> dict[str, Any]:
    """Return what action.yml says."""
    found = yaml.safe_load((ACTION / "action.yml").read_text())
    assert isinstance(found, dict)
    return found


def written(text: str) -> dict[str, str]:
    """Parse what a step has written as its outputs: NAME<<END, lines and END."""
    found, lines = {}, iter(text.splitlines())
    for line in lines:
        name, _, end = line.partition("<<")
        assert end, line
        found[name] = "\n".join(iter(lambda: next(lines), end))
    return found
