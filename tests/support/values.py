"""Short constructors for the values that the stages exchange."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from packaging.utils import canonicalize_name

from layer_minimizer.model.installed import Distribution, InstalledFile, Inventory, PthFile
from layer_minimizer.model.interpreter import Interpreter
from layer_minimizer.model.trace import ForeignRoot, Trace, TracedFile, TracedMetadata, TracedModule, Use
from layer_minimizer.model.workload import Result, Workload

if TYPE_CHECKING:
    from collections.abc import Iterable


class Build:
    """Short constructors for the values that the stages exchange."""

    @staticmethod
    def interpreter(site: Path, *more: Path, version: tuple[int, int, int] = (3, 11, 7)) -> Interpreter:
        return Interpreter(
            executable=sys.executable,
            base_executable=sys.executable,
            version=version,
            soabi="cpython-311-x86_64-linux-gnu",
            machine="x86_64",
            site_dirs=tuple(os.path.realpath(folder) for folder in (site, *more)),
            stdlib_dirs=(),
            hidden_dirs=(),
            user_base="",
        )

    @staticmethod
    def inventory(
        files: Mapping[str, str | tuple[str, int]],
        *,
        links: Mapping[str, str] | None = None,
        pth: Iterable[PthFile] = (),
        folders: Iterable[str] = (),
        shadowed: Iterable[InstalledFile] = (),
        editable: Iterable[str] = (),
        sources: Path = Path("/site"),
    ) -> Inventory:
        """Return an inventory of {path: owner} or {path: (owner, size)}; each owner is a distribution, version 1.0."""
        listed = []
        for path, value in files.items():
            owner, size = (value, 1) if isinstance(value, str) else value
            listed.append(InstalledFile(path, size, owner, str(sources / path), link=(links or {}).get(path, "")))
        owners = sorted({file.distribution for file in listed} - {""})
        parents = {str(parent) for path in files for parent in Path(path).parents} - {"."}
        return Inventory(
            files=tuple(listed),
            distributions=tuple(
                Distribution(name, "1.0", f"{name.replace('-', '_')}-1.0.dist-info", editable=name in editable)
                for name in owners
            ),
            pth=tuple(pth),
            folders=frozenset({*parents, *folders}),
            shadowed=tuple(shadowed),
        )

    @staticmethod
    def trace(
        files: Mapping[str, str] | Iterable[str] = (),
        modules: Iterable[tuple[object, ...]] = (),
        *,
        metadata: Mapping[str, str] | None = None,
        results: Mapping[str, str] | None = None,
        python: str = "3.11.7",
        kind: str = "handler",
        foreign: Iterable[ForeignRoot] = (),
        workload: Workload | None = None,
        observers: tuple[str, ...] = ("probe",),
    ) -> Trace:
        """Return a trace of {path: "open stat"}, or of opened paths, and of the fields of modules."""
        uses = files if isinstance(files, Mapping) else dict.fromkeys(files, "open")
        return Trace(
            python=python,
            observers=observers,
            kind=kind,
            modules=tuple(TracedModule(*row) for row in modules),  # type: ignore[arg-type]
            files=tuple(TracedFile(path, frozenset(map(Use, text.split()))) for path, text in uses.items()),
            metadata=tuple(
                TracedMetadata(canonicalize_name(name), reader) for name, reader in (metadata or {}).items()
            ),
            foreign=tuple(foreign),
            unplaced=(),
            processes=1,
            results=tuple(Result(name, value) for name, value in (results or {}).items()),
            seconds=1.5,
            workload=workload or Workload(Path("/function/handler.py")),
        )


@pytest.fixture(scope="session")
def build() -> type[Build]:
    return Build
