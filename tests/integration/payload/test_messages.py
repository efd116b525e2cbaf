"""What a layer's runtime logs is what the tool reads in such a log."""

from __future__ import annotations

from typing import TYPE_CHECKING

from layer_minimizer.payload.runtime import messages
from layer_minimizer.trace.restore_log import RestoreLog

from .standing_in import Modules

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from .conftest import ColdLayer


def test_the_restored_modules_and_files_of_a_log_are_read(
    layer_of: Callable[..., ColdLayer], cpython: str, tmp_path: Path
) -> None:
    files = {"one.py": "", "two/__init__.py": "", "two/with blanks.txt": "text"}
    layer = layer_of(cpython, files, {"warm/__init__.py": ""})
    log = tmp_path / "log"
    layer.run("import one, two; open(R + '/two/with blanks.txt').close()", LAYER_MINIMIZER_LOG=str(log))
    told = RestoreLog.read([log.read_text()])
    assert (told.modules, told.files, told.pages) == (
        {"one", "two"},
        {"one.py", "two/__init__.py", "two/with blanks.txt"},
        {},
    )
    assert log.read_text().splitlines() == [
        messages.RESTORED_FILE % "one.py",
        messages.RESTORED_MODULE % "one",
        messages.RESTORED_FILE % "two/__init__.py",
        messages.RESTORED_MODULE % "two",
        messages.RESTORED_FILE % "two/with blanks.txt",
    ]


def test_the_woken_modules_of_a_log_are_read(cpython: str, tmp_path: Path, write: Callable[..., Path]) -> None:
    site = write(tmp_path / "site", {"m/__init__.py": "", "m/part.py": "def work(): return 3\n"})
    modules = Modules(cpython, site, tmp_path / "scratch", "layer").describe(("m", "m.part"))
    ended = modules.stood_in("import m.part\nprint(m.part.work())\n")
    assert (ended.code, ended.out) == (0, "3\n"), ended.error
    assert RestoreLog.read(["\n".join(ended.reports)]).modules == {"m", "m.part"}
    assert messages.WOKE % ("m.part", "work (())", "program.py:2") in ended.reports
