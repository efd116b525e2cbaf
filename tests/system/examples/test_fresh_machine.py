"""What the examples do on a machine without a C compiler, and what they say of it. No package is installed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.support.places import EXAMPLES

if TYPE_CHECKING:
    from pathlib import Path

# Programs of every Debian system; without apt-get, root is as helpless as any other user.
PROGRAMS = (
    "bash", "cat", "dirname", "env", "flock", "mkdir", "mktemp", "rm", "sha256sum", "sort", "tar", "touch",
)  # fmt: skip
COMPILER = ("gcc", "as", "ld")
NO_COMPILER = {"CC": "no-such-compiler"}
INSTALL = "sudo apt-get update && sudo apt-get install --no-install-recommends"
# Environments have no packages here, and no pip to install them with.
BARE = """
make_venv() { "$1" -I -m venv --without-pip "$2"; }
fill_with_tool() { :; }
"""


def run(tmp_path: Path, script: str, *programs: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a script that uses common.sh, with no other programs on PATH than a few and these."""
    folder = tmp_path / "bin"
    folder.mkdir(exist_ok=True)
    for program in (*PROGRAMS, *programs):
        if not (folder / program).exists():
            (folder / program).symlink_to(shutil.which(program) or program)
    version = f"python3.{sys.version_info.minor}"
    if not (folder / version).exists():
        (folder / version).symlink_to(os.path.realpath(sys.executable))
    environment = {"PATH": str(folder), "HOME": str(tmp_path), "LAYER_MINIMIZER_CACHE": str(tmp_path / "cache")}
    return subprocess.run(
        ["bash", "-euo", "pipefail", "-c", f'source "$1/common.sh"\n{BARE}\n{script}', "bash", EXAMPLES],
        env={**environment, **variables},
        text=True,
        capture_output=True,
        check=False,
    )


def test_without_a_compiler_the_examples_say_what_to_install_and_go_on(tmp_path: Path) -> None:
    done = run(tmp_path, 'find_tool; printf "%s" "${TOOL[0]}"', **NO_COMPILER)
    assert done.returncode == 0, done.stderr
    assert "==> continuing, although some is not installed:" in done.stderr
    assert f"{INSTALL} gcc libc6-dev strace" in done.stderr
    assert done.stdout.startswith(f"{tmp_path}/cache/tool-")


def test_an_example_that_needs_the_native_parts_ends_with_what_to_install(tmp_path: Path) -> None:
    done = run(tmp_path, "find_tool native; echo never", **NO_COMPILER)
    assert (done.returncode, done.stdout) == (3, "")
    assert "error: this needs more than is installed:" in done.stderr
    assert f"    {INSTALL} gcc libc6-dev strace" in done.stderr.splitlines()
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_python_that_makes_no_environments_is_named_with_its_package(tmp_path: Path) -> None:
    # As Debian's, which has neither ensurepip nor venv.
    done = run(tmp_path, "lacks_venv() { echo python3.99-venv; }\nfind_tool", **NO_COMPILER)
    assert done.returncode == 3
    assert "cannot create virtual environments" in done.stderr
    assert f"{INSTALL} python3.99-venv gcc libc6-dev strace" in done.stderr


def test_the_tool_is_installed_anew_once_there_is_a_compiler(tmp_path: Path) -> None:
    if shutil.which("gcc") is None:
        pytest.skip("there is no C compiler")
    script = """
    for compiler in no-such-compiler gcc no-such-compiler gcc; do
        CC=$compiler find_tool
        printf '%s\\n' "${TOOL[0]}"
    done
    """
    done = run(tmp_path, script, *COMPILER)
    assert done.returncode == 0, done.stderr
    without, with_parts, *again = done.stdout.split()
    assert without != with_parts
    assert again == [without, with_parts]
    assert done.stderr.count("making the environment") == 2


def test_headers_are_asked_for_where_there_is_only_a_compiler(tmp_path: Path) -> None:
    if shutil.which("gcc") is None:
        pytest.skip("there is no C compiler")
    compiler = tmp_path / "gcc-without-headers"
    compiler.write_text('#!/bin/sh\nexec gcc -nostdinc "$@"\n')
    compiler.chmod(0o755)
    done = run(tmp_path, "find_tool", "sh", *COMPILER, CC=str(compiler))
    assert "gcc libc6-dev" in done.stderr


def test_of_pips_output_what_takes_long_is_shown(tmp_path: Path) -> None:
    lines = [
        *(f"Collecting package{number}==1.0" for number in range(45)),
        "  Downloading small-1.0-py3-none-any.whl (30 kB)",
        "  Downloading large-1.0-py3-none-any.whl (30.5 MB)",
        "Building wheels for collected packages: tool",
        "  Building wheel for tool (pyproject.toml): started",
        "Installing collected packages: large, small, tool",
        "Successfully installed large-1.0 small-1.0 tool-1.0",
    ]
    (tmp_path / "output").write_text("".join(f"{line}\n" for line in lines))
    done = run(tmp_path, 'long_steps <"$HOME/output"')
    assert done.stdout.splitlines() == [
        "    pip: 20 packages looked up",
        "    pip: 40 packages looked up",
        "    pip: Downloading large-1.0-py3-none-any.whl (30.5 MB)",
        "    pip: Building wheels for collected packages: tool",
        "    pip: Building wheel for tool (pyproject.toml): started",
        "    pip: installing 3 packages",
    ]


def test_a_failure_of_pip_ends_the_run(tmp_path: Path) -> None:
    done = run(tmp_path, 'quiet_pip "$(require_python)" install --no-index no-such-distribution-anywhere; echo never')
    assert (done.returncode != 0, done.stdout) == (True, "")
    assert "no-such-distribution-anywhere" in done.stderr or "No module named pip" in done.stderr  # as Debian's Python
