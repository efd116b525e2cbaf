"""What the format of the output allows."""

from __future__ import annotations

from pathlib import Path

import pytest

from layer_minimizer.core.errors import UsageError
from layer_minimizer.layer.formats import Format
from layer_minimizer.settings import Settings
from layer_minimizer.verify.products import LayerProduct, choose_product


def test_a_function_has_at_most_five_layers() -> None:
    layers = tuple(f"{name}.zip" for name in "abcde")
    assert choose_product(Settings(base_layers=layers[:4]), Path("layer.zip")) == LayerProduct()
    with pytest.raises(UsageError, match="at most 5 layers, this one included: name at most 4 with --base-layer"):
        choose_product(Settings(base_layers=layers), Path("layer.zip"))
    choose_product(Settings(base_layers=layers, format=Format.FOLDER), Path("folder"))
