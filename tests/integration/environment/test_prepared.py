"""Environments that uv makes from locks and requirements, with an index on this machine."""

from __future__ import annotations

import json
import os
import platform
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest

from layer_minimizer.core.errors import MinimizeError, RunnerError, UsageError
from layer_minimizer.environment.package_source import PackageSource
from layer_minimizer.environment.prepared import Target, make_environment
from layer_minimizer.execution.uv import Uv
from tests.support.desk import listing
from tests.support.index import Index, need_uv, served
from tests.support.sites import write_files

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

PYPROJECT = """\
[project]
name = "letters"
version = "1"
requires-python = ">=3.6"
dependencies = ["alpha", "alien; sys_platform == 'win32'"]

[project.optional-dependencies]
images = ["gamma"]

[dependency-groups]
dev = ["delta"]
"""
LIST = "import importlib.metadata as m; print(*sorted(f'{d.name} {d.version}' for d in m.distributions()), sep='\\n')"
SLOW = "import time\ntime.sleep(60)\n"


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Index]:
    """Yield an index with some packages, each with a module of its name."""
    with served(tmp_path_factory.mktemp("index")) as made:
        made.wheel("alpha", "1.0", {"alpha.py": "VALUE = 1\n"}, "beta")
        made.wheel("alpha", "2.0", {"alpha.py": "VALUE = 2\n"}, "beta")
        for name in ("beta", "gamma", "delta"):
            made.wheel(name, "1.0", {f"{name}.py": "VALUE = 1\n"})
        made.wheel("alien", "1.0", {"alien.py": ""}, tag="py3-none-win_amd64")
        made.wheel("native", "1.0", {"native.py": "HERE = True\n"}, tag=f"py3-none-manylinux_2_17_{platform.machine()}")
        made.wheel("native", "1.0", {"native.py": "HERE = False\n"}, tag="py3-none-manylinux_2_17_aarch64")
        made.source("broken", "1.0")
        made.source("slow", "1.0", SLOW)
        yield made


@pytest.fixture
def project(
    index: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """Return the folder of a project; uv uses nothing but the index."""
    need_uv()
    for name in [name for name in os.environ if name.startswith("UV_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("UV_DEFAULT_INDEX", index.url)
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path_factory.getbasetemp() / "uv"))
    monkeypatch.setenv("UV_NO_CONFIG", "1")
    monkeypatch.setenv("LAYER_MINIMIZER_CACHE", str(tmp_path / "cache"))
    for name in ("VIRTUAL_ENV", "UV_PROJECT_ENVIRONMENT"):
        monkeypatch.setenv(name, str(tmp_path / "activated"))
    for name in ("UV_FROZEN", "UV_NO_DEV", "UV_NO_INSTALL_PROJECT"):
        monkeypatch.setenv(name, "1")
    return write_files(tmp_path / "project", {"pyproject.toml": PYPROJECT, ".venv/mine": "untouched"})


def source(lock: Path | None = None, requirements: Path | None = None, **chosen: Any) -> PackageSource:
    given = {"groups": (), "extras": (), "package": "", **chosen}
    made = PackageSource.of(lock=str(lock or ""), requirements=str(requirements or ""), **given)
    assert made is not None
    return made


def installed(python: str) -> list[str]:
    done = subprocess.run([python, "-I", "-B", "-c", LIST], capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


def lock(project: Path) -> Path:
    elsewhere = {"UV_PROJECT_ENVIRONMENT": str(project.parent / "elsewhere")}
    Uv.find("the test").run("lock", folder=project, why="the test's lock:", variables=elsewhere)
    return project / "uv.lock"


def poetry_lock(index: Index, alpha: str = "") -> str:
    """Return a lock as poetry writes it, with the digest of alpha or another one."""
    digests = {name: f"sha256:{files[0][1]}" for name, files in index.files.items()}
    digests["alpha"] = alpha or digests["alpha"]
    entries = [
        ("alpha", ["main"], ""), ("beta", ["main", "dev"], ""),
        ("gamma", ["main"], 'markers = "extra == \\"images\\""\n'), ("delta", ["dev"], ""),
        ("alien", ["main"], "markers = \"sys_platform == 'win32'\"\n"),
    ]  # fmt: skip
    packages = "".join(
        f'[[package]]\nname = "{name}"\nversion = "1.0"\ngroups = {json.dumps(groups)}\n{markers}'
        f'files = [{{file = "{name}.whl", hash = "{digests[name]}"}}]\n\n'
        for name, groups, markers in entries
    )
    return f'{packages}[extras]\nimages = ["gamma"]\n\n[metadata]\nlock-version = "2.1"\npython-versions = ">=3.6"\n'


def pdm_lock(index: Index) -> str:
    """Return a lock as PDM writes it."""
    entries = [("alpha", "default", ""), ("beta", "default", ""), ("gamma", "images", ""), ("delta", "dev", ""),
               ("alien", "default", "marker = \"sys_platform == 'win32'\"\n")]  # fmt: skip
    packages = "".join(
        f'[[package]]\nname = "{name}"\nversion = "1.0"\ngroups = ["{group}"]\n{marker}'
        f'files = [{{file = "{name}.whl", hash = "sha256:{index.files[name][0][1]}"}}]\n\n'
        for name, group, marker in entries
    )
    return (
        '[metadata]\ngroups = ["default", "dev", "images"]\nstrategy = ["inherit_metadata"]\nlock_version = "4.5.0"\n\n'
        f"{packages}"
    )


# ---- what is installed ----------------------------------------------------------------------------------------------


def test_every_lock_gives_the_same_environment(project: Path, index: Index) -> None:
    write_files(project, {"pyproject.toml": PYPROJECT.replace('"alpha"', '"alpha<2"')})
    first = lock(project)
    Uv.find("the test").run("export", "--no-dev", "-q", "-o", "pylock.toml", folder=project, why="export")
    Uv.find("the test").run("export", "--no-dev", "-q", "-o", "requirements.txt", folder=project, why="export")
    write_files(project, {"poetry.lock": poetry_lock(index), "pdm.lock": pdm_lock(index)})
    before = listing(project)
    names = ["uv.lock", "pylock.toml", "poetry.lock", "pdm.lock"]
    found = {name: installed(make_environment(source(project / name), Target())) for name in names}
    found["requirements.txt"] = installed(make_environment(source(None, project / "requirements.txt"), Target()))
    assert found == {key: ["alpha 1.0", "beta 1.0"] for key in [*names, "requirements.txt"]}
    assert listing(project) == before
    assert first.exists()


@pytest.mark.parametrize("name", ["uv.lock", "poetry.lock", "pdm.lock"])
def test_groups_and_extras(project: Path, index: Index, name: str) -> None:
    write_files(project, {"pyproject.toml": PYPROJECT.replace('"alpha"', '"alpha<2"')})
    if name == "uv.lock":
        lock(project)
    write_files(project, {"poetry.lock": poetry_lock(index), "pdm.lock": pdm_lock(index)})
    python = make_environment(source(project / name, extras=("images",), groups=("dev",)), Target())
    assert installed(python) == ["alpha 1.0", "beta 1.0", "delta 1.0", "gamma 1.0"]
    python = make_environment(source(project / name, extras=("images",)), Target())
    assert installed(python) == ["alpha 1.0", "beta 1.0", "gamma 1.0"]


def test_a_lock_of_pep_751_with_extras_of_its_own(project: Path, index: Index) -> None:
    wheels = {
        name: f'[[packages.wheels]]\nurl = "{index.url}/{name}/{file}"\nhashes = {{sha256 = "{digest}"}}\n'
        for name, ((file, digest), *_) in index.files.items()
    }
    packages = "".join(
        f'[[packages]]\nname = "{name}"\nversion = "1.0"\n{marker}{wheels[name]}'
        for name, marker in (
            ("beta", ""),
            ("gamma", "marker = \"'images' in extras\"\n"),
            ("delta", "marker = \"'dev' in dependency_groups\"\n"),
        )
    )
    text = f'lock-version = "1.0"\ncreated-by = "a test"\nextras = ["images"]\ndependency-groups = ["dev"]\n{packages}'
    write_files(project, {"pylock.web.toml": text})
    file = project / "pylock.web.toml"
    assert installed(make_environment(source(file), Target())) == ["beta 1.0"]
    chosen = source(file, extras=("images",), groups=("dev",))
    assert installed(make_environment(chosen, Target())) == ["beta 1.0", "delta 1.0", "gamma 1.0"]
    with pytest.raises(UsageError, match=r"--extra image: .*pylock.web.toml has no such extra; it has images; did you"):
        make_environment(source(file, extras=("image",)), Target())


def test_an_environment_is_made_once(project: Path, capfd: pytest.CaptureFixture[str]) -> None:
    file = lock(project)
    first = make_environment(source(file), Target())
    before = listing(project.parent / "cache")
    assert make_environment(source(file), Target()) == first
    assert listing(project.parent / "cache") == before
    assert make_environment(source(file, groups=("dev",)), Target()) != first
    assert capfd.readouterr().out == ""


def test_a_changed_project_of_this_machine_is_installed_again(project: Path) -> None:
    backend = (
        "import zipfile\n\n\ndef build_wheel(folder, config_settings=None, metadata_directory=None):\n"
        "    name = 'own-1.0-py3-none-any.whl'\n"
        "    with zipfile.ZipFile(f'{folder}/{name}', 'w') as wheel:\n"
        "        wheel.write('own.py')\n"
        "        wheel.writestr('own-1.0.dist-info/METADATA', 'Metadata-Version: 2.1\\nName: own\\nVersion: 1.0\\n')\n"
        "        wheel.writestr('own-1.0.dist-info/WHEEL', 'Wheel-Version: 1.0\\nTag: py3-none-any\\n')\n"
        "        wheel.writestr('own-1.0.dist-info/RECORD', '')\n"
        "    return name\n\n\nbuild_editable = build_wheel\n"
    )
    build = '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
    own = f'[project]\nname = "own"\nversion = "1.0"\nrequires-python = ">=3.6"\n{build}'
    workspace = '[tool.uv.workspace]\nmembers = ["own"]\n'
    write_files(
        project, {"pyproject.toml": PYPROJECT + workspace, "own/pyproject.toml": own, "own/backend.py": backend}
    )
    write_files(project, {"own/own.py": "VALUE = 1\n", "requirements.txt": "./own\n"})
    file = lock(project)
    for value in ("1", "2"):
        write_files(project, {"own/own.py": f"VALUE = {value}\n"})
        for made in (source(file, package="own"), source(None, project / "requirements.txt")):
            python = make_environment(made, Target())
            assert installed(python) == ["own 1.0"]
            command = [python, "-I", "-B", "-c", "import own; print(own.VALUE)"]
            assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == f"{value}\n"


# ---- the interpreter ------------------------------------------------------------------------------------------------


def test_the_python_of_a_version(project: Path, need_version: Callable[[str], str]) -> None:
    python = need_version("3.12")
    write_files(project, {"requirements.txt": "beta\n"})
    made = make_environment(source(None, project / "requirements.txt"), Target(version="3.12"))
    print_version = [made, "-I", "-B", "-c", "import sys; print(*sys.version_info[:2], sep='.')"]
    assert subprocess.run(print_version, capture_output=True, text=True, check=True).stdout == "3.12\n"
    named = make_environment(source(None, project / "requirements.txt"), Target(python=python))
    assert subprocess.run([named, *print_version[1:]], capture_output=True, text=True, check=True).stdout == "3.12\n"


@pytest.fixture
def need_version() -> Callable[[str], str]:
    from tests.support.pythons import need_python  # noqa: PLC0415

    return need_python


@pytest.mark.parametrize("name", ["uv.lock", "pdm.lock"])
def test_a_python_that_the_project_excludes(
    project: Path, index: Index, need_version: Callable[[str], str], name: str
) -> None:
    need_version("3.12")
    write_files(project, {"pyproject.toml": PYPROJECT.replace(">=3.6", ">=3.13"), "pdm.lock": pdm_lock(index)})
    if name == "uv.lock":
        newest = need_version("3.13")
        Uv.find("the test").run("lock", "--python", newest, folder=project, why="the test's lock:")
    with pytest.raises(UsageError, match=r">=3\.13"):
        make_environment(source(project / name), Target(version="3.12"))


def test_a_python_that_is_not_there(project: Path) -> None:
    write_files(project, {"requirements.txt": "beta\n"})
    with pytest.raises(RunnerError, match=r"(?s)Python 3\.99 is not installed here:.*uv python list"):
        make_environment(source(None, project / "requirements.txt"), Target(version="3.99"))
    assert not (project.parent / "cache").exists()


# ---- what goes wrong ------------------------------------------------------------------------------------------------


def fails(kind: type[MinimizeError], text: str, made: PackageSource, target: Target = Target()) -> None:  # noqa: B008
    """Require an error with uv's reason, and that nothing half is left."""
    with pytest.raises(kind, match=text):
        make_environment(made, target)
    cache = made.folder.parent / "cache" / "environments"
    assert not cache.exists() or os.listdir(cache) == []


def test_a_lock_that_does_not_fit(project: Path, index: Index) -> None:
    lock(project)
    write_files(project, {"poetry.lock": poetry_lock(index), "pdm.lock": pdm_lock(index)})
    changed = PYPROJECT.replace('"alpha"', '"alpha", "delta"')
    write_files(project, {"pyproject.toml": changed})
    fails(UsageError, r"(?s)The lockfile at `uv.lock` needs to be updated.*uv lock", source(project / "uv.lock"))
    for name in ("poetry", "pdm"):
        text = rf"{name}\.lock does not fit .*asks for delta: the lock does not have it; run {name} lock"
        fails(UsageError, text, source(project / f"{name}.lock"))
    write_files(project, {"pyproject.toml": PYPROJECT.replace('"alpha"', '"alpha>=2"')})
    fails(UsageError, r"asks for alpha>=2: the lock has 1\.0", source(project / "pdm.lock"))


def test_what_a_lock_does_not_have(project: Path, index: Index) -> None:
    file = lock(project)
    write_files(project, {"poetry.lock": poetry_lock(index), "pdm.lock": pdm_lock(index)})
    fails(UsageError, "Group `web` is not defined", source(file, groups=("web",)))
    fails(UsageError, "Extra `web` is not defined", source(file, extras=("web",)))
    fails(UsageError, "does not have a member web", source(file, package="web"))
    write_files(project, {"pyproject.toml": PYPROJECT.replace('"alpha"', '"alpha<2"')})
    fails(UsageError, "--group web: .* it has dev, main", source(project / "poetry.lock", groups=("web",)))
    fails(UsageError, "--extra image: .*did you mean 'images'", source(project / "pdm.lock", extras=("image",)))


def test_a_hash_that_does_not_match(project: Path, index: Index) -> None:
    write_files(project, {"pyproject.toml": PYPROJECT.replace('"alpha"', '"alpha<2"')})
    wrong, good = "0" * 64, index.files["alpha"][0][1]
    file = lock(project)
    file.write_text(file.read_text().replace(good, wrong))
    text = r"(?s)Hash mismatch for `alpha==1\.0`.*the index has another file"
    fails(RunnerError, text, source(file))
    write_files(project, {"poetry.lock": poetry_lock(index, f"sha256:{wrong}")})
    fails(RunnerError, text, source(project / "poetry.lock"))
    write_files(project, {"requirements.txt": f"beta==1.0 --hash=sha256:{wrong}\n"})
    fails(RunnerError, r"Hash mismatch for `beta==1\.0`", source(None, project / "requirements.txt"))
    write_files(project, {"requirements.txt": f"beta==1.0 --hash=sha256:{index.files['beta'][0][1]}\ngamma==1.0\n"})
    fails(RunnerError, "(?s)must have a hash|hash.*gamma", source(None, project / "requirements.txt"))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("alien", r"(?s)alien.*(no wheels with a matching|current platform).*no wheel of it fits this Python"),
        ("broken", r"(?s)Failed to build.*no compiler for the broken package.*its own build failed"),
        ("absent", r"(?s)cannot be installed:.*absent.*not found"),
    ],
)
def test_a_package_that_cannot_be_installed(project: Path, name: str, text: str) -> None:
    write_files(project, {"requirements.txt": f"{name}\n"})
    fails(RunnerError, text, source(None, project / "requirements.txt"))


def test_no_network(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_files(project, {"requirements.txt": "beta\n"})
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "empty"))
    monkeypatch.setenv("UV_HTTP_RETRIES", "0")
    monkeypatch.setenv("UV_DEFAULT_INDEX", "http://127.0.0.1:9")
    fails(RunnerError, "(?s)beta.*is there a network", source(None, project / "requirements.txt"))


def test_no_uv(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_files(project, {"requirements.txt": "beta\n", "bin/uv": "#!/bin/sh\necho uv 0.1.2\n"})
    (project / "bin/uv").chmod(0o755)
    monkeypatch.setenv("PATH", f"{project / 'bin'}:/bin")
    fails(RunnerError, r"uv is uv 0\.1\.2; --requirements .* needs 0\.9", source(None, project / "requirements.txt"))
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setitem(sys.modules, "uv", None)
    fails(RunnerError, "needs uv, which is neither on PATH", source(None, project / "requirements.txt"))


@pytest.mark.skipif(platform.machine() == "aarch64", reason="this is the other machine")
def test_another_machine(project: Path) -> None:
    write_files(project, {"requirements.txt": "native\n"})
    made = source(None, project / "requirements.txt")
    with pytest.raises(RunnerError, match=r"--platform linux/arm64: its wheels are in .*nothing can be traced"):
        make_environment(made, Target(platform="linux/arm64"))
    (there,) = (project.parent / "cache" / "environments").glob("*/lib/python*/site-packages/native.py")
    assert there.read_text() == "HERE = False\n"
    write_files(project, {"requirements.txt": "alien\n"})
    with pytest.raises(RunnerError, match="no wheel of it fits this Python and platform"):
        make_environment(source(None, project / "requirements.txt"), Target(platform="linux/arm64"))
    with pytest.raises(UsageError, match="linux/amd64 and linux/arm64"):
        make_environment(made, Target(platform="linux/riscv64"))


# ---- interrupted, and at the same time ------------------------------------------------------------------------------


def begin(project: Path, requirements: str) -> subprocess.Popen[str]:
    (project / "requirements.txt").write_text(requirements)
    (project / "handler.py").write_text("import beta\n\n\ndef handler(event, context):\n    return beta.VALUE\n")
    # A shell that starts the tests in the background lets them ignore SIGINT.
    command = [
        "env",
        "--default-signal=INT",
        sys.executable,
        "-m",
        "layer_minimizer",
        "--no-config",
        "--requirements",
        "requirements.txt",
    ]
    command += ["--entry", "handler.py", "--effort", "0", "--save-trace"]
    trace = project / f"{time.monotonic_ns()}.json"
    return subprocess.Popen([*command, str(trace)], cwd=project, stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_an_interrupt_leaves_nothing(project: Path, number: int) -> None:
    cache = project.parent / "cache" / "environments"
    with begin(project, "slow\n") as running:
        end = time.monotonic() + 30
        while not list(cache.glob(".*.part/env/bin/python")) and time.monotonic() < end:
            time.sleep(0.01)
        time.sleep(0.3)
        running.send_signal(number)
        running.communicate(timeout=30)
    end = time.monotonic() + 30
    while os.listdir(cache) and time.monotonic() < end:  # another process cleans up after SIGKILL
        time.sleep(0.05)
    assert os.listdir(cache) == []
    marked = subprocess.run(["pgrep", "-f", str(cache)], capture_output=True, text=True, check=False)
    assert marked.stdout == ""


def test_two_at_the_same_time(project: Path) -> None:
    both = [begin(project, "alpha\nbeta\ngamma\n") for _ in range(2)]
    errors = [running.communicate(timeout=60)[1] for running in both]
    assert [running.returncode for running in both] == [0, 0], errors
    (made,) = (project.parent / "cache" / "environments").iterdir()
    assert installed(str(made / "bin/python")) == ["alpha 2.0", "beta 1.0", "gamma 1.0"]
