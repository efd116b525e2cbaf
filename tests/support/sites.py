"""Invented distributions, and environments in which they are installed."""

from __future__ import annotations

import contextlib
import csv
import io
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from layer_minimizer.environment import interpreter
from layer_minimizer.environment.inventory import take_inventory
from layer_minimizer.environment.workload import load_workload
from layer_minimizer.execution.observed_run import Observer
from layer_minimizer.trace import tracer

from .pythons import MAIN, name_of_version, need_python

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from layer_minimizer.model.installed import Inventory
    from layer_minimizer.model.interpreter import Interpreter
    from layer_minimizer.model.trace import ForeignRoot, Trace


Content = str | bytes
ALPHA = {
    "alpha/__init__.py": "from alpha import core\n\nVALUE = core.read()\n",
    "alpha/core.py": (
        "import os\n\n\ndef read():\n"
        "    with open(os.path.join(os.path.dirname(__file__), 'data.txt')) as data:\n"
        "        return data.read()\n"
    ),
    "alpha/data.txt": "the data of alpha",
    "alpha/unused.py": "WASTE = 1\n",
    "alpha/unused.dat": "x" * 5000,
}


def write_files(folder: Path, files: Mapping[str, Content]) -> Path:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder


def install(
    site: Path,
    name: str,
    files: Mapping[str, Content],
    version: str = "1.0",
    *,
    metadata: Mapping[str, Content] | None = None,
    record: bool = True,
) -> Path:
    """Install a distribution in ``site`` as pip does, and return its dist-info folder."""
    info = f"{name.replace('-', '_')}-{version}.dist-info"
    header = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    extra = {f"{info}/{key}": content for key, content in (metadata or {}).items()}
    everything = {**files, f"{info}/METADATA": header, **extra}
    write_files(site, everything)
    if record:
        out = io.StringIO(newline="")
        csv.writer(out).writerows([[path, "", ""] for path in (*everything, f"{info}/RECORD")])
        (site / info / "RECORD").write_bytes(out.getvalue().encode("utf-8", "surrogateescape"))
    return site / info


@pytest.fixture
def write() -> Callable[[Path, Mapping[str, Content]], Path]:
    """Return `write_files`."""
    return write_files


@pytest.fixture
def make_site(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that installs an invented distribution: ``make_site(name, {path: content}, version)``."""

    def make(
        name: str, files: Mapping[str, Content], version: str = "1.0", *, site: str = "site", **more: object
    ) -> Path:
        install(tmp_path / site, name, files, version, **more)  # type: ignore[arg-type]
        return tmp_path / site

    return make


@dataclass(frozen=True)
class Environment:
    """A virtual environment without pip, with the distributions that a test installs."""

    root: Path
    version: str

    @property
    def python(self) -> str:
        return str(self.root / "bin" / "python")

    @property
    def site(self) -> Path:
        return self.root / "lib" / f"python{self.version}" / "site-packages"

    def install(self, name: str, files: Mapping[str, Content], version: str = "1.0", **more: object) -> Environment:
        install(self.site, name, files, version, **more)  # type: ignore[arg-type]
        return self

    def describe(self) -> Interpreter:
        return interpreter.describe_interpreter(self.python)

    def take_inventory(self, foreign: Iterable[ForeignRoot] = ()) -> Inventory:
        return take_inventory(self.describe(), foreign)


def link_environment(root: Path, python: str, version: str = "") -> Environment:
    """Create the same as ``python -m venv --without-pip``, but faster; ``version`` is that of ``python`` if known."""
    made = Environment(root, version or name_of_version(python))
    made.site.mkdir(parents=True)
    (root / "bin").mkdir()
    (root / "lib64").symlink_to("lib")
    for link in (f"python{made.version}", "python3", "python"):
        (root / "bin" / link).symlink_to(python)
    home = Path(python).resolve().parent
    (root / "pyvenv.cfg").write_text(f"home = {home}\ninclude-system-site-packages = false\n")
    return made


def create_environment(root: Path, python: str, *options: str) -> Environment:
    """Create an environment with venv."""
    subprocess.run([python, "-m", "venv", "--without-pip", *options, str(root)], check=True)
    return Environment(root, name_of_version(python))


@pytest.fixture
def make_environment(tmp_path: Path) -> Callable[..., Environment]:
    """Return a function that creates an empty environment: ``make_environment(python, name)``."""
    return lambda python, name="env": link_environment(tmp_path / name, python)


@contextlib.contextmanager
def temporary_folder() -> Iterator[Path]:
    """Yield a temporary folder that other users may read, unlike pytest's, with symbolic links resolved."""
    folder = Path(tempfile.mkdtemp(prefix="minimize-tests-")).resolve()
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def env(tmp_path: Path, base_python: str) -> Environment:
    """Return an empty environment of the Python that runs the tests."""
    return link_environment(tmp_path / "env", base_python, MAIN)


@pytest.fixture
def each_env(make_environment: Callable[..., Environment], cpython: str) -> Environment:
    """Return an empty environment of each supported CPython in turn."""
    return make_environment(cpython)


@pytest.fixture(scope="session")
def stocked_env() -> Iterator[Environment]:
    """Yield the environment that most tests share; no run may change it."""
    with temporary_folder() as folder:
        made = create_environment(folder / "env", need_python(MAIN))
        made.install("alpha", ALPHA)
        made.install("beta", {"beta.py": "NAME = 'beta'\n", "beta_more.py": "X = 1\n"}, version="2.0")
        made.install("gamma", {"gamma/__init__.py": "WIDTH = 3\n", "gamma/lib.py": "X = 1\n"})
        yield made


@pytest.fixture
def trace_run(tmp_path: Path) -> Callable[..., Trace]:
    """Return a function that traces a workload in an environment; the first of its ``files`` is the entry."""
    runs: list[int] = []

    def run(where: Environment, files: Mapping[str, Content], observer: str = "probe", **options: object) -> Trace:
        runs.append(0)
        folder = write_files(tmp_path / f"function{len(runs)}", files)
        workload = load_workload(folder / next(iter(files)), **options)  # type: ignore[arg-type]
        observers = (Observer.PROBE, Observer.STRACE) if observer == "strace" else (Observer.PROBE,)
        scratch = tmp_path / f"scratch{len(runs)}"
        return tracer.Tracer(where.describe(), observers, 60).trace(workload, scratch)

    return run
