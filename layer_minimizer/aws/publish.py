"""Publishes a layer's zip as a new version, unless the newest one has the same content.

A zip goes in the request itself or, where it is too large for one, through an object in S3 that is gone afterwards.
Everything that can be known without AWS is checked before AWS is asked anything.
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
_RUNTIME = re.compile(r"python3\.\d+")
_MARK = "layer-minimizer-upload"


class UploadMethod(StrEnum):
    """How a zip gets to Lambda."""

    DIRECT = "direct"
    S3 = "s3"


@dataclass(frozen=True, slots=True)
class Published:
    """The version that has the zip's content; a dry run that would create one has no ARN and no version."""

    arn: str | None
    version: int | None
    code_sha256: str
    created: bool
    through: UploadMethod
    zipped_bytes: int
    unzipped_bytes: int

    def to_json(self) -> dict[str, object]:
        """Return it for programs."""
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
    """Where in S3 the zip lies while Lambda fetches it."""

    bucket: str
    key: str
    keep: bool

    def __str__(self) -> str:
        return f"s3://{self.bucket}/{self.key}"


@dataclass(frozen=True, slots=True)
class _Target:
    """What is published as: the layer's name, what the request says of it, and the way there."""

    name: str
    fields: dict[str, Any]
    staging: _Staging
    region: str
    profile: str


@dataclass(frozen=True, slots=True)
class _Layer:
    """The zip that is published."""

    path: Path
    digest: str
    through: UploadMethod
    zipped: int
    unzipped: int

    def published(self, arn: str | None, version: int | None, *, created: bool) -> Published:
        """Return what became of it."""
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
    """Publish ``archive`` as the newest version of the layer ``name``, unless the newest version is the same.

    The same are content, runtimes and architectures; credentials, region and endpoint are found as boto3 does.

    Args:
        archive: the layer's zip.
        name: of the layer, or its ARN without a version.
        runtimes: that the layer is for: ``python3.12``.
        architectures: that it is for: ``x86_64``, ``arm64``; none leaves it open.
        bucket: through which a zip is sent that is too large for a request; in the layer's region.
        key: of the object in it, which must not exist; default: a name of its own.
        keep_object: leave the object there.
        region: default: boto3's.
        profile: of ~/.aws/config, whose credentials and region count; default: boto3's.
        description: of the version.
        license_info: an SPDX identifier, an address or a text.
        dry_run: change nothing, only say what would be done.

    Raises:
        UsageError: an argument is wrong, or the archive is no zip of a layer.
        PackError: the archive is over one of Lambda's limits.
        PublishError: boto3 is not installed, AWS refuses, or cannot be reached.
    """
    fields = _fields(name, runtimes, architectures, description, license_info)
    if (key or keep_object) and not bucket:
        raise UsageError("--key and --keep-object go with --bucket")
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
            where = lambda_.meta.region_name
            if dry_run:
                _announce(layer, target, newest, where)
                return layer.published(None, None, created=False)
            log.info("publishing %s (%s bytes) as %s in %s", layer.path, f"{layer.zipped:,}", name, where)
            answer = _send(lambda_, layer, source, target)
    log.info("published %s", answer["LayerVersionArn"])
    _require_same_bytes(layer, answer)
    return layer.published(answer["LayerVersionArn"], answer["Version"], created=True)


def _opened(path: Path) -> BufferedReader:
    try:
        return path.open("rb")
    except OSError as exc:
        raise UsageError(f"{path}: {exc.strerror}; name the zip of a layer") from exc


def _examine(path: Path, source: BufferedReader, target: _Target) -> _Layer:
    """Return what there is to publish, if Lambda would take it."""
    unzipped = _check_archive(path, source, target.fields["CompatibleRuntimes"])
    source.seek(0)
    digest = base64.b64encode(hashlib.file_digest(source, "sha256").digest()).decode()
    zipped = source.tell()
    return _Layer(path, digest, _way(path, zipped, target.fields, target.staging.bucket), zipped, unzipped)


def _announce(layer: _Layer, target: _Target, newest: dict[str, Any] | None, where: str) -> None:
    """Say what would be done."""
    after = f"its newest version is {newest['Version']}" if newest else "it has no version yet"
    way = f"through s3://{target.staging.bucket}" if layer.through is UploadMethod.S3 else "directly"
    size = f"{layer.zipped:,} bytes"
    log.info("would publish %s (%s) as %s in %s, %s; %s", layer.path, size, target.name, where, way, after)


def _send(lambda_: Any, layer: _Layer, source: BinaryIO, target: _Target) -> dict[str, Any]:
    """Publish the zip, and return Lambda's answer."""
    source.seek(0)
    answer: dict[str, Any]
    if layer.through is UploadMethod.DIRECT:
        answer = lambda_.publish_layer_version(**target.fields, Content={"ZipFile": source.read()})
    else:
        with _uploaded(client("s3", target.region, target.profile), source, target.staging) as content:
            answer = lambda_.publish_layer_version(**target.fields, Content=content)
    return answer


def _require_same_bytes(layer: _Layer, answer: dict[str, Any]) -> None:
    there = answer["Content"]["CodeSha256"]
    if there != layer.digest:
        raise PublishError(
            f"{answer['LayerVersionArn']} holds other bytes than {layer.path}: its CodeSha256 is {there}, not "
            f"{layer.digest}; something changed the zip on its way: delete that version and publish again"
        )


def _fields(
    name: str, runtimes: Iterable[str], architectures: Iterable[str], description: str, license_info: str
) -> dict[str, Any]:
    """Return what the request says beside the zip, as the API names it."""
    runtimes, architectures = list(dict.fromkeys(runtimes)), list(dict.fromkeys(architectures))
    if not _NAME.fullmatch(name) or len(name) > _NAME_LENGTH:
        raise UsageError(
            f"--name {name}: a layer's name has letters, digits, - and _ alone and at most {_NAME_LENGTH} of them; "
            "its ARN ends with that name, and not with a version"
        )
    if not runtimes or len(runtimes) > _RUNTIMES:
        raise UsageError(f"--runtime is given {len(runtimes)} times; a layer has 1 to {_RUNTIMES}")
    for runtime in runtimes:
        if not _RUNTIME.fullmatch(runtime):
            raise UsageError(f"--runtime {runtime}: it must have the form python3.12")
    for architecture in architectures:
        if architecture not in ARCHITECTURES:
            raise UsageError(f"--architecture {architecture}: it must be one of {', '.join(ARCHITECTURES)}")
    for option, text, length in (
        ("--description", description, _DESCRIPTION_LENGTH),
        ("--license", license_info, _LICENSE_LENGTH),
    ):
        if len(text) > length:
            raise UsageError(f"{option} has {len(text)} characters; Lambda takes {length}: make it shorter")
    fields = {
        "LayerName": name,
        "CompatibleRuntimes": runtimes,
        "CompatibleArchitectures": architectures,
        "Description": description,
        "LicenseInfo": license_info,
    }
    return {field: value for field, value in fields.items() if value}


def _check_archive(path: Path, source: BinaryIO, runtimes: list[str]) -> int:
    """Refuse what Lambda would refuse, or could not unpack; give the unzipped size."""
    try:
        with zipfile.ZipFile(source) as archive:
            files = [entry for entry in archive.infolist() if not entry.is_dir()]
            unzipped = sum(entry.file_size for entry in files)
            # Before anything is unpacked: a small zip may hold terabytes of zeros.
            if unzipped > LAMBDA_UNZIPPED_BYTES:
                raise PackError(
                    f"{path} is {unzipped:,} bytes unzipped; AWS Lambda's limit for a function and its layers together "
                    f"is {LAMBDA_UNZIPPED_BYTES:,}: make the layer smaller, for instance with --cold drop, or make two"
                )
            damaged = archive.testzip()
    except UNREADABLE_ZIP as exc:
        raise UsageError(f"{path} is no zip that can be unpacked: {exc}; make the layer anew") from exc
    if damaged is not None:
        raise UsageError(f"{path} is damaged: {damaged} has another checksum than it should; make the layer anew")
    if not files:
        raise UsageError(f"{path} is empty; make the layer anew")
    for entry in files:
        # A name with a NUL is cut there by Python, and perhaps nowhere by others.
        file = entry.orig_filename
        if lies_outside(file):
            raise UsageError(f"{path} has a file {file!r}, which would lie outside of the layer; make the layer anew")
    _warn(path, [entry.filename for entry in files], runtimes)
    return unzipped


def _warn(path: Path, files: list[str], runtimes: list[str]) -> None:
    """Say what Lambda takes, and Python will not find."""
    if not any(file.startswith("python/") for file in files):
        log.warning("warning: %s has no folder python/ at its top: Python finds nothing in such a layer", path)
        return
    versions = {found[1] for found in map(SITE_FOLDER.match, files) if found}
    for runtime in runtimes:
        if versions and runtime not in versions:
            there = ", ".join(sorted(versions))
            log.warning("warning: the packages in %s lie in the folder of %s: %s does not see it", path, there, runtime)


def _way(path: Path, zipped: int, fields: dict[str, Any], bucket: str) -> UploadMethod:
    in_base64 = (zipped + 2) // 3 * 4
    if len(json.dumps({**fields, "Content": {"ZipFile": ""}})) + in_base64 < LAMBDA_REQUEST_BYTES:
        return UploadMethod.DIRECT
    if not bucket:
        raise PackError(
            f"{path} is {zipped:,} bytes, more than the 50 MB that can be sent directly (a request has less than "
            f"{LAMBDA_REQUEST_BYTES:,} bytes): name a bucket in the layer's region with --bucket, to send it through S3"
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
    there = lambda_.get_layer_version(LayerName=name, VersionNumber=version["Version"])
    return bool(there["Content"]["CodeSha256"] == digest)


@contextmanager
def _uploaded(s3: Any, source: BinaryIO, staging: _Staging) -> Iterator[dict[str, str]]:
    """Have the zip in S3, and name it as Lambda wants it; afterwards it is gone, whatever happens."""
    mark = uuid.uuid4().hex
    try:
        log.info("uploading to %s", staging)
        version = _upload(s3, source, staging, mark)
        yield {"S3Bucket": staging.bucket, "S3Key": staging.key, **({"S3ObjectVersion": version} if version else {})}
    finally:
        if not staging.keep:
            try:
                _remove(s3, staging, mark)
            except KeyboardInterrupt:  # of the first Ctrl-C: the command ignores a second
                _remove(s3, staging, mark)
                raise


def _upload(s3: Any, source: BinaryIO, staging: _Staging, mark: str) -> str:
    """Write the object and give its version, if the bucket has versions; nothing is overwritten."""
    try:
        answer = s3.put_object(
            Bucket=staging.bucket, Key=staging.key, Body=source, IfNoneMatch="*", Metadata={_MARK: mark}
        )
    except s3.exceptions.ClientError as exc:
        # boto3 asks again when an answer is lost, and then finds what its own first attempt has written.
        if error_code(exc) != "PreconditionFailed" or (answer := _marked(s3, staging, mark)) is None:
            raise
    return str(answer.get("VersionId") or "")


def _marked(s3: Any, staging: _Staging, mark: str) -> dict[str, Any] | None:
    """Return what S3 says of our object; None where there is none, or somebody else's."""
    try:
        answer: dict[str, Any] = s3.head_object(Bucket=staging.bucket, Key=staging.key)
    except s3.exceptions.ClientError as exc:
        if error_code(exc) in {"404", "NoSuchKey", "NoSuchBucket"}:
            return None
        raise
    return answer if answer.get("Metadata", {}).get(_MARK) == mark else None


def _remove(s3: Any, staging: _Staging, mark: str) -> None:
    """Delete our object; where that fails it is no reason to fail, and the user is told what is left."""
    try:
        with translate_boto_errors(f"deleting {staging}"):
            answer = _marked(s3, staging, mark)
            if answer is None:
                return
            version = answer.get("VersionId")
            # A delete without it would leave the bytes there in a bucket with versions.
            s3.delete_object(Bucket=staging.bucket, Key=staging.key, **({"VersionId": version} if version else {}))
            log.info("deleted %s", staging)
    except MinimizeError as exc:
        log.warning("warning: %s may be left: %s", staging, exc)
