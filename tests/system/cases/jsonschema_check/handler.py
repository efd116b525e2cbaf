"""Checks documents against schemas of several drafts; their meta-schemas are files of a package."""

import jsonschema
from jsonschema import validators


def handler(event, context):
    validator = validators.validator_for(event["schema"])(event["schema"], format_checker=jsonschema.FormatChecker())
    if event.get("ask") == "schema":
        validator.check_schema(event["schema"])
    return sorted(error.json_path + ": " + error.message for error in validator.iter_errors(event["document"]))
