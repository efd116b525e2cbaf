"""Variables that choose code by the kind of processor."""

from __future__ import annotations

from typing import TYPE_CHECKING

from layer_minimizer.environment.processor import chosen_code, warn_of_chosen_code

if TYPE_CHECKING:
    from pathlib import Path

ENVIRONMENT = {"OPENBLAS_CORETYPE": "Haswell", "ATEN_CPU_CAPABILITY": "avx2", "PATH": "/bin"}


def test_only_what_is_set_and_chooses_code() -> None:
    assert chosen_code(ENVIRONMENT | {"OPENBLAS_NUM_THREADS": "1"}) == {
        "OPENBLAS_CORETYPE": "Haswell",
        "ATEN_CPU_CAPABILITY": "avx2",
    }


def test_a_warning_names_what_a_library_reads(tmp_path: Path) -> None:
    for name, content in (("empty", b""), ("other", b"x" * 9999), ("blas", b"a\0OPENBLAS_CORETYPE\0b")):
        (tmp_path / name).write_bytes(content)
    (warning,) = warn_of_chosen_code(ENVIRONMENT, sorted(tmp_path.iterdir()))
    assert "variables of this machine: OPENBLAS_CORETYPE=Haswell. Set the same ones for the function" in warning
    assert not [*warn_of_chosen_code(ENVIRONMENT, [tmp_path / "other"])]
    assert not [*warn_of_chosen_code({"PATH": "/bin"}, [tmp_path / "blas"])]
