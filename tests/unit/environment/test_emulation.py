"""Where the system of an interpreter for another processor lies."""

import errno
import platform
from pathlib import Path

import pytest

from layer_minimizer.environment import emulation

OTHER = {"x86_64": 183, "aarch64": 62}[platform.machine()]
LOADER = {183: "ld-linux-aarch64.so.1", 62: "ld-linux-x86-64.so.2"}[OTHER]
LIB = {183: "lib", 62: "lib64"}[OTHER]


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a program for another processor, in a system in which /lib is a link."""
    monkeypatch.setenv(emulation.PREFIX, "")  # what the tests set is undone
    root = tmp_path / "root"
    for folder in ("bin", LIB):
        (root / "usr" / folder).mkdir(parents=True)
    (root / LIB).symlink_to(f"usr/{LIB}")
    (root / LIB / LOADER).symlink_to(f"/{LIB}/elsewhere")
    made = root / "usr/bin/python3"
    made.write_bytes(b"\x7fELF\x02\x01\x01".ljust(18, b"\0") + OTHER.to_bytes(2, "little") + bytes(44))
    return made


def test_the_outermost_folder_with_a_loader_is_the_system(
    program: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    emulation.prepare(str(program))
    assert emulation.os.environ[emulation.PREFIX] == str(tmp_path / "root")
    (tmp_path / "link").symlink_to(program)
    assert emulation.system_root(str(tmp_path / "link")) == str(tmp_path / "root")
    monkeypatch.setenv(emulation.PREFIX, str(tmp_path))
    emulation.prepare(str(program))
    assert emulation.system_root(str(program)) == str(tmp_path)


def test_programs_of_this_machine_have_its_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(emulation.PREFIX, "")
    own = tmp_path / "script"
    own.write_text("#!/bin/sh\n")
    for program in ("/proc/self/exe", str(own), str(tmp_path / "none")):
        emulation.prepare(program)
        assert emulation.os.environ[emulation.PREFIX] == ""
        assert emulation.system_root(program) == emulation.foreign_machine(program) == ""
        assert emulation.hint(program, OSError(errno.ENOEXEC, "Exec format error")) == ""


def test_a_hint_is_given_for_programs_that_do_not_start_for_this_reason(program: Path) -> None:
    assert "knows no emulator" in emulation.hint(str(program), OSError(errno.ENOEXEC, "Exec format error"))
    assert emulation.hint(str(program), OSError(errno.EACCES, "Permission denied")) == ""
