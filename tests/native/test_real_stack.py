"""The way back on real libraries: 88 operations that no trace saw give the original's results, bit by bit.

Takes the example's environment and its layer, in which all libraries are compacted for one small workload.
"""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.example
EXAMPLE = Path(__file__).parents[2] / "examples/fastai_vision"
OPERATIONS = Path(__file__).parent / "operations.py"
# Kernels that the machine which traced would not choose by itself.
FLAVOURS = {
    "as traced": {},
    "oldest": {"ATEN_CPU_CAPABILITY": "default", "OPENBLAS_CORETYPE": "Nehalem", "ONEDNN_MAX_CPU_ISA": "SSE41"},
    "avx2": {"ATEN_CPU_CAPABILITY": "avx2", "OPENBLAS_CORETYPE": "Haswell"},
}


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """The environment's Python, its packages, and the same packages with the layer's libraries in their place."""
    folder = tmp_path_factory.mktemp("stack")
    layer = folder / "layer.zip"
    done = subprocess.run(
        [EXAMPLE / "run.sh", "--native", "on", "--cold", "keep", "--max-size", "400MB", "--output", layer],
        env={**os.environ, "MINIMIZE": str(Path(sys.executable).with_name("minimize"))},
        text=True,
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    line = next(line for line in done.stderr.splitlines() if " the environment " in line)
    python = Path(line.split(" the environment ")[1]) / "bin/python"
    original = next((python.parent.parent / "lib").glob("python3.*/site-packages"))
    mixed = folder / "mixed"
    shutil.copytree(original, mixed, copy_function=os.symlink, ignore=shutil.ignore_patterns("__pycache__"))
    replaced = 0
    with zipfile.ZipFile(layer) as archive:
        for name in archive.namelist():
            path = mixed / name.split("/site-packages/", 1)[1]
            if ".so" in path.name:
                path.unlink(missing_ok=True)
                path.parent.mkdir(exist_ok=True)
                path.write_bytes(archive.read(name))
                replaced += 1
    assert replaced > 100
    return python, original, mixed


def operate(python: Path, packages: Path, **variables: str) -> list[str]:
    # Without its site-packages: the folder that is named is all that the interpreter finds.
    done = subprocess.run(
        [python, "-I", "-S", "-B", OPERATIONS, packages],
        env={**os.environ, **variables},
        text=True,
        capture_output=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_operations_that_no_trace_saw(packages: tuple[Path, Path, Path], flavour: str, tmp_path: Path) -> None:
    python, original, mixed = packages
    log = tmp_path / "cold"
    expected = operate(python, original, **FLAVOURS[flavour])
    assert len(expected) > 80
    assert operate(python, mixed, LAYER_MINIMIZER_COLD_LOG=str(log), **FLAVOURS[flavour]) == expected
    restored = {line.split()[0] for line in log.read_text().splitlines()}
    assert {"torch/lib/libtorch_cpu.so", "torch/lib/libtorch_python.so"} <= restored
    assert len(restored) > 20
