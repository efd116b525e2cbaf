"""Publishes the zip of a layer as a new version, unless the newest version is identical.

The zip is sent in the request or, if it is too large for a request, through an object in S3 that is deleted afterwards.
Arguments and zip are checked before the first request to AWS.
"""

from __future__ import annotations

import base64
import hashlib
import json
import logging
import re
import uuid
import zipfile
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from layer_minimizer.aws.client import client, error_code, translate_boto_errors
from layer_minimizer.aws.limits import LAMBDA_REQUEST_BYTES, LAMBDA_UNZIPPED_BYTES, SITE_FOLDER
from layer_minimizer.aws.runtimes import ARCHITECTURES
from layer_minimizer.core.errors import MinimizeError, PackError, PublishError, UsageError
from layer_minimizer.core.files import UNREADABLE_ZIP, lies_outside

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Iterator
    from io import BufferedReader

    StrPath = str | os.PathLike[str]

log = logging.getLogger(__name__)
# https://docs.aws.amazon.com/lambda/latest/api/API_PublishLayerVersion.html
_NAME = re.compile(r"(arn:[a-zA-Z0-9-]+:lambda:[a-zA-Z0-9-]+:\d{12}:layer:)?([a-zA-Z0-9_-]+)")
_NAME_LENGTH = 140
_DESCRIPTION_LENGTH = 256
_LICENSE_LENGTH = 512
_RUNTIMES = 15
_RUNTIME = re.compile(r"python3\.\d+|provided\.al\d+")
_UPLOAD_ID = "layer-minimizer-upload"


class UploadMethod(StrEnum):
    """How the zip is sent to Lambda: in the request, or through S3."""

    DIRECT = "direct"
    S3 = "s3"


@dataclass(frozen=True, slots=True)
class Published:
    """The layer version with the contents of the zip; no ARN and no version after a dry run that would publish one."""

    arn: str | None
    version: int | None
    code_sha256: str
    created: bool
    through: UploadMethod
    zipped_bytes: int
    unzipped_bytes: int

    def to_json(self) -> dict[str, object]:
        """Return the JSON that ``minimize publish --json`` prints."""
        return {
            "arn": self.arn,
            "version": self.version,
            "code_sha256": self.code_sha256,
            "created": self.created,
            "through": str(self.through),
            "bytes": self.zipped_bytes,
            "unzipped_bytes": self.unzipped_bytes,
        }


@dataclass(frozen=True, slots=True)
class _Staging:
    """The object in S3 that holds the zip until Lambda has read it; ``keep``: do not delete it afterwards."""

    bucket: str
    key: str
    keep: bool

    def __str__(self) -> str:
        return f"s3://{self.bucket}/{self.key}"


@dataclass(frozen=True, slots=True)
class _Target:
    """Where to publish: layer name, fields of the request except the zip, object in S3, region and profile."""

    name: str
    fields: dict[str, Any]
    staging: _Staging
    region: str
    profile: str


@dataclass(frozen=True, slots=True)
class _Layer:
    """The zip to publish: path, SHA-256 in base64, upload method, compressed and uncompressed size in bytes."""

    path: Path
    digest: str
    through: UploadMethod
    zipped: int
    unzipped: int

    def published(self, arn: str | None, version: int | None, *, created: bool) -> Published:
        """Return the result for a layer version with this zip."""
        return Published(arn, version, self.digest, created, self.through, self.zipped, self.unzipped)


def publish(  # noqa: PLR0913 - these are the command's options, by keyword only
    archive: StrPath,
    *,
    name: str,
    runtimes: Iterable[str],
    architectures: Iterable[str] = (),
    bucket: str = "",
    key: str = "",
    keep_object: bool = False,
    region: str = "",
    profile: str = "",
    description: str = "",
    license_info: str = "",
    dry_run: bool = False,
) -> Published:
    """Publish ``archive`` as a new version of the layer ``name``, unless the newest version is identical.

    Identical means: same contents, runtimes and architectures. boto3 finds credentials, region and endpoint.

    Args:
        archive: the zip of the layer.
        name: the name of the layer, or its ARN without a version.
        runtimes: compatible runtimes, such as ``python3.12``.
        architectures: compatible architectures, ``x86_64`` or ``arm64``; empty: unspecified.
        bucket: the S3 bucket for a zip that is too large for a request; in the region of the layer.
        key: the key of the object in the bucket, which must not exist; default: a unique key.
        keep_object: do not delete the object afterwards.
        region: the AWS region; default: boto3's.
        profile: the profile in ~/.aws/config for credentials and region; default: boto3's.
        description: the description of the version.
        license_info: an SPDX identifier, a URL or a text.
        dry_run: publish nothing, only log what would be published.

    Raises:
        UsageError: an argument is invalid, or the archive is not a valid zip of a layer.
        PackError: the archive exceeds one of Lambda's limits.
        PublishError: boto3 is not installed, AWS refuses, or cannot be reached.
    """
    fields = _fields(name, runtimes, architectures, description, license_info)
    if (key or keep_object) and not bucket:
        raise UsageError("--key and --keep-object need --bucket")
    key = key or f"layer_minimizer/{name.rpartition(':')[2]}-{uuid.uuid4()}.zip"
    target = _Target(name, fields, _Staging(bucket, key, keep_object), region, profile)
    with _opened(Path(archive)) as source:
        layer = _examine(Path(archive), source, target)
        with translate_boto_errors(f"publishing {layer.path} as {name}"):
            lambda_ = client("lambda", region, profile)
            newest = _newest(lambda_, name)
            if newest is not None and _is_same(lambda_, name, newest, fields, layer.digest):
                log.info("version %s of %s is identical: nothing to publish", newest["Version"], name)
                return layer.published(newest["LayerVersionArn"], newest["Version"], created=False)
            client_region = lambda_.meta.region_name
            if dry_run:
                _announce(layer, target, newest, client_region)
                return layer.published(None, None, created=False)
            log.info("publishing %s (%s bytes) as %s in %s", layer.path, f"{layer.zipped:,}", name, client_region)
            response = _send(lambda_, layer, source, target)
    log.info("published %s", response["LayerVersionArn"])
    _require_same_bytes(layer, response)
    return layer.published(response["LayerVersionArn"], response["Version"], created=True)


def _opened(path: Path) -> BufferedReader:
    try:
        return path.open("rb")
    except OSError as exc:
        what = "a folder or an image cannot be published as a layer: make the zip, with --format layer"
        raise UsageError(f"{path}: {exc.strerror}; {what if path.is_dir() else 'name the zip of a layer'}") from exc


def _examine(path: Path, source: BufferedReader, target: _Target) -> _Layer:
    """Check the zip against Lambda's limits, and return its data."""
    unzipped = _check_archive(path, source, target.fields["CompatibleRuntimes"])
    source.seek(0)
    digest = base64.b64encode(hashlib.file_digest(source, "sha256").digest()).decode()
    zipped = source.tell()
    return _Layer(path, digest, _upload_method(path, zipped, target.fields, target.staging.bucket), zipped, unzipped)


def _announce(layer: _Layer, target: _Target, newest: dict[str, Any] | None, region: str) -> None:
    """Log what would be published."""
    state = f"its newest version is {newest['Version']}" if newest else "it has no version yet"
    method = f"through s3://{target.staging.bucket}" if layer.through is UploadMethod.S3 else "directly"
    size = f"{layer.zipped:,} bytes"
    log.info("would publish %s (%s) as %s in %s, %s; %s", layer.path, size, target.name, region, method, state)


def _send(lambda_: Any, layer: _Layer, source: BinaryIO, target: _Target) -> dict[str, Any]:
    """Publish the zip, and return Lambda's response."""
    source.seek(0)
    response: dict[str, Any]
    if layer.through is UploadMethod.DIRECT:
        response = lambda_.publish_layer_version(**target.fields, Content={"ZipFile": source.read()})
    else:
        with _uploaded(client("s3", target.region, target.profile), source, target.staging) as content:
            response = lambda_.publish_layer_version(**target.fields, Content=content)
    return response


def _require_same_bytes(layer: _Layer, response: dict[str, Any]) -> None:
    published = response["Content"]["CodeSha256"]
    if published != layer.digest:
        raise PublishError(
            f"{response['LayerVersionArn']} does not have the contents of {layer.path}: its CodeSha256 is "
            f"{published}, not {layer.digest}; it was changed during the upload: delete that version and publish again"
        )


def _fields(
    name: str, runtimes: Iterable[str], architectures: Iterable[str], description: str, license_info: str
) -> dict[str, Any]:
    """Check the arguments, and return the fields of the request except the zip."""
    runtimes, architectures = list(dict.fromkeys(runtimes)), list(dict.fromkeys(architectures))
    if not _NAME.fullmatch(name) or len(name) > _NAME_LENGTH:
        raise UsageError(
            f"--name {name}: a layer name consists of at most {_NAME_LENGTH} letters, digits, - and _; "
            "an ARN must end with the name of the layer, without a version"
        )
    if not runtimes or len(runtimes) > _RUNTIMES:
        raise UsageError(f"--runtime is given {len(runtimes)} times; a layer can have 1 to {_RUNTIMES} runtimes")
    for runtime in runtimes:
        if not _RUNTIME.fullmatch(runtime):
            raise UsageError(f"--runtime {runtime}: it must have the form python3.12 or provided.al2023")
    for architecture in architectures:
        if architecture not in ARCHITECTURES:
            raise UsageError(f"--architecture {architecture}: it must be one of {', '.join(ARCHITECTURES)}")
    for option, text, length in (
        ("--description", description, _DESCRIPTION_LENGTH),
        ("--license", license_info, _LICENSE_LENGTH),
    ):
        if len(text) > length:
            raise UsageError(f"{option} has {len(text)} characters; Lambda allows {length}: shorten it")
    fields = {
        "LayerName": name,
        "CompatibleRuntimes": runtimes,
        "CompatibleArchitectures": architectures,
        "Description": description,
        "LicenseInfo": license_info,
    }
    return {field: value for field, value in fields.items() if value}


def _check_archive(path: Path, source: BinaryIO, runtimes: list[str]) -> int:
    """Raise an error if Lambda would refuse the zip or could not unpack it. Return its unzipped size."""
    try:
        with zipfile.ZipFile(source) as archive:
            files = [entry for entry in archive.infolist() if not entry.is_dir()]
            unzipped = sum(entry.file_size for entry in files)
            # Checked before anything is unpacked: a small zip can contain terabytes of zeros.
            if unzipped > LAMBDA_UNZIPPED_BYTES:
                raise PackError(
                    f"{path} is {unzipped:,} bytes unzipped; AWS Lambda's limit for a function and its layers together "
                    f"is {LAMBDA_UNZIPPED_BYTES:,}: make the layer smaller, for example with --cold drop, or split it"
                )
            damaged = archive.testzip()
    except UNREADABLE_ZIP as exc:
        if path.suffix == ".tar":
            what = "an image is not published as a layer: push it to a registry, or make a zip with --format layer"
            raise UsageError(f"{path} is no zip; {what}") from exc
        raise UsageError(f"{path} cannot be unpacked as a zip: {exc}; create the layer again") from exc
    if damaged is not None:
        raise UsageError(f"{path} is damaged: the checksum of {damaged} is wrong; create the layer again")
    if not files:
        raise UsageError(f"{path} is empty; create the layer again")
    for entry in files:
        # The whole name: zipfile cuts a name at a NUL byte, other programs may not.
        file = entry.orig_filename
        if lies_outside(file):
            raise UsageError(
                f"{path} has a file {file!r} that would be unpacked outside of the layer; create the layer again"
            )
    _warn(path, [entry.filename for entry in files], runtimes)
    return unzipped


def _warn(path: Path, files: list[str], runtimes: list[str]) -> None:
    """Warn of packages that Lambda accepts but Python will not find."""
    if not any(file.startswith("python/") for file in files):
        log.warning("warning: %s has no top-level folder python/: Python will find no packages in this layer", path)
        return
    versions = {match[1] for match in map(SITE_FOLDER.match, files) if match}
    for runtime in runtimes:
        if versions and runtime.startswith("python") and runtime not in versions:
            listed = ", ".join(sorted(versions))
            log.warning(
                "warning: the packages in %s are in the folder of %s: %s does not read it", path, listed, runtime
            )


def _upload_method(path: Path, zipped: int, fields: dict[str, Any], bucket: str) -> UploadMethod:
    in_base64 = (zipped + 2) // 3 * 4
    if len(json.dumps({**fields, "Content": {"ZipFile": ""}})) + in_base64 < LAMBDA_REQUEST_BYTES:
        return UploadMethod.DIRECT
    if not bucket:
        raise PackError(
            f"{path} is {zipped:,} bytes, more than the 50 MB that fit into a request (a request must be smaller than "
            f"{LAMBDA_REQUEST_BYTES:,} bytes): upload it to S3 with --bucket, a bucket in the region of the layer"
        )
    return UploadMethod.S3


def _newest(lambda_: Any, name: str) -> dict[str, Any] | None:
    pages = lambda_.get_paginator("list_layer_versions").paginate(LayerName=name)
    try:
        versions = [version for page in pages for version in page.get("LayerVersions", ())]
    except lambda_.exceptions.ResourceNotFoundException:
        return None
    return max(versions, key=lambda version: int(version["Version"]), default=None)


def _is_same(lambda_: Any, name: str, version: dict[str, Any], fields: dict[str, Any], digest: str) -> bool:
    for field in ("CompatibleRuntimes", "CompatibleArchitectures"):
        if set(version.get(field) or ()) != set(fields.get(field, ())):
            return False
    response = lambda_.get_layer_version(LayerName=name, VersionNumber=version["Version"])
    return bool(response["Content"]["CodeSha256"] == digest)


@contextmanager
def _uploaded(s3: Any, source: BinaryIO, staging: _Staging) -> Iterator[dict[str, str]]:
    """Upload the zip to S3, and yield the object as the API names it. The object is always deleted afterwards."""
    upload_id = uuid.uuid4().hex
    try:
        log.info("uploading to %s", staging)
        version = _upload(s3, source, staging, upload_id)
        yield {"S3Bucket": staging.bucket, "S3Key": staging.key, **({"S3ObjectVersion": version} if version else {})}
    finally:
        if not staging.keep:
            try:
                _remove(s3, staging, upload_id)
            except KeyboardInterrupt:  # the first Ctrl-C during the deletion; the command ignores further ones
                _remove(s3, staging, upload_id)
                raise


def _upload(s3: Any, source: BinaryIO, staging: _Staging, upload_id: str) -> str:
    """Upload the object without overwriting one, and return its version, which is empty in an unversioned bucket."""
    try:
        response = s3.put_object(
            Bucket=staging.bucket, Key=staging.key, Body=source, IfNoneMatch="*", Metadata={_UPLOAD_ID: upload_id}
        )
    except s3.exceptions.ClientError as exc:
        # boto3 repeats a request whose response was lost. The object may then be from the first attempt.
        if error_code(exc) != "PreconditionFailed" or (response := _own_object(s3, staging, upload_id)) is None:
            raise
    return str(response.get("VersionId") or "")


def _own_object(s3: Any, staging: _Staging, upload_id: str) -> dict[str, Any] | None:
    """Return the metadata of the uploaded object, or None if there is no object or one of somebody else."""
    try:
        response: dict[str, Any] = s3.head_object(Bucket=staging.bucket, Key=staging.key)
    except s3.exceptions.ClientError as exc:
        if error_code(exc) in {"404", "NoSuchKey", "NoSuchBucket"}:
            return None
        raise
    return response if response.get("Metadata", {}).get(_UPLOAD_ID) == upload_id else None


def _remove(s3: Any, staging: _Staging, upload_id: str) -> None:
    """Delete the uploaded object. If this fails, log a warning that names the object."""
    try:
        with translate_boto_errors(f"deleting {staging}"):
            response = _own_object(s3, staging, upload_id)
            if response is None:
                return
            version = response.get("VersionId")
            # In a versioned bucket, deleting without a version keeps the contents.
            s3.delete_object(Bucket=staging.bucket, Key=staging.key, **({"VersionId": version} if version else {}))
            log.info("deleted %s", staging)
    except MinimizeError as exc:
        log.warning("warning: %s may still exist: %s", staging, exc)
