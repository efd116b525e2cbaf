"""The cache of compressed chunks: the same bytes with and without it, also if it is damaged."""

import lzma
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from layer_minimizer.core import compression
from layer_minimizer.layer import cold_chunks, cold_store
from layer_minimizer.native import coldstore, compact

PLAIN = [{"id": lzma.FILTER_LZMA2, "preset": 6}]
RAW = b"".join(b"line %d of what no event touched\n" % number for number in range(5000))


@pytest.fixture(autouse=True)
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LAYER_MINIMIZER_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(compression, "_WRITER", compression._Writer())
    return tmp_path / "cache/chunks"


def test_many_may_write_and_remove_at_once(kept: Path) -> None:
    code = (
        "import sys; from layer_minimizer.core import compression as c; c._BYTES_BETWEEN_CHECKS = c.LIMIT = 5000\n"
        f"raw = {RAW[:40000]!r}\n"
        f"for turn in range(12): print(hash(c.pack(raw + bytes([turn % 4]), {PLAIN!r})))"
    )
    with ThreadPoolExecutor(4) as pool:
        variables = {**os.environ, "PYTHONHASHSEED": "0"}
        command = [sys.executable, "-c", code]
        ask = lambda _: subprocess.run(command, env=variables, check=True, capture_output=True).stdout  # noqa: E731
        said = set(pool.map(ask, range(4)))
    assert len(said) == 1
    assert not list(kept.glob("*.part"))
    for path in kept.iterdir():
        key = bytes.fromhex(path.stem)
        assert compression._read(path, key) is not None


def test_stores_have_the_same_bytes_with_and_without(
    tmp_path: Path, kept: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "large.txt"
    source.write_bytes(RAW * 8)
    mapped = (line.split()[-1] for line in Path("/proc/self/maps").read_text().splitlines())
    library = next(Path(path) for path in mapped if "/libm.so" in path or "/libm-" in path)
    parts = compact.split(library.read_bytes(), ())

    def made(name: str) -> list[bytes]:
        top = tmp_path / name
        cold_store.write_store([cold_chunks.ColdFile("large.txt", source)], (), top, python=(3, 11), dropped={})
        stores = sorted(path for path in top.glob("_layer_minimizer/cold/*/*") if not path.is_symlink())
        packed = [chunk.data for chunk in coldstore.pack_chunks(parts, "a library")]
        return [*(path.read_bytes() for path in stores), *packed]

    first = made("first")
    large = [chunk for chunk in parts.chunks if len(parts.raw(chunk)) >= compression._MIN_CACHED_BYTES]
    assert len(list(kept.iterdir())) == 1 + len(large) > 1
    assert made("second") == first
    monkeypatch.setenv("LAYER_MINIMIZER_CACHE", "/proc/self")
    assert made("without") == first


def test_an_estimate_of_a_library_has_the_bytes_of_a_sample_and_zeros_for_the_others() -> None:
    import ssl  # noqa: F401, PLC0415 - brings a library of several chunks

    mapped = (line.split()[-1] for line in Path("/proc/self/maps").read_text().splitlines())
    library = next(Path(path) for path in mapped if "/libcrypto" in path)
    parts = compact.split(library.read_bytes(), ())
    density = compression.Density(sampled=True)
    whole, estimated = (coldstore.pack_chunks(parts, "a library", each) for each in (compression.BEST_DENSITY, density))
    assert len(whole) == len(estimated)
    others = 0
    for (number, sample), *more in density.batches(parts.chunks, lambda chunk: coldstore.is_code(parts, chunk)):
        assert estimated[number] == whole[number]
        for other, chunk in more:
            assert estimated[other].data == bytes(len(whole[number].data) * chunk.pages // sample.pages)
            others += 1
    assert others
