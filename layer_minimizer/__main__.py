"""``python -m layer_minimizer`` is ``minimize``."""

from __future__ import annotations

from layer_minimizer.cli.main import run

run()
