"""Ten thousand predictions in eight threads: the original results, bit by bit, and no memory growth but restored pages.

A prediction takes about ten milliseconds of processor time. SOAK_PREDICTIONS sets another number.
"""

import json
import os
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.example
PREDICTIONS = int(os.environ.get("SOAK_PREDICTIONS", "3000"))
CHUNK = 512 * 1024
# The memory kept by allocators varies between runs. A leak of one kilobyte per prediction would exceed this.
NOISE = 8 * 1024 * 1024


def test_predictions_in_threads(fastai_example: Path, fastai_stack: Any, tmp_path: Path) -> None:
    log, model = tmp_path / "cold", fastai_example / "out/export.pkl"

    def soak(packages: Path, **variables: str) -> Any:
        output = fastai_stack.run("soak.py", packages, model, PREDICTIONS, OMP_NUM_THREADS="1", **variables)
        (tmp_path / packages.name).write_text(output)
        return json.loads(output)

    original = soak(fastai_stack.original)
    mixed = soak(fastai_stack.mixed, LAYER_MINIMIZER_LOG=str(log))
    assert original["different"] > PREDICTIONS * 0.9
    assert mixed["different"] == original["different"]
    assert mixed["digest"] == original["digest"]
    assert original["end"]["chunks"] == 0
    assert mixed["end"]["chunks"] > mixed["warm"]["chunks"] > 0
    put_back = (mixed["end"]["chunks"] - mixed["warm"]["chunks"]) * CHUNK
    for kind in ("rss", "anonymous"):
        growth = {name: run["end"][kind] - run["warm"][kind] for name, run in (("o", original), ("m", mixed))}
        assert growth["m"] <= max(growth["o"], 0) + put_back + NOISE
