"""Measures how long apps take to start on their layers and in their environments. Not a test: it prints a table.

usage: python tests/system/benchmarks/starts.py [--runs 15] [--cold-cache] [--save FILE] [--layers FOLDER] [APP...]
                                                [-- OPTION...]

Run it with the Python that the tool is installed for. An app is a folder in benchmarks/apps, like a case, but with
events alone; names of cases are accepted, too. Without names: all apps, and all cases that are not heavy. Options after
``--`` are passed on to minimize. ``--layers`` keeps the layers in a folder, and uses those that are there.

Each app starts in three ways, in turn and in another order in each round; all numbers are medians:

* warm: the environment as pip has installed it, with bytecode;
* none: the environment without bytecode, as a tree of hard links without ``__pycache__``. (PYTHONPYCACHEPREFIX would
  hide the standard library's bytecode, too, which Lambda has.)
* layer: the layer. Files that it restores in /tmp stay there for the next start.

All are started by an empty virtual environment of the base interpreter, with PYTHONPATH as the only difference, so that
neither pip's nor the machine's .pth files take part. An environment that needs its own .pth files starts with its own
interpreter. No bytecode is written. A round before the first one is not counted, but must return the same results.

MB are 10^6 bytes. ``tool s`` are processor seconds of minimize with empty caches. Times are from the start of the
process until the handler is imported, or until the first result. Ratios are layer to warm, less than 1 is better. With
``--cold-cache`` a third of the rounds are repeated with an empty page cache before each start, which takes root.
"""

import argparse
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "cases"))

import running

from layer_minimizer.environment.processor import chosen_code

APPS = Path(__file__).resolve().with_name("apps")
RATIOS = ("cpu import", "cpu first", "wall import", "wall first")
COLUMNS = ("app", "MB→layer/zipped", "tool s", "import ms warm/none/layer", *RATIOS, "RSS MiB")
COLD_COLUMNS = ("cold cache: import ms warm/none/layer", "wall import", "wall first")
Samples = dict[str, list[dict[str, float]]]
Medians = dict[str, dict[str, float]]
Found = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Way:
    """A way to start an app: an interpreter, and site-packages, which are on PYTHONPATH unless they are its own."""

    python: Path
    site: Path

    def start(self, task: Path, events: Path, scratch: Path) -> tuple[dict[str, float], str]:
        """Start the app in a process of its own; return what it has taken, and its first result."""
        with tempfile.TemporaryDirectory(dir=scratch) as empty:
            command = [self.python, scratch / "app_runner.py", task, events]
            variables = {"PATH": os.environ["PATH"], "HOME": empty, "TMPDIR": empty, "LANG": "C.UTF-8"}
            path = "" if self.site.is_relative_to(self.python.parent.parent) else str(self.site)
            variables |= chosen_code(os.environ) | {
                "PYTHONDONTWRITEBYTECODE": "1",
                "PYTHONPATH": path,
                "START": repr(time.monotonic()),
            }
            done = subprocess.run(command, env=variables, cwd=task, text=True, capture_output=True, check=False)
        assert done.returncode == 0, f"exit code {done.returncode}\n{done.stderr[-3000:]}"
        measured, result = json.loads(done.stdout.splitlines()[-1])
        return measured, result


def read(name: str) -> running.Case:
    """Return an app, or a case of this name."""
    if (APPS / name).is_dir():
        return running.Case(APPS / name, running.Expected((), (), 0.0, ()))
    return running.Case.read(name)


def default_names() -> list[str]:
    """Return the names of all apps and of the cases that are not heavy."""
    apps = sorted(folder.name for folder in APPS.iterdir())
    return apps + [name for name in running.names() if not running.Case.read(name).expected.heavy]


def make_layer(case: running.Case, environment: Path, task: Path, folder: Path, options: Iterable[str]) -> float:
    """Make the layer in ``folder`` unless it is there; return the processor seconds that this has taken."""
    seconds = folder / "cpu_seconds"
    if not seconds.exists():
        shutil.rmtree(folder, ignore_errors=True)
        with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as caches:
            patch.setenv("LAYER_MINIMIZER_CACHE", caches)
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            case.minimize(environment, folder, *case.workload(task), *options)
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds.write_text(str(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime))
    return float(seconds.read_text())


def ways_of(environment: Path, site: Path, layer: Path, scratch: Path) -> dict[str, Way]:
    """Return the ways to start an app; ``site`` is the path of site-packages in an environment and in a layer."""
    bare, plain = scratch / "bare", scratch / "plain"
    base = (environment / "bin/python").resolve()
    subprocess.run([base, "-I", "-m", "venv", "--without-pip", bare], check=True)
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(environment, plain, symlinks=True, ignore=ignored, copy_function=_link)
    own = {file.name for file in (environment / site).glob("*.pth")} - {"distutils-precedence.pth"}
    roots = {"warm": environment, "none": plain, "layer": layer / "opt/python"}
    return {
        name: Way((root if own and name != "layer" else bare) / "bin/python", root / site)
        for name, root in roots.items()
    }


def _link(source: str, target: str) -> None:
    """Make a hard link; a copy on another file system."""
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError:
        shutil.copy2(source, target)


def play(ways: Mapping[str, Way], runs: int, case: running.Case, task: Path, *, cold: bool) -> Samples:
    """Start the app in each of the ways in turn."""
    samples: Samples = {name: [] for name in ways}
    order = list(ways)
    for number in range(runs + 1):
        results = set()
        for name in order:
            if cold:
                os.sync()
                Path("/proc/sys/vm/drop_caches").write_text("3\n")
            measured, result = ways[name].start(task, case.events_file, task.parent)
            results.add(result.replace(str(ways[name].site), "SITE"))
            if number:
                samples[name].append(measured)
        assert number or len(results) == 1, f"the results differ: {sorted(results)}"
        order = [*order[1:], order[0]]
    return samples


def medians(samples: Samples) -> Medians:
    """Return the median of each measured value, for each way."""
    return {
        way: {key: statistics.median(one[key] for one in listed) for key in listed[0]}
        for way, listed in samples.items()
    }


def measure(name: str, options: argparse.Namespace, kept: Path, extra: Iterable[str]) -> Found:
    """Return all that was measured for an app."""
    case = read(name)
    environment = case.environment()
    site = Path(f"lib/python{case.expected.python}/site-packages")
    with tempfile.TemporaryDirectory(prefix="start-") as place:
        scratch = Path(place).resolve()
        shutil.copy(APPS.with_name("app_runner.py"), scratch)
        task = case.make_task(environment, scratch / "task")
        found: Found = {"tool": make_layer(case, environment, task, kept / name, extra)}
        report = json.loads((kept / name / "report.json").read_bytes())
        sizes = (report["before"]["bytes"], report["layer"]["unzipped_bytes"], report["layer"]["zipped_bytes"])
        found["megabytes"] = [size / 1e6 for size in sizes]
        ways = ways_of(environment, site, kept / name, scratch)
        found["samples"] = play(ways, options.runs, case, task, cold=False)
        if options.cold_cache:
            found["cold cache"] = play(ways, max(3, options.runs // 3), case, task, cold=True)
    return found


def row(name: str, found: Found) -> list[str]:
    """Return the cells of an app."""
    middle = medians(found["samples"])
    size, layer, zipped = found["megabytes"]
    cells = [name, f"{size:.1f}→{layer:.1f}/{zipped:.1f}", f"{found['tool']:.0f}", _imports(middle)]
    cells += [f"{_ratio(middle, ratio):.2f}" for ratio in RATIOS]
    cells.append(f"{middle['warm']['rss']:.0f}→{middle['layer']['rss']:.0f}")
    if "cold cache" in found:
        cold = medians(found["cold cache"])
        cells += [_imports(cold), *(f"{_ratio(cold, ratio):.2f}" for ratio in RATIOS[2:])]
    return cells


def _imports(middle: Medians) -> str:
    return "/".join(f"{values['import wall'] * 1e3:.0f}" for values in middle.values())


def _pair(middle: Medians, ratio: str) -> tuple[float, float]:
    """Return the seconds in the environment and on the layer; "cpu import" is the ratio of "import cpu"."""
    key = " ".join(reversed(ratio.split()))
    return middle["warm"][key], middle["layer"][key]


def _ratio(middle: Medians, ratio: str) -> float:
    return _pair(middle, ratio)[1] / _pair(middle, ratio)[0]


def summary(rows: Mapping[str, Found]) -> Iterable[str]:
    """Yield a line for each ratio: its mean, and by how many milliseconds which apps are slower on their layers."""
    for ratio in RATIOS:
        pairs = {name: _pair(medians(found["samples"]), ratio) for name, found in rows.items()}
        mean = statistics.mean(after / before for before, after in pairs.values())
        slower = [f"{name} +{(after - before) * 1e3:.1f}" for name, (before, after) in pairs.items() if after > before]
        yield f"{ratio}: mean {mean:.3f}; over 1: {len(slower)} of {len(rows)}; ms: {', '.join(slower) or '-'}"


def say(text: str) -> None:
    """Print a line without buffering."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def main() -> None:
    """Print the table row by row."""
    split = [*sys.argv, "--"].index("--")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=15)
    parser.add_argument("--cold-cache", action="store_true", help="also with an empty page cache; takes root")
    parser.add_argument("--save", type=Path, metavar="FILE", help="write all measured values as JSON")
    parser.add_argument("--layers", type=Path, metavar="FOLDER", help="layers that are kept between runs")
    parser.add_argument("apps", nargs="*", metavar="APP")
    options = parser.parse_args(sys.argv[1:split])
    if unknown := [name for name in options.apps if not any((at / name).is_dir() for at in (APPS, running.CASES))]:
        parser.error(f"there is no app and no case of this name: {', '.join(unknown)}")
    if options.cold_cache and os.geteuid():
        say("--cold-cache is left out: only root can empty the page cache")
        options.cold_cache = False
    columns = COLUMNS + COLD_COLUMNS * options.cold_cache
    say(f"| {' | '.join(columns)} |\n|{'---|' * len(columns)}")
    rows: dict[str, Found] = {}
    with tempfile.TemporaryDirectory(prefix="layers-") as temporary:
        kept = (options.layers or Path(temporary)).resolve()
        kept.mkdir(parents=True, exist_ok=True)
        for name in options.apps or default_names():
            try:
                rows[name] = measure(name, options, kept, sys.argv[split + 1 :])
            except (AssertionError, LookupError, subprocess.SubprocessError) as problem:
                say(f"| {name} | fails: {' '.join(str(problem).split())[-300:]} |")
                continue
            say(f"| {' | '.join(row(name, rows[name]))} |")
            if options.save:
                options.save.write_text(json.dumps(rows, indent=1))
    say("\n".join(summary(rows) if rows else ()))


if __name__ == "__main__":
    main()
