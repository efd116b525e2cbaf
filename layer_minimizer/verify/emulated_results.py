"""Judges what an emulated Lambda answered: bodies against the first run's results, and what a failure comes from."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from layer_minimizer.aws.limits import LONGEST_SECONDS
from layer_minimizer.core.errors import VerifyError
from layer_minimizer.model.results import compare_results

if TYPE_CHECKING:
    from collections.abc import Sequence

    from layer_minimizer.model.trace import Trace
    from layer_minimizer.verify.emulated_place import EmulatorRun

_MIB = 1 << 20
_OK = 200
_LOG_LINES = 15
# It writes into the same stream, behind what the function has not ended with a line feed.
_EMULATORS_OWN = re.compile(r"\d\d \w{3} \d{4} [\d:,]+ \[\w+\] \(rapid\).*|^(?:START|END|REPORT) RequestId: .*")
# What an error of the handler's own comes from when the first run did not have it: the error, and the cause.
_CAUSES = {
    r"Read-only file system|\[Errno 30\]": (
        "In Lambda a function can write to /tmp and nowhere else; in the first run its folder was writable"
    ),
    r"\[Errno 13\]|Permission denied": (
        "In Lambda a function is an ordinary user who can write to /tmp alone, and reads only what everybody may read"
    ),
    (
        r"Network is unreachable|name resolution|Name or service not known|Connection refused|urlopen error|"
        r"Could not connect|Connection aborted"
    ): "The emulated function has no network, and the first run had one; give an event that does without",
    r"No space left on device|\[Errno 28\]": (
        "The function has {tmp_size:,} MB in /tmp; --tmp-size gives more, as a function's setting does in Lambda"
    ),
    r"version [`'](?:GLIBC|GLIBCXX|CXXABI)[^']*' not found|GLIBC_PRIVATE": (
        "The C library of {where} is older than the one that the library was built for: install a build for an older "
        "one, and let --runtime check it"
    ),
    r"Too many open files|\[Errno 24\]": "In Lambda a function has 1,024 file descriptors",
    r"\bshm\b|\[Errno 38\]|SemLock|_multiprocessing": (
        "Lambda has no /dev/shm: multiprocessing's locks and queues need it, pipes and processes do not"
    ),
    r"No module named|cannot open shared object|No such file or directory": (
        "What the first run found is neither in the layer nor in {where}"
    ),
    r"KeyError": "The variables of this machine's environment are not set in Lambda",
}


@dataclass(frozen=True, slots=True)
class ExpectedResults:
    """What a run is judged by: the first run, and the limits (MB) and the place of this one."""

    trace: Trace
    tolerance: float
    memory: int
    tmp_size: int
    where: str


def check_results(case: ExpectedResults, ran: EmulatorRun, events: int) -> None:
    """Compare the bodies for ``events`` events with the first run's results; the status of an invocation says little.

    Raises:
        VerifyError: one is no result, or another one.
    """
    if ran.over:
        raise VerifyError(
            f"in emulated Lambda the process was killed: it needs more than {case.memory:,} MB (peak "
            f"{ran.peak / _MIB:,.0f} MB); --memory gives more, as a function's setting does in Lambda"
        )
    script = case.trace.kind == "script"
    expected = {result.event: result for result in case.trace.results}
    for event, status, body in ran.answers:
        result = expected["stdout" if script else event]
        value = _parsed(body)
        text = value if script and isinstance(value, str) else body
        mismatches = compare_results([result], {result.event: text}, case.tolerance)
        if not mismatches:
            continue
        if why := _failure(status, body, value, ran):
            raise VerifyError(f"in emulated Lambda event {event!r} fails: {_explained(why, case)}")
        raise VerifyError(f"in emulated Lambda the results differ:\n  {mismatches[0]}")
    if len(ran.answers) < events:
        raise VerifyError(f"in emulated Lambda the function ended early:\n{_end_of(ran.log)}")


def _parsed(body: str) -> Any:
    try:
        return json.loads(body)
    except ValueError:
        return None


def _failure(status: int, body: str, value: Any, ran: EmulatorRun) -> str:
    """Say how an invocation failed; empty if it gave a result."""
    if isinstance(value, dict) and "errorType" in value:
        said = f"{value['errorType']}: {value.get('errorMessage', '')}"
        stack = "".join(f"{line.rstrip()}\n" for line in value.get("stackTrace") or () if isinstance(line, str))
        if str(value["errorType"]).startswith("Runtime.") and not stack:
            stack = _end_of(ran.log)  # the process ended, or did not begin: only its output tells why
        return f"{said}\n{stack}".rstrip()
    if body.startswith("Task timed out"):
        return f"{body}. In Lambda it would be stopped as well; --timeout gives more, up to {LONGEST_SECONDS} s"
    if (value is None and body.strip() != "null") or status != _OK:
        return f"it gave no JSON (status {status}): {body[:500]}\n{_end_of(ran.log)}"
    return ""


def _end_of(log: Sequence[str]) -> str:
    """Return what the function itself said last."""
    own = (_EMULATORS_OWN.sub("", line) for line in log)
    return "\n".join([line for line in own if line.strip()][-_LOG_LINES:])


def _explained(why: str, case: ExpectedResults) -> str:
    for pattern, cause in _CAUSES.items():
        if re.search(pattern, why):
            return f"{why}\n{cause.format(tmp_size=case.tmp_size, where=case.where)}."
    return why
