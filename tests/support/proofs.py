"""The inputs of tests that are not repeated while their inputs are unchanged, see selection.py."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from .places import TESTS

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pytest

# Tests run the command and check the layer: help texts, reports and other commands do not influence it.
OF_COMMAND = (
    "docs",
    "container",
    "report/page",
    "report/html.py",
    "report/diff.py",
    "report/explain.py",
    "aws/client.py",
    "aws/publish.py",
    "aws/layer_versions.py",
    "cli/help_text.py",
    "cli/init_template.py",
    "cli/commands/completion.py",
    "cli/commands/diff.py",
    "cli/commands/explain.py",
    "cli/commands/help.py",
    "cli/commands/init.py",
    "cli/commands/publish.py",
)
# Tests build and run parts of layers: another test requires that they import nothing of the following.
OF_PARTS = ("docs", "cli", "container", "report", "verify", "trace", "plan", "aws", "pipeline.py")
# Tests of the HTML page use a report that a test has written.
OF_PAGE = ("docs", "cli", "container", "verify", "trace", "plan", "environment", "execution", "analysis", "pipeline.py")


@dataclass(frozen=True, slots=True)
class Inputs:
    """The inputs of tests: the package without the modules in ``regardless_of``, and ``files`` of the checkout."""

    regardless_of: tuple[str, ...] = ()
    files: tuple[str, ...] = ()


# By file or folder, the longest match counts; all other tests always run.
INPUTS: Mapping[str, Inputs] = {
    "integration/native": Inputs(OF_PARTS),
    "integration/native/test_pipeline.py": Inputs(OF_COMMAND),
    "integration/native/test_restore.py": Inputs(OF_COMMAND),
    "integration/native/test_two_layers.py": Inputs(OF_COMMAND),
    "integration/payload": Inputs(OF_PARTS),
    "integration/payload/test_messages.py": Inputs(OF_COMMAND),
    "integration/payload/test_standard.py": Inputs(OF_COMMAND),
    "integration/payload/test_snapshot.py": Inputs(tuple(room for room in OF_PARTS if room != "aws")),
    "system/cases": Inputs(OF_COMMAND),
    "system/chaos": Inputs(OF_COMMAND, ("examples",)),
    "system/distributions": Inputs(OF_COMMAND),
    "system/docs": Inputs((), ("README.md", "CHANGELOG.md", "docker", "examples", ".github", ".packaging")),
    "system/examples": Inputs(OF_COMMAND, ("examples",)),
    "system/libraries": Inputs(OF_COMMAND, ("examples",)),
    "system/page": Inputs(OF_PAGE),
}


def inputs_of(item: pytest.Item) -> Inputs | None:
    """Return the inputs of a test, or None if it always runs."""
    path = item.path.relative_to(TESTS)
    for name in map(str, (path, *path.parents)):
        if name in INPUTS:
            found = INPUTS[name]
            if name == "system/cases":
                case = item.callspec.params["name"]  # type: ignore[attr-defined]
                return replace(found, files=(f"tests/system/cases/{case}",))
            return found
    return None
