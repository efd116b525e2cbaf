"""Writes measurements to README.md: the table of sizes, the output of a first run, and pictures of the report.

usage: python tests/system/docs/record.py [sizes] [run] [pictures]; default: all

Runs in the environment of the tests, and uses its ``minimize``. The sizes are those of the examples, which it runs; the
output is that of a terminal; the pictures show the report of the second row of the table.
"""

from __future__ import annotations

import json
import os
import pty
import re
import shutil
import subprocess
import sys
import tempfile
import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[3]
README, PICTURES, EXAMPLES = ROOT / "README.md", ROOT / "examples" / "pictures", ROOT / "examples"
TOOL = Path(sys.executable).with_name("minimize")
COLUMNS, LINES = 116, 400
WRAPPING: dict[str, Any] = {
    "subsequent_indent": "    ", "break_long_words": False, "break_on_hyphens": False, "replace_whitespace": False,
    "drop_whitespace": True,
}  # fmt: skip
COMMANDS = ("minimize init", "minimize --report report")


@dataclass(frozen=True)
class Row:
    """A row of the table of sizes: an example, the arguments of its run.sh, and the text in the table."""

    example: str
    arguments: tuple[str, ...]
    text: str


ROWS = (
    Row("quickstart", (), "[quickstart](examples/quickstart): Pillow"),
    Row(
        "fastai_vision",
        ("--cold", "drop"),
        "[fastai_vision](examples/fastai_vision): fastai 2.8 with torch 2.13 inside, `--cold drop`",
    ),
    Row(
        "fastai_v1_vision",
        ("--cold", "drop"),
        "[fastai_v1_vision](examples/fastai_v1_vision): fastai 1.0.55 on Python 3.6, with torch in another layer, "
        "`--cold drop`",
    ),
    Row(
        "fastai_v1_two_layers",
        (),
        "[fastai_v1_two_layers](examples/fastai_v1_two_layers): the same, on top of a base layer with torch 1.1 "
        "({base}), `--cold drop`",
    ),
)


# ---- the README -----------------------------------------------------------------------------------------------------


def block(name: str, text: str) -> str:
    """Return the recorded block of this name in ``text``."""
    found = re.search(rf"<!-- recorded: {name} -->\n(.*?)<!-- end of {name} -->\n", text, re.DOTALL)
    if not found:
        raise SystemExit(f"README.md has no block {name!r}")
    return found[1]


def write(name: str, content: str) -> None:
    """Replace the recorded block of this name in README.md."""
    text = README.read_text("utf-8")
    README.write_text(text.replace(f"-->\n{block(name, text)}<!-- end of {name}", f"-->\n{content}<!-- end of {name}"))


# ---- sizes ----------------------------------------------------------------------------------------------------------


def megabytes(size: int) -> str:
    return f"{size / 1e6:,.1f} MB"


def line(row: Row, report: dict[str, object]) -> str:
    """Return a row of the table from the report of its run."""
    before, layer = report["before"], report["layer"]
    sizes = (before["bytes"], layer["unzipped_bytes"], layer["zipped_bytes"])  # type: ignore[index]
    text = row.text.format(base=megabytes(report["base_bytes"]))  # type: ignore[arg-type]
    return f"| {text} | {' | '.join(map(megabytes, sizes))} |\n"


def run_example(row: Row, folder: Path) -> dict[str, object]:
    """Run an example, write its report to ``folder``, and return the report's JSON."""
    command = [EXAMPLES / row.example / "run.sh", *row.arguments, "--report", folder]
    subprocess.run(command, env={**os.environ, "MINIMIZE": str(TOOL)}, stdout=subprocess.DEVNULL, check=True)
    report: dict[str, object] = json.loads((folder / "report.json").read_text())
    return report


def record_sizes(scratch: Path) -> None:
    """Write the table of sizes."""
    rows = [line(row, run_example(row, scratch / str(number))) for number, row in enumerate(ROWS)]
    head = "| what `run.sh` of the example measured | installed | layer | zipped |\n|---|---:|---:|---:|\n"
    write("sizes", f"{head}{''.join(rows)}")


# ---- a first run ----------------------------------------------------------------------------------------------------


def on_terminal(command: str, folder: Path, environment: dict[str, str]) -> str:
    """Run a command in a terminal emulator, and return the text on its screen at the end."""
    import pyte  # noqa: PLC0415 - not needed by tests that only read the README

    screen = pyte.Screen(COLUMNS, LINES)
    stream = pyte.ByteStream(screen)
    ours, theirs = pty.openpty()
    size = {"COLUMNS": str(COLUMNS), "LINES": "40"}
    process = subprocess.Popen(
        ["bash", "-c", command], cwd=folder, env={**environment, **size}, stdin=theirs, stdout=theirs, stderr=theirs
    )
    os.close(theirs)
    while True:
        try:
            data = os.read(ours, 1 << 16)
        except OSError:  # the process has closed its end
            break
        if not data:
            break
        stream.feed(data)
    os.close(ours)
    if process.wait():
        raise SystemExit("\n".join(screen.display).strip())
    # Wrap long lines between words, not at the edge of the screen.
    text = "".join(row if len(row.rstrip()) == COLUMNS else f"{row.rstrip()}\n" for row in screen.display).rstrip()
    return "\n".join(textwrap.fill(row, COLUMNS, **WRAPPING) for row in text.splitlines())


def first_run(home: Path, python: Path) -> str:
    """Return the text of a first run with the files of the quickstart, in a folder of ``home``.

    ``python`` is the interpreter of the environment with the packages.
    """
    folder = home / "thumbnails"
    folder.mkdir()
    shutil.copy(EXAMPLES / "quickstart" / "handler.py", folder)
    subprocess.run([python, "-I", EXAMPLES / "quickstart" / "make_events.py", folder / "event.json"], check=True)
    (folder / ".venv").symlink_to(python.parent.parent)
    kept = {name: value for name, value in os.environ.items() if name not in {"CI", "NO_COLOR", "FORCE_COLOR"}}
    path = f"{TOOL.parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**kept, "PATH": path, "HOME": str(home), "TERM": "xterm-256color"}
    environment["LAYER_MINIMIZER_CACHE"] = str(home / "cache")
    text = "\n".join(f"$ {command}\n{on_terminal(command, folder, environment)}\n" for command in COMMANDS)
    return text.replace(str(home), "~")


def quickstart_python() -> Path:
    """Return the Python of the cached environment of the quickstart."""
    script = 'source "$1/common.sh"; requirements_env quickstart "$(require_python)" "$1/quickstart/requirements.txt"'
    command = ["bash", "-euo", "pipefail", "-c", script, "bash", EXAMPLES]
    return Path(subprocess.run(command, text=True, stdout=subprocess.PIPE, check=True).stdout.strip())


def record_run(scratch: Path) -> None:
    """Write the first run."""
    home = scratch / "home"
    home.mkdir()
    write("run", f"```text\n{first_run(home, quickstart_python())}```\n")


# ---- pictures -------------------------------------------------------------------------------------------------------

CHROMIUM = "/usr/bin/chromium"
QUIET = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
)  # fmt: skip
SHOTS = (
    ("report.png", (1280, 1000), "light", "#"),
    ("report-file.png", (1280, 1000), "dark", "#view=after&path=torch/lib/libtorch_cpu.so"),
)


def photograph(page: Path, folder: Path) -> None:
    """Take the pictures of a report's page."""
    from playwright.sync_api import sync_playwright  # noqa: PLC0415 - as above

    folder.mkdir(exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(QUIET))
        for name, (width, height), scheme, fragment in SHOTS:
            size = {"width": width, "height": height}
            tab = browser.new_context(viewport=size, color_scheme=scheme).new_page()  # type: ignore[arg-type]
            tab.goto(f"{page.as_uri()}{fragment}")
            tab.wait_for_selector("html[data-state=ready]")
            tab.screenshot(path=folder / name)
        browser.close()


def record_pictures(scratch: Path) -> None:
    """Take the pictures of the report of the second row; run its example unless record_sizes has done so."""
    folder = scratch / "1"
    if not folder.exists():
        run_example(ROWS[1], folder)
    photograph(folder / "report.html", PICTURES)


RECORDERS = {"sizes": record_sizes, "run": record_run, "pictures": record_pictures}


def main() -> None:
    names = sys.argv[1:] or list(RECORDERS)
    if unknown := [name for name in names if name not in RECORDERS]:
        raise SystemExit(f"unknown argument {unknown[0]!r}: it must be one of {', '.join(RECORDERS)}")
    with tempfile.TemporaryDirectory(prefix="record-") as folder:
        for name, record in RECORDERS.items():
            if name in names:
                record(Path(folder))


if __name__ == "__main__":
    main()
