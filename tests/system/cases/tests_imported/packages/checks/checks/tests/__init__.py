"""The package's own tests, which users may run."""

import importlib
import importlib.resources


def sample(name):
    text = importlib.resources.files(__name__).joinpath("samples", f"{name}.csv").read_text("utf-8")
    return [[float(cell) for cell in row.split(",")] for row in text.split()]


def self_test(name):
    module = importlib.import_module(f"checks.tests.of_{name}")
    return [function() for key, function in sorted(vars(module).items()) if key.startswith("test")]
