"""The build context of an image: the tool, the requirements files, and pip's settings."""

from __future__ import annotations

import platform
from typing import TYPE_CHECKING

import pytest

from layer_minimizer.container import build_context
from layer_minimizer.core.errors import UsageError
from layer_minimizer.native import parts

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def copied(folder: Path) -> dict[str, str]:
    return {path.relative_to(folder).as_posix(): path.read_text() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.skipif(parts.runtime_library() is None, reason="the tool was installed without its native libraries")
@pytest.mark.parametrize(("architecture", "machine"), [("amd64", "x86_64"), ("arm64", "aarch64"), ("s390x", "s390x")])
def test_compiled_parts_go_where_they_work(
    tmp_path: Path, architecture: str, machine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "")  # where a cross compiler may be
    commands = build_context.add_tool(tmp_path, architecture)
    copied = {path.name for path in tmp_path.rglob("*.so")}
    # A wheel has those for all processors, an installation from source those for this machine.
    if parts.runtime_library(machine):
        assert (commands, copied) == ((), {f"_coldpages.{machine}.so", f"_pagetrace.{machine}.so"})
    else:
        assert machine != platform.machine()
        assert [command.split()[0] for command in commands] == ["cc", "cc"]
        assert copied == set()


def test_requirements_name_others(write: Callable[..., Path], tmp_path: Path) -> None:
    files = {
        "a/main.txt": (
            "six==1.17.0 \\\n    --hash=sha256:00\n"
            "-r sub/more.txt  # more\n-c../limits.txt\n--constraint=../limits.txt\n"
        ),
        "a/sub/more.txt": "-r ../main.txt\npillow @ https://example.org/pillow.whl\n-r https://example.org/x.txt\n",
        "limits.txt": "six<2\n",
    }
    write(tmp_path / "from", files)
    name = build_context.add_requirements(tmp_path / "from/a/main.txt", tmp_path / "to")
    assert name == "0-main.txt"
    assert copied(tmp_path / "to") == {
        "0-main.txt": (
            "six==1.17.0 \\\n    --hash=sha256:00\n-r 1-more.txt\n-c 2-limits.txt\n--constraint 2-limits.txt\n"
        ),
        "1-more.txt": "-r 0-main.txt\npillow @ https://example.org/pillow.whl\n-r https://example.org/x.txt\n",
        "2-limits.txt": "six<2\n",
    }


def test_a_wheel_that_works_everywhere_is_taken_along(write: Callable[..., Path], tmp_path: Path) -> None:
    wheel = "own-1.0-py3-none-any.whl"
    lines = f"./{wheel} ; python_version > '3' --hash=sha256:00\nfile://{tmp_path}/from/{wheel} --hash=sha256:00\n"
    write(tmp_path / "from", {wheel: "content", "r.txt": lines})
    build_context.add_requirements(tmp_path / "from/r.txt", tmp_path / "to")
    assert copied(tmp_path / "to") == {
        wheel: "content",
        "0-r.txt": f"./{wheel} ; python_version > '3' --hash=sha256:00\n./{wheel} --hash=sha256:00\n",
    }
    write(
        tmp_path / "from", {"own-1.0-py3-none-linux_x86_64.whl": "", "r.txt": "./own-1.0-py3-none-linux_x86_64.whl\n"}
    )
    with pytest.raises(UsageError, match="which the container does not have"):
        build_context.add_requirements(tmp_path / "from/r.txt", tmp_path / "again")


@pytest.mark.parametrize(
    "line",
    ["./own", "..", "/wheels/own.whl", "own.whl", "-e .", "--editable=./own", "-f ./wheels", "--find-links /wheels",
     "own @ file:///wheels/own.whl", "file:own", "./own[extra]", "own-1.0.tar.gz ; python_version > '3'"],
)  # fmt: skip
def test_local_requirements_are_refused(write: Callable[..., Path], tmp_path: Path, line: str) -> None:
    write(tmp_path, {"requirements.txt": f"six\n{line}\n"})
    with pytest.raises(UsageError, match=r"line 2: .* of this machine.*PIP_FIND_LINKS"):
        build_context.add_requirements(tmp_path / "requirements.txt", tmp_path / "to")


@pytest.mark.parametrize(
    "line",
    ["six", "six==1.0", "Pillow[extra]>=1,<2", "own @ https://example.org/own.whl", "-e git+https://example.org/x#egg=x",
     "https://example.org/own.tar.gz", "# ./own", "", "--index-url https://example.org/simple", "-f https://example.org/x",
     "--no-binary=:all:", "zipp==3.6.0", "own.whl.thing==1"],
)  # fmt: skip
def test_other_requirements_stay_as_they_are(write: Callable[..., Path], tmp_path: Path, line: str) -> None:
    write(tmp_path, {"requirements.txt": f"{line}\n"})
    build_context.add_requirements(tmp_path / "requirements.txt", tmp_path / "to")
    assert copied(tmp_path / "to") == {"0-requirements.txt": f"{line}\n"}


def test_requirements_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "requirements.txt").write_text("-r absent.txt\n")
    with pytest.raises(UsageError, match=r"absent\.txt: No such file"):
        build_context.add_requirements(tmp_path / "requirements.txt", tmp_path / "to")


def test_pip_settings(write: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, {"ca.pem": "certificate", "one/a.whl": "a", "two/b.whl": "b"})
    monkeypatch.chdir(tmp_path)
    variables = {
        "PIP_CERT": f"{tmp_path}/ca.pem",
        "PIP_FIND_LINKS": f"one/ file://{tmp_path}/two https://example.org/wheels",
        "PIP_INDEX_URL": "https://user:secret@example.org/simple",
        "PIP_RETRIES": "one",
        "PIP_TARGET": "/somewhere",
        "HTTPS_PROXY": "http://proxy:3128",
        "no_proxy": "localhost",
        "PATH": "/usr/bin",
        "PIPELINE": "x",
    }
    assert build_context.add_pip_settings(tmp_path / "pip", variables) == {
        "PIP_CERT": "/layer_minimizer_build/pip/PIP_CERT/0/ca.pem",
        "PIP_FIND_LINKS": "/layer_minimizer_build/pip/PIP_FIND_LINKS/0/one "
        "/layer_minimizer_build/pip/PIP_FIND_LINKS/1/two https://example.org/wheels",
        "PIP_INDEX_URL": "https://user:secret@example.org/simple",
        "PIP_RETRIES": "one",
        "HTTPS_PROXY": "http://proxy:3128",
        "no_proxy": "localhost",
    }
    assert copied(tmp_path / "pip") == {
        "PIP_CERT/0/ca.pem": "certificate",
        "PIP_FIND_LINKS/0/one/a.whl": "a",
        "PIP_FIND_LINKS/1/two/b.whl": "b",
    }
