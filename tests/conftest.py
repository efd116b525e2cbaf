"""What the tests share: invented distributions, environments that hold them, and short forms of the values."""

import contextlib
import csv
import fcntl
import functools
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import settings
from packaging.utils import canonicalize_name

from layer_minimizer.environment import interpreter
from layer_minimizer.environment.inventory import take_inventory
from layer_minimizer.environment.workload import load_workload
from layer_minimizer.execution.observed_run import Observer
from layer_minimizer.execution.process import can_isolate
from layer_minimizer.execution.strace import strace_command
from layer_minimizer.model.installed import Distribution, InstalledFile, Inventory, PthFile
from layer_minimizer.model.interpreter import Interpreter
from layer_minimizer.model.trace import ForeignRoot, Trace, TracedFile, TracedMetadata, TracedModule, Use
from layer_minimizer.model.workload import Result, Workload
from layer_minimizer.trace import tracer

SCHEMA = json.loads((resources.files("layer_minimizer.report") / "report.schema.json").read_text("utf-8"))
EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
VERSIONS = tuple(f"3.{minor}" for minor in range(6, 15))
Content = str | bytes

# How long an example takes says something about the machine, and nothing about the code.
settings.register_profile("any machine", deadline=None)
settings.load_profile("any machine")


# ---- the report ------------------------------------------------------------------------------------------------------


def _closed(schema: Any) -> Any:
    """Give the schema in which nothing may be that it does not name: the published one allows what is new."""
    if isinstance(schema, list):
        return [_closed(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {name: _closed(value) for name, value in schema.items()}
    return {"additionalProperties": False, **closed} if closed.get("type") == "object" else closed


@pytest.fixture(scope="session")
def require_schema() -> Callable[[Any], None]:
    """Require that a report's JSON is what the schema in the package says, and has nothing beside that."""
    validator = jsonschema.Draft202012Validator(_closed(SCHEMA))

    def require(report: Any) -> None:
        problems = [f"{error.json_path}: {error.message}" for error in validator.iter_errors(report)]
        assert problems == []

    return require


# ---- several processes ----------------------------------------------------------------------------------------------

# These run examples, each of which works in a folder of its own in the checkout.
_WITH_EXAMPLES = (
    "test_examples.py",
    "test_real_stack.py",
    "test_soak.py",
    "test_unseen_calls.py",
    "test_dockerfiles.py",
    "test_recorded.py",
)
_EXAMPLES, _OLD_EXAMPLES = "examples", "old examples"


def _scope(nodeid: str) -> str:
    """Name what one process runs as a whole: files, whose fixtures cost much, and examples that share a folder."""
    file = nodeid.partition("::")[0]
    if file.endswith("test_cases.py"):
        return nodeid  # nothing is shared, and the longest takes as long as ten others
    if not file.endswith(_WITH_EXAMPLES):
        return file
    return _OLD_EXAMPLES if "fastai_v1" in nodeid or file.endswith("test_dockerfiles.py") else _EXAMPLES


def _turn(item: pytest.Item) -> int:
    """Say what begins first: what takes long, so that no process has much to do when the others are at their end."""
    first = {_EXAMPLES: 0, _OLD_EXAMPLES: 1}
    last = 4 if "/unit/" in item.nodeid else 3
    return first.get(_scope(item.nodeid), 2 if item.get_closest_marker("heavy") else last)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Divide the tests among processes by their scopes."""
    from xdist.scheduler import LoadScopeScheduling  # noqa: PLC0415 - only where it is installed

    class ByScope(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return _scope(nodeid)

    return ByScope(config, log)


# ---- what the cases have shown ---------------------------------------------------------------------------------------

_COLUMNS = ("before", "keep", "ratio", "zipped", "drop", "import", "on layer", "tool")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Have a file for the table, and the cases in groups."""
    parser.addoption("--case-table", metavar="FILE", help="write what the cases have shown into FILE, too")
    parser.addoption(
        "--heavy-cases",
        metavar="N/M",
        default="1/1",
        help="of the cases that take minutes, only group N of M; default: all of them",
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave the heavy cases of other groups to other runs, which pytest tells; let begin first what takes long."""
    number, groups = map(int, config.getoption("--heavy-cases").split("/"))
    heavy = sorted({item.name: item for item in items if item.get_closest_marker("heavy")}.items())
    others = {item.nodeid for at, (_, item) in enumerate(heavy) if at % groups != number % groups}
    if others:
        config.hook.pytest_deselected(items=[item for item in items if item.nodeid in others])
        items[:] = [item for item in items if item.nodeid not in others]
    items.sort(key=_turn)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print a line for each case that has run: megabytes, seconds, and what its unseen events give."""
    reports = [report for key in ("passed", "failed") for report in terminalreporter.stats.get(key, ())]
    rows = [value for report in reports for name, value in report.user_properties if name == "case"]
    if not rows:
        return
    lines = [f"{'case':24}" + "".join(f"{column:>9}" for column in _COLUMNS) + "  unseen"]
    for row in sorted(rows, key=lambda row: row["case"]):
        values = {**row, "ratio": row["keep"] / row["before"]}
        numbers = "".join(f"{values[name]:9.2f}" if name in values else f"{'-':>9}" for name in _COLUMNS)
        lines.append(f"{row['case']:24}{numbers}  {row['unseen']}")
    terminalreporter.section("cases, MB and s")
    for line in lines:
        terminalreporter.line(line)
    if file := config.getoption("--case-table"):
        Path(file).write_text("\n".join(lines) + "\n")


# ---- CPythons -----------------------------------------------------------------------------------------------------


@functools.cache
def find_python(version: str) -> str:
    """Give the path of a CPython of this version, from PATH or from pyenv, or an empty text."""
    candidates = [shutil.which(f"python{version}") or ""]
    if pyenv := shutil.which("pyenv"):
        root = subprocess.run([pyenv, "root"], check=True, capture_output=True, text=True).stdout.strip()
        candidates += sorted(str(path) for path in Path(root, "versions").glob(f"{version}.*/bin/python{version}"))
    ask = "import os, sys; print('%d.%d %s' % (sys.version_info[:2] + (os.path.realpath(sys.executable),)))"
    for candidate in filter(None, candidates):
        # A shim of pyenv's lies on PATH for versions that are not chosen, too: only one that answers counts.
        asked = subprocess.run([candidate, "-E", "-c", ask], check=False, capture_output=True, text=True)
        if asked.returncode == 0 and asked.stdout.startswith(f"{version} "):
            return asked.stdout.strip().partition(" ")[2]
    return ""


def need_python(version: str) -> str:
    found = find_python(version)
    if not found:
        pytest.skip(f"there is no CPython {version} on PATH or under pyenv")
    return found


@pytest.fixture(scope="session", params=VERSIONS)
def cpython(request: pytest.FixtureRequest) -> str:
    """Every CPython that can be minimized, one after the other."""
    return need_python(request.param)


@pytest.fixture(scope="session")
def python_of() -> Callable[[str], str]:
    """Give the path of one version, or skip the test."""
    return need_python


@pytest.fixture(scope="session")
def base_python() -> str:
    """The interpreter that the environment of these tests was made from."""
    return interpreter.describe_interpreter(sys.executable).base_executable


@pytest.fixture(scope="session")
def requirements_env() -> Callable[[str, Path], Path]:
    """Give the Python of an environment with the requirements of a file, which is made once and cached."""
    script = 'source "$1/common.sh"; base=$(require_python); requirements_env "$2" "$base" "$3"'

    def make(name: str, requirements: Path) -> Path:
        command = ["bash", "-euo", "pipefail", "-c", script, "bash", EXAMPLES, name, requirements]
        done = subprocess.run(command, text=True, capture_output=True, check=False, timeout=1200)
        assert done.returncode == 0, done.stderr
        return Path(done.stdout.strip())

    return make


@pytest.fixture
def strace() -> None:
    """Skip where system calls cannot be observed."""
    if strace_command() is None:
        pytest.skip("strace is not installed, or may not trace here")


@pytest.fixture
def namespaces() -> None:
    """Skip where folders cannot be hidden from a process."""
    if not can_isolate():
        pytest.skip("mount namespaces cannot be made here")


def _docker_answers(variables: Mapping[str, str]) -> bool:
    program = shutil.which("docker")
    if program is None:
        return False
    environment = {**os.environ, **variables}
    done = subprocess.run([program, "info"], env=environment, check=False, capture_output=True, timeout=60)
    return done.returncode == 0 and b"Server Version" in done.stdout


@pytest.fixture(scope="session")
def docker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Give the variables under which docker answers: an engine that runs, else one that is started for the tests."""
    if _docker_answers({}):
        yield {}
        return
    daemon = shutil.which("dockerd")
    if daemon is None or shutil.which("docker") is None or shutil.which("iptables") is None:
        pytest.skip("no docker engine answers, and docker, dockerd or iptables is not installed")
    if os.geteuid() != 0:
        pytest.skip("no docker engine answers, and to start one takes root")
    # A machine can run one; the processes among which the tests are divided share it.
    folder = shared_folder(tmp_path_factory) / "engine"
    variables = {"DOCKER_HOST": f"unix://{folder}/docker.sock"}
    with _alone(folder) as users:
        if not users:
            _start_daemon(daemon, folder, variables)
        users.append(os.getpid())
    try:
        yield variables
    finally:
        with _alone(folder) as users:
            users.remove(os.getpid())
            if not users:
                _stop_daemon(folder)


@contextmanager
def _alone(folder: Path) -> Iterator[list[int]]:
    """Give the processes that use the engine, for as long as no other one can become or cease to be one of them."""
    folder.mkdir(exist_ok=True)
    file = folder / "users.json"
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        users = json.loads(file.read_text()) if file.exists() else []
        yield users
        file.write_text(json.dumps(users))


def _start_daemon(daemon: str, folder: Path, variables: dict[str, str]) -> None:
    command = [daemon, "--data-root", folder / "data", "--exec-root", folder / "exec", "--storage-driver=overlay2"]
    command += ["-H", variables["DOCKER_HOST"], "--pidfile", folder / "docker.pid"]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
    end = time.monotonic() + 30
    while not _docker_answers(variables):
        if process.poll() is not None or time.monotonic() > end:
            process.kill()
            process.wait()
            said = (folder / "log").read_text(errors="replace").strip().splitlines()
            pytest.skip(f"dockerd does not start here: {' | '.join(said[-3:]) or 'it says nothing'}")
        time.sleep(0.2)
    # Whoever is the last to use it ends it, and that may be another process.
    process.returncode = 0


def _stop_daemon(folder: Path) -> None:
    number = int((folder / "docker.pid").read_text())
    os.kill(number, signal.SIGTERM)
    for _ in range(600):
        with contextlib.suppress(ChildProcessError):
            os.waitpid(number, os.WNOHANG)
        if not (folder / "docker.pid").exists() and not Path(f"/proc/{number}").exists():
            break
        time.sleep(0.1)
    for name in ("data", "exec"):
        shutil.rmtree(folder / name, ignore_errors=True)


def shared_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a folder of all the processes among which the tests are divided."""
    base = tmp_path_factory.getbasetemp()
    return base.parent if os.environ.get("PYTEST_XDIST_WORKER") else base


def debian_rootfs(folder: Path, suite: str) -> Path:
    """Give a tar of a Debian with its own Python, which is made once, or skip."""
    rootfs = folder / f"{suite}.tar"
    with (folder / f"{suite}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if rootfs.exists():
            return rootfs
        if shutil.which("mmdebstrap") is None:
            pytest.skip("mmdebstrap, which makes images without a registry, is not installed")
        part = folder / f"part-{suite}.tar"
        packages = "--include=python3-minimal,python3,libstdc++6"
        command = ["mmdebstrap", "--variant=minbase", packages, suite, part]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=900)
        if done.returncode != 0:
            pytest.skip(f"mmdebstrap cannot make {suite}: {done.stderr[-500:]}")
        return part.rename(rootfs)


@pytest.fixture(scope="session")
def make_image(docker: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str, str], str]]:
    """Make images of Debian with its own Python, with mmdebstrap; they are removed at the end."""
    made: list[str] = []
    environment = {**os.environ, **docker}

    def make(suite: str, tag: str) -> str:
        # Its own for each of the processes among which the tests are divided: one of them ends first.
        name = f"layer_minimizer_test/{suite}-{os.getpid()}:{tag}"
        known = subprocess.run(["docker", "image", "inspect", name], env=environment, capture_output=True, check=False)
        if known.returncode == 0:
            return name
        rootfs = debian_rootfs(shared_folder(tmp_path_factory), suite)
        subprocess.run(["docker", "import", rootfs, name], env=environment, check=True, capture_output=True)
        made.append(name)
        return name

    yield make
    for name in made:
        subprocess.run(["docker", "image", "rm", "--force", name], env=environment, check=False, capture_output=True)


@pytest.fixture(scope="session")
def image(docker: dict[str, str], make_image: Callable[[str, str], str]) -> str:
    """An image with a Python of the version that runs the tests, and nothing else."""
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    given = os.environ.get("LAYER_MINIMIZER_TEST_IMAGE", f"local/python:{version}")
    command = ["docker", "image", "inspect", given]
    if subprocess.run(command, env={**os.environ, **docker}, capture_output=True, check=False).returncode == 0:
        return given
    suite = {"3.11": "bookworm", "3.13": "trixie"}.get(version)
    if suite is None:
        pytest.skip(f"no release of Debian has Python {version}; LAYER_MINIMIZER_TEST_IMAGE may name an image")
    return make_image(suite, version)


@pytest.fixture(scope="session")
def old_image(
    docker: dict[str, str], make_image: Callable[[str, str], str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """An image with the CPython 3.6 of this machine, where Lambda's images have theirs."""
    prefix = Path(need_python("3.6")).parent.parent
    context = tmp_path_factory.mktemp("old_image")
    skipped = shutil.ignore_patterns("site-packages", "test", "__pycache__")
    shutil.copytree(prefix, context / "python", symlinks=True, ignore=skipped)
    lines = ["ARG BASE", "FROM $BASE", "COPY python /var/lang"]
    lines += ["ENV PATH=/var/lang/bin:/usr/bin:/bin LD_LIBRARY_PATH=/var/lang/lib"]
    (context / "Dockerfile").write_text("\n".join(lines) + "\n")
    name = f"layer_minimizer_test/python36:{os.getpid()}"
    environment = {**os.environ, **docker}
    base = make_image("bookworm", "3.11")
    command = ["docker", "build", "--quiet", "--build-arg", f"BASE={base}", "--tag", name, context]
    subprocess.run(command, env=environment, check=True, capture_output=True)
    yield name
    subprocess.run(["docker", "image", "rm", "--force", name], env=environment, check=True, capture_output=True)


# ---- installed distributions --------------------------------------------------------------------------------------


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
    """Put a distribution into ``site`` as pip does, and give its dist-info folder."""
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
    """Write files given by their names into a folder, and give the folder."""
    return write_files


@pytest.fixture
def make_site(tmp_path: Path) -> Callable[..., Path]:
    """Invent installed distributions: ``make_site(name, {path: content}, version)``. All lie in the same folder."""

    def make(
        name: str, files: Mapping[str, Content], version: str = "1.0", *, site: str = "site", **more: object
    ) -> Path:
        install(tmp_path / site, name, files, version, **more)  # type: ignore[arg-type]
        return tmp_path / site

    return make


@dataclass(frozen=True)
class Environment:
    """A virtual environment made by hand: what ``python -m venv --without-pip`` makes, in no time."""

    prefix: Path
    python: str
    site: Path

    def install(self, name: str, files: Mapping[str, Content], version: str = "1.0", **more: object) -> Path:
        return install(self.site, name, files, version, **more)  # type: ignore[arg-type]

    def describe(self) -> Interpreter:
        return interpreter.describe_interpreter(self.python)

    def take_inventory(self, foreign: Iterable[ForeignRoot] = ()) -> Inventory:
        return take_inventory(self.describe(), foreign)


@functools.cache
def _version(python: str) -> str:
    ask = "import sys; print('%d.%d' % sys.version_info[:2])"
    return subprocess.run([python, "-I", "-c", ask], check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def make_environment(tmp_path: Path) -> Callable[..., Environment]:
    def make(python: str, name: str = "env") -> Environment:
        prefix = tmp_path / name
        version = _version(python)
        site = prefix / "lib" / f"python{version}" / "site-packages"
        site.mkdir(parents=True)
        (prefix / "bin").mkdir()
        (prefix / "lib64").symlink_to("lib")
        for link in (f"python{version}", "python3", "python"):
            (prefix / "bin" / link).symlink_to(python)
        home = Path(python).resolve().parent
        (prefix / "pyvenv.cfg").write_text(f"home = {home}\ninclude-system-site-packages = false\n")
        return Environment(prefix, str(prefix / "bin" / "python"), site)

    return make


@pytest.fixture
def env(make_environment: Callable[..., Environment], base_python: str) -> Environment:
    """An empty environment of the Python that runs the tests."""
    return make_environment(base_python)


@pytest.fixture
def each_env(make_environment: Callable[..., Environment], cpython: str) -> Environment:
    """An empty environment of every CPython that can be minimized."""
    return make_environment(cpython)


# ---- runs ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def trace_run(tmp_path: Path) -> Callable[..., Trace]:
    """Trace a workload in an environment: the files of its folder, of which ``handler.py`` is the entry."""
    runs: list[int] = []

    def run(where: Environment, files: Mapping[str, Content], observer: str = "probe", **options: object) -> Trace:
        runs.append(0)
        folder = write_files(tmp_path / f"function{len(runs)}", files)
        workload = load_workload(folder / next(iter(files)), **options)  # type: ignore[arg-type]
        observers = (Observer.PROBE, Observer.STRACE) if observer == "strace" else (Observer.PROBE,)
        scratch = tmp_path / f"scratch{len(runs)}"
        return tracer.Tracer(where.describe(), observers, 60).trace(workload, scratch)

    return run


# ---- values -------------------------------------------------------------------------------------------------------


class Build:
    """Short forms of the values that stages hand to each other."""

    @staticmethod
    def interpreter(site: Path, *more: Path, version: tuple[int, int, int] = (3, 11, 7)) -> Interpreter:
        return Interpreter(
            executable=sys.executable,
            base_executable=sys.executable,
            version=version,
            soabi="cpython-311-x86_64-linux-gnu",
            machine="x86_64",
            site_dirs=tuple(os.path.realpath(folder) for folder in (site, *more)),
            stdlib_dirs=(),
            hidden_dirs=(),
            user_base="",
        )

    @staticmethod
    def inventory(
        files: Mapping[str, str | tuple[str, int]],
        *,
        links: Mapping[str, str] | None = None,
        pth: Iterable[PthFile] = (),
        folders: Iterable[str] = (),
        shadowed: Iterable[InstalledFile] = (),
        editable: Iterable[str] = (),
        sources: Path = Path("/site"),
    ) -> Inventory:
        """Make an inventory of {path: owner} or {path: (owner, size)}; every owner is a distribution of version 1.0."""
        listed = []
        for path, said in files.items():
            owner, size = (said, 1) if isinstance(said, str) else said
            listed.append(InstalledFile(path, size, owner, str(sources / path), link=(links or {}).get(path, "")))
        owners = sorted({file.distribution for file in listed} - {""})
        parents = {str(parent) for path in files for parent in Path(path).parents} - {"."}
        return Inventory(
            files=tuple(listed),
            distributions=tuple(
                Distribution(name, "1.0", f"{name.replace('-', '_')}-1.0.dist-info", editable=name in editable)
                for name in owners
            ),
            pth=tuple(pth),
            folders=frozenset({*parents, *folders}),
            shadowed=tuple(shadowed),
        )

    @staticmethod
    def trace(
        files: Mapping[str, str] | Iterable[str] = (),
        modules: Iterable[tuple[object, ...]] = (),
        *,
        metadata: Mapping[str, str] | None = None,
        results: Mapping[str, str] | None = None,
        python: str = "3.11.7",
        kind: str = "handler",
        foreign: Iterable[ForeignRoot] = (),
        workload: Workload | None = None,
        observers: tuple[str, ...] = ("probe",),
    ) -> Trace:
        """Make a trace of {path: "open stat"} (or of paths that were opened) and of modules' fields."""
        uses = files if isinstance(files, Mapping) else dict.fromkeys(files, "open")
        return Trace(
            python=python,
            observers=observers,
            kind=kind,
            modules=tuple(TracedModule(*row) for row in modules),  # type: ignore[arg-type]
            files=tuple(TracedFile(path, frozenset(map(Use, said.split()))) for path, said in uses.items()),
            metadata=tuple(TracedMetadata(canonicalize_name(name), asker) for name, asker in (metadata or {}).items()),
            foreign=tuple(foreign),
            unplaced=(),
            processes=1,
            results=tuple(Result(name, value) for name, value in (results or {}).items()),
            seconds=1.5,
            workload=workload or Workload(Path("/function/handler.py")),
        )


@pytest.fixture(scope="session")
def build() -> type[Build]:
    return Build
