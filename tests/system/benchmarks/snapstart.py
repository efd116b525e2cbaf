"""Measures the first answers after a snapshot is restored, as with Lambda SnapStart. Not a test: it prints a table.

usage: python tests/system/benchmarks/snapstart.py [--runs 3] [--layers FOLDER] [CASE...]

Run it as root, with the Python that the tool is installed for. Each case is a folder of tests/system/cases: the layer
is made from its events, and answers those and its unseen ones. It is made twice: without a log, and with the option
``--snapstart`` and the log of the first layer's answers to the unseen events.

A process imports the handler, runs the hooks, and ends with a snapshot that CRIU takes. From each snapshot a copy is
restored for each event, and answers that one alone; what earlier copies have restored in /tmp is removed before, unless
it was there when the snapshot was taken. Medians, for the traced and for the unseen events: milliseconds of the
handler's call (wall and processor), and how many stand-ins woke and how many files and parts of libraries were restored
in a copy. ``plain`` is the environment, with bytecode. CRIU restores all memory before the process goes on.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "cases"))
sys.path.insert(0, str(Path(__file__).resolve().parent))

import running
import starts
import ways
from managed_instances import restored_of

from tests.support import checkpoints

COLUMNS = ("wall ms", "cpu ms", "stand-ins", "files", "pages")
PROGRAM = """
import json, os, sys, time
place = sys.argv[1]
sys.path.insert(0, sys.argv[2])
from handler import handler
hooks = sys.modules.get("_layer_minimizer.snapshot")
if hooks:
    hooks.put_back()
open(place + "/ready", "w").close()
while not os.path.exists(place + "/event"):
    time.sleep(0.01)
with open(place + "/event") as source:
    event = json.load(source)
wall, cpu = time.perf_counter(), time.process_time()
try:
    result = json.dumps(handler(event, None), sort_keys=True, default=repr)
except Exception as exc:
    result = type(exc).__name__
taken = [time.perf_counter() - wall, time.process_time() - cpu]
with open(place + "/answer", "w") as out:
    json.dump([taken, result], out)
os._exit(0)
"""
Row = tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Subject:
    """A process of which a snapshot was taken: its folder, and what it had restored by then, by folder."""

    criu: checkpoints.Criu
    place: Path
    saved: dict[Path, Path]

    def answer(self, event: object) -> tuple[Row, str]:
        """Restore a copy that answers one event."""
        for folder, copy in self.saved.items():
            shutil.rmtree(folder, ignore_errors=True)
            shutil.copytree(copy, folder, symlinks=True)
        log, answer = self.place / "log", self.place / "answer"
        log.unlink(missing_ok=True)
        (self.place / "event").write_text(json.dumps(event))
        status = self.criu.restore(self.place / "images").wait(checkpoints.SECONDS)
        assert status == 0, (self.place / "output").read_text()
        (wall, cpu), result = json.loads(answer.read_text())
        answer.unlink()
        kinds = Counter(" ".join(line.split()[:2]) for line in (log.read_text() if log.exists() else "").splitlines())
        woken = sum(count for kind, count in kinds.items() if kind.startswith("woke "))
        return (wall * 1e3, cpu * 1e3, woken, kinds["restored file"], kinds["restored pages"]), result


def take_snapshot(way: ways.Way, task: Path, place: Path, criu: checkpoints.Criu) -> Subject:
    """Start the process that imports the handler, and take its snapshot."""
    place.mkdir()
    folders = restored_of(way.site)
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)
    path = "" if way.site.is_relative_to(way.python.parent.parent) else str(way.site)
    variables = {"PATH": os.environ["PATH"], "HOME": str(place), "LANG": "C.UTF-8", "PYTHONPATH": path}
    variables |= {"PYTHONDONTWRITEBYTECODE": "1", "LAYER_MINIMIZER_LOG": f"{place}/log"}
    variables |= {"AWS_LAMBDA_INITIALIZATION_TYPE": "snap-start"}
    process = checkpoints.start([way.python, "-c", PROGRAM, place, task], place, variables)
    checkpoints.wait_for(place / "ready", process)
    criu.dump(process, place / "images")
    saved = {folder: place / folder.name for folder in folders if folder.exists()}
    for folder, copy in saved.items():
        shutil.copytree(folder, copy, symlinks=True)
    return Subject(criu, place, saved)


def log_of(way: ways.Way, case: running.Case, task: Path, target: Path) -> Path:
    """Write the log of a process that answers the unseen events."""
    program = (
        "import json, sys\nsys.path.insert(0, sys.argv[1])\nfrom handler import handler\n"
        "for event in json.load(open(sys.argv[2])):\n    try: handler(event, None)\n    except Exception: pass\n"
    )
    variables = {"PATH": os.environ["PATH"], "PYTHONPATH": str(way.site), "LAYER_MINIMIZER_LOG": str(target)}
    command = [way.python, "-B", "-c", program, task, case.unseen_file]
    subprocess.run(command, env=variables, cwd=task, check=True, stdout=subprocess.DEVNULL)
    return target


def measure(name: str, options: argparse.Namespace, kept: Path, criu: checkpoints.Criu) -> Iterator[list[str]]:
    """Yield the rows of a case."""
    case = running.Case.read(name)
    environment = case.environment()
    site = Path(f"lib/python{case.expected.python}/site-packages")
    with tempfile.TemporaryDirectory(prefix="snapstart-") as folder:
        scratch = Path(folder).resolve()
        task = case.make_task(environment, scratch / "task")
        app = ways.App(case, environment, site, task, scratch, kept / name)
        plain, layer = ways.make(starts.REFERENCE, app).way, ways.make("layer", app).way
        log, listed = kept / f"{name}.log", kept / f"{name}-snapstart"
        if not log.exists():
            log_of(layer, case, task, log)
        ways.make_layer(case, environment, task, listed, ("--snapstart", log))
        subjects = {
            "plain": plain,
            "layer": layer,
            "--snapstart": ways.Way(layer.python, listed / "opt/python" / site),
        }
        events = {"traced": case.events_file, "unseen": case.unseen_file}
        results: dict[str, dict[str, str]] = {}
        for way, found in subjects.items():
            subject = take_snapshot(found, task, scratch / f"of{way}", criu)
            for kind, file in events.items():
                samples = []
                for number, event in enumerate(json.loads(file.read_bytes())):
                    for _ in range(options.runs):
                        row, result = subject.answer(event)
                        samples.append(row)
                    results.setdefault(f"{kind} {number}", {})[way] = result.replace(str(found.site), "SITE")
                middle = [statistics.median(column) for column in zip(*samples, strict=True)]
                yield [name, kind, way, *(f"{value:,.1f}" for value in middle)]
        differing = [event for event, given in results.items() if len(set(given.values())) > 1]
        assert not differing, f"the results differ: {differing}"


def main() -> None:
    """Print the table row by row."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--layers", type=Path, metavar="FOLDER", help="layers that are kept between runs")
    parser.add_argument("cases", nargs="*", metavar="CASE", default=["pandas_excel", "pillow_formats"])
    options = parser.parse_args()
    try:
        criu = checkpoints.find_criu()
    except pytest.skip.Exception as problem:
        sys.exit(str(problem))
    starts.say(f"| case | events | way | {' | '.join(COLUMNS)} |\n|---|---|---|{'---:|' * len(COLUMNS)}")
    with tempfile.TemporaryDirectory(prefix="layers-") as temporary:
        kept = (options.layers or Path(temporary)).resolve()
        kept.mkdir(parents=True, exist_ok=True)
        for name in options.cases:
            for row in measure(name, options, kept, criu):
                starts.say(f"| {' | '.join(row)} |")


if __name__ == "__main__":
    main()
