"""Check that distributions which a Lambda runtime brings, too, come together: all that fit one another, or none."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from layer_minimizer.core.errors import PackError
from layer_minimizer.model.outcome import RuntimeDistributions
from layer_minimizer.model.plan import KeepPlan, Reason, Verdict
from layer_minimizer.plan.draft import in_metadata
from layer_minimizer.plan.requirements import applying, marker_environment, parsed_requirements

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping

    from packaging.requirements import Requirement
    from packaging.specifiers import SpecifierSet

    from layer_minimizer.aws.runtimes import Runtime
    from layer_minimizer.environment.site import Site
    from layer_minimizer.model.installed import Distribution
    from layer_minimizer.model.trace import Trace


@dataclass(frozen=True, slots=True)
class Findings:
    """Where the distributions come from that the runtime brings, if it brings any, and what may fail because of it."""

    places: RuntimeDistributions | None = None
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Need:
    """One distribution of the runtime requires another one.

    Attributes:
        by: the one that requires.
        name: the one that is required.
        text: the requirement.
        fits: whether the installed version of the required one is allowed.
        narrow: whether the next minor version would not be allowed.
    """

    by: str
    name: str
    text: str
    fits: bool
    narrow: bool


def check_brought(runtime: Runtime, plan: KeepPlan, trace: Trace, site: Site) -> Findings:
    """Return where the distributions come from that the runtime brings, and warnings.

    Raises:
        PackError: one that the run used comes from the layer, and one that it needs in a certain version does not.
    """
    if not runtime.distributions:
        return Findings()
    installed = {each.name: each for each in site.inventory.distributions if each.name in runtime.distributions}
    owners = {decision.path: decision.distribution for decision in plan.decisions}
    imported = {*(m.path for m in trace.modules), *(m.path for m in trace.stand_ins), *(m.path for m in trace.asleep)}
    used = {owners[path] for path in imported & owners.keys()}
    layer = _in_layers(plan, site.base.provided) & runtime.distributions.keys()
    needs = tuple(_needs(runtime, installed, marker_environment(site.interpreter)))
    apart = [need for need in needs if (need.by in layer) != (need.name in layer)]
    broken = [need for need in apart if need.narrow and {need.by, need.name} <= used]
    if broken:
        raise PackError(_refusal(runtime, broken[0], layer, needs, installed))
    warnings = [text for need in apart if (text := _warning(runtime, need, layer, installed, used))]
    places = RuntimeDistributions(
        runtime.name, tuple(sorted(layer)), tuple(sorted(runtime.distributions.keys() - layer))
    )
    return Findings(places, tuple(dict.fromkeys(warnings)))


def _in_layers(plan: KeepPlan, base: Collection[str]) -> set[str]:
    """Return the distributions with code in the layer or in a base layer."""
    return {
        each.distribution
        for each in plan.decisions
        if not in_metadata(each.path)
        and each.reason is not Reason.LICENSE
        and (each.verdict is not Verdict.DROPPED or (each.reason is Reason.PROVIDED and each.path in base))
    }


def _needs(runtime: Runtime, installed: Mapping[str, Distribution], environment: Mapping[str, str]) -> Iterator[_Need]:
    """Yield what the distributions of a runtime require of each other: as installed, or else as is known of them."""
    for name, known in runtime.distributions.items():
        own = installed.get(name)
        for requirement in applying(parsed_requirements(own.requires if own else known.ranges), environment):
            required: str = canonicalize_name(requirement.name)
            if required in runtime.distributions:
                yield _need(name, requirement, installed.get(required))
        for required in () if own else known.narrow:
            yield _Need(name, required, f"{required} of one version", fits=False, narrow=True)


def _need(by: str, requirement: Requirement, required: Distribution | None) -> _Need:
    allowed = requirement.specifier
    try:
        version = Version(required.version) if required else None
    except InvalidVersion:
        version = None
    narrow = version is not None and not _allows(allowed, f"{version.major}.{version.minor + 1}")
    fits = version is None or allowed.contains(version, prereleases=True)
    name = canonicalize_name(requirement.name)
    return _Need(by, name, f"{requirement.name}{allowed}", fits=fits, narrow=narrow)


def _allows(allowed: SpecifierSet, version: str) -> bool:
    return allowed.contains(version, prereleases=True)


# ---- messages -------------------------------------------------------------------------------------------------------


def _warning(
    runtime: Runtime,
    need: _Need,
    layer: Collection[str],
    installed: Mapping[str, Distribution],
    used: Collection[str],
) -> str:
    """Return what may fail if two distributions come from different places, or an empty string."""
    if need.by in layer:
        # Without it, the run on the layer shows nothing: it had the installed one.
        if need.name not in installed or not (need.narrow or need.name in used):
            return ""
        return (
            f"{_named(need.by, installed)} in the layer takes {need.name} from {runtime.name}, whose version AWS "
            f"changes, and needs {need.text}: put both into the layer, or neither"
        )
    if need.fits and not need.narrow:
        return ""
    return (
        f"{_named(need.name, installed)} in the layer comes before that of {runtime.name}, whose own {need.by} needs "
        f"{need.text}: importing {need.by} may fail; put {need.by} into the layer, too, or leave {need.name} out of it"
    )


def _refusal(
    runtime: Runtime,
    need: _Need,
    layer: Collection[str],
    needs: Iterable[_Need],
    installed: Mapping[str, Distribution],
) -> str:
    inside, outside = (need.by, need.name) if need.by in layer else (need.name, need.by)
    chain = sorted(_fitting(need.by, needs) & installed.keys())
    return (
        f"--runtime {runtime.name}: {_named(inside, installed)} is in the layer and {outside} is not, so that "
        f"{outside} comes from the runtime, in a version that AWS chooses; but {need.by} needs {need.text}.\n"
        f"What to do: have all of {', '.join(chain)} in the layer, without --provided and --exclude for them, or none: "
        f"--provided {' '.join(chain)}. If another layer of the function has {outside}, name it with --base-layer"
    )


def _fitting(name: str, needs: Iterable[_Need]) -> set[str]:
    """Return the distributions that have to be of versions that fit that of ``name``, directly or not."""
    linked: defaultdict[str, set[str]] = defaultdict(set)
    for need in needs:
        if need.narrow:
            linked[need.by].add(need.name)
            linked[need.name].add(need.by)
    found, todo = {name}, [name]
    while todo:
        new = linked[todo.pop()] - found
        found |= new
        todo += new
    return found


def _named(name: str, installed: Mapping[str, Distribution]) -> str:
    return f"{name} {installed[name].version}" if name in installed else name
