"""Measures how apps start in their environments, and as tools have made them smaller. Not a test: it prints a table.

usage: python tests/system/benchmarks/starts.py [--ways no-bytecode,layer] [--runs 15] [--cold-cache] [--save FILE]
                                                [--layers FOLDER] [--patience SECONDS] [APP...] [-- OPTION...]

Run it with the Python that the tool is installed for. An app is a folder in benchmarks/apps, like a case, but without
expectations; names of cases are accepted, too. Without names: all apps, and all cases that are not heavy. Options
after ``--`` are passed on to minimize. ``--layers`` keeps what tools make in a folder, and uses what is there.
``--save`` writes all measured values as JSON; what the file has already is not measured again, so that a run can be
continued.

An app starts in its environment and in the chosen ways, in turn and in another order in each round:

* environment: as pip has installed it, with bytecode;
* no-bytecode: a tree of hard links without ``__pycache__``. (PYTHONPYCACHEPREFIX would hide the standard library's
  bytecode, too, which Lambda has.)
* layer: the layer that minimize makes. Files that it restores in /tmp stay there for the next start;
* pyinstaller: PyInstaller's folder, whose program answers the same events. It contains the interpreter;
* ltrim: the site-packages that λ-trim has rewritten, with bytecode. It rewrites the standard library, too: so it gets a
  copy of the interpreter. Its run is given up after ``--patience``, and so is PyInstaller's.

Interpreters are those of empty virtual environments, with PYTHONPATH as the only difference, so that neither pip's nor
the machine's .pth files take part. An environment that needs its own .pth files starts with its own interpreter. No
bytecode is written. A round before the first one is not counted. The results of all events must be equal in all ways
and rounds; a way that fails or differs is left out, and the table says why. Events in unseen.json, which are not given
to the tools, are compared once: ``unseen`` says how many have the environment's result, which can be an error.

Each row of the table compares a way with the environment (→). MB are 10^6 bytes, without pip and setuptools unless
they are required; ``zipped`` is what the files take in a zip. ``tool s`` are processor seconds of the tool with empty
caches. Times are medians from the start of the process until the handler is imported, or until the first result.
Ratios are those to the environment, less than 1 is better. With ``--cold-cache`` a third of the rounds are repeated
with an empty page cache before each start, which takes root.
"""

import argparse
import datetime as dt
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

import ways
from ways import running

APPS = Path(__file__).resolve().with_name("apps")
REFERENCE = "environment"
RATIOS = ("cpu import", "cpu first", "wall import", "wall first")
COLUMNS = ("app", "way", "MB", "zipped MB", "tool s", "cpu ms import", "cpu ms first", *RATIOS, "RSS MiB", "unseen")
COLD_COLUMNS = ("cold cache: wall ms import", "wall import", "wall first")
TOO_SLOW = 1.05
Samples = dict[str, list[dict[str, float]]]
Found = dict[str, Any]


def read(name: str) -> running.Case:
    """Return an app, or a case of this name."""
    return ways.read_app(APPS / name) if (APPS / name).is_dir() else running.Case.read(name)


def default_names() -> list[str]:
    """Return the names of all apps and of the cases that are not heavy."""
    apps = sorted(folder.name for folder in APPS.iterdir())
    return apps + [name for name in running.names() if not running.Case.read(name).expected.heavy]


def play(
    made: Mapping[str, ways.Way], runs: int, case: running.Case, task: Path, *, cold: bool = False
) -> tuple[Samples, dict[str, str]]:
    """Start the app in each of the ways in turn; return what each has taken, and the reasons of those left out."""
    samples: Samples = {name: [] for name in made}
    wrong: dict[str, str] = {}
    wanted: list[list[str]] = []
    order = list(made)
    for number in range(runs + 1):
        for name in [name for name in order if name not in wrong]:
            if cold:
                os.sync()
                Path("/proc/sys/vm/drop_caches").write_text("3\n")
            try:
                measured, results = made[name].start(task, case.events_file, task.parent)
                wanted = wanted or _without_errors(results)
                assert results == wanted, f"{results} instead of {wanted}"
            except AssertionError as problem:
                if name == REFERENCE:
                    raise
                wrong[name] = " ".join(str(problem).split())[-300:]
                continue
            if number:
                samples[name].append(measured)
        order = [*order[1:], order[0]] if number else order
    return samples, wrong


def _without_errors(results: list[list[str]]) -> list[list[str]]:
    assert all(kind == "ok" for kind, _ in results), f"the environment raises errors: {results}"
    return results


def unseen(made: Mapping[str, ways.Way], case: running.Case, task: Path) -> dict[str, str]:
    """Return for each way how many results of the unseen events are the environment's, and the first other one."""
    results = {}
    for name, way in made.items():
        try:
            results[name] = way.start(task, case.unseen_file, task.parent)[1]
        except AssertionError as problem:
            results[name] = [["no answer", " ".join(str(problem).split())[-300:]]]
    wanted = results[REFERENCE]
    found = {}
    for name, listed in results.items():
        equal = [here == there for here, there in zip(listed, wanted, strict=False)]
        found[name] = f"{sum(equal)}/{len(wanted)}"
        if not all(equal):
            number = equal.index(False)
            found[name] += f" ({listed[number]} instead of {wanted[number]})"
    return found


def measure(name: str, options: argparse.Namespace, kept: Path, extra: Iterable[str], known: Found) -> Found:
    """Return what was measured for an app: a dictionary for each way, or why there is nothing."""
    case = read(name)
    environment = case.environment()
    site = Path(f"lib/python{case.expected.python}/site-packages")
    with tempfile.TemporaryDirectory(prefix="start-") as place:
        scratch = Path(place).resolve()
        shutil.copy(APPS.with_name("app_runner.py"), scratch)
        task = case.make_task(environment, scratch / "task")
        app = ways.App(case, environment, site, task, scratch, kept / name, tuple(extra), options.patience)
        made: dict[str, ways.Made] = {}
        found: Found = dict(known)
        for way in [REFERENCE, *(way for way in options.ways if way not in known)]:
            try:
                made[way] = ways.make(way, app)
            except ways.ToolError as problem:
                found[way] = {"fails": str(problem)}
        if len(made) == 1:
            return found
        starting = {way: one.way for way, one in made.items()}
        samples, wrong = play(starting, options.runs, case, task)
        starting = {way: one for way, one in starting.items() if way not in wrong}
        cold = play(starting, max(3, options.runs // 3), case, task, cold=True)[0] if options.cold_cache else {}
        answers = unseen(starting, case, task)
        # Each way is compared with the environment's starts of the same rounds.
        for way in starting:
            if way != REFERENCE:
                sizes = zip(made[REFERENCE].megabytes(), made[way].megabytes(), strict=True)
                found[way] = {
                    "megabytes": list(sizes),
                    "tool": made[way].seconds,
                    "samples": [samples[REFERENCE], samples[way]],
                    "unseen": answers[way],
                }
                if cold:
                    found[way]["cold cache"] = [cold[REFERENCE], cold[way]]
    return found | {way: {"fails": f"wrong: {reason}"} for way, reason in wrong.items()}


def pair(samples: list[list[dict[str, float]]], key: str) -> tuple[float, float]:
    """Return the medians of a value in the environment and in another way; "cpu import" is the key "import cpu"."""
    key = " ".join(reversed(key.split()))
    before, after = (statistics.median(one[key] for one in listed) for listed in samples)
    return before, after


def row(name: str, way: str, found: Found) -> list[str]:
    """Return the cells of an app in one way."""
    if "fails" in found:
        return [name, way, found["fails"].replace("|", "/")]
    cells = [name, way, *(_arrow(sizes, 1) for sizes in found["megabytes"]), f"{found['tool']:.0f}"]
    cells += [_milliseconds(found["samples"], key) for key in RATIOS[:2]]
    cells += [_ratio(found["samples"], key) for key in RATIOS]
    cells += [_arrow(pair(found["samples"], "rss"), 0), found["unseen"].replace("|", "/")]
    if "cold cache" in found:
        cells += [_milliseconds(found["cold cache"], RATIOS[2])]
        cells += [_ratio(found["cold cache"], key) for key in RATIOS[2:]]
    return cells


def _arrow(values: Iterable[float], digits: int) -> str:
    return "→".join(f"{value:.{digits}f}" for value in values)


def _milliseconds(samples: list[list[dict[str, float]]], key: str) -> str:
    return _arrow((value * 1e3 for value in pair(samples, key)), 0)


def _ratio(samples: list[list[dict[str, float]]], key: str) -> str:
    before, after = pair(samples, key)
    return f"{after / before:.2f}"


def summary(rows: Mapping[str, Found]) -> Iterator[str]:
    """Yield a line for each way and ratio: its mean, and by how many milliseconds which apps are slower."""
    for way in ways.MAKERS:
        measured = {name: found[way]["samples"] for name, found in rows.items() if "samples" in found.get(way, {})}
        for key in RATIOS if measured else ():
            pairs = {name: pair(samples, key) for name, samples in measured.items()}
            ratios = [after / before for before, after in pairs.values()]
            over = sum(ratio > TOO_SLOW for ratio in ratios)
            slower = [
                f"{name} +{(after - before) * 1e3:.0f}" for name, (before, after) in pairs.items() if after > before
            ]
            yield (
                f"{way}, {key}: mean {statistics.mean(ratios):.3f} ({min(ratios):.2f} to {max(ratios):.2f}); over "
                f"{TOO_SLOW}: {over} of {len(ratios)}; slower by ms: {', '.join(slower) or '-'}"
            )


def machine() -> str:
    """Return the date, the machine and the interpreter."""
    models = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    model = models[0].partition(": ")[2] if models else platform.machine()
    today = dt.datetime.now(dt.UTC).date()
    return f"{today}: {os.cpu_count()} processors, {model}; Linux {platform.release()}"


def say(text: str) -> None:
    """Print a line without buffering."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def parse(arguments: list[str]) -> argparse.Namespace:
    """Return the options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ways", default="no-bytecode,layer", help=f"of {', '.join(ways.MAKERS)}, with commas")
    parser.add_argument("--runs", type=int, default=15)
    parser.add_argument("--cold-cache", action="store_true", help="also with an empty page cache; takes root")
    parser.add_argument("--save", type=Path, metavar="FILE", help="all measured values as JSON")
    parser.add_argument("--layers", type=Path, metavar="FOLDER", help="what tools have made, kept between runs")
    parser.add_argument("--patience", type=float, default=900.0, metavar="SECONDS", help="for a run of another tool")
    parser.add_argument("apps", nargs="*", metavar="APP")
    options = parser.parse_args(arguments)
    options.ways = [way for way in options.ways.split(",") if way != REFERENCE]
    if unknown := [name for name in options.apps if not any((at / name).is_dir() for at in (APPS, running.CASES))]:
        parser.error(f"there is no app and no case of this name: {', '.join(unknown)}")
    if unknown := [way for way in options.ways if way not in ways.MAKERS]:
        parser.error(f"there is no way of this name: {', '.join(unknown)}")
    if options.cold_cache and os.geteuid():
        say("--cold-cache is left out: only root can empty the page cache")
        options.cold_cache = False
    return options


def main() -> None:
    """Print the table row by row."""
    split = [*sys.argv, "--"].index("--")
    options = parse(sys.argv[1:split])
    columns = COLUMNS + COLD_COLUMNS * options.cold_cache
    say(f"{machine()}; {options.runs} rounds\n\n| {' | '.join(columns)} |\n|{'---|' * len(columns)}")
    rows: dict[str, Found] = {}
    if options.save and options.save.exists():
        rows = json.loads(options.save.read_bytes())
    with tempfile.TemporaryDirectory(prefix="layers-") as temporary:
        kept = (options.layers or Path(temporary)).resolve()
        kept.mkdir(parents=True, exist_ok=True)
        for name in options.apps or default_names():
            known = {way: found for way, found in rows.get(name, {}).items() if "samples" in found}
            if not all(way in known for way in options.ways):
                try:
                    rows[name] = measure(name, options, kept, sys.argv[split + 1 :], known)
                except (AssertionError, LookupError, subprocess.SubprocessError) as problem:
                    rows[name] = {REFERENCE: {"fails": " ".join(str(problem).split())[-300:]}}
            for way, found in rows[name].items():
                say(f"| {' | '.join(row(name, way, found))} |")
            if options.save:
                options.save.write_text(json.dumps(rows, indent=1))
    say("\n".join(["", *summary(rows)]))


if __name__ == "__main__":
    main()
