"""Stand-ins for the Terraform providers external and aws, whose registry the tests cannot reach.

usage: terraform_providers.py external|aws

A file ``terraform-provider-NAME`` that runs this program is a provider for Terraform. The stand-in of external does
what the real one does. That of aws knows the arguments that are used, and requires of a zip that it exists when its
resource is created, and that its hash is the planned one.
"""

from __future__ import annotations

import base64
import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from tf import runner
from tf.blocks import SetNestedBlock
from tf.schema import Attribute, Block, Schema
from tf.types import Bool, List, Map, Number, Set, String

TEXT, TEXTS = String(), Set(String())
# The arguments of the resources: https://registry.terraform.io/providers/hashicorp/aws/latest/docs
RESOURCES: dict[str, dict[str, Any]] = {
    "lambda_layer_version": {
        "layer_name": TEXT, "filename": TEXT, "source_code_hash": TEXT, "compatible_runtimes": TEXTS,
        "compatible_architectures": TEXTS, "skip_destroy": Bool(),
    },
    "lambda_function": {
        "function_name": TEXT, "filename": TEXT, "source_code_hash": TEXT, "handler": TEXT, "runtime": TEXT,
        "architectures": List(String()), "layers": List(String()), "memory_size": Number(), "timeout": Number(),
        "role": TEXT,
    },
    "iam_role": {"name": TEXT, "assume_role_policy": TEXT},
    "iam_role_policy_attachment": {"role": TEXT, "policy_arn": TEXT},
}  # fmt: skip


class External:
    """The data source external, which runs a program when Terraform plans."""

    def __init__(self, _provider: Any) -> None:
        pass

    @classmethod
    def get_name(cls) -> str:
        return ""

    @classmethod
    def get_schema(cls) -> Schema:
        return Schema(
            attributes=[
                Attribute("program", List(String()), required=True),
                Attribute("working_dir", TEXT, optional=True),
                Attribute("query", Map(String()), optional=True),
                Attribute("result", Map(String()), computed=True),
            ]
        )

    def validate(self, *_arguments: Any) -> None:
        pass

    def read(self, context: Any, config: dict[str, Any]) -> dict[str, Any] | None:
        query = json.dumps(config["query"] or {})
        done = subprocess.run(
            config["program"], cwd=config["working_dir"], input=query, text=True, capture_output=True, check=False
        )
        if done.returncode:
            context.diagnostics.add_error("External Program Execution Failed", done.stderr)
            return None
        result = json.loads(done.stdout)
        if not all(isinstance(value, str) for value in result.values()):
            context.diagnostics.add_error("Unexpected External Program Results", done.stdout)
        return {**config, "result": result}


class Stored:
    """A resource of AWS: what Terraform plans for it."""

    name = ""
    arguments: dict[str, Any] = {}  # noqa: RUF012 - those of the subclass

    def __init__(self, _provider: Any) -> None:
        pass

    @classmethod
    def get_name(cls) -> str:
        return f"_{cls.name}"

    @classmethod
    def get_schema(cls) -> Schema:
        computed = [Attribute("arn", TEXT, computed=True)]
        given = [Attribute(name, kind, optional=True) for name, kind in cls.arguments.items()]
        blocks = []
        if cls.name == "lambda_function":
            variables = Attribute("variables", Map(String()), optional=True)
            blocks.append(SetNestedBlock("environment", Block(attributes=[variables])))
        return Schema(attributes=[*given, *computed], block_types=blocks)

    def validate(self, *_arguments: Any) -> None:
        pass

    def plan(self, _context: Any, _current: Any, planned: dict[str, Any]) -> dict[str, Any]:
        return planned

    def create(self, context: Any, planned: dict[str, Any]) -> dict[str, Any]:
        if file := planned.get("filename"):
            digest = base64.b64encode(hashlib.sha256(Path(file).read_bytes()).digest()).decode()
            if digest != planned["source_code_hash"]:
                context.diagnostics.add_error("CodeSha256", f"{file} has {digest}, not {planned['source_code_hash']}")
        return {**planned, "arn": f"arn:aws:{self.name}:1"}

    def read(self, _context: Any, current: dict[str, Any]) -> dict[str, Any]:
        return current

    def upgrade(self, _context: Any, _version: int, old: dict[str, Any]) -> dict[str, Any]:
        return old

    def update(self, context: Any, _current: Any, planned: dict[str, Any]) -> dict[str, Any]:
        return self.create(context, planned)

    def delete(self, *_arguments: Any) -> None:
        pass


class Provider:
    """A provider without settings."""

    def __init__(self, name: str) -> None:
        self.name = name

    def get_model_prefix(self) -> str:
        return self.name

    def full_name(self) -> str:
        return f"registry.terraform.io/hashicorp/{self.name}"

    def get_provider_schema(self, _diagnostics: Any) -> Schema:
        return Schema()

    def validate_config(self, *_arguments: Any) -> None:
        pass

    def configure_provider(self, *_arguments: Any) -> None:
        pass

    def get_data_sources(self) -> list[type]:
        return [External] if self.name == "external" else []

    def get_resources(self) -> list[type]:
        if self.name == "external":
            return []
        return [type(name, (Stored,), {"name": name, "arguments": found}) for name, found in RESOURCES.items()]

    def get_functions(self) -> list[type]:
        return []

    def new_data_source(self, kind: type) -> Any:
        return kind(self)

    new_resource = new_data_source


if __name__ == "__main__":
    runner.run_provider(Provider(sys.argv.pop(1)), sys.argv)  # type: ignore[arg-type]
