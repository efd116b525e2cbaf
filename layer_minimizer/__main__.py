"""``python -m layer_minimizer`` is ``minimize``."""

from layer_minimizer.cli import run

run()
