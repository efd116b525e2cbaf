"""The command ``minimize``: arguments in, one result out. The only place that prints and that ends the process.

Exit codes: 0 a verified layer (or the answer that was asked for), 2 a wrong argument or input file, 3 the workload
does not run, 4 no plan, 5 no layer or one over the limit, 6 not verified, 7 the interpreter or observer cannot run,
8 AWS refuses or cannot be reached, 130 interrupted. 1 is Python's own: it means a bug of this tool.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import io
import json
import logging
import os
import re
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from rich.text import Text

from layer_minimizer import (
    contained_emulation,
    container,
    display,
    lambda_rules,
    packager,
    pipeline,
    report_text,
    session,
    trace_commands,
)
from layer_minimizer.errors import MinimizeError, UsageError
from layer_minimizer.explain import explain
from layer_minimizer.native.shrink import Cold
from layer_minimizer.observation import DEFAULT_TIMEOUT
from layer_minimizer.packager import Layout
from layer_minimizer.publish import publish
from layer_minimizer.report import json_text
from layer_minimizer.settings import Settings

if TYPE_CHECKING:
    from types import FrameType

_UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}
# Windows, from where a container can be asked, has no SIGHUP.
_ENDING = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
_OUTPUT = "layer.zip"
_EPILOG = """\
examples:
  minimize --entry handler.py --model export.pkl --event event.json --output layer.zip
  minimize --python .venv/bin/python --entry predict.py --provided torch
  minimize --entry handler.py --event event.json --explain scipy
  minimize --runner docker --runtime python3.12 --requirements requirements.txt --entry handler.py --event event.json
  minimize trace --entry handler.py --event a.json --save-trace a.trace    (also: minimize compare, minimize probe)
  minimize publish layer.zip --name fastai --runtime python3.12    (minimize publish --help)
"""


def _size(text: str) -> int:
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([a-zA-Z]*)", text.strip())
    if not found or found[2].upper() not in _UNITS:
        raise argparse.ArgumentTypeError(f"{text!r} is no size; write for instance 250MB, 0.9GB or 262144000")
    return int(float(found[1]) * _UNITS[found[2].upper()])


def _names(text: str) -> list[str]:
    return [name for name in re.split(r"[,\s]+", text) if name]


def _tolerance(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no tolerance; write a number from 0 to 1, for instance 1e-6")
    return value


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < 10**7:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds above 0")
    return value


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="minimize",
        description="Write the smallest AWS Lambda layer that still runs your code, and prove that it does.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=importlib.metadata.version("layer_minimizer"))
    what = parser.add_argument_group("what must keep working")
    what.add_argument("--entry", metavar="FILE", help="a Lambda handler, or a script")
    what.add_argument("--handler", default="", metavar="NAME", help="default: handler, else lambda_handler")
    what.add_argument("--model", action="append", default=[], metavar="FILE", help="lies beside the entry; repeatable")
    what.add_argument("--event", action="append", default=[], metavar="FILE", help="JSON; repeatable; default: {}")
    where = parser.add_argument_group("where it runs")
    where.add_argument("--python", default="", metavar="PATH", help="whose packages are minimized; default: this one")
    where.add_argument("--observe", choices=("auto", "probe", "strace"), default="auto", help="default: %(default)s")
    where.add_argument("--timeout", type=_seconds, default=DEFAULT_TIMEOUT, metavar="SECONDS", help="of each run")
    container.add_arguments(parser)
    which = parser.add_argument_group("what goes into the layer")
    which.add_argument("--include", action="append", default=[], metavar="GLOB", help="keep these too; repeatable")
    which.add_argument("--exclude", action="append", default=[], metavar="GLOB", help="never these; repeatable")
    which.add_argument(
        "--provided", type=_names, nargs="+", action="extend", default=[], metavar="DIST", help="another layer has it"
    )
    which.add_argument(
        "--base-layer",
        action="append",
        default=[],
        metavar="ZIP|ARN",
        help="a layer below this one, in the function's order; repeatable",
    )
    which.add_argument(
        "--closure", choices=("trace", "static"), default="trace", help="static: also what kept code could import"
    )
    python = parser.add_argument_group("Python code")
    python.add_argument(
        "--keep", action="append", default=[], metavar="MODULE", help="it can be imported, and nothing stands in for it"
    )
    python.add_argument(
        "--effort", type=float, default=5.0, metavar="MINUTES", help="to search for imports without use; 0: keep them"
    )
    python.add_argument(
        "--bytecode",
        choices=("auto", "only", "both", "source"),
        default="auto",
        help="what modules are shipped as; default: compressed bytecode, and sources whose text was read",
    )
    python.add_argument("--strip-docstrings", action="store_true", help="leave docstrings out of the bytecode")
    native = parser.add_argument_group("shared libraries")
    native.add_argument(
        "--native", choices=("on", "off"), default="on", help="off: ship libraries whole; default: the pages in use"
    )
    native.add_argument(
        "--cold",
        choices=[str(cold) for cold in Cold],
        default="keep",
        help="pages not in use: keep them compressed, drop them, auto: keep what --max-size allows; default: keep",
    )
    native.add_argument("--runtime-library", default="", metavar="FILE", help="the runtime for another architecture")
    runtime = parser.add_argument_group("where the layer is to work")
    runtime.add_argument(
        "--runtime", choices=list(lambda_rules.load_runtimes()), default="", help="check the layer against Lambda's"
    )
    runtime.add_argument(
        "--architecture", choices=list(lambda_rules.ARCHITECTURES), default="", help="default: this machine's"
    )
    contained_emulation.add_arguments(parser)
    result = parser.add_argument_group("what comes out")
    result.add_argument("--output", metavar="FILE", help="the layer; default: layer.zip")
    result.add_argument(
        "--layout",
        choices=[str(layout) for layout in Layout],
        default="site",
        help="python/lib/…/site-packages, or flat: python/",
    )
    result.add_argument("--max-size", type=_size, metavar="SIZE", help="unzipped; default: Lambda's 262,144,000 bytes")
    result.add_argument("--tolerance", type=_tolerance, default=0.0, metavar="X", help="for numbers; default: exact")
    result.add_argument("--function-zip", metavar="FILE", help="also write the function: entry, local modules, models")
    result.add_argument("--json", action="store_true", help="print the report as JSON, and nothing else")
    result.add_argument("--report-json", metavar="FILE", help="also write it there")
    result.add_argument("--time-imports", action="store_true", help="how long imports take, before and after")
    result.add_argument("--explain", metavar="NAME", help="why a path, module or distribution is kept or dropped")
    stages = parser.add_argument_group("single stages")
    stages.add_argument("--save-trace", metavar="FILE")
    stages.add_argument("--trace", nargs="+", action="extend", default=[], metavar="FILE", help="use saved traces")
    stages.add_argument("--save-plan", metavar="FILE")
    stages.add_argument("--plan", metavar="FILE", help="with --explain: ask a saved plan")
    _add_talk(parser)
    return parser


def _publish_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="minimize publish",
        description="Publish a layer's zip as a new version, unless the newest version is identical; print its ARN.",
        epilog="Credentials, region and endpoint are found as boto3 does: AWS_* variables, AWS_PROFILE, ~/.aws.",
    )
    parser.add_argument("archive", metavar="FILE", help="the layer's zip")
    parser.add_argument("--name", required=True, metavar="NAME", help="of the layer, or its ARN without a version")
    parser.add_argument(
        "--runtime", action="append", required=True, metavar="PYTHON", help="it is for: python3.12; repeatable"
    )
    parser.add_argument(
        "--architecture",
        action="append",
        default=[],
        choices=list(lambda_rules.ARCHITECTURES),
        help="it is for; repeatable",
    )
    parser.add_argument("--bucket", default="", metavar="NAME", help="in S3, through which a zip over 50 MB is sent")
    parser.add_argument("--key", default="", metavar="KEY", help="of the object in it; default: a name of its own")
    parser.add_argument("--keep-object", action="store_true", help="do not delete the object afterwards")
    parser.add_argument("--region", default="", metavar="REGION", help="default: boto3's")
    parser.add_argument("--description", default="", metavar="TEXT", help="of the version")
    parser.add_argument("--license", default="", metavar="TEXT", help="for instance MIT")
    parser.add_argument("--dry-run", action="store_true", help="only say what would be done")
    parser.add_argument("--json", action="store_true", help="print the result as JSON, and nothing else")
    _add_talk(parser)
    return parser


def _add_talk(parser: argparse.ArgumentParser) -> None:
    talk = parser.add_mutually_exclusive_group()
    talk.add_argument("-q", "--quiet", action="store_true", help="only errors on standard error")
    talk.add_argument("-v", "--verbose", action="store_true", help="more on standard error")
    parser.add_argument("--color", choices=display.COLORS, default="auto", help="default: on terminals")


def main(arguments: list[str] | None = None) -> int:
    """Run the command and give its exit code."""
    given = sys.argv[1:] if arguments is None else arguments
    command, given, options = _parse(given)
    level = logging.ERROR if options.quiet else logging.DEBUG if options.verbose else logging.INFO
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # names of files need not be text
    for name in _ENDING:
        if signal.getsignal(name) is not signal.SIG_IGN:  # nohup, and a shell's background jobs
            signal.signal(name, _interrupt)
    output = getattr(options, "output", None) or _OUTPUT
    before = _state(output)
    try:
        with display.shown(level=level, color=options.color):
            return _do(command, given, options)
    except MinimizeError as exc:
        display.console(options.color, errors=True).print(Text.assemble(("minimize: ", "bold red"), str(exc)))
        return exc.exit_code
    except KeyboardInterrupt:
        left = "nothing was written"
        if command == "publish":
            left = "aws lambda list-layer-versions tells what was published"
        elif _state(output) != before:
            left = f"{output} had been written and is whole"
        sys.stderr.write(f"minimize: interrupted; {left}\n")
        return 130


def _parse(given: list[str]) -> tuple[str, list[str], argparse.Namespace]:
    """Give the command beside the main one, if it is one of those, and the options that are to be obeyed."""
    command = given[0] if given and given[0] in ("publish", *trace_commands.NAMES) else ""
    if command == "publish":
        return command, given, _publish_parser().parse_args(given[1:])
    if command == "trace":
        given = trace_commands.options_of(given[1:])
    elif command:
        return command, given, trace_commands.parser(command).parse_args(given[1:])
    return command, given, _parser().parse_args(given)


def _do(command: str, given: list[str], options: argparse.Namespace) -> int:
    code = 0
    if command == "publish":
        _publish(options)
    elif command in ("compare", "probe"):
        sys.stdout.write(trace_commands.answer(options))
    else:
        with session.watched(map(Path, _outputs(options))):
            if options.runner != container.LOCAL:
                code = _hand_over(given, options)
            else:
                _act(options)
    if command == "trace" and not code:
        sys.stdout.write(trace_commands.summary(options.save_trace))
    return code


def _outputs(options: argparse.Namespace) -> list[str]:
    """Give the files that the command may write."""
    named = (options.save_trace, options.save_plan, options.function_zip, options.report_json)
    return [options.output or _OUTPUT, *(name for name in named if name)]


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


def _hand_over(given: list[str], options: argparse.Namespace) -> int:
    outcome = container.minimize(given, options)
    sys.stdout.write(outcome.output)
    return outcome.code


def _act(options: argparse.Namespace) -> None:
    container.check_local(options)
    if options.plan:
        if not options.explain:
            raise UsageError("--plan goes with --explain")
        sys.stdout.write(explain(pipeline.read_plan(Path(options.plan)), options.explain) + "\n")
        return
    settings = Settings(
        python=options.python,
        observe=options.observe,
        include=tuple(options.include),
        exclude=tuple(options.exclude),
        provided=tuple(name for names in options.provided for name in names),
        base_layers=tuple(options.base_layer),
        closure=options.closure,
        layout=Layout(options.layout),
        max_size=options.max_size,
        tolerance=options.tolerance,
        timeout=options.timeout,
        keep=tuple(options.keep),
        effort=options.effort,
        bytecode=options.bytecode,
        strip_docstrings=options.strip_docstrings,
        native=options.native,
        cold=Cold(options.cold),
        runtime_library=options.runtime_library,
        runtime=options.runtime,
        architecture=options.architecture,
        verify=options.verify,
        memory=options.memory,
        tmp_size=options.tmp_size,
        engine=options.engine,
        verify_image=options.verify_image,
        emulator=options.emulator,
        time_imports=options.time_imports,
    )
    workload = {"handler": options.handler, "models": options.model, "events": options.event}
    if options.explain:
        source = pipeline.load(options.entry, **workload)
        answer = pipeline.explain_case(source, options.trace, settings, options.explain, options.save_plan)
        sys.stdout.write(answer + "\n")
    elif (options.save_trace or options.save_plan) and not options.output:
        source = pipeline.load(options.entry, **workload)
        pipeline.save_stages(source, options.trace, settings, options.save_trace, options.save_plan)
    else:
        _minimize(options, settings, workload)


def _minimize(options: argparse.Namespace, settings: Settings, workload: dict[str, str]) -> None:
    if options.report_json:
        packager.check_output(Path(options.report_json).absolute(), "--report-json")
    report = pipeline.minimize(
        entry=options.entry,
        output=options.output or _OUTPUT,
        traces=options.trace,
        save_trace=options.save_trace,
        save_plan=options.save_plan,
        function_zip=options.function_zip,
        settings=settings,
        **workload,
    )
    if options.report_json:
        pipeline.write_report(report, Path(options.report_json))
    if options.json:
        sys.stdout.write(json_text(report.to_json()))
    else:
        report_text.show(report, display.console(options.color))


def _publish(options: argparse.Namespace) -> None:
    for name in ("boto3", "botocore", "urllib3"):
        # They tell of every step and, when asked for more, of the headers that sign a request.
        logging.getLogger(name).setLevel(logging.WARNING)
    published = publish(
        options.archive,
        name=options.name,
        runtimes=options.runtime,
        architectures=options.architecture,
        bucket=options.bucket,
        key=options.key,
        keep_object=options.keep_object,
        region=options.region,
        description=options.description,
        license_info=options.license,
        dry_run=options.dry_run,
    )
    if options.json:
        sys.stdout.write(json.dumps(published.to_json(), indent=2) + "\n")
    elif published.arn:
        sys.stdout.write(f"{published.arn}\n")


def run() -> NoReturn:
    """Be the command: run it and end the process with its exit code."""
    sys.exit(main())
