"""A local server that implements AWS's API (moto), read with boto3; and a machine without AWS's programs."""

from __future__ import annotations

import contextlib
import http.client
import socket
import subprocess
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import boto3
import pytest

from layer_minimizer.aws import programs

from .places import PROGRAMS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

REGION = "eu-central-1"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Cloud:
    """A server of AWS's API: its endpoint, and the access keys that it accepts."""

    endpoint: str
    keys: tuple[str, str] = ("key", "secret")

    def client(self, service: str) -> Any:
        return boto3.client(
            service,
            region_name=REGION,
            endpoint_url=self.endpoint,
            aws_access_key_id=self.keys[0],
            aws_secret_access_key=self.keys[1],
        )

    def versions(self, layer: str) -> list[dict[str, Any]]:
        return list(self.client("lambda").list_layer_versions(LayerName=layer)["LayerVersions"])

    def objects(self, bucket: str) -> list[str]:
        return [found["Key"] for found in self.client("s3").list_objects_v2(Bucket=bucket).get("Contents", ())]

    def bucket(self, name: str) -> str:
        self.client("s3").create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": REGION})
        return name

    def authorize(self, *, after: float) -> None:
        """Check credentials and permissions after this number of requests."""
        server = http.client.HTTPConnection(urlsplit(self.endpoint).netloc)
        server.request("POST", "/moto-api/reset-auth", body=str(after))
        assert server.getresponse().status == 200
        server.close()


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    port = free_port()
    with (tmp_path_factory.mktemp("server") / "log").open("wb") as log:
        server = subprocess.Popen([PROGRAMS / "moto_server", "-p", str(port)], stdout=log, stderr=log)
    try:
        for _ in range(600):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            assert server.poll() is None
            time.sleep(0.1)
        yield Cloud(f"http://127.0.0.1:{port}")
    finally:
        server.terminate()
        server.wait(20)


@pytest.fixture
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home, a PATH and a cache with nothing in them."""
    for name in ("home", "bin", "cache"):
        (tmp_path / name).mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setenv("LAYER_MINIMIZER_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(programs, "_SAM", "layer-minimizer-has-no-such-distribution")
    return tmp_path
