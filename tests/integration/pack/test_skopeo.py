"""Where there is no engine, skopeo fetches a base image from a registry: both are Debian's own programs."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import time
import urllib.request
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from layer_minimizer.core.errors import RunnerError
from layer_minimizer.model.interpreter import Interpreter
from layer_minimizer.pack.base_image import choose_base_image
from tests.support.base_images import PYTHON, docker_save
from tests.support.debian import tree_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

HERE = Interpreter("/env/bin/python", "/usr/bin/python", (3, 11, 7), "", "x86_64", (), (), (), "")
MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
LIST = "application/vnd.docker.distribution.manifest.list.v2+json"


@dataclass(frozen=True)
class Registry:
    """A registry of this machine without TLS, and a folder with nothing but skopeo."""

    address: str
    programs: Path

    def push(self, image: Path, name: str) -> dict[str, object]:
        """Push what ``docker save`` wrote; return its entry in a list of several platforms."""
        target = f"docker://{self.address}/{name}"
        subprocess.run(
            [self.programs / "skopeo", "copy", "--quiet", "--dest-tls-verify=false", f"docker-archive:{image}", target],
            check=True,
        )
        request = urllib.request.Request(self._url(name), headers={"Accept": MANIFEST})
        with urllib.request.urlopen(request) as answer:
            size = len(answer.read())
            return {"mediaType": MANIFEST, "size": size, "digest": answer.headers["Docker-Content-Digest"]}

    def push_list(self, entries: list[dict[str, object]], name: str) -> str:
        """Push a list of images; return its digest."""
        body = json.dumps({"schemaVersion": 2, "mediaType": LIST, "manifests": entries}).encode()
        request = urllib.request.Request(self._url(name), body, {"Content-Type": LIST}, method="PUT")
        with urllib.request.urlopen(request) as answer:
            return str(answer.headers["Docker-Content-Digest"])

    def _url(self, name: str) -> str:
        repository, _, tag = name.partition(":")
        return f"http://{self.address}/v2/{repository}/manifests/{tag}"


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Registry]:
    if os.uname().machine != "x86_64":
        pytest.skip("the loader of Debian's programs has another name for other processors")
    root = tree_of("bookworm", "skopeo,docker-registry")
    programs = tmp_path / "programs"
    programs.mkdir()
    libraries = ":".join(str(root / folder / "x86_64-linux-gnu") for folder in ("lib", "usr/lib"))
    loader = f"{root}/lib64/ld-linux-x86-64.so.2"
    (programs / "skopeo").write_text(
        f'#!/bin/sh\nexec "{loader}" --library-path "{libraries}" "{root}/usr/bin/skopeo" "$@"\n'
    )
    (programs / "skopeo").chmod(0o755)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    settings = tmp_path / "home" / ".config" / "containers"
    settings.mkdir(parents=True)
    (settings / "registries.conf").write_text(f'[[registry]]\nlocation = "{address}"\ninsecure = true\n')
    (settings / "policy.json").write_text('{"default": [{"type": "insecureAcceptAnything"}]}')
    where = {"filesystem": {"rootdirectory": str(tmp_path / "images")}}
    (tmp_path / "registry.yml").write_text(
        json.dumps({"version": 0.1, "storage": where, "http": {"addr": address}, "log": {"level": "error"}})
    )
    server = subprocess.Popen(
        [loader, "--library-path", libraries, root / "usr/bin/docker-registry", "serve", tmp_path / "registry.yml"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    try:
        _wait_for(server, address)
        # Without PATH nothing finds docker or podman.
        monkeypatch.setenv("PATH", str(programs))
        yield Registry(address, programs)
    finally:
        server.terminate()
        server.wait()


def _wait_for(server: subprocess.Popen[bytes], address: str) -> None:
    host, _, port = address.partition(":")
    for _ in range(600):
        if server.poll() is not None:
            pytest.fail(f"the registry ended with exit code {server.returncode}")
        with socket.socket() as tried:
            if tried.connect_ex((host, int(port))) == 0:
                return
        time.sleep(0.1)
    pytest.fail("the registry does not answer")


def test_skopeo_fetches_the_image_for_this_processor(registry: Registry, tmp_path: Path) -> None:
    entries = []
    for architecture in ("arm64", "amd64"):
        image = docker_save(tmp_path / f"{architecture}.tar", PYTHON, architecture=architecture)
        platform = {"os": "linux", "architecture": architecture}
        entries.append({**registry.push(image, f"base:{architecture}"), "platform": platform})
    digest = registry.push_list(entries, "base:all")
    for number, name in enumerate(("base:all", f"base@{digest}", f"base:all@{digest}")):
        base = choose_base_image(f"{registry.address}/{name}", HERE, tmp_path / f"scratch{number}")
        assert base.image.config["architecture"] == "amd64"
        assert base.image.name == f"{registry.address}/{name}"
        assert base.python == "/usr/bin/python3"


def test_what_skopeo_says_if_it_fails(registry: Registry, tmp_path: Path) -> None:
    with pytest.raises(RunnerError, match=r"podman is not installed here(?s:.*)skopeo: (?s:.*)none"):
        choose_base_image(f"{registry.address}/base:none", HERE, tmp_path / "scratch")
    assert shutil.which("skopeo") == str(registry.programs / "skopeo")
