"""The cost of cold starts: which price, and of how much memory."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from layer_minimizer.aws.prices import load_prices, million_starts
from layer_minimizer.aws.runtimes import ARCHITECTURES
from layer_minimizer.model.outcome import Start, Starts
from layer_minimizer.report.cost import cost_of
from layer_minimizer.settings import Settings

if TYPE_CHECKING:
    from pathlib import Path

STARTS = Starts(Start(2.0, 3000 << 20), Start(0.5, 100 << 20))


def test_there_is_a_price_for_each_architecture() -> None:
    prices = load_prices()
    assert prices.per_gb_second.keys() == ARCHITECTURES.keys()
    assert prices.source.startswith("https://aws.amazon.com/")
    assert prices.as_of >= "2026-01-01"


def test_a_gigabyte_for_a_second() -> None:
    assert million_starts(1.0, 1024, 0.0000166667) == pytest.approx(16.6667)


def test_the_price_is_that_of_the_processor_or_of_the_user(build: Any, tmp_path: Path) -> None:
    interpreter = replace(build.interpreter(tmp_path), machine="aarch64")
    found = cost_of(STARTS, Settings(memory=1024), interpreter)
    assert found is not None
    assert found.price == load_prices().per_gb_second["arm64"]
    assert "arm64" in found.origin
    own = cost_of(STARTS, Settings(memory=1024, price_per_gb_second=1e-5), interpreter)
    assert own is not None
    assert own.of(STARTS.after) == pytest.approx(5.0)
    # It does not fit into less than its peak.
    assert own.of(STARTS.before) == pytest.approx(10.0 * 2 * 3000 / 1024)


def test_nothing_is_said_without_a_measurement_or_a_price(build: Any, tmp_path: Path) -> None:
    interpreter = build.interpreter(tmp_path)
    assert cost_of(None, Settings(), interpreter) is None
    assert cost_of(STARTS, Settings(), replace(interpreter, machine="riscv64")) is None
