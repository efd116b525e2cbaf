"""Verification: layers that work pass, incomplete ones fail with a message, and results are compared as values."""

import dataclasses
import json
import subprocess
import textwrap
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from layer_minimizer.analysis import elf
from layer_minimizer.core.errors import VerifyError
from layer_minimizer.environment.base_layers import BaseLayers
from layer_minimizer.execution import process
from layer_minimizer.execution.observed_run import Observer
from layer_minimizer.layer.archive import write_zip
from layer_minimizer.layer.layout import Layout
from layer_minimizer.model.plan import KeepPlan, Reason, Verdict
from layer_minimizer.model.results import Mismatch, compare_results
from layer_minimizer.model.workload import Result
from layer_minimizer.pack.staging import stage
from layer_minimizer.plan.planner import PlanRequest, plan
from layer_minimizer.verify.alone import Attempt, compare_second_run, run_attempts
from layer_minimizer.verify.place import RunContext

Isolated = bool  # what the fixture of that name gives

# ---- runs on a layer ----------------------------------------------------------------------------------------------


@dataclasses.dataclass
class Case:
    """A traced workload and its plan, to be verified without some files."""

    trial: RunContext
    plan: KeepPlan
    folder: Path
    attempts: int = 0

    def verify(self, *removed: str) -> Attempt:
        self.attempts += 1
        assert set(removed) <= {d.path for d in self.plan.kept}
        decisions = tuple(
            dataclasses.replace(d, verdict=Verdict.DROPPED, reason=Reason.UNUSED) if d.path in removed else d
            for d in self.plan.decisions
        )
        less = dataclasses.replace(self.plan, decisions=decisions)
        scratch = self.folder / f"attempt{self.attempts}"
        stage(less, self.trial.inventory, scratch / "stage", self.trial.layout)
        archive = write_zip(scratch / "stage", scratch / "layer.zip")
        return next(run_attempts(self.trial, less, archive, scratch / "verify"))


@pytest.fixture
def case(trace_run: Callable[..., Any], tmp_path: Path) -> Callable[..., Case]:
    def make(
        env: Any,
        files: Mapping[str, str],
        *,
        wishes: PlanRequest | None = None,
        layout: Layout = Layout.SITE,
        observer: str = "probe",
        timeout: float = 60.0,
        tolerance: float = 0.0,
    ) -> Case:
        trace = trace_run(env, files, observer)
        inventory = env.take_inventory(trace.foreign)
        sources = {file.path: Path(file.source) for file in inventory.files}

        def needs(paths: Any) -> Any:
            return elf.library_closure(paths, lambda path: elf.read_dynamic(sources[path]), sources.__contains__)

        planned = plan(trace, inventory, wishes or PlanRequest(licenses=False), library_needs=needs)
        observers = tuple(map(Observer, trace.observers))
        trial = RunContext(trace, env.describe(), inventory, layout, observers, timeout, tolerance, BaseLayers())
        return Case(trial, planned, tmp_path)

    return make


@pytest.fixture(params=["isolated", "open"])
def isolation(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[bool]:
    """Run a test with the original environment hidden, and once more where that is impossible."""
    if request.param == "open":
        # Without its helper program the test for namespaces fails.
        monkeypatch.setenv("PATH", str(tmp_path / "no-programs"))
        process.can_isolate.cache_clear()
        assert not process.can_isolate()
    elif not process.can_isolate():
        pytest.skip("mount namespaces cannot be made here")
    yield request.param == "isolated"
    process.can_isolate.cache_clear()


FILES = {
    "pkg/__init__.py": "from pkg.mod import load\n",
    "pkg/mod.py": "import os\n\ndef load(name):\n    return open(os.path.join(os.path.dirname(__file__), name)).read()",
    "pkg/data.txt": "content",
    "pkg/unused.py": "raise RuntimeError\n",
    "single.py": "VALUE = 5\n",
}
HANDLER = {
    "handler.py": "import pkg, single, side\n\ndef handler(event, context):\n"
    "    return [pkg.load('data.txt'), single.VALUE, side.X]\n",
    "side.py": "X = 1\n",
}


@pytest.mark.parametrize("layout", list(Layout))
def test_a_layer_with_all_that_was_used_works(each_env: Any, case: Callable[..., Case], layout: Layout) -> None:
    each_env.install("pkg", FILES)
    made = case(each_env, HANDLER, layout=layout)
    assert "pkg/unused.py" not in {d.path for d in made.plan.kept}
    tried = made.verify()
    assert tried.succeeded, tried.explain()
    assert (tried.error, tried.mismatches, tried.missed, tried.leaked, tried.events) == ("", (), (), (), 1)


def test_every_kept_file_is_needed_and_its_absence_is_reported(
    env: Any, case: Callable[..., Case], isolation: Isolated
) -> None:
    env.install("pkg", FILES)
    made = case(env, HANDLER)
    paths = [d.path for d in made.plan.kept]
    assert sorted(paths) == ["pkg/__init__.py", "pkg/data.txt", "pkg/mod.py", "single.py"]
    for path in paths:
        tried = made.verify(path)
        assert tried.isolated == isolation
        assert not tried.succeeded
        # Without its __init__ a package is a namespace package, and the file is not looked up.
        assert path in tried.missed or path.endswith("__init__.py")
        assert tried.explain()
    assert made.verify().succeeded


def test_an_error_on_the_layer_is_shown_with_the_users_traceback(env: Any, case: Callable[..., Case]) -> None:
    env.install("pkg", FILES)
    tried = case(env, HANDLER).verify("pkg/data.txt")
    assert "FileNotFoundError" in tried.error
    assert "data.txt" in tried.explain()
    assert tried.mismatches == ()


def test_a_file_whose_absence_the_program_tolerates_is_missed(env: Any, case: Callable[..., Case]) -> None:
    optional = "try:\n    import optional\nexcept ImportError:\n    optional = None\nNAME = 'same'\n"
    env.install("pkg", {"pkg.py": optional, "optional.py": ""})
    made = case(env, {"handler.py": "import pkg\ndef handler(event, context):\n    return pkg.NAME\n"})
    tried = made.verify("optional.py")
    assert tried.succeeded
    assert tried.missed == ("optional.py",)


def test_another_result_is_a_mismatch(env: Any, case: Callable[..., Case]) -> None:
    pkg = "import os\nN = os.path.exists(os.path.join(os.path.dirname(__file__), 'flag'))\n"
    env.install("pkg", {"pkg/__init__.py": pkg, "pkg/flag": ""})
    made = case(env, {"handler.py": "import pkg\ndef handler(event, context):\n    return pkg.N\n"})
    tried = made.verify("pkg/flag")
    assert not tried.succeeded
    assert tried.mismatches == (Mismatch("(no event)", "true", "false"),)
    assert "expected true, the layer gave false" in tried.explain()


def test_metadata_that_is_asked_for_by_name_is_missed(env: Any, case: Callable[..., Case]) -> None:
    env.install(
        "pkg", {"pkg.py": "import importlib.metadata as m\ndef version():\n    return m.version('pkg')\n"}, "3.1"
    )
    made = case(env, {"handler.py": "import pkg\ndef handler(event, context):\n    return pkg.version()\n"})
    assert made.verify().succeeded
    tried = made.verify("pkg-3.1.dist-info/METADATA")
    assert not tried.succeeded
    assert "pkg-3.1.dist-info/METADATA" in tried.missed


def test_a_library_that_the_loader_does_not_find_is_missed(env: Any, case: Callable[..., Case]) -> None:
    folder = env.site / "pkg"
    folder.mkdir()
    for name, source, flags in (
        ("libinner.so.2", "int answer(void) { return 42; }", ["-Wl,-soname,libinner.so.2"]),
        ("outer.so", "int answer(void); int outer(void) { return answer(); }",
         [str(folder / "libinner.so.2"), "-Wl,-rpath,$ORIGIN"]),
    ):  # fmt: skip
        command = ["gcc", "-shared", "-fPIC", "-x", "c", "-", "-x", "none", "-o", folder / name, *flags]
        subprocess.run(command, input=source.encode(), check=True)
    load = "import ctypes, os\nL = ctypes.CDLL(os.path.join(os.path.dirname(__file__), 'outer.so'))\n"
    env.install("pkg", {"pkg/__init__.py": load})
    made = case(env, {"handler.py": "import pkg\ndef handler(event, context):\n    return pkg.L.outer()\n"})
    assert made.verify().succeeded
    tried = made.verify("pkg/libinner.so.2")
    assert not tried.succeeded
    assert "pkg/libinner.so.2" in tried.missed


def test_children_run_on_the_layer_too(env: Any, case: Callable[..., Case], isolation: Isolated) -> None:
    env.install("pkg", FILES)
    body = """
        import subprocess, sys

        def handler(event, context):
            program = "import pkg; print(pkg.load('data.txt'))"
            return subprocess.run([sys.executable, "-c", program], stdout=subprocess.PIPE).stdout.decode()
    """
    made = case(env, {"handler.py": textwrap.dedent(body)})
    assert made.verify().succeeded
    tried = made.verify("pkg/mod.py")
    assert tried.isolated == isolation
    assert not tried.succeeded
    assert "pkg/mod.py" in tried.missed


def test_a_pth_file_of_the_layer_runs(env: Any, case: Callable[..., Case]) -> None:
    env.install("pkg", {"pkg.pth": "import pkg_start\n", "pkg_start.py": "import sys\nsys.started = 1\n", "pkg.py": ""})
    source = "import pkg, sys\ndef handler(event, context):\n    return getattr(sys, 'started', 0)\n"
    made = case(env, {"handler.py": source})
    assert made.verify().succeeded
    tried = made.verify("pkg.pth")
    assert tried.mismatches == (Mismatch("(no event)", "1", "0"),)


def absolute_reader(env: Any) -> dict[str, str]:
    env.install("pkg", FILES)
    return {
        "handler.py": f"import pkg\ndef handler(event, context):\n    return open('{env.site}/pkg/data.txt').read()\n"
    }


def test_a_file_of_the_original_environment_is_a_leak(env: Any, case: Callable[..., Case], isolation: Isolated) -> None:
    tried = case(env, absolute_reader(env)).verify()
    assert tried.isolated == isolation
    assert not tried.succeeded
    if isolation:
        assert "FileNotFoundError" in tried.error
        assert tried.leaked == ()
    else:
        assert tried.leaked == (f"{env.site}/pkg/data.txt",)
        assert "used files of the original environment" in tried.explain()
        assert str(env.site) in tried.explain()


@pytest.mark.usefixtures("namespaces")
def test_a_failed_look_at_a_hidden_file_is_no_leak(env: Any, case: Callable[..., Case]) -> None:
    env.install("pkg", FILES)
    source = f"""
        import pkg

        def handler(event, context):
            try:
                open("{env.site}/pkg/data.txt").close()
            except FileNotFoundError:
                pass
            return pkg.load("data.txt")
    """
    tried = case(env, {"handler.py": textwrap.dedent(source)}).verify()
    assert tried.isolated
    assert tried.succeeded, tried.explain()


def test_modules_of_the_original_environment_are_a_leak(
    env: Any, case: Callable[..., Case], isolation: Isolated
) -> None:
    env.install("pkg", FILES)
    source = f"import sys\nsys.path.append('{env.site}')\nimport single\n" + HANDLER["handler.py"]
    made = case(env, HANDLER | {"handler.py": source})
    assert made.verify().succeeded
    tried = made.verify("single.py")
    assert not tried.succeeded
    assert ("single" in tried.error) if isolation else (tried.leaked == (f"{env.site}/single.py",))


@pytest.mark.usefixtures("isolation")
def test_provided_distributions_are_reachable_and_not_in_the_layer(env: Any, case: Callable[..., Case]) -> None:
    env.install("big", {
        "big/__init__.py": "from ns.large import sub\n", "ns/large/__init__.py": "", "ns/large/sub.py": "V = 1\n",
        "big_single.py": "W = 2\n",
    })  # fmt: skip
    env.install("small", {"ns/small/__init__.py": "S = 3\n", "ns/unused/__init__.py": ""})
    source = """
        import big, big_single, ns.small, ns.large.sub

        def handler(event, context):
            return [ns.large.sub.V, big_single.W, ns.small.S]
    """
    made = case(env, {"handler.py": textwrap.dedent(source)}, wishes=PlanRequest(provided=("big",), licenses=False))
    assert {d.path for d in made.plan.kept} == {"ns/small/__init__.py"}
    tried = made.verify()
    assert tried.succeeded, tried.explain()
    assert (tried.missed, tried.leaked) == ((), ())
    again = made.verify("ns/small/__init__.py")
    assert not again.succeeded
    assert "ns/small/__init__.py" in again.missed


@pytest.mark.usefixtures("isolation")
def test_what_the_user_excluded_is_not_asked_for_again(env: Any, case: Callable[..., Case]) -> None:
    env.install("pkg", FILES)
    made = case(env, HANDLER, wishes=PlanRequest(exclude=("pkg/data.txt",), licenses=False))
    tried = made.verify()
    assert not tried.succeeded
    assert tried.missed == ()


def test_a_package_outside_of_the_site_is_verified_from_the_layer(
    env: Any, case: Callable[..., Case], isolation: Isolated, write: Any, tmp_path: Path
) -> None:
    source = write(
        tmp_path / "checkout" / "src", {"edited/__init__.py": "from edited.m import X\n", "edited/m.py": "X=1"}
    )
    origin = {"direct_url.json": '{"dir_info": {"editable": true}}'}
    env.install("edited", {"edited.pth": f"{source}\n"}, metadata=origin)
    made = case(env, {"handler.py": "import edited\ndef handler(event, context):\n    return edited.X\n"})
    assert {d.path for d in made.plan.kept} == {"edited/__init__.py", "edited/m.py"}
    tried = made.verify()
    assert tried.succeeded, tried.explain()
    assert tried.isolated == isolation
    again = made.verify("edited/m.py")
    assert not again.succeeded
    assert "edited/m.py" in again.missed


@pytest.mark.usefixtures("namespaces")
def test_the_layer_cannot_be_written_to(env: Any, case: Callable[..., Case]) -> None:
    write = "open(os.path.join(os.path.dirname(__file__), 'cache'), 'w').close()"
    env.install(
        "pkg", {"pkg/__init__.py": f"import os\ntry:\n    {write}\n    W = True\nexcept OSError:\n    W = False\n"}
    )
    made = case(env, {"handler.py": "import pkg\ndef handler(event, context):\n    return pkg.W\n"})
    assert made.verify().mismatches == (Mismatch("(no event)", "true", "false"),)


def test_a_run_that_hangs_or_dies_on_the_layer_is_told(env: Any, case: Callable[..., Case]) -> None:
    pkg = "import os, time\nif not os.path.exists(os.path.join(os.path.dirname(__file__), 'flag')):\n    {}\n"
    env.install("dies", {"dies/__init__.py": pkg.format("os.kill(os.getpid(), 9)"), "dies/flag": ""})
    env.install(
        "hangs", {"hangs/__init__.py": pkg.format("print('waiting', flush=True); time.sleep(600)"), "hangs/flag": ""}
    )
    source = "def handler(event, context):\n    import dies, hangs\n"
    made = case(env, {"handler.py": source}, timeout=3.0)
    assert made.verify().succeeded
    assert "was killed by SIGKILL" in made.verify("dies/flag").error
    stuck = made.verify("hangs/flag")
    assert not stuck.succeeded
    assert "did not end within" in stuck.error
    assert "waiting" in stuck.error


@pytest.mark.usefixtures("strace")
def test_without_isolation_system_calls_show_what_is_missed(
    env: Any, case: Callable[..., Case], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    env.install("pkg", FILES)
    made = case(env, HANDLER, observer="strace")
    monkeypatch.setenv("PATH", str(tmp_path / "no-programs"))
    process.can_isolate.cache_clear()
    try:
        assert made.verify().succeeded
        tried = made.verify("pkg/data.txt")
    finally:
        monkeypatch.undo()
        process.can_isolate.cache_clear()
    assert not tried.isolated
    assert not tried.succeeded
    assert "pkg/data.txt" in tried.missed


def test_a_workload_of_chance_differs_from_itself(env: Any, case: Callable[..., Case], tmp_path: Path) -> None:
    env.install("pkg", FILES)
    steady = case(env, HANDLER)
    assert compare_second_run(steady.trial, tmp_path / "steady") == ()
    chance = "import os, single\ndef handler(event, context):\n    return os.urandom(8).hex()\n"
    unsteady = case(env, {"handler.py": chance})
    (mismatch,) = compare_second_run(unsteady.trial, tmp_path / "unsteady")
    assert mismatch.expected != mismatch.actual


def test_a_workload_that_does_not_run_a_second_time_is_told(
    env: Any, case: Callable[..., Case], tmp_path: Path
) -> None:
    env.install("pkg", FILES)
    marker = tmp_path / "marker"
    source = f"import os, single\ndef handler(event, context):\n    os.mkdir('{marker}')\n"
    made = case(env, {"handler.py": source})
    with pytest.raises(VerifyError, match="not a second time"):
        compare_second_run(made.trial, tmp_path / "again")


# ---- comparison ---------------------------------------------------------------------------------------------------


def same(expected: str, actual: str, tolerance: float = 0.0) -> bool:
    return compare_results([Result("e", expected)], {"e": actual}, tolerance) == ()


@pytest.mark.parametrize(
    ("expected", "actual", "tolerance", "equal"),
    [
        ('{"a": 1, "b": [1, 2]}', '{"b": [1, 2], "a": 1}', 0, True),
        ("[1, 2]", "[2, 1]", 1e-3, False),
        ("[1, 2]", "[1, 2, 3]", 0.9, False),
        ('{"a": 1}', '{"a": 1, "b": 1}', 0.9, False),
        ("1", "1.0", 0, True),
        ("0.1", "0.10000001", 0, False),
        ("0.1", "0.10000001", 1e-6, True),
        ('[[{"x": 100.0}]]', '[[{"x": 100.00001}]]', 1e-6, True),
        ('[[{"x": 100.0}]]', '[[{"x": 100.1}]]', 1e-6, False),
        ("0.0", "1e-9", 1e-6, True),
        ('{"x": NaN, "y": 1}', '{"y": 1, "x": NaN}', 0, True),
        ("NaN", "0.5", 0.9, False),
        ("[Infinity, 1]", "[Infinity, 1.0]", 0, True),
        ("Infinity", "-Infinity", 0.9, False),
        ("true", "1", 0.9, False),
        ("false", "0", 0.9, False),
        ("null", "0", 0.9, False),
        ("null", "false", 0.9, False),
        ('"1"', "1", 0.9, False),
        ('"a"', '"b"', 0.9, False),
        ('"0.1"', '"0.10000001"', 1e-6, False),
        ("[]", "{}", 0.9, False),
        ("1" + "0" * 400, "1" + "0" * 399 + "1", 1e-6, False),
        ("1" + "0" * 400, "2" + "0" * 400, 1e-6, False),
        ("1" + "0" * 400, "0.5", 1e-6, False),
        ("loss 0.5 after 3 steps\n", "loss 0.5 after 3 steps\n", 0, True),
        ("loss 0.5 after 3 steps\n", "loss 0.5000001 after 3 steps\n", 0, False),
        ("loss 0.5 after 3 steps\n", "loss 0.5000001 after 3 steps\n", 1e-6, True),
        ("loss 0.5 after 3 steps\n", "loss 0.6 after 3 steps\n", 1e-6, False),
        ("loss 0.5 after 3 steps\n", "cost 0.5 after 3 steps\n", 0.9, False),
        ("1 2\n", "1 2 3\n", 0.9, False),
        ("", "x", 0.9, False),
    ],
)  # fmt: skip
def test_results_are_compared_as_values(expected: str, actual: str, tolerance: float, equal: bool) -> None:  # noqa: FBT001
    assert same(expected, actual, tolerance) is equal
    assert same(actual, expected, tolerance) is equal


def test_an_event_without_a_result_is_a_mismatch() -> None:
    (mismatch,) = compare_results([Result("one", "1"), Result("two", "2")], {"one": "1"}, 0.0)
    assert (mismatch.event, mismatch.expected) == ("two", "2")


def test_long_results_are_shortened_when_shown() -> None:
    text = str(Mismatch("e", "x" * 10_000, "short"))
    assert len(text) < 500
    assert "10000 characters" in text


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


@given(JSON, st.sampled_from([0.0, 1e-6, 0.5]))
def test_a_result_is_the_same_as_itself_however_it_is_written(value: Any, tolerance: float) -> None:
    assert same(json.dumps(value), json.dumps(value, indent=1, ensure_ascii=False), tolerance)
    if isinstance(value, dict):
        assert same(json.dumps(value), json.dumps(dict(reversed(value.items()))), tolerance)


@given(JSON, JSON, st.sampled_from([1e-6, 0.5]))
def test_a_tolerance_never_makes_equal_things_differ(one: Any, two: Any, tolerance: float) -> None:
    texts = json.dumps(one), json.dumps(two)
    assert same(*texts) <= same(*texts, tolerance)
    assert same(*texts, tolerance) == same(*reversed(texts), tolerance)


@given(st.text(max_size=30), st.text(max_size=30), st.sampled_from([0.0, 1e-6]))
def test_any_two_texts_can_be_compared(one: str, two: str, tolerance: float) -> None:
    assert same(one, one, tolerance)
    assert same(one, two, tolerance) == same(two, one, tolerance)
