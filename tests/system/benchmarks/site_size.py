"""Measures how planning and packing grow with the number of installed files. Not a test: it prints a table.

usage: python tests/system/benchmarks/site_size.py [10000 50000 250000]

Each site holds distributions of 250 small modules; the traced run used every tenth file, as a run of a large
framework does, and imports stand between the modules. Packing is what a layer of a tenth of the files costs.
"""

import sys
import tempfile
import time
from pathlib import Path

from layer_minimizer.analysis import elf
from layer_minimizer.environment import inventory
from layer_minimizer.layer import archive, layout
from layer_minimizer.model.installed import Inventory
from layer_minimizer.model.interpreter import Interpreter
from layer_minimizer.model.trace import Trace, TracedFile, TracedModule, Use
from layer_minimizer.model.workload import Workload
from layer_minimizer.pack import staging
from layer_minimizer.plan import planner

MODULES = 250
USED = 10


def make_site(folder: Path, files: int) -> None:
    """Install ``files`` small modules, 250 per distribution."""
    for number in range(files // MODULES):
        name = f"dist{number}"
        package = folder / name
        info = folder / f"{name}-1.0.dist-info"
        package.mkdir(parents=True)
        info.mkdir()
        for module in range(MODULES):
            (package / f"m{module}.py").write_text(f"from . import m{(module + 1) % MODULES}\nVALUE = {module}\n")
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        (info / "RECORD").write_text("".join(f"{name}/m{module}.py,,\n" for module in range(MODULES)))


def make_trace(stock: Inventory) -> Trace:
    """Return the facts of a run that used every tenth file."""
    used = [file.path for file in stock.files if file.path.endswith(".py")][::USED]
    return Trace(
        python="3.11.0",
        observers=("probe",),
        kind="handler",
        modules=tuple(TracedModule(path.removesuffix(".py").replace("/", "."), path, "handler", 1) for path in used),
        files=tuple(TracedFile(path, frozenset({Use.OPEN})) for path in used),
        metadata=(),
        foreign=(),
        unplaced=(),
        processes=1,
        results=(),
        seconds=0.0,
        workload=Workload(Path("handler.py")),
    )


def measure(files: int) -> tuple[float, float, float]:
    """Return the seconds of taking the inventory, planning and packing."""
    with tempfile.TemporaryDirectory() as folder:
        site = Path(folder) / "site-packages"
        make_site(site, files)
        where = Interpreter("python", "python", (3, 11, 0), "", "x86_64", (str(site),), (), (), (), "")
        begun = time.perf_counter()
        stock = inventory.take_inventory(where)
        listed = time.perf_counter()
        sources = {file.path: Path(file.source) for file in stock.files}
        plan = planner.plan(
            make_trace(stock),
            stock,
            planner.PlanRequest(),
            library_needs=lambda paths: elf.library_closure(
                paths, lambda path: elf.read_dynamic(sources[path]), sources.__contains__
            ),
        )
        planned = time.perf_counter()
        staging.stage(plan, stock, Path(folder) / "stage", layout.Layout.SITE)
        archive.write_zip(Path(folder) / "stage", Path(folder) / "layer.zip")
        return listed - begun, planned - listed, time.perf_counter() - planned


def main() -> None:
    """Print a row per size of the environment."""
    sizes = [int(text) for text in sys.argv[1:]] or [10_000, 50_000, 250_000]
    sys.stdout.write(f"{'files':>8} {'inventory':>10} {'plan':>8} {'pack':>8} {'µs a file':>10}\n")
    for files in sizes:
        seconds = measure(files)
        each = sum(seconds) / files * 1e6
        sys.stdout.write(f"{files:>8} {seconds[0]:>9.2f}s {seconds[1]:>7.2f}s {seconds[2]:>7.2f}s {each:>10.1f}\n")


if __name__ == "__main__":
    main()
