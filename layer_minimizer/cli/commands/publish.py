"""``minimize publish``: publish a layer's zip as a new version of a layer."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from layer_minimizer.aws import publish

if TYPE_CHECKING:
    import argparse

    from layer_minimizer.aws.publish import Published


def publish_layer(options: argparse.Namespace) -> Published:
    """Publish a layer's zip.

    Raises:
        MinimizeError: as `publish.publish`.
    """
    for name in ("boto3", "botocore", "urllib3"):
        # They tell of every step and, when asked for more, of the headers that sign a request.
        logging.getLogger(name).setLevel(logging.WARNING)
    return publish.publish(
        options.archive,
        name=options.name,
        runtimes=options.runtime,
        architectures=options.architecture,
        bucket=options.bucket,
        key=options.key,
        keep_object=options.keep_object,
        region=options.region,
        description=options.description,
        license_info=options.license,
        dry_run=options.dry_run,
    )
