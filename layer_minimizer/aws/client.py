"""Asks AWS through boto3, an extra, and says what goes wrong in the words of AWS, with what to do."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from layer_minimizer.core.errors import PublishError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

# Lambda answers once it has unpacked the layer. Giving up before and asking again would publish it twice.
_ANSWER_SECONDS = 300
_CONNECT_SECONDS = 10
_CREDENTIALS = "give some: aws configure, --profile, AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
_LOGIN = "log in again (aws sso login, aws configure), choose another AWS_PROFILE, or set the clock right"
_REGION = "name a region with --region or AWS_DEFAULT_REGION, for instance eu-central-1"
_ALLOW = (
    "your identity must be allowed lambda:ListLayerVersions, lambda:GetLayerVersion and lambda:PublishLayerVersion, "
    "and with --bucket s3:PutObject, s3:GetObject and s3:DeleteObject (with versions: s3:DeleteObjectVersion)"
)
_LATER = "AWS is too busy: try again later, or let more attempts be made with AWS_MAX_ATTEMPTS=10"
_NETWORK = "see whether the network, a proxy, the region's name or AWS_ENDPOINT_URL is the cause, and try again"
_BUCKET = "--bucket takes the name of a bucket that exists, in the region where the layer is published"
_READ = "see what it says; credentials, the region and other settings come from AWS_* variables and ~/.aws/config"
# By AWS's error codes, and by the names of botocore's exceptions.
_REMEDIES = {
    **dict.fromkeys(("NoCredentialsError", "PartialCredentialsError"), _CREDENTIALS),
    **dict.fromkeys(("NoRegionError", "InvalidRegionError", "EndpointProviderError"), _REGION),
    **dict.fromkeys(("HTTPClientError", "ConnectionError"), _NETWORK),
    **dict.fromkeys(("ExpiredToken", "ExpiredTokenException", "RequestExpired", "RequestTimeTooSkewed"), _LOGIN),
    **dict.fromkeys(("InvalidClientTokenId", "UnrecognizedClientException", "InvalidAccessKeyId"), _LOGIN),
    **dict.fromkeys(("SignatureDoesNotMatch", "InvalidSignatureException", "SSOError", "LoginError"), _LOGIN),
    **dict.fromkeys(("AccessDenied", "AccessDeniedException"), _ALLOW),
    "403": f"{_ALLOW}; or {_LOGIN}",  # without a code it may be the one or the other
    **dict.fromkeys(("TooManyRequestsException", "ThrottlingException", "SlowDown", "ServiceUnavailable"), _LATER),
    **dict.fromkeys(("NoSuchBucket", "PermanentRedirect", "AuthorizationHeaderMalformed"), _BUCKET),
    "CodeStorageExceededException": "delete versions that no function uses: aws lambda delete-layer-version",
    "PreconditionFailed": "there is an object of this name, and it is left as it is: choose another --key",
}


def client(service: str, region: str, profile: str = "") -> Any:
    """Return boto3's client, which retries and looks for credentials by itself."""
    import boto3  # noqa: PLC0415 - an extra that only this command needs
    from botocore.config import Config  # noqa: PLC0415

    config = Config(
        retries={"mode": "standard"},
        connect_timeout=_CONNECT_SECONDS,
        read_timeout=_ANSWER_SECONDS,
        user_agent_extra="layer_minimizer",
    )
    try:
        return boto3.Session(region_name=region or None, profile_name=profile or None).client(service, config=config)
    except ValueError as exc:  # what botocore raises of an AWS_ENDPOINT_URL or AWS_MAX_ATTEMPTS without sense
        raise PublishError(f"boto3 cannot use these settings: {_words(exc)}; {_remedy(exc)}") from exc


@contextmanager
def translate_boto_errors(doing: str) -> Iterator[None]:
    """Raise what goes wrong with AWS as our own errors, in boto3's words and with what to do."""
    try:
        from boto3.exceptions import Boto3Error  # noqa: PLC0415 - an extra that only this command needs
        from botocore.exceptions import BotoCoreError, ClientError, ParamValidationError  # noqa: PLC0415
    except ImportError as exc:
        raise PublishError(f"{doing} needs boto3 ({exc}): pip install 'layer_minimizer[aws]'") from exc
    try:
        yield
    except ParamValidationError as exc:
        raise UsageError(f"{doing}: {_words(exc)}") from exc
    except (Boto3Error, BotoCoreError, ClientError) as exc:
        raise PublishError(f"{doing}: {_words(exc)}; {_remedy(exc)}") from exc


def _words(exc: Exception) -> str:
    return str(exc).rstrip(".")


def error_code(exc: Exception) -> str:
    """Return AWS's code of an error, where it comes from AWS."""
    response: dict[str, Any] = getattr(exc, "response", None) or {}
    return str(response.get("Error", {}).get("Code", ""))


def _remedy(exc: Exception) -> str:
    names = [error_code(exc), *(kind.__name__ for kind in type(exc).__mro__)]
    return next((_REMEDIES[name] for name in names if name in _REMEDIES), _READ)
