"""Measures what the layers of the cases save, and how long they take to import. Not a test: it prints a table.

usage: python tests/system/benchmarks/cases.py [--cold keep drop] [--runs 7] [CASE...]

Run it with the Python that the tool is installed for. Megabytes are 10^6 bytes. Seconds are those from the start of a
fresh process until the handler is imported, with the environment and on the layer in turn, as medians; the files are in
the machine's memory by then. ``tool`` are the seconds that minimizing took. The last lines have the columns' medians.
"""

import argparse
import statistics
import sys
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "cases"))

import running

COLUMNS = ("MB", "layer", "ratio", "zipped", "import s", "on layer", "faster", "tool s")


def measure(name: str, cold: Iterable[str], runs: int) -> Iterator[tuple[str, list[float]]]:
    """Yield a row for each kind of layer."""
    case = running.Case.read(name)
    environment = case.environment()
    with tempfile.TemporaryDirectory(prefix="case-") as scratch:
        folder = Path(scratch).resolve()
        task = case.make_task(environment, folder / "task")
        trace, source = folder / "trace.json", case.workload(task)
        for kind in cold:
            saved = ("--trace", trace) if trace.exists() else (*source, "--save-trace", trace)
            layer = case.minimize(environment, folder / kind, *saved, "--cold", kind)
            pairs = [
                tuple(case.play(task, case.events_file, environment, which).import_seconds for which in (None, layer))
                for _ in range(runs)
            ]
            before, after = (statistics.median(times) for times in zip(*pairs, strict=True))
            megabytes = layer.report["before"]["bytes"] / 1e6
            row = [megabytes, layer.megabytes, layer.megabytes / megabytes, layer.zipped_megabytes]
            yield kind, [*row, before, after, before / after, sum(layer.report["seconds"].values())]


def say(name: str, kind: str, cells: Iterable[str]) -> None:
    """Print a row without buffering."""
    sys.stdout.write(f"| {' | '.join((name, kind, *cells))} |\n")
    sys.stdout.flush()


def main() -> None:
    """Print the table row by row."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cold", nargs="+", choices=("keep", "drop"), default=["keep", "drop"])
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("cases", nargs="*", metavar="CASE")
    options = parser.parse_args()
    say("case", "cold", COLUMNS)
    say("---", "---", ["---:"] * len(COLUMNS))
    rows: dict[str, list[list[float]]] = {}
    for name in options.cases or running.names():
        try:
            for kind, row in measure(name, options.cold, options.runs):
                rows.setdefault(kind, []).append(row)
                say(name, kind, [f"{value:,.2f}" for value in row])
        except AssertionError as problem:  # a failing case is printed, too
            say(name, "fails", str(problem).splitlines()[:2])
    for kind, listed in rows.items():
        medians = [statistics.median(column) for column in zip(*listed, strict=True)]
        say("median", kind, [f"{value:,.2f}" for value in medians])


if __name__ == "__main__":
    main()
