"""The limits that AWS Lambda documents, and the size limit of one layer."""

from __future__ import annotations

import re

LAMBDA_UNZIPPED_BYTES = 262_144_000
LAMBDA_DIRECT_UPLOAD_BYTES = 50 * 1024 * 1024
LAMBDA_TMP_BYTES = 512 * 1024 * 1024
# What Lambda's own refusal names; the zip is in the request as base64, so it is about 50 MiB of zip.
LAMBDA_REQUEST_BYTES = 69_905_067
INIT_SECONDS = 10.0
LONGEST_SECONDS = 900
# Where in a layer the packages for one version of Python lie.
SITE_FOLDER = re.compile(r"python/lib/(python3\.\d+)/site-packages/")
