"""The command ``minimize``: arguments in, one result out. The only place that prints and that ends the process.

The exit codes are listed in `core.errors`.
"""

from __future__ import annotations

import gc
import io
import json
import logging
import os
import signal
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NoReturn

from rich.text import Text

from layer_minimizer.cli import display, help_text, jobs, parser, streams
from layer_minimizer.cli.commands import compare, completion, diff, init, minimize, probe, publish, trace
from layer_minimizer.cli.commands import help as help_command
from layer_minimizer.cli.jobs import Job, Publication
from layer_minimizer.container import images
from layer_minimizer.core.errors import INTERRUPTED, MinimizeError, UsageError
from layer_minimizer.core.option_kinds import did_you_mean
from layer_minimizer.report.report import Report, json_text
from layer_minimizer.report.text import show
from layer_minimizer.settings import Messages

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

    from layer_minimizer.core.option_declarations import Options

log = logging.getLogger(__name__)
# How many objects are made before they are searched for garbage; at Python's 700 that takes 5 % of the processor time.
_GARBAGE_THRESHOLD = 100_000
# Windows, which can start containers, has no SIGHUP.
_END_SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))


@dataclass(frozen=True, slots=True)
class _TextJob:
    """One run of a command that reads no settings file and prints text."""

    options: Options
    messages: Messages
    name: str = ""


@dataclass(slots=True)
class _Invocation:
    """One invocation of the command: its jobs, the current one, and the results so far.

    ``state_before`` identifies the current job's output file as it was before the job, ``written`` are the layers made
    or published so far, and ``reports`` the JSON results by layer, which are printed together at the end.
    """

    command: str
    jobs: list[Job] | list[Publication] | list[_TextJob]
    current: Job | Publication | _TextJob
    state_before: str = ""
    written: list[str] = field(default_factory=list)
    reports: dict[str, Any] = field(default_factory=dict)

    def begin(self, job: Job | Publication) -> None:
        """Make a job the current one."""
        self.current, self.state_before = job, _file_state(self.output)

    @property
    def output(self) -> str:
        """The layer file of the current job; empty if the job makes none."""
        return minimize.output_file(self.current.request) if isinstance(self.current, Job) else ""

    @property
    def has_several(self) -> bool:
        """Whether there are several layers, whose names messages must contain."""
        return len(self.jobs) > 1

    def failure_prefix(self) -> str:
        """Return the prefix of an error message: the layer's name if there are several."""
        return f"layer {self.current.name}: " if self.has_several else ""

    def written_before(self) -> str:
        """Return a sentence about the layers that were written before a failure, or an empty text."""
        return f"written before that: {', '.join(self.written)}" if self.written else ""


def main(arguments: list[str] | None = None) -> int:
    """Run the command and return its exit code."""
    try:
        invocation = _parse(sys.argv[1:] if arguments is None else arguments)
    except MinimizeError as exc:
        _print_error(str(exc))
        return exc.exit_code
    messages = invocation.current.messages
    level = logging.ERROR if messages.quiet else logging.DEBUG if messages.verbose else logging.INFO
    for name in _END_SIGNALS:
        if signal.getsignal(name) is not signal.SIG_IGN:  # nohup, and a shell's background jobs
            signal.signal(name, _interrupt)
    try:
        with display.shown(level=level, color=messages.color):
            return _run(invocation)
    except MinimizeError as exc:
        _print_error(f"{invocation.failure_prefix()}{exc}", invocation.written_before(), color=messages.color)
        return exc.exit_code
    except KeyboardInterrupt:
        _print_error(
            f"{invocation.failure_prefix()}interrupted; {_state_after_interrupt(invocation)}", color=messages.color
        )
        return INTERRUPTED


def _print_error(*lines: str, color: str = "auto") -> None:
    text = "\n".join(filter(None, lines))
    display.console(color, errors=True).print(Text.assemble(("minimize: ", "bold red"), text))


def _state_after_interrupt(invocation: _Invocation) -> str:
    """Return a sentence about what an interrupted command has written."""
    if invocation.command == "publish":
        return "aws lambda list-layer-versions shows what was published"
    output = invocation.output
    current = f"{output} had been written and is whole" if _file_state(output) != invocation.state_before else ""
    return "; ".join(filter(None, [current, invocation.written_before()])) or "nothing was written"


def _parse(arguments: list[str]) -> _Invocation:
    """Return the jobs that the arguments and the settings file ask for.

    Raises:
        UsageError: the command is unknown, or the settings file is wrong.
    """
    command, rest = "", arguments
    if arguments[:1] == [images.INSIDE]:
        _, file, python = arguments
        job = jobs.load_request(file, python)
        return _Invocation("", [job], job)
    if arguments and not arguments[0].startswith("-"):
        command, rest = arguments[0], arguments[1:]
        if command not in help_text.COMMANDS:
            meant = f"; --entry {command}?" if command.endswith(".py") else did_you_mean(command, help_text.COMMANDS)
            raise UsageError(f"unknown command {command!r}{meant or '.'} See minimize --help")
    found: list[Job] | list[Publication] | list[_TextJob]
    if command in _LAYER_COMMANDS:
        found = jobs.load_jobs(command, rest)
    elif command == "publish":
        found = jobs.load_publications(rest)
    else:
        values = parser.command_parser(command).read(rest)
        found = [_TextJob(parser.COMMANDS[command].parts[0].of(values), Messages.of(values))]
    return _Invocation(command, found, found[0])


# The commands that make layers or single stages, and those that only print text.
_LAYER_COMMANDS: dict[str, Callable[..., minimize.Result]] = {"": minimize.run, "trace": trace.run}
_TEXT_COMMANDS: dict[str, Callable[..., Iterator[str]]] = {
    "compare": compare.run,
    "completion": lambda options, messages: completion.run(options, messages, parser=parser.parser_tree()),
    "diff": diff.run,
    "help": help_command.run,
    "init": init.run,
    "probe": probe.run,
}


def _run(invocation: _Invocation) -> int:
    if isinstance(invocation.current, Job):
        return _make_layers(invocation, [job for job in invocation.jobs if isinstance(job, Job)])
    if isinstance(invocation.current, Publication):
        return _publish_layers(invocation, [job for job in invocation.jobs if isinstance(job, Publication)])
    for text in _TEXT_COMMANDS[invocation.command](invocation.current.options, invocation.current.messages):
        streams.put(text)
    return 0


# ---- layers -------------------------------------------------------------------------------------------------------


def _make_layers(invocation: _Invocation, layers: list[Job]) -> int:
    """Do the jobs one after the other, up to the first that fails; return the exit code."""
    for job in layers:
        invocation.begin(job)
        if invocation.has_several:
            log.info("layer %s", job.name)
        result = _LAYER_COMMANDS[invocation.command](job.request, job.messages, job.name)
        _show(invocation, job, result)
        if result.exit_code:
            if invocation.has_several:
                _print_error(f"layer {job.name} failed", invocation.written_before(), color=job.messages.color)
            return result.exit_code
        if _file_state(invocation.output) != invocation.state_before:
            invocation.written.append(invocation.output)
    _show_reports(invocation)
    return 0


def _show(invocation: _Invocation, job: Job, result: minimize.Result) -> None:
    """Print a job's result; of several layers in JSON, keep it for `_show_reports`."""
    outputs, output, data = job.request.outputs, result.output, None
    if outputs.json and outputs.makes_layer and not result.exit_code:
        data = output.to_json() if isinstance(output, Report) else json.loads(output)
    if data is not None and invocation.has_several:
        invocation.reports[job.name] = data
        return
    if invocation.has_several and output:
        streams.put(f"{'' if job is invocation.jobs[0] else chr(10)}Layer {job.name}\n\n")
    if data is not None:
        streams.put(json_text(data))
    elif isinstance(output, Report):
        console = display.console(job.messages.color)
        console.file = text = io.StringIO()
        show(output, console, job.request.outputs.largest)
        streams.put(text.getvalue())
    else:
        streams.put(output)


def _publish_layers(invocation: _Invocation, layers: list[Publication]) -> int:
    """Publish all layers, and print their ARNs."""
    for job in layers:
        invocation.begin(job)
        published = publish.run(job.options, job.messages)
        if job.options.json and invocation.has_several:
            invocation.reports[job.name] = published.to_json()
        elif job.options.json:
            streams.put(json.dumps(published.to_json(), indent=2) + "\n")
        elif published.arn:
            streams.put(f"{f'{job.name} ' if invocation.has_several else ''}{published.arn}\n")
        invocation.written.append(published.arn or job.options.archive)
    _show_reports(invocation)
    return 0


def _show_reports(invocation: _Invocation) -> None:
    """Print the JSON results of several layers as one document."""
    if invocation.reports:
        streams.put(json.dumps({"layers": invocation.reports}, indent=2) + "\n")


def _file_state(path: str) -> str:
    """Return a text that differs once the file was written again; empty if there is no file."""
    try:
        found = os.stat(path)
    except (OSError, ValueError):
        return ""
    return f"{found.st_ino} {found.st_mtime_ns}"


def _interrupt(_number: int, _frame: FrameType | None) -> NoReturn:
    """Handle SIGTERM and SIGHUP like Ctrl-C, and ignore further signals, so that the cleanup is not interrupted."""
    for name in _END_SIGNALS:
        signal.signal(name, signal.SIG_IGN)
    raise KeyboardInterrupt


def run() -> NoReturn:
    """Run the command and end the process with its exit code."""
    streams.prepare()
    # What is imported lives to the end, and so does nearly all that this program makes: files, modules, decisions.
    gc.freeze()
    gc.set_threshold(_GARBAGE_THRESHOLD)
    sys.exit(main())
