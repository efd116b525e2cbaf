"""Output files are written completely or not at all; temporary files are found by their names."""

from __future__ import annotations

import glob
import hashlib
import shutil
from typing import TYPE_CHECKING

import pytest

from layer_minimizer.core.errors import PackError, TraceError
from layer_minimizer.core.files import (
    partial_paths_pattern,
    replacing,
    scratch_errors,
    sha256_of,
    unfinished,
    unfinished_folder,
)

if TYPE_CHECKING:
    from pathlib import Path


def test_one_pattern_finds_all_that_is_unfinished(tmp_path: Path) -> None:
    pattern = partial_paths_pattern(glob.escape(str(tmp_path)))
    with unfinished(tmp_path / "a.zip") as part, unfinished_folder(tmp_path / "b") as folder:
        part.touch()
        (tmp_path / "a.zip").touch()
        assert set(glob.glob(pattern)) == {str(part), str(folder)}
    assert [path.name for path in tmp_path.iterdir()] == ["a.zip"]


def test_an_output_is_replaced_only_when_all_went_well(tmp_path: Path) -> None:
    output = tmp_path / "out"
    with replacing(output) as part:
        part.write_text("one")
        assert not output.exists()
    with pytest.raises(UnicodeEncodeError), replacing(output) as part:
        part.write_text("half of it\n" * 100_000 + "\udcff", "utf-8")
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("out", "one")]
    assert sha256_of(output) == hashlib.sha256(b"one").digest()


def test_failures_in_the_scratch_folder_say_what_failed_and_what_to_do(tmp_path: Path) -> None:
    with (
        pytest.raises(
            PackError, match=r"^cannot copy .*/absent: No such file or directory; set TMPDIR to use another folder$"
        ),
        scratch_errors(PackError, "cannot copy {file}"),
    ):
        (tmp_path / "absent").read_bytes()
    (tmp_path / "from").mkdir()
    (tmp_path / "from" / "link").symlink_to("absent")
    with (
        pytest.raises(TraceError, match=r"^cannot copy: \[Errno 2\] No such file or directory; set TMPDIR"),
        scratch_errors(TraceError, "cannot copy"),
    ):
        shutil.copytree(tmp_path / "from", tmp_path / "to")
