"""Locks and requirements files: what is read from them, and what is chosen."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest
from packaging.markers import Marker
from packaging.version import Version

from layer_minimizer.core.errors import UsageError
from layer_minimizer.environment import local_sources, package_source
from layer_minimizer.environment.lock_fit import allows_python, requirements
from layer_minimizer.environment.locked_packages import LockedPackage, choose, read_locked, requirements_text
from layer_minimizer.environment.package_source import (
    PackageSource,
    SourceKind,
    find_lock,
    lock_kind,
    requirement_lines,
)
from layer_minimizer.environment.prepared import Target, python_platform
from layer_minimizer.execution.uv import search_path
from tests.support.sites import write_files

if TYPE_CHECKING:
    from pathlib import Path


def source(file: Path, **chosen: Any) -> PackageSource:
    given = {"groups": (), "extras": (), "package": "", "requirements": "", **chosen}
    made = PackageSource.of(lock=str(file), **given)
    assert made is not None
    return made


def lines(folder: Path, name: str, text: str, **chosen: Any) -> list[str]:
    write_files(folder, {name: text})
    return [package.line for package in read_locked(source(folder / name, **chosen))]


# ---- the file -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "kind"),
    [("uv.lock", SourceKind.UV), ("a/poetry.lock", SourceKind.POETRY), ("pylock.dev.toml", SourceKind.PYLOCK)],
)
def test_the_kind_of_a_lock(name: str, kind: SourceKind) -> None:
    assert lock_kind(name) is kind


@pytest.mark.parametrize("name", ["Pipfile.lock", "requirements.txt", "pylock.a.b.toml", ""])
def test_no_lock(name: str) -> None:
    with pytest.raises(UsageError, match=r"uv\.lock, poetry\.lock, pdm\.lock, pylock\.toml"):
        lock_kind(name)


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"lock": "uv.lock", "requirements": "r.txt"}, "choose one"),
        ({"lock": "uv.lock"}, "no such file"),
        ({"lock": "pdm.lock", "package": "api"}, "--package api: pdm.lock has nothing to choose"),
        ({"requirements": "r.txt", "groups": ("dev",)}, "--group dev: r.txt has nothing to choose"),
        ({"extras": ("images",)}, "--extra images chooses from a lock"),
    ],
)
def test_options_that_do_not_fit(tmp_path: Path, given: dict[str, Any], text: str) -> None:
    write_files(tmp_path, {"pdm.lock": "", "r.txt": ""})
    named = {key: str(tmp_path / value) if key in {"lock", "requirements"} else value for key, value in given.items()}
    empty = {"lock": "", "requirements": "", "groups": (), "extras": (), "package": ""}
    with pytest.raises(UsageError, match=text):
        PackageSource.of(**{**empty, **named})


def test_nothing_is_to_be_made() -> None:
    assert PackageSource.of(lock="", requirements="", groups=(), extras=(), package="") is None


def test_the_lock_of_a_folder(tmp_path: Path) -> None:
    write_files(tmp_path, {"pdm.lock": "", "pylock.toml": ""})
    assert find_lock(tmp_path) is None
    write_files(tmp_path, {"pyproject.toml": ""})
    assert find_lock(tmp_path) == tmp_path / "pdm.lock"
    write_files(tmp_path, {"uv.lock": ""})
    assert find_lock(tmp_path) == tmp_path / "uv.lock"


def test_lines_of_requirements_that_include_each_other(tmp_path: Path) -> None:
    write_files(tmp_path, {"a.txt": "-r sub/b.txt\nsix\n", "sub/b.txt": "-r ../a.txt\n-c https://x.example/c.txt\n"})
    found = [line for _, line in requirement_lines(tmp_path / "a.txt")]
    assert found[0] == "-r sub/b.txt"
    assert {"six", "-r ../a.txt", "-c https://x.example/c.txt"} <= set(found)


# ---- poetry ---------------------------------------------------------------------------------------------------------

POETRY = """\
[[package]]
name = "Zope.Interface"
version = "7.0"
groups = ["main", "dev"]
markers = {main = "sys_platform == 'linux'", dev = "python_version < '3.12'"}
files = [{file = "z.whl", hash = "sha256:bb"}, {file = "z.tar.gz", hash = "sha256:aa"}]

[[package]]
name = "pillow"
version = "11.0"
groups = ["main"]
markers = "extra == \\"images\\" and sys_platform == \\"linux\\""
files = [{file = "p.whl", hash = "sha256:cc"}]

[package.source]
type = "legacy"
url = "https://own.example/simple"

[[package]]
name = "ours"
version = "1.0"
groups = ["main"]
files = []

[package.source]
type = "git"
url = "https://git.example/ours.git"
resolved_reference = "abc123"
subdirectory = "python"

[[package]]
name = "beside"
version = "1.0"
groups = ["web"]
files = []

[package.source]
type = "directory"
url = "../beside"

[extras]
images = ["pillow"]

[metadata]
lock-version = "2.1"
"""


def test_poetry(tmp_path: Path) -> None:
    assert lines(tmp_path, "poetry.lock", POETRY) == [
        "zope-interface==7.0 ; (sys_platform == 'linux') --hash=sha256:aa --hash=sha256:bb",
        "pillow==11.0 ; python_version < '0' and sys_platform == \"linux\" --hash=sha256:cc",
        "ours @ git+https://git.example/ours.git@abc123#subdirectory=python",
    ]


def test_poetry_with_groups_and_extras(tmp_path: Path) -> None:
    found = lines(tmp_path, "poetry.lock", POETRY, groups=("dev", "Web"), extras=("Images",))
    assert found[0].startswith("zope-interface==7.0 ; (sys_platform == 'linux') or (python_version < '3.12') --hash")
    assert found[1].startswith("pillow==11.0 ; python_version >= '0' and sys_platform")
    assert found[3] == f"beside @ {(tmp_path.parent / 'beside').as_uri()}"


def test_a_package_without_hashes(tmp_path: Path) -> None:
    text = POETRY.replace('hash = "sha256:cc"', 'hash = ""')
    with pytest.raises(UsageError, match="no hash for pillow: write it again with poetry lock"):
        lines(tmp_path, "poetry.lock", text)


def test_a_lock_of_an_older_poetry(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="poetry lock of Poetry 2"):
        lines(tmp_path, "poetry.lock", POETRY.replace('"2.1"', '"2.0"'))


@pytest.mark.parametrize("name", ["poetry.lock", "pdm.lock", "pylock.toml"])
@pytest.mark.parametrize("text", ["[", "metadata = 3\n", "[[package]]\nname = 1\n"])
def test_what_is_no_lock(tmp_path: Path, name: str, text: str) -> None:
    with pytest.raises(UsageError, match=name):
        lines(tmp_path, name, text)


# ---- PDM ------------------------------------------------------------------------------------------------------------


def test_pdm(tmp_path: Path) -> None:
    text = """\
[metadata]
groups = ["default", "images"]
strategy = ["inherit_metadata"]

[[package]]
name = "requests"
version = "2.0"
groups = ["default"]
files = [{file = "r.whl", hash = "sha256:aa"}]

[[package]]
name = "requests"
version = "2.0"
extras = ["socks"]
groups = ["default"]
files = [{file = "r.whl", hash = "sha256:aa"}]

[[package]]
name = "pillow"
version = "11.0"
groups = ["images"]
marker = "python_version >= \\"3.9\\""
git = "https://git.example/p.git"
revision = "abc"
"""
    assert lines(tmp_path, "pdm.lock", text) == ["requests==2.0 --hash=sha256:aa"]
    found = lines(tmp_path, "pdm.lock", text, extras=("images",))
    assert found[1] == 'pillow @ git+https://git.example/p.git@abc ; python_version >= "3.9"'
    with pytest.raises(UsageError, match="inherit_metadata"):
        lines(tmp_path, "pdm.lock", text.replace('"inherit_metadata"', ""))


# ---- PEP 751 --------------------------------------------------------------------------------------------------------


def test_pylock(tmp_path: Path) -> None:
    text = """\
lock-version = "1.0"
created-by = "a test"
extras = ["images"]
dependency-groups = ["dev", "base"]
default-groups = ["base"]

[[packages]]
name = "six"
version = "1.0"
index = "https://own.example/simple"
marker = "'base' in dependency_groups and 'dev' not in dependency_groups"
[[packages.wheels]]
url = "https://own.example/six-1.0-py3-none-any.whl"
hashes = {sha256 = "aa"}

[[packages]]
name = "ours"
marker = "'images' in extras"
vcs = {type = "git", url = "https://git.example/ours.git", commit-id = "abc"}

[[packages]]
name = "archive"
archive = {url = "https://own.example/a.zip", hashes = {sha256 = "bb"}}
"""
    write_files(tmp_path, {"pylock.toml": text})
    found = read_locked(source(tmp_path / "pylock.toml"))
    assert [package.line for package in found] == [
        "six==1.0 ; python_version >= '0' and python_version >= '0' --hash=sha256:aa",
        "ours @ git+https://git.example/ours.git@abc ; python_version < '0'",
        "archive @ https://own.example/a.zip --hash=sha256:bb",
    ]
    assert requirements_text(found).startswith("--extra-index-url https://own.example/simple\nsix==1.0 ;")


def test_a_lock_of_a_later_pep(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="as PEP 751 describes"):
        lines(tmp_path, "pylock.toml", 'lock-version = "2.0"\ncreated-by = "x"\npackages = []\n')


@pytest.mark.parametrize(
    ("marker", "chosen", "dropped"),
    [
        ("extra == 'images'", True, False),
        ("extra != 'images'", False, True),
        ("'images' in extras or python_version < '0'", True, False),
        ("'images' not in extras", False, True),
        ("'dev' in dependency_groups", True, False),
        ("python_version >= '3' and ('Images' in extras or extra == 'no')", True, False),
        ("sys_platform == 'no'", False, False),
    ],
)
def test_markers(marker: str, chosen: bool, dropped: bool) -> None:  # noqa: FBT001
    for expected, extras, groups in ((chosen, ["images"], ["dev"]), (dropped, [], [])):
        decided = choose(marker, extras, groups)
        assert (not decided or Marker(decided).evaluate()) is expected


def test_no_marker_is_left_that_is_always_true() -> None:
    assert choose("extra == 'images'", ["images"], []) == ""
    assert LockedPackage("six", "1.0").line == "six==1.0"


# ---- the project ----------------------------------------------------------------------------------------------------


def test_requirements_of_a_project() -> None:
    pyproject = {
        "project": {
            "name": "own",
            "dependencies": ["six>=1", "own[images]", "tomli; python_version < '3.11'"],
            "optional-dependencies": {"images": ["pillow"], "other": ["no"]},
        },
        "dependency-groups": {"dev": ["pytest", {"include-group": "lint"}], "lint": ["ruff", {"include-group": "dev"}]},
        "tool": {
            "poetry": {
                "dependencies": {"python": "^3.9", "click": "^8", "extra": {"version": "1", "optional": True}},
                "group": {"dev": {"dependencies": {"mypy": "*"}}},
            }
        },
    }
    assert [str(each) for each in requirements(pyproject)] == ["six>=1", "click"]
    found = {each.name for each in requirements(pyproject, ["Dev"], ["Images"])}
    assert found == {"six", "pillow", "pytest", "ruff", "click", "mypy"}


@pytest.mark.parametrize(("required", "allowed"), [(">=3.11", True), ("<3.11", False), ("nonsense", True), ("", True)])
def test_the_python_that_a_project_allows(required: str, allowed: bool) -> None:  # noqa: FBT001
    assert allows_python({"project": {"requires-python": required}}, (3, 11, 7)) is allowed


def test_projects_of_this_machine(tmp_path: Path) -> None:
    text = "-e ./own[extra] ; python_version > '3'\n-f wheels\nown2 @ file:///p/own2\nsix\n../w.whl --hash=sha256:a\n"
    write_files(tmp_path, {"r.txt": text})
    found = [str(path) for path in local_sources.of_requirements(requirement_lines(tmp_path / "r.txt"))]
    assert found == [str(tmp_path / "own"), "/p/own2", str(tmp_path.parent / "w.whl")]
    lock = (
        '[[package]]\nname = "a"\nsource = { editable = "packages/a" }\n'
        '[[package]]\nname = "b"\nsource = { virtual = "." }\n'
        '[[package]]\nname = "c"\nsource = { registry = "https://pypi.org/simple" }\n'
    )
    write_files(tmp_path, {"uv.lock": lock})
    assert list(local_sources.of_uv_lock(source(tmp_path / "uv.lock"))) == [tmp_path / "packages/a"]


def test_when_a_project_has_changed(tmp_path: Path) -> None:
    write_files(tmp_path, {"own.py": "", "pyproject.toml": '[project]\nname = "Own.Name"\n'})
    before = local_sources.state([tmp_path])
    noise = ["layer.zip", ".venv/x.py", "env/pyvenv.cfg", "env/x.py", "build/x.py", "out/report.json", "x.pyc", ".x"]
    write_files(tmp_path, dict.fromkeys(noise, ""))
    assert local_sources.state([tmp_path]) == before
    os.utime(tmp_path / "own.py", (1, 1))
    assert local_sources.state([tmp_path]) != before
    assert list(local_sources.names([tmp_path, tmp_path / "absent"])) == ["own-name"]


# ---- platforms and interpreters -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("machine", "glibc", "expected"),
    [
        ("aarch64", None, "aarch64-manylinux_2_34"),
        ("aarch64", "2.26", "aarch64-manylinux_2_17"),
        ("aarch64", "2.34", "aarch64-manylinux_2_34"),
        ("", None, ""),
        ("", "2.99", ""),
        ("x86_64", "2.5", "x86_64-manylinux_2_17"),
    ],
)
def test_the_platform_of_uv(machine: str, glibc: str | None, expected: str) -> None:
    assert python_platform("x86_64", machine, Version(glibc) if glibc else None) == expected


@pytest.mark.parametrize("platform", ["linux", "linux/riscv64", "windows/amd64", "arm64"])
def test_platforms_that_lambda_does_not_have(platform: str) -> None:
    with pytest.raises(UsageError, match="linux/amd64 and linux/arm64"):
        _ = Target(platform=platform).machine


def test_pyenv_on_the_path(tmp_path: Path) -> None:
    for name in ("3.12.1", "3.9.18", "2.7.18", "pypy3.10-7.3", "3.13.0"):
        (tmp_path / "versions" / name).mkdir(parents=True)
    found = search_path(f"/first:{tmp_path}/shims:/last").split(":")
    assert found == ["/first", *(f"{tmp_path}/versions/{name}/bin" for name in ("3.13.0", "3.12.1", "3.9.18")), "/last"]
    assert search_path("/other/shims:/bin") == "/other/shims:/bin"
    assert package_source.RELOCK.keys() == set(SourceKind) - {SourceKind.REQUIREMENTS}
