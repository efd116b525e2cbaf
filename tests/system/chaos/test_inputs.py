"""Unusual inputs: each gives a verified layer, or an error that says what to do; no file is left behind."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import layer_minimizer

if TYPE_CHECKING:
    from collections.abc import Callable

    from .conftest import Bench

QUICK = ("--effort", "0")
ECHO = "import alpha\n\n\ndef handler(event, context):\n    return {'event': event, 'value': alpha.VALUE}\n"
ALPHA = {"alpha/__init__.py": "VALUE = 1\n", "alpha/never.py": "X = 1\n"}
TRACE, PACK, RUNNER = 3, 5, 7
MEASURE = """
import json, resource, subprocess, sys
done = subprocess.run(sys.argv[2:])
used = resource.getrusage(resource.RUSAGE_CHILDREN)
with open(sys.argv[1], "w") as file:
    json.dump([used.ru_utime + used.ru_stime, used.ru_maxrss], file)
sys.exit(done.returncode)
"""


@pytest.fixture
def echo(bench: Bench) -> Bench:
    bench.install("alpha", ALPHA)
    bench.write("handler.py", ECHO)
    return bench


# ---- events -------------------------------------------------------------------------------------------------------


def test_numbers_that_json_has_not(echo: Bench) -> None:
    event = echo.write(
        "event.json", '[{"x": NaN, "y": [Infinity, -Infinity]}, NaN, 1e999, -0.0, 123456789012345678901]'
    )
    report = json.loads(echo.run("--event", event, "--json").out)
    assert (report["verification"]["events"], report["verification"]["mismatches"]) == (5, 0)


def test_texts_of_ten_megabytes(echo: Bench) -> None:
    text = "\u00fc\u2028\U0001f600\\\"'\n" * 1_000_000
    event = echo.write("event.json", json.dumps({"text": text, "lone": "\ud800", "nul": "\0"}))
    ended = echo.run("--event", event, *QUICK)
    assert "Verified" in ended.out
    assert len(ended.out) + len(ended.err) < 20_000


def test_what_differs_in_ten_megabytes_is_shown_shortly(bench: Bench) -> None:
    bench.install("alpha", ALPHA)
    bench.write(
        "handler.py", "import alpha, os\n\n\ndef handler(event, context):\n    return os.urandom(5_000_000).hex()\n"
    )
    ended = bench.run(*QUICK, code=6)
    assert len(ended.err) < 20_000


def test_an_event_that_is_nested_too_deeply(echo: Bench) -> None:
    event = echo.write("event.json", "[" * 200_000 + "]" * 200_000)
    ended = echo.run("--event", event, code=2)
    assert "event.json" in ended.err
    assert len(ended.err) < 2000


# ---- names --------------------------------------------------------------------------------------------------------

NAMES = ("with space", "new\nline", "'\"$(x)`;&|*?[a]", "\u00fc\u202e\U0001f600", "-rf", "%s{0}")


@pytest.mark.parametrize("name", NAMES, ids=["space", "newline", "shell", "unicode", "dash", "format"])
def test_names_of_files(bench: Bench, name: str) -> None:
    """In the environment, next to the handler, and in the names of their folders and of the output."""
    read = "import os, alpha\n\n\ndef handler(event, context):\n    text = []\n    for top in {}:\n"
    read += (
        "        with open(os.path.join(os.path.dirname(top), {!r})) as file:\n            text.append(file.read())\n"
    )
    bench.install("alpha", {**ALPHA, f"alpha/{name}/{name}.txt": "data", f"alpha/{name}.never": "never"})
    entry = bench.write(
        f"{name}/handler.py", (read + "    return text\n").format("(alpha.__file__, __file__)", f"{name}/{name}.txt")
    )
    bench.write(f"{name}/{name}/{name}.txt", "data")
    model = bench.write(f"{name}.bin", "model")
    event = bench.write(f"{name}.json", "{}")
    output = bench.folder / "out" / f"{name}.zip"
    bench.run("--model", model, "--event", event, *QUICK, entry=entry, output=output)
    assert f"alpha/{name}/{name}.txt" in bench.kept(output)
    assert {path.name for path in output.parent.iterdir()} == {output.name}


def test_names_that_are_no_text(bench: Bench) -> None:
    bench.install("alpha", ALPHA)
    bench.write("handler.py", ECHO)
    bench.write(b"beside-\xff\n.txt", "x")
    (bench.site / "alpha" / os.fsdecode(b"never-\xff.txt")).write_text("never read")
    output = bench.folder / "out" / os.fsdecode(b"layer-\xff.zip")
    bench.run(*QUICK, output=output)
    assert "alpha/__init__.pyc" in bench.kept(output)


def test_a_file_in_use_whose_name_is_no_text(bench: Bench) -> None:
    bench.install("alpha", ALPHA)
    (bench.site / "alpha" / os.fsdecode(b"data-\xff.txt")).write_text("read")
    bench.write(
        "handler.py",
        "import os, alpha\n\n\ndef handler(event, context):\n"
        "    with open(os.path.join(os.path.dirname(os.fsencode(alpha.__file__)), b'data-\\xff.txt')) as file:\n"
        "        return file.read()\n",
    )
    ended = bench.run(*QUICK, code=PACK)
    assert "data-\\xff.txt" in ended.err
    assert "--exclude" in ended.err


def test_an_environment_in_a_folder_with_a_hard_name(
    tmp_path: Path, bench: Bench, make_environment: Callable[..., object], base_python: str
) -> None:
    made = make_environment(base_python, "env 'with \"\n\u00fc")
    made.install("alpha", ALPHA)  # type: ignore[attr-defined]
    bench.write("handler.py", ECHO)
    bench.run("--python", made.python, *QUICK)  # type: ignore[attr-defined]
    assert "alpha/__init__.pyc" in bench.kept()
    assert tmp_path.exists()


# ---- sites --------------------------------------------------------------------------------------------------------


def test_a_site_with_250000_files(bench: Bench) -> None:
    """Limits memory and time for files that nothing uses."""
    bench.install("alpha", ALPHA)
    bench.write("handler.py", ECHO)
    for number in range(250):
        folder = bench.site / f"many{number}"
        folder.mkdir()
        for each in range(1000):
            os.mknod(folder / f"m{each}.py")
    used = bench.folder / "used.json"
    # Measured in a new process: the largest child of this process may belong to another test.
    prefix = (sys.executable, "-c", MEASURE, str(used))
    bench.run(*QUICK, timeout=600, watched=[bench.folder / "task"], prefix=prefix)
    seconds, kibibytes = json.loads(used.read_text())
    assert "alpha/__init__.pyc" in bench.kept()
    assert len(bench.kept()) < 100
    # Processor time, since the machine may have other work.
    assert seconds < 120
    # The maximum of all its processes.
    assert kibibytes < 1_500_000
    assert sum(len(names) for _, _, names in os.walk(bench.site)) == 250_000 + len(ALPHA) + 2
    shutil.rmtree(bench.site)


def test_a_site_that_is_read_only(echo: Bench, in_mounts: Callable[..., tuple[str, ...]]) -> None:
    prefix = in_mounts(f"mount --bind {echo.site} {echo.site}; mount -o remount,ro,bind {echo.site}")
    echo.run("--effort", "0.1", prefix=prefix)
    assert "alpha/__init__.pyc" in echo.kept()


@pytest.mark.parametrize("size", ["4k", "64k", "300k", "2m"])
@pytest.mark.parametrize("what", ["tmp", "out", "cache"])
def test_a_full_disk(echo: Bench, in_mounts: Callable[..., tuple[str, ...]], what: str, size: str) -> None:
    """The error names the full folder, which is empty afterwards; a cache that cannot be written is ignored."""
    noise = os.urandom(3_000_000)
    echo.install("large", {"large/__init__.py": "", "large/noise.bin": noise})
    echo.write(
        "handler.py",
        "import large, os\n\n\ndef handler(event, context):\n"
        "    with open(os.path.join(os.path.dirname(large.__file__), 'noise.bin'), 'rb') as file:\n"
        "        return len(file.read())\n",
    )
    folder, left = echo.folder / what, echo.folder / "left"
    folder.mkdir(exist_ok=True)
    prefix = in_mounts(f"mount -t tmpfs -o size={size} none {folder}", f"find {folder} -type f > {left}")
    variables = {"LAYER_MINIMIZER_CACHE": str(folder)} if what == "cache" else {}
    if what == "cache":
        echo.run("--effort", "0.1", prefix=prefix, variables=variables)
        assert all(name.endswith((".json", ".chunk")) for name in left.read_text().splitlines())
        return
    ended = subprocess.run(
        [*prefix, *echo.command(*QUICK)],
        env=echo.variables(),
        cwd=echo.folder,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ended.returncode in (TRACE, PACK, RUNNER), ended.stderr
    assert "No space left on device" in ended.stderr
    assert str(folder) in ended.stderr
    assert "Traceback" not in ended.stderr
    assert left.read_text() == ""


# ---- machines -----------------------------------------------------------------------------------------------------


def without(bench: Bench, *programs: str) -> dict[str, str]:
    """Return variables with a PATH that has all programs except these and compilers."""
    folder = bench.folder / "bin"
    folder.mkdir()
    for place in reversed(os.environ["PATH"].split(os.pathsep)):
        for program in Path(place).iterdir() if os.path.isdir(place) else ():
            if program.name not in programs and not program.name.startswith(("gcc", "clang", "cc", "ld")):
                (folder / program.name).unlink(missing_ok=True)
                (folder / program.name).symlink_to(program)
    return {"PATH": str(folder)}


def test_no_strace_no_compiler_and_no_unshare(echo: Bench) -> None:
    variables = without(echo, "strace", "unshare", "setpriv", "objdump", "readelf", "ldconfig")
    report = json.loads(echo.run("--effort", "0.1", "--json", variables=variables).out)
    assert report["observers"] == ["probe"]
    assert report["missing_observers"] == [{"observer": "strace", "cause": "it is not installed"}]
    assert any(warning.startswith("strace did not observe the run: ") for warning in report["warnings"])
    assert report["verification"]["mismatches"] == 0


def test_an_empty_path(echo: Bench) -> None:
    report = json.loads(echo.run(*QUICK, "--json", variables={"PATH": ""}).out)
    assert report["verification"]["mismatches"] == 0


# Forbids namespaces to its child processes: a system call filter that returns EPERM, as in most containers.
NO_NAMESPACES = """\
import ctypes, os, struct, sys
number = {"x86_64": (272, 0xC000003E), "aarch64": (97, 0xC00000B7)}[os.uname().machine]
code = [(0x20, 0, 0, 4), (0x15, 0, 3, number[1]), (0x20, 0, 0, 0), (0x15, 0, 1, number[0])]
code += [(6, 0, 0, 0x00050001), (6, 0, 0, 0x7FFF0000)]
packed = b"".join(struct.pack("HBBI", *row) for row in code)
class Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.c_char_p)]
libc = ctypes.CDLL(None, use_errno=True)
assert libc.prctl(38, 1, 0, 0, 0) == 0
assert libc.prctl(22, 2, ctypes.byref(Program(len(code), packed))) == 0
os.execv(sys.argv[1], sys.argv[1:])
"""


def test_where_no_namespace_can_be_made(echo: Bench) -> None:
    filtered = [sys.executable, "-c", NO_NAMESPACES]
    tried = subprocess.run([*filtered, shutil.which("unshare") or "", "-m", "true"], capture_output=True, check=False)
    assert tried.returncode != 0
    report = json.loads(echo.run("--effort", "0.1", "--json", prefix=filtered).out)
    assert report["verification"]["mismatches"] == 0
    assert report["verification"]["isolated"] is False


def program_for(user: list[str]) -> str:
    """Return a Python that another user can run and that has the tool's dependencies, or skip the test."""
    tool = Path(layer_minimizer.__file__).parent.parent
    test = "import subprocess, sys, layer_minimizer.cli.main; subprocess.run([sys.executable, '-c', ''], check=True)"
    for python in (sys.executable, "/usr/bin/python3"):
        command = [*user, python, "-c", test]
        if not subprocess.run(
            command, env={"PYTHONPATH": str(tool)}, cwd="/", check=False, capture_output=True
        ).returncode:
            return os.path.realpath(python)
    pytest.skip("another user cannot run a new enough Python here, or cannot read the installed tool")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
@pytest.mark.parametrize("namespaces", [True, False], ids=["namespaces", "none"])
def test_another_user_than_root(
    echo: Bench,
    free_folder: Path,
    make_environment: Callable[..., object],
    namespaces: bool,  # noqa: FBT001
) -> None:
    """A user who may only read the environment."""
    user = [shutil.which("setpriv") or "setpriv", "--reuid=1000", "--regid=1000", "--clear-groups"]
    for name in ("out", "tmp", "home"):
        os.chown(free_folder / name, 1000, 1000)
    python = program_for(user)
    prefix = user if namespaces else [sys.executable, "-c", NO_NAMESPACES, *user]
    env = make_environment(python, "readable")
    env.install("alpha", ALPHA)  # type: ignore[attr-defined]
    tool = Path(layer_minimizer.__file__).parent.parent
    given = {"program": (python, "-m", "layer_minimizer"), "variables": {"PYTHONPATH": str(tool)}}
    ended = echo.run("--python", env.python, "--effort", "0.1", "--json", prefix=prefix, **given)  # type: ignore[attr-defined]
    report = json.loads(ended.out)
    assert report["verification"]["mismatches"] == 0
    assert namespaces or report["verification"]["isolated"] is False
    assert echo.output.stat().st_uid == 1000
