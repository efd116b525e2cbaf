"""The errors of this tool, and their exit codes.

Exit codes: 0 success, 1 a bug of this tool (Python's own code for an uncaught exception), 2 a wrong argument or
input file, 3 to 8 the stage that failed, 9 a layer that grew more than allowed, 130 interrupted by Ctrl-C.
"""

from __future__ import annotations

SUCCESS, BUG, INTERRUPTED = 0, 1, 130


class MinimizeError(Exception):
    """Base of all errors caused by the input or the machine. Messages say what failed, where, and what to do.

    Attributes:
        exit_code: the exit code of the command.
        meaning: the description of the exit code in the documentation.
    """

    exit_code: int
    meaning: str


class UsageError(MinimizeError):
    """An argument or an input file (entry, event, model, saved trace) is not valid."""

    exit_code = 2
    meaning = "a wrong argument or input file"


class TraceError(MinimizeError):
    """The workload does not run, or does not run to its end, in the user's own environment."""

    exit_code = 3
    meaning = "the entry does not run in its own environment (its own traceback is shown)"


class PlanError(MinimizeError):
    """A plan is not possible: no installed file is used, or a name or pattern matches nothing."""

    exit_code = 4
    meaning = "nothing to plan: a name or pattern matches nothing, or no installed file is used"


class PackError(MinimizeError):
    """An output cannot be written, or the layer would exceed a limit or not work in the runtime."""

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
    """The interpreter, its packages, the observer or the container engine that should run the workload do not work."""

    exit_code = 7
    meaning = "the interpreter, the observer or the container engine cannot be used, or packages cannot be installed"


class GrowthError(MinimizeError):
    """A layer has grown by more than allowed."""

    exit_code = 9
    meaning = "the layer has grown by more than `minimize diff --fail-above` allows"


class PublishError(MinimizeError):
    """A request to AWS failed: no credentials, permission, region or connection, or AWS rejected it."""

    exit_code = 8
    meaning = "AWS refuses to publish or to provide a layer, or cannot be reached"


def exit_codes() -> dict[int, str]:
    """Return the meanings of all exit codes, in the order of the documentation."""
    classes = sorted(MinimizeError.__subclasses__(), key=lambda each: each.exit_code)
    return {
        SUCCESS: "success: a verified layer was written or published, or the requested information was printed",
        **{each.exit_code: each.meaning for each in classes},
        INTERRUPTED: "interrupted; nothing was written",
        BUG: "a bug of this tool: please report it",
    }
