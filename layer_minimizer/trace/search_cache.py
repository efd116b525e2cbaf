"""Caches what the search for unused modules has found, and what its trial runs have shown.

The cache has a file ``DIGEST.json`` with the result of each complete search, and until then a folder ``DIGEST`` with
the trial runs so far: a search that was interrupted continues from there.
"""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from layer_minimizer.core import cache
from layer_minimizer.core.files import replacing
from layer_minimizer.model import codec
from layer_minimizer.model.search import SearchResult, Trial

if TYPE_CHECKING:
    from pathlib import Path

log = logging.getLogger(__name__)
_Value = TypeVar("_Value")


@dataclass(frozen=True, slots=True)
class SearchCache:
    """The cached result of one search, and its trial runs: ``name`` is the digest of the search's inputs.

    A cache that cannot be read or written is ignored.
    """

    name: str

    @classmethod
    def of(cls, *parts: object) -> SearchCache:
        """Return the cache for a search with these inputs."""
        return cls(_digest(parts)[:24])

    @property
    def _folder(self) -> Path:
        return cache.cache_folder("stand-ins") / self.name

    @property
    def _file(self) -> Path:
        return self._folder.with_suffix(".json")

    def read(self) -> SearchResult | None:
        """Return the result of an earlier search, if it was complete."""
        return _read(SearchResult, self._file)

    def write(self, found: SearchResult) -> None:
        """Store the result of a complete search, and remove its trial runs."""
        _write(self._file, found)
        shutil.rmtree(self._folder, ignore_errors=True)

    @staticmethod
    def trial_name(*parts: object) -> str:
        """Return the name of the trial run with these stand-ins: a digest of megabytes, for reading and writing it."""
        return _digest(parts)[:24]

    def read_trial(self, name: str) -> Trial | None:
        """Return what an earlier run has shown."""
        return _read(Trial, self._folder / f"{name}.json")

    def write_trial(self, trial: Trial, name: str) -> None:
        """Store what a run has shown."""
        _write(self._folder / f"{name}.json", trial)


def _digest(parts: tuple[object, ...]) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode("utf-8", "surrogateescape")).hexdigest()


def _read(kind: type[_Value], file: Path) -> _Value | None:
    try:
        return codec.decode(kind, json.loads(file.read_bytes()))
    except (OSError, ValueError, TypeError, KeyError):
        return None


def _write(file: Path, value: object) -> None:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with replacing(file) as part:
            part.write_text(json.dumps(codec.encode(value)))
    except OSError as exc:
        log.debug("cannot write to the cache of searches: %s", exc)
