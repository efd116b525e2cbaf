"""Find the modules next to an entry that it could import: those of the function, not of a distribution."""

from __future__ import annotations

from typing import TYPE_CHECKING

from layer_minimizer.analysis import imports
from layer_minimizer.model import modules

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from layer_minimizer.model.trace import Trace


def local_modules(trace: Trace, files: Mapping[str, Path]) -> set[str]:
    """Return the modules among ``files`` that the traced entry imports or could import.

    ``files`` maps paths relative to the entry's folder to files; the result contains such paths.
    """
    used = {file.path for file in trace.task}
    local = modules.by_name(path for path in files if path.endswith(".py"))
    available = {name: (files[path], modules.is_package(path)) for name, path in local.items()}
    roots = [trace.workload.entry.stem, *(name for name, path in local.items() if path in used)]
    return {local[name] for name in imports.closure(roots, available)}
