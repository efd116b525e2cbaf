"""What the search for unused modules finds, and what its runs show."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class SearchResult:
    """The result of a search: which groups of modules can be replaced, and what their stand-ins must do.

    ``groups``: names of the groups that stand-ins replace.
    ``also``: modules that a stand-in imports because an event needs them.
    ``bound``: modules whose stand-ins a stand-in imports, so that a used package has them as attributes.
    ``fills``: packages whose registries a module fills; its stand-in loads it once such a package does something new.
    ``environ``: environment variables that a module sets when it is imported: "NAME=value" where its code contains the
        value, so that its stand-in sets it; otherwise "NAME": what asks for the variable loads the module.
    ``refused``: modules that are real although they were candidates; the others of their packages form groups of their
        own.
    ``runs``: number of trial runs.
    ``complete``: False if the time limit ended the search.
    """

    groups: frozenset[str] = frozenset()
    also: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    bound: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    fills: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    environ: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    refused: frozenset[str] = frozenset()
    runs: int = field(default=0, compare=False)
    complete: bool = field(default=True, compare=False)


@dataclass(frozen=True, slots=True)
class Trial:
    """What a run with stand-ins has shown; see `layer_minimizer.trace.tracer.Study`.

    ``same``: it returned the same results as the run without stand-ins.
    ``replaced``, ``loaded``: the modules of which stand-ins, and the modules that, were loaded in the end.
    ``woken``, ``unfit``: modules with the reason why no stand-in can replace them.
    """

    same: bool
    replaced: frozenset[str]
    loaded: frozenset[str]
    woken: tuple[tuple[str, str], ...] = ()
    implicit: frozenset[str] = frozenset()
    unfit: tuple[tuple[str, str], ...] = ()
    fills: tuple[tuple[str, tuple[str, ...]], ...] = ()
    environ: tuple[tuple[str, tuple[str, ...]], ...] = ()
    remaining_bytes: int = 0
