"""What the actions in this folder do: caches and artifacts in the folder STAND_IN_STORE, Pythons of the tool cache.

Caches are as those of GitHub: a key is never overwritten, and a job sees those of its own branch, then those of the
branch that a pull request is for, then those of the main branch. Of several keys with the wanted beginning the newest
counts.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import subprocess
import sys
import urllib.parse
from pathlib import Path

STORE = Path(os.environ["STAND_IN_STORE"])


def value(name: str) -> str:
    return os.environ.get(f"INPUT_{name}", "").strip()


def say(*words: str) -> None:
    sys.stdout.write(" ".join(words) + "\n")


def put(name: str, text: str) -> None:
    with open(os.environ["GITHUB_OUTPUT"], "a") as file:
        file.write(f"{name}={text}\n")


def key_folder(ref: str, key: str) -> Path:
    assert len(key) <= 512, "a key has at most 512 characters"
    assert "," not in key, "a key has no comma"
    return STORE / "caches" / urllib.parse.quote(ref, safe="") / urllib.parse.quote(key, safe="")


def restore() -> None:
    base = os.environ.get("GITHUB_BASE_REF", "")
    visible = [os.environ["GITHUB_REF"], *([f"refs/heads/{base}"] if base else []), "refs/heads/main"]
    for ref in visible:
        for number, key in enumerate((value("KEY"), value("KEY"), *value("RESTORE_KEYS").split())):
            exact = key_folder(ref, key)
            fitting = list(exact.parent.glob(f"{exact.name}*")) if number else [exact]
            found = sorted((each for each in fitting if each.is_dir()), key=lambda each: each.stat().st_mtime_ns)
            if found:
                os.makedirs(value("PATH"), exist_ok=True)
                # Jobs of one workflow run here at the same time, on one machine: another one may have these files.
                command = ["tar", "--skip-old-files", "-xf", found[-1] / "cache.tar", "-C", value("PATH")]
                subprocess.run(command, check=True)
                put("cache-hit", "true" if found[-1] == key_folder(ref, value("KEY")) else "false")
                say("Cache restored from key:", urllib.parse.unquote(found[-1].name))
                return
    say("Cache not found for input keys:", value("KEY"), *value("RESTORE_KEYS").split())


def save() -> None:
    target = key_folder(os.environ["GITHUB_REF"], value("KEY"))
    if not os.path.isdir(value("PATH")):
        say("::warning::Path Validation Error: Path(s) specified in the action for caching do(es) not exist.")
    elif target.exists():
        say("::warning::Unable to reserve cache, another job may be creating this cache.")
    else:
        target.mkdir(parents=True)
        subprocess.run(["tar", "-cf", target / "cache.tar", "-C", value("PATH"), "."], check=True)
        say("Cache saved with key:", value("KEY"))


def upload() -> None:
    name = value("NAME")
    assert not re.search(r'["<>:|*?\r\n\\/]', name), f"The artifact name is not valid: {name}"
    target = STORE / "artifacts" / os.environ["STAND_IN_RUN"] / name
    if value("OVERWRITE") == "true":
        shutil.rmtree(target, ignore_errors=True)
    given = Path(value("PATH"))
    files = [path for path in (given, *given.rglob("*")) if path.is_file()]
    assert files or value("IF_NO_FILES_FOUND") != "error", (
        f"No files were found with the provided path: {value('PATH')}"
    )
    for path in files:
        copy = target / (path.name if path == given else path.relative_to(given))
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, copy)


def python() -> None:
    version = value("PYTHON_VERSION")
    for folder in sorted(Path(os.environ["RUNNER_TOOL_CACHE"], "Python").iterdir()):
        if f"{folder.name}.".startswith(f"{version}."):
            put("python-path", str(folder / "x64/bin/python"))
            put("python-version", folder.name)
            if value("UPDATE_ENVIRONMENT") == "true":
                with open(os.environ["GITHUB_PATH"], "a") as file:
                    file.write(f"{folder}/x64/bin\n")
            return
    sys.exit(f"The version '{version}' with architecture 'x64' was not found")


if __name__ == "__main__":
    STORE.mkdir(parents=True, exist_ok=True)
    lock = (STORE / "lock").open("w")  # until the end
    fcntl.flock(lock, fcntl.LOCK_EX)
    {"restore": restore, "save": save, "upload": upload, "python": python}[sys.argv[1]]()
