"""Find the installed distributions that others require, by their metadata (Requires-Dist). Nothing here reads files."""

from __future__ import annotations

import re
from collections import defaultdict
from typing import TYPE_CHECKING

from packaging.markers import default_environment
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping

    from layer_minimizer.model.installed import Distribution
    from layer_minimizer.model.interpreter import Interpreter

_EXTRA = re.compile(r"""\bextra\s*==\s*["']([^"']+)["']|["']([^"']+)["']\s*==\s*extra\b""")


class Requirements:
    """The requirements of installed distributions."""

    def __init__(self, distributions: Iterable[Distribution], environment: Mapping[str, str]) -> None:
        """Read the requirements of ``distributions``; ``environment`` is that of their markers."""
        self._listed = {each.name: tuple(parsed_requirements(each.requires)) for each in distributions}
        self._environment = environment

    def of(self, used: Collection[str]) -> dict[str, str]:
        """Return what the ``used`` distributions require, directly or indirectly, each with one that requires it.

        The requirements of an extra count if one of these distributions requires that extra.
        """
        return self._closure(used, installed_extras=False)

    def possible(self, used: Collection[str]) -> dict[str, str]:
        """Return the same with the extras of which everything is installed: somebody may have asked pip for them."""
        return self._closure(used, installed_extras=True)

    def _closure(self, used: Collection[str], *, installed_extras: bool) -> dict[str, str]:
        found: dict[str, str] = {}
        done: set[tuple[str, str]] = set()
        todo = [(name, extra) for name in sorted(used) for extra in self._extras(name, installed_extras)]
        while todo:
            name, extra = todo.pop()
            if (name, extra) in done:
                continue
            done.add((name, extra))
            for requirement in self._requirements(name, extra):
                required = canonicalize_name(requirement.name)
                if required not in self._listed:
                    continue
                if required not in used:
                    found.setdefault(required, name)
                todo += [(required, each) for each in (*self._extras(required, installed_extras), *requirement.extras)]
        return found

    def _extras(self, name: str, installed: bool) -> tuple[str, ...]:  # noqa: FBT001 - private
        """Return the extras of a distribution that are looked at: none, which is "", and the installed ones."""
        if not installed:
            return ("",)
        plain = set(self._requirements(name, ""))
        parts: dict[str, list[str]] = defaultdict(list)
        for extra in {extra for each in self._listed.get(name, ()) for extra in _extras_of(each)}:
            parts[extra] = [canonicalize_name(r.name) for r in self._requirements(name, extra) if r not in plain]
        return (
            "",
            *(extra for extra, needed in sorted(parts.items()) if needed and set(needed) <= self._listed.keys()),
        )

    def _requirements(self, name: str, extra: str) -> Iterator[Requirement]:
        return applying(self._listed.get(name, ()), self._environment, extra)


def marker_environment(interpreter: Interpreter) -> dict[str, str]:
    """Return the environment for markers of an interpreter, which runs on this machine."""
    version = ".".join(map(str, interpreter.version))
    own = {key: str(value) for key, value in default_environment().items()}
    return own | {
        "python_version": ".".join(map(str, interpreter.version[:2])),
        "python_full_version": version,
        "implementation_version": version,
        "platform_machine": interpreter.machine,
    }


def parsed_requirements(requirements: Iterable[str]) -> Iterator[Requirement]:
    """Yield the requirements that are well-formed."""
    for requirement in requirements:
        try:
            yield Requirement(requirement)
        except InvalidRequirement:
            continue  # written before PEP 508: nothing reliable is known of it


def applying(
    requirements: Iterable[Requirement], environment: Mapping[str, str], extra: str = ""
) -> Iterator[Requirement]:
    """Yield the requirements whose marker is true in an environment, with an extra or without one."""
    with_extra = {**environment, "extra": extra}
    return (each for each in requirements if each.marker is None or each.marker.evaluate(with_extra))


def _extras_of(requirement: Requirement) -> Iterator[str]:
    for one, other in _EXTRA.findall(str(requirement.marker or "")):
        yield one or other
