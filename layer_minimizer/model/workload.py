"""The workload: the entry, its events and models, and the results of a run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

# The harness's name for the single invocation of a handler without events.
NO_EVENT = "(no event)"


@dataclass(frozen=True, slots=True)
class Event:
    """One invocation of the handler.

    Attributes:
        name: its name in messages and reports.
        payload: the JSON event.
        context: fields of the context object.
    """

    name: str
    payload: Any
    context: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Workload:
    """What the layer must be able to run.

    Attributes:
        entry: the file with the handler, or a script.
        handler: the name of the handler; if empty, ``handler``, else ``lambda_handler``, else the entry is a script.
        models: files that are copied next to the entry.
        events: the events that the handler is called with.
    """

    entry: Path
    handler: str = ""
    models: tuple[Path, ...] = ()
    events: tuple[Event, ...] = ()


@dataclass(frozen=True, slots=True)
class Result:
    """The result of one event.

    Attributes:
        event: the name of the event.
        value: the result as JSON text, or the standard output of a script.
    """

    event: str
    value: str
