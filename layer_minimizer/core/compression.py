"""Compress chunks with LZMA, with a cache of the results.

A share of the chunks is compressed as much as possible; the others in about a fifth of the time, to 8 to 25 % more
bytes. Any decoder reads both.

Compressing unused files and pages takes most of the time for a large layer, and most of them are the same in the next
layer of the same environment. The key of the cache contains everything that the result depends on, so a layer's bytes
are the same with and without the cache.
"""

from __future__ import annotations

import _lzma
import contextlib
import ctypes
import functools
import hashlib
import json
import logging
import lzma
import os
import sys
import threading
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any, TypeVar

from layer_minimizer.core import cache
from layer_minimizer.core.files import unfinished

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from pathlib import Path

log = logging.getLogger(__name__)
T = TypeVar("T")
# Maximal size of the cache in bytes.
LIMIT = 2_000_000_000
# Compressing smaller chunks is as fast as reading the cache.
_MIN_CACHED_BYTES = 32 * 1024
# How many bytes are written before the size of the cache is checked again; eviction frees as many.
_BYTES_BETWEEN_CHECKS = LIMIT // 20
# Longer matches are looked for than with the preset alone, but not as long as with PRESET_EXTREME, which takes a tenth
# more time for as many bytes.
BEST: Mapping[str, int] = {"preset": 9, "nice_len": 128}
_FAST: Mapping[str, int] = {"preset": 1}
_FORMAT = 1
_SUFFIX = ".chunk"
_DIGEST_BYTES = 32
# For an estimate, one of so many chunks is compressed.
_SAMPLED = 4


@dataclass(frozen=True, slots=True)
class Density:
    """Which chunks are compressed, and how much.

    Attributes:
        percent: percentage of the chunks that are compressed as much as possible, the others fast.
        sampled: whether only a sample is compressed, from which the size of all is estimated.
    """

    percent: int = 100
    sampled: bool = False

    def is_dense(self, number: int) -> bool:
        """Return whether the chunk with this number is compressed as much as possible."""
        return number % 100 < self.percent

    def batches(self, chunks: Iterable[T], kind: Callable[[T], object]) -> Iterator[list[tuple[int, T]]]:
        """Yield chunks with their numbers: one by one, or neighbours of one kind, of which one is the sample."""
        most = _SAMPLED if self.sampled else 1
        for _kind, alike in groupby(enumerate(chunks), key=lambda numbered: kind(numbered[1])):
            batch: list[tuple[int, T]] = []
            for numbered in alike:
                batch.append(numbered)
                if len(batch) == most:
                    yield batch
                    batch = []
            if batch:
                yield batch


BEST_DENSITY = Density()


def pack(raw: bytes, filters: Iterable[Mapping[str, Any]], *, dense: bool = True) -> bytes | None:
    """Return ``raw`` in LZMA's raw format with these filters; None if that is not smaller.

    ``dense``: compress as much as the filters' preset does; otherwise fast.
    """
    chain = [dict(each) if dense or "preset" not in each else _fast(each) for each in filters]
    if len(raw) < _MIN_CACHED_BYTES:
        return _compress(raw, chain)
    key = hashlib.sha256(json.dumps([_FORMAT, _encoder(), chain], sort_keys=True).encode() + b"\0" + raw).digest()
    file = cache.cache_folder("chunks") / f"{key.hex()}{_SUFFIX}"
    packed = _read(file, key)
    if packed is None:
        packed = _compress(raw, chain) or b""
        _WRITER.write(file, _seal(key, packed) + packed)
    return packed or None


def _fast(each: Mapping[str, Any]) -> dict[str, Any]:
    return {**{name: value for name, value in each.items() if name not in BEST}, **_FAST}


def _compress(raw: bytes, chain: list[dict[str, Any]]) -> bytes | None:
    packed = lzma.compress(raw, lzma.FORMAT_RAW, filters=chain)
    return packed if len(packed) < len(raw) else None


@functools.cache
def _encoder() -> str:
    """Return the version of liblzma: another version may give other bytes for the same input."""
    try:
        # The extension module is linked to liblzma.
        return str(ctypes.CDLL(_lzma.__file__).lzma_version_number())
    except (AttributeError, OSError):
        return sys.version  # liblzma is linked statically


def _seal(key: bytes, packed: bytes) -> bytes:
    return hashlib.sha256(key + packed).digest()


def _read(file: Path, key: bytes) -> bytes | None:
    """Return the cached result, empty if compression gains nothing; None if there is none or it is damaged."""
    try:
        kept = file.read_bytes()
        if kept[:_DIGEST_BYTES] != _seal(key, kept[_DIGEST_BYTES:]):
            log.debug("%s is damaged", file)
            return None
        os.utime(file)  # the least recently used files are evicted first
    except FileNotFoundError:
        return None
    except OSError as exc:
        log.debug("cannot use %s: %s", file, exc)
        return None
    return kept[_DIGEST_BYTES:]


class _Writer:
    """Writes to the cache for all threads, and limits its size."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._unchecked_bytes = 0  # may be written before the next check

    def write(self, file: Path, content: bytes) -> None:
        """Write a chunk completely or not at all; errors are only logged."""
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            self._evict_if_full(file.parent, len(content))
            # Named so that it is removed after a SIGKILL; several threads may compress the same chunk.
            with unfinished(file.with_name(f"{file.name}-{threading.get_ident()}")) as part:
                part.write_bytes(content)
                part.replace(file)
        except OSError as exc:
            log.debug("cannot write to the cache of compressed chunks: %s", exc)

    def _evict_if_full(self, folder: Path, size: int) -> None:
        with self._lock:
            self._unchecked_bytes -= size
            if self._unchecked_bytes < 0:
                evict(folder, LIMIT - _BYTES_BETWEEN_CHECKS)
                self._unchecked_bytes = _BYTES_BETWEEN_CHECKS - size


_WRITER = _Writer()


def evict(folder: Path, max_bytes: int) -> None:
    """Remove the least recently used files of a folder, until at most ``max_bytes`` are left."""
    found = []
    with os.scandir(folder) as entries:
        for entry in entries:
            try:
                status = entry.stat(follow_symlinks=False)
            except FileNotFoundError:
                continue  # removed by another process
            found.append((status.st_mtime_ns, entry.path, status.st_size))
    left = sum(size for _used, _path, size in found)
    for _used, path, size in sorted(found):
        if left <= max_bytes:
            return
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        left -= size
