"""The output of a traced function, and its conversion to a trace of another environment."""

from __future__ import annotations

import json
import os
import subprocess
import zipfile
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from layer_minimizer.environment.site import Site
from layer_minimizer.model.plan import Cold
from layer_minimizer.model.trace import LibraryPages, TracedStandIn, Use, untraced_libraries
from layer_minimizer.model.traced import Traced
from layer_minimizer.pack.libraries import hot_pages
from layer_minimizer.trace import probe_layer, production_log
from layer_minimizer.trace.merge import merge_traces
from tests.support.sites import write_files

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.sites import Environment

HANDLER = """\
import os, subprocess, sys
import alpha
def handle(event, context):
    if event == "child":
        return subprocess.call([sys.executable, "-c", "import beta"])
    with open(os.path.join(os.path.dirname(alpha.__file__), "data.txt")) as source:
        return source.read()
"""
CALL = """\
import os, sys
sys.path[:0] = sys.argv[1:4]
import layer_minimizer_probe
for event in sys.argv[4:]:
    layer_minimizer_probe.handler(event, None)
    sys.stderr.write("END RequestId\\n")
    sys.stderr.flush()
os.kill(os.getpid(), 9)
"""


@pytest.fixture
def probe(tmp_path: Path) -> Path:
    """Return the folder with the extracted probe layer."""
    layer = probe_layer.write_probe(tmp_path / "probe.zip", tmp_path / "scratch").path
    with zipfile.ZipFile(layer) as archive:
        archive.extractall(tmp_path / "probe")
        modes = {entry.filename: entry.external_attr >> 16 & 0o777 for entry in archive.infolist()}
    assert modes["layer_minimizer_trace"] == 0o755
    assert set(modes.values()) == {0o755, 0o644}
    return tmp_path / "probe" / "python"


def run(env: Environment, probe: Path, folder: Path, *events: str) -> str:
    """Call the handler as the Lambda runtime does, and kill the process at the end."""
    task = write_files(folder / "task", {"main.py": HANDLER})
    (folder / "tmp").mkdir(exist_ok=True)
    variables = {"LAYER_MINIMIZER_HANDLER": "main.handle", "LAMBDA_TASK_ROOT": str(task), "TMPDIR": str(folder / "tmp")}
    command = [env.python, "-c", CALL, task, probe, env.site, *events]
    done = subprocess.run(
        command, env={**os.environ, **variables}, cwd=task, text=True, capture_output=True, check=False
    )
    assert done.returncode == -9, done.stderr
    return done.stderr


@pytest.fixture
def deployed(each_env: Environment) -> Environment:
    each_env.install("alpha", {"alpha/__init__.py": "", "alpha/data.txt": "said", "alpha/rest.py": ""})
    each_env.install("beta", {"beta.py": ""}, version="2.5")
    return each_env


def test_every_python_prints_its_facts_before_an_event_ends(deployed: Environment, probe: Path, tmp_path: Path) -> None:
    output = run(deployed, probe, tmp_path, "read", "child", "read")
    first = output.split("END RequestId")[0]
    (parsed,) = production_log.read_production_log(first)
    assert (parsed.handler, parsed.task) == ("main.handle", str(tmp_path / "task"))
    assert {("alpha", "1.0"), ("beta", "2.5")} <= set(parsed.installed)
    trace = parsed.trace(deployed.describe(), tmp_path / "one")
    assert {"alpha/__init__.py", "alpha/data.txt"} <= {file.path for file in trace.files}
    assert "beta.py" not in {file.path for file in trace.files}
    assert [(m.name, m.path, m.importer) for m in trace.modules if m.path] == [
        ("alpha", "alpha/__init__.py", "__main__")
    ]
    assert (trace.kind, trace.workload.entry.name, trace.workload.handler) == ("handler", "main.py", "handle")
    (parsed,) = production_log.read_production_log(output)
    trace = parsed.trace(deployed.describe(), tmp_path / "all")
    assert "beta.py" in {file.path for file in trace.files}
    assert not [line for line in output.splitlines() if not line.startswith(("layer_minimizer trace ", "END "))]
    # The third event used no other files.
    assert "layer_minimizer trace" not in output.split("END RequestId")[2]


def test_where_nothing_can_be_written_the_handler_works_untraced(env: Environment, probe: Path, tmp_path: Path) -> None:
    env.install("alpha", {"alpha/__init__.py": "", "alpha/data.txt": "said"})
    probe.joinpath("layer_minimizer_probe", "probe.py").unlink()
    output = run(env, probe, tmp_path, "read")
    assert output.startswith("layer_minimizer cannot trace: FileNotFoundError: ")
    assert output.endswith("END RequestId\n")
    assert production_log.read_production_log(output) == []


def test_other_lines_of_a_log_are_ignored(env: Environment, probe: Path, tmp_path: Path) -> None:
    env.install("alpha", {"alpha/__init__.py": "", "alpha/data.txt": "said"})
    lines = run(env, probe, tmp_path, "read").splitlines()
    wrapped_lines = [json.dumps({"time": "2026", "message": line}) for line in lines] + [
        "layer_minimizer trace AAAA",
        "my own",
    ]
    (plain,), (wrapped,) = (
        production_log.read_production_log("\n".join(lines)),
        production_log.read_production_log("\n".join([*wrapped_lines, *reversed(lines)])),
    )
    assert plain == wrapped
    cut = [line[:200] for line in lines]
    assert production_log.read_production_log("\n".join(cut)) == production_log.read_production_log("nothing") == []


def production_trace(facts: list[tuple[Any, ...]], **more: Any) -> production_log.ProductionTrace:
    values: dict[str, Any] = {
        "python": "3.11.9",
        "soabi": "cpython-311-aarch64-linux-gnu",
        "machine": "aarch64",
        "path": (
            "/var/task",
            "/opt/python/lib/python3.11/site-packages",
            "/opt/python",
            "/var/runtime",
            "/var/lang/lib",
        ),
        "task": "/var/task",
        "handler": "app/main.handle",
        "installed": (),
    }
    return production_log.ProductionTrace(**{**values, **more}, facts=tuple(map(ascii, facts)))


def test_lambda_paths_are_mapped_to_the_environment(build: Any, tmp_path: Path) -> None:
    site = write_files(tmp_path / "site", {"near/part.py": "", "near/x.so": ""})
    facts = [
        ("open", "/opt/python/lib/python3.11/site-packages/one/data.txt"),
        ("open", "/opt/python/two/__pycache__/a.cpython-311.pyc"),
        ("open", "/var/task/near/part.py"),
        ("open", "/var/task/own.txt"),
        ("open", "/var/runtime/awslambdaric/__init__.py"),
        ("open", "/var/lang/lib/python3.11/json/__init__.py"),
        ("open", "/etc/passwd"),
        ("library", "/opt/python/one/e.cpython-311-aarch64-linux-gnu.so"),
        ("module", "json", "/var/lang/lib/python3.11/json/__init__.py", "one", 3),
        ("process", 8),
    ]
    trace = production_trace(facts).trace(build.interpreter(site), tmp_path / "scratch")
    assert {file.path: file.uses for file in trace.files} == {
        "one/data.txt": {Use.OPEN},
        "one/e.cpython-311-x86_64-linux-gnu.so": {Use.MAP},
        "two/a.py": {Use.OPEN},
        "near/part.py": {Use.OPEN},
    }
    assert [file.path for file in trace.task] == ["own.txt"]
    assert [(module.name, module.path) for module in trace.modules] == [("json", "")]
    assert (trace.machine, trace.processes, trace.unplaced, trace.foreign) == ("aarch64", 1, (), ())


def test_an_unused_import_in_production_is_dropped(build: Any) -> None:
    own = replace(
        build.trace(
            ["a.py"],
            [("a", "a.py", "", 0), ("idle", "idle/__init__.py", "a", 1), ("b.part", "b/part.py", "a", 1)],
        ),
        stand_ins=(TracedStandIn("idle", "idle/__init__.py", {}), TracedStandIn("b.part", "b/part.py", {})),
    )
    deployed = replace(
        build.trace(
            {
                "a.py": "open",
                "idle/__init__.py": "open",
                "idle/data.txt": "open",
                "idle.libs/big.so": "map",
                "b/part.py": "open",
                "b/other.py": "open",
                "b/data.txt": "open",
            },
            [
                ("a", "a.py", "", 0),
                ("idle", "idle/__init__.py", "a", 1),
                ("b.part", "b/part.py", "a", 1),
                ("b.other", "b/other.py", "a", 1),
            ],
        ),
        observers=(production_log.OBSERVER,),
    )
    merged = merge_traces([own, production_log.drop_unused_imports(own, deployed)])
    assert [module.name for module in merged.stand_ins] == ["b.part", "idle"]
    assert {file.path for file in merged.files} == {"a.py", "b/other.py", "b/data.txt"}


def test_pages_of_a_library_that_only_production_loaded_are_not_dropped(build: Any, tmp_path: Path) -> None:
    names = ("here", "there", "nowhere")
    site = write_files(tmp_path / "site", {f"a/{name}.so": name.ljust(9) for name in names})
    own = replace(
        build.trace({"a/here.so": "map"}),
        libraries=tuple(LibraryPages.of(f"a/{name}.so", 9, {1} if name == "here" else ()) for name in names),
    )
    deployed = build.trace({"a/here.so": "map", "a/there.so": "map", "a/text.txt": "open"})
    assert untraced_libraries(own) == set()
    assert untraced_libraries(deployed) == {"a/here.so", "a/there.so"}
    traced = Traced(merge_traces([own, deployed]), untraced_libraries=frozenset(untraced_libraries(deployed)))
    installed = build.inventory({f"a/{name}.so": ("a", 9) for name in names}, sources=site)
    local = Site(build.interpreter(site), installed)
    # Libraries that are not in the result are shipped whole.
    assert hot_pages(traced, local, Cold.DROP)[0] == {"a/here.so": {1}}
    kept, _ = hot_pages(traced, local, Cold.KEEP)
    assert kept == {"a/here.so": {1}, "a/there.so": set(), "a/nowhere.so": set()}
