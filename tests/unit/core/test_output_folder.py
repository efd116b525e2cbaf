"""A folder is replaced only if this tool wrote it, and nobody has changed it since."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from layer_minimizer.core.errors import PackError
from layer_minimizer.core.output_folder import check_output_folder, mark_folder, replace_folder

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def made(folder: Path, text: str = "1") -> Path:
    (folder / "sub").mkdir(parents=True)
    (folder / "sub" / "file").write_text(text)
    (folder / "link").symlink_to("sub/file")
    mark_folder(folder)
    return folder


def test_what_may_be_replaced(tmp_path: Path) -> None:
    check_output_folder(tmp_path / "new")
    (tmp_path / "empty").mkdir()
    check_output_folder(tmp_path / "empty")
    check_output_folder(made(tmp_path / "own"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "own"]


@pytest.mark.parametrize(
    "change",
    [
        lambda folder: (folder / "mine").write_text("x"),
        lambda folder: (folder / "sub" / "file").write_text("x"),
        lambda folder: (folder / "sub" / "file").unlink(),
        lambda folder: (folder / "new").mkdir(),
        lambda folder: (folder / ".layer_minimizer.json").write_text("{}"),
        lambda folder: (folder / ".layer_minimizer.json").write_text("[1"),
        lambda folder: (folder / ".layer_minimizer.json").unlink(),
    ],
)
def test_a_changed_folder_is_not_replaced(change: Callable[[Path], object], tmp_path: Path) -> None:
    folder = made(tmp_path / "own")
    change(folder)
    before = sorted(folder.rglob("*"))
    with pytest.raises(PackError, match="nobody has changed since"):
        check_output_folder(folder)
    with pytest.raises(PackError, match="was changed"):
        replace_folder(made(tmp_path / ".own.1.part", "2"), folder)
    assert sorted(folder.rglob("*")) == before


def test_files_and_links_are_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to(made(tmp_path / "own"))
    for name in ("file", "link"):
        with pytest.raises(PackError, match="is not a folder"):
            check_output_folder(tmp_path / name)
    with pytest.raises(PackError, match="No such file or directory"):
        check_output_folder(tmp_path / "absent" / "new")


def test_a_new_folder_takes_the_place_of_the_old_one(tmp_path: Path) -> None:
    folder = made(tmp_path / "own")
    replace_folder(made(tmp_path / ".own.1.part", "2"), folder)
    assert (folder / "link").read_text() == "2"
    assert list(tmp_path.iterdir()) == [folder]
