"""Read the packages of a lock of poetry, PDM or PEP 751, as lines of a requirements file with hashes."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from packaging.pylock import Package, Pylock, PylockUnsupportedVersionError, PylockValidationError
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from layer_minimizer.core.errors import UsageError
from layer_minimizer.core.option_kinds import did_you_mean
from layer_minimizer.environment.package_source import RELOCK, SourceKind

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from layer_minimizer.environment.package_source import PackageSource

# Markers that are true and false everywhere.
_TRUE, _FALSE = "python_version >= '0'", "python_version < '0'"
# `'images' in extras` of PEP 751, and `extra == "images"` of poetry.
_CHOICE = re.compile(
    r"""(?P<quote>['"])(?P<member>[\w.-]+)(?P=quote)\s+(?P<negated>not\s+)?in\s+(?P<of>extras|dependency_groups)"""
    r"""|extra\s*(?P<compared>==|!=)\s*['"](?P<extra>[\w.-]+)['"]"""
)
# Poetry's first lock that says for each package in which groups it is: https://python-poetry.org/blog/
_POETRY_WITH_GROUPS = Version("2.1")
_PYPI = "https://pypi.org/simple"


@dataclass(frozen=True, slots=True)
class LockedPackage:
    """A package that a lock pins.

    Attributes:
        name: its normalized name.
        version: empty if it is a direct reference without one.
        marker: where it is installed; empty for everywhere.
        hashes: those of its files, such as ``sha256:…``.
        indexes: the URLs of the indexes that may have it, besides the default.
        url: its direct reference, or empty.
    """

    name: str
    version: str
    marker: str = ""
    hashes: tuple[str, ...] = ()
    indexes: tuple[str, ...] = ()
    url: str = ""

    @property
    def line(self) -> str:
        """The line of a requirements file."""
        what = f"{self.name} @ {self.url}" if self.url else f"{self.name}=={self.version}"
        marker = f" ; {self.marker}" if self.marker else ""
        return what + marker + "".join(f" --hash={each}" for each in sorted(self.hashes))


def read_locked(source: PackageSource) -> list[LockedPackage]:
    """Return the packages that are chosen from a lock, for every platform and Python.

    Raises:
        UsageError: the lock is not valid, does not fit the project, or has no such group or extra.
    """
    data = source.read()
    try:
        found = list(_READERS[source.kind](source, data))
    except (KeyError, TypeError, AttributeError) as exc:
        raise UsageError(f"{source.option} is not a lock as {source.kind} is: {exc!r}") from exc
    for package in found:
        if not (package.hashes or package.url):
            raise UsageError(
                f"{source.option} has no hash for {package.name}: write it again with {RELOCK[source.kind]}"
            )
    return found


def requirements_text(packages: Iterable[LockedPackage]) -> str:
    """Return the text of a requirements file with these packages, and the indexes that have them."""
    found = list(packages)
    indexes = dict.fromkeys(index for each in found for index in each.indexes if index.rstrip("/") != _PYPI)
    lines = [f"--extra-index-url {index}" for index in indexes]
    return "\n".join([*lines, *(each.line for each in found)]) + "\n"


def choose(marker: str, extras: Iterable[str], groups: Iterable[str]) -> str:
    """Return a marker in which the conditions on extras and groups are decided: they are true or false everywhere."""
    known = {
        "extras": {canonicalize_name(each) for each in extras},
        "dependency_groups": {canonicalize_name(each) for each in groups},
    }

    def decided(found: re.Match[str]) -> str:
        name = canonicalize_name(found["extra"] or found["member"])
        is_negated = bool(found["negated"]) or found["compared"] == "!="
        return _TRUE if (name in known[found["of"] or "extras"]) is not is_negated else _FALSE

    chosen = _CHOICE.sub(decided, marker)
    return "" if chosen == _TRUE else chosen


def require_known(source: PackageSource, option: str, names: Iterable[str], known: Iterable[str]) -> None:
    """Check that a lock has these groups or extras.

    Raises:
        UsageError: it does not.
    """
    there = sorted({canonicalize_name(each) for each in known})
    for name in names:
        if canonicalize_name(name) not in there:
            has = f"it has {', '.join(there)}" if there else "it has none"
            raise UsageError(
                f"{option} {name}: {source.file} has no such {option[2:]}; {has}{did_you_mean(name, there)}"
            )


# ---- poetry ---------------------------------------------------------------------------------------------------------


def _poetry(source: PackageSource, data: dict[str, Any]) -> Iterator[LockedPackage]:
    version = data["metadata"].get("lock-version", "1.0")
    if Version(version) < _POETRY_WITH_GROUPS:
        raise UsageError(
            f"{source.option}: its format {version} does not say which package belongs to which group; write it again "
            f"with poetry lock of Poetry 2, or name what poetry export writes with --requirements"
        )
    entries = data.get("package", [])
    pyproject = source.pyproject()
    declared = {*pyproject.get("dependency-groups", {}), *pyproject.get("tool", {}).get("poetry", {}).get("group", {})}
    require_known(source, "--group", source.groups, {group for each in entries for group in each["groups"]} | declared)
    require_known(source, "--extra", source.extras, data.get("extras", {}))
    wanted = {"main", *map(canonicalize_name, source.groups)}
    for entry in entries:
        groups = [each for each in entry["groups"] if canonicalize_name(each) in wanted]
        if groups:
            marker = choose(_poetry_marker(entry.get("markers", ""), groups), source.extras, ())
            yield _poetry_package(source, entry, marker)


def _poetry_marker(markers: str | dict[str, str], groups: list[str]) -> str:
    """Return when a package is installed for one of these groups."""
    if isinstance(markers, str):
        return markers
    each = [markers.get(group, "") for group in groups]
    return " or ".join(f"({marker})" for marker in dict.fromkeys(each)) if all(each) else ""


def _poetry_package(source: PackageSource, entry: dict[str, Any], marker: str) -> LockedPackage:
    origin = entry.get("source", {})
    url = ""
    match origin.get("type", ""):
        case "git":
            url = _git_url(origin["url"], origin["resolved_reference"], origin.get("subdirectory", ""))
        case "url":
            url = origin["url"]
        case "file" | "directory":
            url = (source.folder / origin["url"]).resolve().as_uri()
    return _package(entry, marker, indexes=(origin["url"],) if origin.get("type") == "legacy" else (), url=url)


def _git_url(url: str, commit: str, subdirectory: str) -> str:
    prefix = "" if url.startswith("git+") else "git+"
    return f"{prefix}{url}@{commit}" + (f"#subdirectory={subdirectory}" if subdirectory else "")


def _package(entry: dict[str, Any], marker: str, *, indexes: tuple[str, ...], url: str) -> LockedPackage:
    hashes = tuple(dict.fromkeys(each["hash"] for each in entry.get("files", []) if each.get("hash")))
    return LockedPackage(canonicalize_name(entry["name"]), entry["version"], marker, hashes, indexes, url)


# ---- PDM ------------------------------------------------------------------------------------------------------------


def _pdm(source: PackageSource, data: dict[str, Any]) -> Iterator[LockedPackage]:
    metadata = data["metadata"]
    if "inherit_metadata" not in metadata.get("strategy", []):
        raise UsageError(
            f"{source.option} does not say which package belongs to which group; write it again with "
            "pdm lock --strategy inherit_metadata, which is PDM's default"
        )
    require_known(source, "--group", source.groups, metadata["groups"])
    require_known(source, "--extra", source.extras, metadata["groups"])
    sources = source.pyproject().get("tool", {}).get("pdm", {}).get("source", [])
    indexes = tuple(each["url"] for each in sources if each.get("url"))
    wanted = {"default", *map(canonicalize_name, (*source.groups, *source.extras))}
    for entry in data.get("package", []):
        # With its extras a package has a second entry; what they need has its own.
        if wanted & {canonicalize_name(each) for each in entry["groups"]} and not entry.get("extras"):
            url = entry.get("url", "")
            if "git" in entry:
                url = _git_url(entry["git"], entry["revision"], entry.get("subdirectory", ""))
            elif "path" in entry:
                url = (source.folder / entry["path"]).resolve().as_uri()
            yield _package(entry, entry.get("marker", ""), indexes=indexes, url=url)


# ---- PEP 751 --------------------------------------------------------------------------------------------------------


def read_pylock(source: PackageSource, data: dict[str, Any]) -> Pylock:
    """Return a lock of PEP 751.

    Raises:
        UsageError: it is not valid, or has no such group or extra.
    """
    try:
        found = Pylock.from_dict(data)
    except (PylockValidationError, PylockUnsupportedVersionError, InvalidVersion) as exc:
        raise UsageError(f"{source.option} is not a lock as PEP 751 describes: {exc}") from exc
    require_known(source, "--group", source.groups, found.dependency_groups or ())
    require_known(source, "--extra", source.extras, found.extras or ())
    return found


def _pylock(source: PackageSource, data: dict[str, Any]) -> Iterator[LockedPackage]:
    found = read_pylock(source, data)
    groups = (*source.groups, *(found.default_groups or ()))
    for package in found.packages:
        marker = choose(str(package.marker or ""), source.extras, groups)
        url, hashes = _reference(source, package)
        yield LockedPackage(
            name=package.name,
            version=str(package.version or ""),
            marker=marker,
            hashes=tuple(dict.fromkeys(hashes)),
            indexes=(package.index,) if package.index else (),
            url=url,
        )


def _reference(source: PackageSource, package: Package) -> tuple[str, list[str]]:
    """Return a package's direct reference, if it has one, and the hashes of its files."""
    if package.vcs:
        place = package.vcs.url or (source.folder / (package.vcs.path or "")).resolve().as_uri()
        return f"{package.vcs.type}+{place}@{package.vcs.commit_id}", []
    if package.directory:
        return (source.folder / package.directory.path).resolve().as_uri(), []
    if package.archive:
        place = package.archive.url or (source.folder / (package.archive.path or "")).resolve().as_uri()
        return place, _hashes(package.archive.hashes)
    files = [*(package.wheels or ()), *([package.sdist] if package.sdist else ())]
    return "", [each for file in files for each in _hashes(file.hashes)]


def _hashes(listed: Mapping[str, str]) -> list[str]:
    return [f"{algorithm}:{value}" for algorithm, value in listed.items()]


_READERS: dict[SourceKind, Callable[[PackageSource, dict[str, Any]], Iterator[LockedPackage]]] = {
    SourceKind.POETRY: _poetry,
    SourceKind.PDM: _pdm,
    SourceKind.PYLOCK: _pylock,
}
