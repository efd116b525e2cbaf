"""A real engine, images made on the spot (no registry is needed), and a desk at which the one command is run."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

MINIMIZE = Path(sys.executable).with_name("minimize")
EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
DEBIAN = "layer_minimizer_test/debian:bookworm"
PACKAGES = "python3,python3-venv,python3-pip,g++,libc6-dev,strace,ca-certificates"
MINUTES = 600
# What a machine's interpreters have beyond what CPython installs stays here.
OF_CPYTHON = {"pip", "setuptools", "pkg_resources", "_distutils_hack", "distutils-precedence.pth"}


def cache() -> Path:
    unasked = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "layer_minimizer")
    return Path(os.environ.get("LAYER_MINIMIZER_CACHE") or unasked)


@dataclass
class Engine:
    """Docker's command line, and the images that the tests have made with it."""

    program: str
    variables: dict[str, str]
    images: set[str] = field(default_factory=set)

    def ask(self, *arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, **self.variables, "DOCKER_BUILDKIT": "0"}
        command = [self.program, *arguments]
        options = {"timeout": MINUTES, **options}
        return subprocess.run(command, env=environment, check=False, capture_output=True, text=True, **options)

    def tell(self, *arguments: str, **options: Any) -> str:
        done = self.ask(*arguments, **options)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout.strip()

    def build(self, name: str, dockerfile: str, folder: Path, *arguments: str) -> str:
        """Build an image from a folder; its name is forgotten at the end of the tests."""
        (folder / "Dockerfile").write_text(dockerfile)
        self.images.add(name)
        self.tell("build", "--force-rm", "--tag", name, *arguments, str(folder))
        return name

    def containers(self, words: str) -> list[str]:
        """Give the containers, running or not, whose name, image or command has these words."""
        shown = self.tell("ps", "--all", "--no-trunc", "--format", "{{.ID}} {{.Names}} {{.Image}} {{.Command}}")
        return [line.split()[0] for line in shown.splitlines() if words in line]


@pytest.fixture(scope="session")
def engine(docker: dict[str, str]) -> Iterator[Engine]:
    """Give the engine; the images that the tests have made are removed from it."""
    found = Engine(shutil.which("docker") or "docker", docker)
    yield found
    if found.images:
        found.ask("image", "rm", "--force", *found.images)


def mirrors() -> list[str]:
    """Give the mirrors that apt has been told of; the empty text stands for the one that mmdebstrap knows."""
    command = ["apt-get", "indextargets", "--format", "$(REPO_URI)", "Created-By: Packages"]
    try:
        shown = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout
    except (OSError, subprocess.SubprocessError):
        shown = ""
    return [*sorted({line for line in shown.splitlines() if line.rstrip("/").endswith("/debian")}), ""]


def debian_tree() -> Path:
    """Give a tar with Debian's Python, made now if it was not there, or skip."""
    tree = cache() / f"container-bookworm-{hashlib.sha256(PACKAGES.encode()).hexdigest()[:12]}.tar"
    tree.parent.mkdir(parents=True, exist_ok=True)
    with tree.with_name(f"{tree.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if tree.exists():
            return tree
        maker = shutil.which("mmdebstrap")
        if maker is None or os.geteuid() != 0:
            pytest.skip("the base image is made with mmdebstrap, as root")
        part = tree.with_name(f"part-{tree.name}")
        said = ""
        for mirror in mirrors():
            command = [maker, "--quiet", "--variant=minbase", f"--include={PACKAGES}", "bookworm", str(part)]
            done = subprocess.run(
                [*command, mirror] if mirror else command,
                check=False, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=MINUTES,
            )  # fmt: skip
            if done.returncode == 0:
                return part.rename(tree)
            said = done.stderr.strip()
        part.unlink(missing_ok=True)
        pytest.skip(f"mmdebstrap cannot make a Debian here: {said}")


@pytest.fixture(scope="session")
def debian(engine: Engine) -> str:
    """Give the name of an image with Debian's Python 3.11, pip, a compiler and strace."""
    if engine.ask("image", "inspect", DEBIAN).returncode != 0:
        engine.images.add(DEBIAN)
        engine.tell("import", str(debian_tree()), DEBIAN)
    return DEBIAN


@pytest.fixture(scope="session")
def trusting(engine: Engine, debian: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Give the Debian with what pip must trust on this machine, for a Dockerfile that nobody tells of it."""
    bundle = os.environ.get("PIP_CERT")
    if not bundle:
        return debian
    folder = tmp_path_factory.mktemp("trusting")
    shutil.copy(bundle, folder / "bundle.pem")
    text = f"FROM {debian}\nCOPY bundle.pem /bundle.pem\nENV PIP_CERT=/bundle.pem\n"
    return engine.build("layer_minimizer_test/trusting", text, folder)


@pytest.fixture(scope="session")
def old_and_new(
    engine: Engine, trusting: str, python_of: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory
) -> str:
    """Give an image with CPython 3.6 as its Python, and one for the tool where manylinux' images have theirs."""
    folder = tmp_path_factory.mktemp("pythons")
    lines = [f"FROM {trusting}"]
    for version in ("3.6", "3.12"):
        prefix = Path(python_of(version)).parents[1]
        shutil.copytree(prefix, folder / version, symlinks=True, ignore=foreign)
        # Where it was built: it may look for its own library there.
        lines.append(f"COPY {version} {prefix}")
        if version == "3.6":
            lines.append(f"RUN cd /usr/local/bin && ln -s {prefix}/bin/python3.6 . && ln -s python3.6 python3")
        else:
            lines.append(f"RUN mkdir /opt/python && ln -s {prefix} /opt/python/cp312-cp312")
    return engine.build("layer_minimizer_test/old", "\n".join(lines) + "\n", folder)


def foreign(folder: str, names: list[str]) -> list[str]:
    """Give what a copy of a CPython does not need."""
    if os.path.basename(folder) == "site-packages":
        return [name for name in names if name not in OF_CPYTHON and not name.startswith(("pip-", "setuptools-"))]
    return [name for name in names if name in {"__pycache__", "test"} or name.endswith(".a")]


@dataclass
class Ended:
    """How the command ended and what it said."""

    code: int
    out: str
    err: str

    @property
    def image(self) -> str:
        """The image that was used."""
        words = next(line for line in self.err.splitlines() if " the image layer_minimizer/image:" in line).split()
        return words[words.index("image") + 1]


def listing(root: Path) -> dict[str, tuple[object, ...]]:
    """Give all that can be told of the files below ``root``."""
    found = {}
    for path in root.rglob("*"):
        status = path.lstat()
        content = hash(path.read_bytes()) if path.is_file() else None
        found[str(path)] = (status.st_mode, status.st_mtime_ns, status.st_uid, content)
    return found


@dataclass
class Desk:
    """A folder with the user's files, and the command."""

    engine: Engine
    folder: Path

    @property
    def layer(self) -> Path:
        return self.folder / "layer.zip"

    def variables(self, more: Mapping[str, str]) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "COV"))}
        return {**kept, **self.engine.variables, "TMPDIR": str(self.folder / "tmp"), **more}

    def arguments(self, *args: object) -> list[str]:
        (self.folder / "tmp").mkdir(exist_ok=True)
        given = ["--runner", "docker", "--effort", "0", *map(str, args)]
        return given if "--entry" in given else [*given, "--entry", "handler.py"]

    def minimize(
        self, *args: object, code: int = 0, variables: Mapping[str, str] | None = None, prefix: Sequence[str] = ()
    ) -> Ended:
        """Run the command; no file may change, no container and no scratch folder may be left."""
        given = self.arguments(*args)
        before = listing(self.folder)
        done = subprocess.run(
            [*prefix, str(MINIMIZE), *given],
            cwd=self.folder, env=self.variables(variables or {}), stdin=subprocess.DEVNULL,
            capture_output=True, text=True, timeout=MINUTES, check=False,
        )  # fmt: skip
        ended = Ended(done.returncode, done.stdout, done.stderr)
        assert ended.code == code, f"exit code {ended.code}, not {code}\n{ended.err}\n{ended.out}"
        if " the image layer_minimizer/image:" in ended.err:
            self.engine.images.add(ended.image)
            assert self.engine.containers(ended.image) == []
        assert list((self.folder / "tmp").iterdir()) == []
        after = listing(self.folder)
        changing = {str(self.folder / "tmp"), str(self.layer), str(self.folder / "report.json")}
        assert {path: after.get(path) for path in before if path not in changing} == {
            path: about for path, about in before.items() if path not in changing
        }
        assert [path for path in after if path.endswith(".part")] == []
        return ended

    def fails(self, code: int, words: Sequence[str], *args: object, **options: Any) -> Ended:
        """Run the command and require an exit code, a message with these words, and no layer."""
        ended = self.minimize(*args, code=code, **options)
        assert [word for word in words if word not in ended.err] == [], ended.err
        assert "layer_minimizer/container/" not in ended.err
        assert ended.out == ""
        assert not self.layer.exists()
        return ended

    def report(self) -> Any:
        return json.loads((self.folder / "report.json").read_text())


@pytest.fixture
def desk(engine: Engine) -> Iterator[Desk]:
    """Give an empty folder."""
    with tempfile.TemporaryDirectory(prefix="minimize-tests-") as folder:
        yield Desk(engine, Path(folder).resolve())


@pytest.fixture
def pillow(desk: Desk, requirements_env: Callable[[str, Path], Path]) -> Desk:
    """Give the quickstart's handler, events and requirements."""
    example = EXAMPLES / "quickstart"
    for name in ("handler.py", "requirements.txt"):
        shutil.copy(example / name, desk.folder)
    python = requirements_env("quickstart", example / "requirements.txt")
    subprocess.run([python, "-I", example / "make_events.py", desk.folder / "events.json"], check=True)
    return desk
