"""Before a snapshot of the process (Lambda SnapStart) a layer puts back what its list names, and nothing else.

The snapshot is a fork here: of a process whose memory goes on under another number. See test_checkpoint.py for others.
"""

from __future__ import annotations

import subprocess
import textwrap
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from layer_minimizer.aws.programs import find_client
from layer_minimizer.layer.snapshot_list import write_list
from layer_minimizer.model.snapshot import PutBack
from tests.support.cold_layers import put_back_folder

from .standing_in import Modules

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


SNAP_START = {"AWS_LAMBDA_INITIALIZATION_TYPE": "snap-start"}
FILES = {
    "m/__init__.py": "",
    "m/part.py": "import m.deep\ndef work(): return 3\n",
    "m/deep.py": "def dig(): return 4\n",
    "m/other.py": "def rest(): return 5\n",
    "late.py": "import os\nprint('late runs in', os.environ['PLACE'])\n",
    "m/table.txt": "table",
    "m/rare.txt": "rare",
}
# What Lambda's runtime client does, with its own code for the hooks; the child is a restored copy.
PROGRAM = """
import os, sys
os.environ["PLACE"] = "the first process"
import m.part, m.other
sys.path.append({client!r})
if os.environ.get("AWS_LAMBDA_INITIALIZATION_TYPE") == "snap-start":
    from awslambdaric import lambda_runtime_hooks_runner
    lambda_runtime_hooks_runner.run_before_snapshot()
with open(os.environ["LAYER_MINIMIZER_LOG"], "a") as log:
    log.write("snapshot\\n")
copy = os.fork()
if copy:
    sys.exit(os.waitpid(copy, 0)[1])
os.environ["PLACE"] = "the copy"
{after}
"""
USE = "print(m.part.work(), m.part.m.deep.dig(), open(os.path.dirname(m.__file__) + '/table.txt').read())\nimport late"


@dataclass
class Layer:
    """A layer with stand-ins and cold files, and programs that a snapshot is taken of."""

    modules: Modules
    client: Path

    @property
    def top(self) -> Path:
        return self.modules.scratch / "layer"

    @property
    def put_back(self) -> Path:
        (store,) = (self.top / "_layer_minimizer/cold").iterdir()
        return put_back_folder(store.name)

    def play(self, after: str = USE, **variables: str) -> tuple[list[str], list[str], list[str]]:
        """Run a program on the layer; return its output, and what was restored before and after the snapshot."""
        self.modules.environment = variables
        ended = self.modules.stood_in(PROGRAM.format(client=str(self.client), after=textwrap.dedent(after)))
        assert ended.code == 0, ended.error
        at = ended.reports.index("snapshot")
        return ended.out.splitlines(), ended.reports[:at], ended.reports[at + 1 :]


@pytest.fixture
def client(base_python: str) -> Path:
    """Lambda's runtime client, of which only the hooks are used: they are Python code."""
    version = subprocess.run([base_python, "--version"], check=True, capture_output=True, text=True).stdout.split()[1]
    return find_client(tuple(map(int, version.split(".")[:2])), "x86_64")


@pytest.fixture
def layer(base_python: str, client: Path, tmp_path: Path, write: Callable[..., Path]) -> Layer:
    site = write(tmp_path / "site", FILES)
    modules = Modules(base_python, site, tmp_path / "scratch", "layer", real=("late", "m.table", "m.rare"))
    groups = {"m.part": "part", "m.deep": "deep", "m.other": "other"}
    return Layer(modules.describe(("m.part", "m.deep", "m.other"), groups), client)


def test_without_a_list_everything_wakes_in_each_copy(layer: Layer) -> None:
    out, before, after = layer.play(**SNAP_START)
    assert out == ["3 4 table", "late runs in the copy"]
    assert before == []
    assert woken(after) == {"m", "m.part", "m.deep"}
    assert "restored module late" in after


def test_what_the_list_names_is_there_before_the_snapshot_and_nothing_else(layer: Layer) -> None:
    write_list(PutBack(("m.part", "m.deep"), ("late",), ("late.py", "m/table.txt")), layer.top)
    out, before, after = layer.play(f"{USE}\nprint(m.other.rest())", **SNAP_START)
    assert out == ["3 4 table", "late runs in the copy", "5"]
    assert woken(before) == {"m", "m.part", "m.deep"}
    assert {"restored file late.py", "restored module late", "restored file m/table.txt"} <= set(before)
    assert [line.split(" for ")[0] for line in after] == [
        "woke m.other",
        "restored file m/other.py",
        "restored module m.other",
    ]


def test_stand_ins_are_loaded_in_the_order_of_their_imports(layer: Layer) -> None:
    write_list(PutBack(("m.other", "m.deep", "m.part")), layer.top)
    _out, before, after = layer.play(**SNAP_START)
    assert [line.split()[1] for line in before if line.startswith("woke")] == ["m", "m.part", "m.other", "m.deep"]
    assert woken(after) == set()


def test_without_snapstart_nothing_of_it_is_loaded(layer: Layer) -> None:
    write_list(PutBack(("m.part",), ("late",), ("late.py",)), layer.top)
    look = "print([name for name in sys.modules if 'snapshot' in name or name.endswith('log_patterns')])"
    for variables in ({}, {"AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand"}):
        out, before, after = layer.play(f"{look}\n{USE}", **variables)
        assert out == ["[]", "3 4 table", "late runs in the copy"]
        assert before == []
        assert "m.part" in woken(after)


def test_without_the_client_nothing_happens(layer: Layer) -> None:
    write_list(PutBack(("m.part",)), layer.top)
    program = "import m.part, sys\nprint(m.part.work(), 'snapshot_restore_py' in sys.modules)"
    layer.modules.environment = SNAP_START
    assert layer.modules.stood_in(program).out == "3 False\n"


def test_the_hook_comes_after_those_of_the_program(layer: Layer) -> None:
    write_list(PutBack(("m.part",)), layer.top)
    program = f"""
        import sys
        sys.path.append({str(layer.client)!r})
        import importlib.util, m.part
        assert importlib.util.find_spec("snapshot_restore_py") is not None  # a search loads nothing
        import snapshot_restore_py
        snapshot_restore_py.register_before_snapshot(lambda: print("own", "m.part" in awake()))
        def awake():
            from _layer_minimizer import standin
            return {{"m.part"}} - set(standin.asleep())
        from awslambdaric import lambda_runtime_hooks_runner
        lambda_runtime_hooks_runner.run_before_snapshot()
        print("hook", "m.part" in awake())
        """
    layer.modules.environment = SNAP_START
    ended = layer.modules.stood_in(program)
    assert (ended.code, ended.out) == (0, "own False\nhook True\n"), ended.error


def test_a_copy_without_the_restored_files_restores_them_again(layer: Layer) -> None:
    write_list(PutBack(("m.part", "m.deep"), ("late",), ("late.py", "m/table.txt")), layer.top)
    out, _before, after = layer.play(f"import shutil\nshutil.rmtree({str(layer.put_back)!r})\n{USE}", **SNAP_START)
    assert out == ["3 4 table", "late runs in the copy"]  # late from its code, which the process has
    assert after == ["restored file m/table.txt"]


def test_two_copies_that_share_the_folder_restore_a_file_once(layer: Layer) -> None:
    use = "os.fork()\nassert open(os.path.dirname(m.__file__) + '/rare.txt').read() == 'rare'\nos._exit(0)"
    _out, _before, after = layer.play(use, **SNAP_START)
    assert after == ["restored file m/rare.txt"]


def test_what_cannot_be_put_back_does_not_end_the_process(layer: Layer, write: Callable[..., Path]) -> None:
    write(layer.modules.site, {"m/other.py": "raise ZeroDivisionError('as ever')\n"})
    write_list(
        PutBack(
            ("m.other", "m.part", "gone"),
            ("late", "gone.below", "m"),
            ("gone.txt", "m/table.txt"),
            ((1, 2, "gone.so"),),
        ),
        layer.top,
    )
    (layer.top / "_layer_minimizer/snapshot/other").write_bytes(b"\xff\x00 restored pages 0x of\nwoke \n")
    out, before, after = layer.play(**SNAP_START)
    assert out == ["3 4 table", "late runs in the copy"]
    assert {"m.part"} <= woken(before)
    assert "m.part" not in woken(after)


def test_an_import_hook_of_the_program_still_sees_the_module(layer: Layer) -> None:
    write_list(PutBack((), ("late",), ("late.py",)), layer.top)
    use = """
        import importlib.util
        class Hook:
            def find_spec(self, name, path=None, target=None):
                if name == "late":
                    print("hook", name)
        sys.meta_path.insert(0, Hook())
        import late
        assert importlib.util.find_spec("late").loader is late.__spec__.loader
        print(importlib.reload(late) is late, late.__file__)
        """
    out, _before, _after = layer.play(use, **SNAP_START)
    assert out == [
        "hook late",
        "late runs in the copy",
        "hook late",
        "late runs in the copy",
        f"True {layer.top}/late.py",
    ]


def test_another_search_path_finds_another_module(layer: Layer, tmp_path: Path, write: Callable[..., Path]) -> None:
    write_list(PutBack((), ("late",), ("late.py",)), layer.top)
    own = write(tmp_path / "own", {"late.py": "print('own')\n"})
    out, _before, _after = layer.play(f"sys.path.insert(0, {str(own)!r})\nimport late", **SNAP_START)
    assert out == ["own"]


def woken(lines: list[str]) -> set[str]:
    return {line.split()[1] for line in lines if line.startswith("woke ")}
