"""Files of layers are removed, truncated or changed, one at a time: the result is right, or an error names the file.

Contents are compared only if that is asked for.

``damage.py`` does the same with any layer and any number of files.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.places import EXAMPLES

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

    from .conftest import Bench

SEED = 5
# Pure Python with data, an optional module, plugins that are found by listing a folder, and cold files.
INVENTED = {
    "alpha/__init__.py": "from . import used, idle\n",
    "alpha/used.py": (
        "import os\nHERE = os.path.dirname(__file__)\n\n\ndef read(name):\n"
        "    with open(os.path.join(HERE, 'data', name)) as data:\n        return data.read()\n\n\n"
        "def plugins():\n    return sorted(n for n in os.listdir(os.path.join(HERE, 'data')) if n[:4] == 'plug')\n"
    ),
    "alpha/idle.py": "VALUES = list(range(100))\n\n\ndef total():\n    return sum(VALUES)\n",
    "alpha/fast.py": "FACTOR = 2\n",
    "alpha/cold.py": "VALUE = 'cold'\n" * 50,
    "alpha/data/hot.txt": "hot" * 100,
    "alpha/data/cold.txt": "cold" * 100,
    "alpha/data/plug_one.txt": "1",
}
HANDLER = """\
import alpha

try:
    from alpha.fast import FACTOR
except ImportError:
    FACTOR = 1


def handler(event, context):
    if event == "total":
        return alpha.idle.total()
    if event == "cold":
        from alpha import cold
        return cold.VALUE
    try:
        text = alpha.used.read(event + ".txt")
    except OSError:
        text = ""
    return [text, len(text) * FACTOR, alpha.used.plugins()]
"""
PICTURES = """\
import io

from PIL import Image


def handler(event, context):
    file = io.BytesIO()
    Image.new("RGB", (40, 30), "navy").save(file, event)
    back = Image.open(io.BytesIO(file.getvalue()))
    return [back.format, back.convert("RGB").resize((8, 6)).getpixel((3, 3))]
"""


@pytest.fixture(scope="module")
def damage() -> ModuleType:
    spec = importlib.util.spec_from_file_location("chaos_damage", Path(__file__).with_name("damage.py"))
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules["chaos_damage"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def require_right_or_named(damage: Any, bench: Bench, python: str, unseen: list[object], files: int) -> None:
    """Damage the layer, and require that each result is right, or an error that names the damaged file."""
    events = bench.folder / "events.json"
    events.write_text(json.dumps(unseen))
    place = damage.make_place(bench.folder / "place", bench.output, python, bench.folder / "task", events, 60)
    outcomes = list(damage.run_all([place], damage.draw(place.opt, files, SEED)))
    bad = [each for each in outcomes if each.end not in (damage.End.RIGHT, damage.End.NAMED)]
    # Python's own error for a .pth file that is not valid text does not name the file.
    bad = [each for each in bad if not (each.damage.path.endswith(".pth") and "UnicodeDecodeError" in each.output)]
    assert bad == [], "\n".join(map(str, bad))
    assert sum(each.end is damage.End.NAMED for each in outcomes) > files // 4


def test_python_and_data(damage: ModuleType, bench: Bench) -> None:
    bench.install("alpha", INVENTED)
    bench.write("handler.py", HANDLER)
    bench.run("--effort", "0.2", "--event", bench.write("events.json", '["hot"]'))
    require_right_or_named(damage, bench, bench.python, ["hot", "cold", "total"], 36)


def test_every_python(damage: ModuleType, bench: Bench, make_environment: Callable[..., Any], cpython: str) -> None:
    each_env = make_environment(cpython, "each")
    each_env.install("alpha", INVENTED)
    bench.write("handler.py", HANDLER)
    event = bench.write("events.json", '["hot"]')
    bench.run("--python", each_env.python, "--effort", "0", "--event", event)
    require_right_or_named(damage, bench, each_env.python, ["hot", "cold", "total"], 8)


def test_pillow(damage: ModuleType, bench: Bench, requirements_env: Callable[[str, Path], Path]) -> None:
    python = str(requirements_env("quickstart", EXAMPLES / "quickstart" / "requirements.txt"))
    bench.write("handler.py", PICTURES)
    bench.run("--python", python, "--effort", "0.2", "--event", bench.write("events.json", '["PNG"]'))
    require_right_or_named(damage, bench, python, ["PNG", "GIF", "TIFF"], 36)


@pytest.mark.parametrize(("how", "runs"), [("off", True), ("", True), ("all", False)])
def test_how_much_is_compared(damage: Any, bench: Bench, how: str, runs: bool) -> None:  # noqa: FBT001
    """By default sizes of used files are compared; with "all" the contents of all files, with "off" nothing."""
    bench.install("alpha", INVENTED)
    bench.write("handler.py", HANDLER)
    bench.run("--effort", "0", "--event", bench.write("events.json", '["hot", "cold"]'))
    events = bench.folder / "events.json"
    events.write_text('["hot"]')
    place = damage.make_place(bench.folder / "place", bench.output, bench.python, bench.folder / "task", events, 60)
    target = next(place.opt.rglob("alpha/cold.pyc"))
    target.write_bytes(target.read_bytes()[:-1] + b"!")
    command = [place.python, "-B", place.folder / "run.py", place.task, events, place.folder / "rows.json"]
    done = subprocess.run(
        command, env={**os.environ, "LAYER_MINIMIZER_CHECK": how}, capture_output=True, text=True, check=False
    )
    assert (done.returncode == 0) is runs, done.stderr
    assert runs or "alpha/cold.pyc is damaged (its checksum is wrong)" in done.stderr
