"""Answers why a file, a module or a distribution is kept or dropped: the chain from the entry to it."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from layer_minimizer import modules, rules
from layer_minimizer.errors import PlanError
from layer_minimizer.inventory import normalize
from layer_minimizer.model import Verdict

if TYPE_CHECKING:
    from collections.abc import Iterator

    from layer_minimizer.model import Decision, KeepPlan, TracedModule


def explain(plan: KeepPlan, subject: str) -> str:
    """Say why ``subject`` (a site-relative path, a folder, a glob, a module or a distribution) is kept or dropped.

    Raises:
        PlanError: nothing installed has that name.
    """
    by_path: dict[str, Decision] = {}
    for decision in plan.decisions:
        # A path that is there twice stands for the file that Python finds; the shadowed ones come last.
        by_path.setdefault(decision.path, decision)
    wanted = subject.strip("/")
    if wanted in by_path:
        return "\n".join(_one(plan, by_path[wanted], by_path))
    names = modules.by_name(by_path)
    group = [d for d in plan.decisions if d.distribution == normalize(wanted)]
    if not group:
        group = [by_path[path] for path in rules.matching(wanted, by_path)]
    lines = []
    if wanted in names:
        lines += list(_one(plan, by_path[names[wanted]], by_path))
    if len(group) == 1 and not lines:
        lines += list(_one(plan, group[0], by_path))
    elif len(group) > 1:
        lines += ["", *_summary(group)] if lines else list(_summary(group))
        first = next((d for d in group if d.verdict is Verdict.KEPT), None)
        if first is not None and wanted not in names:
            lines += ["", f"The first of them, {first.path}:", *_one(plan, first, by_path)]
    if not lines:
        raise PlanError(f"--explain {subject}: no installed file, module or distribution has that name")
    return "\n".join(lines)


def _one(plan: KeepPlan, decision: Decision, by_path: dict[str, Decision]) -> Iterator[str]:
    owner = f" of {decision.distribution}" if decision.distribution else ""
    yield f"{decision.path} ({decision.size:,} bytes{owner}) is {decision.verdict}: {decision.reason}"
    yield f"  {decision.evidence}"
    chains = {m.name: m for m in plan.chains}
    cause, seen = decision.cause, {decision.path}
    while cause and cause not in seen:
        seen.add(cause)
        if cause in by_path:
            yield f"  ← {cause}: {by_path[cause].evidence}"
            cause = by_path[cause].cause
        elif cause in chains:
            yield f"  ← {_import_of(chains[cause])}"
            cause = chains[cause].importer
        else:
            yield f"  ← {cause}" + (" (the entry)" if cause == "__main__" else "")
            return


def _import_of(module: TracedModule) -> str:
    if not module.importer:
        return f"{module.name} was loaded when Python started" if module.startup else f"{module.name} (the entry)"
    return f"{module.name} is imported by {module.importer}, line {module.line}"


def _summary(group: list[Decision]) -> Iterator[str]:
    for verdict in Verdict:
        chosen = [d for d in group if d.verdict is verdict]
        if chosen:
            reasons = Counter(d.reason.value for d in chosen)
            listed = ", ".join(f"{reason} {count}" for reason, count in reasons.most_common())
            yield f"{verdict}: {len(chosen):,} files, {sum(d.size for d in chosen):,} bytes ({listed})"
            for decision in sorted(chosen, key=lambda d: (-d.size, d.path))[:5]:
                yield f"  {decision.size:>12,}  {decision.path}: {decision.evidence}"
