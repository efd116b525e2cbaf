"""Folders and images: what is written, where Python finds the packages in it, and what is refused."""

from __future__ import annotations

import json
import os
import subprocess
import tarfile
from typing import TYPE_CHECKING

import pytest

from layer_minimizer.core.output_folder import MARK
from layer_minimizer.environment.interpreter import describe_interpreter
from layer_minimizer.execution import process
from layer_minimizer.layer import oci
from layer_minimizer.layer.image_reader import read_image
from layer_minimizer.model.image import Blob, Image, ImageLayer
from layer_minimizer.pack import scratch_image
from tests.support.base_images import PYTHON, docker_save
from tests.support.pythons import MAIN, need_python
from tests.support.sites import create_environment, temporary_folder

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.command import Ended
    from tests.support.desk import Desk
    from tests.support.sites import Environment

SITE = f"python/lib/python{MAIN}/site-packages"
# Python reads .pth files in site-packages alone; unused.py is cold.
ALPHA = {
    "alpha/__init__.py": "import os\n\nimport hidden\n\nVALUE = os.environ['ALPHA'] + hidden.VALUE\n",
    "alpha/unused.py": "VALUE = 'put back'\n",
    "alpha/data.txt": "data" * 1000,
    "alpha.pth": "import os; os.environ['ALPHA'] = 'started '\nbehind\n",
    "behind/hidden.py": "VALUE = 'found'\n",
}
HANDLER = """\
import importlib
import alpha

def handler(event, context):
    return [alpha.VALUE, importlib.import_module(event["name"]).VALUE if event.get("name") else ""]
"""
ASKED = "import handler; print(handler.handler({'name': 'alpha.unused'}, None))"
ANSWER = "['started found', 'put back']"


@pytest.fixture(scope="module")
def env() -> Iterator[Environment]:
    """Yield an environment with a distribution that needs its .pth file."""
    with temporary_folder() as folder:
        yield create_environment(folder / "env", need_python(MAIN)).install("alpha", ALPHA)


@pytest.fixture(scope="module")
def base() -> Iterator[Path]:
    """Yield an image with the Python of the environment, and a user and labels of its own."""
    with temporary_folder() as folder:
        interpreter = describe_interpreter(need_python(MAIN))
        image = scratch_image.make_scratch_image(interpreter, scratch_machine(), folder, 0)
        process_of = {**image.process, "User": "7", "Labels": {"of": "base"}}
        config = {**image.config, "config": process_of}
        oci.Layout(Image("base", config, image.layers), "base:latest").write_tar(folder / "base.tar")
        (folder / "scratch.tar.gz").unlink()
        yield folder / "base.tar"


def scratch_machine() -> str:
    return {"x86_64": "amd64", "aarch64": "arm64"}[os.uname().machine]


@pytest.fixture
def alone(tmp_path: Path) -> dict[str, str]:
    """Return the variables for a machine without a container engine."""
    if not process.can_isolate():
        pytest.skip("namespaces are not allowed here")
    (tmp_path / "bin").mkdir()
    for name in ("test", "ldconfig"):
        if found := next((f"{each}/{name}" for each in ("/usr/bin", "/sbin") if os.path.exists(f"{each}/{name}")), ""):
            (tmp_path / "bin" / name).symlink_to(found)
    return {"PATH": str(tmp_path / "bin")}


def made(desk: Desk, env: Environment, name: str, *args: object, variables: dict[str, str] | None = None) -> Ended:
    desk.write("handler.py", HANDLER)
    (desk.folder / "made").mkdir(exist_ok=True)
    forms = ("--bytecode", "auto", "--cold", "keep")
    return desk.minimize(env, *forms, "--output", desk.folder / "made" / name, *args, variables=variables)


# ---- a folder -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", ["site", "flat"])
def test_a_folder_works_wherever_it_is_copied(layout: str, desk: Desk, env: Environment) -> None:
    report = json.loads(made(desk, env, "packages", "--format", "folder", "--layout", layout, "--json").out)
    folder = desk.folder / "made" / "packages"
    assert report["output"] == "folder"
    assert report["layer"]["path"] == str(folder)
    assert json.loads((folder / MARK).read_text())["sha256"] == report["layer"]["sha256"]
    copy = desk.folder / "app" / "packages"  # as by COPY packages/ /app/packages
    folder.rename(desk.folder / "away")
    copy.parent.mkdir()
    (desk.folder / "away").rename(copy)
    top = copy / (SITE if layout == "site" else "python")
    variables = {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(top)}
    command = [need_python(MAIN), "-B", "-c", ASKED]
    done = subprocess.run(command, env=variables, cwd=desk.work, capture_output=True, text=True, check=False)
    assert done.stdout.strip() == ANSWER, done.stderr


def test_a_folder_works_in_site_packages(desk: Desk, env: Environment) -> None:
    made(desk, env, "packages", "--format", "folder")
    other = create_environment(desk.folder / "other", need_python(MAIN))
    top = desk.folder / "made" / "packages" / SITE
    for path in top.iterdir():  # as by COPY packages/…/site-packages/ into those of the image
        path.rename(other.site / path.name)
    command = [other.python, "-B", "-c", ASKED]
    done = subprocess.run(command, env={}, cwd=desk.work, capture_output=True, text=True, check=False)
    assert done.stdout.strip() == ANSWER, done.stderr


def test_only_a_folder_of_this_tool_is_replaced(desk: Desk, env: Environment) -> None:
    ended = made(desk, env, "packages", "--format", "folder")
    folder = desk.folder / "made" / "packages"
    assert f"COPY packages/ /opt/ and ENV PYTHONPATH=/opt/{SITE}" in ended.out
    made(desk, env, "packages", "--format", "folder")
    (folder / "mine").write_text("x")
    options = ("--format", "folder", "--output", folder)
    desk.fails(env, 5, [f"--output {folder} exists", "nobody has changed"], *options)
    assert (folder / "mine").read_text() == "x"


# ---- an image -----------------------------------------------------------------------------------------------------


def test_an_image_is_run_before_it_is_written(desk: Desk, env: Environment, base: Path, alone: dict[str, str]) -> None:
    options = ("--format", "image", "--base-image", base, "--json")
    report = json.loads(made(desk, env, "app.tar", *options, variables=alone).out)
    image = report["image"]
    assert (report["output"], image["tag"], image["verified"]) == ("image", "app:latest", "namespaces")
    assert image["digest"] == f"sha256:{report['layer']['sha256']}"
    assert [part["name"] for part in image["parts"]] == ["base", "packages", "function"]
    assert image["parts"][2]["bytes"] < 1000
    written = read_image(desk.folder / "made" / "app.tar", desk.folder, scratch_machine())
    assert written.process["User"] == "7"
    assert written.process["Labels"] == {"of": "base"}
    assert written.process["Cmd"][1:] == ["/app/handler.py"]

    # The same input gives the same image, in the other form too; a change of the handler changes one small layer.
    made(desk, env, "app", *options, variables=alone)
    index = json.loads((desk.folder / "made" / "app" / "index.json").read_text())
    assert index["manifests"][0]["digest"] == image["digest"]
    desk.write("handler.py", HANDLER + "\nCHANGED = 1\n")
    other = desk.minimize(
        env, "--bytecode", "auto", "--cold", "keep", *options, "--output", desk.folder / "made" / "2.tar",
        variables=alone,
    )  # fmt: skip
    changed = json.loads(other.out)["image"]
    same = [one["digests"] == two["digests"] for one, two in zip(image["parts"], changed["parts"], strict=True)]
    assert same == [True, True, False]
    assert changed["digest"] != image["digest"]


def test_an_image_that_fails_is_not_written(desk: Desk, env: Environment, base: Path, alone: dict[str, str]) -> None:
    desk.write("writes.py", "import alpha\n\n\ndef handler(event, context):\n    open('note', 'w').write('x')\n")
    target = desk.folder / "app.tar"
    messages = ["in a container of the image the entry does not run", "can write to /tmp only"]
    options = ("--format", "image", "--base-image", base, "--output", target)
    desk.fails(env, 6, messages, *options, entry="writes.py", variables=alone)
    assert not target.exists()


def test_a_script_is_the_command_of_an_image(desk: Desk, env: Environment, base: Path, alone: dict[str, str]) -> None:
    desk.write("job.py", "import sys\nimport alpha\nprint(alpha.VALUE, sys.argv[1:])\n")
    options = ("--format", "image", "--base-image", base, "--output", desk.folder / "app.tar")
    ended = desk.minimize(env, *options, entry="job.py", variables=alone)
    assert "bin/python3 /app/job.py" in ended.out
    assert "Verified in a container (namespaces): read-only, as another user" in ended.out


def test_lambda_gets_its_handler(desk: Desk, env: Environment, base: Path, alone: dict[str, str]) -> None:
    image = read_image(base, desk.folder, scratch_machine())
    process_of = {**image.process, "Env": [*image.process["Env"], "LAMBDA_TASK_ROOT=/var/task"]}
    like_lambda = Image("base", {**image.config, "config": process_of}, image.layers)
    oci.Layout(like_lambda, "lambda:latest").write_tar(desk.folder / "lambda.tar")
    options = ("--format", "image", "--base-image", desk.folder / "lambda.tar")
    report = json.loads(made(desk, env, "app.tar", *options, "--json", variables=alone).out)
    assert report["image"]["command"] == ["handler.handler"]
    desk.write("job.py", "import alpha\nprint(alpha.VALUE)\n")
    messages = ["job.py is a script", "--image-command"]
    desk.fails(env, 5, messages, *options, "--output", desk.folder / "2.tar", entry="job.py", variables=alone)


# ---- what is refused ----------------------------------------------------------------------------------------------


def test_what_does_not_fit(desk: Desk, env: Environment, base: Path, alone: dict[str, str]) -> None:
    desk.write("handler.py", HANDLER)
    target = desk.folder / "app.tar"
    image = ("--format", "image", "--output", target)
    desk.fails(env, 2, ["--format image requires --base-image"], *image)
    desk.fails(env, 2, ["--image-user requires --format image"], "--image-user", "1")
    desk.fails(env, 2, ["--base-image requires --format image, or --runner docker"], "--base-image", "x")
    desk.fails(env, 2, ["--base-layer does not fit"], *image, "--base-image", base, "--base-layer", "x.zip")
    desk.fails(env, 7, ["cannot be fetched", "docker save"], *image, "--base-image", "absent", variables=alone)
    desk.fails(env, 7, ["docker is not installed"], *image, "--base-image", base, "--engine", "docker", variables=alone)
    other = docker_save(desk.folder / "other.tar", PYTHON, architecture="s390x")
    desk.fails(env, 5, ["is for linux/s390x"], *image, "--base-image", other)
    for name in ("folder", "image"):
        options = ("--format", name, "--runner", "docker", "--runtime", f"python{MAIN}", "--base-image", "x")
        desk.fails(env, 2, [f"--format {name} cannot be used with --runner docker"], *options, "--output", target)
    assert not target.exists()


def test_a_damaged_base_is_reported(desk: Desk, env: Environment, base: Path) -> None:
    damaged = desk.folder / "damaged.tar"
    with base.open("rb") as source:
        damaged.write_bytes(source.read(1 << 20))
    desk.write("handler.py", HANDLER)
    options = ("--format", "image", "--base-image", damaged, "--output", desk.folder / "app.tar")
    desk.fails(env, 2, [f"--base-image {damaged} cannot be read as an image"], *options)


def test_the_base_is_untouched(base: Path, tmp_path: Path) -> None:
    layers = [ImageLayer(Blob("sha256:1", 3, base), oci.LAYER_TYPE, "sha256:2")]
    layout = oci.Layout(Image("x", {"config": {}}, tuple(layers)), "x:latest")
    layout.write_tar(tmp_path / "x.tar")
    with tarfile.open(tmp_path / "x.tar") as archive:
        content = archive.extractfile("blobs/sha256/1")
        assert content is not None
        assert content.read() == base.read_bytes()[:3]
