"""Decide what to add to a layer after a failed run, or raise an error with the reason."""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from layer_minimizer.core.errors import VerifyError
from layer_minimizer.model import modules
from layer_minimizer.model.plan import FINAL_REASONS, KeepPlan, Verdict
from layer_minimizer.model.trace import Trace, Use
from layer_minimizer.pack.budget import Budget
from layer_minimizer.pack.libraries import PackedLibrary, refilled

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from layer_minimizer.model.adjustments import Adjustments
    from layer_minimizer.settings import Settings
    from layer_minimizer.verify.alone import Attempt

log = logging.getLogger(__name__)
# Each round adds more than the one before: the missed files, what they import, then whole distributions.
ROUNDS = 8


@dataclass(frozen=True, slots=True)
class FailedAttempt:
    """The inputs of a failed attempt, and functions that find out more about it.

    Attributes:
        plan: the plan of the attempt.
        trace: the trace of the workload.
        settings: the options of the layer.
        provided: files that base layers contain, with the name of the layer.
        libraries: compacted libraries of the layer, by path.
        left_out: whether files of the entry's folder are not in the function's zip.
        imports: returns the files that the given files could import, if a plan may keep them.
        check_deterministic: raises VerifyError if the workload does not give the same results twice.
    """

    plan: KeepPlan
    trace: Trace
    settings: Settings
    provided: Mapping[str, str]
    libraries: Mapping[str, PackedLibrary]
    left_out: bool
    imports: Callable[[Iterable[str]], frozenset[str]]
    check_deterministic: Callable[[], None]


def is_verified(adjustments: Adjustments, attempt: Attempt) -> bool:
    """Return whether the layer gives the expected results and no missed files are to be added."""
    # A run may look up other files each time and work without them: the last round ignores missed files.
    return attempt.succeeded and not (attempt.missed and is_repairable(adjustments))


def is_repairable(adjustments: Adjustments) -> bool:
    """Return whether files that the next run misses would still be added even if the run succeeds."""
    return adjustments.rounds < ROUNDS - 1


def learn(adjustments: Adjustments, attempt: Attempt, failed: FailedAttempt) -> Adjustments:
    """Return adjustments with which the next layer contains more of what the run needed.

    Raises:
        VerifyError: there is nothing more to add, or the last round has failed.
    """
    grown, refilled_libraries = refilled(adjustments, failed.libraries, attempt.missing_pages)
    if refilled_libraries:
        more = ", ".join(refilled_libraries)
        log.info("a run touched pages that the traced run had not touched; more pages are shipped of %s", more)
        return grown
    if displaced := _copies(attempt.displaced, failed) - adjustments.whole_libraries:
        log.info("shipped whole, because they are loaded from a copy: %s", ", ".join(sorted(displaced)))
        return replace(adjustments, whole_libraries=adjustments.whole_libraries | displaced)
    grown = _add_omitted_parts(adjustments, attempt, failed) or _add_files(adjustments, attempt, failed)
    if grown.rounds + 1 == ROUNDS:
        raise VerifyError(f"after {ROUNDS} rounds of adding files: {attempt.explain()}")
    return replace(grown, rounds=grown.rounds + 1)


def _add_omitted_parts(adjustments: Adjustments, attempt: Attempt, failed: FailedAttempt) -> Adjustments | None:
    """Return adjustments that add docstrings, sources or the whole function, if their absence may be the cause."""
    settings = failed.settings
    if attempt.error and settings.strip_docstrings and not adjustments.with_docstrings.everything:
        return _with_docstrings(adjustments, _named_in(attempt.error, failed))
    if attempt.missed or attempt.succeeded:
        return None
    if attempt.error and settings.bytecode == "auto" and not adjustments.with_source.everything:
        # Code may have read the source of a module.
        code = [d.path for d in failed.plan.kept if d.path.endswith(".py")]
        return _with_source(adjustments, _named_in(attempt.error, failed), code)
    if failed.left_out and not adjustments.whole_function:
        log.warning("the function does not work with only the files that it used: all files of its folder are added")
        return replace(adjustments, whole_function=True)
    return None


def _with_docstrings(adjustments: Adjustments, named: Iterable[str]) -> Adjustments:
    """Keep the docstrings of the packages that a traceback names, or of all if those have them already."""
    had = adjustments.with_docstrings
    more = {modules.top_level(path) for path in named} - had.names
    wanted = replace(had.adding(more), everything=not more)
    which = "all" if wanted.everything else ", ".join(sorted(wanted.names))
    log.warning("the entry does not run without docstrings: those of %s are kept", which)
    return replace(adjustments, with_docstrings=wanted)


def _with_source(adjustments: Adjustments, named: set[str], code: Iterable[str]) -> Adjustments:
    """Keep the source of modules that a traceback names, or of all if those have it already.

    Code that reads one source of a package usually reads others: from the second time on the sources of whole packages
    are added. ``code`` are all Python files of the layer.
    """
    had = adjustments.with_source
    if had.names:
        packages = {modules.top_level(path) for path in named}
        named = named | {path for path in code if modules.top_level(path) in packages}
    return replace(adjustments, with_source=replace(had.adding(named), everything=named <= had.names))


def _named_in(traceback: str, failed: FailedAttempt) -> set[str]:
    """Return the layer's modules that are in a traceback, which names them where the layer lies, or in Lambda."""
    known = {decision.path for decision in failed.plan.kept}
    named = set()
    for file in re.findall(r'"(/[^"]+\.py)"', traceback):
        parts = file.split("/")
        tails = ("/".join(parts[start:]) for start in range(1, len(parts)))
        named |= {path for path in tails if path in known}
    return named


def _add_files(adjustments: Adjustments, attempt: Attempt, failed: FailedAttempt) -> Adjustments:
    """Return adjustments with which the next plan keeps more files.

    Raises:
        VerifyError: there are no more files to keep.
    """
    plan = failed.plan
    present = adjustments.repaired | {d.path for d in plan.kept}
    more = _files_to_add(adjustments, attempt, failed) - present
    if not more and not adjustments.deterministic:
        failed.check_deterministic()
        adjustments = replace(adjustments, deterministic=True)
        more = _used_but_dropped(plan, failed.trace) - present
    if not more:
        size = sum(decision.size for decision in plan.kept)
        if size <= Budget.of(failed.settings).limit and (left := _compacted(failed) - adjustments.whole_libraries):
            log.warning("the entry does not run with compacted libraries: all are shipped whole")
            return replace(adjustments, whole_libraries=adjustments.whole_libraries | left)
        raise VerifyError(attempt.explain() + _excluded_by_options(failed.settings))
    log.info("adding %d files that the run on the layer looked up", len(more))
    log.debug("added:\n  %s", "\n  ".join(sorted(more)))
    return replace(adjustments, repaired=adjustments.repaired | more)


def _files_to_add(adjustments: Adjustments, attempt: Attempt, failed: FailedAttempt) -> frozenset[str]:
    """Return the missed files, what they import, and distributions of which files were already missed before."""
    provided = failed.provided.keys()
    owner = {d.path: d.distribution for d in failed.plan.decisions}
    missed = frozenset(attempt.missed)
    again = {owner[path] for path in adjustments.repaired - provided} & {owner[path] for path in missed - provided}
    whole = {path for path, name in owner.items() if name and name in again and path not in provided}
    return missed | failed.imports(attempt.missed) | whole


def _copies(paths: Iterable[str], failed: FailedAttempt) -> frozenset[str]:
    """Return the compacted libraries with the contents of ``paths``: a layer has one file for several of them."""
    wanted = frozenset(paths)
    return frozenset(path for path in _compacted(failed) if wanted & {path, *failed.libraries[path].copies})


def _compacted(failed: FailedAttempt) -> frozenset[str]:
    """Return the libraries of the layer that lack pages."""
    return frozenset(path for path, library in failed.libraries.items() if library.file is not None)


def _used_but_dropped(plan: KeepPlan, trace: Trace) -> frozenset[str]:
    """Return the dropped files that the traced run used in any way except listing a folder."""
    used = {file.path for file in trace.files if file.uses - {Use.LIST}}
    dropped = (d for d in plan.decisions if d.verdict is Verdict.DROPPED and d.reason not in FINAL_REASONS)
    return frozenset(d.path for d in dropped if d.path in used)


def _excluded_by_options(settings: Settings) -> str:
    """Return a hint at options that exclude files; empty if there are none."""
    names = {"exclude": "exclude", "provided": "provided", "base_layers": "base-layer"}
    options = [f"--{option} {value}" for name, option in names.items() for value in getattr(settings, name)]
    return f"\nNothing is added that these options exclude: {', '.join(options)}" if options else ""
