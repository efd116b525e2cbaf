"""Read import statements without running them: which modules the kept files could import, in addition to the trace.

Only modulegraph's reader of import statements is used. Its full closure reads every file of a site, which takes minutes
for a large one and is not needed: the trace already shows what runs. Here only the statements of the kept files are
read, and their names are looked up among the installed modules.
"""

from __future__ import annotations

import ast
import contextlib
import gc
import importlib.util
import io
import json
import os
import subprocess
import sys
import threading
import warnings
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING

from layer_minimizer.analysis.import_tokens import find_imports
from layer_minimizer.core.errors import PlanError
from layer_minimizer.model.modules import with_parents
from layer_minimizer.model.plan import NotExercised

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence

with warnings.catch_warnings():
    # On Python 3.11 modulegraph imports `imp`, which is deprecated; on later versions it has its own copy.
    warnings.simplefilter("ignore")
    from modulegraph.modulegraph import _Visitor
_MIN_MODULES_FOR_PROCESSES = 200  # for fewer, starting interpreters takes longer than it saves
_NOT_SOURCE = frozenset({".so", ".pyd", ".pyc"})  # modules without source, some of them hundreds of megabytes
_STATEMENT_LISTS = ("body", "handlers", "orelse", "finalbody", "cases")
_WORKER = """\
import json, sys
job = json.load(sys.stdin.buffer)
sys.path[:] = job["path"]
from layer_minimizer.analysis.imports import read_share
read_share(job["modules"], sys.stdout)
"""
# Warning filters are global: two threads that set and restore them must not overlap.
_WARNINGS = threading.Lock()
_Entry = tuple[str, str, bool]  # module, path, whether it is a package


@dataclass(frozen=True, slots=True)
class ImportStatement:
    """One import statement of a module, with its position and context for messages to the user.

    Attributes:
        importer: Name of the module that contains the statement.
        name: Absolute name of the imported module; relative names are resolved.
        names: The names after `from name import`, sorted, without the star.
        line: Line of the statement.
        conditional: It is inside an `if` or a `match`.
        function: It is inside a function, so importing the module does not run it.
        tryexcept: It is inside a `try`, so its failure may be expected.
    """

    importer: str
    name: str
    names: tuple[str, ...]
    line: int
    conditional: bool
    function: bool
    tryexcept: bool


class _Reader(_Visitor):  # type: ignore[misc]  # modulegraph has no types
    """Modulegraph's visitor with line numbers and newer statements, which does not visit expressions."""

    def __init__(self) -> None:
        super().__init__(None)
        self.lines: list[int] = []

    def generic_visit(self, node: ast.AST) -> None:
        # Expressions cannot contain imports, and most nodes of a tree are expressions.
        for field in _STATEMENT_LISTS:
            for child in getattr(node, field, ()):
                self.visit(child)

    def visit_Import(self, node: ast.Import) -> None:  # noqa: N802 - ast's naming
        super().visit_Import(node)
        self.lines += [node.lineno] * len(node.names)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:  # noqa: N802 - ast's naming
        super().visit_ImportFrom(node)
        self.lines.append(node.lineno)

    def visit_If(self, node: ast.If) -> None:  # noqa: N802 - ast's naming
        self._in_if.append(True)
        rest: list[ast.stmt] = [node]
        while len(rest) == 1 and isinstance(rest[0], ast.If):
            # A loop instead of recursion, because each `elif` is one nested level.
            for child in rest[0].body:
                self.visit(child)
            rest = rest[0].orelse
        for child in rest:
            self.visit(child)
        self._in_if.pop()

    def read_tokens(self, content: bytes) -> None:
        """Read what has the grammar of another Python."""
        for found in find_imports(content):
            self._in_if, self._in_def, self._in_tryexcept = [found.conditional], [found.function], [found.tryexcept]
            self.visit(found.node)

    visit_Match = _Visitor.visit_If  # noqa: N815 - ast's naming
    visit_TryStar = _Visitor.visit_Try  # noqa: N815 - ast's naming


def _parse(content: bytes) -> ast.Module | None:
    with _WARNINGS, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with contextlib.suppress(ValueError, RecursionError, MemoryError):
            return ast.parse(content)
    return None


def _absolute(importer: str, name: str, level: int, *, is_package: bool) -> str:
    if not level:
        return name
    package = importer if is_package else importer.rpartition(".")[0]
    try:
        return importlib.util.resolve_name("." * level + name, package)
    except ImportError:  # it points above the top-level package: it would fail at run time, too
        return ""


def read_imports(name: str, source: Path, *, is_package: bool) -> tuple[ImportStatement, ...]:
    """Return the import statements of a module's source, in the order of its lines.

    The result is empty for a file that is unreadable or is not the source of a Python 3.
    Relative imports depend on `is_package`: whether the file is a package's `__init__`.
    """
    reader = _Reader()
    try:
        content = b"" if source.suffix in _NOT_SOURCE else source.read_bytes()
        tree = _parse(content) if b"import" in content else None
        if tree is not None:
            reader.visit(tree)
    except SyntaxError:
        reader.read_tokens(content)
    except (OSError, RecursionError):
        return ()
    found = []
    for line, (_, _, (named, _, names, level), attributes) in zip(reader.lines, reader.imports, strict=True):
        how = attributes["attr"]
        if absolute := _absolute(name, named, level, is_package=is_package):
            flags = how.conditional, how.function, how.tryexcept
            found.append(ImportStatement(name, absolute, tuple(sorted(names or ())), line, *flags))
    return tuple(found)


def read_share(modules: Iterable[_Entry], output: IO[str]) -> None:
    """Read one share of the modules and write the statements as JSON; `scan` runs this in separate processes."""
    # Syntax trees have no reference cycles, and garbage collection would take a third of the time.
    gc.disable()
    found = [astuple(entry) for name, path, package in modules for entry in _read(name, path, package)]
    json.dump(found, output)


def _read(name: str, path: str, is_package: bool) -> tuple[ImportStatement, ...]:  # noqa: FBT001 - a row's fields
    return read_imports(name, Path(path), is_package=is_package)


def _shares(entries: Iterable[_Entry], jobs: int) -> list[list[_Entry]]:
    """Distribute the modules by size, so that every process reads about the same number of bytes."""
    sized = sorted(entries, key=lambda entry: (_size(entry[1]), entry), reverse=True)
    return [sized[number::jobs] for number in range(min(jobs, len(sized)))]


def _size(path: str) -> int:
    try:
        return Path(path).stat().st_size
    except OSError:
        return 0


@contextlib.contextmanager
def _processes(count: int) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Start worker processes, and kill them when the block is left.

    Plain interpreters instead of multiprocessing: forking a program with threads can hang, and spawning imports the
    caller's main module again, which may be a script without an ``if __name__ == "__main__"`` guard.
    """
    pipe = subprocess.PIPE
    command = [sys.executable, "-I", "-B", "-c", _WORKER]
    started = []
    with contextlib.ExitStack() as stack:
        for _ in range(count):
            # A separate process group: Ctrl-C is sent to this process alone, and workers print no tracebacks.
            process = subprocess.Popen(command, stdin=pipe, stdout=pipe, process_group=0)  # noqa: S603 - no input
            stack.callback(_end, process)
            started.append(process)
        yield started


def _end(process: subprocess.Popen[bytes]) -> None:
    # Closing the pipes flushes data that a worker that has already ended did not read.
    with contextlib.suppress(BrokenPipeError), process:
        process.kill()


def _scan_in_processes(shares: Sequence[list[_Entry]]) -> list[ImportStatement]:
    path = [*filter(None, sys.path), str(Path(__file__).resolve().parents[2])]
    found: list[ImportStatement] = []
    with _processes(len(shares)) as processes:
        for process, share in zip(processes, shares, strict=True):
            # If a worker has already ended, its exit status is checked below.
            with contextlib.suppress(BrokenPipeError), process.stdin or io.BytesIO() as requests:
                requests.write(json.dumps({"path": path, "modules": share}).encode())
        for process in processes:
            answer = process.stdout.read() if process.stdout else b""
            if process.wait():
                raise PlanError(
                    f"A process that reads import statements ended with status {process.returncode}: "
                    "free some memory and try again."
                )
            for importer, name, names, *rest in json.loads(answer):
                found.append(ImportStatement(importer, name, tuple(names), *rest))
    return found


def scan(modules: Mapping[str, tuple[Path, bool]], jobs: int | None = None) -> tuple[ImportStatement, ...]:
    """Read the import statements of many modules, in several processes when there are enough of them.

    Args:
        modules: File of each module, and whether it is a package's `__init__`.
        jobs: Number of processes; the number of processors if None.

    Returns:
        The statements by module and line; `jobs` does not change the order.

    Raises:
        PlanError: A process was killed.
    """
    entries = [(name, os.fspath(path), is_package) for name, (path, is_package) in sorted(modules.items())]
    if len(entries) < _MIN_MODULES_FOR_PROCESSES or not sys.executable:
        return tuple(statement for entry in entries for statement in _read(*entry))
    # The sort is stable, and a module's statements come from one process in the order of its source.
    shares = _shares(entries, max(1, jobs or os.cpu_count() or 1))
    return tuple(sorted(_scan_in_processes(shares), key=lambda statement: statement.importer))


def targets(statement: ImportStatement, available: Container[str]) -> tuple[str, ...]:
    """Return which of the available modules a statement would import, parent packages first."""
    named = [*with_parents(statement.name), *(f"{statement.name}.{name}" for name in statement.names)]
    return tuple(module for module in named if module in available)


def not_exercised(
    statements: Iterable[ImportStatement], available: Container[str], traced: Container[str]
) -> tuple[NotExercised, ...]:
    """Return the installed modules that kept code could import but that are not in the trace.

    Each module occurs once, with its first importer in sorted order other than itself; the entries are sorted.
    """
    first: dict[str, tuple[str, int]] = {}
    for statement in statements:
        for module in targets(statement, available):
            if module not in traced and module != statement.importer:
                place = (statement.importer, statement.line)
                first[module] = min(first.get(module, place), place)
    return tuple(NotExercised(module, *place) for module, place in sorted(first.items()))


def closure(
    roots: Iterable[str],
    available: Mapping[str, tuple[Path, bool]],
    follow: Callable[[ImportStatement], bool] = lambda _: True,
) -> tuple[str, ...]:
    """Return all available modules that the roots can reach by import statements.

    The result is sorted and contains the roots, their packages, and everything that these import, directly or not, by
    statements for which ``follow`` returns true.
    """
    reached: set[str] = set()
    waiting = [module for root in roots for module in with_parents(root) if module in available]
    while waiting:
        module = waiting.pop()
        if module in reached:
            continue
        reached.add(module)
        source, is_package = available[module]
        for statement in read_imports(module, source, is_package=is_package):
            if follow(statement):
                waiting += targets(statement, available)
    return tuple(sorted(reached))
