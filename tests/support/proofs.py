"""What has no influence on tests that need not pass again with the same inputs; whatever is not named here counts."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from .places import TESTS

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pytest

# A layer that the command makes and verifies: the words about it, and other commands, change nothing in it.
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
# Parts of layers that a test puts together itself, and runs: a test requires that nothing of this is imported there.
OF_PARTS = ("docs", "cli", "container", "report", "verify", "trace", "plan", "aws", "pipeline.py")
# The page is drawn from a report that a test has written.
OF_PAGE = ("docs", "cli", "container", "verify", "trace", "plan", "environment", "execution", "analysis", "pipeline.py")


@dataclass(frozen=True, slots=True)
class Inputs:
    """What decides how tests end: the package but for some of its rooms or modules, and files of the checkout."""

    regardless_of: tuple[str, ...] = ()
    files: tuple[str, ...] = ()


# By file or folder, the longest that fits; tests that stand nowhere here are run each time.
INPUTS: Mapping[str, Inputs] = {
    "integration/native": Inputs(OF_PARTS),
    "integration/native/test_pipeline.py": Inputs(OF_COMMAND),
    "integration/native/test_restore.py": Inputs(OF_COMMAND),
    "integration/native/test_two_layers.py": Inputs(OF_COMMAND),
    "integration/payload": Inputs(OF_PARTS),
    "integration/payload/test_messages.py": Inputs(OF_COMMAND),
    "system/cases": Inputs(OF_COMMAND),
    "system/chaos": Inputs(OF_COMMAND, ("examples",)),
    "system/distributions": Inputs(OF_COMMAND),
    "system/docs": Inputs((), ("README.md", "CHANGELOG.md", "docker", "examples")),
    "system/examples": Inputs(OF_COMMAND, ("examples",)),
    "system/libraries": Inputs(OF_COMMAND, ("examples",)),
    "system/page": Inputs(OF_PAGE),
}


def inputs_of(item: pytest.Item) -> Inputs | None:
    """Return what decides how a test ends, or None for one that is run each time."""
    path = item.path.relative_to(TESTS)
    for name in map(str, (path, *path.parents)):
        if name in INPUTS:
            found = INPUTS[name]
            if name == "system/cases":
                case = item.callspec.params["name"]  # type: ignore[attr-defined]
                return replace(found, files=(f"tests/system/cases/{case}",))
            return found
    return None
