"""A layer below ours that is named by its ARN: fetched from a server that speaks AWS's API, and kept."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import http.server
import json
import socket
import subprocess
import sys
import threading
import time
import zipfile
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import boto3
import pytest

from tests.support.sites import stocked_env

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.desk import Desk
    from tests.support.sites import Environment

env = stocked_env
REGION = "eu-central-1"
USAGE, PUBLISH = 2, 8
KEYS = {"aws_access_key_id": "key", "aws_secret_access_key": "secret"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    with (tmp_path_factory.mktemp("server") / "log").open("wb") as log:
        process = subprocess.Popen([sys.executable, "-m", "moto.server", "-p", str(port)], stdout=log, stderr=log)
    try:
        for _ in range(600):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            assert process.poll() is None
            time.sleep(0.1)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(20)


@contextlib.contextmanager
def giving(server: str, content: bytes) -> Iterator[tuple[str, list[str]]]:
    """Stand before the server, which tells no place to fetch a layer from, and be that place; note what is asked."""
    asked: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            if self.path == "/the-zip":
                status, answer = 200, content
            else:
                onward = http.client.HTTPConnection(urlsplit(server).netloc)
                onward.request("GET", self.path, headers=dict(self.headers.items()))
                got = onward.getresponse()
                status, answer = got.status, got.read()
                onward.close()
                if status == 200:
                    said = json.loads(answer)
                    said["Content"]["Location"] = f"http://127.0.0.1:{self.server.server_address[1]}/the-zip"
                    answer = json.dumps(said).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_args: object) -> None:
            pass

    front = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=front.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{front.server_port}", asked
    finally:
        front.shutdown()
        thread.join()
        front.server_close()


def test_a_layer_by_its_arn(desk: Desk, env: Environment, server: str, main_version: str) -> None:
    below = desk.folder / "below.zip"
    with zipfile.ZipFile(below, "w") as archive:
        archive.writestr(f"python/lib/python{main_version}/site-packages/fetched.py", "X = 5\n")
    content = below.read_bytes()
    lambda_ = boto3.client("lambda", region_name=REGION, endpoint_url=server, **KEYS)
    arn = lambda_.publish_layer_version(LayerName="below", Content={"ZipFile": content})["LayerVersionArn"]
    below.unlink()
    desk.write("handler.py", "import alpha, fetched\n\n\ndef handler(e, c):\n    return [alpha.VALUE, fetched.X]\n")
    cache = desk.folder / "cache" / "layer_minimizer"
    variables = {"XDG_CACHE_HOME": str(cache.parent), "AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret"}
    digest = hashlib.sha256(content).hexdigest()
    with giving(server, content) as (endpoint, asked):
        for _ in range(2):
            given = {**variables, "AWS_ENDPOINT_URL": endpoint}
            report = json.loads(desk.minimize(env, "--base-layer", arn, "--json", variables=given).out)
            assert [(each["name"], each["sha256"]) for each in report["base_layers"]] == [(arn, digest)]
            assert desk.kept() == {"alpha/__init__.py", "alpha/core.py", "alpha/data.txt"}
        assert asked.count("/the-zip") == 1  # the second time it is there
        assert [path.name for path in (cache / "layers").iterdir()] == [f"{digest}.zip"]
        desk.output.unlink()
        desk.fails(env, PUBLISH, (f"{arn}9", "ResourceNotFound"), "--base-layer", f"{arn}9", variables=given)
        desk.fails(env, USAGE, ("No such file",), "--base-layer", arn.rpartition(":")[0], variables=given)
    (cache / "layers" / f"{digest}.zip").unlink()
    with giving(server, content + b"!") as (endpoint, _):
        words = (arn, "not the one that Lambda reports")
        desk.fails(env, PUBLISH, words, "--base-layer", arn, variables={**variables, "AWS_ENDPOINT_URL": endpoint})
    assert list((cache / "layers").iterdir()) == []
