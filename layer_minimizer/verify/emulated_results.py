"""Compare the responses of emulated Lambda with the results of the trace, and explain failures."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from layer_minimizer.aws.limits import MAX_TIMEOUT_SECONDS
from layer_minimizer.core.errors import VerifyError
from layer_minimizer.layer.layout import Layout
from layer_minimizer.model.places import Places
from layer_minimizer.model.results import compare_results

if TYPE_CHECKING:
    from collections.abc import Sequence

    from layer_minimizer.model.trace import Trace
    from layer_minimizer.verify.emulated_place import EmulatorRun

_MIB = 1 << 20
_OK = 200
_LOG_LINES = 15
# The emulator writes to the same stream as the function, also in the middle of the function's lines.
_EMULATOR_MESSAGE = re.compile(r"\d\d \w{3} \d{4} [\d:,]+ \[\w+\] \(rapid\).*|^(?:START|END|REPORT) RequestId: .*")
# Errors of the handler that only occur in Lambda (patterns), and their causes.
_CAUSES = {
    r"Read-only file system|\[Errno 30\]": (
        "In Lambda a function can write to /tmp only; in the traced run its folder was writable, too"
    ),
    r"\[Errno 13\]|Permission denied": (
        "In Lambda a function is an ordinary user: it can write to /tmp only, and read only what all users can read"
    ),
    (
        r"Network is unreachable|name resolution|Name or service not known|Connection refused|urlopen error|"
        r"Could not connect|Connection aborted"
    ): "The emulated function has no network, unlike the traced run; use an event that needs none",
    r"No space left on device|\[Errno 28\]": (
        "The function has {tmp_size:,} MB in /tmp; set --tmp-size, and the same size for the function in Lambda"
    ),
    r"version [`'](?:GLIBC|GLIBCXX|CXXABI)[^']*' not found|GLIBC_PRIVATE": (
        "The C library of {where} is older than the one that the library was built for: install a build for an older "
        "C library, and check it with --runtime"
    ),
    r"Too many open files|\[Errno 24\]": "In Lambda a function has 1,024 file descriptors",
    r"\bshm\b|\[Errno 38\]|SemLock|_multiprocessing": (
        "Lambda has no /dev/shm: locks and queues of multiprocessing need it, pipes and processes do not"
    ),
    # Its module is None if it cannot be imported: awslambdaric/lambda_runtime_client.py.
    r"runtime_client\.next\(\)": (
        "AWS's runtime client cannot load its compiled part: {where} needs libstdc++ (Debian: libstdc++6)"
    ),
    r"No module named|cannot open shared object|No such file or directory": (
        "A file that the traced run used is neither in the layer nor in {where}"
    ),
    r"KeyError": "Environment variables of this machine are not set in Lambda",
}


@dataclass(frozen=True, slots=True)
class ExpectedResults:
    """What the responses are compared with.

    Attributes:
        trace: the traced run, with the expected results.
        tolerance: by how much numbers may differ.
        memory: the memory limit in MB.
        tmp_size: the size of /tmp in MB.
        where: the system that the function run on, for messages.
    """

    trace: Trace
    tolerance: float
    memory: int
    tmp_size: int
    where: str


def check_results(expected: ExpectedResults, run: EmulatorRun, events: int) -> None:
    """Compare the responses to ``events`` events with the expected results.

    Raises:
        VerifyError: an event failed, or its result differs.
    """
    if run.out_of_memory:
        raise VerifyError(
            f"in emulated Lambda the process was killed: it needs more than {expected.memory:,} MB (peak "
            f"{run.peak / _MIB:,.0f} MB); set --memory, and the same memory for the function in Lambda"
        )
    script = expected.trace.kind == "script"
    results = {result.event: result for result in expected.trace.named_results()}
    site = [f"/opt/{layout.prefix(expected.trace.python)}" for layout in Layout]
    places = Places.of(site=site, task="/var/task")
    for event, status, body in run.answers:
        result = results["stdout" if script else event]
        value = _parsed(body)
        text = value if script and isinstance(value, str) else body
        known = replace(result, value=places.rename(result.value))
        mismatches = compare_results([known], {result.event: places.rename(text)}, expected.tolerance)
        if not mismatches:
            continue
        if failure := _failure(status, body, value, run):
            raise VerifyError(f"in emulated Lambda event {event!r} fails: {_with_cause(failure, expected)}")
        raise VerifyError(f"in emulated Lambda the results differ:\n  {mismatches[0]}")
    if len(run.answers) < events:
        raise VerifyError(f"in emulated Lambda the function ended early:\n{_end_of(run.log)}")


def _parsed(body: str) -> Any:
    try:
        return json.loads(body)
    except ValueError:
        return None


def _failure(status: int, body: str, value: Any, run: EmulatorRun) -> str:
    """Return how an invocation failed; empty if it returned a result."""
    if isinstance(value, dict) and "errorType" in value:
        message = f"{value['errorType']}: {value.get('errorMessage', '')}"
        stack = "".join(f"{line.rstrip()}\n" for line in value.get("stackTrace") or () if isinstance(line, str))
        if str(value["errorType"]).startswith("Runtime.") and not stack:
            stack = _end_of(run.log)  # the process exited or did not start: only its output has the reason
        return f"{message}\n{stack}".rstrip()
    if body.startswith("Task timed out"):
        return f"{body}. Lambda would stop it as well; --timeout sets a longer time, up to {MAX_TIMEOUT_SECONDS} s"
    if (value is None and body.strip() != "null") or status != _OK:
        return f"the response is not valid JSON (status {status}): {body[:500]}\n{_end_of(run.log)}"
    return ""


def _end_of(log: Sequence[str]) -> str:
    """Return the last lines of the function's own output."""
    own = (_EMULATOR_MESSAGE.sub("", line) for line in log)
    return "\n".join([line for line in own if line.strip()][-_LOG_LINES:])


def _with_cause(failure: str, expected: ExpectedResults) -> str:
    """Return the failure with its cause in Lambda, if that is known."""
    for pattern, cause in _CAUSES.items():
        if re.search(pattern, failure):
            return f"{failure}\n{cause.format(tmp_size=expected.tmp_size, where=expected.where)}."
    return failure
