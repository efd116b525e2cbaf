"""What is run: the entry, its events and models, and the results of a run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

# What the harness calls the one invocation of a handler for which there is no event.
NO_EVENT = "(no event)"


# ---- what must keep working ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Event:
    """One invocation of the handler: its JSON event, and what the context object should say."""

    name: str
    payload: Any
    context: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Workload:
    """What must keep working: the entry file, its models, and the events it is called with.

    ``handler`` is the function's name, or empty for "``handler``, else ``lambda_handler``, else a plain script".
    """

    entry: Path
    handler: str = ""
    models: tuple[Path, ...] = ()
    events: tuple[Event, ...] = ()


@dataclass(frozen=True, slots=True)
class Result:
    """What one event gave: its JSON text, or a script's standard output."""

    event: str
    value: str
