"""Measures processes that start at once on one layer, as on Lambda Managed Instances. Not a test: it prints a table.

usage: python tests/system/benchmarks/managed_instances.py [--runs 5] [--workers 16] [--layers FOLDER] [APP...]

Run it with the Python that the tool is installed for. Apps and layers are those of starts.py, and so are three of its
ways: the environment with bytecode, the environment without, and the layer. For each way a process forks the workers,
and each of these imports the handler and answers the first event; all results must be equal.

Medians of: seconds from the start of the first process until the last worker has answered; processor seconds of all
processes; the sums of all workers' RSS and PSS (of which a page that several have counts once), in MiB, once all have
answered; and what the layer has restored in /tmp, in MB, which is empty before each run.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import starts
import ways

COLUMNS = ("wall", "cpu", "rss", "pss", "tmp")
RUNNER = Path(__file__).resolve().with_name("managed_runner.py")
VARIABLES = {"AWS_LAMBDA_INITIALIZATION_TYPE": "lambda-managed-instances"}
WAYS = (starts.REFERENCE, "no-bytecode", "layer")


def restored_of(site: Path) -> list[Path]:
    """Return the folders in which a layer restores its cold files."""
    # The links lead nowhere until something is restored.
    return [Path(os.readlink(store / "link")).parent for store in site.glob("_layer_minimizer/cold/*")]


def start(way: ways.Way, task: Path, events: Path, workers: int) -> tuple[dict[str, float], str]:
    """Start all workers; return what they have taken, and their result."""
    folders = restored_of(way.site)
    for folder in folders:
        subprocess.run(["rm", "-rf", folder], check=True)
    with tempfile.TemporaryDirectory(prefix="managed-") as empty:
        variables = way.variables(empty) | VARIABLES
        variables |= {"AWS_LAMBDA_MAX_CONCURRENCY": str(workers), "START": repr(time.monotonic())}
        command = [way.python, RUNNER, task, events, str(workers)]
        done = subprocess.run(command, env=variables, cwd=task, text=True, capture_output=True, check=False)
    assert done.returncode == 0, f"exit code {done.returncode}\n{done.stderr[-3000:]}"
    measured, results = json.loads(done.stdout.splitlines()[-1])
    assert len(results) == 1, f"the workers' results differ: {results}"
    files = [file for folder in folders for file in folder.rglob("*") if file.is_file() and not file.is_symlink()]
    return {**measured, "tmp": sum(file.stat().st_size for file in files) / 1e6}, results[0]


def play(made: Mapping[str, ways.Way], app: ways.App, options: argparse.Namespace) -> starts.Samples:
    """Start in each of the ways in turn."""
    samples: starts.Samples = {name: [] for name in made}
    order = list(made)
    for number in range(options.runs + 1):
        results = set()
        for name in order:
            measured, result = start(made[name], app.task, app.case.events_file, options.workers)
            results.add(result.replace(str(made[name].site), "SITE"))
            if number:
                samples[name].append(measured)
        assert len(results) == 1, f"the results differ: {sorted(results)}"
        order = [*order[1:], order[0]]
    return samples


def measure(name: str, options: argparse.Namespace, kept: Path) -> starts.Samples:
    """Return what was measured for an app."""
    case = starts.read(name)
    environment = case.environment()
    with tempfile.TemporaryDirectory(prefix="managed-") as place:
        scratch = Path(place).resolve()
        task = case.make_task(environment, scratch / "task")
        site = Path(f"lib/python{case.expected.python}/site-packages")
        app = ways.App(case, environment, site, task, scratch, kept / name)
        return play({way: ways.make(way, app).way for way in WAYS}, app, options)


def main() -> None:
    """Print the table row by row."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--workers", type=int, default=16)
    parser.add_argument("--layers", type=Path, metavar="FOLDER", help="layers that are kept between runs")
    parser.add_argument("apps", nargs="*", metavar="APP", default=["pandas", "lxml", "thumbnail"])
    options = parser.parse_args()
    starts.say(f"| app | way | {' | '.join(COLUMNS)} |\n|---|---|{'---:|' * len(COLUMNS)}")
    with tempfile.TemporaryDirectory(prefix="layers-") as temporary:
        kept = (options.layers or Path(temporary)).resolve()
        kept.mkdir(parents=True, exist_ok=True)
        for name in options.apps:
            for way, listed in measure(name, options, kept).items():
                cells = [f"{statistics.median(one[column] for one in listed):,.2f}" for column in COLUMNS]
                starts.say(f"| {name} | {way} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
