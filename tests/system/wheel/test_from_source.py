"""Installations from source: with a compiler, without one, with one that lacks something; the checkout stays clean."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from typing import TYPE_CHECKING

import pytest

from tests.support.places import CHECKOUT
from tests.support.sites import install

if TYPE_CHECKING:
    from pathlib import Path

NEEDS_GCC = pytest.mark.skipif(not shutil.which("gcc"), reason="there is no gcc here")


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """Copy what an installation reads, without the libraries of an editable one."""
    folder = tmp_path / "checkout"
    ignored = shutil.ignore_patterns("__pycache__", "*.so")
    for name in (".packaging", "layer_minimizer"):
        shutil.copytree(CHECKOUT / name, folder / name, ignore=ignored)
    for name in ("pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md", ".gitignore"):
        shutil.copy(CHECKOUT / name, folder)
    return folder


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    """Return an empty folder, to be PATH."""
    (tmp_path / "bin").mkdir()
    return tmp_path / "bin"


def built(checkout: Path, target: Path, path: str | Path, **more: str) -> subprocess.CompletedProcess[str]:
    """Make a wheel as `pip install` does; the output is what pip shows without an option."""
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(target)]
    own = ("CC", "CFLAGS", "LDFLAGS", "PYTHONDONTWRITEBYTECODE")
    kept = {name: value for name, value in os.environ.items() if name not in own}
    return subprocess.run(
        [*command, str(checkout)], check=False, capture_output=True, text=True, env={**kept, "PATH": str(path), **more}
    )


def contents(folder: Path) -> dict[str, bytes]:
    """Return the names of everything in a folder, with what files contain."""
    return {str(path): path.read_bytes() if path.is_file() else b"" for path in folder.rglob("*")}


def names_in(folder: Path) -> tuple[str, set[str]]:
    """Return the tag of the wheel in a folder and the names of its libraries."""
    (wheel,) = folder.iterdir()
    with zipfile.ZipFile(wheel) as archive:
        return wheel.stem.partition("-py3-")[2], {
            name.rpartition("/")[2] for name in archive.namelist() if name.endswith(".so")
        }


@NEEDS_GCC
def test_libraries_are_compiled_for_this_machine_and_the_checkout_stays_clean(checkout: Path, tmp_path: Path) -> None:
    before = contents(checkout)
    done = built(checkout, tmp_path / "made", os.environ["PATH"])
    assert done.returncode == 0, done.stderr
    machine = os.uname().machine
    libraries = {f"_coldpages.{machine}.so", f"_pagetrace.{machine}.so"}
    assert names_in(tmp_path / "made") == (f"none-linux_{machine}", libraries)
    assert contents(checkout) == before


def test_without_a_compiler_the_installation_says_what_is_missing_and_what_that_costs(
    checkout: Path, programs: Path, tmp_path: Path
) -> None:
    before = contents(checkout)
    done = built(checkout, tmp_path / "made", programs)
    assert done.returncode == 1
    assert "there is no C compiler (cc, gcc or clang) on PATH" in done.stderr
    assert "21.1 MB in place of 7.3" in done.stderr
    assert "apt-get install gcc libc6-dev" in done.stderr
    assert "LAYER_MINIMIZER_NATIVE=off" in done.stderr
    assert "Traceback" not in done.stderr
    assert contents(checkout) == before


@NEEDS_GCC
@pytest.mark.parametrize(
    ("options", "missing"),
    [
        ("-nostdinc", "finds no headers of the C library ("),
        ("-labsent", "cannot make a shared library ("),
    ],
)
def test_a_compiler_that_lacks_something_is_described(
    checkout: Path, programs: Path, tmp_path: Path, options: str, missing: str
) -> None:
    """As on Debian with gcc and without libc6-dev, or without a linker."""
    compiler = programs / "cc"
    compiler.write_text(f'#!/bin/sh\nexec {shutil.which("gcc")} {options} "$@"\n')
    compiler.chmod(0o755)
    done = built(checkout, tmp_path / "made", f"{programs}:{os.environ['PATH']}")
    assert done.returncode == 1
    assert missing in done.stderr
    assert "there is no C compiler" not in done.stderr
    assert "apt-get install gcc libc6-dev" in done.stderr


def test_a_compiler_that_is_not_there(checkout: Path, tmp_path: Path) -> None:
    done = built(checkout, tmp_path / "made", os.environ["PATH"], CC="absent-cc -m64")
    assert done.returncode == 1
    assert "absent-cc cannot be run: No such file or directory" in done.stderr


def test_without_native_libraries_a_run_says_what_is_missing(checkout: Path, programs: Path, tmp_path: Path) -> None:
    done = built(checkout, tmp_path / "made", programs, LAYER_MINIMIZER_NATIVE="off")
    assert done.returncode == 0, done.stderr
    assert names_in(tmp_path / "made") == ("none-any", set())
    (wheel,) = (tmp_path / "made").iterdir()
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "installed")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "env"], check=True)
    (site,) = (tmp_path / "env").glob("lib/python*/site-packages")
    install(site, "answer", {"answer.py": "VALUE = 42\n", "unused.txt": "x" * 100_000})
    (tmp_path / "handler.py").write_text("import answer\n\ndef handler(event, context):\n    return answer.VALUE\n")
    # Before this environment's installation, which has the dependencies.
    run = "import sys; sys.path.insert(0, sys.argv.pop(1)); from layer_minimizer.cli.main import run; run()"
    command = [sys.executable, "-c", run, tmp_path / "installed", "--entry", tmp_path / "handler.py", "--effort", "0"]
    command += ["--python", tmp_path / "env/bin/python", "--output", tmp_path / "layer.zip"]
    ended = subprocess.run(command, check=False, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    assert "shared libraries are shipped whole, which can make a layer three times as large" in ended.stderr
    text = " ".join(ended.stdout.split())
    assert f"installed without its native libraries for {os.uname().machine}: install it from a wheel" in text
    assert "minimize help installation" in text
    assert "0.1 MB of unused files lie in the layer uncompressed" in text
