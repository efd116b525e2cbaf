"""Creates the environment and the layer of a case, and runs its handler in the environment and on the layer.

A case is a folder:

    handler.py         the handler; other files in the folder belong to the function, too
    requirements.txt   pinned; installed from a copy of the folder: can contain ./packages/NAME and -e ./packages/NAME
    packages/          source trees of invented distributions
    events.json        the events that are given to the tool
    unseen.json        further events, which are not given to the tool
    expected.toml      see `Expected`

Of the tool only the command is used: the checks of a layer do not depend on the tool's code.
"""

import fnmatch
import hashlib
import json
import marshal
import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from layer_minimizer.environment.processor import chosen_code

CASES = Path(__file__).resolve().parent
EXAMPLES = CASES.parents[2] / "examples"
MINIMIZE = Path(sys.executable).with_name("minimize")
_IGNORED = ("requirements.txt", "packages", "events.json", "unseen.json", "expected.toml", "__pycache__")
_TIMEOUT = 1800
_ENVIRONMENT = """
source "$1/common.sh"
fill() {
    mkdir -p "$env/src"
    cp -r "$1" "$env/src/case"
    cd "$env/src/case"
    quiet_pip "$2" install --requirement requirements.txt
}
base=$(find_python "$2") || die 3 "CPython $2 is not installed, neither on PATH nor with pyenv"
ensure_env "case-$3" "$base" "$4" fill "$5"
"""
# Mounts what standard input lists in lines "tmpfs FOLDER" or "ro FOLDER", then executes the command.
_MOUNT_AND_RUN = """
set -e
while read -r kind folder; do
    if [ "$kind" = tmpfs ]; then
        mount -t tmpfs none "$folder"
    else
        mount --bind "$folder" "$folder"
        mount -o remount,bind,ro "$folder"
    fi
done
START=$(date +%s.%N) exec "$@"
"""


@dataclass(frozen=True, slots=True)
class Expected:
    """The expectations for a case, read from expected.toml.

    Attributes:
        must_keep: patterns of site-relative paths; the layer must contain a match of each.
        must_drop: patterns of site-relative paths; the layer must not contain a match, except in its cold store.
        max_mb: the maximum size of a layer with ``--smallest``.
        unseen: for all or for each of the unseen events: ``same``, or the type of the error that the layer raises.
        max_mb_drop: the maximum size with ``--cold drop``; 0: only the benchmark makes this layer.
        heavy: the case takes minutes; a run of the tests can omit it.
        python: the version of CPython.
        prepare: a program that adds files to the function's folder, which is its argument.
    """

    must_keep: tuple[str, ...]
    must_drop: tuple[str, ...]
    max_mb: float
    unseen: tuple[str, ...]
    max_mb_drop: float = 0.0
    heavy: bool = False
    python: str = "3.11"
    prepare: str = ""

    @classmethod
    def read(cls, file: Path, events: int) -> "Expected":
        """Read expected.toml; an unknown key is an error."""
        data = tomllib.loads(file.read_text())
        unseen = data.pop("unseen")
        return cls(
            tuple(data.pop("must_keep")),
            tuple(data.pop("must_drop")),
            unseen=(unseen,) * events if isinstance(unseen, str) else tuple(unseen),
            **data,
        )


@dataclass(frozen=True, slots=True)
class Played:
    """The result of each event: "ok" or the type of the error, and a text.

    ``import_seconds``: time from the start of the interpreter until the handler is imported.
    """

    results: tuple[tuple[str, str], ...]
    import_seconds: float


@dataclass(frozen=True, slots=True)
class Layer:
    """An unpacked layer: its folder, its site-packages, and the tool's report."""

    opt: Path
    site: Path
    report: dict[str, Any]

    @property
    def files(self) -> set[str]:
        """The site-relative paths of what is in place in the layer; any bytecode counts as the source of its module."""
        files = (path for path in self.site.rglob("*") if not path.is_dir() and not _is_cold(path))
        names = {path.relative_to(self.site).as_posix() for path in files}
        packed = {name for file in self.site.glob("_layer_minimizer/code/*") for name in _packed(file)}
        return {re.sub(r"\.pyc$", ".py", name) for name in names} | packed

    @property
    def megabytes(self) -> float:
        return float(self.report["layer"]["unzipped_bytes"]) / 1e6

    @property
    def zipped_megabytes(self) -> float:
        return float(self.report["layer"]["zipped_bytes"]) / 1e6


@dataclass(frozen=True, slots=True)
class Case:
    """A case: its folder in tests/system/cases, and its expectations."""

    folder: Path
    expected: Expected

    @classmethod
    def read(cls, name: str) -> "Case":
        folder = CASES / name
        unseen = json.loads((folder / "unseen.json").read_bytes())
        return cls(folder, Expected.read(folder / "expected.toml", len(unseen)))

    @property
    def name(self) -> str:
        return self.folder.name

    @property
    def unseen_file(self) -> Path:
        return self.folder / "unseen.json"

    @property
    def events_file(self) -> Path:
        return self.folder / "events.json"

    def environment(self) -> Path:
        """Return the cached environment of the case.

        Raises:
            LookupError: this version of CPython is not installed.
        """
        files = [self.folder / "requirements.txt", *sorted((self.folder / "packages").rglob("*"))]
        digest = hashlib.sha256()
        for file in (file for file in files if file.is_file() and "__pycache__" not in file.parts):
            digest.update(f"{file.relative_to(self.folder)}\n".encode() + file.read_bytes())
        command = ["bash", "-euo", "pipefail", "-c", _ENVIRONMENT, "bash", EXAMPLES, self.expected.python, self.name]
        command += [digest.hexdigest(), self.folder]
        done = subprocess.run(command, text=True, capture_output=True, check=False, timeout=_TIMEOUT)
        if done.returncode == 3:
            raise LookupError(done.stderr.strip().splitlines()[-1])
        assert done.returncode == 0, done.stderr
        return Path(done.stdout.strip()).parent.parent

    def make_task(self, environment: Path, folder: Path) -> Path:
        """Create the function's folder, and return it."""
        ignored = shutil.ignore_patterns(*_IGNORED, "make_*")
        shutil.copytree(self.folder, folder, ignore=ignored)
        if self.expected.prepare:
            program = environment / "bin/python" if self.expected.prepare.endswith(".py") else "bash"
            command = [program, self.folder / self.expected.prepare, folder]
            subprocess.run(command, check=True, env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}, timeout=_TIMEOUT)
        return folder

    def workload(self, task: Path) -> tuple[object, ...]:
        """Return the tool's options for entry and events."""
        return ("--entry", task / "handler.py", "--event", self.events_file)

    def minimize(self, environment: Path, folder: Path, *options: object) -> Layer:
        """Make a layer with the tool's command, and unpack it in ``folder``."""
        folder.mkdir()
        layer, report = folder / "layer.zip", folder / "report.json"
        command = [MINIMIZE, "--python", environment / "bin/python", *options]
        command += ["--output", layer, "--report-json", report]
        variables = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "COV"))}
        done = subprocess.run(
            list(map(str, command)), env=variables, text=True, capture_output=True, check=False, timeout=_TIMEOUT
        )
        assert done.returncode == 0, f"exit code {done.returncode}\n{done.stderr}"
        unzip(layer, folder / "opt")
        site = folder / "opt/python/lib" / f"python{self.expected.python}" / "site-packages"
        return Layer(folder / "opt", site, json.loads(report.read_bytes()))

    def play(self, task: Path, events: Path, environment: Path, layer: Layer | None = None) -> Played:
        """Run the handler with ``events``, in its environment, or on the layer with the environment hidden.

        As in Lambda, the function's folder and the layer are read-only, and TMPDIR is empty.
        """
        python, mounts = environment / "bin/python", [f"ro {task}"]
        with tempfile.TemporaryDirectory(prefix="case-") as name:
            scratch = Path(name).resolve()
            place = scratch / "tmp"
            place.mkdir()
            variables = {"PATH": os.environ["PATH"], "HOME": str(place), "TMPDIR": str(place), "LANG": "C.UTF-8"}
            variables |= {"PYTHONDONTWRITEBYTECODE": "1", **chosen_code(os.environ)}
            if layer:
                python = python.resolve()
                variables["PYTHONPATH"] = str(layer.site)
                mounts += [f"tmpfs {folder}" for folder in (environment, *_site_folders(python))]
                mounts.append(f"ro {layer.opt}")
            # The handler must not notice how it is run: no additional files in its folder, the same paths in both runs.
            shutil.copy(CASES / "play.py", scratch)
            shutil.copy(events, scratch / "given.json")
            command = [python, scratch / "play.py", task, scratch / "given.json", scratch / "result.json"]
            done = subprocess.run(
                [*namespace(), "sh", "-c", _MOUNT_AND_RUN, "sh", *map(str, command)],
                input="\n".join(mounts) + "\n",
                env=variables,
                cwd=task,
                text=True,
                capture_output=True,
                check=False,
                timeout=_TIMEOUT,
            )
            result = scratch / "result.json"
            assert result.exists(), f"exit code {done.returncode}\n{done.stderr[-3000:]}"
            data = json.loads(result.read_bytes())
        here = str(layer.site if layer else environment / "lib" / f"python{self.expected.python}" / "site-packages")
        # Only the path of the packages may differ.
        results = tuple((kind, text.replace(here, "SITE")) for kind, text in data["results"])
        return Played(results, data["import_seconds"])

    def differences(self, original: Played, played: Played, expected: Iterable[str]) -> Iterator[str]:
        """Yield a description of each event whose result is not the expected one."""
        pairs = zip(expected, original.results, played.results, strict=True)
        for number, (wanted, there, here) in enumerate(pairs):
            if (here != there) if wanted == "same" else (here[0] != wanted):
                yield f"event {number}: expected {wanted}\n  environment: {there}\n  layer: {here}"


def row(case: Case, layer: Layer, original: Played, alone: Played) -> dict[str, Any]:
    """Return a row of the table of cases; for reliable times see the benchmark."""
    return {
        "case": case.name,
        "before": layer.report["before"]["bytes"] / 1e6,
        "keep": layer.megabytes,
        "zipped": layer.zipped_megabytes,
        "import": original.import_seconds,
        "on layer": alone.import_seconds,
        "tool": sum(layer.report["seconds"].values()),
        "unseen": ", ".join(kind for kind, _ in original.results),
    }


def names() -> list[str]:
    """Return the names of all cases."""
    return sorted(file.parent.name for file in CASES.glob("*/expected.toml"))


def parameters() -> list[Any]:
    """Return the names of all cases as test parameters; heavy cases are marked."""
    heavy = pytest.mark.heavy
    return [pytest.param(name, marks=[heavy] if Case.read(name).expected.heavy else []) for name in names()]


def namespace() -> Sequence[str]:
    """Return the prefix of a command that runs in a new mount namespace."""
    return ("unshare", "-m") if os.geteuid() == 0 else ("unshare", "-r", "-m")


def _packed(file: Path) -> list[str]:
    """Return the modules in a file of packed bytecode; its first line has the length of its table."""
    line, _, rest = file.read_bytes().partition(b"\n")
    table = rest[: int(line.split()[1])]
    return [f"{stem}.py" for stem in marshal.loads(zlib.decompress(table) if table.startswith(b"x") else table)]


def missing(patterns: Iterable[str], files: set[str]) -> list[str]:
    """Return the patterns that match no file."""
    return [pattern for pattern in patterns if not fnmatch.filter(files, pattern)]


def present(patterns: Iterable[str], files: set[str]) -> list[str]:
    """Return the files that match a pattern."""
    return sorted({name for pattern in patterns for name in fnmatch.filter(files, pattern)})


def _is_cold(path: Path) -> bool:
    """Return whether a file in a layer is a link to where it will be restored."""
    return path.is_symlink() and os.readlink(path).startswith("/tmp/.layer_minimizer-")


def _site_folders(python: Path) -> list[Path]:
    """Return the site-packages folders of the base interpreter."""
    query = "import site; print(*site.getsitepackages(), site.getusersitepackages(), sep='\\n')"
    done = subprocess.run([python, "-c", query], check=True, capture_output=True, text=True)
    return [folder for folder in map(Path, done.stdout.splitlines()) if folder.is_dir()]


def unzip(archive: Path, folder: Path) -> None:
    """Unpack a layer with permissions and symbolic links, which zipfile ignores."""
    with zipfile.ZipFile(archive) as source:
        for entry in source.infolist():
            path, mode = folder / entry.filename, entry.external_attr >> 16
            if mode & 0o170000 == 0o120000:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.symlink_to(source.read(entry).decode())
            else:
                source.extract(entry, folder)
                if not entry.is_dir():
                    path.chmod(mode & 0o777)
