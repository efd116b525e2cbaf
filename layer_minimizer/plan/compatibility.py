"""Compares what a plan keeps with the runtime of Lambda's that the layer is for."""

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

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from packaging.version import Version

    from layer_minimizer.analysis.elf import Dynamic, VersionNeed
    from layer_minimizer.environment.site import Site
    from layer_minimizer.model.interpreter import Interpreter

_SHOWN = 10


def check_runtime_compatibility(plan: KeepPlan, trace: Trace, site: Site, target: Target | None) -> Requirements:
    """Return the libraries of this machine that the layer must bring because the runtime lacks them, and warnings.

    Raises:
        PackError: the layer would not work in the runtime.
    """
    if target is None:
        return Requirements()
    target = with_libraries(target, site.base.libraries)
    beside = {d.path for d in plan.decisions if d.verdict is not Verdict.DROPPED or d.reason is Reason.PROVIDED}
    loaded = _loaded(trace)
    kept, cold = (
        examine(
            target,
            _libraries(decisions, loaded, site),
            beside.__contains__,
            lambda owner, name: _system_library(owner, name, site),
        )
        for decisions in (plan.kept, plan.cold)
    )
    refuse_violations(target, kept)
    return Requirements(kept.bundled, compatibility_warnings(target, kept, cold))


def _loaded(trace: Trace) -> set[str]:
    """Return the libraries that the traced run made use of."""
    if trace.libraries:
        # More exact: of a library that cannot be loaded, since something is missing, no page is touched.
        return {library.path for library in trace.libraries if library.runs}
    return {file.path for file in trace.files if Use.MAP in file.uses}


def _libraries(decisions: Iterable[Decision], loaded: set[str], site: Site) -> Iterator[CheckedLibrary]:
    """Return the shared libraries and programs among files, with what their headers say."""
    for decision in decisions:
        file = site.files[decision.path]
        if not file.link and (elf.is_elf_name(file.path) or file.executable):
            found = _library(file.path, Path(file.source), file.distribution, loaded=file.path in loaded)
            if found:
                yield found


def _system_library(owner: CheckedLibrary, name: str, site: Site) -> CheckedLibrary | None:
    """Return the library that the loader takes on this machine when ``owner`` needs ``name``."""
    source = site.sources.get(owner.path, Path(owner.path))
    for path in system_libraries.candidates(name, elf.own_folders(source, owner.dynamic)):
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


# What glibc's own libraries need of each other: only those of one build fit together.
_PRIVATE = "GLIBC_PRIVATE"
_TAG = re.compile(r"\.cpython-(?P<version>\d+)(?P<flags>[a-z]*)(?:-[^.]*)?\.so$")
# Extension modules of CPython before 3.8 are named after pymalloc: https://docs.python.org/3/whatsnew/3.8.html
_NO_MORE_FLAGS = (3, 8)


@dataclass(frozen=True, slots=True)
class Target:
    """Where a layer is to work: a runtime on a processor, which ELF headers call ``machine``."""

    runtime: Runtime
    machine: str


@dataclass(frozen=True, slots=True)
class CheckedLibrary:
    """A shared library or program, and what its headers say. ``loaded`` says that the traced run made use of it.

    ``path`` is site-relative for one of the layer's and absolute for one of this machine's.
    """

    path: str
    size: int
    owner: str
    dynamic: Dynamic
    versions: tuple[VersionNeed, ...]
    loaded: bool = True


@dataclass(frozen=True, slots=True)
class Violation:
    """A reason why a library would not work, and what to do. ``needs`` are the versions that are too new.

    ``fatal`` says that the library does work on this machine.
    """

    library: CheckedLibrary
    said: str
    way_out: str = ""
    needs: tuple[tuple[str, Version], ...] = ()
    fatal: bool = True


@dataclass(frozen=True, slots=True)
class Findings:
    """What comes of comparing libraries with a runtime: what breaks its rules, and what must be added to the layer."""

    violations: tuple[Violation, ...] = ()
    bundled: tuple[Bundled, ...] = ()


def choose_target(runtime: str, architecture: str, interpreter: Interpreter) -> Target | None:
    """Return where the layer is to work, or None if the user does not say; it must be what ``interpreter`` is.

    Raises:
        UsageError: there is no such runtime.
        PackError: a layer that is made with ``interpreter`` would not work there.
    """
    if not runtime:
        if architecture:
            raise UsageError(f"--architecture {architecture} says what a runtime runs on: name it with --runtime")
        return None
    if (chosen := load_runtimes().get(runtime)) is None:
        raise UsageError(f"--runtime {runtime}: choose one of {', '.join(load_runtimes())}")
    if interpreter.version[:2] != chosen.python:
        own, other = ("{}.{}".format(*version[:2]) for version in (interpreter.version, chosen.python))
        raise PackError(
            f"--runtime {runtime}: {interpreter.executable} is Python {own}, and compiled code is for one version: "
            f"name a Python {other} that has your packages with --python, or use --runtime python{own}"
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
            f"is for one kind of processor: make the layer on a machine with {architecture}"
        )
    return Target(chosen, machine)


def with_libraries(target: Target, names: frozenset[str]) -> Target:
    """Return a target whose loader finds these libraries, too: a layer beside ours has them in its ``lib`` folder."""
    return replace(target, runtime=replace(target.runtime, provides=target.runtime.provides | names))


# ---- libraries ----------------------------------------------------------------------------------------------------


def examine(
    target: Target,
    libraries: Iterable[CheckedLibrary],
    present: Callable[[str], bool],
    find: Callable[[CheckedLibrary, str], CheckedLibrary | None],
) -> Findings:
    """Compare libraries that go into a layer with the runtime.

    Args:
        target: Where they are to work.
        libraries: Those of the layer.
        present: Says whether a site-relative path will be a file, in this layer or in one beside it.
        find: Gives the library of this machine that one needs by a name.
    """
    known = {library.path: library for library in libraries}
    elsewhere = elf.needed_elsewhere(known, lambda path: known[path].dynamic if path in known else None, present)
    violations = [violation for library in known.values() for violation in _misfits(target, library, known)]
    needed_by: dict[str, str] = {}
    added: dict[str, CheckedLibrary] = {}
    missing: dict[str, tuple[CheckedLibrary, list[str]]] = {}
    # A library that another one has loaded already is found by its name, wherever it lies.
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


def _misfits(target: Target, library: CheckedLibrary, known: Mapping[str, CheckedLibrary]) -> Iterator[Violation]:
    """Tell a library for another processor or another Python."""
    leave = f"leave {library.path} away with --exclude, or install {library.owner or 'it'} for the runtime"
    if library.dynamic.machine != target.machine:
        yield Violation(library, f"is for {library.dynamic.machine}, the runtime runs on {target.machine}", leave)
    tag = _TAG.search(library.path)
    if tag is None:
        return
    major, minor = target.runtime.python
    flags = "" if target.runtime.python >= _NO_MORE_FLAGS else "m"
    if (tag["version"], tag["flags"]) == (f"{major}{minor}", flags):
        return
    # Beside the one for this Python nobody loads it.
    beside = re.compile(rf"{re.escape(library.path[: tag.start()])}\.(?:cpython-{major}{minor}{flags}[-.]|abi3\.|so$)")
    if not any(beside.match(path) for path in known):
        own = f"cpython-{tag['version']}{tag['flags']}"
        yield Violation(library, f"is for {own}, {target.runtime.name} loads cpython-{major}{minor}{flags}", leave)


def _missing(target: Target, owner: CheckedLibrary, names: Iterable[str]) -> Violation:
    listed = ", ".join(names)
    return Violation(
        owner,
        f"needs {listed}: not in the layer, not known to be in {target.runtime.name}, and not found on this machine",
        f"install {listed} on this machine to be put into the layer's lib folder (LD_LIBRARY_PATH may name where it "
        f"is), or leave {owner.path} away with --exclude",
        # What could not be loaded here either is no matter of Lambda's.
        fatal=owner.loaded,
    )


def _too_new(target: Target, library: CheckedLibrary, needs: Iterable[VersionNeed]) -> Iterator[Violation]:
    """Tell which versions a library needs that the runtime does not have, the newest of each family first."""
    if library.path.startswith("/") and any(need.version == _PRIVATE for need in needs):
        yield Violation(
            library,
            "is a part of this machine's C library and works with no other, so that it cannot go into the layer",
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


# ---- words --------------------------------------------------------------------------------------------------------


def refuse_violations(target: Target, findings: Findings) -> None:
    """Refuse a layer with libraries that work on this machine and would not work in Lambda.

    Raises:
        PackError: there are some; the text lists the largest, and what to do.
    """
    fatal = sorted((each for each in findings.violations if each.fatal), key=lambda each: -each.library.size)
    if not fatal:
        return
    runtime = target.runtime
    listed = [f"  {each.library.path} {each.said}" for each in fatal[:_SHOWN]]
    if len(fatal) > _SHOWN:
        listed.append(f"  and {len(fatal) - _SHOWN} more")
    ways = dict.fromkeys([*_other_runtimes(target, fatal), *(each.way_out for each in fatal[:_SHOWN] if each.way_out)])
    raise PackError(
        f"the layer would not work in {runtime.name} ({runtime.system}, {target.machine}):\n"
        + "\n".join(listed)
        + f"\nWhat to do: {'; '.join(ways)}"
    )


def _other_runtimes(target: Target, violations: Iterable[Violation]) -> Iterator[str]:
    """Say what to do about versions that are too new: another runtime that has them all, or older packages."""
    own = [each for each in violations if each.needs]
    if not own:
        return
    highest: dict[str, Version] = {}
    for family, number in (need for each in own for need in each.needs):
        highest[family] = max(number, highest.get(family, number))
    enough = [
        runtime
        for runtime in load_runtimes().values()
        if all(runtime.versions[family] >= number for family, number in highest.items())
    ]
    if enough:
        oldest = min(enough, key=lambda runtime: runtime.python)
        has = ", ".join(_has(oldest, family) for family in sorted(highest))
        yield f"use a Python {'.'.join(map(str, oldest.python))} and --runtime {oldest.name}, which has {has}"
    else:
        yield "there is no runtime that has this"
    sizes: Counter[str] = Counter()
    for each in own:
        sizes[each.library.owner] += each.library.size
    packages = [name for name, _ in sizes.most_common(_SHOWN) if name]
    if packages:
        glibc = "_".join(map(str, target.runtime.versions["GLIBC"].release))
        yield f"or install older versions of {', '.join(packages)}, or builds for manylinux_{glibc} and older"
    if any(not each.library.owner for each in own):
        yield f"or build the layer on {target.runtime.system}, whose own libraries fit"


def compatibility_warnings(target: Target, kept: Findings, cold: Findings) -> tuple[str, ...]:
    """Say what no event needed and what other inputs could fail for.

    ``cold`` is what the libraries in the cold store come to.
    """
    minor = [f"{each.library.path} {each.said}" for each in kept.violations if not each.fatal]
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
