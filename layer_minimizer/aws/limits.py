"""Limits of AWS Lambda, and the folder of a layer from which Lambda imports packages."""

from __future__ import annotations

import re

LAMBDA_UNZIPPED_BYTES = 262_144_000
# Of a container image, uncompressed: https://docs.aws.amazon.com/lambda/latest/dg/images-create.html
LAMBDA_IMAGE_BYTES = 10 << 30
LAMBDA_DIRECT_UPLOAD_BYTES = 50 * 1024 * 1024
LAMBDA_TMP_BYTES = 512 * 1024 * 1024
# The limit in Lambda's error message. A request contains the zip in base64, so this allows about 50 MiB of zip.
LAMBDA_REQUEST_BYTES = 69_905_067
# Of one function: https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html
LAMBDA_LAYERS = 5
INIT_SECONDS = 10.0
MAX_TIMEOUT_SECONDS = 900
# The folder in a layer with the packages for one version of Python.
SITE_FOLDER = re.compile(r"python/lib/(python3\.\d+)/site-packages/")
