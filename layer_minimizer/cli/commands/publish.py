"""``minimize publish``: publish a layer's zip as a new version of a layer."""

from __future__ import annotations

import logging
from dataclasses import asdict
from typing import TYPE_CHECKING

from layer_minimizer.aws import publish

if TYPE_CHECKING:
    from layer_minimizer.aws.publish import Published
    from layer_minimizer.settings import PublishOptions


def publish_layer(options: PublishOptions) -> Published:
    """Publish a layer's zip.

    Raises:
        MinimizeError: as `publish.publish`.
    """
    for name in ("boto3", "botocore", "urllib3"):
        # They tell of every step and, when asked for more, of the headers that sign a request.
        logging.getLogger(name).setLevel(logging.WARNING)
    chosen = asdict(options)
    del chosen["json"]  # how its result is printed
    return publish.publish(chosen.pop("archive"), **chosen)
