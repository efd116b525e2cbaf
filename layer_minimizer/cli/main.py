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
from layer_minimizer.cli.commands.help import answer
from layer_minimizer.cli.jobs import Job
from layer_minimizer.cli.settings_file import nearest
from layer_minimizer.core.errors import MinimizeError, UsageError
from layer_minimizer.report.report import Report, json_text
from layer_minimizer.report.text import show

if TYPE_CHECKING:
    from types import FrameType

log = logging.getLogger(__name__)
# Windows, from where a container can be asked, has no SIGHUP.
_ENDING = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))


@dataclass(slots=True)
class _Job:
    """What the command is to do, run by run, and how far it is."""

    command: str
    runs: list[Job]
    current: Job
    before: str = ""
    written: list[str] = field(default_factory=list)
    reports: dict[str, Any] = field(default_factory=dict)

    def begin(self, run: Job) -> None:
        """Go on to a run."""
        self.current, self.before = run, _state(minimize.output_of(run.options))

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
    """Run the command and give its exit code."""
    try:
        job = _parse(sys.argv[1:] if arguments is None else arguments)
    except MinimizeError as exc:
        _complain(str(exc))
        return exc.exit_code
    options = job.current.options
    level = logging.ERROR if options.quiet else logging.DEBUG if options.verbose else logging.INFO
    for name in _ENDING:
        if signal.getsignal(name) is not signal.SIG_IGN:  # nohup, and a shell's background jobs
            signal.signal(name, _interrupt)
    try:
        with display.shown(level=level, color=options.color):
            return _do(job)
    except MinimizeError as exc:
        _complain(f"{job.failed()}{exc}", job.done(), color=options.color)
        return exc.exit_code
    except KeyboardInterrupt:
        _complain(f"{job.failed()}interrupted; {_left(job)}", color=options.color)
        return 130


def _complain(*lines: str, color: str = "auto") -> None:
    """Print what went wrong."""
    text = "\n".join(filter(None, lines))
    display.console(color, errors=True).print(Text.assemble(("minimize: ", "bold red"), text))


def _left(job: _Job) -> str:
    """Say what an interrupted command has left."""
    if job.command == "publish":
        return "aws lambda list-layer-versions tells what was published"
    output = minimize.output_of(job.current.options)
    own = f"{output} had been written and is whole" if _state(output) != job.before else ""
    return "; ".join(filter(None, [own, job.done()])) or "nothing was written"


def _parse(given: list[str]) -> _Job:
    """Give what is to be done.

    Raises:
        UsageError: the settings file is wrong.
    """
    command, rest = "", given
    if given and not given[0].startswith("-"):
        command, rest = given[0], given[1:]
        if command not in help_text.COMMANDS:
            meant = f"; --entry {command}?" if command.endswith(".py") else nearest(command, help_text.COMMANDS)
            raise UsageError(f"there is no command {command!r}{meant} See minimize --help")
    if command in jobs.CONFIGURED:
        runs = jobs.runs(command, rest)
    else:
        runs = [Job("", tuple(rest), parser.command_parser(command).parse_args(rest))]
    return _Job(command, runs, runs[0])


def _do(job: _Job) -> int:
    options = job.current.options
    if job.command in ("", "trace"):
        return _make_all(job)
    if job.command == "publish":
        return _publish_all(job)
    if job.command == "diff":
        for text in diff.answer(options):
            streams.put(text)
        return 0
    if job.command == "completion":
        streams.put(completion.script(options.shell, parser.parser_tree()))
    elif job.command == "help":
        streams.put(answer(options, display.console(options.color)))
    else:
        answers = {"compare": traces.compare, "probe": traces.probe, "init": init.answer}
        streams.put(answers[job.command](options))
    return 0


# ---- layers -------------------------------------------------------------------------------------------------------


def _make_all(job: _Job) -> int:
    """Do all runs, one after the other; the first that fails is the last."""
    for run in job.runs:
        job.begin(run)
        if job.several:
            log.info("layer %s", run.name)
        shown = display.console(run.options.color)
        colored = shown.color_system is not None and not shown.no_color
        code, said = minimize.make(job.command, run, colored=colored)
        _show(job, code, said)
        if code:
            if job.several:
                _complain(f"layer {run.name} failed", job.done(), color=run.options.color)
            return code
        if _state(minimize.output_of(run.options)) != job.before:
            job.written.append(minimize.output_of(run.options))
    _show_all(job)
    return 0


def _show(job: _Job, code: int, said: Report | str) -> None:
    """Print what a run gives; of several in JSON, keep it until all are done."""
    run = job.current
    data = None
    if run.options.json and minimize.makes_layer(run.options) and not code:
        data = said.to_json() if isinstance(said, Report) else json.loads(said)
    if data is not None and job.several:
        job.reports[run.name] = data
        return
    if job.several and said:
        streams.put(f"{'' if run is job.runs[0] else chr(10)}Layer {run.name}\n\n")
    if data is not None:
        streams.put(json_text(data))
    elif isinstance(said, Report):
        console = display.console(run.options.color)
        console.file = text = io.StringIO()
        show(said, console)
        streams.put(text.getvalue())
    else:
        streams.put(said)


def _publish_all(job: _Job) -> int:
    """Publish all layers, and print their ARNs."""
    for run in job.runs:
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
