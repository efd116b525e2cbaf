"""The environment variables of Lambda with the name and memory of a function."""

from __future__ import annotations


def function_variables(function: str, memory: int) -> dict[str, str]:
    """Return the variables for a function of this name; ``memory`` is in MiB."""
    return {
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(memory),
        "AWS_LAMBDA_FUNCTION_NAME": function,
        "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
        "AWS_LAMBDA_LOG_GROUP_NAME": f"/aws/lambda/{function}",
        "AWS_LAMBDA_LOG_STREAM_NAME": "1970/01/01/[$LATEST]6c6179657273",
    }
