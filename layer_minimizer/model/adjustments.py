"""What earlier attempts to make a layer have taught."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any


@dataclass(frozen=True, slots=True)
class Coverage:
    """Some modules or packages by name, or all there are."""

    names: frozenset[str] = frozenset()
    everything: bool = False

    def __post_init__(self) -> None:
        """Forget names that say nothing beside everything: values that cover the same are equal."""
        if self.everything:
            object.__setattr__(self, "names", frozenset())

    def __contains__(self, name: object) -> bool:
        """Return whether this one is covered."""
        return self.everything or name in self.names

    def __le__(self, other: Coverage) -> bool:
        """Return whether ``other`` covers as much, or more."""
        return other.everything or (not self.everything and self.names <= other.names)

    def adding(self, names: Iterable[str]) -> Coverage:
        """Return this with more names."""
        return Coverage(self.names | frozenset(names), self.everything)


NOTHING = Coverage()
EVERYTHING = Coverage(everything=True)


@dataclass(frozen=True, slots=True)
class OmittedChunk:
    """A chunk of a library's cold pages that is left out: its number, while the library had so many ``refills``."""

    path: str
    refills: int
    chunk: int


@dataclass(frozen=True, slots=True)
class Adjustments:
    """What earlier attempts have taught. It only grows, so that the attempts come to an end.

    More than 12 fields, since there is one for each kind of lesson, and each is read by one stage alone.

    Attributes:
        rounds: how often something was put back.
        repaired: files that runs on the layer have asked for.
        with_source: modules that keep their source beside their bytecode.
        with_docstrings: top-level packages whose bytecode has docstrings.
        extra_pages: pages of libraries that are hot although the traced run did not touch them.
        refills: how often such pages were added to a library.
        whole_libraries: libraries that are not compacted.
        whole_function: all that lies beside the entry goes into the function's zip.
        omitted_distributions: those that code merely names, and that there is no room for.
        keep_c_opened: there is room for the files that only code in C could open.
        omitted_cold: cold files that there is no room for.
        omitted_chunks: chunks of libraries' cold pages that there is no room for.
        deterministic: the workload was found to give the same results twice in the full environment.
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
    keep_c_opened: bool = True
    omitted_cold: frozenset[str] = frozenset()
    omitted_chunks: frozenset[OmittedChunk] = frozenset()
    deterministic: bool = False

    def __le__(self, other: Adjustments) -> bool:
        """Return whether ``other`` has taught all of this, too."""
        return all(_at_most(each.name, getattr(self, each.name), getattr(other, each.name)) for each in fields(self))

    def __lt__(self, other: Adjustments) -> bool:
        """Return whether ``other`` has taught more."""
        return self <= other and self != other


def _at_most(name: str, one: Any, two: Any) -> bool:
    if name == "keep_c_opened":  # the one that begins with yes
        return bool(one >= two)
    if isinstance(one, Mapping):
        return all(key in two and value <= two[key] for key, value in one.items())
    return bool(one <= two)
