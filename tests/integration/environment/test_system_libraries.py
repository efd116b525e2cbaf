"""Where system libraries are found, compared with the dynamic loader."""

import ctypes
from pathlib import Path

import pytest

from layer_minimizer.environment import system_libraries


def test_a_library_of_the_system_is_found_where_the_loader_finds_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LD_LIBRARY_PATH", raising=False)
    ctypes.CDLL("libm.so.6")
    loaded = next(line.split()[-1] for line in Path("/proc/self/maps").read_text().splitlines() if "/libm.so" in line)
    first = next(system_libraries.candidates("libm.so.6"))
    assert first.samefile(loaded)


def test_given_folders_come_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for folder in ("own", "variable"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "libm.so.6").write_bytes(b"")
    monkeypatch.setenv("LD_LIBRARY_PATH", f"relative::{tmp_path}/variable")
    own = str(tmp_path / "own")
    found = list(system_libraries.candidates("libm.so.6", ["$ORIGIN", own]))
    assert found[:2] == [tmp_path / "own/libm.so.6", tmp_path / "variable/libm.so.6"]
    assert list(system_libraries.candidates("libabsent.so.1", [own])) == []
    assert list(system_libraries.candidates(f"{own}/libm.so.6")) == []
