"""Every error that a user can cause, and the exit code that each one ends the command with.

Exit codes: 0 success, 1 a bug of this tool (Python's own code for an uncaught exception), 2 a wrong argument or
input file, 3 to 8 the stage that failed, 9 a layer that grew more than was allowed, 130 interrupted by Ctrl-C.
"""

from __future__ import annotations

SUCCESS, BUG, INTERRUPTED = 0, 1, 130


class MinimizeError(Exception):
    """Base of all errors that are the input's or the machine's fault; its text says what, where, and what to do.

    ``meaning`` is what the documentation says of the exit code.
    """

    exit_code: int
    meaning: str


class UsageError(MinimizeError):
    """An argument or an input file (entry, event, model, saved trace) that cannot be used."""

    exit_code = 2
    meaning = "a wrong argument or input file"


class TraceError(MinimizeError):
    """The workload does not run, or does not run to its end, in the user's own environment."""

    exit_code = 3
    meaning = "the entry does not run in its own environment (its own traceback is shown)"


class PlanError(MinimizeError):
    """No sound decision about the installed files is possible."""

    exit_code = 4
    meaning = "nothing to plan: a name or pattern fits nothing, or no installed file is used"


class PackError(MinimizeError):
    """The layer cannot be written, or it would break one of Lambda's limits."""

    exit_code = 5
    meaning = (
        "the layer, or the result on standard output, cannot be written"
        "; or the layer is larger than the limit, or would not work in `--runtime`"
    )


class VerifyError(MinimizeError):
    """The layer alone does not give the results that the full environment gave."""

    exit_code = 6
    meaning = "the layer alone does not give the same results"


class RunnerError(MinimizeError):
    """The place where the workload should run (an interpreter, an observer, a container) cannot be used."""

    exit_code = 7
    meaning = "the interpreter, the observer or the container engine cannot be used"


class GrowthError(MinimizeError):
    """A layer is larger than an earlier one by more than was allowed."""

    exit_code = 9
    meaning = "the layer has grown by more than `minimize diff --fail-above` allows"


class PublishError(MinimizeError):
    """AWS refuses to take or give a layer, or cannot be asked: no credentials, permission, region, or way to it."""

    exit_code = 8
    meaning = "AWS refuses to publish or to give a layer, or cannot be reached"


def exit_codes() -> dict[int, str]:
    """Return all exit codes of the command and what they mean, in the order in which the documentation lists them."""
    classes = sorted(MinimizeError.__subclasses__(), key=lambda each: each.exit_code)
    return {
        SUCCESS: "a verified layer was written or published, or the question was answered",
        **{each.exit_code: each.meaning for each in classes},
        INTERRUPTED: "interrupted; nothing was written",
        BUG: "a bug of this tool: please report it",
    }
