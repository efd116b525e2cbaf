"""The wheels are complete, and one works in an environment that has only its dependencies, without a compiler."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import tarfile
import tomllib
import zipfile
from email.parser import HeaderParser
from typing import TYPE_CHECKING

from elftools.elf.elffile import ELFFile

from tests.support.index import need_uv
from tests.support.places import CHECKOUT, EXAMPLES

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from .conftest import Release, Tool

PROJECT = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]
VERSION = PROJECT["version"]
# The names of processors in ELF files.
LIBRARIES = {
    f"layer_minimizer/native/{name}.{machine}.so": processor
    for name in ("_coldpages", "_pagetrace")
    for machine, processor in (("x86_64", "EM_X86_64"), ("aarch64", "EM_AARCH64"))
}


def files_of_the_package() -> set[str]:
    return {
        path.relative_to(CHECKOUT).as_posix()
        for path in (CHECKOUT / "layer_minimizer").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and path.suffix != ".so"
    }


def test_release_is_an_sdist_and_a_wheel_for_each_processor(release: Release) -> None:
    tags = [f"py3-none-manylinux_2_17_{machine}" for machine in ("aarch64", "x86_64")]
    assert [wheel.name for wheel in release.wheels] == [f"layer_minimizer-{VERSION}-{tag}.whl" for tag in tags]
    assert release.sdist.name == f"layer_minimizer-{VERSION}.tar.gz"


def test_wheels_hold_every_file_of_the_package_and_libraries_for_all_processors(release: Release) -> None:
    for wheel in release.wheels:
        with zipfile.ZipFile(wheel) as archive:
            packed = {name for name in archive.namelist() if not name.split("/")[0].endswith(".dist-info")}
            found = {
                name: ELFFile(io.BytesIO(archive.read(name)))["e_machine"] for name in packed if name.endswith(".so")
            }
            metadata = HeaderParser().parsestr(archive.read(f"layer_minimizer-{VERSION}.dist-info/METADATA").decode())
        assert found == LIBRARIES
        assert packed - set(found) == files_of_the_package()
        assert metadata["License-Expression"] == "Apache-2.0"
        assert metadata.get_all("License-File") == ["LICENSE", "layer_minimizer/report/page/d3-hierarchy.LICENSE"]


def test_sdist_holds_what_a_build_needs(release: Release) -> None:
    with tarfile.open(release.sdist) as archive:
        packed = {name.partition("/")[2] for name in archive.getnames()}
    text = {"CHANGELOG.md", "LICENSE", "PKG-INFO", "README.md"}
    assert packed == files_of_the_package() | text | {".packaging/build_hook.py", ".gitignore", "pyproject.toml"}


def test_wheel_compacts_the_libraries_of_the_quickstart(
    tool: Tool, requirements_env: Callable[[str, Path], Path], tmp_path: Path
) -> None:
    example = EXAMPLES / "quickstart"
    python = requirements_env("quickstart", example / "requirements.txt")
    subprocess.run([python, "-I", example / "make_events.py", tmp_path / "events.json"], check=True)
    shutil.copy(example / "handler.py", tmp_path)
    done = tool.run(
        "minimize", "--json", "--python", python, "--entry", tmp_path / "handler.py",
        "--event", tmp_path / "events.json", "--effort", "0", "--output", tmp_path / "layer.zip",
        LAYER_MINIMIZER_CACHE=str(tmp_path / "cache"),
    )  # fmt: skip
    report = json.loads(done.stdout)
    assert report["verified"] is True
    compacted = [library for library in report["libraries"] if not library["problem"]]
    assert sum(library["shipped"] + library["cold"] for library in compacted) < 5_000_000
    assert sum(library["file"] for library in compacted) > 8_000_000
    assert report["layer"]["unzipped_bytes"] < report["before"]["bytes"] / 2


def test_command_has_the_name_of_the_distribution_too(tool: Tool) -> None:
    for command in (["minimize"], ["layer-minimizer"], ["python", "-m", "layer_minimizer"]):
        assert tool.run(*command, "--version").stdout == f"{VERSION}\n"


def test_images_of_both_processors_need_no_compiler(tool: Tool, tmp_path: Path) -> None:
    script = "import pathlib, sys; from layer_minimizer.container.build_context import add_tool; "
    script += "print([add_tool(pathlib.Path(sys.argv[1], each), each) for each in ('amd64', 'arm64')])"
    assert tool.run("python", "-c", script, tmp_path).stdout == "[(), ()]\n"


def test_uv_runs_it_without_an_installation(release: Release, tmp_path: Path) -> None:
    uvx = [need_uv(), "tool", "run", "--cache-dir", str(tmp_path)]
    for arguments in (
        ["--from", release.wheel, "minimize"],
        # Of an index, or a folder in place of one, its name is enough.
        ["--find-links", release.folder, "layer-minimizer"],
    ):
        done = subprocess.run([*uvx, *arguments, "--version"], check=True, stdout=subprocess.PIPE, text=True)
        assert done.stdout == f"{VERSION}\n"
