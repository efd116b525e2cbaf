"""The promises of the README: the user's files do not change, equal input gives equal bytes, and the layer works."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.sites import stocked_env

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.desk import Desk
    from tests.support.sites import Environment


env = stocked_env


def result_of(desk: Desk, env: Environment, *args: object, **kwargs: Any) -> Any:
    """Minimize; return the first result of the traced run."""
    trace = desk.folder / "trace.json"
    desk.minimize(env, "--save-trace", trace, "--output", desk.output, *args, **kwargs)
    return json.loads(json.loads(trace.read_text())["results"][0][1])


def report_of(desk: Desk, env: Environment, *args: object, **kwargs: Any) -> Any:
    return json.loads(desk.minimize(env, "--json", *args, **kwargs).out)


# ---- the user's files ------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("handler")
@pytest.mark.parametrize("observe", ["probe", "auto"])
def test_environment_stays_as_it_is(desk: Desk, env: Environment, observe: str) -> None:
    """`Desk.minimize` compares the environment; this test checks what it would find first."""
    desk.minimize(env, "--observe", observe)
    assert list(env.root.rglob("__pycache__")) == []
    assert list(desk.work.rglob("__pycache__")) == []


def test_environment_stays_as_it_is_after_a_failure(desk: Desk, env: Environment) -> None:
    desk.write("handler.py", "import alpha\n\n\ndef handler(event, context):\n    return 1 / 0\n")
    desk.fails(env, 3, ["ZeroDivisionError"])
    assert list(env.root.rglob("__pycache__")) == []


WRITER = """\
import os
from pathlib import Path

import alpha

for folder in (os.path.dirname(__file__), str(Path(__file__).resolve().parent), os.getcwd(), os.path.expanduser("~")):
    with open(os.path.join(folder, "written.txt"), "a") as out:
        out.write("x")
    with open(os.path.join(folder, "data.txt"), "a") as out:
        out.write("x")


def handler(event, context):
    with open(__file__, "a") as own:
        own.write("# changed")
    return alpha.VALUE
"""


def test_handler_that_writes_next_to_itself(desk: Desk, env: Environment) -> None:
    desk.write("handler.py", WRITER)
    desk.write("data.txt", "the user's data")
    desk.minimize(env)
    assert {path.name for path in desk.work.iterdir()} == {"handler.py", "data.txt"}


def test_handler_that_is_a_link_and_writes_next_to_itself(desk: Desk, env: Environment) -> None:
    desk.write("project/handler.py", WRITER)
    desk.write("project/data.txt", "the user's data")
    desk.write("function/about.txt", "the folder of the function")
    (desk.work / "function" / "handler.py").symlink_to("../project/handler.py")
    (desk.work / "function" / "data.txt").symlink_to("../project/data.txt")
    desk.minimize(env, entry="function/handler.py")


def test_handler_that_writes_into_a_larger_file_of_its_own(desk: Desk, env: Environment) -> None:
    desk.write("cache.bin", b"x" * 3_000_000)
    source = (
        "import os, alpha\n\n\ndef handler(event, context):\n"
        "    with open(os.path.join(os.path.dirname(__file__), 'cache.bin'), 'ab') as out:\n        out.write(b'y')\n"
        "    return alpha.VALUE\n"
    )
    desk.write("handler.py", source)
    desk.minimize(env)


def test_handler_that_changes_its_model(desk: Desk, env: Environment) -> None:
    model = desk.write("models/model.bin", b"x" * 3_000_000)
    source = (
        "import os, alpha\n\n\ndef handler(event, context):\n"
        "    with open(os.environ['MODEL_PATH'], 'r+b') as out:\n        out.write(b'y')\n"
        "    return alpha.VALUE\n"
    )
    desk.write("function/handler.py", source)
    desk.minimize(env, "--model", model, entry="function/handler.py")


def test_handler_that_deletes_its_own_folder(desk: Desk, env: Environment) -> None:
    desk.write("deep/data.txt", "the user's data")
    source = (
        "import os, shutil, alpha\n\n\ndef handler(event, context):\n"
        "    shutil.rmtree(os.path.dirname(__file__))\n    return alpha.VALUE\n"
    )
    desk.write("handler.py", source)
    desk.minimize(env)


# ---- the same bytes --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def rich_env(make_lasting_env: Callable[[], Environment]) -> Environment:
    """Return an environment with all kinds of entries that a zip can hold."""
    made = make_lasting_env()
    files: dict[str, str | bytes] = {f"many/part{number}.py": f"X = {number}\n" for number in range(40)}
    files |= {"many/__init__.py": "", "many/run.sh": "#!/bin/sh\n", "many/empty/unused.txt": "", "many/ünï.txt": "ü"}
    made.install("many", files)
    (made.site / "many" / "run.sh").chmod(0o775)
    (made.site / "many" / "link.txt").symlink_to("ünï.txt")
    return made


MANY = """\
import importlib
import os
import subprocess

import many

TOP = os.path.dirname(many.__file__)


def handler(event, context):
    names = {name: 0 for name in set(os.listdir(TOP)) if name.startswith("part")}
    for name in names:
        importlib.import_module("many." + os.path.splitext(name)[0])
    os.listdir(os.path.join(TOP, "empty"))
    subprocess.run([os.path.join(TOP, "run.sh")], check=True)
    with open(os.path.join(TOP, "link.txt"), encoding="utf-8") as linked:
        return [len(names), linked.read()]
"""


@pytest.fixture(scope="module")
def rich_sha256(rich_env: Environment, new_desk: Callable[[], Desk]) -> str:
    desk = new_desk()
    desk.write("handler.py", MANY)
    report = report_of(desk, rich_env)
    with zipfile.ZipFile(desk.output) as archive:
        modes = {entry.filename.rpartition("many/")[2]: entry.external_attr >> 16 for entry in archive.infolist()}
    assert modes["run.sh"] == 0o100755
    assert modes["part1.py"] == 0o100644
    assert modes["link.txt"] == 0o120777
    assert modes["empty/"] == 0o040755
    return str(report["layer"]["sha256"])


@pytest.mark.parametrize(
    "variables",
    [{}, {"TZ": "Asia/Tokyo"}, {"LC_ALL": "C"}, {"LC_ALL": "tr_TR.UTF-8"}, {"PYTHONHASHSEED": "7"}],
    ids=lambda given: "".join(given) or "again",
)
def test_same_bytes(desk: Desk, rich_env: Environment, rich_sha256: str, variables: dict[str, str]) -> None:
    desk.write("handler.py", MANY)
    assert report_of(desk, rich_env, variables=variables)["layer"]["sha256"] == rich_sha256


@pytest.mark.parametrize("mask", ["0077", "0000"])
def test_same_bytes_with_another_umask(desk: Desk, rich_env: Environment, rich_sha256: str, mask: str) -> None:
    desk.write("handler.py", MANY)
    prefix = ("sh", "-c", f'umask {mask}; exec "$@"', "sh")
    assert report_of(desk, rich_env, prefix=prefix)["layer"]["sha256"] == rich_sha256


@pytest.mark.parametrize("observe", ["probe", "strace"])
def test_same_bytes_elsewhere(desk: Desk, rich_env: Environment, rich_sha256: str, observe: str) -> None:
    if observe == "strace" and shutil.which("strace") is None:
        pytest.skip("there is no strace here")
    entry = desk.write("another/name.py", MANY)
    tmp, cwd = desk.folder / "a folder with blanks", desk.folder / "cwd"
    tmp.mkdir()
    cwd.mkdir()
    arguments = ("--observe", observe, "--entry", os.path.relpath(entry, cwd))
    variables = {"TMPDIR": str(tmp), "HOME": "/nonexistent"}
    report = report_of(desk, rich_env, *arguments, entry="", variables=variables, cwd=cwd)
    assert report["layer"]["sha256"] == rich_sha256
    assert list(tmp.iterdir()) == list(cwd.iterdir()) == []


# ---- the report ------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("handler")
def test_json_report(desk: Desk, env: Environment, require_schema: Callable[[Any], None]) -> None:
    report_file = desk.folder / "report.json"
    report = report_of(desk, env, "--report-json", report_file)
    assert json.loads(report_file.read_text()) == report
    assert set(report) == {
        "format", "before", "layer", "verified", "verification", "kept", "distributions", "not_exercised", "observers",
        "warnings", "seconds", "libraries", "stand_ins", "cold", "bundled", "function", "lambda", "base_layers",
        "base_bytes", "conflicts", "differences", "version", "python", "entry", "budget", "import_time", "imports",
        "files", "search", "cost", "licenses", "runtime_distributions", "gpu", "image", "output",
        "snapshot", "lazy_imports", "missing_observers", "standard_library",
    }  # fmt: skip
    require_schema(report)
    by_path = {file["path"]: file for file in report["files"]}
    assert by_path.keys() == {path.relative_to(env.site).as_posix() for path in env.site.rglob("*") if path.is_file()}
    assert by_path["alpha/core.py"]["verdict"] == "kept"
    assert by_path["alpha/unused.dat"]["verdict"] == "dropped"
    assert sum(file["bytes"] for file in report["files"]) == report["before"]["bytes"]
    with zipfile.ZipFile(desk.output) as archive:
        own = sum(entry.file_size for entry in archive.infolist() if "/alpha/" not in entry.filename)
    assert sum(file["shipped"] for file in report["files"]) + own == report["layer"]["unzipped_bytes"]
    beside = sum(path.stat().st_size for path in desk.work.iterdir())
    assert report["budget"] == {
        "limit": 262_144_000, "layer": report["layer"]["unzipped_bytes"], "base_layers": 0, "function": beside,
    }  # fmt: skip
    installed = [path for path in env.site.rglob("*") if path.is_file()]
    assert report["format"] == 1
    assert report["before"] == {
        "files": len(installed),
        "bytes": sum(path.stat().st_size for path in installed),
        "distributions": 3,
    }
    with zipfile.ZipFile(desk.output) as archive:
        sizes = [entry.file_size for entry in archive.infolist()]
    digest = subprocess.run(["sha256sum", desk.output], check=True, capture_output=True, text=True).stdout.split()[0]
    assert report["layer"] == {
        "path": str(desk.output),
        "sha256": digest,
        "files": len(sizes),
        "unzipped_bytes": sum(sizes),
        "zipped_bytes": desk.output.stat().st_size,
        "distributions": 1,
    }
    assert report["verified"] is True
    assert set(report["verification"]) == {"events", "mismatches", "repaired", "isolated", "runs", "cold_faults"}
    assert report["verification"] | {"isolated": None} == {
        "events": 1, "mismatches": 0, "repaired": [], "isolated": None, "runs": 1, "cold_faults": 0,
    }  # fmt: skip
    assert sum(report["kept"].values()) == sum(report["distributions"].values()) == sum(sizes) - own
    assert report["warnings"] == []
    assert list(report["seconds"]) == ["trace", "search", "plan", "pack", "verify"]


NOISY = """\
import os
import subprocess
import sys

import alpha

print("said at import")


def handler(event, context):
    print("said on an event")
    os.write(1, b"said to the descriptor\\n")
    sys.stdout.flush()
    subprocess.run(["echo", "said by a child"], check=True)
    context.log("said to the log\\n")
    return alpha.VALUE
"""


def test_what_the_handler_prints_is_no_result(desk: Desk, env: Environment) -> None:
    desk.write("handler.py", NOISY)
    ended = desk.minimize(env, "--json")
    assert json.loads(ended.out)["verified"] is True
    for line in ("at import", "on an event", "to the descriptor", "by a child", "to the log"):
        assert f"handler.py | said {line}\n" in ended.err


@pytest.mark.usefixtures("handler")
def test_quiet_says_nothing_but_the_report(desk: Desk, env: Environment) -> None:
    ended = desk.minimize(env, "--quiet")
    assert ended.err == ""
    assert "Verified: 1 event" in ended.out
    assert str(desk.output) in ended.out


def test_output_of_a_script_is_its_result(desk: Desk, env: Environment, kept_of_alpha: set[str]) -> None:
    desk.write(
        "script.py", "import sys\nimport alpha\n\nif __name__ == '__main__':\n    print(alpha.VALUE, sys.argv[1:])\n"
    )
    trace = desk.folder / "trace.json"
    ended = desk.minimize(env, "--save-trace", trace, "--output", desk.output, "--json", entry="script.py")
    assert json.loads(trace.read_text())["results"] == [["stdout", "the data of alpha []\n"]]
    assert json.loads(ended.out)["verified"] is True
    assert desk.kept() == kept_of_alpha


def test_script_whose_output_depends_on_a_dropped_file(desk: Desk, env: Environment) -> None:
    desk.write("script.py", "import alpha, beta\n\nprint(alpha.VALUE, beta.NAME)\n")
    desk.fails(env, 6, ["No module named 'beta'"], "--exclude", "beta.py", entry="script.py")


# ---- the layer -------------------------------------------------------------------------------------------------------


OWN_RUN = """\
import sys
sys.path[:0] = sys.argv[1:3]
import handler
import json
found = {name: getattr(module, "__file__", None) for name, module in sys.modules.items()}
print(json.dumps([handler.handler({"a": 1}, None), found["alpha"]]))
"""


@pytest.mark.parametrize("layout", ["site", "flat"])
def test_layer_works_by_our_own_means(
    desk: Desk,
    make_env: Callable[..., Environment],
    env: Environment,
    handler: Path,
    main_version: str,
    layout: str,
) -> None:
    mine = make_env()
    shutil.copytree(env.site, mine.site, dirs_exist_ok=True)
    event = desk.write("event.json", '{"a": 1}')
    desk.minimize(mine, "--event", event, "--layout", layout)
    opt = desk.folder / "opt"
    if unzip := shutil.which("unzip"):
        subprocess.run([unzip, "-q", desk.output, "-d", opt], check=True)
    else:
        unzip(desk.output, opt)
    base = os.path.realpath(mine.python)
    mine.root.rename(mine.root.with_name("away"))
    packages = opt / "python" if layout == "flat" else opt / f"python/lib/python{main_version}/site-packages"
    run = [base, "-S", "-E", "-c", OWN_RUN, handler.parent, packages]
    done = subprocess.run(run, check=True, capture_output=True, text=True, env={})
    result, where = json.loads(done.stdout)
    assert result == {"value": "the data of alpha", "event": {"a": 1}}
    assert where.startswith(str(opt))


REPAIRED = """\
import sys

import alpha


def handler(event, context):
    if sys.prefix != {prefix!r}:
        {statement}
    return alpha.VALUE
"""


@pytest.mark.parametrize(
    ("statement", "put_back"),
    [
        ("import beta", ["beta.py"]),
        ("import gamma.lib", ["gamma/__init__.py", "gamma/lib.py"]),
        ("open(alpha.__path__[0] + '/unused.dat').close()", ["alpha/unused.dat"]),
        ("__import__('importlib.metadata').metadata.version('beta')", ["beta-2.0.dist-info/METADATA"]),
        ("__import__('subprocess').run([sys.executable, '-c', 'import beta'], check=True)", ["beta.py"]),
    ],
    ids=["module", "package", "data", "metadata", "child"],
)
def test_missed_file_is_added(desk: Desk, env: Environment, statement: str, put_back: list[str]) -> None:
    desk.write("handler.py", REPAIRED.format(prefix=str(env.root), statement=statement))
    report = report_of(desk, env)
    assert set(report["verification"]["repaired"]) >= set(put_back)
    assert desk.kept() >= {"alpha/data.txt", *put_back}
    assert report["kept"]["REPAIRED"] > 0


def test_missed_file_is_added_although_the_result_is_right(desk: Desk, env: Environment) -> None:
    source = REPAIRED.format(prefix=str(env.root), statement="pass").replace(
        "        pass\n", "        try:\n            import beta\n        except ImportError:\n            pass\n"
    )
    desk.write("handler.py", source)
    assert report_of(desk, env)["verification"]["repaired"] == ["beta.py"]
    assert "beta.py" in desk.kept()


def test_text_report_has_repairs(desk: Desk, env: Environment) -> None:
    desk.write("handler.py", REPAIRED.format(prefix=str(env.root), statement="import beta"))
    ended = desk.minimize(env)
    assert "1 file restored" in ended.out
    assert "adding 1 file" in ended.err


def test_caches_from_before_are_not_seen(desk: Desk, env: Environment, kept_of_alpha: set[str]) -> None:
    source = """\
import os


def handler(event, context):
    for name in ("HOME", "XDG_CACHE_HOME", "XDG_DATA_HOME", "TMPDIR"):
        cache = os.path.join(os.environ.get(name, "/nonexistent"), "cache.txt")
        if os.path.exists(cache):
            return open(cache).read()
    import alpha

    with open(os.path.expanduser("~/cache.txt"), "w") as out:
        out.write(alpha.VALUE)
    return alpha.VALUE
"""
    desk.write("handler.py", source)
    (desk.home / "cache.txt").write_text("the data of alpha")
    other = desk.folder / "other"
    other.mkdir()
    (other / "cache.txt").write_text("the data of alpha")
    desk.minimize(env, variables={"XDG_CACHE_HOME": str(other), "XDG_DATA_HOME": str(other)})
    assert desk.kept() == kept_of_alpha


def test_nothing_of_the_tool_can_be_imported(desk: Desk, env: Environment) -> None:
    source = """\
import importlib.util
import alpha

NAMES = ["rich", "modulegraph", "packaging", "elftools", "shtab", "tomlkit", "layer_minimizer", "pytest"]
NAMES += ["probe", "harness", "describe", "startup"]


def handler(event, context):
    return [name for name in NAMES if importlib.util.find_spec(name) is not None]
"""
    desk.write("handler.py", source)
    assert result_of(desk, env) == []
    assert {name.split("/")[0] for name in desk.kept()} == {"alpha"}


def test_variables_of_the_tools_python_are_not_seen(desk: Desk, env: Environment, kept_of_alpha: set[str]) -> None:
    desk.write("strange/alpha.py", "VALUE = 'from elsewhere'\n")
    source = (
        "import os, alpha\n\n\ndef handler(event, context):\n"
        "    return [alpha.VALUE, os.environ.get('PYTHONHOME'), os.environ.get('PYTHONSTARTUP')]\n"
    )
    desk.write("function/handler.py", source)
    variables = {"PYTHONPATH": str(desk.work / "strange"), "PYTHONSTARTUP": "/nonexistent"}
    assert result_of(desk, env, entry="function/handler.py", variables=variables) == ["the data of alpha", None, None]
    assert desk.kept() == kept_of_alpha


# ---- as in Lambda ----------------------------------------------------------------------------------------------------


def test_model_is_found_in_three_ways(desk: Desk, env: Environment) -> None:
    source = """\
import os
import alpha

HERE = os.path.dirname(os.path.abspath(__file__))


def handler(event, context):
    paths = [os.environ["MODEL_PATH"], os.path.join(HERE, "model.txt"), "model.txt", "second.txt"]
    task = os.environ["LAMBDA_TASK_ROOT"]
    return [open(path).read() for path in paths] + [os.getcwd() == HERE == task, alpha.VALUE]
"""
    desk.write("function/handler.py", source)
    models = [desk.write("models/model.txt", "weights"), desk.write("models/second.txt", "more")]
    result = result_of(desk, env, "--model", models[0], "--model", models[1], entry="function/handler.py")
    assert result == ["weights", "weights", "weights", "more", True, "the data of alpha"]


def test_context(desk: Desk, env: Environment) -> None:
    source = """\
import os
import alpha


def handler(event, context):
    return {
        "name": context.function_name,
        "version": context.function_version,
        "arn": context.invoked_function_arn.split(":")[-1],
        "memory": int(context.memory_limit_in_mb) > 0,
        "request": len(context.aws_request_id),
        "group": context.log_group_name,
        "stream": bool(context.log_stream_name),
        "identity": context.identity.cognito_identity_id,
        "client": context.client_context,
        "time": context.get_remaining_time_in_millis() > 1000,
        "environment": [os.environ["AWS_LAMBDA_FUNCTION_NAME"], os.environ["_HANDLER"]],
        "alpha": alpha.VALUE,
    }
"""
    desk.write("thumbnails/handler.py", source)
    tests = {"tests": [{"name": "one", "event": {}, "context": {"client_context": {"app": 1}}}]}
    event = desk.write("events.json", json.dumps(tests))
    assert result_of(desk, env, "--event", event, entry="thumbnails/handler.py") == {
        "name": "thumbnails",
        "version": "$LATEST",
        "arn": "thumbnails",
        "memory": True,
        "request": 36,
        "group": "/aws/lambda/thumbnails",
        "stream": True,
        "identity": None,
        "client": {"app": 1},
        "time": True,
        "environment": ["thumbnails", "handler.handler"],
        "alpha": "the data of alpha",
    }


def test_decimal_is_a_number(desk: Desk, env: Environment) -> None:
    source = (
        "from decimal import Decimal\nimport alpha\n\n\ndef handler(event, context):\n"
        "    return {'price': Decimal('1.25'), 'many': [Decimal(2)], 'alpha': alpha.VALUE}\n"
    )
    desk.write("handler.py", source)
    assert result_of(desk, env) == {"price": 1.25, "many": [2], "alpha": "the data of alpha"}


def test_lambda_handler_is_the_second_choice_and_option_the_first(desk: Desk, env: Environment) -> None:
    source = (
        "import alpha\n\n\ndef lambda_handler(event, context):\n    return 'lambda'\n\n\ndef other(event, context):\n"
    )
    desk.write("handler.py", source + "    return 'other'\n")
    assert result_of(desk, env) == "lambda"
    assert result_of(desk, env, "--handler", "handler.other") == "other"


def test_async_children(desk: Desk, env: Environment) -> None:
    source = """\
import asyncio
import sys


async def child(module):
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", "import %s as m; print(m.__name__)" % module, stdout=asyncio.subprocess.PIPE
    )
    out, _ = await process.communicate()
    return out.decode().strip()


async def main():
    return await asyncio.gather(child("alpha"), child("beta"))


def handler(event, context):
    return asyncio.run(main())
"""
    desk.write("handler.py", source)
    assert result_of(desk, env) == ["alpha", "beta"]
    assert desk.kept() == {"alpha/__init__.py", "alpha/core.py", "alpha/data.txt", "beta.py"}


# ---- the library -----------------------------------------------------------------------------------------------------


def call_library(desk: Desk, script: str, *args: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", script, *map(str, args)],
        env=desk.variables(),
        cwd=desk.work,
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )


@pytest.mark.usefixtures("handler")
def test_library_gives_the_report(desk: Desk, env: Environment, kept_of_alpha: set[str]) -> None:
    desk.write("export.pkl", b"\x80\x04K\x01.")
    event = desk.write("event.json", "{}")
    script = """\
import sys
from layer_minimizer.layer.archive import unzip
from layer_minimizer import Report, minimize

report = minimize(
    entry="handler.py", models=["export.pkl"], events=["event.json"], python=sys.argv[1], output=sys.argv[2],
    effort=0, bytecode="source", cold="drop", licenses="drop",
)
assert isinstance(report, Report)
sys.stderr.write("%s %d\\n" % (report.archive.sha256, report.archive.unzipped_bytes))
"""
    done = call_library(desk, script, env.python, desk.output)
    assert done.stdout == ""
    digest, size = done.stderr.split()
    by_command = report_of(desk, env, "--model", desk.work / "export.pkl", "--event", event)["layer"]
    assert (by_command["sha256"], by_command["unzipped_bytes"]) == (digest, int(size))
    assert desk.kept() == kept_of_alpha
    desk.require_clean()


@pytest.mark.usefixtures("handler")
@pytest.mark.parametrize("place", ["io.StringIO()", "None"])
def test_library_without_a_real_standard_error(desk: Desk, env: Environment, place: str) -> None:
    """As in a notebook, or in a service; and not in the main thread."""
    script = f"""\
import io, sys, threading
from layer_minimizer import minimize

kept, sys.stderr = sys.stderr, {place}
found = []
work = lambda: found.append(minimize(entry="handler.py", python=sys.argv[1], output=sys.argv[2]))
thread = threading.Thread(target=work)
thread.start()
thread.join()
sys.stderr = kept
assert found[0].proof.events == 1
"""
    done = call_library(desk, script, env.python, desk.output)
    assert done.stdout == ""
    desk.require_clean()


LIBRARY_ERRORS = """\
import sys
import layer_minimizer
from layer_minimizer import MinimizeError, minimize

for number, (wanted, options) in enumerate([
    ("UsageError", {"entry": "absent.py"}),
    ("UsageError", {"entry": "handler.py", "events": ["absent.json"]}),
    ("UsageError", {}),
    ("TraceError", {"entry": "raises.py"}),
    ("TraceError", {"entry": "exits.py"}),
    ("PlanError", {"entry": "handler.py", "include": ["nothing/**"]}),
    ("PlanError", {"entry": "handler.py", "provided": "nothing"}),
    ("PackError", {"entry": "handler.py", "max_size": 1}),
    ("PackError", {"entry": "handler.py", "output": "absent/layer.zip"}),
    ("VerifyError", {"entry": "both.py", "exclude": ["beta.py"]}),
    ("RunnerError", {"entry": "handler.py", "python": "absent"}),
    ("UsageError", {"entry": "handler.py", "layout": "round"}),
    ("UsageError", {"entry": "handler.py", "observe": "eyes"}),
    ("UsageError", {"entry": "handler.py", "closure": "wide"}),
    ("UsageError", {"entry": "handler.py", "no_such_option": 1}),
]):
    given = {"python": sys.argv[1], "output": sys.argv[2], **options}
    try:
        minimize(**given)
    except MinimizeError as exc:
        said = type(exc).__name__
        assert type(exc) is getattr(layer_minimizer, said) and str(exc) and exc.exit_code > 1
    except TypeError as exc:
        said = "UsageError" if "unexpected keyword" in str(exc) else repr(exc)
    except BaseException as exc:
        said = repr(exc)
    else:
        said = "nothing"
    sys.stderr.write("%d %s %s\\n" % (number, wanted, said))
"""


@pytest.mark.usefixtures("handler")
def test_library_raises_documented_errors(desk: Desk, env: Environment) -> None:
    desk.write("raises.py", "import alpha\nraise ValueError\n")
    desk.write("exits.py", "import sys\nsys.exit(1)\n")
    desk.write("both.py", "import alpha, beta\n\n\ndef handler(event, context):\n    return 1\n")
    done = call_library(desk, LIBRARY_ERRORS, env.python, desk.output)
    rows = [line.split(" ", 2) for line in done.stderr.splitlines()]
    assert len(rows) == 15, done.stderr
    assert [row for row in rows if row[1] != row[2]] == []
    assert done.stdout == ""
    assert not desk.output.exists()
    desk.require_clean()


# ---- single stages ---------------------------------------------------------------------------------------------------


def test_single_stages_give_the_same_layer(desk: Desk, env: Environment, handler: Path) -> None:
    trace, plan = desk.folder / "trace.json", desk.folder / "plan.json"
    ended = desk.minimize(env, "--save-trace", trace, "--save-plan", plan)
    assert ended.out == ""
    assert not desk.output.exists()
    from_trace = report_of(desk, env, "--trace", trace, entry="")
    assert from_trace["layer"]["sha256"] == report_of(desk, env)["layer"]["sha256"]
    asked = desk.minimize(None, "--plan", plan, "--explain", "alpha/core.py", entry="")
    assert asked.out == desk.minimize(env, "--explain", "alpha/core.py", entry=handler).out
    assert desk.minimize(env, "--trace", trace, "--explain", "alpha/core.py", entry="").out == asked.out


def test_traces_are_merged(desk: Desk, env: Environment, kept_of_alpha: set[str]) -> None:
    source = "def handler(event, context):\n    return __import__(event['module']).__name__\n"
    desk.write("handler.py", source)
    for module in ("alpha", "beta"):
        event = desk.write(f"{module}.json", json.dumps({"module": module}))
        desk.minimize(env, "--event", event, "--save-trace", desk.folder / f"{module}.trace")
    traces = [desk.folder / "alpha.trace", desk.folder / "beta.trace"]
    report = report_of(desk, env, "--trace", traces[0], "--trace", traces[1], entry="")
    assert report["verification"]["events"] == 2
    assert desk.kept() == kept_of_alpha | {"beta.py"}


def test_explain_shows_the_chain_from_the_entry(desk: Desk, env: Environment) -> None:
    desk.write("helper.py", "\n\nimport alpha\n")
    handler = desk.write(
        "handler.py", "import helper\n\n\ndef handler(event, context):\n    return helper.alpha.VALUE\n"
    )
    said = desk.minimize(env, "--explain", "alpha.core", entry=handler).out
    steps = ["alpha/core.py", "imported as alpha.core by alpha, line 1", "alpha is imported by helper, line 3"]
    steps += ["helper is imported by handler, line 1", "handler"]
    places = [said.index(step) for step in steps]
    assert places == sorted(places)


@pytest.mark.parametrize(
    ("subject", "words"),
    [
        ("alpha", ["is kept: TRACED", "kept: 3 files", "dropped:"]),
        ("alpha/unused.py", ["is dropped: UNUSED", "nothing asked for it"]),
        ("beta", ["dropped", "UNUSED"]),
        ("gamma/**", ["dropped: 2 files"]),
        ("alpha/data.txt", ["read by the run"]),
    ],
)
def test_explain(desk: Desk, env: Environment, handler: Path, subject: str, words: list[str]) -> None:
    said = desk.minimize(env, "--explain", subject, entry=handler).out
    assert [word for word in words if word not in said] == []


# ---- without privileges ----------------------------------------------------------------------------------------------


NO_NAMESPACES = """\
import ctypes, os, sys

go, went = os.pipe()
done, told = os.pipe()
libc = ctypes.CDLL(None, use_errno=True)
child = os.fork()
if child == 0:
    if libc.unshare(0x10000000) != 0:
        os._exit(97)
    os.write(told, b"x")
    os.read(go, 1)
    with open("/proc/sys/user/max_user_namespaces", "w") as out:
        out.write("0")
    os.execvp(sys.argv[1], sys.argv[1:])
os.read(done, 1)
for name in ("uid_map", "gid_map"):
    with open("/proc/%d/%s" % (child, name), "w") as out:
        out.write("0 0 100000")
os.write(went, b"x")
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.fixture
def as_nobody(request: pytest.FixtureRequest) -> tuple[str, ...]:
    """Return the start of a command line that runs it without privileges, where the interpreters can be reached."""
    setpriv = shutil.which("setpriv")
    if os.geteuid() != 0:
        return ()
    if setpriv is None:
        pytest.skip("there is no program setpriv here")
    drop = (setpriv, "--reuid=65534", "--regid=65534", "--clear-groups")
    needed = (os.path.realpath(sys.executable), sys.prefix, os.path.dirname(__file__))
    closed = {str(folder) for path in needed for folder in Path(path).parents if not folder.stat().st_mode & 0o005}
    if not closed:
        return drop
    # Interpreters in root's home folder: show them to the run at their own place, in a folder that all may enter.
    script = []
    for folder in sorted(closed):
        inside = sorted({Path(path).relative_to(folder).parts[0] for path in needed if path.startswith(f"{folder}/")})
        script += [f"aside=$(mktemp -d); mount --bind {folder} $aside", f"mount -t tmpfs -o mode=755 none {folder}"]
        for name in inside:
            script += [f"mkdir {folder}/{name}", f"mount --bind $aside/{name} {folder}/{name}"]
        script += ["umount -l $aside; rmdir $aside"]
    start: tuple[str, ...] = request.getfixturevalue("in_mounts")("\n".join(script))
    return (*start, *drop)


def give_away(desk: Desk) -> None:
    for path in (desk.tmp, desk.home, desk.output.parent):
        path.chmod(0o777)


@pytest.mark.usefixtures("handler")
def test_unprivileged(desk: Desk, env: Environment, as_nobody: tuple[str, ...], kept_of_alpha: set[str]) -> None:
    give_away(desk)
    ended = desk.minimize(env, "--json", prefix=as_nobody)
    allowed = subprocess.run([*as_nobody, "unshare", "-U", "-m", "-r", "true"], check=False, capture_output=True)
    assert json.loads(ended.out)["verification"]["isolated"] is (allowed.returncode == 0)
    assert desk.kept() == kept_of_alpha
    if as_nobody:
        assert desk.output.stat().st_uid == 65534


@pytest.fixture
def without_namespaces(as_nobody: tuple[str, ...]) -> tuple[str, ...]:
    """Return the same where no namespace can be made, as in most containers."""
    if os.geteuid() != 0:
        pytest.skip("only root can forbid namespaces to a process")
    prefix = [*as_nobody]
    at = next(number for number, word in enumerate(prefix) if word.endswith("setpriv"))
    prefix[at:at] = [sys.executable, "-c", NO_NAMESPACES]
    if subprocess.run([*prefix, "true"], check=False, capture_output=True).returncode != 0:
        pytest.skip("user namespaces cannot be made here")
    assert subprocess.run([*prefix, "unshare", "-U", "true"], check=False, capture_output=True).returncode != 0
    return tuple(prefix)


@pytest.mark.usefixtures("handler")
def test_unprivileged_without_namespaces(
    desk: Desk, env: Environment, without_namespaces: tuple[str, ...], kept_of_alpha: set[str]
) -> None:
    give_away(desk)
    ended = desk.minimize(env, "--json", prefix=without_namespaces)
    assert json.loads(ended.out)["verification"]["isolated"] is False
    assert desk.kept() == kept_of_alpha


def test_taking_from_the_environment_is_found_without_namespaces(
    desk: Desk, env: Environment, without_namespaces: tuple[str, ...]
) -> None:
    give_away(desk)
    source = (
        f"import sys\nsys.path.insert(0, {str(env.site)!r})\nimport alpha, beta\n\n\ndef handler(event, context):\n"
    )
    desk.write("handler.py", source + "    return alpha.VALUE + beta.NAME\n")
    words = ["files of the original environment", str(env.site / "beta.py")]
    desk.fails(env, 6, words, prefix=without_namespaces)


@pytest.mark.usefixtures("handler")
def test_root_without_capabilities(desk: Desk, env: Environment, kept_of_alpha: set[str]) -> None:
    """Root in a container: it is user 0, and may make no namespace."""
    setpriv = shutil.which("setpriv")
    if os.geteuid() != 0 or setpriv is None:
        pytest.skip("only root can give up capabilities, with setpriv")
    prefix = (setpriv, "--bounding-set=-all", "--inh-caps=-all")
    if os.stat(os.path.realpath(sys.executable)).st_uid != 0:
        pytest.skip("the interpreter belongs to another user")
    ended = desk.minimize(env, "--json", prefix=prefix)
    assert json.loads(ended.out)["verification"]["isolated"] is False
    assert desk.kept() == kept_of_alpha


@pytest.mark.usefixtures("handler")
def test_unreadable_package(desk: Desk, make_env: Callable[..., Environment], as_nobody: tuple[str, ...]) -> None:
    give_away(desk)
    closed = make_env().install("closed", {"closed/__init__.py": "X = 1\n"}).install("delta", {"delta.py": "X = 1\n"})
    (closed.site / "closed").chmod(0o700 if os.geteuid() == 0 else 0o000)
    desk.write("handler.py", "import delta\n\n\ndef handler(event, context):\n    return delta.X\n")
    try:
        desk.fails(closed, 4, [f"cannot list {closed.site / 'closed'}", "Permission denied"], prefix=as_nobody)
    finally:
        (closed.site / "closed").chmod(0o755)


def test_a_handler_with_a_thread_that_never_ends(desk: Desk, env: Environment) -> None:
    """Lambda stops it where it is. What is to be done at the end of the process is done all the same."""
    desk.write(
        "handler.py",
        "import atexit, threading, time\nimport alpha\n\n\ndef work():\n    while True:\n        time.sleep(0.1)\n\n\n"
        "threading.Thread(target=work).start()\natexit.register(print, 'at exit')\n\n\n"
        "def handler(event, context):\n    return threading.active_count()\n",
    )
    ended = desk.minimize(env, "--effort", "0", "--timeout", "60", "--json")
    assert json.loads(ended.out)["verified"] is True
    assert "at exit" in ended.err
