"""Small container images for tests, as layouts and tars of every kind that tools write."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

# A layer: the contents of files; None is a folder, a text that begins with "->" a symbolic link.
Files = "Mapping[str, str | None]"
PYTHON = {"usr/bin/python3": "-> python3.11", "usr/bin/python3.11": "ELF", "usr/lib/python3.11/os.py": "", "opt": None}


def layer_tar(files: Mapping[str, str | None]) -> bytes:
    """Return a tar with these files."""
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w") as archive:
        for name, text in files.items():
            member = tarfile.TarInfo(f"./{name}")
            member.mode = 0o755
            if text is None:
                member.type = tarfile.DIRTYPE
            elif text.startswith("-> "):
                member.type, member.linkname = tarfile.SYMTYPE, text.removeprefix("-> ")
            else:
                member.size = len(text)
            archive.addfile(member, io.BytesIO((text or "").encode()))
    return target.getvalue()


def config_of(layers: Sequence[bytes], **more: Any) -> dict[str, Any]:
    """Return the configuration of an image with these layers."""
    diffs = [f"sha256:{hashlib.sha256(layer).hexdigest()}" for layer in layers]
    process = {"Env": ["PATH=/usr/local/bin:/usr/bin"], "Labels": {"of": "base"}, "User": "7"}
    return {
        "architecture": "amd64",
        "os": "linux",
        "config": process,
        "rootfs": {"type": "layers", "diff_ids": diffs},
        "history": [{"created_by": "test"} for _ in layers],
    } | more


def docker_save(target: Path, *layers: Mapping[str, str | None], **more: Any) -> Path:
    """Write what older versions of ``docker save`` write: layers in folders of their own, equal ones as links."""
    tars = [layer_tar(files) for files in layers]
    config = json.dumps(config_of(tars, **more)).encode()
    name = f"{hashlib.sha256(config).hexdigest()}.json"
    names = [f"{number}/layer.tar" for number in range(len(tars))]
    manifest = [{"Config": name, "RepoTags": ["base:latest"], "Layers": names}]
    with tarfile.open(target, "w") as archive:
        for path, content in {name: config, "manifest.json": json.dumps(manifest).encode()}.items():
            _add(archive, path, content)
        for number, content in enumerate(tars):
            if (first := tars.index(content)) != number:
                member = tarfile.TarInfo(names[number])
                member.type, member.linkname = tarfile.SYMTYPE, f"../{names[first]}"
                archive.addfile(member)
            else:
                _add(archive, names[number], content)
    return target


def _add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    archive.addfile(member, io.BytesIO(content))


def oci_layout(target: Path, *layers: Mapping[str, str | None], compressed: bool = True, **more: Any) -> Path:
    """Write an OCI image layout, a folder, with one image and its attestation, as ``docker buildx`` does."""
    tars = [layer_tar(files) for files in layers]
    blobs: dict[str, bytes] = {}

    def blob(content: bytes, kind: str, **more: Any) -> dict[str, Any]:
        digest = hashlib.sha256(content).hexdigest()
        blobs[digest] = content
        return {"mediaType": kind, "digest": f"sha256:{digest}", "size": len(content), **more}

    kind = "application/vnd.docker.image.rootfs.diff.tar" + (".gzip" if compressed else "")
    rows = [blob(gzip.compress(each, mtime=5) if compressed else each, kind) for each in tars]
    config = config_of(tars, **more)
    manifest = {
        "schemaVersion": 2,
        "config": blob(json.dumps(config).encode(), "application/vnd.docker.container.image.v1+json"),
        "layers": rows,
        "annotations": {"from": "base"},
    }
    of = {"platform": {"architecture": config["architecture"], "os": "linux"}}
    unknown = {"platform": {"architecture": "unknown", "os": "unknown"}}
    found = [
        blob(json.dumps(manifest).encode(), "application/vnd.oci.image.manifest.v1+json", **of),
        blob(b"{}", "application/vnd.oci.image.manifest.v1+json", **unknown),
    ]
    nested = blob(json.dumps({"manifests": found}).encode(), "application/vnd.oci.image.index.v1+json")
    (target / "blobs" / "sha256").mkdir(parents=True)
    for digest, content in blobs.items():
        (target / "blobs" / "sha256" / digest).write_bytes(content)
    (target / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    (target / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [nested]}))
    return target


def tar_of_folder(folder: Path, target: Path, mode: str = "w") -> Path:
    """Write a layout as a tar; ``mode`` is that of `tarfile`."""
    with tarfile.open(target, mode) as archive:  # type: ignore[call-overload]
        archive.add(folder, ".")
    return target
