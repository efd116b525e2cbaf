"""The second opinion beside the trace: which modules the kept files could import, read without running them.

Only modulegraph's reader of import statements is used. Its full closure descends into every file of a site, which takes
minutes for a large one and answers a question that nobody asked: the trace already says what runs. Here the statements
of the kept files are read and their names are looked up in an inventory of the modules that are there.
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

from layer_minimizer.core.errors import PlanError
from layer_minimizer.model.modules import with_parents
from layer_minimizer.model.plan import NotExercised

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence

with warnings.catch_warnings():
    # On Python 3.11 modulegraph imports `imp`, which is deprecated; on later ones it brings its own copy.
    warnings.simplefilter("ignore")
    from modulegraph.modulegraph import _Visitor
_IN_PROCESS_BELOW = 200  # starting interpreters costs more than it saves
_NOT_SOURCE = frozenset({".so", ".pyd", ".pyc"})  # modules without text, some of them hundreds of megabytes
_STATEMENT_LISTS = ("body", "handlers", "orelse", "finalbody", "cases")
_OLD_SYNTAX = (3, 6)  # the last version in which `async` and `await` are ordinary names
_WORKER = """\
import json, sys
job = json.load(sys.stdin.buffer)
sys.path[:] = job["path"]
from layer_minimizer.analysis.imports import work
work(job["modules"], sys.stdout)
"""
# Filters of warnings belong to the whole process: two readers that set and restore them must not overlap.
_WARNINGS = threading.Lock()
_Entry = tuple[str, str, bool]  # module, path, is it a package


@dataclass(frozen=True, slots=True)
class ImportStatement:
    """What one import statement of a module asks for, with the place and the circumstances to show a user.

    Attributes:
        importer: Name of the module that holds the statement.
        name: Absolute name of the module that it names; relative ones are already resolved.
        names: What stands behind `from name import`, sorted, without the star.
        line: Line of the statement.
        conditional: It stands below an `if` or a `match`.
        function: It stands in a function, so that importing the module does not run it.
        tryexcept: It stands in a `try`, so that its failure may be expected.
    """

    importer: str
    name: str
    names: tuple[str, ...]
    line: int
    conditional: bool
    function: bool
    tryexcept: bool


class _Reader(_Visitor):  # type: ignore[misc]  # modulegraph has no types
    """Modulegraph's visitor with lines, newer statements, and without a descent into expressions."""

    def __init__(self) -> None:
        super().__init__(None)
        self.lines: list[int] = []

    def generic_visit(self, node: ast.AST) -> None:
        # No expression can hold an import, and most nodes of a tree are expressions.
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
            # In a loop, because a chain of `elif` nests as deep as it is long.
            for child in rest[0].body:
                self.visit(child)
            rest = rest[0].orelse
        for child in rest:
            self.visit(child)
        self._in_if.pop()

    visit_Match = _Visitor.visit_If  # noqa: N815 - ast's naming
    visit_TryStar = _Visitor.visit_Try  # noqa: N815 - ast's naming


def _parse(content: bytes) -> ast.Module | None:
    with _WARNINGS, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for version in (sys.version_info[:2], _OLD_SYNTAX):
            with contextlib.suppress(SyntaxError, ValueError, RecursionError, MemoryError):
                return ast.parse(content, feature_version=version)
    return None


def _absolute(importer: str, name: str, level: int, *, is_package: bool) -> str:
    if not level:
        return name
    package = importer if is_package else importer.rpartition(".")[0]
    try:
        return importlib.util.resolve_name("." * level + name, package)
    except ImportError:  # it points above the top package: it fails when it is run as well
        return ""


def read_imports(name: str, source: Path, *, is_package: bool) -> tuple[ImportStatement, ...]:
    """Tell what a module's source asks to import, in the order of its lines.

    A file that is unreadable, is no source, or has the syntax of another Python has nothing to say. Relative imports
    depend on `is_package`: whether the file is a package's `__init__`.
    """
    reader = _Reader()
    try:
        content = b"" if source.suffix in _NOT_SOURCE else source.read_bytes()
        tree = _parse(content) if b"import" in content else None
        if tree is not None:
            reader.visit(tree)
    except (OSError, RecursionError):
        return ()
    found = []
    for line, (_, _, (named, _, names, level), attributes) in zip(reader.lines, reader.imports, strict=True):
        how = attributes["attr"]
        if absolute := _absolute(name, named, level, is_package=is_package):
            flags = how.conditional, how.function, how.tryexcept
            found.append(ImportStatement(name, absolute, tuple(sorted(names or ())), line, *flags))
    return tuple(found)


def work(modules: Iterable[_Entry], output: IO[str]) -> None:
    """Read a share of the modules inside a process of its own, which `scan` starts and whose JSON it reads."""
    # Syntax trees have no cycles to collect, and looking for some costs a third of the time.
    gc.disable()
    found = [astuple(entry) for name, path, package in modules for entry in _read(name, path, package)]
    json.dump(found, output)


def _read(name: str, path: str, is_package: bool) -> tuple[ImportStatement, ...]:  # noqa: FBT001 - a row's fields
    return read_imports(name, Path(path), is_package=is_package)


def _shares(entries: Iterable[_Entry], jobs: int) -> list[list[_Entry]]:
    """Deal the modules out by size, so that every process gets about as many bytes as the others."""
    sized = sorted(entries, key=lambda entry: (_size(entry[1]), entry), reverse=True)
    return [sized[number::jobs] for number in range(min(jobs, len(sized)))]


def _size(path: str) -> int:
    try:
        return Path(path).stat().st_size
    except OSError:
        return 0


@contextlib.contextmanager
def _processes(count: int) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Start readers that end with the block, however it is left.

    Plain interpreters instead of multiprocessing: a fork of a program with threads can hang, and a spawn imports the
    caller's main module again, which is a console script that may have no guard.
    """
    pipe = subprocess.PIPE
    command = [sys.executable, "-I", "-B", "-c", _WORKER]
    started = []
    with contextlib.ExitStack() as stack:
        for _ in range(count):
            # A group of its own: Ctrl-C reaches this process alone, and the readers end without a traceback each.
            process = subprocess.Popen(command, stdin=pipe, stdout=pipe, process_group=0)  # noqa: S603 - no input
            stack.callback(_end, process)
            started.append(process)
        yield started


def _end(process: subprocess.Popen[bytes]) -> None:
    # Closing its pipes flushes what a reader that has already ended did not take.
    with contextlib.suppress(BrokenPipeError), process:
        process.kill()


def _scan_in_processes(shares: Sequence[list[_Entry]]) -> list[ImportStatement]:
    path = [*filter(None, sys.path), str(Path(__file__).resolve().parents[2])]
    found: list[ImportStatement] = []
    with _processes(len(shares)) as processes:
        for process, share in zip(processes, shares, strict=True):
            # One that has already ended says so with its exit status below.
            with contextlib.suppress(BrokenPipeError), process.stdin or io.BytesIO() as requests:
                requests.write(json.dumps({"path": path, "modules": share}).encode())
        for process in processes:
            answer = process.stdout.read() if process.stdout else b""
            if process.wait():
                raise PlanError(
                    f"A process that reads import statements ended with status {process.returncode}: "
                    "free some memory, or let fewer of them run at once, and try again."
                )
            for importer, name, names, *rest in json.loads(answer):
                found.append(ImportStatement(importer, name, tuple(names), *rest))
    return found


def scan(modules: Mapping[str, tuple[Path, bool]], jobs: int | None = None) -> tuple[ImportStatement, ...]:
    """Read the import statements of many modules, in several processes when there are enough of them.

    Args:
        modules: File of each module, and whether it is a package's `__init__`.
        jobs: How many processes; as many as there are processors if None.

    Returns:
        The statements by module and then by line, whatever `jobs` is.

    Raises:
        PlanError: A process was ended from outside.
    """
    entries = [(name, os.fspath(path), is_package) for name, (path, is_package) in sorted(modules.items())]
    if len(entries) < _IN_PROCESS_BELOW or not sys.executable:
        return tuple(statement for entry in entries for statement in _read(*entry))
    # The sort is stable, and a module's statements come from one process in the order of its source.
    shares = _shares(entries, max(1, jobs or os.cpu_count() or 1))
    return tuple(sorted(_scan_in_processes(shares), key=lambda statement: statement.importer))


def targets(statement: ImportStatement, available: Container[str]) -> tuple[str, ...]:
    """Tell which of the available modules a statement would import, parent packages first."""
    named = [*with_parents(statement.name), *(f"{statement.name}.{name}" for name in statement.names)]
    return tuple(module for module in named if module in available)


def not_exercised(
    statements: Iterable[ImportStatement], available: Container[str], traced: Container[str]
) -> tuple[NotExercised, ...]:
    """Tell which installed modules kept code could import although no trace saw them, to warn about each once.

    The entries are sorted; the importer of each is the first in sorted order, other than the module itself.
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
    """Follow import statements from the roots to all available modules that they can reach, as a trace might.

    The answer is sorted and holds the roots themselves, their packages, and whatever these import by statements that
    ``follow`` accepts.
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
