"""Compacted libraries of two layers in one process: cold pages of both are restored."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from layer_minimizer.layer import archive
from layer_minimizer.native import parts
from tests.support.places import MINIMIZE

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.skipif(
    bool(parts.unavailable_reason()) or not shutil.which("gcc"), reason=parts.unavailable_reason() or "no gcc"
)
FUNCTION = "long f{0}(long x) {{ volatile long y = x + {0} + {1};\n" + "y = y * 31 + 7;\n" * 600 + "return y; }}\n"
PACKAGE = """
import ctypes, os

library = ctypes.CDLL(os.path.join(os.path.dirname(__file__), "libcode.so"))

def call(which):
    function = getattr(library, "f%d" % which)
    function.restype, function.argtypes = ctypes.c_long, [ctypes.c_long]
    return function(5)
"""
LOWER = "import lower\n\n\ndef handler(event, context):\n    return lower.call(event)\n"
BOTH = "import lower, upper\n\n\ndef handler(event, context):\n    return [lower.call(event), upper.call(event)]\n"
RUN = """
import json, sys
sys.path[:0] = sys.argv[1:3]
import handler
print(json.dumps([handler.handler(which, None) for which in (3, 59, 17, 0)]))
"""


def install(folder: Path, *names: str) -> Path:
    """Make an environment with a package and a library for each name. Return its site-packages."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    site = next((folder / "lib").glob("python3*/site-packages"))
    for name in names:
        (site / name).mkdir()
        (site / name / "__init__.py").write_text(PACKAGE)
        source = folder / f"{name}.c"
        source.write_text("".join(FUNCTION.format(i, len(name) + ord(name[0])) for i in range(60)))
        subprocess.run(["gcc", "-O0", "-g", "-shared", "-fPIC", source, "-o", site / name / "libcode.so"], check=True)
        info = site / f"{name}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        (info / "RECORD").write_text(f"{name}/__init__.py,,\n{name}/libcode.so,,\n")
    return site


def make(folder: Path, code: str, site: Path, name: str, *options: object) -> Any:
    task = folder / name
    task.mkdir(exist_ok=True)
    (task / "handler.py").write_text(code)
    (folder / "event.json").write_text("3")
    given = [
        "--entry",
        task / "handler.py",
        "--event",
        folder / "event.json",
        "--python",
        site.parents[2] / "bin/python",
    ]
    command = [MINIMIZE, "-q", "--json", "--effort", "0", *given, *options]
    done = subprocess.run(
        list(map(str, [*command, "--output", folder / f"{name}.zip"])), stdout=subprocess.PIPE, check=True
    )
    return json.loads(done.stdout)


def call(folder: Path, *packages: Path | str) -> Any:
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-B", "-c", RUN, folder, *packages],
        text=True,
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("installed", [("lower", "upper"), ("upper",)], ids=["both installed", "one only below"])
def test_cold_pages_of_both_are_restored(tmp_path: Path, installed: tuple[str, ...]) -> None:
    site = install(tmp_path / "env", "lower", "upper")
    below = make(tmp_path, LOWER, site, "below")
    assert below["libraries"][0]["cold"] > 0
    chosen = site if len(installed) == 2 else install(tmp_path / "env2", *installed)
    above = make(tmp_path, BOTH, chosen, "above", "--base-layer", tmp_path / "below.zip")
    # Pages cannot be traced if there is a library that is already compacted.
    compacted = ["upper/libcode.so"] if chosen == site else []
    assert [library["path"] for library in above["libraries"] if library["cold"]] == compacted
    assert any("lower/libcode.so" in warning for warning in above["warnings"]) == (not compacted)
    assert above["conflicts"] == []
    for layer in ("below", "above"):
        archive.unzip(tmp_path / f"{layer}.zip", tmp_path / "opt")
    packages = next((tmp_path / "opt/python/lib").glob("*/site-packages"))
    assert len(list((packages / "layer_minimizer.libs").glob("liblayercold-*.so"))) == 1
    assert call(tmp_path / "above", packages) == call(tmp_path / "above", site)


def test_a_library_without_the_pages_that_are_needed_here_is_replaced(tmp_path: Path) -> None:
    site = install(tmp_path / "env", "lower", "upper")
    make(tmp_path, LOWER, site, "below", "--cold", "drop")
    code = BOTH.replace("lower.call(event)", "lower.call(event + 50)")
    above = make(tmp_path, code, site, "above", "--base-layer", tmp_path / "below.zip")
    assert above["verification"]["repaired"] == ["lower/libcode.so"]
    assert {library["path"] for library in above["libraries"]} == {"lower/libcode.so", "upper/libcode.so"}
