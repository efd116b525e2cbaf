"""Writing the cold store: reproducible, with every file, and with the bytes of each file."""

import hashlib
import json
import os
import random
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from layer_minimizer.core.errors import PackError
from layer_minimizer.layer import cold_store
from layer_minimizer.layer.cold_store import ColdFile, write_store
from layer_minimizer.payload.runtime.store import ColdStore

NOISE = random.Random(7).randbytes(3 << 20)
CODE = b"\x7fELF" + bytes(14) + b"\x3e\x00" + NOISE[:5000]
FILES = {
    "pkg/__init__.py": b"import os\n" * 30,
    "pkg/a.py": b"a = 1\n" * 3000,
    "pkg/_ext.so": CODE,
    "pkg/large.bin": NOISE * 4,
    "pkg/empty": b"",
    "pkg-1.0.dist-info/METADATA": b"Name: pkg\n",
    "single.py": b"s = 1\n",
    "z.libs/libz.so.1": CODE + b"z",
    "\u00fcber/\udcff.txt": b"no UTF-8",
}


@pytest.fixture
def source(tmp_path: Path, write: Callable[..., Path]) -> Path:
    folder = write(tmp_path / "source", FILES)
    (folder / "pkg/a.py").chmod(0o755)
    return folder


def cold(source: Path, paths: Iterable[str] = tuple(FILES), needs: tuple[str, ...] = ()) -> list[ColdFile]:
    return [ColdFile(path, source / path, needs if path.endswith("_ext.so") else ()) for path in paths]


def digest(top: Path) -> dict[str, tuple[int, str]]:
    return {
        path.relative_to(top).as_posix(): (path.stat().st_mode, hashlib.sha256(path.read_bytes()).hexdigest())
        for path in top.rglob("*")
        if path.is_file()
    }


@pytest.mark.parametrize("compression", ["xz", "zlib"])
def test_files_are_read_back_unchanged(tmp_path: Path, source: Path, compression: str) -> None:
    top = tmp_path / "R"
    shares = write_store(cold(source), top, layer="l", dropped={}, compression=compression)
    store = ColdStore(str(top))
    assert {path: store.read(path) for path in FILES} == FILES
    assert {path: store.size(path) for path in FILES} == {path: len(content) for path, content in FILES.items()}
    assert store.mode("pkg/a.py") == 0o755
    assert store.mode("single.py") == 0o644
    assert store.names("") == sorted({path.partition("/")[0] for path in FILES})
    assert store.names("pkg") == ["__init__.py", "_ext.so", "a.py", "empty", "large.bin"]
    assert store.is_folder("z.libs")
    assert store.is_folder("pkg-1.0.dist-info")
    assert not store.is_folder("single.py")
    assert not store.is_folder("pk")
    assert shares.keys() == FILES.keys()
    assert sum(shares.values()) == next(top.glob("_layer_minimizer/cold/*/data")).stat().st_size
    assert shares["pkg/empty"] == 0
    assert shares["pkg/a.py"] < len(FILES["pkg/a.py"]) // 10


def test_the_store_depends_only_on_the_files(tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_store(cold(source, needs=("z.libs/libz.so.1",)), tmp_path / "A", layer="l", dropped={"b": "B", "a": "A"})
    before = os.umask(0o077)
    try:
        monkeypatch.setattr(os, "sched_getaffinity", lambda _process: {0})
        shuffled = cold(source, random.Random(3).sample(tuple(FILES), len(FILES)), ("z.libs/libz.so.1",))
        write_store(iter(shuffled), tmp_path / "B", layer="l", dropped={"a": "A", "b": "B"})
    finally:
        os.umask(before)
    assert digest(tmp_path / "A") == digest(tmp_path / "B")


def test_the_format_of_header_and_segments(tmp_path: Path, source: Path) -> None:
    write_store(cold(source, needs=("z.libs/libz.so.1",)), tmp_path, layer="the layer", dropped={"yaml": "PyYAML"})
    line, check, body = next(tmp_path.glob("_layer_minimizer/cold/*/index")).read_bytes().split(b"\n", 2)
    header = json.loads(line)
    assert (header["format"], header["compression"], header["layer"]) == (1, "xz", "the layer")
    assert header["dropped"] == {"yaml": "PyYAML"}
    assert set(header["segments"]) == {"pkg", "pkg-1.0.dist-info", "single", "z.libs", "\u00fcber"}
    assert int(check, 16) == zlib.crc32(line + b"\n")
    offset, length, crc = header["segments"]["pkg"]
    assert zlib.crc32(body[offset : offset + length]) == crc
    segment = json.loads(zlib.decompress(body[offset : offset + length]))
    assert segment["needs"] == {"pkg/_ext.so": ["z.libs/libz.so.1"]}
    assert set(segment["files"]) == {path for path in FILES if path.startswith("pkg/")}


def test_small_files_share_chunks_and_large_ones_have_their_own(tmp_path: Path, source: Path) -> None:
    write_store(cold(source), tmp_path, layer="l", dropped={})
    (store,) = ColdStore(str(tmp_path)).parts
    _segment, small = store._entry("pkg/__init__.py")
    _segment, single = store._entry("single.py")
    segment, large = store._entry("pkg/large.bin")
    assert small[0] == store._entry("pkg/a.py")[1][0]
    assert single[0] != large[0]
    sizes = [segment.chunks[str(large[0] + number)][2] for number in range(3)]
    assert sizes == [4 << 20, 4 << 20, 4 << 20]
    assert all(len(piece) <= 4 << 20 for piece in store.pieces("pkg/large.bin"))


def test_a_reader_keeps_few_chunks(tmp_path: Path, source: Path) -> None:
    write_store(cold(source), tmp_path, layer="l", dropped={})
    store = ColdStore(str(tmp_path))
    for path in FILES:
        store.read(path)
    assert sum(map(len, store.parts[0]._chunks.values())) <= 8 << 20


def test_an_empty_store_still_lists_what_was_dropped(tmp_path: Path) -> None:
    assert write_store([], tmp_path, layer="l", dropped={"yaml": "PyYAML"}) == {}
    store = ColdStore(str(tmp_path))
    assert store.names("") == []
    assert "x.py" not in store
    assert store.dropped("yaml") == "PyYAML"


def test_the_runtime_is_next_to_it_and_does_not_import_this_package(tmp_path: Path) -> None:
    write_store([], tmp_path, layer="l", dropped={})
    parts = {path.name: path.read_text() for path in (tmp_path / "_layer_minimizer").glob("*.py")}
    assert {"__init__.py", "store.py", "finder.py", "files.py"} <= set(parts)
    assert "sitecustomize.py" not in parts
    assert not any("import layer_minimizer" in text or "from layer_minimizer" in text for text in parts.values())
    assert (tmp_path / "layer_minimizer.pth").read_text().count("\n") == 1
    assert "_layer_minimizer" in (tmp_path / "sitecustomize.py").read_text()


def test_an_existing_sitecustomize_is_not_changed(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("mine = 1\n")
    write_store([], tmp_path, layer="l", dropped={})
    assert (tmp_path / "sitecustomize.py").read_text() == "mine = 1\n"


def test_read_and_write_errors(tmp_path: Path, source: Path) -> None:
    with pytest.raises(PackError, match=r"never\.py: No such file"):
        write_store([ColdFile("never.py", source / "never.py")], tmp_path / "A", layer="l", dropped={})
    (tmp_path / "file").write_text("")
    with pytest.raises(PackError, match="Not a directory"):
        write_store(cold(source), tmp_path / "file", layer="l", dropped={})


def test_a_file_that_shrinks_while_it_is_written_is_an_error(
    tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read_member = cold_store._read_member

    def read_and_truncate(file: ColdFile) -> cold_store._Member:
        found = read_member(file)
        file.source.write_bytes(b"")
        return found

    monkeypatch.setattr(cold_store, "_read_member", read_and_truncate)
    with pytest.raises(PackError, match="changed while"):
        write_store(cold(source, ["pkg/a.py"]), tmp_path / "R", layer="l", dropped={})
