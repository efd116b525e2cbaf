"""The software bill of materials of a layer: what is shipped, whole or in part, and what was left out."""

from __future__ import annotations

import hashlib
import importlib.util
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING

from packaging.utils import canonicalize_name

from layer_minimizer.analysis import elf
from layer_minimizer.core.errors import PackError, UsageError
from layer_minimizer.core.files import scratch_errors, sha256_of, write_text
from layer_minimizer.layer import cold_store, layout
from layer_minimizer.layer.archive import zip_entries
from layer_minimizer.model.bill import Bill, Library, Part
from layer_minimizer.model.installed import Distribution
from layer_minimizer.model.plan import Reason
from layer_minimizer.plan.requirements import applying, marker_environment, parsed_requirements

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from layer_minimizer.environment.site import Site
    from layer_minimizer.model.outcome import LayerArchive, Proof
    from layer_minimizer.model.plan import Decision, KeepPlan

_LIBRARY = "cyclonedx"
_WHY = {
    Reason.STAND_IN: "imported, but no event needed it: replaced by stand-ins",
    Reason.ASLEEP: "imported only by modules that are replaced by stand-ins",
}


def check_library() -> None:
    """Check before any work begins that the library which writes the document is installed, and the time that it gets.

    Raises:
        UsageError: it is not, or SOURCE_DATE_EPOCH is no time.
    """
    if importlib.util.find_spec(_LIBRARY) is None:
        raise UsageError("--sbom needs cyclonedx-python-lib, which is not installed: install this tool again with pip")
    from layer_minimizer.report import cyclonedx_json  # noqa: PLC0415 - needs that library

    cyclonedx_json.epoch()


def write_sbom(file: Path, name: str, archive: LayerArchive, plan: KeepPlan, proof: Proof, site: Site) -> None:  # noqa: PLR0913, PLR0917 - all of it is in the document
    """Write the bill of materials of a layer as CycloneDX JSON; ``name`` is the file name of the layer.

    Raises:
        PackError: it cannot be written, or an installed file cannot be read.
    """
    from layer_minimizer.report.cyclonedx_json import document  # noqa: PLC0415 - a library that no other option needs

    write_text(file, document(make_bill(name, archive, plan, proof, site)), "--sbom")


def make_bill(name: str, archive: LayerArchive, plan: KeepPlan, proof: Proof, site: Site) -> Bill:
    """Return the bill of materials of a layer.

    Raises:
        PackError: an installed file cannot be read.
    """
    by_owner: defaultdict[str, list[Decision]] = defaultdict(list)
    for decision in plan.decisions:
        if decision.reason is not Reason.SHADOWED:
            by_owner[decision.distribution].append(decision)
    unowned = by_owner.pop("", [])
    known = {each.name: each for each in site.inventory.distributions}
    environment = marker_environment(site.interpreter)
    names = sorted(known.keys() | by_owner.keys())
    with scratch_errors(PackError, "cannot read {file} for the SBOM"):
        parts = tuple(
            _part(known.get(owner) or Distribution(owner, "", ""), by_owner[owner], proof.shipped, site, environment)
            for owner in names
        )
        system = tuple(
            Library(each.name, sha256_of(Path(each.source)).hex(), each.source, each.needed_by)
            for each in proof.bundled
        )
    own = (f"/{cold_store.PACKAGE}/", f"/{layout.NATIVE_FOLDER}/")
    has_runtime = any(part in entry for entry, _ in zip_entries(archive.path) for part in own)
    shipped = sum(decision.path in proof.shipped for decision in unowned)
    return Bill((name, archive.sha256), plan.python, parts, system, shipped, has_runtime)


def list_digest(files: Mapping[str, str]) -> str:
    """Return the SHA-256 of a list of files, {path: SHA-256}: of what ``sha256sum`` prints for them, sorted by path."""
    lines = "".join(f"{files[path]}  {path}\n" for path in sorted(files))
    return hashlib.sha256(lines.encode("utf-8", "surrogateescape")).hexdigest()


def _part(
    distribution: Distribution,
    decisions: list[Decision],
    shipped: Mapping[str, int],
    site: Site,
    environment: Mapping[str, str],
) -> Part:
    paths = sorted(decision.path for decision in decisions if decision.path in shipped)
    digests = {path: sha256_of(site.sources[path]).hex() for path in paths}
    return Part(
        name=distribution.name,
        version=distribution.version,
        license=distribution.license,
        requires=tuple(sorted(set(_required(distribution, site, environment)))),
        shipped=len(paths),
        installed=len(decisions),
        sha256=list_digest(digests) if paths else "",
        left_out="" if paths else _why(decisions),
        editable=distribution.editable,
        libraries=tuple(Library(path, digests[path]) for path in paths if _is_library(path)),
    )


def _required(distribution: Distribution, site: Site, environment: Mapping[str, str]) -> Iterator[str]:
    """Yield the installed distributions that one requires, without extras."""
    installed = {each.name for each in site.inventory.distributions}
    for requirement in applying(parsed_requirements(distribution.requires), environment):
        name = canonicalize_name(requirement.name)
        if name in installed:
            yield name


def _is_library(path: str) -> bool:
    """Return whether a file is a shared library that programs link, and no extension module."""
    name = path.rpartition("/")[2]
    return elf.is_elf_name(path) and name.startswith("lib") and ".cpython-" not in name and ".abi3." not in name


def _why(decisions: list[Decision]) -> str:
    """Return why nothing of a distribution is in the layer."""
    for decision in decisions:
        if decision.reason in (Reason.PROVIDED, Reason.EXCLUDED):
            return decision.evidence
    reasons = {decision.reason for decision in decisions}
    return next((why for reason, why in _WHY.items() if reason in reasons), "no event needed it")
