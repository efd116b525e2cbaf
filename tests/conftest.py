"""What all tests share; support/ has it, one module a subject."""

from hypothesis import settings

pytest_plugins = (
    "tests.support.pythons",
    "tests.support.docker",
    "tests.support.images",
    "tests.support.cloud",
    "tests.support.sites",
    "tests.support.values",
    "tests.support.schema",
    "tests.support.selection",
    "tests.support.scheduling",
    "tests.support.case_table",
    "tests.support.cold_layers",
    "tests.support.checkpoints",
)

# How long an example takes says something about the machine, and nothing about the code.
settings.register_profile("any machine", deadline=None)
settings.load_profile("any machine")
