"""Runs the documentation's commands that need a container engine; a Debian image can stand in for Lambda's."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
import urllib.request
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from layer_minimizer.layer.archive import unzip
from tests.support.images import foreign
from tests.support.places import EXAMPLES

from .claims import walks
from .conftest import Desk, cloud_variables, copy_of_checkout
from .documents import MANUAL

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.support.cloud import Cloud
    from tests.support.docker import Engine

    from .documents import Shown

ABOUT = "--entry handler.py --event event.json --python .venv/bin/python"
LAMBDA = "public.ecr.aws/lambda/python:3.12"


@pytest.fixture(scope="module")
def lambda_image(
    engine: Engine, trusting: str, python_of: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """Yield Lambda's image for Python 3.12, or a Debian image of that name if the engine does not have it."""
    if engine.run("image", "inspect", LAMBDA).returncode == 0:
        yield LAMBDA
        return
    folder = tmp_path_factory.mktemp("lambda")
    prefix = Path(python_of("3.12")).parents[1]
    shutil.copytree(prefix, folder / "python", symlinks=True, ignore=foreign)
    lines = [f"FROM {trusting}", f"COPY python {prefix}"]
    lines += [f"RUN cd /usr/local/bin && ln -s {prefix}/bin/python3.12 python3 && ln -s python3 python"]
    yield engine.build(LAMBDA, "\n".join(lines) + "\n", folder)


@pytest.fixture
def thumbnails(home: Path, engine: Engine, requirements_env: Callable[[str, Path], Path]) -> Iterator[Desk]:
    """Yield a workspace with the function of the quickstart and its requirements."""
    with tempfile.TemporaryDirectory(prefix="minimize-tests-") as name:
        made = Desk(Path(name).resolve(), home, {**engine.variables, "DOCKER_BUILDKIT": "0"})
        example = EXAMPLES / "quickstart"
        for file in ("handler.py", "requirements.txt"):
            shutil.copy(example / file, made.folder)
        python = requirements_env("quickstart", example / "requirements.txt")
        subprocess.run([python, "-I", example / "make_events.py", made.folder / "events.json"], check=True)
        events = json.loads((made.folder / "events.json").read_text())
        first = events["tests"][0]["event"] if isinstance(events, dict) else events[0]
        made.write({"event.json": json.dumps(first)})
        made.shell("""python3 -c "import pickle; pickle.dump({}, open('export.pkl', 'wb'))" """)
        yield made


@pytest.fixture
def names(engine: Engine) -> Iterator[None]:
    """Skip the test if images or containers with the documented names exist; remove them afterwards."""
    images, container = ["minimizer", "mine"], "run"
    taken = [name for name in images if engine.run("image", "inspect", name).returncode == 0]
    taken += [container] if engine.run("container", "inspect", container).returncode == 0 else []
    if taken:
        pytest.skip(f"this engine already has {', '.join(taken)}")
    yield
    engine.run("rm", "--force", container)
    engine.run("image", "rm", "--force", *images)


def remember(engine: Engine, output: str) -> str:
    """Register the image that the tool has built for removal, and return its name."""
    words = next(line for line in output.splitlines() if " the image layer_minimizer/image:" in line).split()
    name = words[words.index("image") + 1]
    engine.images.add(name)
    return name


@walks(f"{MANUAL}/aws.md", "minimize --runner docker --runtime python3.12 --requirements requirements.txt")
@pytest.mark.usefixtures("lambda_image")
def test_in_a_container(thumbnails: Desk, engine: Engine, shown: list[Shown]) -> None:
    ended = thumbnails.run(shown[0])
    remember(engine, ended.err)
    assert "Verified" in ended.out
    assert any(name.startswith("PIL/") for name in thumbnails.names())


@walks(
    "docker/README.md",
    "python3 -m venv ~/minimizer",
    "~/minimizer/bin/minimize --runner docker",
    "arn=$(~/minimizer/bin/minimize publish",
    "aws lambda create-function",
    "aws lambda invoke",
    "docker image ls layer_minimizer/image",
    "docker system df",
)
@pytest.mark.usefixtures("lambda_image")
def test_from_nothing_to_a_deployed_function(
    thumbnails: Desk, engine: Engine, cloud: Cloud, tmp_path: Path, shown: list[Shown]
) -> None:
    install, make, publish, create, invoke, images, df = shown
    # A new home folder, in which only this block installs something.
    function, thumbnails.home = thumbnails.folder, tmp_path / "home"
    thumbnails.home.mkdir()
    thumbnails.folder = copy_of_checkout(tmp_path / "checkout")
    thumbnails.run(install)
    thumbnails.folder = function

    ended = thumbnails.run(make)
    assert "Verified" in ended.out
    assert remember(engine, ended.err).partition(":")[2] in thumbnails.run(images).out
    assert "Images" in thumbnails.run(df).out

    thumbnails.more |= cloud_variables(cloud)
    role = cloud.client("iam").create_role(RoleName="documented", AssumeRolePolicyDocument=json.dumps(TRUST))
    thumbnails.more["role_arn"] = role["Role"]["Arn"]
    # The second block uses a variable of the first.
    thumbnails.shell(f"{publish.text}\n{create.text}")
    made = cloud.client("lambda").get_function(FunctionName="my-function")["Configuration"]
    (layer,) = made["Layers"]
    assert layer["Arn"] == cloud.versions("my-packages")[0]["LayerVersionArn"]
    assert made["CodeSize"] == (function / "function.zip").stat().st_size

    # The server runs no function, and returns the event.
    configure(cloud, use_docker=False)
    thumbnails.run(invoke)
    configure(cloud, use_docker=True)
    event = json.loads((function / "event.json").read_text())
    assert json.loads((function / "answer.json").read_text()) == event
    # Therefore the uploaded zips are run in the base image.
    assert json.loads(in_lambda(engine, function))["format"] == "PNG"


TRUST = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}, "Action": "sts:AssumeRole"}],
}
CALL = """\
import glob, json, sys
sys.path[:0] = ["/var/task", *glob.glob("/opt/python/lib/python3*/site-packages")]
import sitecustomize, handler
print(json.dumps(handler.handler(json.load(open("/event.json")), None)))
"""


def configure(cloud: Cloud, *, use_docker: bool) -> None:
    address = f"{cloud.endpoint}/moto-api/config"
    body = json.dumps({"lambda": {"use_docker": use_docker}}).encode()
    with urllib.request.urlopen(urllib.request.Request(address, body), timeout=60) as response:
        assert response.status in (200, 201)


def in_lambda(engine: Engine, folder: Path) -> str:
    """Run the function with nothing but the unpacked zips of function and layer."""
    mounts = ["--volume", f"{folder / 'event.json'}:/event.json:ro"]
    for name, place in (("layer", "/opt"), ("function", "/var/task")):
        unzip(folder / f"{name}.zip", folder / name)
        mounts += ["--volume", f"{folder / name}:{place}:ro"]
    return engine.output("run", "--rm", *mounts, "--entrypoint", "python3", LAMBDA, "-c", CALL)


@walks("docker/README.md", "docker build -f docker/lambda/Dockerfile -t minimizer .", "cat >Dockerfile")
@pytest.mark.usefixtures("lambda_image", "names")
def test_by_hand(thumbnails: Desk, tmp_path: Path, shown: list[Shown]) -> None:
    function, thumbnails.folder = thumbnails.folder, copy_of_checkout(tmp_path / "checkout")
    thumbnails.run(shown[0])
    thumbnails.folder = function
    assert "Verified" in thumbnails.run(shown[1]).out
    with zipfile.ZipFile(function / "layer.zip") as layer:
        assert "python/lib/python3.12/site-packages/PIL/__init__.pyc" in layer.namelist()


@pytest.fixture
def function(desk: Desk, engine: Engine) -> Desk:
    """Return a workspace with docker's variables; images of the documented names are removed."""
    engine.images |= {"app", "copied"}
    return Desk(desk.folder, desk.home, {**engine.variables, "DOCKER_BUILDKIT": "0"})


CALL_PNG = "import handler; print(handler.handler({'kind': 'png'}, None))"
ANSWER = "{'value': 42}"


@walks(f"{MANUAL}/images.md", f"minimize {ABOUT} \\", "docker load --input app.tar")
def test_an_image(function: Desk, image: str, shown: list[Shown]) -> None:
    make, use = shown
    assert "Verified in a container (docker)" in function.run(make, {"python:3.11-slim": image}).out
    assert ANSWER in function.run(use).out


@walks(
    f"{MANUAL}/images.md",
    f"minimize {ABOUT} --format folder",
    "ARG BASE",
)
def test_a_folder_in_a_dockerfile(function: Desk, engine: Engine, image: str, shown: list[Shown]) -> None:
    make, dockerfile = shown
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    assert "COPY packages/ /opt/" in function.run(make).out
    function.write({"Dockerfile": dockerfile.text.replace("3.11", version), ".dockerignore": ".venv\n"})
    engine.output("build", "--build-arg", f"BASE={image}", "--tag", "copied", str(function.folder))
    run = ("run", "--rm", "--read-only", "--tmpfs", "/tmp:exec", "--user", "1234", "copied")
    assert engine.output(*run, "python3", "-c", CALL_PNG) == ANSWER
