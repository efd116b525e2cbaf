"""Compresses chunks with LZMA, and remembers what came of them.

Compressing what no trace touched is most of the time that a large layer takes, and most of it is the same in the next
layer of the same environment. What was made once is kept by what it was made of, so that a layer's bytes are the same
with and without it.
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
from typing import TYPE_CHECKING, Any

from layer_minimizer.core import cache
from layer_minimizer.core.files import unfinished

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

log = logging.getLogger(__name__)
# The bytes that all of them together may have.
LIMIT = 2_000_000_000
# Of less than this compressing is as fast as looking.
_WORTH_BYTES = 32 * 1024
# How much is written before it is seen again whether there is too much; so much less stays when there is.
_BETWEEN_LOOKS = LIMIT // 20
_FORMAT = 1
_SUFFIX = ".chunk"
_DIGEST_BYTES = 32


def pack(raw: bytes, filters: Iterable[Mapping[str, Any]]) -> bytes | None:
    """Return the bytes in LZMA's raw form after these filters; None where they would not be fewer."""
    chain = [dict(each) for each in filters]
    if len(raw) < _WORTH_BYTES:
        return _compress(raw, chain)
    key = hashlib.sha256(json.dumps([_FORMAT, _encoder(), chain], sort_keys=True).encode() + b"\0" + raw).digest()
    file = cache.cache_folder("chunks") / f"{key.hex()}{_SUFFIX}"
    packed = _read(file, key)
    if packed is None:
        packed = _compress(raw, chain) or b""
        _WRITER.write(file, _seal(key, packed) + packed)
    return packed or None


def _compress(raw: bytes, chain: list[dict[str, Any]]) -> bytes | None:
    packed = lzma.compress(raw, lzma.FORMAT_RAW, filters=chain)
    return packed if len(packed) < len(raw) else None


@functools.cache
def _encoder() -> str:
    """Say which encoder this is: another version of it may find other bytes for the same."""
    try:
        # The symbol is found in what the extension is linked against.
        return str(ctypes.CDLL(_lzma.__file__).lzma_version_number())
    except (AttributeError, OSError):
        return sys.version  # it is a part of the interpreter


def _seal(key: bytes, packed: bytes) -> bytes:
    return hashlib.sha256(key + packed).digest()


def _read(file: Path, key: bytes) -> bytes | None:
    """Return what is kept, empty for what does not get smaller; None where nothing whole is."""
    try:
        kept = file.read_bytes()
        if kept[:_DIGEST_BYTES] != _seal(key, kept[_DIGEST_BYTES:]):
            log.debug("%s is damaged", file)
            return None
        os.utime(file)  # what was not used for the longest time goes first
    except FileNotFoundError:
        return None
    except OSError as exc:
        log.debug("cannot use %s: %s", file, exc)
        return None
    return kept[_DIGEST_BYTES:]


class _Writer:
    """Writes into the cache for all threads, and keeps it small."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._room = 0  # so many bytes may be written before the next look

    def write(self, file: Path, content: bytes) -> None:
        """Keep a chunk as a whole or not at all; a cache that cannot be written is none."""
        # So named it is removed when the command is killed. Two threads may have the same chunk.
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            self._make_room(file.parent, len(content))
            # Threads may pack the same at once.
            with unfinished(file.with_name(f"{file.name}-{threading.get_ident()}")) as part:
                part.write_bytes(content)
                part.replace(file)
        except OSError as exc:
            log.debug("cannot keep a compressed chunk: %s", exc)

    def _make_room(self, folder: Path, size: int) -> None:
        with self._lock:
            self._room -= size
            if self._room < 0:
                evict(folder, LIMIT - _BETWEEN_LOOKS)
                self._room = _BETWEEN_LOOKS - size


_WRITER = _Writer()


def evict(folder: Path, most: int) -> None:
    """Remove files from a folder, those first that were used least lately, until at most so many bytes are left."""
    found = []
    with os.scandir(folder) as entries:
        for entry in entries:
            try:
                status = entry.stat(follow_symlinks=False)
            except FileNotFoundError:
                continue  # another process does the same
            found.append((status.st_mtime_ns, entry.path, status.st_size))
    left = sum(size for _used, _path, size in found)
    for _used, path, size in sorted(found):
        if left <= most:
            return
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        left -= size
