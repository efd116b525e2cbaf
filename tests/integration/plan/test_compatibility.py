"""The command with ``--runtime``: libraries that the runtime lacks are bundled, incompatible ones are errors."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from layer_minimizer.analysis import elf
from layer_minimizer.aws import runtimes
from layer_minimizer.core.errors import PackError
from layer_minimizer.plan import compatibility
from tests.support.places import EXAMPLES

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.desk import Desk
    from tests.support.sites import Environment

RUNTIME = f"python{sys.version_info.major}.{sys.version_info.minor}"
HANDLER = """\
import os

import thing


def handler(event, context):
    answer = thing.answer()
    with open(os.environ["SEEN"], "a") as seen, open("/proc/self/maps") as maps:
        seen.write("".join(line for line in maps if "libodd" in line))
    return answer
"""
THING = """\
import ctypes
import os


def answer():
    if "PRELOAD" in os.environ:
        ctypes.CDLL(os.environ["PRELOAD"], mode=ctypes.RTLD_GLOBAL)
    return ctypes.CDLL(os.path.join(os.path.dirname(__file__), "libthing.so")).answer()
"""


def gcc(*arguments: str | Path) -> None:
    subprocess.run(["gcc", *map(str, arguments)], check=True, capture_output=True)


@pytest.fixture
def system(tmp_path: Path) -> Path:
    """Return a folder of this machine with a library that no distribution owns."""
    if shutil.which("gcc") is None:
        pytest.skip("there is no gcc here")
    (tmp_path / "odd.c").write_text("int odd(void) { return 41; }\n")
    folder = tmp_path / "system"
    folder.mkdir()
    gcc("-shared", "-fPIC", tmp_path / "odd.c", "-Wl,-soname,libodd.so.1", "-o", folder / "libodd.so.1")
    return folder


@pytest.fixture
def shop(desk: Desk, make_env: Callable[..., Environment], system: Path, tmp_path: Path) -> Environment:
    """Return an environment with a package whose library is linked against the system's."""
    desk.write("handler.py", HANDLER)
    (tmp_path / "thing.c").write_text("int odd(void);\nint answer(void) { return odd() + 1; }\n")
    gcc("-shared", "-fPIC", tmp_path / "thing.c", system / "libodd.so.1", "-o", tmp_path / "libthing.so")
    files = {"thing/__init__.py": THING, "thing/libthing.so": (tmp_path / "libthing.so").read_bytes()}
    return make_env().install("thing", files)


@pytest.mark.parametrize("cold", ["keep", "drop"])
def test_a_library_that_the_runtime_lacks_goes_into_the_layer_and_is_used_there(
    desk: Desk, shop: Environment, system: Path, tmp_path: Path, cold: str
) -> None:
    seen = tmp_path / "seen"
    variables = {"LD_LIBRARY_PATH": str(system), "SEEN": str(seen)}
    ended = desk.minimize(shop, "--runtime", RUNTIME, "--json", "--cold", cold, variables=variables)
    report = json.loads(ended.out)
    assert report["verified"]
    (bundled,) = report["bundled"]
    assert bundled["name"] == "libodd.so.1"
    assert bundled["source"] == str(system / "libodd.so.1")
    assert bundled["needed_by"] == "thing/libthing.so"
    with zipfile.ZipFile(desk.output) as archive:
        entry = archive.getinfo("lib/libodd.so.1")
        assert entry.external_attr >> 16 & 0o777 == 0o755
        assert archive.read(entry) == (system / "libodd.so.1").read_bytes()
    runs = seen.read_text().splitlines()
    assert runs[0].endswith("/system/libodd.so.1")
    assert runs[-1].endswith("/opt/lib/libodd.so.1")


def test_a_library_of_a_base_layer_is_used_and_not_bundled(
    desk: Desk, shop: Environment, system: Path, tmp_path: Path
) -> None:
    base, seen = desk.folder / "base.zip", tmp_path / "seen"
    with zipfile.ZipFile(base, "w") as archive:
        entry = zipfile.ZipInfo("lib/libodd.so.1")
        entry.external_attr = 0o100755 << 16
        archive.writestr(entry, (system / "libodd.so.1").read_bytes())
    ended = desk.minimize(
        shop, "--base-layer", base, "--runtime", RUNTIME, "--json", "--cold", "keep", variables={"SEEN": str(seen)}
    )
    assert json.loads(ended.out)["bundled"] == []
    with zipfile.ZipFile(desk.output) as archive:
        assert not [name for name in archive.namelist() if name.startswith("lib/")]
    runs = seen.read_text().splitlines()
    assert runs[0].endswith("/base/opt/lib/libodd.so.1")
    assert runs[-1].endswith("/opt/lib/libodd.so.1")
    assert runs[-1] != runs[0]


def test_a_library_next_to_the_site_goes_into_the_layer(
    desk: Desk, shop: Environment, system: Path, tmp_path: Path
) -> None:
    shutil.copy(system / "libodd.so.1", shop.root / "lib" / "libodd.so.1")
    runpath = "-Wl,--enable-new-dtags,-rpath,$ORIGIN/../../.."
    target = shop.site / "thing" / "libthing.so"
    gcc("-shared", "-fPIC", tmp_path / "thing.c", system / "libodd.so.1", runpath, "-o", target)
    seen = tmp_path / "seen"
    ended = desk.minimize(shop, "--runtime", RUNTIME, "--json", variables={"SEEN": str(seen)})
    (bundled,) = json.loads(ended.out)["bundled"]
    assert bundled["source"] == os.path.realpath(shop.root / "lib" / "libodd.so.1")
    assert seen.read_text().splitlines()[-1].endswith("/opt/lib/libodd.so.1")


def test_without_a_runtime_nothing_is_added(desk: Desk, shop: Environment, system: Path, tmp_path: Path) -> None:
    variables = {"LD_LIBRARY_PATH": str(system), "SEEN": str(tmp_path / "seen")}
    ended = desk.minimize(shop, "--json", variables=variables)
    assert json.loads(ended.out)["bundled"] == []
    with zipfile.ZipFile(desk.output) as archive:
        assert not [name for name in archive.namelist() if not name.startswith("python/")]


def test_a_library_that_is_found_nowhere_is_an_error_before_the_layer_is_verified(
    desk: Desk, shop: Environment, system: Path, tmp_path: Path
) -> None:
    variables = {"PRELOAD": str(system / "libodd.so.1"), "SEEN": str(tmp_path / "seen")}
    fragments = (
        "thing/libthing.so",
        "libodd.so.1",
        RUNTIME,
        "LD_LIBRARY_PATH",
        "exclude thing/libthing.so with --exclude",
    )
    ended = desk.fails(shop, 5, fragments, "--runtime", RUNTIME, variables=variables)
    assert "on the layer alone" not in ended.err


def test_a_library_that_does_not_load_on_this_machine_either_is_a_warning(desk: Desk, shop: Environment) -> None:
    desk.write(
        "handler.py",
        "import thing\n\n\ndef handler(event, context):\n    try:\n        return thing.answer()\n"
        "    except OSError:\n        return 'does without'\n",
    )
    ended = desk.minimize(shop, "--runtime", RUNTIME, "--json")
    (warning,) = [each for each in json.loads(ended.out)["warnings"] if "libodd" in each]
    assert warning.startswith("thing/libthing.so needs libodd.so.1: not in the layer")


def build_future_library(folder: Path) -> bytes:
    """Build a library that needs a future version of the C library."""
    folder.mkdir()
    (folder / "libc.c").write_text("int invented(void) { return 1; }\n")
    (folder / "libc.map").write_text("GLIBC_2.99 { invented; };\n")
    script = f"-Wl,--version-script={folder}/libc.map"
    gcc("-shared", "-nostdlib", "-fPIC", folder / "libc.c", script, "-Wl,-soname,libc.so.6", "-o", folder / "libc.so.6")
    (folder / "user.c").write_text("int invented(void);\nint use(void) { return invented(); }\n")
    gcc("-shared", "-nostdlib", "-fPIC", folder / "user.c", folder / "libc.so.6", "-o", folder / "libfuture.so")
    return (folder / "libfuture.so").read_bytes()


def test_a_library_for_a_newer_system_is_refused_with_the_symbol(
    desk: Desk, handler: Path, make_env: Callable[..., Environment], system: Path, tmp_path: Path
) -> None:
    assert handler
    assert system
    env = make_env().install("alpha", {"alpha.py": "VALUE = 1\n"})
    env.install("future", {"future/libfuture.so": build_future_library(tmp_path / "future")})
    options = ("--include", "future/**")
    fragments = (
        "future/libfuture.so needs GLIBC_2.99 (invented)",
        f"{RUNTIME} has GLIBC_2.",
        "no Lambda runtime",
        "future",
    )
    desk.fails(env, 5, fragments, *options, "--runtime", RUNTIME)
    desk.minimize(env, *options)


def test_another_python_or_processor_than_the_runtimes_is_refused_at_once(
    desk: Desk, env: Environment, handler: Path
) -> None:
    assert handler
    other = next(name for name in runtimes.load_runtimes() if name != RUNTIME)
    ended = desk.fails(env, 5, (other, RUNTIME, "--python"), "--runtime", other)
    assert "tracing" not in ended.err
    foreign = "x86_64" if elf_machine() == "aarch64" else "arm64"
    desk.fails(env, 5, (foreign, "make the layer on a machine"), "--runtime", RUNTIME, "--architecture", foreign)
    desk.fails(env, 2, ("--runtime",), "--architecture", foreign)


def elf_machine() -> str:
    found = elf.read_dynamic(Path(sys.executable).resolve())
    assert found
    return found.machine


def test_pure_python_is_fine_for_its_own_runtime(
    desk: Desk, make_env: Callable[..., Environment], handler: Path, version: str
) -> None:
    assert handler
    env = make_env(version).install("alpha", {"alpha.py": "VALUE = 1\n"})
    report = json.loads(desk.minimize(env, "--json", "--runtime", f"python{version}").out)
    assert report["bundled"] == []
    runtime = runtimes.load_runtimes()[f"python{version}"]
    deprecated = [warning for warning in report["warnings"] if f"is deprecated since {runtime.deprecated}" in warning]
    assert len(deprecated) == (datetime.now(UTC).date() >= runtime.deprecated)


@pytest.mark.example
def test_todays_torch_needs_a_newer_system_than_amazon_linux_2(
    requirements_env: Callable[[str, Path], Path], desk: Desk
) -> None:
    python = requirements_env("fastai_vision", EXAMPLES / "fastai_vision/requirements.txt")
    path = next(python.parent.parent.glob("lib/python3.*/site-packages/torch/lib/libtorch_cpu.so"))
    dynamic = elf.read_dynamic(path)
    assert dynamic
    library = compatibility.CheckedLibrary("torch/lib/libtorch_cpu.so", 1, "torch", dynamic, elf.read_versions(path))
    found = {}
    for name, runtime in runtimes.load_runtimes().items():
        target = compatibility.Target(runtime, dynamic.machine, runtime.python or (3, 12))
        present = {library.path, "torch/lib/libc10.so", "torch/lib/libgomp.so.1"}
        found[name] = compatibility.check_libraries(target, [library], present.__contains__, lambda *_: None)
        if runtime.system == "Amazon Linux 2023":
            assert found[name].violations == ()
            continue
        with pytest.raises(PackError, match=r"libtorch_cpu\.so needs .*GLIBC_2\.28 \(fcntl64\)"):
            compatibility.refuse_violations(target, found[name])
    if path.parts[-5] != "python3.11":
        return
    desk.write("handler.py", "import torch\n\n\ndef handler(event, context):\n    return torch.ones(2).tolist()\n")
    fragments = ("torch/lib/libtorch_cpu.so needs GLIBC_2.28 (fcntl64)", "python3.11", "--runtime python3.12", "torch")
    desk.fails(None, 5, fragments, "--python", python, "--runtime", "python3.11")
