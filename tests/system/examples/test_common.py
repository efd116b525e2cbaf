"""The functions that the examples share."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.places import EXAMPLES
from tests.support.pythons import need_python


@pytest.mark.parametrize("version", ["3.11", "3.12", "3.13", "3.14"])
def test_each_of_these_pythons_runs_the_examples(tmp_path: Path, version: str) -> None:
    for program in ("dirname", "mkdir"):
        (tmp_path / program).symlink_to(shutil.which(program) or "")
    (tmp_path / f"python{version}").symlink_to(need_python(version))
    script = 'source "$1/common.sh"; require_python'
    command = ["/bin/bash", "-euo", "pipefail", "-c", script, "bash", EXAMPLES]
    environment = {**os.environ, "PATH": str(tmp_path), "LAYER_MINIMIZER_CACHE": str(tmp_path / "cache")}
    done = subprocess.run(command, env=environment, text=True, capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert os.path.samefile(done.stdout.strip(), need_python(version))
