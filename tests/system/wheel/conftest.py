"""What `.packaging/release.sh` has made, and an environment with its wheel."""

from __future__ import annotations

import os
import platform
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.pythons import find_python

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True)
class Release:
    """The published files."""

    folder: Path

    @property
    def wheels(self) -> tuple[Path, ...]:
        return tuple(sorted(self.folder.glob("*.whl")))

    @property
    def wheel(self) -> Path:
        """The wheel for this machine."""
        (found,) = self.folder.glob(f"*_{platform.machine()}.whl")
        return found

    @property
    def sdist(self) -> Path:
        (found,) = self.folder.glob("*.tar.gz")
        return found


@pytest.fixture(scope="session")
def release() -> Release:
    wheel = os.environ.get("LAYER_MINIMIZER_WHEEL")
    if not wheel:
        pytest.skip("tests/run.sh makes the release and names its wheel in LAYER_MINIMIZER_WHEEL")
    return Release(Path(wheel).parent)


@dataclass(frozen=True)
class Tool:
    """An environment that has the tool alone. Its programs are run with nothing else on PATH, so without a compiler."""

    folder: Path

    def run(self, program: str, *arguments: object, code: int = 0, **more: str) -> subprocess.CompletedProcess[str]:
        command = [str(self.folder / "bin" / program), *map(str, arguments)]
        # Not in the checkout: Python looks for modules in the current folder.
        done = subprocess.run(
            command, check=False, capture_output=True, text=True, env=self.variables(more), cwd=self.folder
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done

    def variables(self, more: Mapping[str, str]) -> dict[str, str]:
        # How pip reaches an index, and where it keeps what it has downloaded.
        wanted = ("HOME", "PIP_", "SSL_")
        kept = {name: value for name, value in os.environ.items() if name.startswith(wanted)}
        return {**kept, "PATH": str(self.folder / "bin"), **more}


@pytest.fixture(scope="session")
def tool(release: Release, tmp_path_factory: pytest.TempPathFactory) -> Tool:
    """Install the wheel with the newest Python that the machine has: it is for all of them."""
    made = Tool(tmp_path_factory.mktemp("tool"))
    python = next(filter(None, map(find_python, ("3.14", "3.13", "3.12", "3.11"))))
    subprocess.run([python, "-m", "venv", made.folder], check=True)
    made.run("python", "-m", "pip", "install", "-q", release.wheel)
    return made
