"""Write a bill of materials as CycloneDX 1.6: JSON, and the same bytes for the same layer."""

from __future__ import annotations

import json
import os
import uuid
from datetime import UTC, datetime
from importlib import metadata
from typing import TYPE_CHECKING, Any

from cyclonedx.contrib.license.factories import LicenseFactory
from cyclonedx.model import HashAlgorithm, HashType, Property
from cyclonedx.model.bom import Bom, BomMetaData
from cyclonedx.model.component import Component, ComponentScope, ComponentType
from cyclonedx.model.license import LicenseAcknowledgement
from cyclonedx.model.tool import ToolRepository
from cyclonedx.output import make_outputter
from cyclonedx.schema import OutputFormat, SchemaVersion
from packageurl import PackageURL

from layer_minimizer.core.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from cyclonedx.model.license import License

    from layer_minimizer.model.bill import Bill, Library, Part
    from layer_minimizer.model.installed import DeclaredLicense

_TOOL = "layer_minimizer"
# The time that builds set to be reproducible: https://reproducible-builds.org/specs/source-date-epoch/
_EPOCH = "SOURCE_DATE_EPOCH"
_NOBODY = uuid.UUID(int=0)


def document(bill: Bill) -> str:
    """Return a bill of materials as the text of a CycloneDX 1.6 JSON document."""
    name, sha256 = bill.archive
    layer = Component(
        name=name,
        type=ComponentType.APPLICATION,
        bom_ref="layer",
        hashes=[_sha256(sha256)],
        properties=_properties(python=bill.python, files_without_distribution=str(bill.unowned or "")),
    )
    parts = {part.name: _component(part) for part in bill.parts}
    system = [_library(each, f"system/{each.path}") for each in bill.system]
    own = [_runtime("runtime")] if bill.has_runtime else []
    bom = Bom(
        serial_number=_NOBODY,
        metadata=BomMetaData(
            component=layer,
            tools=ToolRepository(components=[_runtime("tool")]),
            timestamp=datetime.fromtimestamp(0, UTC),
        ),
        components=[*parts.values(), *system, *own],
    )
    shipped = [part for part in bill.parts if not part.left_out]
    top = _not_required(shipped)
    bom.register_dependency(layer, [*(parts[name] for name in top), *system, *own])
    for part in bill.parts:
        bom.register_dependency(parts[part.name], [parts[name] for name in part.requires])
    written = make_outputter(bom, OutputFormat.JSON, SchemaVersion.V1_6).output_as_string()
    return _reproducible(json.loads(written))


def epoch() -> datetime | None:
    """Return the time in the environment variable SOURCE_DATE_EPOCH; None if it is not set.

    See https://reproducible-builds.org/specs/source-date-epoch/

    Raises:
        UsageError: it is not a number of seconds.
    """
    text = os.environ.get(_EPOCH, "")
    try:
        return datetime.fromtimestamp(int(text), UTC) if text else None
    except (ValueError, OverflowError, OSError) as exc:
        raise UsageError(f"{_EPOCH}={text} is no time in seconds since 1970: set it to one, or unset it") from exc


def _reproducible(found: dict[str, Any]) -> str:
    """Return the text of a document whose serial number follows from its content; the time is that of the variable."""
    del found["metadata"]["timestamp"]
    if time := epoch():
        found["metadata"]["timestamp"] = time.isoformat()
    content = json.dumps(found, sort_keys=True)
    found["serialNumber"] = uuid.uuid5(uuid.NAMESPACE_OID, content).urn
    return json.dumps(found, indent=2, sort_keys=True) + "\n"


def _not_required(shipped: Iterable[Part]) -> list[str]:
    """Return the shipped distributions that no other one requires; of those that require each other, the first."""
    parts = {part.name: part for part in shipped}
    required = {name for part in parts.values() for name in part.requires if name != part.name}
    found: list[str] = []
    reached: set[str] = set()
    for name in (*(name for name in parts if name not in required), *parts):
        if name in reached:
            continue
        found.append(name)
        todo = [name]
        while todo:
            each = todo.pop()
            if each in parts and each not in reached:
                reached.add(each)
                todo += parts[each].requires
    return found


# ---- components -----------------------------------------------------------------------------------------------------


def _component(part: Part) -> Component:
    left_out = bool(part.left_out)
    extent = "" if left_out else "whole" if part.shipped == part.installed else "part"
    purl = PackageURL("pypi", name=part.name, version=part.version or None)
    return Component(
        name=part.name,
        version=part.version or None,
        type=ComponentType.LIBRARY,
        bom_ref=f"{part.name}@{part.version}",
        purl=None if part.editable or not part.version else purl,
        scope=ComponentScope.EXCLUDED if left_out else ComponentScope.REQUIRED,
        licenses=list(_licenses(part.license)),
        hashes=[_sha256(part.sha256)] if part.sha256 else [],
        components=[_library(each, f"{part.name}@{part.version}/{each.path}") for each in part.libraries],
        properties=_properties(
            left_out=part.left_out,
            shipped=extent,
            files="" if left_out else f"{part.shipped} of {part.installed}",
            hash_of="the lines that sha256sum prints for its shipped files as installed" if part.sha256 else "",
            editable="true" if part.editable else "",
        ),
    )


def _library(library: Library, ref: str) -> Component:
    return Component(
        name=library.path.rpartition("/")[2],
        type=ComponentType.LIBRARY,
        bom_ref=ref,
        hashes=[_sha256(library.sha256)],
        properties=_properties(
            path="" if library.source else library.path, source=library.source, needed_by=library.needed_by
        ),
    )


def _runtime(ref: str) -> Component:
    """Return this tool: what made the layer, and what restores cold files in it."""
    version = metadata.version(_TOOL)
    licenses = [LicenseFactory().make_with_id("Apache-2.0", acknowledgement=LicenseAcknowledgement.DECLARED)]
    return Component(
        name=_TOOL, version=version, type=ComponentType.LIBRARY, bom_ref=f"{_TOOL}/{ref}", licenses=licenses
    )


def _licenses(declared: DeclaredLicense) -> Iterator[License]:
    """Yield the licenses: an SPDX expression, which must be the only one, or identifiers and names."""
    factory, acknowledged = LicenseFactory(), LicenseAcknowledgement.DECLARED
    only = declared.expression or (declared.names[0] if len(declared.names) == 1 else "")
    if only:
        yield factory.make_from_string(only, license_acknowledgement=acknowledged)
        return
    for name in declared.names:
        yield factory.make_with_name(name, acknowledgement=acknowledged)


def _sha256(digest: str) -> HashType:
    return HashType(alg=HashAlgorithm.SHA_256, content=digest)


def _properties(**values: str) -> list[Property]:
    """Return the properties with a value; the prefix of their names is this tool's."""
    return [Property(name=f"{_TOOL}:{name}", value=value) for name, value in values.items() if value]
