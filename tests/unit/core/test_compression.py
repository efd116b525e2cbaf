"""The cache of compressed chunks: the same bytes with and without it, also if it is damaged."""

import lzma
import os
import random
import sys
from pathlib import Path
from typing import Any

import pytest

from layer_minimizer.core import compression

PLAIN = [{"id": lzma.FILTER_LZMA2, "preset": 6}]
CODE = [{"id": lzma.FILTER_X86}, *PLAIN]
RAW = b"".join(b"line %d of what no event touched\n" % number for number in range(5000))
NOISE = random.Random(5).randbytes(50_000)


@pytest.fixture(autouse=True)
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LAYER_MINIMIZER_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(compression, "_WRITER", compression._Writer())
    return tmp_path / "cache/chunks"


@pytest.fixture
def no_encoder(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Make compression fail, to check that the cache is used."""
    monkeypatch.delattr(compression.lzma, "compress")
    return monkeypatch


def encoded(raw: bytes = RAW, filters: list[dict[str, Any]] = PLAIN) -> bytes:
    return lzma.compress(raw, lzma.FORMAT_RAW, filters=filters)


def test_cached_bytes_equal_compressed_bytes(kept: Path, request: pytest.FixtureRequest) -> None:
    made = [compression.pack(RAW, PLAIN), compression.pack(RAW, CODE), compression.pack(NOISE, PLAIN)]
    assert made == [encoded(), encoded(filters=CODE), None]
    assert len(list(kept.iterdir())) == 3
    assert max(path.stat().st_size for path in kept.iterdir()) < len(RAW) // 2
    request.getfixturevalue("no_encoder")
    assert [compression.pack(RAW, PLAIN), compression.pack(RAW, CODE), compression.pack(NOISE, PLAIN)] == made


def test_small_chunks_are_not_cached(kept: Path) -> None:
    assert compression.pack(RAW[:1000], PLAIN) == encoded(RAW[:1000])
    assert compression.pack(b"", PLAIN) is None
    assert not kept.exists()


def test_another_encoder_compresses_again(kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert compression._encoder().startswith(("5", sys.version))
    compression.pack(RAW, PLAIN)
    monkeypatch.setattr(compression, "_encoder", lambda: "another")
    assert compression.pack(RAW, PLAIN) == encoded()
    assert len(list(kept.iterdir())) == 2


@pytest.mark.parametrize("damage", ["cut", "empty", "bit", "other"])
def test_damaged_files_are_compressed_again(kept: Path, damage: str, request: pytest.FixtureRequest) -> None:
    compression.pack(RAW, PLAIN)
    (file,) = kept.iterdir()
    whole = file.read_bytes()
    if damage == "other":
        compression.pack(RAW, CODE)
        (other,) = (path for path in kept.iterdir() if path != file)
        file.write_bytes(other.read_bytes())
    else:
        bit = whole[:1000] + bytes([whole[1000] ^ 1]) + whole[1001:]
        file.write_bytes({"cut": whole[:-1], "empty": b"", "bit": bit}[damage])
    assert compression.pack(RAW, PLAIN) == encoded()
    assert file.read_bytes() == whole
    request.getfixturevalue("no_encoder")
    assert compression.pack(RAW, PLAIN) == whole[32:]


@pytest.mark.parametrize("how", ["file", "read-only", "folder"])
def test_a_folder_that_cannot_be_written_changes_nothing(
    kept: Path, how: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    kept.parent.mkdir()
    if how == "file":
        kept.write_text("in the way")
    elif how == "read-only":
        # root can write everywhere except here.
        monkeypatch.setenv("LAYER_MINIMIZER_CACHE", "/proc/self")
    else:
        compression.pack(RAW, PLAIN)
        (file,) = kept.iterdir()
        file.unlink()
        (file / "in the way").mkdir(parents=True)
    caplog.set_level("INFO")
    assert compression.pack(RAW, PLAIN) == encoded()
    assert compression.pack(RAW, PLAIN) == encoded()
    assert not caplog.records
    assert not list(kept.parent.rglob("*.part"))


def test_the_least_recently_used_files_are_evicted(kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chunks = [RAW + bytes([number]) for number in range(4)]
    for number, raw in enumerate(chunks):
        before = set(kept.iterdir()) if kept.exists() else set()
        compression.pack(raw, PLAIN)
        (file,) = set(kept.iterdir()) - before
        os.utime(file, (number, number))
    size = file.stat().st_size
    compression.pack(chunks[0], PLAIN)  # is used once more
    monkeypatch.setattr(compression, "LIMIT", 3 * size + 300)
    monkeypatch.setattr(compression, "_BYTES_BETWEEN_CHECKS", size + 200)
    monkeypatch.setattr(compression, "_WRITER", compression._Writer())
    compression.pack(RAW + b"new", PLAIN)
    assert sum(path.stat().st_size for path in kept.iterdir()) <= 3 * size + 300
    monkeypatch.delattr(compression.lzma, "compress")
    for raw in (chunks[0], chunks[3], RAW + b"new"):
        assert compression.pack(raw, PLAIN) == compression.pack(raw, PLAIN)
    for raw in chunks[1:3]:
        with pytest.raises(AttributeError):
            compression.pack(raw, PLAIN)


def test_each_chunk_is_compressed_or_one_of_four_neighbours_of_a_kind() -> None:
    chunks = ["a", "a", "a", "a", "a", "b", "a"]
    alone = [[(number, kind)] for number, kind in enumerate(chunks)]
    assert list(compression.Density().batches(chunks, str)) == alone
    batches = list(compression.Density(sampled=True).batches(chunks, str))
    assert [[number for number, _ in batch] for batch in batches] == [[0, 1, 2, 3], [4], [5], [6]]


def test_a_percentage_of_the_chunks_is_dense() -> None:
    for percent in (0, 1, 40, 100):
        assert sum(map(compression.Density(percent).is_dense, range(200))) == 2 * percent
