"""Runs the documentation's commands that use AWS, with a local server of AWS's API."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import time
import uuid
import zipfile
from typing import TYPE_CHECKING

import pytest

from .claims import Claim, walks
from .conftest import copy_of_checkout
from .documents import MANUAL, names_in

if TYPE_CHECKING:
    from tests.support.cloud import Cloud

    from .conftest import Desk
    from .documents import Shown

ARN = r"arn:aws:lambda:[\w-]+:\d+:layer:{}:{}"


def make_layer(desk: Desk) -> None:
    desk.shell("minimize --entry handler.py --event event.json --python .venv/bin/python --effort 0 --output layer.zip")


@walks("README.md", "aws lambda publish-layer-version")
@pytest.mark.usefixtures("aws")
def test_publish_by_hand(desk: Desk, shown: list[Shown]) -> None:
    make_layer(desk)
    printed = json.loads(desk.run(shown[0]).out)
    assert re.fullmatch(ARN.format("my-packages", 1), printed["LayerVersionArn"])
    assert printed["Content"]["CodeSize"] == (desk.folder / "layer.zip").stat().st_size


@walks(f"{MANUAL}/aws.md", "~/minimizer/bin/pip install '.[aws]'")
def test_publish(desk: Desk, aws: Cloud, shown: list[Shown]) -> None:
    make_layer(desk)
    function, desk.folder = desk.folder, copy_of_checkout(desk.folder / "checkout")
    shutil.copy(function / "layer.zip", desk.folder)
    for number in (1, 2):
        # The second run publishes nothing, and prints the same.
        printed = desk.run(shown[0], after='echo "$arn"').out.splitlines()[-1]
        assert re.fullmatch(ARN.format("fastai", 1), printed), number
    assert len(aws.versions("fastai")) == 1


@walks(
    f"{MANUAL}/options.md",
    "minimize publish … --dry-run",
    "minimize publish … --json",
    "minimize publish … --bucket NAME --key",
)
@walks(f"{MANUAL}/reports.md", "minimize publish --json")
def test_publish_of_the_table(desk: Desk, aws: Cloud, shown: list[Shown]) -> None:
    make_layer(desk)
    about = {"…": "layer.zip --name table --runtime python3.12"}
    assert "would" in "".join(vars(desk.run(shown[0], about)).values())
    assert aws.versions("table") == []
    printed = json.loads(desk.run(shown[1], about).out)
    assert re.fullmatch(ARN.format("table", 1), printed["arn"])
    assert list(printed) == list(names_in(Claim(f"{MANUAL}/reports.md", '{"arn", ').find().text))
    again = json.loads(desk.run(shown[3], {"publish": f"publish {about['…']}"}).out)
    assert again == {**printed, "created": False}
    # Bucket names are lower-case.
    aws.bucket("name")
    desk.run(shown[2], {**about, "NAME": "name"})


@walks("examples/README.md", "minimize publish examples/quickstart/out/layer.zip")
def test_publish_of_the_examples(desk: Desk, aws: Cloud, shown: list[Shown]) -> None:
    make_layer(desk)
    out = desk.folder / "examples/quickstart/out"
    out.mkdir(parents=True)
    shutil.copy(desk.folder / "layer.zip", out)
    assert "would" in "".join(vars(desk.run(shown[0])).values())
    assert aws.versions("pillow") == []


@walks(
    f"{MANUAL}/tracing.md",
    "minimize probe probe.zip",
    "aws logs filter-log-events",
    "minimize --entry handler.py --event event.json --trace production.log",
)
def test_what_production_uses(desk: Desk, aws: Cloud, shown: list[Shown]) -> None:
    assert re.search(ARN.format("trace", 1), desk.run(shown[0]).out)
    # The function in production, with the probe layer unpacked as in a container image.
    with zipfile.ZipFile(desk.folder / "probe.zip") as archive:
        archive.extractall(desk.folder / "opt")
    code = "import layer_minimizer_probe as probe; print(probe.handler({'kind': 'gif'}, None))"
    desk.more["LAYER_MINIMIZER_HANDLER"] = "handler.handler"
    ended = desk.shell(f'PYTHONPATH=opt/python:. .venv/bin/python -c "{code}"')
    del desk.more["LAYER_MINIMIZER_HANDLER"]
    lines = (ended.out + ended.err).splitlines()
    assert [line for line in lines if "layer_minimizer trace" in line]
    send_log(aws, "/aws/lambda/NAME", ["START", *lines, "END"])

    desk.run(shown[1])
    saved = (desk.folder / "production.log").read_text()
    assert "layer_minimizer trace" in saved
    assert "START" not in saved
    ended = desk.run(shown[2])
    assert "Verified" in ended.out
    assert {"alpha/png.pyc", "alpha/gif.pyc"} <= desk.names()


@walks(
    f"{MANUAL}/aws.md",
    "aws logs filter-log-events",
    "minimize --entry handler.py --event event.json --snapstart production.log",
)
def test_snapstart(desk: Desk, aws: Cloud, shown: list[Shown]) -> None:
    make_layer(desk)
    desk.shell("mkdir opt && cd opt && unzip -q ../layer.zip")
    # What another run of an equal layer has restored is not restored again.
    for store in desk.folder.glob("opt/python/lib/*/site-packages/_layer_minimizer/cold/*"):
        shutil.rmtree(f"/tmp/.layer_minimizer-{store.name}", ignore_errors=True)
    # The deployed function, with an event of another kind.
    desk.more["LAYER_MINIMIZER_LOG"] = "1"
    code = "import handler; print(handler.handler({'kind': 'gif'}, None))"
    ended = desk.shell(f'PYTHONPATH=$(echo opt/python/lib/python3*/site-packages):. .venv/bin/python -c "{code}"')
    del desk.more["LAYER_MINIMIZER_LOG"]
    lines = (ended.out + ended.err).splitlines()
    assert "restored file alpha/gif.py" in lines
    send_log(aws, "/aws/lambda/NAME", ["START", *lines, "END"])

    desk.run(shown[0])
    ended = desk.run(shown[1])
    assert "same results in 2 runs" in ended.out
    assert "SnapStart: before a snapshot 0 stand-ins are loaded, 1 file and 0 parts of libraries restored" in ended.out
    assert any(name.startswith("_layer_minimizer/snapshot/") for name in desk.names())


def send_log(aws: Cloud, group: str, lines: list[str]) -> None:
    logs = aws.client("logs")
    stream = uuid.uuid4().hex  # one for each process, as in Lambda
    with contextlib.suppress(logs.exceptions.ResourceAlreadyExistsException):
        logs.create_log_group(logGroupName=group)
    logs.create_log_stream(logGroupName=group, logStreamName=stream)
    now = int(time.time() * 1000)
    # Messages from Lambda end with a line break.
    events = [{"timestamp": now + number, "message": f"{line}\n"} for number, line in enumerate(lines)]
    logs.put_log_events(logGroupName=group, logStreamName=stream, logEvents=events)
