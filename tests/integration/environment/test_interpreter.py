"""Descriptions of interpreters, and which ones are refused."""

import os
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from layer_minimizer.core.errors import RunnerError
from layer_minimizer.environment.interpreter import NEWEST, OLDEST, describe_interpreter


def test_the_version_and_the_folders_of_every_cpython(each_env: Any, cpython: str) -> None:
    found = each_env.describe()
    asked = subprocess.run(
        [cpython, "-c", "import os, sys, platform; print(platform.python_version(), os.__file__, sys.exec_prefix)"],
        check=True, capture_output=True, text=True,
    ).stdout.split()  # fmt: skip
    assert ".".join(map(str, found.version)) == asked[0]
    assert os.path.realpath(os.path.dirname(asked[1])) in found.stdlib_dirs
    assert found.executable == each_env.python
    assert os.path.realpath(found.base_executable) == os.path.realpath(cpython)
    assert found.site_dirs == (os.path.realpath(each_env.site),)
    assert found.folder == f"python{found.version[0]}.{found.version[1]}"
    assert str(found.version[1]) in found.soabi
    assert found.machine == os.uname().machine


def test_a_base_interpreter_is_its_own_base(cpython: str) -> None:
    found = describe_interpreter(cpython)
    assert os.path.realpath(found.base_executable) == os.path.realpath(cpython)
    assert not set(found.site_dirs) & set(found.hidden_dirs)


def test_the_packages_of_the_base_are_hidden(each_env: Any, cpython: str) -> None:
    base, found = describe_interpreter(cpython), each_env.describe()
    assert set(base.site_dirs) <= set(found.hidden_dirs)
    assert not set(found.site_dirs) & set(found.hidden_dirs)


@pytest.fixture(scope="session")
def open_venv(base_python: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment that the venv module made, which can import the base's packages too."""
    folder = tmp_path_factory.mktemp("venv")
    command = [base_python, "-m", "venv", "--without-pip", "--system-site-packages", folder / "env"]
    subprocess.run(command, check=True, capture_output=True)
    return folder / "env"


def test_an_environment_that_sees_the_bases_packages(open_venv: Path, base_python: str) -> None:
    found, base = describe_interpreter(str(open_venv / "bin" / "python")), describe_interpreter(base_python)
    own = os.path.realpath(next(open_venv.glob("lib/python*/site-packages")))
    assert found.site_dirs[0] == own
    assert set(base.site_dirs) <= {*found.site_dirs, *found.hidden_dirs}
    assert len(set(found.site_dirs)) == len(found.site_dirs)
    # What a subprocess of this environment can import from is exactly what counts as the site.
    asked = subprocess.run(
        [open_venv / "bin" / "python", "-c", "import sys; print(*sys.path, sep='\\n')"],
        check=True, capture_output=True, text=True,
    ).stdout.split("\n")  # fmt: skip
    seen = [os.path.realpath(entry) for entry in asked if entry.endswith(("site-packages", "dist-packages"))]
    assert found.site_dirs == tuple(dict.fromkeys(seen))


def test_an_interpreter_is_found_by_its_name_on_path(env: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(env.root / "bin"), prepend=os.pathsep)
    assert describe_interpreter("python").site_dirs == (os.path.realpath(env.site),)


def test_a_relative_path_is_one_from_here(env: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(env.root)
    assert describe_interpreter("bin/python").executable == env.python


def test_variables_for_this_tools_own_python_do_not_reach_the_other(
    env: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    mine = tmp_path / "mine" / "site-packages"
    mine.mkdir(parents=True)
    for name in ("PYTHONPATH", "PYTHONHOME", "PYTHONSTARTUP"):
        monkeypatch.setenv(name, str(mine))
    found = env.describe()
    assert found.site_dirs == (os.path.realpath(env.site),)


def test_folders_of_pth_files_are_no_site_folders(env: Any, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    env.install("pkg", {"a.pth": f"{outside}\n./inner\n/absent/folder\n", "inner/x.py": ""})
    assert env.describe().site_dirs == (os.path.realpath(env.site),)


def test_packages_in_a_zip_are_refused(env: Any) -> None:
    with zipfile.ZipFile(env.site / "old-1.0-py3.11.egg", "w") as egg:
        egg.writestr("old.py", "")
    env.install("pkg", {"easy-install.pth": "./old-1.0-py3.11.egg\n"})
    with pytest.raises(RunnerError, match=r"old-1\.0-py3\.11\.egg.*\n?.*pip"):
        env.describe()


def test_python_2_is_refused_by_its_version(python_of: Callable[[str], str]) -> None:
    with pytest.raises(RunnerError, match=r"old Python 2\.7\.\d+; CPython 3\.6 to 3\.15"):
        describe_interpreter(python_of("2.7"))
    assert (OLDEST, NEWEST) == ((3, 6), (3, 15))


def program(folder: Path, text: str) -> str:
    path = folder / "program"
    path.write_text(text)
    path.chmod(0o755)
    return str(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("#!/bin/sh\nexit 0\n", r"ended with exit code 0.*\(nothing\)"),
        ("#!/bin/sh\necho 'no python here' >&2\nexit 3\n", "ended with exit code 3.*no python here"),
        ("#!/bin/sh\nkill -9 $$\n", "was killed by SIGKILL"),
        ("#!/absent/interpreter\n", "cannot start .*No such file"),
        ("not executable in any way", "cannot start .*|exit code"),
    ],
)
def test_a_program_that_is_not_python_is_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(RunnerError, match=f"(?s){message}"):
        describe_interpreter(program(tmp_path, text))


def test_an_interpreter_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunnerError, match=r"absent.*--python"):
        describe_interpreter(str(tmp_path / "absent"))
    with pytest.raises(RunnerError, match="no such interpreter"):
        describe_interpreter(str(tmp_path))


def test_describing_leaves_no_files(env: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "tmp").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    before = set(env.root.rglob("*"))
    script = (
        "import sys; from layer_minimizer.environment.interpreter import describe_interpreter as describe; "
        "print(describe(sys.argv[1]).executable)"
    )
    asked = subprocess.run([sys.executable, "-c", script, env.python], check=True, capture_output=True, text=True)
    assert asked.stdout.strip() == env.python
    assert list((tmp_path / "tmp").iterdir()) == []
    assert set(env.root.rglob("*")) == before
