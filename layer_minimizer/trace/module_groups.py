"""Groups of modules that stand-ins replace together: half-replaced packages often break."""

from __future__ import annotations

from typing import TYPE_CHECKING

from layer_minimizer.model import modules

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from layer_minimizer.model.trace import Trace
    from layer_minimizer.trace.tracer import Study

    Groups = Mapping[str, frozenset[str]]


def candidates(study: Study, first: Trace, kept: Collection[str]) -> dict[str, frozenset[str]]:
    """Return groups of modules that may be unused, by the topmost package or module of each group.

    ``kept`` are modules that must not be replaced, with their submodules.
    """
    real = set(study.ran) | {module.name for module in first.modules if module.startup}
    real |= {name for name in study.tables if any(name == k or name.startswith(f"{k}.") for k in kept)}
    real = modules.with_packages(real)
    groups: dict[str, set[str]] = {}
    for name in study.tables:
        if name not in real:
            groups.setdefault(_top(name, real), set()).add(name)
    return _ranked(groups)


def without(groups: Groups, refused: Collection[str]) -> Groups:
    """Return the groups without modules that are real, and their packages; what is left of a group is grouped anew."""
    real = modules.with_packages(refused)
    left: dict[str, set[str]] = {}
    for top, members in groups.items():
        for name in members - real:
            left.setdefault(_top(name, real) if members & real else top, set()).add(name)
    return _ranked(left)


def _ranked(groups: Mapping[str, Collection[str]]) -> dict[str, frozenset[str]]:
    ranked = sorted(groups.items(), key=lambda item: (-len(item[1]), item[0]))
    return {top: frozenset(members) for top, members in ranked}


def _top(name: str, real: Collection[str]) -> str:
    """Return the topmost unused package that contains ``name``, or ``name`` itself."""
    parts = name.split(".")
    for depth in range(1, len(parts)):
        if ".".join(parts[:depth]) not in real:
            return ".".join(parts[:depth])
    return name
