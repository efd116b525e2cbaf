"""Every error a user can cause on the command line: exit code, message, and no files left behind."""

from __future__ import annotations

import json
import os
import pickle
import re
import shutil
import subprocess
import zipfile
from typing import TYPE_CHECKING

import pytest

from tests.support.sites import stocked_env

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.support.desk import Desk
    from tests.support.sites import Environment

env = stocked_env
USAGE, TRACE, PLAN, PACK, VERIFY, RUNNER = 2, 3, 4, 5, 6, 7


# ---- input files ----------------------------------------------------------------------------------------------------


def test_no_entry_at_all(desk: Desk, env: Environment) -> None:
    desk.fails(env, USAGE, ["nothing to trace", "--entry", "--trace"], entry="")


def test_no_such_entry(desk: Desk, env: Environment) -> None:
    desk.fails(env, USAGE, [str(desk.work / "absent.py"), "no such entry", "--entry"], entry="absent.py")


def test_entry_is_a_folder(desk: Desk, env: Environment) -> None:
    (desk.work / "folder.py").mkdir()
    desk.fails(env, USAGE, ["folder.py", "--entry"], entry="folder.py")


def test_entry_is_no_python_file(desk: Desk, env: Environment) -> None:
    desk.write("handler.txt", "def handler(event, context): pass\n")
    desk.fails(env, USAGE, ["handler.txt", "must be a .py file"], entry="handler.txt")


@pytest.mark.usefixtures("handler")
def test_no_such_model(desk: Desk, env: Environment) -> None:
    desk.fails(env, USAGE, ["absent.pkl", "no such model"], "--model", desk.work / "absent.pkl")


@pytest.mark.usefixtures("handler")
def test_model_is_a_folder(desk: Desk, env: Environment) -> None:
    (desk.work / "model").mkdir()
    desk.fails(env, USAGE, [str(desk.work / "model"), "not a regular file", "--model"], "--model", desk.work / "model")


@pytest.mark.usefixtures("handler")
def test_pickle_cut_short(desk: Desk, env: Environment) -> None:
    whole = pickle.dumps({"weights": list(range(1000))})
    model = desk.write("model.pkl", whole[: len(whole) // 2])
    desk.fails(env, USAGE, [str(model), "cut short", "export or copy it again"], "--model", model)


@pytest.mark.usefixtures("handler")
def test_zip_model_cut_short(desk: Desk, env: Environment) -> None:
    model = desk.write("model.pth", "")
    with zipfile.ZipFile(model, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps({"weights": list(range(1000))}))
    model.write_bytes(model.read_bytes()[:-100])
    desk.fails(env, USAGE, [str(model), "cut short", "export or copy it again"], "--model", model)


@pytest.mark.usefixtures("handler")
def test_two_files_of_one_name(desk: Desk, env: Environment) -> None:
    models = [desk.write(f"{folder}/model.bin", "x") for folder in "ab"]
    desk.fails(env, USAGE, ["model.bin", "rename one"], "--model", models[0], "--model", models[1])


@pytest.mark.usefixtures("handler")
@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{not json", ["event.json is not valid JSON", "line 1"]),
        ("", ["event.json is not valid JSON"]),
        (b"\xff\xfe\x00", ["event.json is not valid JSON"]),
        ('{"tests": [{"name": "first"}]}', ["event.json", "test 0", '"event"']),
        ('{"tests": [{"event": 1}, 7]}', ["event.json", "test 1", '"event"']),
        ('{"tests": [{"event": 1, "context": "no"}]}', ["event.json", '"context" of test 0', "object"]),
    ],
    ids=["text", "empty", "binary", "no event", "no test", "context"],
)
def test_bad_event_file(desk: Desk, env: Environment, content: str | bytes, words: list[str]) -> None:
    desk.fails(env, USAGE, words, "--event", desk.write("event.json", content))


@pytest.mark.usefixtures("handler")
@pytest.mark.parametrize("name", ["absent.json", "."], ids=["missing", "folder"])
def test_event_file_that_cannot_be_read(desk: Desk, env: Environment, name: str) -> None:
    desk.fails(env, USAGE, [str(desk.work / name), "cannot read the event"], "--event", desk.work / name)


def test_event_for_a_script(desk: Desk, env: Environment) -> None:
    desk.write("script.py", "import alpha\nprint(alpha.VALUE)\n")
    event = desk.write("event.json", "{}")
    desk.fails(env, TRACE, ["script.py", "--event", "--handler"], "--event", event, entry="script.py")


@pytest.mark.usefixtures("handler")
@pytest.mark.parametrize("name", ["absent", "handler.absent"])
def test_no_such_handler(desk: Desk, env: Environment, name: str) -> None:
    desk.fails(env, TRACE, ["handler.py", "'absent'", "--handler"], "--handler", name)


@pytest.mark.usefixtures("handler")
def test_handler_of_another_file(desk: Desk, env: Environment) -> None:
    desk.fails(env, USAGE, ["--handler other.handler", "other.py", "handler.py"], "--handler", "other.handler")


@pytest.mark.usefixtures("handler")
@pytest.mark.parametrize(
    "arguments",
    [
        ("--max-size", "large"),
        ("--timeout", "0"),
        ("--timeout", "soon"),
        ("--tolerance", "2"),
        ("--runs", "0"),
        ("--runs", "many"),
        ("--layout", "round"),
        ("--observe", "eyes"),
        ("--nonsense",),
        ("--quiet", "--verbose"),
        ("--plan", "plan.json"),
    ],
    ids="".join,
)
def test_wrong_argument(desk: Desk, env: Environment, arguments: tuple[str, ...]) -> None:
    desk.fails(env, USAGE, [arguments[0]], *arguments)


# ---- the user's code ------------------------------------------------------------------------------------------------


def require_users_traceback(err: str, entry: Path, line: int) -> None:
    """Require a traceback that begins in the user's file, with the path that the user has passed."""
    frames = re.findall(r'^  File "([^"]+)", line (\d+)', err, re.MULTILINE)
    assert frames[0] == (str(entry), str(line)), err
    assert "layer_minimizer-" not in err
    assert not [file for file, _ in frames if re.search("probe|frozen", file)], err


def test_entry_raises_at_import(desk: Desk, env: Environment) -> None:
    entry = desk.write("handler.py", "import alpha\n\nwrong = alpha.VALUE + 1\n\n\ndef handler(event, context): ...\n")
    ended = desk.fails(env, TRACE, ["handler.py raised while it was imported", "TypeError"])
    require_users_traceback(ended.err, entry, 3)


@pytest.mark.parametrize("effort", ["0", "5"])
def test_entry_imports_what_is_not_installed(desk: Desk, env: Environment, effort: str) -> None:
    entry = desk.write("handler.py", "import nothing_of_this_name\n\n\ndef handler(event, context): ...\n")
    ended = desk.fails(env, TRACE, ["No module named 'nothing_of_this_name'"], "--effort", effort)
    require_users_traceback(ended.err, entry, 1)


def test_entry_raises_on_an_event(desk: Desk, env: Environment) -> None:
    entry = desk.write("handler.py", "import alpha\n\n\ndef handler(event, context):\n    return event['key']\n")
    tests = {"tests": [{"name": "good", "event": {"key": 1}}, {"name": "bad", "event": {}}]}
    event = desk.write("events.json", json.dumps(tests))
    ended = desk.fails(env, TRACE, ["handler.py raised on event 'bad'", "KeyError: 'key'"], "--event", event)
    require_users_traceback(ended.err, entry, 5)


def test_script_raises(desk: Desk, env: Environment) -> None:
    entry = desk.write("script.py", "import alpha\n\nprint(alpha.VALUE)\nraise RuntimeError('out of luck')\n")
    ended = desk.fails(env, TRACE, ["script.py raised:", "RuntimeError: out of luck"], entry="script.py")
    require_users_traceback(ended.err, entry, 4)


def test_chained_exceptions_are_kept(desk: Desk, env: Environment) -> None:
    source = (
        "import alpha\n\n\ndef handler(event, context):\n    try:\n        alpha.nothing\n"
        "    except AttributeError as exc:\n        raise ValueError('no value') from exc\n"
    )
    entry = desk.write("handler.py", source)
    ended = desk.fails(env, TRACE, ["AttributeError", "direct cause", "ValueError: no value"])
    require_users_traceback(ended.err, entry, 6)
    assert ended.err.index("AttributeError") < ended.err.index("ValueError")


def test_a_helper_beside_the_entry_raises(desk: Desk, env: Environment) -> None:
    desk.write("helper.py", "def help():\n    raise LookupError('lost')\n")
    desk.write("handler.py", "import helper\n\n\ndef handler(event, context):\n    helper.help()\n")
    ended = desk.fails(env, TRACE, [f'File "{desk.work / "helper.py"}", line 2', "LookupError: lost"])
    require_users_traceback(ended.err, desk.work / "handler.py", 5)


def test_syntax_error(desk: Desk, env: Environment) -> None:
    entry = desk.write("handler.py", "import alpha\n\ndef handler(event, context)\n    return 1\n")
    desk.fails(env, TRACE, [f'File "{entry}", line 3', "SyntaxError", "while it was read"])


@pytest.mark.parametrize("when", ["import", "event"])
def test_entry_calls_exit(desk: Desk, env: Environment, when: str) -> None:
    source = "import sys\nimport alpha\n{}\ndef handler(event, context):\n    {}\n"
    entry = desk.write(
        "handler.py", source.format("sys.exit(0)", "pass") if when == "import" else source.format("", "sys.exit(4)")
    )
    ended = desk.fails(env, TRACE, ["handler.py raised", "SystemExit"])
    require_users_traceback(ended.err, entry, 3 if when == "import" else 5)


def test_script_that_exits_with_an_error(desk: Desk, env: Environment) -> None:
    desk.write("script.py", "import sys\nimport alpha\nsys.exit('out of cheese')\n")
    desk.fails(env, TRACE, ["script.py raised", "SystemExit: out of cheese"], entry="script.py")


def test_script_that_exits_well_is_no_error(desk: Desk, env: Environment, kept_of_alpha: set[str]) -> None:
    desk.write("script.py", "import sys\nimport alpha\nprint(alpha.VALUE)\nsys.exit(0)\n")
    desk.minimize(env, entry="script.py")
    assert desk.kept() == kept_of_alpha


@pytest.mark.parametrize("observe", ["probe", "auto"])
@pytest.mark.parametrize(
    ("statement", "words"),
    [
        ("os.kill(os.getpid(), signal.SIGSEGV)", "was killed by SIGSEGV"),
        ("os.kill(os.getpid(), signal.SIGKILL)", "was killed by SIGKILL"),
        ("os._exit(5)", "ended with exit code 5"),
        ("os._exit(0)", "ended with exit code 0"),
    ],
    ids=["segv", "kill", "exit5", "exit0"],
)
def test_entry_is_killed(desk: Desk, env: Environment, statement: str, words: str, observe: str) -> None:
    desk.write("handler.py", f"import os, signal\n\n\ndef handler(event, context):\n    {statement}\n")
    desk.fails(env, TRACE, ["handler.py", words, "before it returned a result"], "--observe", observe)


def test_entry_never_ends(desk: Desk, env: Environment) -> None:
    desk.write("handler.py", "import time\n\n\ndef handler(event, context):\n    time.sleep(1000)\n")
    desk.fails(env, TRACE, ["handler.py did not end within 1 s", "--timeout"], "--timeout", "1")


def test_result_that_is_no_json(desk: Desk, env: Environment) -> None:
    desk.write("handler.py", "import alpha\n\n\ndef handler(event, context):\n    return {1, 2}\n")
    event = desk.write("event.json", "{}")
    desk.fails(env, TRACE, ["'event.json'", "set is not JSON serializable", "Return plain"], "--event", event)


def test_handler_with_wrong_parameters(desk: Desk, env: Environment) -> None:
    desk.write("handler.py", "import alpha\n\n\ndef handler():\n    return alpha.VALUE\n")
    desk.fails(env, TRACE, ["handler.py", "TypeError", "handler()"])


# ---- the interpreter ------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("handler")
def test_interpreter_is_missing(desk: Desk) -> None:
    absent = desk.folder / "absent" / "python"
    desk.fails(None, RUNNER, [str(absent), "no such interpreter", "--python"], "--python", absent)


@pytest.mark.usefixtures("handler")
def test_interpreter_is_not_executable(desk: Desk) -> None:
    plain = desk.write("python", "#!/bin/sh\n")
    plain.chmod(0o644)
    desk.fails(None, RUNNER, [str(plain), "interpreter", "--python"], "--python", plain)


@pytest.mark.usefixtures("handler")
@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("#!/bin/sh\nexit 0\n", ["ended with exit code 0", "(nothing)"]),
        ("#!/bin/sh\necho unwell >&2\nexit 3\n", ["ended with exit code 3", "unwell"]),
        ("#!/bin/sh\nkill -SEGV $$\n", ["was killed by SIGSEGV"]),
        ("#!/bin/sh\necho '{}' > \"$3\"\n", ["is not a Python interpreter"]),
        ("\x00\x01\x02 no program\n", ["cannot start"]),
        ("#!/absent/interpreter\n", ["cannot start"]),
    ],
    ids=["no python", "fails", "crashes", "answers nonsense", "binary", "shebang"],
)
def test_interpreter_is_no_python(desk: Desk, source: str, words: list[str]) -> None:
    program = desk.write("python", source)
    program.chmod(0o755)
    desk.fails(None, RUNNER, [str(program), *words], "--python", program)


@pytest.mark.usefixtures("handler")
def test_interpreter_crashes_at_start(desk: Desk, make_env: Callable[..., Environment]) -> None:
    broken = make_env().install("crash", {"crash.pth": "import os; os.write(2, b'bad start'); os._exit(9)\n"})
    desk.fails(broken, RUNNER, [str(broken.python), "ended with exit code 9", "bad start"])


@pytest.mark.usefixtures("handler")
def test_interpreter_is_python_2(desk: Desk) -> None:
    pyenv = shutil.which("pyenv")
    found = None
    if pyenv:
        which = subprocess.run([pyenv, "prefix", "2.7.18"], capture_output=True, text=True, check=False)
        found = f"{which.stdout.strip()}/bin/python2.7" if which.returncode == 0 else None
    found = found or shutil.which("python2.7")
    if found is None:
        pytest.skip("there is no python2.7 here")
    desk.fails(None, RUNNER, [found, "2.7", "3.6"], "--python", found)


# ---- the environment ------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("handler")
def test_site_without_any_record(desk: Desk, make_env: Callable[..., Environment], env: Environment) -> None:
    bare = make_env()
    shutil.copytree(env.site, bare.site, dirs_exist_ok=True, ignore=shutil.ignore_patterns("RECORD"))
    ended = desk.minimize(bare)
    assert "Warning: alpha 1.0 has no RECORD" in ended.out
    assert desk.kept() == {"alpha/__init__.py", "alpha/core.py", "alpha/data.txt"}


@pytest.mark.usefixtures("handler")
def test_empty_site(desk: Desk, make_env: Callable[..., Environment]) -> None:
    desk.write("handler.py", "def handler(event, context):\n    return 1\n")
    empty = make_env()
    desk.fails(empty, PLAN, [str(empty.python), "no packages installed", str(empty.site)])


def test_entry_that_uses_nothing(desk: Desk, env: Environment) -> None:
    desk.write("handler.py", "import json\n\n\ndef handler(event, context):\n    return json.dumps(event)\n")
    desk.fails(env, PLAN, ["handler.py", "uses no installed file", "needs no layer"])


@pytest.mark.usefixtures("handler")
@pytest.mark.parametrize("option", ["--include", "--exclude"])
def test_glob_that_fits_nothing(desk: Desk, env: Environment, option: str) -> None:
    desk.fails(env, PLAN, [f"{option} nowhere/*.py", "matches no installed file", "relative"], option, "nowhere/*.py")


@pytest.mark.usefixtures("handler")
def test_provided_distribution_that_is_not_installed(desk: Desk, env: Environment) -> None:
    desk.fails(env, PLAN, ["--provided nowhere", "no such distribution"], "--provided", "alpha,nowhere")


@pytest.mark.usefixtures("handler")
def test_over_the_size_limit(desk: Desk, env: Environment) -> None:
    words = ["--max-size is 20", "alpha", "--provided alpha", "--exclude", "--explain"]
    desk.fails(env, PACK, words, "--max-size", "20")


def test_kept_file_with_a_name_that_is_no_utf_8(desk: Desk, make_env: Callable[..., Environment]) -> None:
    odd = make_env().install("odd", {"odd/__init__.py": ""})
    with open(os.fsencode(odd.site / "odd") + b"/caf\xe9.dat", "wb") as out:
        out.write(b"espresso")
    source = (
        "import os, odd\n\n\ndef handler(event, context):\n"
        "    folder = os.fsencode(os.path.dirname(odd.__file__))\n"
        "    return open(folder + b'/caf\\xe9.dat').read()\n"
    )
    desk.write("handler.py", source)
    desk.fails(odd, PACK, [r"caf\xe9.dat", "not valid UTF-8", "rename it", "--exclude"])


def test_unused_file_with_a_name_that_is_no_utf_8(desk: Desk, make_env: Callable[..., Environment]) -> None:
    odd = make_env().install("odd", {"odd.py": "X = 1\n", "unodd/__init__.py": ""})
    with open(os.fsencode(odd.site / "unodd") + b"/caf\xe9.dat", "wb") as out:
        out.write(b"espresso")
    desk.write("handler.py", "import odd\n\n\ndef handler(event, context):\n    return odd.X\n")
    desk.minimize(odd, "--json", "--report-json", desk.output.parent.parent / "report.json")
    assert desk.kept() == {"odd.py"}


# ---- places to write ------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("handler")
def test_output_is_a_folder(desk: Desk, env: Environment) -> None:
    desk.fails(env, PACK, [str(desk.home), "is a folder", "--output"], "--output", desk.home)


@pytest.mark.usefixtures("handler")
def test_output_in_a_missing_folder(desk: Desk, env: Environment) -> None:
    output = desk.folder / "absent" / "layer.zip"
    ended = desk.fails(env, PACK, [str(output), "No such file or directory", "--output"], "--output", output)
    assert "tracing" not in ended.err
    assert not output.parent.exists()


@pytest.mark.usefixtures("handler")
def test_output_below_a_file(desk: Desk, env: Environment) -> None:
    output = desk.work / "handler.py" / "layer.zip"
    desk.fails(env, PACK, [str(output), "Not a directory", "--output"], "--output", output)


@pytest.mark.usefixtures("handler")
def test_output_folder_is_read_only(desk: Desk, env: Environment, in_mounts: Callable[..., tuple[str, ...]]) -> None:
    folder = desk.output.parent
    prefix = in_mounts(f"mount --bind {folder} {folder}; mount -o remount,ro,bind {folder}")
    desk.fails(env, PACK, [str(desk.output), "Read-only file system", "--output"], prefix=prefix)


@pytest.mark.usefixtures("handler")
@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_output_folder_is_not_writable(desk: Desk, env: Environment) -> None:
    desk.output.parent.chmod(0o555)
    desk.fails(env, PACK, [str(desk.output), "Permission denied", "--output"])


@pytest.mark.usefixtures("handler")
@pytest.mark.parametrize("option", ["--save-trace", "--save-plan", "--report-json"])
def test_other_output_that_cannot_be_written(desk: Desk, env: Environment, option: str) -> None:
    target = desk.folder / "absent" / "file.json"
    output = ("--output", desk.output) if option != "--report-json" else ()
    desk.fails(env, PACK, [option, str(target), "No such file", "use another folder"], option, target, *output)


@pytest.fixture
def large(desk: Desk, make_env: Callable[..., Environment]) -> Environment:
    """Return an environment whose layer needs about 6 MB, and a handler that uses all of it."""
    desk.write(
        "handler.py",
        "import os, large\n\n\ndef handler(event, context):\n"
        "    with open(os.path.join(os.path.dirname(large.__file__), 'noise.bin'), 'rb') as data:\n"
        "        return len(data.read())\n",
    )
    return make_env().install("large", {"large/__init__.py": "", "large/noise.bin": os.urandom(6_000_000)})


@pytest.mark.parametrize(("room", "code"), [("16k", RUNNER), ("600k", TRACE), ("1400k", PACK)])
def test_scratch_disk_is_full(
    desk: Desk, large: Environment, in_mounts: Callable[..., tuple[str, ...]], room: str, code: int
) -> None:
    if code == TRACE:
        desk.write("beside.bin", os.urandom(1_000_000))
    left = desk.folder / "left"
    prefix = in_mounts(f"mount -t tmpfs -o size={room} none {desk.tmp}", f"ls -A {desk.tmp} > {left}")
    desk.fails(large, code, ["No space left on device", "TMPDIR"], "--observe", "probe", prefix=prefix)
    assert left.read_text() == ""


def test_output_disk_is_full(desk: Desk, large: Environment, in_mounts: Callable[..., tuple[str, ...]]) -> None:
    left, folder = desk.folder / "left", desk.output.parent
    prefix = in_mounts(f"mount -t tmpfs -o size=1m none {folder}", f"ls -A {folder} > {left}")
    desk.fails(large, PACK, ["cannot write", str(folder), "No space left", "--output"], prefix=prefix)
    assert left.read_text() == ""


def test_failure_keeps_an_earlier_layer(desk: Desk, env: Environment) -> None:
    desk.write("handler.py", "import alpha\nraise ValueError\n")
    earlier = desk.folder / "earlier.zip"
    earlier.write_text("the layer of yesterday")
    desk.fails(env, TRACE, ["ValueError"], "--output", earlier)
    assert earlier.read_text() == "the layer of yesterday"


# ---- verification ---------------------------------------------------------------------------------------------------


def test_excluded_file_that_is_needed(desk: Desk, env: Environment) -> None:
    desk.write(
        "handler.py", "import alpha, beta\n\n\ndef handler(event, context):\n    return alpha.VALUE + beta.NAME\n"
    )
    words = ["on the layer alone", "No module named 'beta'", "--exclude"]
    ended = desk.fails(env, VERIFY, words, "--exclude", "beta.py")
    require_users_traceback(ended.err, desk.work / "handler.py", 1)


def test_excluded_data_file_that_is_needed(desk: Desk, env: Environment) -> None:
    desk.write("handler.py", "import alpha\n\n\ndef handler(event, context):\n    return alpha.VALUE\n")
    desk.fails(env, VERIFY, ["on the layer alone", "data.txt", "--exclude"], "--exclude", "alpha/data.txt")


def test_nondeterministic_handler(desk: Desk, env: Environment) -> None:
    desk.write(
        "handler.py",
        "import os, alpha\n\n\ndef handler(event, context):\n    return [alpha.VALUE, os.urandom(8).hex()]\n",
    )
    event = desk.write("dice.json", "{}")
    desk.fails(env, VERIFY, ["nondeterministic", "'dice.json'", "Seed", "--tolerance"], "--event", event)


def test_handler_that_runs_only_once(desk: Desk, env: Environment) -> None:
    marker = desk.folder / "marker"
    desk.write(
        "handler.py",
        f"import os, alpha\n\n\ndef handler(event, context):\n    os.mkdir({str(marker)!r})\n    return alpha.VALUE\n",
    )
    desk.fails(env, VERIFY, ["FileExistsError", "a second time"])


def test_handler_that_fails_in_a_thread_of_its_own(desk: Desk, env: Environment) -> None:
    source = (
        "import concurrent.futures, alpha\n\n\ndef work():\n    raise OSError('in the pool')\n\n\n"
        "def handler(event, context):\n    with concurrent.futures.ThreadPoolExecutor() as pool:\n"
        "        pool.submit(work).result()\n"
    )
    desk.write("handler.py", source)
    desk.fails(env, TRACE, ["OSError: in the pool", f'File "{desk.work / "handler.py"}", line 5'])


# ---- saved stages ---------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("handler")
@pytest.mark.parametrize("option", ["--trace", "--plan"])
@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, ["No such file"]),
        ("not json", ["is not valid JSON"]),
        (b"\xff\xff", ["is not valid JSON"]),
        ("[]", ["it is not a"]),
        ('{"name": "another program\'s file"}', ["it is not a"]),
        ('{"format": 99, "modules": [], "decisions": []}', ["format 99"]),
        ('{"format": 1, "modules": [], "decisions": []}', ["damaged"]),
        ('{"format": 1, "modules": 7, "decisions": 7, "python": "3.9.1"}', ["damaged"]),
    ],
    ids=["missing", "text", "binary", "list", "foreign", "future", "bare", "wrong types"],
)
def test_damaged_file(desk: Desk, env: Environment, option: str, content: str | bytes | None, words: list[str]) -> None:
    file = desk.work / "saved.json"
    if content is not None:
        desk.write("saved.json", content)
    more = ("--explain", "alpha") if option == "--plan" else ()
    desk.fails(env, USAGE, [f"{option} {file}", *words], option, file, *more)


@pytest.fixture
def saved(desk: Desk, env: Environment, handler: Path) -> Path:
    """Return the saved trace of the handler that uses alpha."""
    trace = desk.folder / "trace.json"
    desk.minimize(env, "--save-trace", trace, entry=handler)
    return trace


def test_every_part_of_a_trace_is_checked(saved: Path) -> None:
    """Remove each part, and change each part's type: always an error message, never the exit code of a bug."""
    whole = json.loads(saved.read_text())
    for name in whole:
        for wrong in (None, 7, "text", ["text"], [[]], [{}]):
            changed = {**whole, name: wrong} if wrong is not None else {n: v for n, v in whole.items() if n != name}
            saved.write_text(json.dumps(changed))
            done = read_trace(saved)
            assert done in ("UsageError", "fine"), (name, wrong, done)


def read_trace(file: Path) -> str:
    """Read a trace as the command does, but in this process: a process for each case would take minutes."""
    from layer_minimizer.core import errors  # noqa: PLC0415
    from layer_minimizer.trace import saved_traces  # noqa: PLC0415

    try:
        saved_traces.read_traces([file])
    except errors.UsageError as exc:
        return "UsageError" if str(file) in str(exc) else f"a message without the file: {exc}"
    return "fine"


@pytest.mark.usefixtures("handler")
def test_trace_of_another_python(desk: Desk, env: Environment, saved: Path) -> None:
    trace = json.loads(saved.read_text())
    trace["python"] = "3.2.1"
    saved.write_text(json.dumps(trace))
    desk.fails(env, USAGE, ["Python 3.2.1", "--python", "same version"], "--trace", saved, entry="")


def test_two_traces_of_different_python(desk: Desk, env: Environment, saved: Path) -> None:
    other = desk.folder / "other.json"
    other.write_text(json.dumps({**json.loads(saved.read_text()), "python": "3.2.1"}))
    desk.fails(env, USAGE, ["3.2.1", "one version"], "--trace", saved, "--trace", other, entry="")


def test_trace_whose_entry_is_gone(desk: Desk, env: Environment, saved: Path, handler: Path) -> None:
    handler.unlink()
    desk.fails(env, USAGE, [str(handler), "no longer exists", "--entry"], "--trace", saved, entry="")


def test_explain_of_nothing(desk: Desk, env: Environment, handler: Path) -> None:
    desk.fails(
        env,
        PLAN,
        ["--explain nowhere", "no installed file, module or distribution"],
        "--explain",
        "nowhere",
        entry=handler,
    )
