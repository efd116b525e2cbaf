"""Downloads layer versions by ARN. The zips are cached, since a version never changes."""

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
_TIMEOUT_SECONDS = 60


def is_arn(name: str) -> bool:
    """Return whether ``name`` is the ARN of a layer version."""
    return _ARN.fullmatch(name) is not None


def fetch(arn: str) -> Path:
    """Return the path of the zip of a layer version, whose hash is the one that Lambda reports.

    Raises:
        PublishError: boto3 is not installed, AWS refuses or cannot be reached, or the zip has another hash.
    """
    match = _ARN.fullmatch(arn)
    if match is None:
        raise ValueError(arn)
    with client.translate_boto_errors(f"fetching {arn}"):
        # In the region of the ARN. The request names the layer by ARN, which also works for other accounts.
        lambda_ = client.client("lambda", match["region"])
        response = lambda_.get_layer_version(LayerName=match["layer"], VersionNumber=int(match["version"]))
    content = response["Content"]
    expected = base64.b64decode(content["CodeSha256"])
    cached = cache.cache_folder("layers") / f"{expected.hex()}.zip"
    if not (cached.is_file() and sha256_of(cached) == expected):
        log.info("fetching %s (%s bytes)", arn, f"{content['CodeSize']:,}")
        _download(arn, content["Location"], expected, cached)
    return cached


def _download(arn: str, location: str, expected: bytes, target: Path) -> None:
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with replacing(target) as part:
            with urllib.request.urlopen(location, timeout=_TIMEOUT_SECONDS) as source, part.open("wb") as sink:  # noqa: S310 - an address that AWS returned
                while block := source.read(1 << 20):
                    sink.write(block)
            if sha256_of(part) != expected:
                raise PublishError(f"fetching {arn}: the hash of the zip is not the one that Lambda reports; try again")
    except (OSError, ValueError, urllib.error.URLError) as exc:
        raise PublishError(f"fetching {arn}: {exc}; check the network connection and the proxy") from exc
