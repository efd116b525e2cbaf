"""Makes the ways to start an app that starts.py compares: the app's environment, and what tools make of it.

Each maker leaves the environment as it is. What a tool has made of an app is kept in the folder of ``--layers``, in
APP.WAY (the layer: APP), and if it has failed, the reason in APP.WAY.failed: remove these to try again. Other tools
than this one are installed from PyPI, in environments of their own.
"""

import contextlib
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "cases"))

import running

from layer_minimizer.environment.processor import chosen_code

PYINSTALLER = "pyinstaller==6.22.3"
LTRIM = "ltrim==0.1.2"
# What a virtual environment has from the start, and the folders of each.
_INSTALLERS = {"pip": {"pip"}, "setuptools": {"setuptools", "pkg_resources", "_distutils_hack"}}
_RUNNER = Path(__file__).resolve().with_name("app_runner.py")


class ToolError(Exception):
    """A tool has not made anything of an app."""


@dataclass(frozen=True, slots=True)
class Way:
    """A way to start an app: an interpreter, and site-packages, which are on PYTHONPATH unless they are its own.

    With ``frozen``, the interpreter is a program that contains the runner.
    """

    python: Path
    site: Path
    frozen: bool = False

    def variables(self, empty: str) -> dict[str, str]:
        """Return the variables of the process; its home and its temporary files are in ``empty``."""
        own = self.site.is_relative_to(self.python.parent.parent)
        variables = {"PATH": os.environ["PATH"], "HOME": empty, "TMPDIR": empty, "LANG": "C.UTF-8"}
        variables |= {"PYTHONDONTWRITEBYTECODE": "1", "PYTHONPATH": "" if own else str(self.site)}
        return variables | chosen_code(os.environ)

    def start(self, task: Path, events: Path, scratch: Path) -> tuple[dict[str, float], list[list[str]]]:
        """Start the app in a process of its own; return what it has taken, and the result of each event."""
        with tempfile.TemporaryDirectory(dir=scratch) as empty:
            program = [self.python] if self.frozen else [self.python, scratch / _RUNNER.name]
            variables = self.variables(empty) | {"START": repr(time.monotonic())}
            command = [*program, task, events]
            done = subprocess.run(command, env=variables, cwd=task, text=True, capture_output=True, check=False)
        assert done.returncode == 0, f"exit code {done.returncode}\n{done.stderr[-3000:]}"
        measured, results = json.loads(done.stdout.splitlines()[-1])
        return measured, [[kind, text.replace(str(self.site), "SITE")] for kind, text in results]


@dataclass(frozen=True, slots=True)
class Made:
    """A way, and what it takes to make it.

    Attributes:
        way: how the app is started.
        tree: the folder whose size counts.
        ignored: folders in the tree that do not count, nor their metadata.
        known: a file for the tree's size, which is computed only once.
        seconds: the processor seconds of the tool.
    """

    way: Way
    tree: Path
    ignored: frozenset[str]
    known: Path
    seconds: float = 0.0

    def megabytes(self) -> tuple[float, float]:
        """Return the size of all files, and of all when each is compressed as in a zip; MB are 10^6 bytes."""
        if not self.known.exists():
            whole = zipped = 0
            for file in _files(self.tree, self.ignored):
                compressor = zlib.compressobj(6, zlib.DEFLATED, -15)
                with file.open("rb") as source:
                    while chunk := source.read(1 << 20):
                        whole += len(chunk)
                        zipped += len(compressor.compress(chunk))
                zipped += len(compressor.flush())
            self.known.parent.mkdir(parents=True, exist_ok=True)
            self.known.write_text(json.dumps([whole / 1e6, zipped / 1e6]))
        whole, zipped = json.loads(self.known.read_text())
        return whole, zipped


@dataclass(frozen=True, slots=True)
class App:
    """An app for which ways are made.

    Attributes:
        case: its handler, requirements and events.
        environment: its virtual environment.
        site: the path of site-packages in an environment and in a layer.
        task: the function's folder.
        scratch: a folder for one run of the benchmark.
        kept: the layer's folder, which is kept between runs; what other tools have made is beside it.
        options: the options of minimize.
        patience: seconds after which the run of another tool is given up.
    """

    case: running.Case
    environment: Path
    site: Path
    task: Path
    scratch: Path
    kept: Path
    options: tuple[str, ...] = ()
    patience: float = 900.0

    @property
    def base(self) -> Path:
        """The interpreter that the environment was made from."""
        return (self.environment / "bin/python").resolve()

    @property
    def ignored(self) -> frozenset[str]:
        """The folders in site-packages that no requirement has brought."""
        lines = (self.case.folder / "requirements.txt").read_text().splitlines()
        required = {line.partition("==")[0].lower() for line in lines}
        return frozenset().union(*(folders for name, folders in _INSTALLERS.items() if name not in required))

    def bare(self) -> Path:
        """Return the interpreter of an empty environment, made once."""
        folder = self.scratch / "bare"
        if not folder.exists():
            subprocess.run([self.base, "-I", "-m", "venv", "--without-pip", folder], check=True)
        return folder / "bin/python"


def read_app(folder: Path) -> running.Case:
    """Return the app in a folder; it has the files of a case, but for expectations."""
    return running.Case(folder, running.Expected((), (), 0.0, ()))


def make(name: str, app: App) -> Made:
    """Make a way, or read what was made of the app before.

    Raises:
        ToolError: the tool refuses the app, or has taken too long.
    """
    folder = app.kept if name == "layer" else app.kept.with_name(f"{app.kept.name}.{name}")
    reason = app.kept.with_name(f"{app.kept.name}.{name}.failed")
    if reason.exists():
        raise ToolError(reason.read_text())
    try:
        return MAKERS[name](app, folder)
    except (ToolError, AssertionError, subprocess.SubprocessError) as problem:
        reason.write_text(" ".join(str(problem).split())[-300:])
        raise ToolError(reason.read_text()) from problem


def _environment(app: App, folder: Path) -> Made:
    """The environment as pip has installed it, with bytecode."""
    tree = app.environment / app.site
    return Made(_environment_way(app, app.environment), tree, app.ignored, folder / "sizes.json")


def _no_bytecode(app: App, folder: Path) -> Made:
    """The environment without bytecode, as a tree of hard links without ``__pycache__``."""
    plain = app.scratch / "plain"
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(app.environment, plain, symlinks=True, ignore=ignored, copy_function=_link)
    return Made(_environment_way(app, plain), plain / app.site, app.ignored, folder / "sizes.json")


def _environment_way(app: App, root: Path) -> Way:
    """Return how an environment is started: by its own interpreter if it needs its own .pth files."""
    own = {file.name for file in (app.environment / app.site).glob("*.pth")} - {"distutils-precedence.pth"}
    return Way(root / "bin/python" if own else app.bare(), root / app.site)


def _layer(app: App, folder: Path) -> Made:
    """The layer that minimize makes; files that it restores in /tmp stay there for the next start."""
    seconds = make_layer(app.case, app.environment, app.task, folder, app.options)
    report = json.loads((folder / "report.json").read_bytes())["layer"]
    (folder / "sizes.json").write_text(json.dumps([report["unzipped_bytes"] / 1e6, report["zipped_bytes"] / 1e6]))
    way = Way(app.bare(), folder / "opt/python" / app.site)
    return Made(way, folder / "opt", frozenset(), folder / "sizes.json", seconds)


def make_layer(case: running.Case, environment: Path, task: Path, folder: Path, options: Iterable[str]) -> float:
    """Make the layer in ``folder`` unless it is there; return the processor seconds that this has taken."""
    seconds = folder / "cpu_seconds"
    if not seconds.exists():
        shutil.rmtree(folder, ignore_errors=True)
        with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as caches:
            patch.setenv("LAYER_MINIMIZER_CACHE", caches)
            before = _processor_seconds()
            case.minimize(environment, folder, *case.workload(task), *options)
            seconds.write_text(str(_processor_seconds() - before))
    return float(seconds.read_text())


def _pyinstaller(app: App, folder: Path) -> Made:
    """PyInstaller's folder with a program that contains the runner, the handler, and the interpreter."""
    made = folder / "app"
    if not (folder / "cpu_seconds").exists():
        builder = _tool(app, "pyinstaller", PYINSTALLER) / "bin/python"
        work = app.scratch / "pyinstaller"
        command: list[object] = [builder, "-m", "PyInstaller", "--noconfirm", "--name", "app", "--paths", app.task]
        command += ["--distpath", folder, "--workpath", work, "--specpath", work, _RUNNER]
        variables = {"PYTHONPATH": str(app.environment / app.site), "PYINSTALLER_CONFIG_DIR": str(work)}
        folder.mkdir(exist_ok=True)
        _run_tool(app, command, variables, app.scratch, folder)
    way = Way(made / "app", made / "_internal", frozen=True)
    return Made(way, made, frozenset(), folder / "sizes.json", _seconds(folder))


def _ltrim(app: App, folder: Path) -> Made:
    """λ-trim's rewritten site-packages.

    It rewrites what the handler imports in place, also in the standard library: it gets an interpreter of its own.
    """
    site = folder / app.site
    if not (folder / "cpu_seconds").exists():
        tool = _tool(app, "ltrim", LTRIM) / app.site
        shutil.rmtree(folder, ignore_errors=True)
        ignored = shutil.ignore_patterns("site-packages", "test", "config-*", "share", "include", "*.a")
        shutil.copytree(app.base.parent.parent, folder, symlinks=True, ignore=ignored)
        shutil.copytree(app.environment / app.site, site, symlinks=True)
        (site / "tool.pth").write_text(f"{tool}\n")
        place = app.scratch / "ltrim"
        shutil.copytree(app.task, place)
        events = json.loads(app.case.events_file.read_bytes())
        tests = {"tests": [{"event": event, "context": {}} for event in events]}
        (place / "data.json").write_text(json.dumps(tests))
        variables = {"PATH": f"{folder / 'bin'}:{os.environ['PATH']}"}
        command = [folder / "bin/python", "-m", "ltrim.debloat", "handler.py"]
        _run_tool(app, command, variables, place, folder)
        (site / "tool.pth").unlink()
        subprocess.run([folder / "bin/python", "-m", "compileall", "-q", site], check=False)
    return Made(Way(folder / "bin/python", site), site, app.ignored, folder / "sizes.json", _seconds(folder))


def _tool(app: App, name: str, requirement: str) -> Path:
    """Return an environment of the app's Python with a tool from PyPI, made once for all apps."""
    place = app.kept.parent / f"tool-{requirement}-{app.site.parts[1]}"
    if not (place / "complete").exists():
        shutil.rmtree(place, ignore_errors=True)
        subprocess.run([app.base, "-I", "-m", "venv", place], check=True)
        command = [place / "bin/python", "-m", "pip", "--quiet", "--disable-pip-version-check", "install", requirement]
        done = subprocess.run(command, text=True, capture_output=True, check=False)
        if done.returncode:
            shutil.rmtree(place)
            raise ToolError(f"{name} cannot be installed: {done.stderr}")
        (place / "complete").touch()
    return place


def _run_tool(app: App, command: Iterable[object], variables: Mapping[str, str], place: Path, folder: Path) -> None:
    """Run a tool in the folder ``place``; write the processor seconds that it has taken to ``folder``."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "COV"))}
    before = _processor_seconds()
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(
            [str(part) for part in command],
            env=clean | variables,
            cwd=place,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        try:
            code = process.wait(app.patience)
        except subprocess.TimeoutExpired as problem:
            raise ToolError(f"given up after {app.patience:.0f} s") from problem
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        log.seek(0)
        if code:
            raise ToolError(f"exit code {code}: {log.read()}")
    (folder / "cpu_seconds").write_text(str(_processor_seconds() - before))


def _processor_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _seconds(folder: Path) -> float:
    """Return the processor seconds that a tool has taken for what is in the folder."""
    return float((folder / "cpu_seconds").read_text())


def _files(tree: Path, ignored: frozenset[str]) -> Iterable[Path]:
    """Yield the files of a tree, but for those of ignored folders; of each only one of its hard links."""
    seen = set()
    for path in sorted(tree.rglob("*")):
        top = path.relative_to(tree).parts[0].partition("-")[0]
        if top in ignored or path.is_symlink() or not path.is_file():
            continue
        if (identity := (path.stat().st_dev, path.stat().st_ino)) not in seen:
            seen.add(identity)
            yield path


def _link(source: str, target: str) -> None:
    """Make a hard link; a copy on another file system."""
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError:
        shutil.copy2(source, target)


MAKERS: dict[str, Callable[[App, Path], Made]] = {
    "environment": _environment,
    "no-bytecode": _no_bytecode,
    "layer": _layer,
    "pyinstaller": _pyinstaller,
    "ltrim": _ltrim,
}
