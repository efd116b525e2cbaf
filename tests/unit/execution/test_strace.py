"""The reader of strace's log, on incomplete and damaged logs."""

from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from layer_minimizer.execution import strace
from layer_minimizer.model.trace import Use


def test_a_log_that_ends_in_the_middle_of_a_line_is_read(tmp_path: Path) -> None:
    log = tmp_path / "calls"
    whole = b'12 openat(AT_FDCWD, "/x/y", O_RDONLY|O_CLOEXEC) = 3</x/y>\n'
    log.write_bytes(whole + b'12 openat(AT_FDCWD, "/x/z", O_RDO')
    assert list(strace.read(log, "/")) == [("/x/y", Use.OPEN, True)]


def test_a_call_that_never_resumed_is_ignored(tmp_path: Path) -> None:
    log = tmp_path / "calls"
    log.write_bytes(
        b'12 openat(AT_FDCWD, "/x/y", O_RDONLY <unfinished ...>\n'
        b'13 stat("/x/z",  <unfinished ...>\n'
        b"13 <... stat resumed>0x7ffe) = -1 ENOENT (No such file or directory)\n"
    )
    assert list(strace.read(log, "/")) == [("/x/z", Use.STAT, False)]


@given(garbage=st.binary(max_size=200))
@example(garbage=b"400")  # strace writes no byte above \377
def test_no_log_breaks_the_reader(tmp_path_factory: pytest.TempPathFactory, garbage: bytes) -> None:
    log = tmp_path_factory.getbasetemp() / "garbage"
    log.write_bytes(garbage + b'\n12 stat("/x/\\' + garbage + b'", 0) = 0\n')
    for path, use, done in strace.read(log, "/"):
        assert path.startswith("/")
        assert (use, done) in {(u, d) for u in Use for d in (True, False)}
