"""Check that a lock has what the project's pyproject.toml asks for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from layer_minimizer.core.errors import UsageError
from layer_minimizer.environment.locked_packages import read_locked
from layer_minimizer.environment.package_source import PYPROJECT, RELOCK, SourceKind

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from layer_minimizer.environment.locked_packages import LockedPackage
    from layer_minimizer.environment.package_source import PackageSource


def read_fitting(source: PackageSource) -> list[LockedPackage]:
    """Return the packages that are chosen from a lock of poetry, PDM or PEP 751, which fits its project.

    A ``pylock.NAME.toml`` may be for anything: it is not compared.

    Raises:
        UsageError: the lock is not valid, does not fit the project, or has no such group or extra.
    """
    packages = read_locked(source)
    if source.kind is not SourceKind.PYLOCK or source.file.name == SourceKind.PYLOCK:
        require_fit(source, packages)
    return packages


def require_fit(source: PackageSource, packages: Iterable[LockedPackage]) -> None:
    """Check that the packages of a lock are what the project asks for.

    The digests of their inputs that locks contain are computed differently from version to version of their tools, so
    the requirements are compared. uv does it by itself.

    Raises:
        UsageError: a requirement is missing in the lock, or its version is another one.
    """
    locked: dict[str, list[str]] = {}
    for each in packages:
        locked.setdefault(each.name, []).append(each.version)
    for requirement in requirements(source.pyproject(), source.groups, source.extras):
        problem = _problem(requirement, locked)
        if problem:
            raise UsageError(
                f"{source.option} does not fit {source.folder / PYPROJECT}, which asks for {requirement}: {problem}; "
                f"run {RELOCK[source.kind]}"
            )


def require_python(source: PackageSource, version: tuple[int, int, int]) -> None:
    """Check that the project can be used with this Python.

    Raises:
        UsageError: its ``requires-python`` excludes it.
    """
    if not allows_python(source.pyproject(), version):
        raise UsageError(
            f"{source.option}: {source.folder / PYPROJECT} has requires-python = "
            f"{source.pyproject()['project']['requires-python']!r}, and the Python is {'.'.join(map(str, version))}; "
            "name another one with --python-version"
        )


def allows_python(pyproject: dict[str, Any], version: tuple[int, int, int]) -> bool:
    """Return whether a project's ``requires-python`` allows a version of Python."""
    try:
        required = SpecifierSet(pyproject.get("project", {}).get("requires-python", ""))
    except InvalidSpecifier:
        return True  # its own tools say so
    return required.contains(Version(".".join(map(str, version))))


def requirements(
    pyproject: dict[str, Any], groups: Iterable[str] = (), extras: Iterable[str] = ()
) -> Iterator[Requirement]:
    """Yield the requirements of a project that hold everywhere, with those of groups and extras."""
    project, poetry = pyproject.get("project", {}), pyproject.get("tool", {}).get("poetry", {})
    listed = list(project.get("dependencies", []))
    for extra in extras:
        listed += _named(project.get("optional-dependencies", {}), extra) or []
    for group in groups:
        listed += _in_group(pyproject.get("dependency-groups", {}), group, ())
    own = canonicalize_name(project.get("name", poetry.get("name", "")))
    for text in listed:
        try:
            requirement = Requirement(text)
        except InvalidRequirement:
            continue  # the tool that made the lock has a notation of its own for it
        if requirement.marker is None and canonicalize_name(requirement.name) != own:
            yield requirement
    tables = [poetry.get("dependencies", {})]
    tables += [(_named(poetry.get("group", {}), group) or {}).get("dependencies", {}) for group in groups]
    for table in tables:
        for name, value in table.items():
            # Constraints such as ^1.2 are poetry's own, and only the name is compared.
            conditional = isinstance(value, list) or (
                isinstance(value, dict) and value.keys() & {"optional", "markers", "python", "platform"}
            )
            if name != "python" and not conditional:
                yield Requirement(name)


def _named(table: dict[str, Any], name: str) -> Any:
    """Return the value of a name that may be written differently."""
    return next((value for key, value in table.items() if canonicalize_name(key) == canonicalize_name(name)), None)


def _in_group(groups: dict[str, Any], name: str, outer: tuple[str, ...]) -> Iterator[str]:
    """Yield the requirements of a dependency group, with those of the groups that it includes (PEP 735)."""
    for each in _named(groups, name) or []:
        if isinstance(each, str):
            yield each
        elif (included := each.get("include-group", "")) and included not in outer:
            yield from _in_group(groups, included, (*outer, name))


def _problem(requirement: Requirement, locked: dict[str, list[str]]) -> str:
    versions = locked.get(canonicalize_name(requirement.name))
    if versions is None:
        return "the lock does not have it"
    if requirement.url or not requirement.specifier:
        return ""
    for version in versions:
        try:
            if not version or requirement.specifier.contains(Version(version), prereleases=True):
                return ""
        except InvalidVersion:
            return ""
    return f"the lock has {' and '.join(versions)}"
