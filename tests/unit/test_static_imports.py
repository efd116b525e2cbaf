"""What the reader of import statements says about real source files, checked against real interpreters where it can."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
from collections.abc import Iterable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from layer_minimizer.analysis.imports import ImportStatement, closure, not_exercised, read_imports, scan, targets
from layer_minimizer.core.errors import PlanError
from layer_minimizer.model.plan import NotExercised

Modules = dict[str, tuple[Path, bool]]

IDENTIFIERS = st.from_regex(r"[a-z]{2}[0-9]", fullmatch=True)
DOTTED = st.lists(IDENTIFIERS, min_size=1, max_size=3).map(".".join)


def read(tmp_path: Path, text: str, name: str = "pkg.mod", *, is_package: bool = False) -> tuple[ImportStatement, ...]:
    source = tmp_path / "source.py"
    source.write_text(textwrap.dedent(text))
    return read_imports(name, source, is_package=is_package)


def statement(name: str, names: Iterable[str] = (), importer: str = "m", line: int = 1) -> ImportStatement:
    return ImportStatement(importer, name, tuple(names), line, conditional=False, function=False, tryexcept=False)


def tree(folder: Path, files: dict[str, str]) -> Modules:
    modules = {}
    for path, text in files.items():
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)
        parts = Path(path).with_suffix("").parts
        is_package = parts[-1] == "__init__"
        modules[".".join(parts[:-1] if is_package else parts)] = (target, is_package)
    return modules


def children(parent: int) -> list[int]:
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
            command = (folder / "cmdline").read_bytes()
        except OSError:
            continue
        if int(fields[1]) == parent and fields[0] != "Z" and b"analysis.imports" in command:
            found.append(int(folder.name))
    return found


def wait_for_children(parent: int, count: int) -> list[int]:
    deadline = time.monotonic() + 60
    while len(found := children(parent)) < count:
        assert time.monotonic() < deadline, "the readers did not start"
        time.sleep(0.01)
    return found


@pytest.fixture
def slow_tree(tmp_path: Path) -> Modules:
    """Two files that take seconds to parse, among enough others that processes are started."""
    files = {f"big{number}.py": "import os\n" + "value = [1, 2, 3]\n" * 400_000 for number in range(2)}
    files |= {f"small{number}.py": "import os\n" for number in range(250)}
    return tree(tmp_path / "slow", files)


def test_every_kind_of_statement_is_read_with_its_line_and_circumstances(tmp_path: Path) -> None:
    found = read(
        tmp_path,
        """\
        import a, b.c as d
        from e.f import y, x as z
        from g import *
        if True:
            import in_if
        else:
            import in_else
        def function():
            import in_function
            async def inner():
                try:
                    import in_try
                except ImportError:
                    import in_handler
        try:
            pass
        except* ValueError:
            pass
        else:
            import in_star
        match a:
            case 1:
                import in_case
        class Body:
            with a:
                for _ in b:
                    import in_body
        """,
    )
    rows = [(s.name, s.names, s.line, s.conditional, s.function, s.tryexcept) for s in found]
    assert rows == [
        ("a", (), 1, False, False, False),
        ("b.c", (), 1, False, False, False),
        ("e.f", ("x", "y"), 2, False, False, False),
        ("g", (), 3, False, False, False),
        ("in_if", (), 5, True, False, False),
        ("in_else", (), 7, True, False, False),
        ("in_function", (), 9, False, True, False),
        ("in_try", (), 12, False, True, True),
        ("in_handler", (), 14, False, True, True),
        ("in_star", (), 20, False, False, True),
        ("in_case", (), 23, True, False, False),
        ("in_body", (), 27, False, False, False),
    ]
    assert {s.importer for s in found} == {"pkg.mod"}


@pytest.mark.parametrize(
    ("name", "is_package", "expected"),
    [
        ("p.q", False, ["p", "p.x"]),
        ("p.q", True, ["p.q", "p.q.x", "p", "p.y"]),
        ("p", False, []),
        ("p", True, ["p", "p.x"]),
    ],
)
def test_relative_imports_are_resolved_and_those_above_the_top_are_left_out(
    tmp_path: Path, name: str, expected: list[str], *, is_package: bool
) -> None:
    found = read(
        tmp_path,
        "from . import a\nfrom .x import b\nfrom .. import c\nfrom ..y import d\n",
        name,
        is_package=is_package,
    )
    assert [s.name for s in found] == expected


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"import a\nrun(async=True)\nawait = 1\n", ["a"]),  # Python 3.6
        (b"\xef\xbb\xbfimport a\n", ["a"]),
        (b"# -*- coding: latin-1 -*-\nimport a\ntext = '\xe9'\n", ["a"]),
        (b"import a\r\nimport b\r\n", ["a", "b"]),
        (b"import a\npattern = '\\d'\nis_same = 1 is 1", ["a"]),  # each warns
        (b"if x:\n    import a\n" + b"elif y:\n    import b\n" * 900, ["a"] + ["b"] * 900),
    ],
)
def test_sources_of_every_age_and_encoding_are_read(tmp_path: Path, content: bytes, expected: list[str]) -> None:
    source = tmp_path / "source.py"
    source.write_bytes(content)
    assert [s.name for s in read_imports("m", source, is_package=False)] == expected


@pytest.mark.parametrize(
    "content",
    [
        b"import a\nprint 'Python 2'\n",
        b"import a\ntext = '\xe9'\n",
        b"import a\n\x00\n",
        b"# coding: no-such-encoding\nimport a\n",
        b"import a\nx = " + b"(" * 5000 + b")" * 5000,
        b"import a\nx = " + b"-" * 100_000 + b"1",
        b"",
    ],
)
def test_what_no_parser_reads_says_nothing(tmp_path: Path, content: bytes) -> None:
    source = tmp_path / "source.py"
    source.write_bytes(content)
    assert read_imports("m", source, is_package=False) == ()


def test_files_without_source_say_nothing(tmp_path: Path) -> None:
    library = tmp_path / "m.so"
    library.write_text("import a\n")
    assert read_imports("m", library, is_package=False) == ()
    assert read_imports("m", tmp_path / "absent.py", is_package=False) == ()
    assert read_imports("m", tmp_path, is_package=True) == ()


@given(st.lists(st.tuples(DOTTED, st.lists(IDENTIFIERS, unique=True, max_size=3)), max_size=8))
def test_what_was_written_is_what_is_read(rows: list[tuple[str, list[str]]]) -> None:
    lines = [f"from {name} import {', '.join(names)}" if names else f"import {name}" for name, names in rows]
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "m.py")
        source.write_text("\n".join(lines))
        found = read_imports("m", source, is_package=False)
    assert found == tuple(statement(name, sorted(names), line=line) for line, (name, names) in enumerate(rows, 1))


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        (statement("a.b"), ("a", "a.b")),
        (statement("a", ["b", "function"]), ("a", "a.b")),
        (statement("a.b", ["c"]), ("a", "a.b")),
        (statement("ns.part"), ("ns.part",)),
        (statement("absent", ["b"]), ()),
    ],
)
def test_targets_are_the_available_modules_that_a_statement_names(
    asked: ImportStatement, expected: tuple[str, ...]
) -> None:
    assert targets(asked, {"a", "a.b", "ns.part"}) == expected


def test_not_exercised_names_each_untraced_module_once_by_its_first_importer() -> None:
    statements = [
        statement("lazy", importer="z", line=3),
        statement("lazy", importer="k", line=9),
        statement("lazy", importer="k", line=2),
        statement("seen", importer="k", line=4),
        statement("not_installed", importer="k", line=5),
        statement("itself", ["part"], importer="itself", line=1),
    ]
    found = not_exercised(statements, {"lazy", "seen", "itself", "itself.part"}, {"seen"})
    assert found == (NotExercised("itself.part", "itself", 1), NotExercised("lazy", "k", 2))


def test_closure_reaches_what_the_interpreter_imports(tmp_path: Path) -> None:
    files = {
        "top/__init__.py": "from . import first\n",
        "top/first.py": "from .second import deep\nimport other\nimport os\n",
        "top/second/__init__.py": "",
        "top/second/deep.py": "from ..third import value\n",
        "top/third.py": "value = 1\n",
        "top/unused.py": "import never\n",
        "other.py": "import top.first\n",
        "never.py": "",
    }
    modules = tree(tmp_path, files)
    code = "import json, sys, top.second; print(json.dumps(sorted(sys.modules)))"
    ran = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, check=True)
    imported = set(json.loads(ran.stdout)) & set(modules)
    assert closure(["top.second"], modules) == tuple(sorted(imported))
    assert closure(["absent"], modules) == ()


@settings(max_examples=15, deadline=None)
@given(st.lists(st.lists(st.integers(0, 7), max_size=3), min_size=8, max_size=8), st.integers(0, 7))
def test_closure_of_random_modules_is_what_a_real_import_loads(graph: list[list[int]], root: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        files = {f"mod{n}.py": "".join(f"import mod{other}\n" for other in row) for n, row in enumerate(graph)}
        modules = tree(Path(folder), files)
        code = (
            f"import mod{root}, sys; print(*sorted(n for n in sys.modules if n.startswith('mod') and n[3:].isdigit()))"
        )
        ran = subprocess.run(
            [sys.executable, "-S", "-B", "-c", code], cwd=folder, capture_output=True, check=True, text=True
        )
        assert closure([f"mod{root}"], modules) == tuple(ran.stdout.split())


def test_scan_says_the_same_however_many_processes_read(tmp_path: Path) -> None:
    files = {f"p{n}/__init__.py": f"from .sub import x{n}\nimport os\n" for n in range(130)}
    files |= {f"p{n}/sub.py": "if a:\n    import b\n" for n in range(130)}
    modules = tree(tmp_path, files) | {"gone": (tmp_path / "gone.py", False)}
    one_by_one = tuple(
        s for name in sorted(modules) for s in read_imports(name, modules[name][0], is_package=modules[name][1])
    )
    assert len(one_by_one) == 390
    for jobs in (1, 2, 5, None):
        assert scan(modules, jobs) == one_by_one
    few = dict(sorted(modules.items())[:10])
    assert scan(few, 2) == tuple(s for s in one_by_one if s.importer in few)


def test_scan_runs_in_a_thread_of_a_script_without_a_guard(tmp_path: Path) -> None:
    tree(tmp_path / "site", {f"m{n}.py": "import os\n" for n in range(250)})
    script = tmp_path / "script"
    script.write_text(
        textwrap.dedent("""\
        import sys, threading
        from pathlib import Path
        from layer_minimizer.analysis.imports import scan
        print("started")
        modules = {path.stem: (path, False) for path in Path(sys.argv[1]).iterdir()}
        thread = threading.Thread(target=lambda: print(len(scan(modules, 2))))
        thread.start()
        thread.join()
        """)
    )
    command = [sys.executable, "-W", "error", str(script), str(tmp_path / "site")]
    ran = subprocess.run(command, capture_output=True, check=True, text=True)
    assert (ran.stdout, ran.stderr) == ("started\n250\n", "")


def test_an_interrupt_leaves_no_process_behind(tmp_path: Path, slow_tree: Modules) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        textwrap.dedent("""\
        import sys
        from pathlib import Path
        from layer_minimizer.analysis.imports import scan
        try:
            scan({path.stem: (path, False) for path in Path(sys.argv[1]).iterdir()}, 2)
        except KeyboardInterrupt:
            print("interrupted")
        """)
    )
    folder = next(iter(slow_tree.values()))[0].parent
    with subprocess.Popen([sys.executable, script, folder], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as caller:
        readers = wait_for_children(caller.pid, 2)
        caller.send_signal(signal.SIGINT)
        assert caller.communicate() == (b"interrupted\n", b"")
    assert not [reader for reader in readers if Path(f"/proc/{reader}").exists()]


def test_a_reader_that_is_killed_is_an_error_that_says_what_to_do(slow_tree: Modules) -> None:
    raised = []

    def run() -> None:
        with pytest.raises(PlanError, match="status -9: free some memory") as caught:
            scan(slow_tree, 2)
        raised.append(caught.value)

    thread = threading.Thread(target=run)
    thread.start()
    readers = wait_for_children(os.getpid(), 2)
    os.kill(readers[0], signal.SIGKILL)
    thread.join()
    assert raised
    assert not [reader for reader in readers if Path(f"/proc/{reader}").exists()]
