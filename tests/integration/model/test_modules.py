"""Names of modules and of their files, checked against what Python imports."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

from layer_minimizer.model.modules import by_name


def test_the_file_that_python_would_take_is_the_modules(
    base_python: str, tmp_path: Path, write: Callable[..., Path]
) -> None:
    candidates = {
        "one": ["one.py", "one/__init__.py"],
        "two": ["two.py", "two.abi3.so"],
        "three": ["three.pyc", "three.py"],
        "four": ["four/__init__.py", "four.abi3.so"],
    }
    paths = [path for several in candidates.values() for path in several]
    write(tmp_path, dict.fromkeys(paths, ""))
    program = (
        "import importlib.util, json, sys; sys.path.insert(0, sys.argv[1]);"
        "print(json.dumps({n: importlib.util.find_spec(n).origin for n in sys.argv[2:]}))"
    )
    command = [base_python, "-I", "-c", program, tmp_path, *candidates]
    asked = subprocess.run(command, check=True, capture_output=True, text=True)
    expected = {name: str(Path(file).relative_to(tmp_path)) for name, file in json.loads(asked.stdout).items()}
    assert by_name(paths) == by_name(reversed(paths)) == expected
