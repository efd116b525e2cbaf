"""Runs workflows of GitHub Actions on this machine, with act (https://nektosact.com), without container and GitHub.

act evaluates the expressions and runs the commands. The actions of GitHub that need its servers are replaced by those
in ``actions``, which keep caches and artifacts in a folder; other actions come from folders, too.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from .places import PROGRAMS, TESTS
from .pythons import find_python

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

ACT = PROGRAMS / "act"
# Replaced by a folder of the same name.
REPLACED = ("actions/cache", "actions/setup-python", "actions/upload-artifact")
IMAGE = "ubuntu-24.04"
MAIN = "main"
_STAND_INS = TESTS / "support/actions"
_SECONDS = 1800
_GIT = ("git", "-c", "user.name=test", "-c", "user.email=test@example.org", "-c", f"init.defaultBranch={MAIN}")
_USES = re.compile(r"^\s*(?:- )?uses: ([\w.-]+/[\w.-]+)[\w./-]*@(\S+)", re.MULTILINE)


@dataclass(frozen=True)
class Ended:
    """A run of a workflow: whether its jobs succeeded, and what they left.

    ``steps`` has the result of each step, by its path of ids or numbers; ``artifacts`` is the folder of this run's.
    """

    succeeded: bool
    log: str
    summary: str
    steps: Mapping[str, str]
    artifacts: Path


@dataclass
class Repository:
    """A git repository with a workflow."""

    folder: Path

    def git(self, *arguments: str) -> str:
        command = [*_GIT, "-C", self.folder, *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    def commit(self, files: Mapping[str, str]) -> None:
        """Write the files and commit them to the current branch; the first commit makes the main branch."""
        for name, text in files.items():
            (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
            (self.folder / name).write_text(text)
        if not (self.folder / ".git").exists():
            self.git("init", "--quiet")
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", "--message", "A function")


@dataclass
class Runners:
    """GitHub, with its store and its runners. ``folder`` is empty at first; each run has an empty machine.

    ``actions`` has a folder for each repository (``OWNER/NAME``) from which workflows take actions; ``pythons`` are the
    versions that each machine has. ``variables`` are those of all jobs.
    """

    folder: Path
    actions: Mapping[str, Path]
    pythons: Sequence[str]
    variables: Mapping[str, str] = field(default_factory=dict)
    runs: int = 0

    def run(self, repository: Repository, event: str = "push") -> Ended:
        """Run the repository's workflow for its current commit: a push, or a pull request to the main branch."""
        self.runs += 1
        # At one place: environments and keys of caches have the paths of interpreters in them.
        machine = self.folder / "machine"
        shutil.rmtree(machine, ignore_errors=True)
        self._tool_cache(machine)
        payload = machine / "event.json"
        payload.write_text(json.dumps(_payload(repository, event)))
        store = self.folder / "store"
        variables = {**self.variables, "STAND_IN_STORE": str(store), "STAND_IN_RUN": str(self.runs)}
        command = [
            ACT, event, "--json", "--no-cache-server", "--platform", f"{IMAGE}=-self-hosted", "--concurrent-jobs=1",
            "--directory", repository.folder, "--eventpath", payload, "--action-cache-path", machine,
            *(f"--local-repository={each}" for each in self._local_repositories(repository)),
        ]  # fmt: skip
        with subprocess.Popen(
            command, env={**os.environ, **variables}, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, text=True,
        ) as running:  # fmt: skip
            try:
                out, err = running.communicate(timeout=_SECONDS)
            except BaseException:
                running.terminate()  # act ends the commands that it has started
                raise
        return _ended(out, err, store / "artifacts" / str(self.runs))

    def _tool_cache(self, machine: Path) -> None:
        """Lay out a tool cache as on GitHub's machines: Python/VERSION/x64."""
        for version in self.pythons:
            python = Path(find_python(version))
            query = "import platform; print(platform.python_version())"
            exact = subprocess.run([python, "-I", "-c", query], check=True, capture_output=True, text=True).stdout
            folder = machine / "tool_cache/Python" / exact.strip()
            folder.mkdir(parents=True)
            (folder / "x64").symlink_to(python.parents[1])

    def _local_repositories(self, repository: Repository) -> list[str]:
        """Return the folder of each action that the workflow, or one of these actions, uses."""
        found: dict[str, Path] = {}
        files = list(repository.folder.glob(".github/workflows/*.yml"))
        while files:
            for name, ref in _USES.findall(files.pop().read_text()):
                if name in REPLACED:
                    found[f"{name}@{ref}"] = self._stand_in(name)
                elif name in self.actions and f"{name}@{ref}" not in found:
                    found[f"{name}@{ref}"] = self.actions[name]
                    files += self.actions[name].glob(".github/actions/*/action.yml")
        return [f"{name}={folder}" for name, folder in found.items()]

    def _stand_in(self, name: str) -> Path:
        short = name.partition("/")[2]
        folder = self.folder / "stand_ins" / short
        if not folder.exists():
            shutil.copytree(_STAND_INS / short, folder)
            shutil.copy(_STAND_INS / "store.py", folder)
        return folder


def _payload(repository: Repository, event: str) -> dict[str, object]:
    """Return what GitHub tells about an event."""
    payload: dict[str, object] = {"repository": {"default_branch": MAIN}}
    if event == "pull_request":
        head = {"ref": repository.git("branch", "--show-current"), "sha": repository.git("rev-parse", "HEAD")}
        payload |= {"number": 7, "pull_request": {"number": 7, "head": head, "base": {"ref": MAIN}}}
    return payload


def _ended(out: str, err: str, artifacts: Path) -> Ended:
    log, summary, steps, results = [], [], {}, []
    for line in out.splitlines():
        entry = json.loads(line)
        log.append(str(entry["msg"]).rstrip("\n"))
        if entry.get("command") == "summary":
            summary.append(entry["content"])
        if "stepResult" in entry and entry.get("stage") == "Main":
            steps["/".join(entry["stepID"])] = entry["stepResult"]
        results += [entry["jobResult"]] if "jobResult" in entry else []
    assert results, f"no job has ended:\n{out}\n{err}"
    return Ended(set(results) == {"success"}, "\n".join(log) + err, "".join(summary), steps, artifacts)
