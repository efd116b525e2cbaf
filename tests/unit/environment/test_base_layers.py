"""Reading of base layers: the files that they provide, and conflicts between them."""

from __future__ import annotations

import os
import stat
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from layer_minimizer.core.errors import UsageError
from layer_minimizer.environment import base_layers
from layer_minimizer.layer import cold_store
from layer_minimizer.layer.cold_chunks import ColdFile
from layer_minimizer.layer.cold_store import write_links, write_store
from layer_minimizer.layer.file_index import FileRow
from layer_minimizer.settings import choose

if TYPE_CHECKING:
    from collections.abc import Mapping

SITE = "python/lib/python3.11/site-packages/"


def zipped(path: Path, files: Mapping[str, str | bytes], links: Mapping[str, str] | None = None) -> str:
    with zipfile.ZipFile(path, "w") as archive:
        for kind, entries in ((stat.S_IFREG | 0o644, files), (stat.S_IFLNK | 0o777, links or {})):
            for name, content in entries.items():
                entry = zipfile.ZipInfo(name)
                entry.external_attr = kind << 16
                archive.writestr(entry, content)
    return str(path)


def test_which_files_are_provided_by_which_layer(tmp_path: Path) -> None:
    one = zipped(
        tmp_path / "one.zip",
        {
            f"{SITE}a/__init__.pyc": b"bytecode",
            f"{SITE}a/__pycache__/b.cpython-311.pyc": b"cached",
            "python/flat.py": "flat",
            "python/both.py": "flat",
            "python/lib/python3.8/site-packages/old.py": "",
            "lib/libodd.so.1": b"library",
        },
    )
    two = zipped(tmp_path / "two.zip", {f"{SITE}both.py": "site", "python/flat.py": "other"})
    base = base_layers.read_base_layers((one, two), "python3.11", tmp_path / "scratch")
    assert base.provided == {
        "a/__init__.py": one,
        "a/__init__.pyc": one,
        "a/__pycache__/b.cpython-311.pyc": one,
        "flat.py": two,
        "both.py": two,
    }
    assert base.files["both.py"].source.read_text() == "site"
    assert base.files["flat.py"].source.read_text() == "other"
    assert base.libraries == {"libodd.so.1"}
    assert [(each.kind, each.name, each.first, each.second, each.winner) for each in base.conflicts] == [
        ("content", "python/flat.py", one, two, two)
    ]
    # What the second replaces is not counted; what merely comes first on sys.path is.
    assert base.base_bytes == len("bytecode" + "cached" + "other" + "flat" + "library" + "site")
    assert sum(layer.unzipped_bytes for layer in base.layers) == base.base_bytes + len("flat")


def test_bytecode_and_metadata_are_no_conflicts_and_versions_are(tmp_path: Path) -> None:
    names = []
    for name, version in (("one", "1.0"), ("two", "2.0")):
        info = f"Name: Some.Thing\nVersion: {version}\n"
        files = {
            f"{SITE}thing-{version}.dist-info/METADATA": info,
            f"{SITE}thing.pyc": name,
            f"{SITE}x.pth": f"#{name}",
        }
        names.append(zipped(tmp_path / f"{name}.zip", files))
    base = base_layers.read_base_layers(names, "python3.11", tmp_path / "scratch")
    (conflict,) = base.conflicts
    assert str(conflict) == (
        f"some-thing is of two versions: 1.0 in {names[0]} and 2.0 in {names[1]}; the later layer wins"
    )


def test_cold_files_of_a_layer_of_this_tool_are_provided(tmp_path: Path) -> None:
    top = tmp_path / "top"
    (tmp_path / "late.py").write_text("x = 1\n" * 50)
    cold = [ColdFile("pkg/late.py", tmp_path / "late.py")]
    missing = [FileRow("pkg/gone.py", "pkg 3.1")]
    store = write_store(cold, missing, top, python=(3, 11), dropped={}, distributions={"pkg": "3.1"})
    write_links(store, top)
    found = sorted(top.rglob("*"))
    links = {f"{SITE}{path.relative_to(top)}": os.readlink(path) for path in found if path.is_symlink()}
    files = {f"{SITE}{path.relative_to(top)}": path.read_bytes() for path in found if path.is_file()}
    more = {**files, f"{SITE}sub.pyc": b"..._layer_minimizer.stubs..."}
    name = zipped(tmp_path / "layer.zip", more, {**links, f"{SITE}pkg/same.so": "other.so"})
    base = base_layers.read_base_layers([name], "python3.11", tmp_path / "scratch")
    assert base.cold == {"pkg/late.py": name}
    assert {path.removeprefix(SITE) for path in links} == {"pkg/late.py", f"_layer_minimizer/cold/{store.name}/link"}
    assert set(base.links) == {"pkg/late.py"}
    assert "pkg/same.so" in base.files
    assert not {"pkg/late.py", "pkg/gone.py"} & set(base.files)
    assert "pkg/gone.py" not in base.provided
    assert base.provided["pkg/late.py"] == name
    assert base.stubs == {"sub.pyc"}
    assert "sub.py" not in base.provided
    assert base.versions == {"pkg": (name, "3.1")}
    assert base.has_sitecustomize

    about = next(path for path in files if path.endswith("about.json"))
    other = files[about].replace(cold_store.runtime_digest().encode(), b"0123456789abcdef")
    assert other != files[about]
    with pytest.raises(UsageError, match="another version of this tool"):
        base_layers.read_base_layers(
            [zipped(tmp_path / "other.zip", {**files, about: other})], "python3.11", tmp_path / "again"
        )


def test_a_damaged_layer_is_an_error(tmp_path: Path) -> None:
    name = zipped(tmp_path / "layer.zip", {f"{SITE}a.py": "text = 1\n"})
    content = (tmp_path / "layer.zip").read_bytes()
    (tmp_path / "layer.zip").write_bytes(content.replace(b"text = 1", b"text = 2"))
    with pytest.raises(UsageError, match="not a readable zip file"):
        base_layers.read_base_layers([name], "python3.11", tmp_path / "scratch")


def test_a_library_takes_paths_and_names() -> None:
    assert choose(None, {"base_layers": [Path("a.zip"), "b.zip"]}).base_layers == ("a.zip", "b.zip")
    assert choose(None, {"base_layers": Path("a.zip")}).base_layers == ("a.zip",)
    assert choose(None, {"base_layers": "arn:x"}).base_layers == ("arn:x",)
