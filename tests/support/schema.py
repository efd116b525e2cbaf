"""Validation of reports against the published JSON schema."""

from __future__ import annotations

import json
from importlib import resources
from typing import TYPE_CHECKING, Any

import jsonschema
import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

SCHEMA = json.loads((resources.files("layer_minimizer.report") / "report.schema.json").read_text("utf-8"))


def _closed(schema: Any) -> Any:
    """Return the schema without additional properties, which the published one allows."""
    if isinstance(schema, list):
        return [_closed(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {name: _closed(value) for name, value in schema.items()}
    return {"additionalProperties": False, **closed} if closed.get("type") == "object" else closed


@pytest.fixture(scope="session")
def require_schema() -> Callable[[Any], None]:
    """Return a function that requires that a report matches the schema and has no additional properties."""
    validator = jsonschema.Draft202012Validator(_closed(SCHEMA))

    def require(report: Any) -> None:
        problems = [f"{error.json_path}: {error.message}" for error in validator.iter_errors(report)]
        assert problems == []

    return require
