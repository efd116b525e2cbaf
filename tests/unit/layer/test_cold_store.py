"""Writing the cold store: reproducible, with every file, and with the bytes of each file."""

import hashlib
import json
import lzma
import os
import random
import struct
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from layer_minimizer.core.compression import Density
from layer_minimizer.core.errors import PackError
from layer_minimizer.layer import cold_chunks, cold_store, file_index
from layer_minimizer.layer.cold_chunks import ColdFile
from layer_minimizer.layer.cold_store import PUT_BACK, Store, write_links
from layer_minimizer.layer.file_index import LEFT_OUT, FileRow

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


def write_store(files: Iterable[ColdFile], top: Path, left_out: Iterable[FileRow] = (), **more: str) -> Store:
    return cold_store.write_store(files, left_out, top, python=(3, 11), dropped=more)


def index_of(top: Path) -> Path:
    return next(top.glob("_layer_minimizer/cold/*/index"))


def decoded(top: Path) -> dict[str, bytes]:
    """Return what the tables of a store say that lies in its data."""
    index = index_of(top).read_bytes()
    data = index_of(top).with_name("data").read_bytes()
    _magic, _crc, filtered, packed, size, length = struct.unpack_from("<QIIIIQ", index)
    assert length == len(data)
    start = struct.calcsize("<QIIIIQ") + filtered
    body = lzma.decompress(index[start : start + packed], lzma.FORMAT_RAW, filters=file_index.FILTERS)
    assert len(body) == size
    files, chunks, _needs, _texts = struct.unpack_from("<IIII", body)
    rows = body[16 + 32 * files :][: 24 * chunks]
    pieces = []
    for offset, packed, size, crc, method in struct.iter_unpack("<QIIII", rows):
        raw = data[offset : offset + packed]
        if method != file_index.STORED:
            chain = file_index.CODE_FILTERS if method == file_index.CODE else file_index.FILTERS
            raw = lzma.decompress(raw, lzma.FORMAT_RAW, filters=chain)
        assert (len(raw), zlib.crc32(raw)) == (size, crc)
        pieces.append(raw)
    return {
        row.path: b"".join(pieces[row.chunk :])[row.offset : row.offset + row.size]
        for row in file_index.read_index(index)[0]
        if row.chunk != LEFT_OUT
    }


def test_files_are_read_back_unchanged(tmp_path: Path, source: Path) -> None:
    top = tmp_path / "R"
    store = write_store(cold(source), top)
    assert decoded(top) == FILES
    rows = {row.path: row for row in file_index.read_index(index_of(top).read_bytes())[0]}
    assert {path: row.size for path, row in rows.items()} == {path: len(content) for path, content in FILES.items()}
    assert (rows["pkg/a.py"].mode, rows["single.py"].mode) == (0o755, 0o644)
    assert cold_store.paths_in(index_of(top)) == tuple(sorted(FILES, key=os.fsencode))
    assert store.name == index_of(top).parent.name
    assert store.shares.keys() == FILES.keys()
    assert sum(store.shares.values()) == index_of(top).with_name("data").stat().st_size
    assert store.shares["pkg/empty"] == 0
    assert store.shares["pkg/a.py"] < len(FILES["pkg/a.py"]) // 10


def test_files_that_were_left_out_have_an_owner_and_no_bytes(tmp_path: Path, source: Path) -> None:
    missing = FileRow("gone/data.bin", "Gone 2.0")
    write_store(cold(source, ["single.py"]), tmp_path, [missing])
    found = {row.path: row for row in file_index.read_index(index_of(tmp_path).read_bytes())[0]}
    assert found["gone/data.bin"] == missing
    assert found["single.py"].chunk != LEFT_OUT
    assert cold_store.paths_in(index_of(tmp_path)) == ("single.py",)


def test_links_stand_for_the_files(tmp_path: Path, source: Path) -> None:
    top = tmp_path / "R"
    store = write_store(cold(source), top, [FileRow("gone/data.bin", "Gone 2.0")])
    assert not any((top / path).is_symlink() for path in FILES)
    write_links(store, top)
    links = {path.relative_to(top).as_posix(): os.readlink(path) for path in top.rglob("*") if path.is_symlink()}
    own = f"_layer_minimizer/cold/{store.name}/link"
    assert links == {path: f"{PUT_BACK}{store.name}/{path}" for path in FILES} | {own: f"{PUT_BACK}{store.name}/link"}


def test_a_link_has_no_place_where_a_file_lies(tmp_path: Path, source: Path) -> None:
    store = write_store(cold(source, ["single.py"]), tmp_path)
    (tmp_path / "single.py").write_text("in place\n")
    with pytest.raises(PackError, match="cannot write the links to cold files below"):
        write_links(store, tmp_path)


def test_the_store_depends_only_on_the_files(tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    missing = [FileRow("b.py", "B 1"), FileRow("a.py", "A 1")]
    write_store(cold(source, needs=("z.libs/libz.so.1",)), tmp_path / "A", missing, b="B", a="A")
    before = os.umask(0o077)
    try:
        monkeypatch.setattr(os, "sched_getaffinity", lambda _process: {0})
        shuffled = cold(source, random.Random(3).sample(tuple(FILES), len(FILES)), ("z.libs/libz.so.1",))
        write_store(iter(shuffled), tmp_path / "B", reversed(missing), a="A", b="B")
    finally:
        os.umask(before)
    assert digest(tmp_path / "A") == digest(tmp_path / "B")


def test_what_is_known_about_a_store(tmp_path: Path, source: Path) -> None:
    left_out = [file_index.FileRow(path, "PyYAML 6.0") for path in ("PyYAML-6.0.dist-info/METADATA", "yaml/a.py")]
    dropped, versions = {"yaml": "PyYAML"}, {"pkg": "1.0"}
    cold_store.write_store(cold(source), left_out, tmp_path, python=(3, 11), dropped=dropped, distributions=versions)
    about = json.loads(index_of(tmp_path).with_name("about.json").read_text())
    assert about == {
        "runtime": cold_store.runtime_digest(), "distributions": {"pkg": "1.0"}, "dropped": {"yaml": "PyYAML"},
        "metadata": ["PyYAML-6.0.dist-info/METADATA"],
    }  # fmt: skip


def test_small_files_share_chunks_and_large_ones_have_their_own(tmp_path: Path, source: Path) -> None:
    write_store(cold(source), tmp_path)
    rows = {row.path: row for row in file_index.read_index(index_of(tmp_path).read_bytes())[0]}
    assert rows["pkg/__init__.py"].chunk == rows["pkg/a.py"].chunk
    large = rows["pkg/large.bin"]
    assert (large.offset, large.size) == (0, 12 << 20)
    assert not {row.chunk for row in rows.values() if row is not large} & {large.chunk + number for number in range(3)}


def test_copies_of_a_large_file_are_stored_once(tmp_path: Path, write: Callable[..., Path]) -> None:
    source = write(tmp_path / "source", {"a/one.bin": NOISE, "b/two.bin": NOISE})
    store = write_store([ColdFile(path, source / path) for path in ("a/one.bin", "b/two.bin")], tmp_path / "R")
    assert decoded(tmp_path / "R") == {"a/one.bin": NOISE, "b/two.bin": NOISE}
    assert sum(store.shares.values()) < 1.1 * len(NOISE)


@pytest.mark.parametrize(
    "damage", [lambda data: data[:-1], lambda data: data[:20], lambda data: data[:0], lambda data: data[:-1] + b"?"]
)
def test_a_damaged_index_is_an_error(tmp_path: Path, source: Path, damage: Callable[[bytes], bytes]) -> None:
    write_store(cold(source), tmp_path)
    index = index_of(tmp_path)
    index.write_bytes(damage(index.read_bytes()))
    with pytest.raises(ValueError, match="the index of a cold store is damaged"):
        cold_store.paths_in(index)


def test_an_empty_store_still_says_what_was_dropped(tmp_path: Path) -> None:
    store = write_store([], tmp_path, yaml="PyYAML")
    assert store.shares == {}
    assert cold_store.paths_in(index_of(tmp_path)) == ()
    assert json.loads(index_of(tmp_path).with_name("about.json").read_text())["dropped"] == {"yaml": "PyYAML"}


def test_the_runtime_is_next_to_it_and_does_not_import_this_package(tmp_path: Path) -> None:
    write_store([], tmp_path)
    parts = {path.name: path.read_text() for path in (tmp_path / "_layer_minimizer").glob("*.py")}
    assert {"__init__.py", "check.py", "finder.py", "packed.py"} <= set(parts)
    assert "sitecustomize.py" not in parts
    assert not any("import layer_minimizer" in text or "from layer_minimizer" in text for text in parts.values())
    assert (tmp_path / "layer_minimizer.pth").read_text().count("\n") == 1
    assert "_layer_minimizer" in (tmp_path / "sitecustomize.py").read_text()


def test_an_existing_sitecustomize_is_not_changed(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("mine = 1\n")
    write_store([], tmp_path)
    assert (tmp_path / "sitecustomize.py").read_text() == "mine = 1\n"


def test_read_and_write_errors(tmp_path: Path, source: Path) -> None:
    with pytest.raises(PackError, match=r"never\.py: No such file"):
        write_store([ColdFile("never.py", source / "never.py")], tmp_path / "A")
    (tmp_path / "file").write_text("")
    with pytest.raises(PackError, match="Not a directory"):
        write_store(cold(source), tmp_path / "file")


def test_a_file_that_shrinks_while_it_is_written_is_an_error(
    tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read_member = cold_chunks.read_member

    def read_and_truncate(file: ColdFile) -> cold_chunks.Member:
        found = read_member(file)
        file.source.write_bytes(b"")
        return found

    monkeypatch.setattr(cold_chunks, "read_member", read_and_truncate)
    with pytest.raises(PackError, match="changed while"):
        write_store(cold(source, ["pkg/a.py"]), tmp_path / "R")


def test_files_of_a_lower_group_are_the_same_without_the_others(source: Path, tmp_path: Path) -> None:
    behind = {"pkg/__init__.py": 2, "pkg/a.py": 1, "pkg/large.bin": 1, "z.libs/libz.so.1": 2}
    files = [ColdFile(path, source / path, group=behind.get(path, 0)) for path in FILES]
    stored = []
    for most in (0, 1, 2):
        top = tmp_path / str(most)
        write_store([file for file in files if file.group <= most], top)
        assert decoded(top) == {path: content for path, content in FILES.items() if behind.get(path, 0) <= most}
        stored.append(index_of(top).with_name("data").read_bytes())
    assert stored[2].startswith(stored[1])
    assert stored[1].startswith(stored[0])
    assert len(stored[0]) < len(stored[1]) < len(stored[2])


def test_the_size_of_a_store_is_estimated_from_a_sample(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = [f"pkg/{number:02}{end}" for number in range(24) for end in (".json", ".txt")]
    for number, path in enumerate(paths):
        (tmp_path / path).parent.mkdir(exist_ok=True)
        # A small file that cannot be compressed before each large one that can: a chunk for every file.
        large = NOISE[number : number + 1_049_000].hex().encode()
        (tmp_path / path).write_bytes(large if path.endswith(".txt") else NOISE[:500])
    compressed: list[bool] = []
    pack = cold_chunks._pack

    def counted(*args: Any, **more: Any) -> Any:
        compressed.append(True)
        return pack(*args, **more)

    monkeypatch.setattr(cold_chunks, "_pack", counted)
    sizes = []
    for sampled in (False, True):
        top = tmp_path / str(sampled)
        density = Density(sampled=sampled)
        store = cold_store.write_store(cold(tmp_path, paths), (), top, python=(3, 11), dropped={}, density=density)
        data = index_of(top).with_name("data").stat().st_size
        assert sum(store.shares.values()) == data
        sizes.append((data, len(compressed)))
        compressed.clear()
    (whole, every), (estimated, sample) = sizes
    assert every == len(paths)
    assert sample == every // 4
    assert abs(estimated - whole) < 0.02 * whole
