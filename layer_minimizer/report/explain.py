"""Explain why a file, a module or a distribution is kept or dropped: the chain from the entry to it."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Protocol

from packaging.utils import canonicalize_name

from layer_minimizer.core.errors import PlanError
from layer_minimizer.model import modules
from layer_minimizer.model.plan import Decision, KeepPlan, Verdict
from layer_minimizer.plan import globs

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from layer_minimizer.model.trace import TracedModule, TracedStandIn

_SHOWN = 8


def explain(plan: KeepPlan, subject: str) -> str:
    """Return why ``subject`` (a site-relative path, a folder, a glob, a module or a distribution) is kept or dropped.

    Raises:
        PlanError: nothing installed has that name.
    """
    by_path: dict[str, Decision] = {}
    for decision in plan.decisions:
        # For a path that is installed twice, the file that Python finds comes first; shadowed files come last.
        by_path.setdefault(decision.path, decision)
    wanted = subject.strip("/")
    names = modules.by_name(by_path)
    group = [by_path[wanted]] if wanted in by_path else []
    group = group or [d for d in plan.decisions if d.distribution == canonicalize_name(wanted)]
    if not group:
        group = [by_path[path] for path in globs.matching(wanted, by_path)]
    lines = []
    if wanted in names:
        lines += list(_explain_decision(plan, by_path[names[wanted]], by_path))
    if len(group) == 1 and not lines:
        lines += list(_explain_decision(plan, group[0], by_path))
    elif len(group) > 1:
        lines += ["", *_summary(group)] if lines else list(_summary(group))
        first = next((d for d in group if d.verdict is Verdict.KEPT), None)
        if first is not None and wanted not in names:
            lines += ["", f"The first of them, {first.path}:", *_explain_decision(plan, first, by_path)]
    paths = {decision.path for decision in group}
    if stand_ins := [m for m in plan.stand_ins if f"{m.name}.".startswith(f"{wanted}.") or m.path in paths]:
        lines += ["", *_stand_ins(plan, stand_ins, wanted, by_path)]
    if not lines:
        raise PlanError(f"--explain {subject}: no installed file, module or distribution has that name")
    return "\n".join(lines)


def _explain_decision(plan: KeepPlan, decision: Decision, by_path: dict[str, Decision]) -> Iterator[str]:
    owner = f" of {decision.distribution}" if decision.distribution else ""
    yield f"{decision.path} ({decision.size:,} bytes{owner}) is {decision.verdict}: {decision.reason}"
    yield f"  {decision.evidence}"
    imports = {m.name: m for m in plan.chains}
    yield from (f"  ← {link}" for link in chain(decision, by_path, imports))


class Reasoned(Protocol):
    """A file with the reason why it is kept or dropped: a decision, or a report's row."""

    @property
    def path(self) -> str:
        """The site-relative path."""

    @property
    def evidence(self) -> str:
        """The reason, in a sentence."""

    @property
    def cause(self) -> str:
        """The path or module that the decision follows from, or empty."""


def chain(decision: Reasoned, by_path: Mapping[str, Reasoned], imports: Mapping[str, TracedModule]) -> Iterator[str]:
    """Yield the steps from a decision to the entry: what it follows from, what that follows from, and so on."""
    cause, seen = decision.cause, {decision.path}
    while cause and cause not in seen:
        seen.add(cause)
        if cause in by_path:
            yield f"{cause}: {by_path[cause].evidence}"
            cause = by_path[cause].cause
        elif cause in imports:
            yield _import_of(imports[cause])
            cause = imports[cause].importer
        else:
            yield cause + (" (the entry)" if cause == "__main__" else "")
            return


def _import_of(module: TracedModule) -> str:
    if not module.importer:
        return f"{module.name} was loaded when Python started" if module.startup else f"{module.name} (the entry)"
    return f"{module.name} is imported by {module.importer}, line {module.line}"


def _stand_ins(
    plan: KeepPlan, stand_ins: list[TracedStandIn], subject: str, by_path: dict[str, Decision]
) -> Iterator[str]:
    """Yield lines about replaced modules: their importers, the attributes used, and what the stand-ins save."""
    names = {module.name for module in stand_ins}
    size = sum(by_path[module.path].size for module in stand_ins)
    seconds = sum(module.seconds for module in stand_ins)
    yield (
        f"Stand-ins: {len(stand_ins):,} modules; {size:,} bytes that no event needed, and {seconds:.2f} s of import in "
        "the traced run, under observers"
    )
    importers = [m for m in plan.chains if m.name in names and m.importer not in names]
    yield from _shortened("  imported by", [f"{m.importer}, line {m.line} ({m.name})" for m in importers if m.importer])
    touched = [f"{m.name}.{name} ({kind})" for m in stand_ins for name, kind in m.touched]
    yield from _shortened("  attributes used", touched)
    tops = sorted({name.split(".")[0] for name in names}) if subject not in names else [subject]
    yield f"  ship the real modules with {' '.join(f'--keep {name}' for name in tops)}"


def _shortened(what: str, items: list[str]) -> Iterator[str]:
    if items:
        more = f", and {len(items) - _SHOWN:,} more" if len(items) > _SHOWN else ""
        yield f"{what}: {'; '.join(items[:_SHOWN])}{more}"


def _summary(group: list[Decision]) -> Iterator[str]:
    for verdict in Verdict:
        chosen = [d for d in group if d.verdict is verdict]
        if chosen:
            reasons = Counter(d.reason.value for d in chosen)
            listed = ", ".join(f"{reason} {count}" for reason, count in reasons.most_common())
            yield f"{verdict}: {len(chosen):,} files, {sum(d.size for d in chosen):,} bytes ({listed})"
            for decision in sorted(chosen, key=lambda d: (-d.size, d.path))[:5]:
                yield f"  {decision.size:>12,}  {decision.path}: {decision.evidence}"
