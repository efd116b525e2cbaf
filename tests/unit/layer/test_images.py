"""Images are read from everything that tools write, and written as every tool reads them."""

from __future__ import annotations

import hashlib
import json
import os
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from layer_minimizer.core.errors import UsageError
from layer_minimizer.layer import oci, root_files
from layer_minimizer.layer.image_reader import read_image
from layer_minimizer.layer.root_files import RootFiles
from tests.support.base_images import PYTHON, docker_save, oci_layout, tar_of_folder

if TYPE_CHECKING:
    from collections.abc import Callable

LOWER = {"a/b": "b", "a/c": "c", "d/e": "e", "lib": "-> usr/lib", "usr/lib/x.so": "x"}
UPPER = {"a/.wh.b": "", "d/.wh..wh..opq": "", "d/f": "f", "lib/y": "y"}
KINDS: dict[str, Callable[[Path], Path]] = {
    "docker save": lambda folder: docker_save(folder / "base.tar", LOWER, UPPER, LOWER),
    "folder": lambda folder: oci_layout(folder / "base", LOWER, UPPER, LOWER),
    "folder, not compressed": lambda folder: oci_layout(folder / "base", LOWER, UPPER, LOWER, compressed=False),
    "tar": lambda folder: tar_of_folder(oci_layout(folder / "base", LOWER, UPPER, LOWER), folder / "base.tar"),
    "tar.gz": lambda folder: tar_of_folder(
        oci_layout(folder / "base", LOWER, UPPER, LOWER), folder / "base.tgz", "w:gz"
    ),
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_image_is_read(kind: str, tmp_path: Path) -> None:
    image = read_image(KINDS[kind](tmp_path), tmp_path / "scratch", "amd64")
    assert image.environment == {"PATH": "/usr/local/bin:/usr/bin"}
    assert [layer.diff_id for layer in image.layers] == image.config["rootfs"]["diff_ids"]
    files = RootFiles.of(image.layers[:2])
    assert set(files.files) == {"a/c", "d/f", "lib", "usr/lib/x.so", "lib/y"}
    assert files.real("/lib/../lib/x.so") == "usr/lib/x.so"
    assert set(RootFiles.of(image.layers).files) >= set(LOWER)


def test_an_image_on_disk_is_what_its_layers_result_in(tmp_path: Path) -> None:
    image = read_image(oci_layout(tmp_path / "base", LOWER, UPPER), tmp_path / "scratch", "amd64")
    root = tmp_path / "root"
    root_files.unpack(image, root)
    found = {path.relative_to(root).as_posix() for path in root.rglob("*") if not path.is_dir() or path.is_symlink()}
    assert found == {"a/c", "d/f", "lib", "usr/lib/x.so", "usr/lib/y"}


def test_no_file_is_written_outside_of_the_folder(tmp_path: Path) -> None:
    bad = {"out": f"-> {tmp_path}", "out/hurt": "x", "up": "-> ../../..", "up/hurt": "y", "../hurt": "z"}
    image = read_image(docker_save(tmp_path / "base.tar", bad), tmp_path, "amd64")
    before = set(tmp_path.iterdir())
    root_files.unpack(image, tmp_path / "root")
    assert set(tmp_path.iterdir()) == {*before, tmp_path / "root"}
    assert not Path("/hurt").exists()


def test_damage_is_reported(tmp_path: Path) -> None:
    layout = oci_layout(tmp_path / "base", {"a": "x" * 3000}, compressed=False)
    blob = max((layout / "blobs" / "sha256").iterdir(), key=lambda path: path.stat().st_size)
    good = blob.read_bytes()
    blob.write_bytes(good.replace(b"xxx", b"xyx", 1))
    with pytest.raises(UsageError, match="is damaged"):
        RootFiles.of(read_image(layout, tmp_path, "amd64").layers)
    blob.unlink()
    with pytest.raises(UsageError, match="is missing in it"):
        read_image(layout, tmp_path, "amd64")
    tar = docker_save(tmp_path / "base.tar", PYTHON)
    for content, message in (
        (tar.read_bytes()[:700], "cannot be read as an image"),
        (b"no tar at all", "cannot be read as an image"),
        (b"", "cannot be read as an image"),
    ):
        tar.write_bytes(content)
        with pytest.raises(UsageError, match=message):
            read_image(tar, tmp_path, "amd64")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="neither an OCI image layout"):
        read_image(tmp_path / "empty", tmp_path, "amd64")


def test_several_images_need_a_choice(tmp_path: Path) -> None:
    layout = oci_layout(tmp_path / "base", PYTHON)
    index = json.loads((layout / "index.json").read_text())
    (layout / "index.json").write_text(json.dumps(index | {"manifests": index["manifests"] * 2}))
    with pytest.raises(UsageError, match="has 2 images for amd64"):
        read_image(layout, tmp_path, "amd64")


def written(folder: Path, mask: int) -> tuple[oci.Layout, Path]:
    """Write an image whose files have other times, owners and order each time."""
    before = os.umask(mask)
    folder.mkdir()
    names = ("b", "a") if mask else ("a", "b")
    for name in names:
        (folder / name).write_text(name)
        os.utime(folder / name, (mask, mask))
    (folder / "link").symlink_to("a")
    (folder / "a").chmod(0o700)
    os.umask(before)
    base = read_image(docker_save(folder / "base.tar", PYTHON), folder, "amd64")
    files: dict[str, oci.Source] = {f"opt/x/{name}": folder / name for name in (*names, "link")}
    layer = oci.write_layer({**files, "opt/y": b"y", "z": oci.Link("/opt/y")}, folder / "layer", {"opt"})
    config: dict[str, Any] = dict(base.config)
    config["rootfs"] = {"type": "layers", "diff_ids": [*config["rootfs"]["diff_ids"], layer.diff_id]}
    image = oci.Image("app", config, (*base.layers, layer))
    layout = oci.Layout(image, "app:latest")
    layout.write_tar(folder / "image.tar")
    return layout, folder / "image.tar"


def test_equal_files_result_in_equal_images(tmp_path: Path) -> None:
    (first, one), (second, other) = written(tmp_path / "one", 0o022), written(tmp_path / "two", 0o077)
    assert first.digest == second.digest
    assert one.read_bytes() == other.read_bytes()
    image = read_image(one, tmp_path, "amd64")
    with tarfile.open(tmp_path / "one" / "layer") as archive:
        members = {member.name: member for member in archive}
    assert {name: member.mode for name, member in members.items()} == {
        "opt/x": 0o755, "opt/x/a": 0o755, "opt/x/b": 0o644, "opt/x/link": 0o777, "opt/y": 0o644, "z": 0o777,
    }  # fmt: skip
    assert {(member.uid, member.gid, member.uname, member.mtime) for member in members.values()} == {
        (0, 0, "", oci.TIME)
    }
    assert image.layers[0].blob.digest == image.layers[0].diff_id  # as it was in the base


def test_both_forms_of_the_layout_have_the_same_image(tmp_path: Path) -> None:
    layout, tar = written(tmp_path / "one", 0o022)
    folder = tmp_path / "layout"
    folder.mkdir()
    layout.write_folder(folder)
    for path in (folder / "blobs" / "sha256").iterdir():
        assert hashlib.sha256(path.read_bytes()).hexdigest() == path.name
    one, other = (read_image(each, tmp_path, "amd64") for each in (folder, tar))
    assert one.config == other.config
    assert [each.diff_id for each in one.layers] == [each.diff_id for each in other.layers]
