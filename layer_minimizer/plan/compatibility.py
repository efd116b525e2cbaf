"""Check that the libraries which a plan keeps work in the Lambda runtime that the layer is for."""

from __future__ import annotations

import re
from collections import Counter, deque
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from layer_minimizer.analysis import elf
from layer_minimizer.aws.runtimes import ARCHITECTURES, Runtime, load_runtimes
from layer_minimizer.core.errors import PackError, UsageError
from layer_minimizer.environment import system_libraries
from layer_minimizer.model.outcome import Bundled, Requirements
from layer_minimizer.model.plan import Decision, KeepPlan, Reason, Verdict
from layer_minimizer.model.trace import Trace, Use
from layer_minimizer.plan.runtime_distributions import check_brought

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from packaging.version import Version

    from layer_minimizer.analysis.elf import Dynamic, VersionRequirement
    from layer_minimizer.environment.site import Site
    from layer_minimizer.model.interpreter import Interpreter

_SHOWN = 10


def check_runtime_compatibility(plan: KeepPlan, trace: Trace, site: Site, target: Target | None) -> Requirements:
    """Return the libraries of this machine that must be bundled because the runtime lacks them, and warnings.

    Raises:
        PackError: the layer would not work in the runtime.
    """
    if target is None:
        return Requirements()
    target = with_libraries(target, site.base.libraries)
    available = {d.path for d in plan.decisions if d.verdict is not Verdict.DROPPED or d.reason is Reason.PROVIDED}
    loaded = _loaded(trace)
    kept, cold = (
        check_libraries(
            target,
            _libraries(decisions, loaded, site),
            available.__contains__,
            lambda owner, name: _system_library(owner, name, site),
        )
        for decisions in (plan.kept, plan.cold)
    )
    refuse_violations(target, kept)
    brought = check_brought(target.runtime, plan, trace, site)
    warnings = (*compatibility_warnings(target, kept, cold), *brought.warnings)
    return Requirements(kept.bundled, warnings, brought.places)


def _loaded(trace: Trace) -> set[str]:
    """Return the libraries that the traced run loaded."""
    if trace.libraries:
        # A mapped library may have failed to load; its pages are touched only if it was loaded.
        return {library.path for library in trace.libraries if library.runs}
    return {file.path for file in trace.files if Use.MAP in file.uses}


def _libraries(decisions: Iterable[Decision], loaded: set[str], site: Site) -> Iterator[CheckedLibrary]:
    """Yield the shared libraries and programs among files, with the contents of their ELF headers."""
    for decision in decisions:
        file = site.files[decision.path]
        if not file.link and (elf.is_elf_name(file.path) or file.executable):
            found = _library(file.path, Path(file.source), file.distribution, loaded=file.path in loaded)
            if found:
                yield found


def _system_library(owner: CheckedLibrary, name: str, site: Site) -> CheckedLibrary | None:
    """Return the library that the loader takes on this machine when ``owner`` needs ``name``."""
    source = site.sources.get(owner.path, Path(owner.path))
    for path in system_libraries.candidates(name, elf.search_folders(source, owner.dynamic)):
        found = _library(str(path), path)
        if found and found.dynamic.machine == owner.dynamic.machine:
            return found
    return None


def _library(path: str, source: Path, distribution: str = "", *, loaded: bool = True) -> CheckedLibrary | None:
    dynamic = elf.read_dynamic(source)
    if dynamic is None:
        return None
    size = source.stat().st_size
    return CheckedLibrary(path, size, distribution, dynamic, elf.read_versions(source), loaded)


# The version of symbols that glibc's libraries use among themselves: all of them must be of the same build.
_PRIVATE = "GLIBC_PRIVATE"
_TAG = re.compile(r"\.cpython-(?P<version>\d+)(?P<flags>[a-z]*)(?:-[^.]*)?\.so$")
# Extension modules of CPython before 3.8 are named after pymalloc: https://docs.python.org/3/whatsnew/3.8.html
_WITHOUT_FLAGS = (3, 8)


@dataclass(frozen=True, slots=True)
class Target:
    """The platform that a layer is for: a Lambda runtime, the processor (``machine`` in ELF headers) and the Python."""

    runtime: Runtime
    machine: str
    python: tuple[int, int]


@dataclass(frozen=True, slots=True)
class CheckedLibrary:
    """A shared library or program with the contents of its ELF headers.

    Attributes:
        path: site-relative for a library of the layer, absolute for one of this machine.
        size: in bytes.
        owner: the distribution that it belongs to, or an empty string.
        dynamic: its dynamic section.
        versions: the symbol versions that it needs.
        loaded: whether the traced run loaded it.
    """

    path: str
    size: int
    owner: str
    dynamic: Dynamic
    versions: tuple[VersionRequirement, ...]
    loaded: bool = True


@dataclass(frozen=True, slots=True)
class Violation:
    """A reason why a library would not work in the runtime.

    Attributes:
        library: the library.
        problem: what is wrong, as the predicate of a sentence about the library.
        remedy: what to do, or an empty string.
        needs: the versions that are too new for the runtime, as pairs (family, version).
        fatal: whether the library works on this machine, so that the layer would be worse.
    """

    library: CheckedLibrary
    problem: str
    remedy: str = ""
    needs: tuple[tuple[str, Version], ...] = ()
    fatal: bool = True


@dataclass(frozen=True, slots=True)
class Findings:
    """The result of a check: what would not work in the runtime, and what must be bundled into the layer."""

    violations: tuple[Violation, ...] = ()
    bundled: tuple[Bundled, ...] = ()


def choose_target(runtime: str, architecture: str, interpreter: Interpreter) -> Target | None:
    """Return the platform that the layer is for, or None without ``runtime``; it must match ``interpreter``.

    Raises:
        UsageError: the runtime is unknown, or an architecture is given without a runtime.
        PackError: a layer that is made with ``interpreter`` would not work in the runtime.
    """
    if not runtime:
        if architecture:
            raise UsageError(f"--architecture {architecture} applies only to a runtime: name it with --runtime")
        return None
    if (chosen := load_runtimes().get(runtime)) is None:
        raise UsageError(f"--runtime {runtime}: choose one of {', '.join(load_runtimes())}")
    python = (interpreter.version[0], interpreter.version[1])
    if chosen.python and python != chosen.python:
        own, other = ("{}.{}".format(*version[:2]) for version in (python, chosen.python))
        raise PackError(
            f"--runtime {runtime}: {interpreter.executable} is Python {own}, and compiled code works "
            f"with one version only: name a Python {other} that has your packages with --python, or use "
            f"--runtime python{own}"
        )
    machine = ARCHITECTURES[architecture] if architecture else interpreter.machine
    known = {machine: name for name, machine in ARCHITECTURES.items()}
    if known.get(machine) not in chosen.architectures:
        raise PackError(
            f"--runtime {runtime} runs on {' and '.join(chosen.architectures)}, not on {known.get(machine, machine)}"
        )
    if machine != interpreter.machine:
        raise PackError(
            f"--architecture {architecture}: {interpreter.executable} runs on {interpreter.machine}, and compiled code "
            f"works with one kind of processor only: make the layer on a machine with {architecture}"
        )
    return Target(chosen, machine, python)


def with_libraries(target: Target, names: frozenset[str]) -> Target:
    """Return a target that also provides these libraries: base layers have them in their ``lib`` folders."""
    return replace(target, runtime=replace(target.runtime, provides=target.runtime.provides | names))


# ---- libraries ----------------------------------------------------------------------------------------------------


def check_libraries(
    target: Target,
    libraries: Iterable[CheckedLibrary],
    present: Callable[[str], bool],
    find: Callable[[CheckedLibrary, str], CheckedLibrary | None],
) -> Findings:
    """Check libraries that go into a layer against the runtime.

    Args:
        target: the platform that the layer is for.
        libraries: the libraries of the layer.
        present: returns whether a site-relative path will exist, in this layer or in a base layer.
        find: returns the library of this machine that another one needs by a name, or None.
    """
    known = {library.path: library for library in libraries}
    elsewhere = elf.unresolved_names(known, lambda path: known[path].dynamic if path in known else None, present)
    violations = [violation for library in known.values() for violation in _other_platform(target, library, known)]
    needed_by: dict[str, str] = {}
    added: dict[str, CheckedLibrary] = {}
    missing: dict[str, tuple[CheckedLibrary, list[str]]] = {}
    # The loader finds a library by its name, in any folder, if another library has loaded it already.
    names = {name for library in known.values() for name in (library.dynamic.soname, library.path.rpartition("/")[2])}
    waiting = deque((known[path], name) for path in sorted(elsewhere) for name in elsewhere[path])
    while waiting:
        owner, name = waiting.popleft()
        if name in target.runtime.provides or name in added:
            continue
        if found := find(owner, name):
            added[name], needed_by[name] = found, owner.path
            waiting.extend((found, other) for other in found.dynamic.needed)
        elif name not in names:
            missing.setdefault(owner.path, (owner, []))[1].append(name)
    violations += [_missing(target, owner, absent) for owner, absent in missing.values()]
    for library in known.values():
        outside = set(elsewhere.get(library.path, ()))
        violations += _too_new(target, library, [need for need in library.versions if need.library in outside])
    for library in added.values():
        violations += _too_new(target, library, library.versions)
    bundled = [Bundled(name, library.path, needed_by[name], library.size) for name, library in sorted(added.items())]
    return Findings(tuple(violations), tuple(bundled))


def _other_platform(
    target: Target, library: CheckedLibrary, known: Mapping[str, CheckedLibrary]
) -> Iterator[Violation]:
    """Yield the problem if a library is for another processor or another Python."""
    remedy = f"exclude {library.path} with --exclude, or install {library.owner or 'it'} for the runtime"
    if library.dynamic.machine != target.machine:
        yield Violation(library, f"is for {library.dynamic.machine}, the runtime runs on {target.machine}", remedy)
    tag = _TAG.search(library.path)
    if tag is None:
        return
    major, minor = target.python
    flags = "" if target.python >= _WITHOUT_FLAGS else "m"
    if (tag["version"], tag["flags"]) == (f"{major}{minor}", flags):
        return
    # If there is also one for this Python, the other one is not loaded.
    matching = re.compile(
        rf"{re.escape(library.path[: tag.start()])}\.(?:cpython-{major}{minor}{flags}[-.]|abi3\.|so$)"
    )
    if not any(matching.match(path) for path in known):
        own = f"cpython-{tag['version']}{tag['flags']}"
        yield Violation(library, f"is for {own}, {target.runtime.name} loads cpython-{major}{minor}{flags}", remedy)


def _missing(target: Target, owner: CheckedLibrary, names: Iterable[str]) -> Violation:
    listed = ", ".join(names)
    return Violation(
        owner,
        f"needs {listed}: not in the layer, not known to be in {target.runtime.name}, and not found on this machine",
        f"install {listed} on this machine to be put into the layer's lib folder (LD_LIBRARY_PATH may name where it "
        f"is), or exclude {owner.path} with --exclude",
        # If it was not loaded on this machine either, the layer is not worse.
        fatal=owner.loaded,
    )


def _too_new(target: Target, library: CheckedLibrary, needs: Iterable[VersionRequirement]) -> Iterator[Violation]:
    """Yield the problem if a library needs versions that the runtime lacks; the newest versions come first."""
    if library.path.startswith("/") and any(need.version == _PRIVATE for need in needs):
        yield Violation(
            library,
            "is a part of this machine's C library, works with no other one, and cannot be bundled into the layer",
            f"build the layer on {target.runtime.system}",
        )
        return
    wanted = [(*required, need) for need in needs if (required := elf.required_version(need.version))]
    newer = [each for each in wanted if each[1] > target.runtime.versions[each[0]]]
    if not newer:
        return
    symbols: dict[str, str] = {}
    for _, _, need in sorted(newer, key=lambda each: each[1], reverse=True):
        symbols.setdefault(need.version, f" ({need.symbol})" if need.symbol else "")
    listed = ", ".join(f"{version}{symbol}" for version, symbol in symbols.items())
    has = ", ".join(_has(target.runtime, family) for family in sorted({family for family, _, _ in newer}))
    yield Violation(
        library, f"needs {listed}; {target.runtime.name} has {has}", needs=tuple(each[:2] for each in newer)
    )


def _has(runtime: Runtime, family: str) -> str:
    return f"{family}_{runtime.versions[family]}"


# ---- messages --------------------------------------------------------------------------------------------------------


def refuse_violations(target: Target, findings: Findings) -> None:
    """Raise an error for libraries that work on this machine and would not work in Lambda.

    Raises:
        PackError: there are such libraries; the message lists the largest ones and what to do.
    """
    fatal = sorted((each for each in findings.violations if each.fatal), key=lambda each: -each.library.size)
    if not fatal:
        return
    runtime = target.runtime
    listed = [f"  {each.library.path} {each.problem}" for each in fatal[:_SHOWN]]
    if len(fatal) > _SHOWN:
        listed.append(f"  and {len(fatal) - _SHOWN} more")
    remedies = dict.fromkeys(
        [*_other_runtimes(target, fatal), *(each.remedy for each in fatal[:_SHOWN] if each.remedy)]
    )
    raise PackError(
        f"the layer would not work in {runtime.name} ({runtime.system}, {target.machine}):\n"
        + "\n".join(listed)
        + f"\nWhat to do: {'; '.join(remedies)}"
    )


def _other_runtimes(target: Target, violations: Iterable[Violation]) -> Iterator[str]:
    """Yield what to do about versions that are too new: use another runtime, or older packages."""
    own = [each for each in violations if each.needs]
    if not own:
        return
    highest: dict[str, Version] = {}
    for family, number in (need for each in own for need in each.needs):
        highest[family] = max(number, highest.get(family, number))
    enough = [
        (runtime.python, runtime)
        for runtime in load_runtimes().values()
        if runtime.python and all(runtime.versions[family] >= number for family, number in highest.items())
    ]
    if enough:
        python, oldest = min(enough, key=lambda found: found[0])
        has = ", ".join(_has(oldest, family) for family in sorted(highest))
        yield f"use a Python {'.'.join(map(str, python))} and --runtime {oldest.name}, which has {has}"
    else:
        yield "no Lambda runtime has these versions"
    sizes: Counter[str] = Counter()
    for each in own:
        sizes[each.library.owner] += each.library.size
    packages = [name for name, _ in sizes.most_common(_SHOWN) if name]
    if packages:
        glibc = "_".join(map(str, target.runtime.versions["GLIBC"].release))
        yield f"or install older versions of {', '.join(packages)}, or builds for manylinux_{glibc} and older"
    if any(not each.library.owner for each in own):
        yield f"or build the layer on {target.runtime.system}, whose system libraries fit"


def compatibility_warnings(target: Target, kept: Findings, cold: Findings) -> tuple[str, ...]:
    """Return warnings about libraries that the events did not need but other inputs may.

    ``kept`` are the findings for the kept libraries, ``cold`` those for the libraries in the cold store.
    """
    minor = [f"{each.library.path} {each.problem}" for each in kept.violations if not each.fatal]
    bundled = {each.name for each in kept.bundled}
    doubtful = {each.library.path for each in cold.violations}
    doubtful |= {each.needed_by for each in cold.bundled if each.name not in bundled}
    if doubtful:
        listed = ", ".join(sorted(doubtful)[:3])
        minor.append(
            f"{len(doubtful)} libraries that no event touched ask for more than {target.runtime.name} has, and would "
            f"fail if another input needed them: {listed}"
        )
    return tuple(minor)
