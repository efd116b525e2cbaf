"""A package index on this machine: invented wheels and source distributions, and a server that has them."""

from __future__ import annotations

import base64
import functools
import hashlib
import http.server
import io
import tarfile
import threading
import zipfile
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from layer_minimizer.core.errors import RunnerError
from layer_minimizer.execution.uv import Uv

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

# A build backend that needs nothing and fails.
_BROKEN = "raise RuntimeError('no compiler for the broken package')\n"


def need_uv() -> str:
    """Return the path of uv; without it, skip the test."""
    try:
        return Uv.find("the test").program
    except RunnerError as exc:
        pytest.skip(str(exc))


@dataclass
class Index:
    """A folder with one folder for each package, served as a simple index (PEP 503)."""

    folder: Path
    url: str = ""
    files: dict[str, list[tuple[str, str]]] = field(default_factory=dict)

    def wheel(
        self, name: str, version: str, files: Mapping[str, str], *requires: str, tag: str = "py3-none-any"
    ) -> str:
        """Add a wheel, and return its digest."""
        information = f"{name}-{version}.dist-info"
        listed = {path: text.encode() for path, text in files.items()}
        needs = "".join(f"Requires-Dist: {each}\n" for each in requires)
        listed[f"{information}/METADATA"] = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{needs}".encode()
        listed[f"{information}/WHEEL"] = f"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: {tag}\n".encode()
        record = "".join(f"{path},sha256={_digest(content)},{len(content)}\n" for path, content in listed.items())
        listed[f"{information}/RECORD"] = f"{record}{information}/RECORD,,\n".encode()
        content = io.BytesIO()
        with zipfile.ZipFile(content, "w") as archive:
            for path, data in listed.items():
                archive.writestr(zipfile.ZipInfo(path), data)
        return self._add(name, f"{name}-{version}-{tag}.whl", content.getvalue())

    def source(self, name: str, version: str, backend: str = _BROKEN) -> str:
        """Add a source distribution with a build backend of its own, and return its digest."""
        files = {
            "PKG-INFO": f"Metadata-Version: 2.2\nName: {name}\nVersion: {version}\n",
            "pyproject.toml": (
                f'[project]\nname = "{name}"\nversion = "{version}"\n'
                '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
            ),
            "backend.py": backend,
        }
        content = io.BytesIO()
        with tarfile.open(fileobj=content, mode="w:gz") as archive:
            for path, text in files.items():
                entry = tarfile.TarInfo(f"{name}-{version}/{path}")
                entry.size = len(text.encode())
                archive.addfile(entry, io.BytesIO(text.encode()))
        return self._add(name, f"{name}-{version}.tar.gz", content.getvalue())

    def _add(self, name: str, file: str, content: bytes) -> str:
        folder = self.folder / name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / file).write_bytes(content)
        digest = hashlib.sha256(content).hexdigest()
        self.files.setdefault(name, []).append((file, digest))
        links = "".join(f'<a href="{each}#sha256={known}">{each}</a>\n' for each, known in self.files[name])
        (folder / "index.html").write_text(f"<!DOCTYPE html><html><body>\n{links}</body></html>\n")
        return f"sha256:{digest}"


def _digest(content: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Print nothing."""


@contextmanager
def served(folder: Path) -> Iterator[Index]:
    """Yield an empty index with a server."""
    folder.mkdir(parents=True, exist_ok=True)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Quiet, directory=folder)) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield Index(folder, f"http://127.0.0.1:{server.server_port}")
        server.shutdown()
        thread.join()
