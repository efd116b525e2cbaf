"""Adjustments to the plan and the layer that follow from earlier attempts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any


@dataclass(frozen=True, slots=True)
class Coverage:
    """A set of modules or packages, or all of them.

    Attributes:
        names: the covered names; empty if everything is covered.
        everything: whether all names are covered.
    """

    names: frozenset[str] = frozenset()
    everything: bool = False

    def __post_init__(self) -> None:
        """Remove the names if everything is covered, so that equal coverage compares equal."""
        if self.everything:
            object.__setattr__(self, "names", frozenset())

    def __contains__(self, name: object) -> bool:
        """Return whether ``name`` is covered."""
        return self.everything or name in self.names

    def __le__(self, other: Coverage) -> bool:
        """Return whether ``other`` covers at least the same names."""
        return other.everything or (not self.everything and self.names <= other.names)

    def adding(self, names: Iterable[str]) -> Coverage:
        """Return the coverage extended by ``names``."""
        return Coverage(self.names | frozenset(names), self.everything)


NOTHING = Coverage()
EVERYTHING = Coverage(everything=True)


@dataclass(frozen=True, slots=True)
class OmittedChunk:
    """A chunk of a library's cold pages that is omitted from the layer.

    Attributes:
        path: the library.
        refills: how often pages were added to the library at that time; this changes the chunks.
        chunk: the number of the chunk.
    """

    path: str
    refills: int
    chunk: int


@dataclass(frozen=True, slots=True)
class Adjustments:
    """What earlier attempts taught. Adjustments only grow, so the loop of attempts ends.

    It has more than 12 fields because it has one for each kind of adjustment, and each is used by one stage only.

    Attributes:
        rounds: how often files, sources or docstrings were added.
        repaired: files added because runs on the layer looked them up, or might need them.
        with_source: modules that are shipped with their source.
        with_docstrings: top-level packages that keep their docstrings.
        extra_pages: pages of libraries that are shipped although the traced run did not touch them.
        refills: how often such pages were added, by library.
        whole_libraries: libraries that are not compacted.
        whole_function: whether the function's zip contains all files of the entry's folder.
        omitted_distributions: distributions omitted because of the limit; code only names them.
        omitted_cold: cold files omitted because of the limit.
        omitted_chunks: chunks of libraries' cold pages omitted because of the limit.
        density: percentage of what is compressed as much as possible because of the limit; above 0, bytecode, too.
        large_chunks: whether more pages are compressed together because of the limit.
        deterministic: whether a second run in the full environment gave the same results.
    """

    rounds: int = 0
    repaired: frozenset[str] = frozenset()
    with_source: Coverage = NOTHING
    with_docstrings: Coverage = NOTHING
    extra_pages: Mapping[str, frozenset[int]] = field(default_factory=dict)
    refills: Mapping[str, int] = field(default_factory=dict)
    whole_libraries: frozenset[str] = frozenset()
    whole_function: bool = False
    omitted_distributions: frozenset[str] = frozenset()
    omitted_cold: frozenset[str] = frozenset()
    omitted_chunks: frozenset[OmittedChunk] = frozenset()
    density: int = 0
    large_chunks: bool = False
    deterministic: bool = False

    @property
    def dense(self) -> bool:
        """Whether bytecode and tables are compressed."""
        return self.density > 0

    def __le__(self, other: Adjustments) -> bool:
        """Return whether ``other`` contains all of these adjustments."""
        return all(_at_most(getattr(self, each.name), getattr(other, each.name)) for each in fields(self))

    def __lt__(self, other: Adjustments) -> bool:
        """Return whether ``other`` contains these adjustments and more."""
        return self <= other and self != other


def _at_most(one: Any, two: Any) -> bool:
    if isinstance(one, Mapping):
        return all(key in two and value <= two[key] for key, value in one.items())
    return bool(one <= two)
