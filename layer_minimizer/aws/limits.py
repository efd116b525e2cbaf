"""The limits that AWS Lambda documents, and the size limit of one layer."""

from __future__ import annotations

# https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html
INIT_SECONDS = 10.0
# https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html
LONGEST_SECONDS = 900
# https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html
LAMBDA_UNZIPPED_BYTES = 262_144_000
LAMBDA_DIRECT_UPLOAD_BYTES = 50 * 1024 * 1024
LAMBDA_TMP_BYTES = 512 * 1024 * 1024
