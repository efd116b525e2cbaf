"""Layers with compacted libraries, built by the command line: each policy and its results."""

import json
import os
import random
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from layer_minimizer.layer.archive import unzip
from layer_minimizer.native import parts
from tests.support.places import MINIMIZE

pytestmark = pytest.mark.skipif(
    bool(parts.unavailable_reason()) or not shutil.which("gcc"), reason=parts.unavailable_reason() or "no gcc"
)
# Functions of which the handler calls one. Each is large enough to have pages of its own.
FUNCTION = "long f{0}(long x) {{ volatile long y = x + {0};\n{1}return y; }}\n"
HANDLER = """
import ctypes, os, thing

library = ctypes.CDLL(os.path.join(os.path.dirname(thing.__file__), "libthing.so"))

def handler(event, context):
    function = getattr(library, "f%d" % event["which"])
    function.restype, function.argtypes = ctypes.c_long, [ctypes.c_long]
    return function(5)
"""
RUN = """
import json, sys
sys.path[:0] = sys.argv[1:3]
import handler
print(handler.handler({"which": int(sys.argv[3])}, None))
"""
# As in a function, the .pth file of the layer starts its runtime. Compacted libraries do without.
STARTED = RUN.replace("import handler", "import site\nsite.addsitedir(sys.argv[2])\nimport handler")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a handler and an environment that has a package with a shared library."""
    return write_project(tmp_path_factory.mktemp("pipeline"), HANDLER)


def write_project(folder: Path, handler: str, functions: int = 60) -> Path:
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder / "env"], check=True)
    package = next((folder / "env/lib").glob("python3*/site-packages")) / "thing"
    package.mkdir()
    (package / "__init__.py").touch()
    chance = random.Random(7)  # for code that does not compress well
    with (folder / "thing.c").open("w") as code:
        for i in range(functions):
            lines = (f"y = y * {chance.getrandbits(30)} + {chance.getrandbits(30)};\n" for _ in range(600))
            code.write(FUNCTION.format(i, "".join(lines)))
    subprocess.run(
        ["gcc", "-O0", "-g", "-shared", "-fPIC", folder / "thing.c", "-o", package / "libthing.so"], check=True
    )
    (folder / "task").mkdir()
    (folder / "task/handler.py").write_text(handler)
    (folder / "event.json").write_text('{"which": 3}')
    return folder


def write_record(site: Path) -> None:
    """Write metadata of one distribution that owns all files of a site-packages folder."""
    files = [path.relative_to(site) for path in site.rglob("*") if path.is_file()]
    folder = site / "thing-1.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: thing\nVersion: 1\n")
    (folder / "RECORD").write_text("".join(f"{path},,\n" for path in (*files, "thing-1.dist-info/RECORD")))


def make(place: Path, *options: str) -> tuple[Any, Path]:
    """Build a layer. Return its report and its unpacked packages."""
    layer = place / "layer.zip"
    command = [
        MINIMIZE,
        "-q",
        "--json",
        "--native",
        "on",
        "--effort",
        "0",
        "--bytecode",
        "source",
        *options,
    ]
    entry = ["--entry", place / "task/handler.py", "--event", place / "event.json"]
    done = subprocess.run(
        [*command, *entry, "--python", place / "env/bin/python", "--output", layer],
        stdout=subprocess.PIPE,
        check=True,
    )
    shutil.rmtree(place / "layer", ignore_errors=True)
    unzip(layer, place / "layer")
    return json.loads(done.stdout), next((place / "layer/python/lib").glob("*/site-packages"))


def call(place: Path, packages: Path, which: int, code: str = RUN) -> subprocess.CompletedProcess[str]:
    base = os.path.realpath(sys.executable)
    return subprocess.run(
        [base, "-I", "-S", "-B", "-c", code, place / "task", packages, str(which)],
        text=True,
        capture_output=True,
        timeout=60,
        check=False,
    )


def test_kept_cold_pages_are_restored(place: Path) -> None:
    report, packages = make(place)
    (library,) = report["libraries"]
    assert library["problem"] == ""
    assert library["hot"] < library["mapped"] / 3
    assert library["shipped"] < library["file"] / 3
    assert report["verification"]["cold_faults"] == 0
    (runtime,) = (packages / "layer_minimizer.libs").glob("liblayercold-*.so")
    assert sum(report["kept"].values()) + runtime.stat().st_size == report["layer"]["unzipped_bytes"]
    original = next((place / "env/lib").glob("python3*/site-packages"))
    for which in (3, 0, 59, 17):
        expected = call(place, original, which)
        assert expected.returncode == 0, expected.stderr
        assert call(place, packages, which).stdout == expected.stdout


def test_dropped_cold_pages_end_the_process_by_name(place: Path) -> None:
    report, packages = make(place, "--cold", "drop")
    assert report["libraries"][0]["cold"] == 0
    (runtime,) = (packages / "layer_minimizer.libs").iterdir()
    assert runtime.match("liblayercold-*.so")
    assert call(place, packages, 3).returncode == 0
    ended = call(place, packages, 59)
    assert ended.returncode == -6
    assert ended.stdout == ""
    assert len(ended.stderr.splitlines()) == 1
    assert "thing/libthing.so" in ended.stderr
    assert "dropped" in ended.stderr


def test_auto_keeps_what_is_likely_to_be_needed_as_far_as_the_size_allows(place: Path) -> None:
    kept, _ = make(place, "--cold", "keep", "--smallest")
    room = kept["layer"]["unzipped_bytes"]
    (whole,) = kept["libraries"]
    assert whole["dropped"] == 0
    same, _ = make(place, "--cold", "auto", "--max-size", str(room))
    assert same["libraries"] == kept["libraries"]

    # More is compressed before something is omitted.
    fast, _ = make(place, "--cold", "keep")
    assert fast["layer"]["unzipped_bytes"] > room

    smaller, packages = make(place, "--cold", "auto", "--max-size", str(room - 1))
    assert smaller["layer"]["unzipped_bytes"] < room
    (part,) = smaller["libraries"]
    assert 0 < part["cold"] < whole["cold"]
    assert 0 < part["dropped"] < whole["mapped"] - whole["hot"]
    # The event's function is number 3: neighbouring pages stay, distant ones are omitted.
    original = next((place / "env/lib").glob("python3*/site-packages"))
    assert call(place, packages, 0).stdout == call(place, original, 0).stdout
    ended = [done for which in range(10, 60, 5) if (done := call(place, packages, which)).returncode]
    assert {done.returncode for done in ended} == {-6}
    assert all("it was dropped" in done.stderr for done in ended)

    none, _ = make(place, "--cold", "auto", "--max-size", str(room - whole["cold"]))
    assert none["libraries"][0]["cold"] == 0


OPENED_IN_C = """
import ctypes, os, _ctypes, thing

path = os.path.join(os.path.dirname(thing.__file__), "libthing.so")

def handler(event, context):
    if event["which"] == 3:
        return os.path.exists(path)
    # As a library does that is opened from C: by the path alone, past all of Python's functions.
    address = _ctypes.dlsym(_ctypes.dlopen(path), "f%d" % event["which"])
    return ctypes.CFUNCTYPE(ctypes.c_long, ctypes.c_long)(address)(5)
"""


def test_a_library_that_nothing_loaded_can_be_opened_from_c(tmp_path: Path) -> None:
    place = write_project(tmp_path, OPENED_IN_C)
    report, packages = make(place)
    (library,) = report["libraries"]
    assert library["shipped"] < library["file"] / 4
    original = next((place / "env/lib").glob("python3*/site-packages"))
    for which in (3, 59):
        expected = call(place, original, which)
        assert expected.returncode == 0, expected.stderr
        assert call(place, packages, which).stdout == expected.stdout


READS_DATA = r"""
#include <stdio.h>
static int first(const char *folder, const char *name) {
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *file = fopen(path, "rb");
    return file ? fgetc(file) : -1;
}
int table(const char *folder, int number) {
    char name[64];
    snprintf(name, sizeof name, "table_%d.csv", number);
    return number ? first(folder, name) : first(folder, "share/main.db");
}
"""
READS = """
import ctypes, os, thing, thing.data

folder = os.path.dirname(thing.data.__file__)
library = ctypes.CDLL(os.path.join(folder, "libdata.so"))

def handler(event, context):
    which = event["which"]
    if which == 3:
        return 3
    return library.table(folder.encode(), 0) if which < 3 else library.table((folder + "/share").encode(), which)
"""


def write_data_project(folder: Path, files: dict[str, str]) -> Path:
    """Write a distribution with a library and data files next to it."""
    place = write_project(folder, READS)
    site = next((place / "env/lib").glob("python3*/site-packages"))
    for name, text in {"__init__.py": "", **files}.items():
        (site / "thing/data" / name).parent.mkdir(parents=True, exist_ok=True)
        (site / "thing/data" / name).write_text(text)
    (folder / "data.c").write_text(READS_DATA)
    target = site / "thing/data/libdata.so"
    subprocess.run(["gcc", "-O1", "-shared", "-fPIC", folder / "data.c", "-o", target], check=True)
    write_record(site)
    return place


def test_data_that_a_library_opens_by_itself_is_cold(tmp_path: Path) -> None:
    """One name is in the strings of the library, the other is composed at run time: C code gets both."""
    files = {"share/main.db": "m", "share/table_7.csv": "t", "other.db": "o"}
    place = write_data_project(tmp_path, {name: letter * 5000 for name, letter in files.items()})
    report, packages = make(place)
    verdicts = {row["path"]: (row["verdict"], row["reason"]) for row in report["files"]}
    assert {verdicts[f"thing/data/{name}"] for name in files} == {("cold", "UNTOUCHED")}
    assert all((packages / "thing/data" / name).is_symlink() for name in files)
    assert [call(place, packages, which, STARTED).stdout for which in (0, 7)] == [f"{ord('m')}\n", f"{ord('t')}\n"]


def test_without_the_runtime_such_data_lies_in_place(tmp_path: Path) -> None:
    place = write_data_project(tmp_path, {"share/main.db": "m" * 5000, "share/table_7.csv": "t" * 5000})
    _, packages = make(place, "--native", "off")
    assert not (packages / "thing/data/share/main.db").is_symlink()
    assert [call(place, packages, which).stdout for which in (0, 7)] == [f"{ord('m')}\n", f"{ord('t')}\n"]


def test_two_runs_give_the_same_bytes(place: Path) -> None:
    one, _ = make(place)
    two, _ = make(place)
    assert one["layer"]["sha256"] == two["layer"]["sha256"]


def test_off_ships_libraries_whole(place: Path) -> None:
    report, packages = make(place, "--native", "off")
    original = next((place / "env/lib").glob("python3*/site-packages"))
    assert report["libraries"] == []
    assert (packages / "thing/libthing.so").read_bytes() == (original / "thing/libthing.so").read_bytes()


OTHER_PAGES_IN_A_LAYER = """
import ctypes, os, thing

library = ctypes.CDLL(os.path.join(os.path.dirname(thing.__file__), "libthing.so"))

def handler(event, context):
    # The run on the layer has its packages in another folder.
    function = library.f3 if thing.__file__.startswith(HERE) else library.f59
    function.restype, function.argtypes = ctypes.c_long, [ctypes.c_long]
    return function(5) != 0
"""


@pytest.mark.parametrize("cold", ["drop", "auto"])
def test_pages_missing_in_a_run_on_the_layer_are_added(tmp_path: Path, cold: str) -> None:
    place = write_project(tmp_path, f"HERE = {str(tmp_path / 'env')!r}\n{OTHER_PAGES_IN_A_LAYER}")
    full, _ = make(place)
    # Room for the code that is lacking, and not for the store.
    store = full["libraries"][0]["cold"]
    assert store > 200_000
    limit = full["layer"]["unzipped_bytes"] - store + 150_000
    report, packages = make(place, "--cold", cold, "--max-size", str(limit))
    (library,) = report["libraries"]
    assert (library["problem"], library["dropped"] > 0) == ("", True)
    assert library["hot"] < library["mapped"] / 2
    assert call(place, packages, 59).stdout == "True\n"


# Each run on the layer takes another step; runs in the original environment are always the same.
STEPS = """
import ctypes, os, thing

library = ctypes.CDLL(os.path.join(os.path.dirname(thing.__file__), "libthing.so"))
numbers = {numbers}

def handler(event, context):
    number = numbers[0]
    if not thing.__file__.startswith({here!r}):
        with open({steps!r}, "a+") as steps:
            steps.write("x")
            number = numbers[steps.tell() % len(numbers)]
    function = getattr(library, "f%d" % number)
    function.restype, function.argtypes = ctypes.c_long, [ctypes.c_long]
    return function(5) != 0
"""


def write_steps_project(folder: Path, numbers: list[int]) -> Path:
    handler = STEPS.format(numbers=numbers, here=str(folder / "env"), steps=str(folder / "steps"))
    return write_project(folder, handler, functions=max(numbers) + 1)


def test_a_layer_with_dropped_pages_works_in_repeated_runs(tmp_path: Path) -> None:
    place = write_steps_project(tmp_path, [3, 3, 3, 59])
    report, packages = make(place, "--cold", "drop")
    (library,) = report["libraries"]
    assert report["verification"]["runs"] == 10
    assert library["problem"] == ""
    assert library["hot"] < library["mapped"] / 2
    assert [call(place, packages, 0).stdout for _ in range(4)] == ["True\n"] * 4
    # The third run on the layer lacks pages, perhaps the seventh lacks more; after that ten succeed.
    steps = (place / "steps").stat().st_size - 4
    assert steps in (13, 17)


def test_fewer_runs_see_less(tmp_path: Path) -> None:
    place = write_steps_project(tmp_path, [3, 3, 3, 59])
    report, packages = make(place, "--cold", "drop", "--runs", "1")
    assert report["verification"]["runs"] == 1
    ended = [call(place, packages, 0) for _ in range(4)]
    (failed,) = [run.stderr for run in ended if run.returncode]
    assert "of thing/libthing.so: it was dropped" in failed


def test_with_a_way_back_one_run_is_enough(place: Path) -> None:
    report, _ = make(place)
    assert report["verification"]["runs"] == 1
    report, _ = make(place, "--runs", "3")
    assert report["verification"]["runs"] == 3


def test_a_library_of_which_each_run_needs_something_else_is_shipped_whole(tmp_path: Path) -> None:
    place = write_steps_project(tmp_path, list(range(3, 1000, 37)))
    report, packages = make(place, "--cold", "drop")
    (library,) = report["libraries"]
    assert library["problem"] == "shipped whole: a run on the layer needed more of it than the traced run had used"
    original = next((place / "env/lib").glob("python3*/site-packages"))
    assert (packages / "thing/libthing.so").read_bytes() == (original / "thing/libthing.so").read_bytes()


CHILD = """
import subprocess, sys, thing

CALL = "import ctypes, sys; library = ctypes.CDLL(sys.argv[1]); library.f%d(5)"

def handler(event, context):
    number = 3 if thing.__file__.startswith({here!r}) else 59
    file = thing.__file__.replace("__init__.py", "libthing.so")
    subprocess.run([sys.executable, "-c", CALL % number, file])
    return "done"
"""


def test_pages_that_a_child_lacks_are_shipped_even_if_the_result_is_the_same(tmp_path: Path) -> None:
    place = write_project(tmp_path, CHILD.format(here=str(tmp_path / "env")))
    report, packages = make(place, "--cold", "drop")
    (library,) = report["libraries"]
    assert library["dropped"] > 0
    ended = call(place, packages, 0)
    assert (ended.stdout, ended.stderr) == ("done\n", "")


OTHER_NAMES = """
import ctypes, os, thing

def handler(event, context):
    names = ["libthing.so.1", "libthing.so", "libthing.so.1.2.3", "libother.so"]
    library = ctypes.CDLL(os.path.join(os.path.dirname(thing.__file__), names[max(0, event["which"] - 3)]))
    library.f3.restype, library.f3.argtypes = ctypes.c_long, [ctypes.c_long]
    return library.f3(5)
"""


def test_copies_of_a_library_under_its_other_names_become_links(tmp_path: Path) -> None:
    place = write_project(tmp_path, OTHER_NAMES)
    folder = next((place / "env/lib").glob("python3*/site-packages")) / "thing"
    (folder / "libthing.so").unlink()
    command = ["gcc", "-O0", "-g", "-shared", "-fPIC", place / "thing.c", "-Wl,-soname,libthing.so.1", "-o"]
    subprocess.run([*command, folder / "libthing.so.1"], check=True)
    for name in ("libthing.so", "libthing.so.1.2.3"):
        shutil.copy(folder / "libthing.so.1", folder / name)
    # Of the same name for the loader, and with other contents: no copy.
    subprocess.run([*command, folder / "libother.so", "-DOTHER", "-Wl,--build-id=0x1234"], check=True)
    report, packages = make(place)
    packer = packages / "thing"
    links = {path.name: os.readlink(path) for path in packer.iterdir() if path.is_symlink()}
    assert links.pop("libother.so").startswith("/tmp/.layer_minimizer-")  # cold, as no event loaded it
    assert links == {"libthing.so": "libthing.so.1", "libthing.so.1.2.3": "libthing.so.1"}
    assert {Path(library["path"]).name for library in report["libraries"]} == {"libthing.so.1"}
    for which in (3, 4, 5, 6):
        expected = call(place, folder.parent, which)
        assert expected.returncode == 0, expected.stderr
        assert call(place, packages, which, STARTED).stdout == expected.stdout
