"""What is for a GPU: by the names of distributions and libraries, and by what libraries need."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from layer_minimizer.environment.gpu import GpuParts, cpu_builds, find_gpu_parts
from layer_minimizer.model.installed import InstalledFile

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def found(tmp_path: Path) -> GpuParts:
    source = tmp_path / "file"
    source.write_bytes(b"no library")
    files = (
        ("nvidia/cublas/lib/libcublas.so.13", "nvidia-cublas", 900),
        ("nvidia/cublas/__init__.py", "nvidia-cublas", 1),
        ("torch/lib/libtorch_cuda.so", "torch", 500),
        ("torch/lib/libtorch_cpu.so", "torch", 400),
        ("numpy/core.so", "numpy", 10),
        ("loose.so", "", 10),
    )
    return find_gpu_parts(InstalledFile(path, size, owner, str(source)) for path, owner, size in files)


def test_rules_name_distributions_and_libraries(found: GpuParts) -> None:
    assert set(found.libraries) == {"nvidia/cublas/lib/libcublas.so.13", "torch/lib/libtorch_cuda.so"}
    assert set(found.distributions) == {"nvidia-cublas"}


def test_all_files_of_such_a_distribution_are_for_a_gpu(found: GpuParts) -> None:
    assert found.reason(InstalledFile("nvidia/any.txt", 1, "nvidia-cublas", ""))
    assert found.reason(InstalledFile("torch/lib/libtorch_cuda.so", 1, "torch", ""))
    assert not found.reason(InstalledFile("torch/lib/libtorch_cpu.so", 1, "torch", ""))
    assert not found.reason(InstalledFile("loose.so", 1, "", ""))


def test_builds_without_are_known() -> None:
    assert cpu_builds(["torch", "numpy"]) == {
        "torch": "PyTorch's CPU index: pip install torch --index-url …/whl/cpu",
    }
