"""Decide what to add to a layer after a failed run, or give up with the reason."""

from __future__ import annotations

from typing import TYPE_CHECKING

from layer_minimizer.core.errors import VerifyError
from layer_minimizer.verify import alone, place

if TYPE_CHECKING:
    from pathlib import Path

    from layer_minimizer.settings import Settings


def left_out_on_purpose(settings: Settings) -> str:
    """Return a hint at the options by which the user left something out."""
    names = {"exclude": "exclude", "provided": "provided", "base_layers": "base-layer"}
    options = [f"--{option} {value}" for name, option in names.items() for value in getattr(settings, name)]
    return f"\nNothing is put back against {', '.join(options)}: is it needed after all?" if options else ""


def refuse_nondeterministic(trial: place.RunContext, scratch: Path) -> None:
    """Tell a workload that never gives the same result twice from a layer that does not work.

    Raises:
        VerifyError: the workload is nondeterministic.
    """
    differing = alone.differing_again(trial, scratch)
    if differing:
        listed = "\n  ".join(map(str, differing))
        raise VerifyError(
            "the entry is nondeterministic: run twice in the full environment it gave different results, so that no "
            f"layer can be proved right by them:\n  {listed}\n"
            "Seed its random numbers, leave times and ids out of its result, or allow for noise with --tolerance"
        )
