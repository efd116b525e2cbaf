"""Fixtures: a folder with the user's files in which the command runs an engine."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.support import command
from tests.support.desk import listing
from tests.support.docker import MINUTES
from tests.support.places import EXAMPLES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from tests.support.command import Ended
    from tests.support.docker import Engine


def image_of(ended: Ended) -> str:
    """Return the image that was used."""
    words = next(line for line in ended.err.splitlines() if " the image layer_minimizer/image:" in line).split()
    return words[words.index("image") + 1]


@dataclass
class EngineDesk:
    """A folder with the user's files, and the command."""

    engine: Engine
    folder: Path

    @property
    def layer(self) -> Path:
        return self.folder / "layer.zip"

    def variables(self, more: Mapping[str, str]) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "COV"))}
        return {**kept, **self.engine.variables, "TMPDIR": str(self.folder / "tmp"), **more}

    def arguments(self, *args: object) -> list[str]:
        (self.folder / "tmp").mkdir(exist_ok=True)
        given = ["--runner", "docker", "--effort", "0", *map(str, args)]
        return given if "--entry" in given else [*given, "--entry", "handler.py"]

    def minimize(
        self, *args: object, code: int = 0, variables: Mapping[str, str] | None = None, prefix: Sequence[str] = ()
    ) -> Ended:
        """Run the command; no file may change, no container and no scratch folder may remain."""
        given = self.arguments(*args)
        before = listing(self.folder)
        ended = command.run_apart(given, self.variables(variables or {}), self.folder, prefix=prefix, seconds=MINUTES)
        assert ended.code == code, f"exit code {ended.code}, not {code}\n{ended.err}\n{ended.out}"
        if " the image layer_minimizer/image:" in ended.err:
            self.engine.images.add(image_of(ended))
            assert self.engine.containers(image_of(ended)) == []
        assert list((self.folder / "tmp").iterdir()) == []
        after = listing(self.folder)
        changing = {str(self.folder), str(self.folder / "tmp"), str(self.layer), str(self.folder / "report.json")}
        assert {path: after.get(path) for path in before if path not in changing} == {
            path: about for path, about in before.items() if path not in changing
        }
        assert [path for path in after if path.endswith(".part")] == []
        return ended

    def fails(self, code: int, words: Sequence[str], *args: object, **options: Any) -> Ended:
        """Run the command and require an exit code, a message with these words, and no layer."""
        ended = self.minimize(*args, code=code, **options)
        assert [word for word in words if word not in ended.err] == [], ended.err
        assert "layer_minimizer/container/" not in ended.err
        assert ended.out == ""
        assert not self.layer.exists()
        return ended

    def report(self) -> Any:
        return json.loads((self.folder / "report.json").read_text())


@pytest.fixture
def desk(engine: Engine) -> Iterator[EngineDesk]:
    """Yield an empty folder."""
    with tempfile.TemporaryDirectory(prefix="minimize-tests-") as folder:
        yield EngineDesk(engine, Path(folder).resolve())


@pytest.fixture
def pillow(desk: EngineDesk, requirements_env: Callable[[str, Path], Path]) -> EngineDesk:
    """Return the quickstart's handler, events and requirements."""
    example = EXAMPLES / "quickstart"
    for name in ("handler.py", "requirements.txt"):
        shutil.copy(example / name, desk.folder)
    python = requirements_env("quickstart", example / "requirements.txt")
    subprocess.run([python, "-I", example / "make_events.py", desk.folder / "events.json"], check=True)
    return desk
