"""Find license texts that are equal: a layer has each text once, and links to it in the places of the others."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from layer_minimizer.core.errors import PackError
from layer_minimizer.core.files import scratch_errors, sha256_of
from layer_minimizer.model.plan import Reason

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from layer_minimizer.model.plan import KeepPlan

# A link takes about as many bytes as its path: shorter texts stay what they are.
_SHORTEST = 200


def equal_texts(plan: KeepPlan, sources: Mapping[str, Path]) -> dict[str, str]:
    """Return the license texts of a plan that equal another one of it, each with that one.

    Raises:
        PackError: a text cannot be read.
    """
    by_size: defaultdict[int, list[str]] = defaultdict(list)
    for decision in plan.kept:
        if decision.reason is Reason.LICENSE and decision.size >= _SHORTEST:
            by_size[decision.size].append(decision.path)
    found: dict[str, str] = {}
    with scratch_errors(PackError, "cannot read {file}"):
        for paths in by_size.values():
            first: dict[bytes, str] = {}
            for path in paths if len(paths) > 1 else ():
                original = first.setdefault(sha256_of(sources[path]), path)
                if original != path:
                    found[path] = original
    return found
