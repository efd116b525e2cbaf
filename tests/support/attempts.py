"""Recorded arguments and results of repair and budget functions in real runs, see ``record_attempts.py``."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from pathlib import Path
from typing import Any

from layer_minimizer.core.errors import VerifyError
from layer_minimizer.model.adjustments import Adjustments, Coverage, OmittedChunk
from layer_minimizer.model.outcome import LibrarySizes
from layer_minimizer.model.plan import KeepPlan
from layer_minimizer.model.results import Mismatch
from layer_minimizer.model.trace import Trace
from layer_minimizer.pack.budget import EvictableFile, Oversized, ReservedBytes
from layer_minimizer.pack.libraries import EvictableChunk, PackedLibrary
from layer_minimizer.settings import Settings, choose
from layer_minimizer.verify.alone import Attempt
from layer_minimizer.verify.repair import FailedAttempt

RECORDED = Path(__file__).parent / "recorded_attempts"


def plain(value: Any) -> Any:
    """Convert values to JSON types; sets are sorted, so that equal values give equal text."""
    if isinstance(value, frozenset | set):
        return sorted(map(plain, value), key=json.dumps)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if hasattr(value, "items"):
        return {str(key): plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    return str(value) if isinstance(value, Path) else value


def adjustments(data: dict[str, Any]) -> Adjustments:
    """Read adjustments."""
    sets = ("repaired", "whole_libraries", "omitted_distributions", "omitted_cold")
    covered = {
        name: Coverage(frozenset(data[name]["names"]), data[name]["everything"])
        for name in ("with_source", "with_docstrings")
    }
    return Adjustments(
        **{
            **data,
            **{name: frozenset(data[name]) for name in sets},
            **covered,
            "extra_pages": {path: frozenset(pages) for path, pages in data["extra_pages"].items()},
            "omitted_chunks": frozenset(OmittedChunk(**each) for each in data["omitted_chunks"]),
        }
    )


def attempt(data: dict[str, Any]) -> Attempt:
    """Read an attempt."""
    return Attempt(
        **{
            **data,
            "mismatches": tuple(Mismatch(**each) for each in data["mismatches"]),
            "missed": tuple(data["missed"]),
            "leaked": tuple(data["leaked"]),
            "missing_pages": {path: frozenset(addresses) for path, addresses in data["missing_pages"].items()},
        }
    )


def settings(data: dict[str, Any]) -> Settings:
    """Read settings; missing ones have their defaults."""
    return choose(None, {name: tuple(value) if isinstance(value, list) else value for name, value in data.items()})


def library(data: dict[str, Any]) -> PackedLibrary:
    """Read a compacted library; its files do not exist any more."""
    return PackedLibrary(
        sizes=LibrarySizes(**data["sizes"]),
        copies=frozenset(data["copies"]),
        page_size=data["page_size"],
        file=Path(data["file"]) if data["file"] else None,
        store=Path(data["store"]) if data["store"] else None,
        chunks=tuple(EvictableChunk(**each) for each in data["chunks"]),
    )


def oversized(data: dict[str, Any]) -> Oversized:
    """Read a layer that was too large."""
    return Oversized(
        excess=data["excess"],
        sizes=Counter(data["sizes"]),
        shipped=data["shipped"],
        bytecode_only=frozenset(data["bytecode_only"]),
        evictable=tuple(
            EvictableChunk(**each) if "chunk" in each else EvictableFile(**each) for each in data["evictable"]
        ),
        # Recorded when everything was compressed as much as possible.
        stored=0,
        uncompressed=0,
    )


@dataclasses.dataclass(frozen=True)
class Repair:
    """One call of ``repair.learn``: arguments and result; ``refused`` is the message of the error that it raised."""

    before: Adjustments
    attempt: Attempt
    tried: FailedAttempt
    after: Adjustments | None
    refused: str


@dataclasses.dataclass(frozen=True)
class Reduction:
    """One call of ``budget.adjust_to_limit``, as `Repair`."""

    before: Adjustments
    plan: KeepPlan
    layer: Oversized
    settings: Settings
    reserved: ReservedBytes
    after: Adjustments | None
    refused: str


def read(name: str) -> list[Repair | Reduction]:
    """Return the calls of one recorded run in order."""
    data = json.loads((RECORDED / f"{name}.json").read_text())
    return [_reduction(row) if "layer" in row else _repair(row) for row in data]


def names() -> list[str]:
    """Return the names of all recorded runs."""
    return sorted(file.stem for file in RECORDED.glob("*.json"))


def _after(row: dict[str, Any]) -> Adjustments | None:
    return adjustments(row["after"]) if row["after"] else None


def _reduction(row: dict[str, Any]) -> Reduction:
    return Reduction(
        adjustments(row["before"]),
        KeepPlan.from_json(row["plan"]),
        oversized(row["layer"]),
        settings(row["settings"]),
        ReservedBytes(**row["reserved"]),
        _after(row),
        row["refused"],
    )


def _repair(row: dict[str, Any]) -> Repair:
    def check_deterministic() -> None:
        if row["nondeterministic"]:
            raise VerifyError(row["nondeterministic"])

    imported = {tuple(paths): frozenset(files) for paths, files in row["imports"]}
    tried = FailedAttempt(
        plan=KeepPlan.from_json(row["plan"]),
        trace=Trace.from_json(row["trace"]),
        settings=settings(row["settings"]),
        provided=row["provided"],
        libraries={path: library(each) for path, each in row["libraries"].items()},
        left_out=row["left_out"],
        imports=lambda paths: imported.get(tuple(paths), frozenset()),
        check_deterministic=check_deterministic,
    )
    return Repair(adjustments(row["before"]), attempt(row["attempt"]), tried, _after(row), row["refused"])
