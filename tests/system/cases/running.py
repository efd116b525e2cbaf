"""What is done with a case: its environment, its layer, and runs of its handler here and there.

A case is a folder:

    handler.py         as somebody would write it; what lies beside it belongs to the function, too
    requirements.txt   pinned; read in a copy of the folder: ./packages/NAME and -e ./packages/NAME may stand there
    packages/          source trees of invented distributions
    events.json        the events that the tool is given
    unseen.json        the events that it is not given
    expected.toml      see `Expected`

Nothing of the tool's own is used here but its command: what a layer can do is found out by other means.
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

CASES = Path(__file__).resolve().parent
EXAMPLES = CASES.parents[2] / "examples"
MINIMIZE = Path(sys.executable).with_name("minimize")
_NOT_OF_THE_FUNCTION = ("requirements.txt", "packages", "events.json", "unseen.json", "expected.toml", "__pycache__")
_TIMEOUT = 1800
_ENVIRONMENT = """
source "$1/common.sh"
fill() {
    mkdir -p "$env/src"
    cp -r "$1" "$env/src/case"
    cd "$env/src/case"
    quiet_pip "$2" install --requirement requirements.txt
}
base=$(find_python "$2") || die 3 "there is no CPython $2 on PATH or under pyenv"
ensure_env "case-$3" "$base" "$4" fill "$5"
"""
# Prepares the mounts named on standard input, each a line "tmpfs FOLDER" or "ro FOLDER", and becomes the command.
_PLACE = """
set -e
while read -r kind folder; do
    if [ "$kind" = tmpfs ]; then
        mount -t tmpfs none "$folder"
    else
        mount --bind "$folder" "$folder"
        mount -o remount,bind,ro "$folder"
    fi
done
BEGUN=$(date +%s.%N) exec "$@"
"""


@dataclass(frozen=True, slots=True)
class Expected:
    """What must hold of a case.

    ``must_keep`` are patterns of site-relative paths of which the layer has at least one file each, ``must_drop`` those
    of which it has none, beside what it can restore; ``max_mb`` is the size of a layer by the tool's default options,
    and ``max_mb_drop`` with ``--cold drop``, which is left to the benchmark where it is not given. ``heavy`` ones take
    minutes: runs may be told to take some of them only. ``unseen`` tells for
    all or for each of the unseen events that the layer gives the ``same`` as the environment, or the type of the error
    that it raises. ``prepare`` is a program that puts further files into the function's folder, its argument.
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
        """Read expected.toml; a key that does not exist is an error."""
        said = tomllib.loads(file.read_text())
        unseen = said.pop("unseen")
        return cls(
            tuple(said.pop("must_keep")),
            tuple(said.pop("must_drop")),
            unseen=(unseen,) * events if isinstance(unseen, str) else tuple(unseen),
            **said,
        )


@dataclass(frozen=True, slots=True)
class Played:
    """What came of each event, a kind ("ok", or an error's type) and a text.

    ``import_seconds`` are those from the interpreter's start until the handler was imported.
    """

    results: tuple[tuple[str, str], ...]
    import_seconds: float


@dataclass(frozen=True, slots=True)
class Layer:
    """An unpacked layer, and the tool's report."""

    opt: Path
    site: Path
    report: dict[str, Any]

    @property
    def files(self) -> set[str]:
        """The site-relative paths in it; bytecode counts as the module that it is of, compressed or not."""
        names = {path.relative_to(self.site).as_posix() for path in self.site.rglob("*") if not path.is_dir()}
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
    """A folder of this one."""

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
        """Return the case's environment, which is made once and cached.

        Raises:
            LookupError: there is no such CPython here.
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
        """Return a folder with what belongs to the function."""
        ignored = shutil.ignore_patterns(*_NOT_OF_THE_FUNCTION, "make_*")
        shutil.copytree(self.folder, folder, ignore=ignored)
        if self.expected.prepare:
            program = environment / "bin/python" if self.expected.prepare.endswith(".py") else "bash"
            command = [program, self.folder / self.expected.prepare, folder]
            subprocess.run(command, check=True, env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}, timeout=_TIMEOUT)
        return folder

    def workload(self, task: Path) -> tuple[object, ...]:
        """Return the options that say what the tool is to run."""
        return ("--entry", task / "handler.py", "--event", self.events_file)

    def minimize(self, environment: Path, folder: Path, *options: object) -> Layer:
        """Make a layer as a user would, and unpack it below ``folder``."""
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
        """Run the handler on ``events``, in its environment, or on the layer with the environment hidden.

        The function's folder and the layer are read-only, TMPDIR is empty, as in Lambda.
        """
        python, mounts = environment / "bin/python", [f"ro {task}"]
        with tempfile.TemporaryDirectory(prefix="case-") as name:
            scratch = Path(name).resolve()
            place = scratch / "tmp"
            place.mkdir()
            variables = {"PATH": os.environ["PATH"], "HOME": str(place), "TMPDIR": str(place), "LANG": "C.UTF-8"}
            variables["PYTHONDONTWRITEBYTECODE"] = "1"
            if layer:
                python = python.resolve()
                variables["PYTHONPATH"] = str(layer.site)
                mounts += [f"tmpfs {folder}" for folder in (environment, *_site_folders(python))]
                mounts.append(f"ro {layer.opt}")
            # The handlers must not see how they are run: no files beside theirs, the same paths in both places.
            shutil.copy(CASES / "play.py", scratch)
            shutil.copy(events, scratch / "given.json")
            command = [python, scratch / "play.py", task, scratch / "given.json", scratch / "result.json"]
            done = subprocess.run(
                [*namespace(), "sh", "-c", _PLACE, "sh", *map(str, command)],
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
            said = json.loads(result.read_bytes())
        here = str(layer.site if layer else environment / "lib" / f"python{self.expected.python}" / "site-packages")
        # Only where the packages lie may differ.
        results = tuple((kind, text.replace(here, "SITE")) for kind, text in said["results"])
        return Played(results, said["import_seconds"])

    def differences(self, original: Played, played: Played, expected: Iterable[str]) -> Iterator[str]:
        """Tell which events did not come out as they must, and how."""
        pairs = zip(expected, original.results, played.results, strict=True)
        for number, (wanted, there, here) in enumerate(pairs):
            if (here != there) if wanted == "same" else (here[0] != wanted):
                yield f"event {number} must give {wanted}\n  environment: {there}\n  layer: {here}"


def row(case: Case, layer: Layer, original: Played, alone: Played) -> dict[str, Any]:
    """Return what the table of cases tells of one; a single run's seconds are an impression, see the benchmark."""
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
    """Return the names of all cases for tests, the heavy ones with a mark."""
    heavy = pytest.mark.heavy
    return [pytest.param(name, marks=[heavy] if Case.read(name).expected.heavy else []) for name in names()]


def namespace() -> Sequence[str]:
    """Return the start of a command line that runs with mounts of its own."""
    return ("unshare", "-m") if os.geteuid() == 0 else ("unshare", "-r", "-m")


def _packed(file: Path) -> list[str]:
    """Return the modules in a file of compressed bytecode; its first line says how long its table is."""
    line, _, rest = file.read_bytes().partition(b"\n")
    return [f"{stem}.py" for stem in marshal.loads(zlib.decompress(rest[: int(line.split()[1])]))]


def missing(patterns: Iterable[str], files: set[str]) -> list[str]:
    """Return the patterns that no file fits."""
    return [pattern for pattern in patterns if not fnmatch.filter(files, pattern)]


def present(patterns: Iterable[str], files: set[str]) -> list[str]:
    """Return the files that fit a pattern."""
    return sorted({name for pattern in patterns for name in fnmatch.filter(files, pattern)})


def _site_folders(python: Path) -> list[Path]:
    """Return the folders in which the interpreter itself would find packages."""
    ask = "import site; print(*site.getsitepackages(), site.getusersitepackages(), sep='\\n')"
    done = subprocess.run([python, "-c", ask], check=True, capture_output=True, text=True)
    return [folder for folder in map(Path, done.stdout.splitlines()) if folder.is_dir()]


def unzip(archive: Path, folder: Path) -> None:
    """Unpack a layer with its permissions and symbolic links, which zipfile leaves out."""
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
