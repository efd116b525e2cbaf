"""Run uv, which finds interpreters, makes environments and installs packages: https://docs.astral.sh/uv/."""

from __future__ import annotations

import importlib
import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from packaging.version import InvalidVersion, Version

from layer_minimizer.core import progress
from layer_minimizer.core.errors import RunnerError, UsageError
from layer_minimizer.execution import process
from layer_minimizer.execution.engine import tail

if TYPE_CHECKING:
    from collections.abc import Mapping

# The first version that has everything that is used here, such as `uv pip sync pylock.toml --group`.
OLDEST = Version("0.9")
INSTALL_HINT = "pip install 'layer_minimizer[uv]', or see https://docs.astral.sh/uv/"
# A build of a large package from source can take long; a connection that hangs is ended by uv itself.
_SECONDS = 4 * 3600.0
# Variables of an activated environment, and those of uv about the project's own environment, or about what is chosen
# from a lock: that is what the options of this tool are for.
_DROPPED = re.compile(
    "VIRTUAL_ENV|CONDA_PREFIX|UV_(PYTHON|SYSTEM_PYTHON|PROJECT|PROJECT_ENVIRONMENT|WORKING_DIR"
    "|FROZEN|LOCKED|NO_SYNC|NO_DEV|NO_GROUP|NO_DEFAULT_GROUPS|NO_EDITABLE|NO_INSTALL_.*)"
)
# What uv's output says, and what to do then.
_HINTS = (
    ("Hash mismatch", "the index has another file than the one that was locked: do not install it before you know why"),
    ("Failed to build", "it has no wheel for this Python and platform, and its own build failed: see the reason above"),
    ("or wheel for the current platform", "no wheel of it fits this Python and platform, and it has no source"),
    ("has no wheels with a matching", "no wheel of it fits this Python and platform"),
    ("Failed to fetch", "is there a network? What uv has in its cache needs none"),
    ("network was disabled", "it is not in uv's cache, and UV_OFFLINE or --offline forbids the network"),
    ("No interpreter found", "uv python list shows those that are here, and uv python install VERSION adds one"),
)
# What uv's output says if the project's files or the options are wrong, not the machine.
_WRONG_INPUT = (
    "needs to be updated",
    "is not defined in",
    "does not have a member",
    "incompatible with the project's Python requirement",
    "Failed to parse",
    "No `pyproject.toml` found",
)
# The oldest interpreter that uv can ask for its version, and that this tool supports.
_OLDEST_PYTHON = Version("3.6")


@dataclass(frozen=True, slots=True)
class Uv:
    """The program uv, as it is installed here."""

    program: str
    version: str

    @classmethod
    def find(cls, needed_by: str) -> Uv:
        """Return the uv on PATH, or the one that is installed with this tool.

        Raises:
            RunnerError: there is none, or it is too old.
        """
        program = shutil.which("uv") or _installed_with_this_tool()
        if program is None:
            raise RunnerError(
                f"{needed_by} needs uv, which is neither on PATH nor installed with this tool: {INSTALL_HINT}"
            )
        answer = cls(program, "").run("--version", folder=Path("/"), why=f"{program} does not tell its version:")
        found = re.search(r"uv (\S+)", answer)
        try:
            version = Version(found[1] if found else "")
        except InvalidVersion as exc:
            raise RunnerError(f"{program} is not uv; it says {answer!r}. {INSTALL_HINT}") from exc
        if version < OLDEST:
            raise RunnerError(f"{program} is uv {version}; {needed_by} needs {OLDEST} or newer: {INSTALL_HINT}")
        return cls(program, str(version))

    def run(self, *arguments: str, folder: Path, why: str, variables: Mapping[str, str] | None = None) -> str:
        """Run a command of uv in ``folder``, and return what it printed. An interrupt ends it, and its builds.

        Raises:
            UsageError: the project's files do not fit together, or have not what is chosen from them.
            RunnerError: the command failed for another reason.
            Both messages are ``why``, uv's own reason, and what to do.
        """
        lines: list[str] = []

        def listen(text: str) -> None:
            lines.append(text)
            progress.note(f"uv: {text}")

        environment = _variables() | dict(variables or {})
        ended = process.run([self.program, *arguments], environment, folder, timeout=_SECONDS, on_output=listen)
        output = "\n".join(lines)
        if ended.returncode != 0:
            hint = next((hint for sign, hint in _HINTS if sign in output), "")
            shown = tail(output.strip()) or f"uv {ended.ending}"
            error = UsageError if any(sign in output for sign in _WRONG_INPUT) else RunnerError
            raise error("\n".join(filter(None, [why, shown, hint])))
        return output.strip()


def _installed_with_this_tool() -> str | None:
    """Return the program of the distribution uv, which the extra ``uv`` of this tool installs."""
    try:
        return str(importlib.import_module("uv").find_uv_bin())
    except (ImportError, OSError):
        return None


def _variables() -> dict[str, str]:
    """Return the environment of uv: its own settings of this machine, without those about environments."""
    kept = {name: value for name, value in process.clean_environment().items() if not _DROPPED.fullmatch(name)}
    return kept | {
        "PATH": search_path(kept.get("PATH", os.defpath)),
        "NO_COLOR": "1",
        "UV_NO_PROGRESS": "1",
        # An interpreter is a choice of the user: none is downloaded only because a version is named.
        "UV_PYTHON_DOWNLOADS": "never",
        # Without it uv warns that its support of PEP 751 is new.
        "UV_PREVIEW_FEATURES": ",".join(filter(None, [kept.get("UV_PREVIEW_FEATURES"), "pylock"])),
    }


def search_path(path: str) -> str:
    """Return a PATH in which pyenv's folder of shims is replaced by the folders of its interpreters, newest first.

    A shim of a version that is installed, and not chosen for the current folder, only prints an error, at which uv
    ends its search.
    """
    folders: list[str] = []
    for folder in path.split(os.pathsep):
        versions = os.path.join(os.path.dirname(folder.rstrip("/")), "versions")
        if os.path.basename(folder.rstrip("/")) == "shims" and os.path.isdir(versions):
            names = [name for name in os.listdir(versions) if re.fullmatch(r"\d+\.\d+\.\d+", name)]
            found = sorted((each for each in map(Version, names) if each >= _OLDEST_PYTHON), reverse=True)
            folders += [os.path.join(versions, str(each), "bin") for each in found]
        else:
            folders.append(folder)
    return os.pathsep.join(folders)
