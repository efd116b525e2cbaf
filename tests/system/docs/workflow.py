"""Runs a workflow of GitHub Actions locally: commands are executed, actions are replaced by their effects.

Only the actions that workflows of this documentation use are implemented; others are an error. Every step is expected
to succeed, the event is a push to the main branch, and of a matrix only the first values are used. Caches and artifacts
are stored in a folder, in which the second run of a workflow finds those of the first.
"""

from __future__ import annotations

import functools
import glob
import hashlib
import re
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

# Actions without effect here: repository, Python and credentials are prepared before the first step.
PREPARED = ("actions/checkout", "actions/setup-python", "aws-actions/configure-aws-credentials")
_EXPRESSION = re.compile(r"\$\{\{\s*(.+?)\s*\}\}")
_NAME = re.compile(r"\b(?:github|env|steps|matrix|runner|vars|secrets)\.[\w.-]+")
_STATES = {"always()": "True", "success()": "True", "failure()": "False", "cancelled()": "False"}


@dataclass
class Runner:
    """A machine with a checked-out repository.

    ``kept`` is the folder for caches and artifacts, ``variables`` are those of all steps, ``environment`` those of the
    current step, ``output`` is that of all commands, ``actions`` has the used actions, and ``later`` the files to
    cache after the job.
    """

    repository: Path
    kept: Path
    variables: dict[str, str]
    environment: dict[str, str] = field(default_factory=dict)
    commit: str = "0" * 40
    output: str = ""
    actions: list[str] = field(default_factory=list)
    outputs: dict[str, str] = field(default_factory=dict)
    later: list[tuple[Path, str]] = field(default_factory=list)

    def run(self, workflow: dict[str, Any]) -> None:
        """Run all jobs, each after those that it needs."""
        waiting = dict(workflow["jobs"])
        while waiting:
            needs = {name: job.get("needs", []) for name, job in waiting.items()}
            ready = [
                name
                for name, names in needs.items()
                if not waiting.keys() & set([names] if isinstance(names, str) else names)
            ]
            for name in ready:
                self._job(waiting.pop(name), workflow.get("env", {}))

    def _job(self, job: dict[str, Any], common: dict[str, Any]) -> None:
        # The first value of each list, and the values of "include".
        matrix = {name: values[0] for name, values in job.get("strategy", {}).get("matrix", {}).items()}
        matrix |= matrix.pop("include", {})
        self.outputs = {f"matrix.{name}": str(value) for name, value in matrix.items()}
        self.later = []
        for step in job["steps"]:
            if not self._holds(str(step.get("if", "always()"))):
                continue
            environment = {**common, **job.get("env", {}), **step.get("env", {})}
            self.environment = {name: self._resolve(value) for name, value in environment.items()}
            if "uses" in step:
                self._use(step)
            else:
                self._command(step)
        for folder, target in self.later:
            keep(folder, self.kept / target)

    def _command(self, step: dict[str, Any]) -> None:
        files = {
            name: self.kept / name for name in ("GITHUB_ENV", "GITHUB_OUTPUT", "GITHUB_PATH", "GITHUB_STEP_SUMMARY")
        }
        for file in files.values():
            file.write_text("")
        variables = {**self.variables, **self.environment, **{name: str(file) for name, file in files.items()}}
        done = subprocess.run(
            ["bash", "-eo", "pipefail", "-c", self._resolve(step["run"])],
            cwd=self.repository / step.get("working-directory", "."), env=variables, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, timeout=900,
        )  # fmt: skip
        self.output += done.stdout + files["GITHUB_STEP_SUMMARY"].read_text()
        if not step.get("continue-on-error"):
            assert done.returncode == 0, f"{step['run']}\nended with {done.returncode}:\n{done.stdout}"
        self.variables |= pairs(files["GITHUB_ENV"].read_text())
        for name, value in pairs(files["GITHUB_OUTPUT"].read_text()).items():
            self.outputs[f"steps.{step.get('id', '')}.outputs.{name}"] = value
        for line in files["GITHUB_PATH"].read_text().splitlines():
            self.variables["PATH"] = f"{line}:{self.variables['PATH']}"

    def _use(self, step: dict[str, Any]) -> None:
        action = step["uses"].partition("@")[0]
        options = {name: self._resolve(value) for name, value in step.get("with", {}).items()}
        self.actions.append(action)
        if action == "actions/upload-artifact":
            for path in self._paths(options["path"]):
                keep(path, self.kept / "artifacts" / options.get("name", "artifact") / path.name)
        elif action == "actions/download-artifact":
            found = self.kept / "artifacts" / options.get("name", "artifact")
            assert found.exists() or step.get("continue-on-error"), f"unknown artifact {found.name}"
            if found.exists():
                shutil.copytree(found, self.repository / options.get("path", "."), dirs_exist_ok=True)
        elif action in ("actions/cache", "actions/cache/restore", "actions/cache/save"):
            self._cache(action, options)
        else:
            assert action in PREPARED, (
                f"unknown action {action}: implement its effects in tests/system/docs/workflow.py"
            )

    def _cache(self, action: str, options: dict[str, str]) -> None:
        keys = [options["key"], *options.get("restore-keys", "").split()]
        for number, line in enumerate(options["path"].split()):
            path = self._path(line)
            if not action.endswith("/save"):
                found = [
                    entry
                    for key in keys
                    for entry in sorted(self.kept.glob(f"caches/{glob.escape(slug(key))}*/{number}"))
                ]
                if found:
                    keep(found[0], path)
            if not action.endswith("/restore"):
                self.later.append((path, f"caches/{slug(options['key'])}/{number}"))

    def _path(self, text: str) -> Path:
        home = self.variables["HOME"]
        return self.repository / re.sub(r"^~(?=/|$)", home, text)

    def _paths(self, text: str) -> list[Path]:
        found = [Path(name) for line in text.split() for name in sorted(glob.glob(str(self._path(line))))]
        assert found, f"no file {text} to upload"
        return found

    def _resolve(self, text: Any) -> str:
        return _EXPRESSION.sub(lambda found: self._value(found[1]), str(text))

    def _holds(self, condition: str) -> bool:
        """Return whether a condition, with or without ${{ }}, is true."""
        text = _EXPRESSION.sub(r"\1", condition)
        for state, value in _STATES.items():
            text = text.replace(state, value)
        text = re.sub(r"hashFiles\('([^']*)'\)", lambda found: repr(self._hash(found[1])), text)
        text = _NAME.sub(lambda found: repr(self._value(found[0])), text)
        text = re.sub(r"!(?!=)", " not ", text.replace("&&", " and ").replace("||", " or "))
        return bool(eval(text.strip(), {"__builtins__": {}}))

    def _hash(self, pattern: str) -> str:
        found = sorted(self.repository.glob(pattern))
        return hashlib.sha256(b"".join(path.read_bytes() for path in found)).hexdigest() if found else ""

    def _value(self, expression: str) -> str:
        scope, _, name = expression.partition(".")
        known = {
            "github.workspace": str(self.repository),
            "github.event_name": "push",
            "github.ref": "refs/heads/main",
            "github.ref_name": "main",
            "github.sha": self.commit,
            "github.run_id": "1",
            "runner.temp": self.variables.get("TMPDIR", "/tmp"),
            "runner.os": "Linux",
            **self.outputs,
        }
        if named := re.fullmatch(r"hashFiles\('([^']*)'\)", expression):
            return self._hash(named[1])
        if scope in ("env", "secrets", "vars"):
            return {**self.variables, **self.environment}.get(name, f"a-{name.lower()}" if scope != "env" else "")
        if re.fullmatch(r"steps\.[\w-]+\.outputs\.[\w-]+", expression):
            return known.get(expression, "")
        assert expression in known, f"unknown expression {expression}: add its value in tests/system/docs/workflow.py"
        return known[expression]


def slug(key: str) -> str:
    """Return a file name for the key of a cache."""
    return re.sub(r"[^\w.-]", "_", key)


def keep(source: Path, target: Path) -> None:
    """Copy a file or a folder, if it exists."""
    if source.is_dir():
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(source, target, symlinks=True)
    elif source.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, target)


def pairs(text: str) -> dict[str, str]:
    """Parse the variables that a step has written: NAME=value, or NAME<<END, lines and END."""
    found, lines = {}, iter(text.splitlines())
    for line in lines:
        if match := re.fullmatch(r"(\w[\w-]*)<<(.+)", line):
            found[match[1]] = "\n".join(iter(functools.partial(next, lines), match[2]))
        elif "=" in line:
            name, _, value = line.partition("=")
            found[name] = value
    return found
