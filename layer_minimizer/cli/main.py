"""The command ``minimize``: arguments in, one result out. The only place that prints and that ends the process.

Exit codes: 0 a verified layer (or the answer that was asked for), 2 a wrong argument or input file, 3 the workload
does not run, 4 no plan, 5 no layer or one over the limit, 6 not verified, 7 the interpreter or observer cannot run,
8 AWS refuses or cannot be reached, 9 a layer that grew by more than ``diff --fail-above`` allows, 130 interrupted. 1 is
Python's own: it means a bug of this tool.
"""

from __future__ import annotations

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
from layer_minimizer.cli.commands import completion, diff, init, minimize, publish, traces
from layer_minimizer.cli.commands import help as help_command
from layer_minimizer.cli.jobs import Job, Publication
from layer_minimizer.container import images
from layer_minimizer.core.errors import INTERRUPTED, MinimizeError, UsageError
from layer_minimizer.core.option_kinds import nearest
from layer_minimizer.report.report import Report, json_text
from layer_minimizer.report.text import show
from layer_minimizer.settings import Messages

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

    from layer_minimizer.core.option_declarations import Options

log = logging.getLogger(__name__)
# Windows, from where a container can be asked, has no SIGHUP.
_ENDING = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))


@dataclass(frozen=True, slots=True)
class _Answer:
    """One run of a command that needs no settings file: what it was given."""

    options: Options
    messages: Messages
    name: str = ""


@dataclass(slots=True)
class _Job:
    """What the command is to do, run by run, and how far it is."""

    command: str
    runs: list[Job] | list[Publication] | list[_Answer]
    current: Job | Publication | _Answer
    before: str = ""
    written: list[str] = field(default_factory=list)
    reports: dict[str, Any] = field(default_factory=dict)

    def begin(self, run: Job | Publication) -> None:
        """Go on to a run."""
        self.current, self.before = run, _state(self.output)

    @property
    def output(self) -> str:
        """The layer's file of the current run; the empty text where it makes none."""
        return minimize.output_of(self.current.request.outputs) if isinstance(self.current, Job) else ""

    @property
    def several(self) -> bool:
        """Whether layers are to be told from each other."""
        return len(self.runs) > 1

    def failed(self) -> str:
        """Say which of several layers failed."""
        return f"layer {self.current.name}: " if self.several else ""

    def done(self) -> str:
        """Say which layers had been written when something went wrong with another one."""
        return f"written before that: {', '.join(self.written)}" if self.written else ""


def main(arguments: list[str] | None = None) -> int:
    """Run the command and return its exit code."""
    try:
        job = _parse(sys.argv[1:] if arguments is None else arguments)
    except MinimizeError as exc:
        _complain(str(exc))
        return exc.exit_code
    messages = job.current.messages
    level = logging.ERROR if messages.quiet else logging.DEBUG if messages.verbose else logging.INFO
    for name in _ENDING:
        if signal.getsignal(name) is not signal.SIG_IGN:  # nohup, and a shell's background jobs
            signal.signal(name, _interrupt)
    try:
        with display.shown(level=level, color=messages.color):
            return _do(job)
    except MinimizeError as exc:
        _complain(f"{job.failed()}{exc}", job.done(), color=messages.color)
        return exc.exit_code
    except KeyboardInterrupt:
        _complain(f"{job.failed()}interrupted; {_left(job)}", color=messages.color)
        return INTERRUPTED


def _complain(*lines: str, color: str = "auto") -> None:
    """Print what went wrong."""
    text = "\n".join(filter(None, lines))
    display.console(color, errors=True).print(Text.assemble(("minimize: ", "bold red"), text))


def _left(job: _Job) -> str:
    """Say what an interrupted command has left."""
    if job.command == "publish":
        return "aws lambda list-layer-versions tells what was published"
    own = f"{job.output} had been written and is whole" if _state(job.output) != job.before else ""
    return "; ".join(filter(None, [own, job.done()])) or "nothing was written"


def _parse(given: list[str]) -> _Job:
    """Return what is to be done.

    Raises:
        UsageError: the settings file is wrong.
    """
    command, rest = "", given
    if given[:1] == [images.INSIDE]:
        _, file, python = given
        run = jobs.requested(file, python)
        return _Job("", [run], run)
    if given and not given[0].startswith("-"):
        command, rest = given[0], given[1:]
        if command not in help_text.COMMANDS:
            meant = f"; --entry {command}?" if command.endswith(".py") else nearest(command, help_text.COMMANDS)
            raise UsageError(f"there is no command {command!r}{meant} See minimize --help")
    runs: list[Job] | list[Publication] | list[_Answer]
    if command in ("", "trace"):
        runs = jobs.runs(command, rest)
    elif command == "publish":
        runs = jobs.publications(rest)
    else:
        values = parser.command_parser(command).read(rest)
        runs = [_Answer(parser.COMMANDS[command].parts[0].of(values), Messages.of(values))]
    return _Job(command, runs, runs[0])


def _complete(options: completion.CompletionOptions, _messages: Messages) -> str:
    return completion.script(options.shell, parser.parser_tree())


# What commands say that need no settings file, in one piece or in several.
_ANSWERS: dict[str, Callable[..., str | Iterator[str]]] = {
    "compare": traces.compare,
    "completion": _complete,
    "diff": diff.answer,
    "help": lambda options, messages: help_command.answer(options, display.console(messages.color)),
    "init": init.answer,
    "probe": traces.probe,
}


def _do(job: _Job) -> int:
    if isinstance(job.current, Job):
        return _make_all(job, [run for run in job.runs if isinstance(run, Job)])
    if isinstance(job.current, Publication):
        return _publish_all(job, [run for run in job.runs if isinstance(run, Publication)])
    said = _ANSWERS[job.command](job.current.options, job.current.messages)
    for text in [said] if isinstance(said, str) else said:
        streams.put(text)
    return 0


# ---- layers -------------------------------------------------------------------------------------------------------


def _make_all(job: _Job, runs: list[Job]) -> int:
    """Do all runs, one after the other; the first that fails is the last."""
    for run in runs:
        job.begin(run)
        if job.several:
            log.info("layer %s", run.name)
        shown = display.console(run.messages.color)
        colored = shown.color_system is not None and not shown.no_color
        code, said = minimize.make(job.command, run, colored=colored)
        _show(job, run, code, said)
        if code:
            if job.several:
                _complain(f"layer {run.name} failed", job.done(), color=run.messages.color)
            return code
        if _state(job.output) != job.before:
            job.written.append(job.output)
    _show_all(job)
    return 0


def _show(job: _Job, run: Job, code: int, said: Report | str) -> None:
    """Print what a run gives; of several in JSON, keep it until all are done."""
    outputs, data = run.request.outputs, None
    if outputs.json and outputs.makes_layer and not code:
        data = said.to_json() if isinstance(said, Report) else json.loads(said)
    if data is not None and job.several:
        job.reports[run.name] = data
        return
    if job.several and said:
        streams.put(f"{'' if run is job.runs[0] else chr(10)}Layer {run.name}\n\n")
    if data is not None:
        streams.put(json_text(data))
    elif isinstance(said, Report):
        console = display.console(run.messages.color)
        console.file = text = io.StringIO()
        show(said, console)
        streams.put(text.getvalue())
    else:
        streams.put(said)


def _publish_all(job: _Job, runs: list[Publication]) -> int:
    """Publish all layers, and print their ARNs."""
    for run in runs:
        job.begin(run)
        published = publish.publish_layer(run.options)
        if run.options.json and job.several:
            job.reports[run.name] = published.to_json()
        elif run.options.json:
            streams.put(json.dumps(published.to_json(), indent=2) + "\n")
        elif published.arn:
            streams.put(f"{f'{run.name} ' if job.several else ''}{published.arn}\n")
        job.written.append(published.arn or run.options.archive)
    _show_all(job)
    return 0


def _show_all(job: _Job) -> None:
    """Print what was kept of several runs."""
    if job.reports:
        streams.put(json.dumps({"layers": job.reports}, indent=2) + "\n")


def _state(output: str) -> str:
    """Tell one state of the output from another."""
    try:
        found = os.stat(output)
    except (OSError, ValueError):
        return ""
    return f"{found.st_ino} {found.st_mtime_ns}"


def _interrupt(_number: int, _frame: FrameType | None) -> NoReturn:
    """End on SIGTERM and SIGHUP as on Ctrl-C, so that nothing is left behind, not even by an impatient user."""
    for name in _ENDING:
        signal.signal(name, signal.SIG_IGN)
    raise KeyboardInterrupt


def run() -> NoReturn:
    """Be the command: run it and end the process with its exit code."""
    streams.prepare()
    sys.exit(main())
