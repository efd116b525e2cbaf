"""Creates boto3 clients, and translates the errors of boto3 into errors of this tool that say what to do."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from layer_minimizer.core.errors import PublishError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

# Lambda responds after it has unpacked the layer. A retry after an earlier timeout would publish the layer twice.
_ANSWER_SECONDS = 300
_CONNECT_SECONDS = 10
_CREDENTIALS = "set credentials: aws configure, --profile, AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
_LOGIN = "log in again (aws sso login, aws configure), choose another AWS_PROFILE, or correct the system clock"
_REGION = "set a region with --region or AWS_DEFAULT_REGION, for example eu-central-1"
_ALLOW = (
    "your identity needs the permissions lambda:ListLayerVersions, lambda:GetLayerVersion and "
    "lambda:PublishLayerVersion, and with --bucket s3:PutObject, s3:GetObject and s3:DeleteObject "
    "(for a versioned bucket: s3:DeleteObjectVersion)"
)
_LATER = "AWS limits the request rate: try again later, or allow more attempts with AWS_MAX_ATTEMPTS=10"
_NETWORK = "check the network connection, the proxy, the name of the region and AWS_ENDPOINT_URL, and try again"
_BUCKET = "--bucket must be an existing bucket in the region in which the layer is published"
_SETTINGS = "check the credentials, the region and the other settings in the AWS_* variables and in ~/.aws/config"
# What to do, by error code of AWS or class name of botocore's exception.
_REMEDIES = {
    **dict.fromkeys(("NoCredentialsError", "PartialCredentialsError"), _CREDENTIALS),
    **dict.fromkeys(("NoRegionError", "InvalidRegionError", "EndpointProviderError"), _REGION),
    **dict.fromkeys(("HTTPClientError", "ConnectionError"), _NETWORK),
    **dict.fromkeys(("ExpiredToken", "ExpiredTokenException", "RequestExpired", "RequestTimeTooSkewed"), _LOGIN),
    **dict.fromkeys(("InvalidClientTokenId", "UnrecognizedClientException", "InvalidAccessKeyId"), _LOGIN),
    **dict.fromkeys(("SignatureDoesNotMatch", "InvalidSignatureException", "SSOError", "LoginError"), _LOGIN),
    **dict.fromkeys(("AccessDenied", "AccessDeniedException"), _ALLOW),
    "403": f"{_ALLOW}; or {_LOGIN}",  # an HTTP status without an error code can mean either
    **dict.fromkeys(("TooManyRequestsException", "ThrottlingException", "SlowDown", "ServiceUnavailable"), _LATER),
    **dict.fromkeys(("NoSuchBucket", "PermanentRedirect", "AuthorizationHeaderMalformed"), _BUCKET),
    "CodeStorageExceededException": "delete unused layer versions: aws lambda delete-layer-version",
    "PreconditionFailed": "an object with this name exists and was not overwritten: choose another --key",
}


def client(service: str, region: str, profile: str = "") -> Any:
    """Return a boto3 client for a service. boto3 finds the credentials and retries failed requests."""
    import boto3  # noqa: PLC0415 - an optional dependency
    from botocore.config import Config  # noqa: PLC0415

    config = Config(
        retries={"mode": "standard"},
        connect_timeout=_CONNECT_SECONDS,
        read_timeout=_ANSWER_SECONDS,
        user_agent_extra="layer_minimizer",
    )
    try:
        return boto3.Session(region_name=region or None, profile_name=profile or None).client(service, config=config)
    except ValueError as exc:  # botocore raises it for an invalid AWS_ENDPOINT_URL or AWS_MAX_ATTEMPTS
        raise PublishError(f"boto3 cannot use these settings: {_message(exc)}; {_remedy(exc)}") from exc


@contextmanager
def translate_boto_errors(action: str) -> Iterator[None]:
    """Raise errors of boto3 as `PublishError` or `UsageError`, with the failed action and what to do."""
    try:
        from boto3.exceptions import Boto3Error  # noqa: PLC0415 - an optional dependency
        from botocore.exceptions import BotoCoreError, ClientError, ParamValidationError  # noqa: PLC0415
    except ImportError as exc:
        raise PublishError(f"{action} needs boto3 ({exc}): pip install 'layer_minimizer[aws]'") from exc
    try:
        yield
    except ParamValidationError as exc:
        raise UsageError(f"{action}: {_message(exc)}") from exc
    except (Boto3Error, BotoCoreError, ClientError) as exc:
        raise PublishError(f"{action}: {_message(exc)}; {_remedy(exc)}") from exc


def _message(exc: Exception) -> str:
    return str(exc).rstrip(".")


def error_code(exc: Exception) -> str:
    """Return the error code in a response of AWS, or an empty string for other errors."""
    response: dict[str, Any] = getattr(exc, "response", None) or {}
    return str(response.get("Error", {}).get("Code", ""))


def _remedy(exc: Exception) -> str:
    names = [error_code(exc), *(kind.__name__ for kind in type(exc).__mro__)]
    return next((_REMEDIES[name] for name in names if name in _REMEDIES), _SETTINGS)
