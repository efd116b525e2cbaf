"""A workspace with the files that the documentation names: a function, events, a model, an environment, the tool."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.cloud import REGION
from tests.support.desk import placed
from tests.support.docker import MINUTES
from tests.support.places import PROGRAMS
from tests.support.sites import install, write_files

from .documents import CHECKOUT

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.support.cloud import Cloud

    from .documents import Shown

ALPHA = {
    "alpha/__init__.py": (
        "import importlib\n\n\nclass Model:\n    factor = 2\n\n\n"
        "def read(kind):\n    return importlib.import_module('alpha.' + kind).VALUE\n"
    ),
    "alpha/png.py": "VALUE = 21\n",
    "alpha/gif.py": "VALUE = 22\n",
    "alpha/never.py": "VALUE = 23\n",
    "alpha/data.txt": "x" * 5000,
}
HANDLER = """\
import os
import pickle

import alpha


def handler(event, context):
    model = alpha.Model()
    if "MODEL_PATH" in os.environ:
        with open(os.environ["MODEL_PATH"], "rb") as file:
            model = pickle.load(file)
    return {"value": alpha.read(event["kind"]) * model.factor}
"""
FILES = {
    "handler.py": HANDLER,
    "event.json": json.dumps({"kind": "png"}),
    "events.json": json.dumps([{"kind": "png"}, {"kind": "gif"}]),
    "monday.json": json.dumps({"kind": "png"}),
    "tuesday.json": json.dumps({"kind": "gif"}),
}


@dataclass(frozen=True)
class Ended:
    """The output of a block."""

    out: str
    err: str


@dataclass
class Desk:
    """A folder with the user's files, a home folder with the tool, and a shell that runs blocks in the folder.

    ``more``: further environment variables.
    """

    folder: Path
    home: Path
    more: dict[str, str] = field(default_factory=dict)

    def variables(self) -> dict[str, str]:
        dropped = ("PYTHON", "COV", "XDG_", "AWS_", "LAYER_MINIMIZER", "MINIMIZE")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(dropped)}
        # The installed tool, then other programs that the tests need (aws).
        path = f"{self.home}/minimizer/bin:{PROGRAMS}:{os.environ['PATH']}"
        return {**kept, "HOME": str(self.home), "PATH": path, **self.more}

    def shell(self, text: str, *, stdin: str = "") -> Ended:
        """Run a text with bash, which stops at the first failure, and require success."""
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", text],
            cwd=self.folder, env=self.variables(), input=stdin,
            capture_output=True, text=True, check=False, timeout=MINUTES,
        )  # fmt: skip
        output = f"{done.stdout}\n{done.stderr}"[-3000:]
        assert done.returncode == 0, f"{text}\nended with {done.returncode}:\n{output}"
        return Ended(done.stdout, done.stderr)

    def run(self, shown: Shown, replaced: Mapping[str, str] | None = None, after: str = "") -> Ended:
        """Run shown code, with placeholders replaced, then ``after`` in the same shell."""
        text = shown.text
        for old, new in (replaced or {}).items():
            assert old in text
            text = text.replace(old, new)
        return self.shell(f"{text}\n{after}")

    def names(self, layer: str = "layer.zip") -> set[str]:
        """Return the site-relative names of the files in a layer."""
        with zipfile.ZipFile(self.folder / layer) as archive:
            return {name.partition("/site-packages/")[2] for name in placed(archive)}

    def write(self, files: Mapping[str, str]) -> None:
        write_files(self.folder, files)


@pytest.fixture
def shown(request: pytest.FixtureRequest) -> list[Shown]:
    """Return the code that the test claims, read from the documentation."""
    return [claim.find() for claim in request.function.claims]


def copy_of_checkout(folder: Path) -> Path:
    """Copy the tool and its documentation."""
    ignored = shutil.ignore_patterns(
        "__pycache__", "out", "tests", ".*_cache", ".git", ".hypothesis", "*.egg-info", "build"
    )
    return Path(shutil.copytree(CHECKOUT, folder, ignore=ignored))


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """Return a copy of the checkout that a test may change."""
    return copy_of_checkout(tmp_path / "checkout")


def add_alpha(python: Path) -> None:
    """Install an invented distribution in an environment."""
    query = "import sysconfig; print(sysconfig.get_path('purelib'))"
    site = subprocess.run([python, "-I", "-c", query], check=True, capture_output=True, text=True).stdout.strip()
    install(Path(site), "alpha", ALPHA)


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a home folder in which the first block of the documentation has installed the tool."""
    from .claims import Claim  # noqa: PLC0415 - conftest must load even if the documents cannot be read

    made = tmp_path_factory.mktemp("home")
    desk = Desk(copy_of_checkout(tmp_path_factory.mktemp("source") / "checkout"), made)
    desk.run(Claim("README.md", "python3 -m venv ~/minimizer").find())
    # Commands without --python minimize the tool's own environment.
    add_alpha(made / "minimizer/bin/python")
    return made


@pytest.fixture
def desk(tmp_path: Path, home: Path) -> Desk:
    """Return a workspace with the files that the documentation names."""
    made = Desk(tmp_path / "desk", home)
    made.write(FILES)
    made.shell("python3 -m venv --without-pip .venv")
    add_alpha(made.folder / ".venv/bin/python")
    made.shell(""".venv/bin/python -c "import alpha, pickle; pickle.dump(alpha.Model(), open('export.pkl', 'wb'))" """)
    return made


@pytest.fixture(scope="session")
def home_for_aws(home: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the home folder, in which the documentation's command has installed the extra for publishing."""
    from .claims import Claim  # noqa: PLC0415
    from .documents import MANUAL  # noqa: PLC0415

    first = Claim(f"{MANUAL}/aws.md", "~/minimizer/bin/pip install '.[aws]'").find().text.splitlines()[0]
    Desk(copy_of_checkout(tmp_path_factory.mktemp("source") / "checkout"), home).shell(first)
    return home


@pytest.fixture
def aws(desk: Desk, home_for_aws: Path, cloud: Cloud) -> Cloud:  # noqa: ARG001 - a fixture
    """Make the commands use a local server of AWS's API."""
    desk.more |= cloud_variables(cloud)
    return cloud


def cloud_variables(cloud: Cloud) -> dict[str, str]:
    """Return the environment variables with which commands use a local server of AWS's API."""
    key, secret = cloud.keys
    return {
        "AWS_ENDPOINT_URL": cloud.endpoint,
        "AWS_ACCESS_KEY_ID": key,
        "AWS_SECRET_ACCESS_KEY": secret,
        "AWS_DEFAULT_REGION": REGION,
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_PAGER": "",
    }
