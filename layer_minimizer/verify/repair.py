"""Decide what to add to a layer after a failed run, or give up with the reason."""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from layer_minimizer.core.errors import VerifyError
from layer_minimizer.layer.layout import place_in_lambda
from layer_minimizer.model import modules
from layer_minimizer.model.plan import FINAL_REASONS, KeepPlan, Verdict
from layer_minimizer.model.trace import Trace, Use
from layer_minimizer.pack.libraries import PackedLibrary, refilled

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from layer_minimizer.model.adjustments import Adjustments
    from layer_minimizer.settings import Settings
    from layer_minimizer.verify.alone import Attempt

log = logging.getLogger(__name__)
# Every round puts back more than the one before: the missed files, then their static closure, then distributions.
ROUNDS = 8


@dataclass(frozen=True, slots=True)
class Tried:
    """What was tried, and whom to ask about it.

    ``provided`` are the files that layers below have, ``libraries`` what became of those in the layer whose pages were
    watched; ``left_out`` says that files beside the entry are not in the function's zip.
    ``imports`` gives the files of all modules that those of some files could import, as far as a plan may keep them;
    ``check_deterministic`` raises VerifyError where the workload does not give the same results twice.
    """

    plan: KeepPlan
    trace: Trace
    settings: Settings
    provided: Mapping[str, str]
    libraries: Mapping[str, PackedLibrary]
    left_out: bool
    imports: Callable[[Iterable[str]], frozenset[str]]
    check_deterministic: Callable[[], None]


def is_proved(adjustments: Adjustments, attempt: Attempt) -> bool:
    """Return whether the layer is done: it works, and misses nothing that is still to be put back."""
    # A run that asks for something else each time, and does well without, is not followed for ever.
    return attempt.succeeded and not (attempt.missed and is_repairable(adjustments))


def is_repairable(adjustments: Adjustments) -> bool:
    """Return whether what the next run misses would still be put back for its own sake."""
    return adjustments.rounds < ROUNDS - 1


def learned(adjustments: Adjustments, attempt: Attempt, tried: Tried) -> Adjustments:
    """Return adjustments with which the next layer has more of what the run needed.

    Raises:
        VerifyError: there is nothing more to add, or it was added often enough.
    """
    grown, refilled_libraries = refilled(adjustments, tried.libraries, attempt.lacking)
    if refilled_libraries:
        more = ", ".join(refilled_libraries)
        log.info("a run touched pages that the traced run had not; more is shipped of %s", more)
        return grown
    log.debug("the run missed: %s; %s", ", ".join(attempt.missed), attempt.error)
    grown = _given_back(adjustments, attempt, tried) or _put_back(adjustments, attempt, tried)
    if grown.rounds + 1 == ROUNDS:
        raise VerifyError(f"after {ROUNDS} rounds of putting files back: {attempt.explain()}")
    return replace(grown, rounds=grown.rounds + 1)


def _given_back(adjustments: Adjustments, attempt: Attempt, tried: Tried) -> Adjustments | None:
    """Return back what was left out of modules that are there, where that may be why the run failed."""
    settings = tried.settings
    if attempt.error and settings.strip_docstrings and not adjustments.with_docstrings.everything:
        return _with_docstrings(adjustments, _named_in(attempt.error, tried))
    if attempt.missed or attempt.succeeded:
        return None
    if attempt.error and settings.bytecode == "auto" and not adjustments.with_source.everything:
        # Somebody may have read the text of a module.
        code = [d.path for d in tried.plan.kept if d.path.endswith(".py")]
        return _with_source(adjustments, _named_in(attempt.error, tried), code)
    if tried.left_out and not adjustments.whole_function:
        log.warning("with the files that it used alone the function does not work: all of its folder goes in")
        return replace(adjustments, whole_function=True)
    return None


def _with_docstrings(adjustments: Adjustments, named: Iterable[str]) -> Adjustments:
    """Ship the docstrings of the packages that a traceback names, or of all when it names none that lacks them."""
    had = adjustments.with_docstrings
    more = {modules.top_level(path) for path in named} - had.names
    wanted = replace(had.adding(more), everything=not more)
    which = "all" if wanted.everything else ", ".join(sorted(wanted.names))
    log.warning("without docstrings the entry does not run: those of %s stay", which)
    return replace(adjustments, with_docstrings=wanted)


def _with_source(adjustments: Adjustments, named: set[str], code: Iterable[str]) -> Adjustments:
    """Ship the source of modules that a traceback names, or of all when it names none that lacks it.

    Whoever reads one text of a package goes on to others: from the second time on it is all of the package, of the
    modules ``code``.
    """
    had = adjustments.with_source
    if had.names:
        packages = {modules.top_level(path) for path in named}
        named = named | {path for path in code if modules.top_level(path) in packages}
    return replace(adjustments, with_source=replace(had.adding(named), everything=named <= had.names))


def _named_in(traceback: str, tried: Tried) -> set[str]:
    """Return the layer's modules that a traceback goes through."""
    place = place_in_lambda(tried.settings.layout, tried.trace.python)
    return set(re.findall(rf'"{re.escape(place)}/([^"]+\.py)"', traceback))


def _put_back(adjustments: Adjustments, attempt: Attempt, tried: Tried) -> Adjustments:
    """Let the next plan keep more files.

    Raises:
        VerifyError: there is nothing more to keep.
    """
    plan = tried.plan
    there = adjustments.repaired | {d.path for d in plan.kept}
    more = _widened(adjustments, attempt, tried) - there
    if not more and not adjustments.deterministic:
        tried.check_deterministic()
        adjustments = replace(adjustments, deterministic=True)
        more = _touched_but_dropped(plan, tried.trace) - there
    if not more:
        raise VerifyError(attempt.explain() + _left_out_on_purpose(tried.settings))
    log.info("putting back %d files that the run on the layer asked for", len(more))
    log.debug("put back:\n  %s", "\n  ".join(sorted(more)))
    return replace(adjustments, repaired=adjustments.repaired | more)


def _widened(adjustments: Adjustments, attempt: Attempt, tried: Tried) -> frozenset[str]:
    """Return what to put back for the missed files.

    A missed module brings what it imports; a second miss in the same distribution brings all of it.
    """
    provided = tried.provided.keys()
    owner = {d.path: d.distribution for d in tried.plan.decisions}
    missed = frozenset(attempt.missed)
    again = {owner[path] for path in adjustments.repaired - provided} & {owner[path] for path in missed - provided}
    whole = {path for path, name in owner.items() if name and name in again and path not in provided}
    return missed | tried.imports(attempt.missed) | whole


def _touched_but_dropped(plan: KeepPlan, trace: Trace) -> frozenset[str]:
    """Return the files that the trace saw used in some way and that the plan judged to be of no use."""
    used = {file.path for file in trace.files if file.uses - {Use.LIST}}
    dropped = (d for d in plan.decisions if d.verdict is Verdict.DROPPED and d.reason not in FINAL_REASONS)
    return frozenset(d.path for d in dropped if d.path in used)


def _left_out_on_purpose(settings: Settings) -> str:
    names = {"exclude": "exclude", "provided": "provided", "base_layers": "base-layer"}
    options = [f"--{option} {value}" for name, option in names.items() for value in getattr(settings, name)]
    return f"\nNothing is put back against {', '.join(options)}: is it needed after all?" if options else ""
