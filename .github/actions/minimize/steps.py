"""The steps of the action that are more than one command: ``python -I steps.py inputs|cache|minimize|compare``.

Inputs are in the variables ``INPUT_…``, as ``action.yml`` passes them on. The standard library alone is there, because
the tool is not yet installed in the first two steps. Errors are annotations of the run; the exit code is that of
minimize, or 2 if an input is wrong.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
import uuid
from pathlib import Path
from typing import Any

_TOOL = Path(__file__).resolve().parents[3]
# Options of minimize with the names of inputs.
_OPTIONS = (
    "layer", "entry", "handler", "requirements", "lock", "python", "python-version", "runtime", "output", "format",
    "max-size", "cold",
)  # fmt: skip
_REPEATED = ("event", "model")
# Caches and artifacts have it in their names, and folders are named after it.
_NAME = re.compile(r"\w[\w.-]*", re.ASCII)
# What minimize installs from a lock, besides its name.
_CHOICES = ("group", "extra", "package", "platform", "python-version")
_PERCENT = re.compile(r"\d+(\.\d+)?\s*%")
_USAGE_ERROR, _GROWN = 2, 9


class InputError(Exception):
    """An input is wrong, or does not fit the others. The message says which, and what would be right."""


def value(name: str) -> str:
    """Return an input, without space around it."""
    return os.environ.get(f"INPUT_{name.upper().replace('-', '_')}", "").strip()


def lines(name: str) -> list[str]:
    """Return the lines of an input that are not empty."""
    return [line.strip() for line in value(name).splitlines() if line.strip()]


def put(name: str, text: str) -> None:
    """Set an output of the step. No text ends it early, and none can set another output."""
    end = uuid.uuid4().hex
    _append("GITHUB_OUTPUT", f"{name}<<{end}\n{text}\n{end}\n")


def summarize(text: str) -> None:
    """Add Markdown to the summary of the job."""
    _append("GITHUB_STEP_SUMMARY", f"{text}\n")


def annotate(kind: str, text: str) -> None:
    """Print an ``error``, ``warning`` or ``notice`` that GitHub shows above the log."""
    escaped = text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")
    print(f"::{kind} title=minimize::{escaped}", flush=True)  # noqa: T201 - that is how annotations are made


def fenced(text: str) -> str:
    """Return a code block that no line of the text ends."""
    fence = "`" * max(3, 1 + max((len(found) for found in re.findall("`+", text)), default=0))
    return f"{fence}text\n{text.rstrip()}\n{fence}"


def _append(variable: str, text: str) -> None:
    with open(os.environ[variable], "a", encoding="utf-8") as file:
        file.write(text)


# ---- inputs and settings ---------------------------------------------------------------------------------------------


def settings(folder: Path) -> tuple[Path, dict[str, Any]]:
    """Return the folder and the keys of the settings that minimize will read; errors in them are left to minimize."""
    named = value("settings")
    for each in [folder] if named else [folder, *folder.parents]:
        for file in [each / named] if named else [each / "layer_minimizer.toml", each / "pyproject.toml"]:
            try:
                data = tomllib.loads(file.read_text(encoding="utf-8-sig"))
            except (OSError, ValueError):
                continue
            shared = table_in(data, "tool", "layer_minimizer")
            if not shared and file.name == "pyproject.toml":
                continue
            found = shared or data
            found |= table_in(found, "layers", value("layer"))
            return file.parent, {key.replace("_", "-"): each for key, each in found.items()}
    return folder, {}


def table_in(data: dict[str, Any], *names: str) -> dict[str, Any]:
    """Return a table in a table, or an empty one."""
    for name in names:
        inner = data.get(name)
        data = inner if isinstance(inner, dict) else {}
    return data


def chosen(name: str, folder: Path) -> str:
    """Return an input, or else its value in the settings; a file name is absolute."""
    base, keys = settings(folder)
    given = value(name)
    found = given or str(keys.get(name, ""))
    is_file = name in {"lock", "requirements", "python"}
    return str((folder if given else base) / found) if found and is_file else found


def python_version(folder: Path) -> str:
    """Return the version of Python to set up for the packages; an empty text: minimize chooses among those here.

    The order is that of minimize, see its page about packages.
    """
    if version := chosen("python-version", folder):
        return version
    if chosen("python", folder):
        return ""
    if runtime := chosen("runtime", folder):
        return runtime.removeprefix("python")
    for file in filter(None, (chosen("lock", folder), chosen("requirements", folder))):
        pinned = Path(file).parent / ".python-version"
        if pinned.is_file():
            return (pinned.read_text(encoding="utf-8").split() or [""])[0]
    return ""


def inputs() -> int:
    """Check the name, and write which Python is needed and which folders the following steps use."""
    name = value("name")
    if not _NAME.fullmatch(name):
        raise InputError(f"name: {name!r}: only letters, digits, '.', '-' and '_', and neither '.' nor '-' first")
    own = Path(os.environ["RUNNER_TEMP"], "minimize", name)
    # A second use of the action in one job, or a runner that keeps its folders.
    shutil.rmtree(own, ignore_errors=True)
    (own / "report").mkdir(parents=True)
    put("report", str(own / "report"))
    put("baseline", str(own / "baseline"))
    put("python-version", python_version(Path.cwd()))
    return 0


def cache() -> int:
    """Write the folder of the cache and its key: equal keys mean the same tool, interpreters and packages."""
    folder = os.environ.get("LAYER_MINIMIZER_CACHE") or str(Path(os.environ["RUNNER_TEMP"], "layer_minimizer"))
    digest = hashlib.sha256()
    # Environments have the paths of their folder and of their interpreter in them.
    texts = [folder, sys.version, sys.base_prefix, os.environ.get("PACKAGES_PYTHON", ""), value("args")]
    for text in (*texts, *(chosen(name, Path.cwd()) for name in _CHOICES)):
        digest.update(f"{text}\n".encode())
    sources = [_TOOL / "pyproject.toml", *sorted(_TOOL.glob("layer_minimizer/**/*"))]
    for path in [path for path in sources if path.is_file() and "__pycache__" not in path.parts]:
        digest.update(f"{path.relative_to(_TOOL)}\n".encode() + path.read_bytes())
    for file in filter(None, (chosen("lock", Path.cwd()), chosen("requirements", Path.cwd()))):
        digest.update(Path(file).read_bytes() if Path(file).is_file() else b"")
    put("folder", folder)
    put("key", f"minimize-{platform.system()}-{platform.machine()}-{digest.hexdigest()[:32]}")
    return 0


# ---- making the layer ------------------------------------------------------------------------------------------------


def command() -> list[str]:
    """Return the command that makes the layer, from the inputs."""
    options = [("config", value("settings")), *((name, value(name)) for name in _OPTIONS)]
    options += [(name, each) for name in _REPEATED for each in lines(name)]
    try:
        more = shlex.split(value("args"))
    except ValueError as exc:
        raise InputError(f"args: {value('args')!r}: {exc}") from exc
    # With "=", so that no value is taken for an option.
    given = [f"--{name}={text}" for name, text in options if text]
    return [os.environ["MINIMIZE"], *given, f"--report={os.environ['REPORT']}", *more]


def minimize() -> int:
    """Make the layer; keep what it prints beside the report, set the outputs, and summarize."""
    folder, name = Path(os.environ["REPORT"]), value("name")
    variables = dict(os.environ)
    if python := os.environ.get("PACKAGES_PYTHON"):
        # There minimize looks for interpreters.
        variables["PATH"] = f"{Path(python).parent}{os.pathsep}{variables['PATH']}"
    with (
        subprocess.Popen(  # noqa: S603 - no shell; the inputs are arguments
            command(), stdout=subprocess.PIPE, env=variables, encoding="utf-8"
        ) as running,
        (folder / "report.txt").open("w", encoding="utf-8") as kept,
    ):
        for line in running.stdout or ():
            sys.stdout.write(line)
            sys.stdout.flush()
            kept.write(line)
    if running.returncode:
        summarize(f"### {name}\n\nNo layer: `minimize` ended with exit code {running.returncode}; the log says why.\n")
        annotate("error", f"{name}: minimize ended with exit code {running.returncode}; see above")
        return running.returncode
    # The report of a layer that has a name in the settings is in a folder of this name.
    reports = [*folder.glob("report.json"), *folder.glob("*/report.json")]
    if len(reports) != 1:
        raise InputError("the settings have several layers, and one use of this action makes one: choose it with layer")
    report = reports[0].parent
    text = (folder / "report.txt").rename(report / "report.txt").read_text(encoding="utf-8")
    data = json.loads((report / "report.json").read_text(encoding="utf-8"))
    written = (data["image"] or data["layer"])["path"]
    put("path", str(Path(written).absolute()))
    put("bytes", str(data["layer"]["unzipped_bytes"]))
    put("zipped-bytes", str(data["layer"]["zipped_bytes"]))
    put("verified", json.dumps(data["verified"]))
    put("report", str(report))
    summarize(f"### {name}\n\n<details><summary>Report</summary>\n\n{fenced(text)}\n\n</details>\n")
    return 0


# ---- comparing it ----------------------------------------------------------------------------------------------------


def compare() -> int:
    """Compare with the report of the main branch, and fail if the layer has grown by more than is allowed.

    On the main branch itself growth is a warning, because it was accepted, and the new report is kept for the next run.
    """
    branch, limit, name = value("main-branch"), value("fail-above"), value("name")
    on_branch = os.environ["GITHUB_REF"] == f"refs/heads/{branch}"
    if limit and not _PERCENT.fullmatch(limit):
        raise InputError(f"fail-above: {limit!r}: it must be a percentage, for instance 5%, or empty")
    new, old = (Path(os.environ[each], "report.json") for each in ("REPORT", "BASELINE"))
    if old.is_file():
        grown = _compared(old, new, branch, limit)
        if grown:
            annotate("warning" if on_branch else "error", f"{name}: {grown}")
    else:
        grown = ""
        nothing = f"There is no report of {branch} to compare with; the next run on {branch} leaves one."
        summarize(f"{nothing}\n")
        annotate("notice", f"{name}: {nothing}")
    if on_branch:
        old.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(new, old)
    return _GROWN if grown and not on_branch else 0


def _compared(old: Path, new: Path, branch: str, limit: str) -> str:
    """Summarize the comparison; return what is wrong, or an empty text."""
    allowed = [f"--fail-above={limit}"] if limit else []
    done = subprocess.run(  # noqa: S603 - no shell
        [os.environ["MINIMIZE"], "diff", *allowed, "--", old, new], capture_output=True, check=False, encoding="utf-8"
    )
    print(done.stdout + done.stderr, flush=True)  # noqa: T201 - the log of the step
    if done.returncode not in (0, _GROWN):
        # Another version of the tool has written it: the next run on the main branch replaces it.
        unusable = f"The report of {branch} cannot be compared: {done.stderr.strip()}"
        summarize(f"{unusable}\n")
        annotate("warning", unusable)
        return ""
    sizes = [json.loads(file.read_text(encoding="utf-8"))["layer"]["unzipped_bytes"] for file in (old, new)]
    growth = f"{(sizes[1] - sizes[0]) / max(sizes[0], 1):+.1%}"
    grown = done.returncode == _GROWN
    allowance = f"{limit} is allowed" if limit else "any growth is allowed"
    verdict = f"{growth} unzipped since {branch}, and {allowance}."
    summarize(f"{'❌' if grown else '✅'} {verdict}\n\n{fenced(done.stdout)}\n")
    return verdict if grown else ""


def main() -> int:
    """Run the step that is named on the command line."""
    try:
        os.chdir(value("working-directory") or ".")
    except OSError as exc:
        annotate("error", f"working-directory: {exc}")
        return _USAGE_ERROR
    try:
        return {"inputs": inputs, "cache": cache, "minimize": minimize, "compare": compare}[sys.argv[1]]()
    except InputError as exc:
        annotate("error", str(exc))
        return _USAGE_ERROR


if __name__ == "__main__":
    sys.exit(main())
