"""Fetches a version of a layer from AWS, by its ARN; what was fetched once is kept, since a version never changes."""

from __future__ import annotations

import base64
import logging
import re
import urllib.request
from typing import TYPE_CHECKING

from layer_minimizer.aws import client
from layer_minimizer.core import cache
from layer_minimizer.core.errors import PublishError
from layer_minimizer.core.files import replacing, sha256_of

if TYPE_CHECKING:
    from pathlib import Path

log = logging.getLogger(__name__)
_ARN = re.compile(
    r"(?P<layer>arn:[a-zA-Z0-9-]+:lambda:(?P<region>[a-zA-Z0-9-]+):\d{12}:layer:[a-zA-Z0-9_-]+):(?P<version>\d+)"
)
_SECONDS = 60


def is_arn(name: str) -> bool:
    """Return whether this is the ARN of a version of a layer."""
    return _ARN.fullmatch(name) is not None


def fetch(arn: str) -> Path:
    """Return the zip of a version of a layer, after comparing its hash with the one that Lambda tells.

    Raises:
        PublishError: boto3 is not installed, AWS refuses or cannot be reached, or the zip is another.
    """
    found = _ARN.fullmatch(arn)
    if found is None:
        raise ValueError(arn)
    with client.translate_boto_errors(f"fetching {arn}"):
        # In the ARN's own region; a layer of another account is named by its ARN, too.
        lambda_ = client.client("lambda", found["region"])
        answer = lambda_.get_layer_version(LayerName=found["layer"], VersionNumber=int(found["version"]))
    content = answer["Content"]
    wanted = base64.b64decode(content["CodeSha256"])
    kept = cache.cache_folder("layers") / f"{wanted.hex()}.zip"
    if not (kept.is_file() and sha256_of(kept) == wanted):
        log.info("fetching %s (%s bytes)", arn, f"{content['CodeSize']:,}")
        _download(arn, content["Location"], wanted, kept)
    return kept


def _download(arn: str, location: str, wanted: bytes, target: Path) -> None:
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with replacing(target) as part:
            with urllib.request.urlopen(location, timeout=_SECONDS) as source, part.open("wb") as sink:  # noqa: S310 - AWS's answer
                while block := source.read(1 << 20):
                    sink.write(block)
            if sha256_of(part) != wanted:
                raise PublishError(f"fetching {arn}: the zip has another hash than Lambda tells; try again")
    except (OSError, ValueError, urllib.error.URLError) as exc:
        raise PublishError(f"fetching {arn}: {exc}; see whether the network or a proxy is the cause") from exc
