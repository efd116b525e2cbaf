"""Read what the metadata of a distribution says about its license, in the forms of today and of earlier years."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from layer_minimizer.model.installed import DeclaredLicense

if TYPE_CHECKING:
    from importlib.metadata import PackageMetadata

_CLASSIFIER = "License :: "
# A classifier of this kind names no license.
_NO_LICENSE = ("License :: OSI Approved", "License :: Other/Proprietary License")
# Many projects have put the whole text into the field that is for a name.
_LONGEST_NAME = 120


def declared_license(headers: PackageMetadata) -> DeclaredLicense:
    """Return the license in the headers of METADATA or PKG-INFO.

    ``License-Expression`` is the form of PEP 639. Before it, ``License`` was free text, and classifiers named licenses.
    """
    expression = _first(headers.get_all("License-Expression"))
    names = [] if expression else [*_named(headers.get_all("License"))]
    if not expression and not names:
        classifiers = [value.strip() for value in headers.get_all("Classifier") or ()]
        names = [
            value.rpartition("::")[2].strip()
            for value in classifiers
            if value.startswith(_CLASSIFIER) and value not in _NO_LICENSE
        ]
    files = [os.path.normpath(value.strip()) for value in headers.get_all("License-File") or () if value.strip()]
    return DeclaredLicense(expression, tuple(dict.fromkeys(names)), tuple(dict.fromkeys(files)))


def _first(values: list[str] | None) -> str:
    return next((value.strip() for value in values or () if value.strip()), "")


def _named(values: list[str] | None) -> list[str]:
    """Return the value of ``License`` if it is a name, and not a license text or a placeholder."""
    value = _first(values)
    is_name = value and "\n" not in value and len(value) <= _LONGEST_NAME
    return [value] if is_name and value.upper() not in ("UNKNOWN", "NONE") else []
