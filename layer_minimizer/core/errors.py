"""Every error that a user can cause, and the exit code that each one ends the command with.

Exit codes: 0 success, 1 a bug of this tool (Python's own code for an uncaught exception), 2 a wrong argument or
input file, 3 to 8 the stage that failed, 9 a layer that grew more than was allowed, 130 interrupted by Ctrl-C.
"""

from __future__ import annotations


class MinimizeError(Exception):
    """Base of all errors that are the input's or the machine's fault; its text says what, where, and what to do."""

    exit_code: int


class UsageError(MinimizeError):
    """An argument or an input file (entry, event, model, saved trace) that cannot be used."""

    exit_code = 2


class TraceError(MinimizeError):
    """The workload does not run, or does not run to its end, in the user's own environment."""

    exit_code = 3


class PlanError(MinimizeError):
    """No sound decision about the installed files is possible."""

    exit_code = 4


class PackError(MinimizeError):
    """The layer cannot be written, or it would break one of Lambda's limits."""

    exit_code = 5


class VerifyError(MinimizeError):
    """The layer alone does not give the results that the full environment gave."""

    exit_code = 6


class RunnerError(MinimizeError):
    """The place where the workload should run (an interpreter, an observer, a container) cannot be used."""

    exit_code = 7


class GrowthError(MinimizeError):
    """A layer is larger than an earlier one by more than was allowed."""

    exit_code = 9


class PublishError(MinimizeError):
    """AWS refuses to take or give a layer, or cannot be asked: no credentials, permission, region, or way to it."""

    exit_code = 8
