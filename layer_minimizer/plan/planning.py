"""Make a plan from a trace and an environment: call the planner with the analyses that it needs."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from layer_minimizer.analysis import imports
from layer_minimizer.model import modules
from layer_minimizer.model.adjustments import Adjustments
from layer_minimizer.model.plan import FINAL_REASONS, Cold, KeepPlan, NotExercised, Reason, Verdict
from layer_minimizer.model.trace import read_libraries
from layer_minimizer.plan import development_files, planner
from layer_minimizer.plan.planner import Analyses, PlanRequest
from layer_minimizer.plan.references import DistributionReferences, own_code
from layer_minimizer.plan.requirements import marker_environment

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from layer_minimizer.environment.site import Site
    from layer_minimizer.model.traced import Traced
    from layer_minimizer.plan.draft import Draft
    from layer_minimizer.settings import Settings

    Modules = dict[str, tuple[Path, bool]]

# Reasons to keep a module that did not run: the trace does not show what it imports.
_UNTRACED = (Reason.PICKLED, Reason.INCLUDED)


def make_plan(traced: Traced, site: Site, settings: Settings, adjustments: Adjustments) -> KeepPlan:
    """Return the plan: a verdict for every installed file.

    Raises:
        PlanError: a name that the user gave matches nothing, the run uses no installed file, or a file is unreadable.
    """
    keeps_cold = settings.cold is not Cold.DROP
    request = PlanRequest(
        include=settings.include,
        exclude=settings.exclude,
        provided=settings.provided,
        keep=settings.keep,
        cold=keeps_cold,
        repaired=adjustments.repaired,
        base_files=site.base.provided,
        copies=site.copies,
        imported_tests=_imported_tests(site) if keeps_cold else frozenset(),
        licenses=settings.licenses == "keep",
        gpu=site.for_gpu(settings.gpu),
    )

    def references(draft: Draft) -> dict[str, str]:
        loaded = frozenset((*draft.kept, *draft.stand_ins, *draft.asleep))
        named = _references(traced, site, draft.used_distributions(), loaded)
        return {name: by for name, by in named.items() if name not in adjustments.omitted_distributions}

    return planner.plan(
        traced.trace,
        site.inventory,
        request,
        pickled=traced.pickled,
        library_needs=site.library_closure,
        analyses=Analyses(
            references=references if keeps_cold else None,
            companions=lambda draft: _companions(draft, site),
            static=(lambda draft: _static(draft, site)) if settings.closure == "static" else None,
        ),
    )


def first_adjustments(traced: Traced, site: Site, settings: Settings) -> Adjustments:
    """Return what is known before the first attempt.

    A library that Python code reads as a file, to copy it or to compute its checksum, has to be the original.
    """
    read = read_libraries(traced.trace)
    originals = {site.copies.get(path, path) for path in read}
    copies = {path for path, original in site.copies.items() if original in originals}
    return Adjustments(
        whole_libraries=frozenset(read | originals | copies), density=100 if settings.prefers_small else 0
    )


def installed_modules(paths: Iterable[str], site: Site) -> Modules:
    """Return the modules among installed files by name, each with its file and whether it is a package."""
    sources = site.sources
    return {name: (sources[path], modules.is_package(path)) for name, path in modules.by_name(paths).items()}


def available_modules(plan: KeepPlan, site: Site) -> Modules:
    """Return the installed modules that a plan may keep: all but those that were dropped for a final reason."""
    return installed_modules((d.path for d in plan.decisions if d.reason not in FINAL_REASONS), site)


def not_exercised(plan: KeepPlan, site: Site) -> tuple[NotExercised, ...]:
    """Return the modules that kept code could import and that are not kept."""
    kept = installed_modules((d.path for d in plan.decisions if d.verdict is Verdict.KEPT), site)
    source = {name: file for name, file in kept.items() if file[0].suffix == ".py"}
    return imports.not_exercised(imports.scan(source), available_modules(plan, site), kept)


# Cached: most attempts use the same distributions as the previous one.
@lru_cache(maxsize=4)
def _references(traced: Traced, site: Site, used: frozenset[str], kept: frozenset[str]) -> Mapping[str, str]:
    """Return the unused distributions that code in the layer refers to, each with the evidence."""
    own = own_code(traced.trace, site.interpreter.avoid)
    return _all_references(site).referenced_distributions(used, own, kept)


@lru_cache(maxsize=1)
def _all_references(site: Site) -> DistributionReferences:
    return DistributionReferences.of(site.inventory, marker_environment(site.interpreter))


@lru_cache(maxsize=1)
def _imported_tests(site: Site) -> frozenset[str]:
    """Return the test folders whose ``__init__.py`` imports a test module: a program that imports it needs them."""
    inits = [file for file in site.inventory.files if file.size and file.path.endswith("/__init__.py")]
    tests = [file for file in inits if development_files.outer_test_folder(file.path)]
    names = {modules.module_name(file.path): (site.sources[file.path], True) for file in tests}
    found = imports.scan({name: source for name, source in names.items() if name})
    available = modules.by_name(file.path for file in site.inventory.files)
    return frozenset(
        development_files.outer_test_folder(available[target])
        for statement in found
        for target in (() if statement.function else imports.targets(statement, available))
        if target.startswith(f"{statement.importer}.")
        and development_files.is_test_module(available[target].rpartition("/")[2])
    ) - {""}


def _companions(draft: Draft, site: Site) -> tuple[str, ...]:
    """Return the modules that are imported by kept modules which did not run: the trace does not show these imports."""
    traced: set[str] = set()
    untraced: set[str] = set()
    for path, why in draft.kept.items():
        if name := modules.module_name(path):
            (untraced if why.reason in _UNTRACED else traced).add(name)
    if not untraced:
        return ()
    installed = installed_modules(draft.available(), site)
    available = {name: file for name, file in installed.items() if name not in traced}
    return imports.closure(sorted(untraced), available, _needed_to_run)


def _static(draft: Draft, site: Site) -> tuple[str, ...]:
    """Return all modules that kept modules could import."""
    kept = installed_modules(draft.kept, site)
    return imports.closure(sorted(kept), installed_modules(draft.available(), site))


def _needed_to_run(statement: imports.ImportStatement) -> bool:
    """Return whether a used module will execute an import: on import, or later for a module of its own package."""
    own = statement.name.split(".")[0] == statement.importer.split(".")[0]
    return not statement.conditional and (own or not statement.function)


def imported_files(plan: KeepPlan, site: Site, paths: Iterable[str]) -> frozenset[str]:
    """Return the files of all modules that modules among ``paths`` could import and that the plan may keep."""
    available = available_modules(plan, site)
    names = [name for path in paths if (name := modules.module_name(path)) in available]
    if not names:
        return frozenset()
    files = {file: path for path, file in site.sources.items()}
    return frozenset(files[available[name][0]] for name in imports.closure(names, available))
