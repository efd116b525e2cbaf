"""Invented environments, and a desk at which the command is run; every run is checked for what it leaves behind."""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
import stat
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import layer_minimizer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

VERSIONS = tuple(f"3.{minor}" for minor in range(6, 15))
MAIN = f"{sys.version_info.major}.{sys.version_info.minor}"
PACKAGE = Path(layer_minimizer.__file__).parent
TOOL = (sys.executable, "-m", "layer_minimizer")

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
ALPHA_KEPT = {"alpha/__init__.py", "alpha/core.py", "alpha/data.txt"}
HANDLER = "import alpha\n\n\ndef handler(event, context):\n    return {'value': alpha.VALUE, 'event': event}\n"


def listing(*roots: Path) -> dict[str, tuple[object, ...]]:
    """Give all that can be told of every file below ``roots`` without opening it for writing."""
    found: dict[str, tuple[object, ...]] = {}
    for root in roots:
        for folder, folders, names in os.walk(root):
            for path in (folder, *(os.path.join(folder, name) for name in (*folders, *names))):
                status = os.lstat(path)
                content: object = None
                if stat.S_ISLNK(status.st_mode):
                    content = os.readlink(path)
                elif stat.S_ISREG(status.st_mode):
                    content = hash(Path(path).read_bytes())
                found[path] = (status.st_mode, status.st_mtime_ns, status.st_uid, content)
    return found


def install(
    site: Path,
    name: str,
    files: Mapping[str, str | bytes],
    *,
    version: str = "1.0",
    record: bool = True,
    extra: Mapping[str, str] | None = None,
) -> None:
    """Put an invented distribution into ``site``; ``extra`` are further files of its dist-info folder."""
    info = f"{name.replace('-', '_')}-{version}.dist-info"
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    own = {f"{info}/{file}": text for file, text in {"METADATA": metadata, **(extra or {})}.items()}
    everything = {**files, **own}
    if record:
        everything[f"{info}/RECORD"] = "".join(f"{path},,\n" for path in [*everything, f"{info}/RECORD"])
    for path, content in everything.items():
        target = site / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content if isinstance(content, bytes) else content.encode())


@dataclass
class Environment:
    """A virtual environment with nothing in it but what a test has put there."""

    root: Path
    version: str

    @property
    def python(self) -> Path:
        return self.root / "bin" / "python"

    @property
    def site(self) -> Path:
        return self.root / "lib" / f"python{self.version}" / "site-packages"

    def install(self, name: str, files: Mapping[str, str | bytes], **kwargs: object) -> Environment:
        install(self.site, name, files, **kwargs)  # type: ignore[arg-type]
        return self


@dataclass
class Ended:
    """How the command ended and what it said."""

    code: int
    out: str
    err: str


@dataclass
class Desk:
    """A folder with the user's files, and folders for all that the command could leave behind."""

    folder: Path
    watched: list[Path] = field(default_factory=list)

    def __post_init__(self) -> None:
        for path in (self.work, self.tmp, self.home, self.output.parent):
            path.mkdir(parents=True)

    @property
    def work(self) -> Path:
        return self.folder / "work"

    @property
    def tmp(self) -> Path:
        return self.folder / "tmp"

    @property
    def home(self) -> Path:
        return self.folder / "home"

    @property
    def output(self) -> Path:
        return self.folder / "out" / "layer.zip"

    def write(self, name: str, content: str | bytes) -> Path:
        path = self.work / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    def variables(self, more: Mapping[str, str] | None = None) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "XDG_", "COV"))}
        return {**kept, "HOME": str(self.home), "TMPDIR": str(self.tmp), **(more or {})}

    def arguments(self, env: Environment | None, *args: object, entry: object = "handler.py") -> list[str]:
        given = [str(arg) for arg in args]
        if entry and "--entry" not in given:
            given += ["--entry", str(self.work / str(entry))]
        if env is not None:
            given += ["--python", str(env.python)]
        if "--output" not in given and not {"--save-trace", "--save-plan", "--explain"} & set(given):
            given += ["--output", str(self.output)]
        # What becomes of Python code, and how often a layer is run, is not what most of these tests are about.
        for option, value in (("--effort", "0"), ("--bytecode", "source"), ("--cold", "drop"), ("--runs", "1")):
            if option not in given:
                given += [option, value]
        return given

    def minimize(
        self,
        env: Environment | None,
        *args: object,
        entry: object = "handler.py",
        code: int = 0,
        variables: Mapping[str, str] | None = None,
        prefix: Sequence[str] = (),
        cwd: Path | None = None,
    ) -> Ended:
        """Run the command, and require its exit code and that it leaves nothing behind and changes nothing."""
        seen = [self.work, self.home, *self.watched, *([env.root] if env else [])]
        before = listing(*seen)
        done = subprocess.run(
            [*prefix, *TOOL, *self.arguments(env, *args, entry=entry)],
            env=self.variables(variables),
            cwd=cwd or self.folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="backslashreplace",
            timeout=120,
            check=False,
        )
        ended = Ended(done.returncode, done.stdout, done.stderr)
        assert ended.code == code, f"exit code {ended.code}, not {code}\n{ended.err}\n{ended.out}"
        assert listing(*seen) == before
        self.require_clean()
        if code:
            assert ended.out == ""
            assert not self.output.exists()
            assert str(PACKAGE) not in ended.err
            assert "harness.py" not in ended.err
        return ended

    def fails(self, env: Environment | None, code: int, words: Sequence[str], *args: object, **kwargs: object) -> Ended:
        """Run the command, and require that it fails with ``code`` and a message that has all ``words``."""
        ended = self.minimize(env, *args, code=code, **kwargs)  # type: ignore[arg-type]
        missing = [word for word in words if word not in ended.err]
        assert not missing, f"{missing} not in:\n{ended.err}"
        return ended

    def require_clean(self) -> None:
        """Require that no scratch folder and no unfinished output is left."""
        assert os.listdir(self.tmp) == []
        assert [str(path) for path in self.folder.rglob("*.part")] == []
        assert {path.name for path in self.output.parent.iterdir()} <= {self.output.name}

    def kept(self, version: str = MAIN, layout: str = "site") -> set[str]:
        """Give the site-relative names of the files in the layer, but for what serves the cold store."""
        prefix = "python/" if layout == "flat" else f"python/lib/python{version}/site-packages/"
        with zipfile.ZipFile(self.output) as archive:
            names = [entry.filename for entry in archive.infolist() if not entry.is_dir()]
            assert all(name.startswith(prefix) for name in names), names
            own = {f"{prefix}layer_minimizer.pth"}
            if f"{prefix}sitecustomize.py" in names and b"_layer_minimizer" in archive.read(
                f"{prefix}sitecustomize.py"
            ):
                own.add(f"{prefix}sitecustomize.py")
        names = [name for name in names if name not in own and not name.startswith(f"{prefix}_layer_minimizer/")]
        return {name.removeprefix(prefix) for name in names}


def _real_python(candidate: str | Path) -> str | None:
    try:
        asked = subprocess.run(
            [str(candidate), "-c", "import sys, os; print(sys.executable); print('%d.%d' % sys.version_info[:2])"],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    except OSError:
        return None
    lines = asked.stdout.split()
    return f"{os.path.realpath(lines[0])} {lines[1]}" if asked.returncode == 0 and len(lines) == 2 else None


@functools.cache
def find_python(version: str) -> str | None:
    """Find CPython ``version`` on PATH or among pyenv's."""
    if version == MAIN:
        return os.path.realpath(sys.executable)
    candidates: list[str | Path] = []
    if pyenv := shutil.which("pyenv"):
        root = subprocess.run([pyenv, "root"], capture_output=True, text=True, check=False).stdout.strip()
        candidates += sorted(Path(root).glob(f"versions/{version}.*/bin/python{version}"))
    if program := shutil.which(f"python{version}"):
        candidates.append(program)
    for candidate in candidates:
        found = _real_python(candidate)
        if found and found.split()[1] == version:
            return found.split()[0]
    return None


@contextlib.contextmanager
def temporary_folder() -> Iterator[Path]:
    """Give a folder that other users may enter, unlike pytest's own, under its real name."""
    folder = Path(tempfile.mkdtemp(prefix="minimize-tests-")).resolve()
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def find() -> Callable[[str], str]:
    """Give the interpreter of a version, or skip."""

    def give(version: str) -> str:
        found = find_python(version)
        if found is None:
            pytest.skip(f"there is no python{version} here")
        return found

    return give


@pytest.fixture
def make_env(find: Callable[[str], str]) -> Iterator[Callable[..., Environment]]:
    """Make virtual environments that are gone after the test."""
    with temporary_folder() as folder:
        yield functools.partial(_make_env, folder, find)


def _make_env(
    folder: Path, find: Callable[[str], str], version: str = MAIN, *options: str, base: str = ""
) -> Environment:
    root = folder / f"venv{len(list(folder.iterdir()))}"
    subprocess.run([base or find(version), "-m", "venv", "--without-pip", *options, str(root)], check=True)
    return Environment(root, version)


@pytest.fixture(scope="session")
def env(find: Callable[[str], str]) -> Iterator[Environment]:
    """Give the environment that most tests share: every run is required to leave it as it is."""
    with temporary_folder() as folder:
        made = _make_env(folder, find)
        made.install("alpha", ALPHA)
        made.install("beta", {"beta.py": "NAME = 'beta'\n", "beta_more.py": "X = 1\n"}, version="2.0")
        made.install("gamma", {"gamma/__init__.py": "WIDTH = 3\n", "gamma/lib.py": "X = 1\n"})
        yield made


@pytest.fixture
def desk() -> Iterator[Desk]:
    """Give an empty desk."""
    with temporary_folder() as folder:
        made = Desk(folder / "desk")
        yield made


@pytest.fixture
def handler(desk: Desk) -> Path:
    """Give a handler that uses alpha."""
    return desk.write("handler.py", HANDLER)


@pytest.fixture(scope="session")
def make_lasting_env(tmp_path_factory: pytest.TempPathFactory, find: Callable[[str], str]) -> Callable[[], Environment]:
    """Make virtual environments that several tests share."""
    return lambda: _make_env(tmp_path_factory.mktemp("env"), find)


@pytest.fixture(scope="session")
def new_desk(tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Desk]:
    """Give further desks, for what several tests share."""
    return lambda: Desk(tmp_path_factory.mktemp("desk") / "desk")


@pytest.fixture(scope="session")
def kept_of_alpha() -> set[str]:
    return set(ALPHA_KEPT)


@pytest.fixture(scope="session")
def add() -> Callable[..., None]:
    """Put an invented distribution into a folder: add(site, name, files)."""
    return install


@pytest.fixture(scope="session")
def state() -> Callable[..., dict[str, tuple[object, ...]]]:
    """Tell all of what is below some folders."""
    return listing


@pytest.fixture(scope="session")
def tool() -> tuple[str, ...]:
    """Give the start of the command line."""
    return TOOL


@pytest.fixture(scope="session")
def main_version() -> str:
    return MAIN


@pytest.fixture(params=VERSIONS)
def version(request: pytest.FixtureRequest, find: Callable[[str], str]) -> str:
    """Give every CPython that is here, one after another."""
    find(request.param)
    return str(request.param)


@pytest.fixture(scope="session")
def in_mounts() -> Callable[..., tuple[str, ...]]:
    """Give the start of a command line that runs shell code in a mount namespace before and after it, or skip."""
    unshare = shutil.which("unshare")
    options = ("-m",) if os.geteuid() == 0 else ("-r", "-m")
    if unshare is None:
        pytest.skip("there is no program unshare here")
    tried = [unshare, *options, "mount", "-t", "tmpfs", "none", tempfile.gettempdir()]
    if subprocess.run(tried, check=False, capture_output=True).returncode != 0:
        pytest.skip("mount namespaces cannot be made here")

    def start(before: str, after: str = "") -> tuple[str, ...]:
        script = f'set -e\n{before}\nset +e\n"$@"\ncode=$?\n{after}\nexit $code'
        return (unshare, *options, "sh", "-c", script, "sh")

    return start
