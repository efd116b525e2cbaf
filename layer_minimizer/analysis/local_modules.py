"""Find the modules beside an entry that it could import: those that belong to the function, not to a distribution."""

from __future__ import annotations

from typing import TYPE_CHECKING

from layer_minimizer.analysis import imports
from layer_minimizer.model import modules

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from layer_minimizer.model.trace import Trace


def local_modules(trace: Trace, beside: Mapping[str, Path]) -> set[str]:
    """Return those of the files ``beside`` the traced entry that are modules which it imports, or could.

    The names are relative to the entry's folder.
    """
    used = {file.path for file in trace.task}
    local = modules.by_name(path for path in beside if path.endswith(".py"))
    available = {name: (beside[path], modules.is_package(path)) for name, path in local.items()}
    roots = [trace.workload.entry.stem, *(name for name, path in local.items() if path in used)]
    return {local[name] for name in imports.closure(roots, available)}
