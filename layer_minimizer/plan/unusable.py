"""Warn of what a layer cannot give to a function: what lies outside of site-packages, files for other platforms."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from layer_minimizer.analysis import elf
from layer_minimizer.model.plan import Decision, KeepPlan, Verdict

if TYPE_CHECKING:
    from collections.abc import Iterator

    from layer_minimizer.environment.site import Site

_FOREIGN_ENDINGS = (".dll", ".dylib", ".exe", ".pyd", ".lib")
_SHOWN = 3


def unusable_warnings(plan: KeepPlan, site: Site) -> tuple[str, ...]:
    """Return warnings about programs and files that the function of this layer can never use."""
    return (*_outside(plan, site), *_foreign_files(plan, site))


def _outside(plan: KeepPlan, site: Site) -> Iterator[str]:
    """Yield warnings about what distributions in the layer have in the environment's ``bin``, ``share`` and ``etc``."""
    present = {d.distribution for d in (*plan.kept, *plan.cold)}
    for each in site.inventory.distributions:
        if each.name in present and each.programs:
            yield (
                f"{each.name} installs {_listed(each.programs)} outside of site-packages, which a layer does not "
                "contain: if the function runs such a program, pack it with the function, and name its place in PATH"
            )
        if each.name in present and each.data:
            yield (
                f"{each.name} installs {_listed(each.data)} outside of site-packages, which a layer does not contain: "
                "if the function reads it, pack it with the function, and tell the library where it lies"
            )


def _foreign_files(plan: KeepPlan, site: Site) -> Iterator[str]:
    """Yield warnings about files in the layer that only another system or processor can load."""
    found: dict[str, list[Decision]] = defaultdict(list)
    for decision in plan.decisions:
        if decision.verdict is not Verdict.DROPPED and _is_foreign(decision.path, site):
            found[decision.distribution].append(decision)
    for name, decisions in sorted(found.items()):
        size = sum(decision.size for decision in decisions)
        yield (
            f"{name or 'the layer'} contains files for another platform ({_listed([d.path for d in decisions])}; "
            f"{size / 1e6:,.1f} MB before compression), which the function can never use: --exclude leaves them out"
        )


def _is_foreign(path: str, site: Site) -> bool:
    if path.endswith(_FOREIGN_ENDINGS):
        return True
    dynamic = elf.read_dynamic(site.sources[path]) if elf.is_elf_name(path) else None
    return dynamic is not None and dynamic.machine != site.interpreter.machine


def _listed(names: tuple[str, ...] | list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
