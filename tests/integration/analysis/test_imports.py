"""The reader of import statements, with real source files, compared with real interpreters where possible."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from layer_minimizer.analysis.imports import closure, read_imports, scan
from layer_minimizer.core.errors import PlanError

Modules = dict[str, tuple[Path, bool]]


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
    """Return two files that take seconds to parse, among enough others to start processes."""
    files = {f"big{number}.py": "import os\n" + "value = [1, 2, 3]\n" * 400_000 for number in range(2)}
    files |= {f"small{number}.py": "import os\n" for number in range(250)}
    return tree(tmp_path / "slow", files)


def test_closure_contains_what_the_interpreter_imports(tmp_path: Path) -> None:
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
def test_closure_of_random_modules_equals_a_real_import(graph: list[list[int]], root: int) -> None:
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


def test_scan_does_not_depend_on_the_number_of_processes(tmp_path: Path) -> None:
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


def test_an_interrupt_ends_all_processes(tmp_path: Path, slow_tree: Modules) -> None:
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


def test_a_killed_worker_is_an_error_with_advice(slow_tree: Modules) -> None:
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
