"""Exit codes are distinct, and none of them is that of a bug."""

import ast
import importlib
import importlib.util
import inspect
import pkgutil
from pathlib import Path

import layer_minimizer
from layer_minimizer.core import errors
from layer_minimizer.core.errors import MinimizeError

ALL = [
    value
    for value in vars(errors).values()
    if inspect.isclass(value) and issubclass(value, MinimizeError) and value is not MinimizeError
]


def test_exit_codes_are_distinct_and_those_that_are_documented() -> None:
    assert {error.__name__: error.exit_code for error in ALL} == {
        "UsageError": 2, "TraceError": 3, "PlanError": 4, "PackError": 5, "VerifyError": 6, "RunnerError": 7,
        "PublishError": 8, "GrowthError": 9,
    }  # fmt: skip
    assert len({error.exit_code for error in ALL}) == len(ALL)


def test_no_error_has_the_code_of_a_bug_or_of_success() -> None:
    assert not {0, 1, 130} & {error.exit_code for error in ALL}
    assert not hasattr(MinimizeError, "exit_code")


def test_there_are_no_other_errors() -> None:
    for module in pkgutil.walk_packages(layer_minimizer.__path__, "layer_minimizer."):
        spec = importlib.util.find_spec(module.name)
        assert spec is not None
        # The payload runs in other processes and is not imported.
        if spec.origin and spec.origin.endswith(".py") and not {"__main__", "payload"} & set(module.name.split(".")):
            importlib.import_module(module.name)
    found = [MinimizeError]
    for error in found:
        found += error.__subclasses__()
    assert set(found[1:]) == set(ALL)


def test_nothing_but_the_command_ends_the_process() -> None:
    folder = Path(layer_minimizer.__file__).parent
    for path in folder.glob("*.py"):
        if path.name in {"cli.py", "__main__.py"}:
            continue
        calls = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Attribute)]
        assert not [node.lineno for node in calls if node.attr in {"exit", "_exit"}], path.name
