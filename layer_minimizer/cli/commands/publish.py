"""``minimize publish``: publish a layer's zip as a new version of a layer."""

from __future__ import annotations

import logging
from dataclasses import asdict
from typing import TYPE_CHECKING

from layer_minimizer.aws import publish

if TYPE_CHECKING:
    from layer_minimizer.aws.publish import Published
    from layer_minimizer.settings import Messages, PublishOptions


def run(options: PublishOptions, _messages: Messages) -> Published:
    """Publish one layer's zip; return the published version.

    Raises:
        MinimizeError: as `publish.publish`.
    """
    for name in ("boto3", "botocore", "urllib3"):
        # They log every step and, at level DEBUG, the headers that sign a request.
        logging.getLogger(name).setLevel(logging.WARNING)
    chosen = asdict(options)
    del chosen["json"]  # the output format, not an argument of the upload
    return publish.publish(chosen.pop("archive"), **chosen)
