"""Base layers: their files are used and not repeated, and all layers work together."""

from __future__ import annotations

import json
import os
import subprocess
import zipfile
from typing import TYPE_CHECKING, Any

import pytest

from layer_minimizer.layer.archive import unzip
from tests.support.desk import is_cold
from tests.support.sites import stocked_env

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from tests.support.desk import Desk
    from tests.support.sites import Environment

env = stocked_env
USAGE, TRACE = 2, 3
METADATA = "Metadata-Version: 2.1\nName: {}\nVersion: {}\n"
RUN = """
import json, os, site, sys
sys.path[:] = [entry for entry in sys.path if "site-packages" not in entry]
opt, task, what = sys.argv[1:]
folder = opt + "/python/lib/python%d.%d/site-packages" % sys.version_info[:2]
sys.path[:0] = [task, folder, opt + "/python"]
site.addsitedir(folder)
import handler
print(json.dumps(handler.handler(what, None)))
"""


@pytest.fixture
def layer(desk: Desk, main_version: str) -> Callable[..., Path]:
    """Write a layer's zip by hand: layer(name, {site-relative path: content}, top={path: content})."""

    def make(
        name: str,
        files: Mapping[str, str | bytes],
        prefix: str = f"python/lib/python{main_version}/site-packages/",
        top: Mapping[str, str | bytes] | None = None,
    ) -> Path:
        target = desk.folder / "layers" / name
        target.parent.mkdir(exist_ok=True)
        with zipfile.ZipFile(target, "w") as archive:
            for path, content in {**{prefix + path: content for path, content in files.items()}, **(top or {})}.items():
                entry = zipfile.ZipInfo(path)
                entry.external_attr = 0o100644 << 16
                archive.writestr(entry, content)
        return target

    return make


def together(desk: Desk, env: Environment, what: str, *layers: Path) -> Any:
    """Return the result of the handler with these layers only, merged in order as Lambda does."""
    opt = desk.folder / f"opt{len(list(desk.folder.iterdir()))}"
    for archive in layers:
        unzip(archive, opt)
    done = subprocess.run(
        [os.path.realpath(env.python), "-I", "-S", "-B", "-c", RUN, opt, desk.work, what],
        env={"TMPDIR": str(desk.tmp)},
        text=True,
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    desk.require_clean()
    return json.loads(done.stdout)


def report_of(desk: Desk, env: Environment, *options: object) -> dict[str, Any]:
    report: dict[str, Any] = json.loads(make(desk, env, "--json", *options))
    return report


def make(desk: Desk, env: Environment, *options: object) -> str:
    """Make a layer; the cache of the search is in the desk's folder."""
    return desk.minimize(env, *options, variables={"XDG_CACHE_HOME": str(desk.folder / "cache")}).out


def kept(archive: Path) -> set[str]:
    with zipfile.ZipFile(archive) as source:
        names = {entry.filename for entry in source.infolist() if not is_cold(source, entry)}
        return {name.rpartition("site-packages/")[2].removeprefix("python/") for name in names}


def test_what_a_base_layer_has_is_used_and_not_repeated(desk: Desk, env: Environment, layer: Any) -> None:
    base = layer(
        "base.zip", {"beta.py": "NAME = 'below'\n", "beta-2.0.dist-info/METADATA": METADATA.format("beta", "2.0")}
    )
    with zipfile.ZipFile(base) as archive:
        size = sum(entry.file_size for entry in archive.infolist())
    desk.write(
        "handler.py", "import alpha, beta, beta_more\n\n\ndef handler(e, c):\n    return [alpha.VALUE, beta.NAME]\n"
    )
    report = report_of(desk, env, "--base-layer", base)
    assert desk.kept() == {"alpha/__init__.py", "alpha/core.py", "alpha/data.txt", "beta_more.py"}
    (named,) = report["base_layers"]
    assert (named["name"], named["unzipped_bytes"], report["base_bytes"]) == (str(base), size, size)
    assert [(each["kind"], each["name"], each["winner"]) for each in report["conflicts"]] == [
        ("content", "beta.py", str(base))
    ]
    assert together(desk, env, "", base, desk.output) == ["the data of alpha", "below"]


def test_a_conflict_of_versions_gives_the_whole_distribution_to_the_base_layer(
    desk: Desk, env: Environment, layer: Any
) -> None:
    base = layer(
        "base.zip", {"beta.py": "NAME = 'old'\n", "beta-1.0.dist-info/METADATA": METADATA.format("beta", "1.0")}
    )
    desk.write("handler.py", "import alpha, beta\n\n\ndef handler(e, c):\n    import beta_more\n")
    ended = desk.fails(env, TRACE, ("No module named 'beta_more'",), "--base-layer", base)
    assert "Traceback" in ended.err
    desk.write("handler.py", "import alpha, beta\n\n\ndef handler(e, c):\n    return beta.NAME\n")
    ended = desk.minimize(env, "--base-layer", base)
    assert f"Conflict: beta is of two versions: 1.0 in {base} and 2.0 in the environment; {base} wins." in ended.out
    assert together(desk, env, "", base, desk.output) == "old"


def test_a_package_may_be_split_over_both(desk: Desk, env: Environment, layer: Any) -> None:
    base = layer("base.zip", {"gamma/__init__.py": "WIDTH = 4\n"})
    desk.write("handler.py", "import gamma, gamma.lib\n\n\ndef handler(e, c):\n    return gamma.WIDTH + gamma.lib.X\n")
    report = report_of(desk, env, "--base-layer", base)
    assert desk.kept() == {"gamma/lib.py"}
    assert [(each["kind"], each["name"]) for each in report["conflicts"]] == [("content", "gamma/__init__.py")]
    assert together(desk, env, "", base, desk.output) == 5
    output = desk.minimize(env, "--base-layer", base, "--explain", "gamma/__init__.py").out
    assert f"--base-layer {base}" in output


def test_bytecode_stands_for_its_source_and_namespaces_and_pth_files_are_merged(
    desk: Desk, make_env: Callable[..., Environment], layer: Any, tmp_path: Path
) -> None:
    env = make_env()
    (tmp_path / "beta.py").write_text("NAME = 'compiled'\n")
    compile_ = "import py_compile, sys; py_compile.compile(sys.argv[1], sys.argv[1] + 'c', doraise=True)"
    subprocess.run([env.python, "-I", "-c", compile_, tmp_path / "beta.py"], check=True)
    files = {
        "beta.pyc": (tmp_path / "beta.pyc").read_bytes(),
        "space/below.py": "X = 1\n",
        "hidden/found.py": "X = 2\n",
        "below.pth": "hidden\nimport sys; sys.seen = 3\n",
    }
    base = layer("base.zip", files)
    env.install("beta", {"beta.py": "NAME = 'source'\n"}).install("space-above", {"space/above.py": "X = 4\n"})
    code = "import sys, beta, found, space.above, space.below\n\n\ndef handler(e, c):\n"
    code += "    return [beta.NAME, space.below.X, found.X, sys.seen, space.above.X]\n"
    desk.write("handler.py", code)
    report = report_of(desk, env, "--base-layer", base)
    assert desk.kept() == {"space/above.py"}
    assert report["conflicts"] == []
    assert together(desk, env, "", base, desk.output) == ["compiled", 1, 2, 3, 4]


def test_the_later_of_two_layers_wins(desk: Desk, env: Environment, layer: Any) -> None:
    lower, upper = (
        layer(f"{name}.zip", {"both.py": f"X = {name!r}\n", f"{name}.py": ""}) for name in ("lower", "upper")
    )
    desk.write("handler.py", "import alpha, both, lower, upper\n\n\ndef handler(e, c):\n    return both.X\n")
    for first, second in ((lower, upper), (upper, lower)):
        report = report_of(desk, env, "--base-layer", first, "--base-layer", second)
        (conflict,) = report["conflicts"]
        assert conflict["kind"] == "content"
        assert (conflict["first"], conflict["second"], conflict["winner"]) == (str(first), str(second), str(second))
        assert together(desk, env, "", first, second, desk.output) == second.stem


def test_a_base_layer_in_the_other_layout(desk: Desk, env: Environment, layer: Any) -> None:
    desk.write("handler.py", "import alpha, low\n\n\ndef handler(e, c):\n    return [alpha.VALUE, low.X]\n")
    flat = layer("flat.zip", {"low.py": "X = 1\n", "low.pth": "import sys; sys.never = 1\n"}, prefix="python/")
    site = layer("site.zip", {"low.py": "X = 2\n"})
    for base, layout, expected in ((flat, "site", 1), (site, "flat", 2), (flat, "flat", 1)):
        desk.minimize(env, "--base-layer", base, "--layout", layout)
        assert desk.kept(layout=layout) == {"alpha/__init__.py", "alpha/core.py", "alpha/data.txt"}
        assert together(desk, env, "", base, desk.output) == ["the data of alpha", expected]


def test_a_handler_that_writes_into_a_package_changes_a_copy(desk: Desk, env: Environment, layer: Any) -> None:
    base = layer("base.zip", {"low/__init__.py": "", "low/state.txt": "untouched"})
    code = "import os, alpha, low\n\n\ndef handler(e, c):\n"
    code += "    for folder, name in ((alpha, 'unused.dat'), (low, 'state.txt')):\n"
    code += "        try:\n            open(os.path.join(os.path.dirname(folder.__file__), name), 'w').write('!')\n"
    code += "        except OSError:\n            pass\n    return alpha.VALUE\n"
    desk.write("handler.py", code)
    before = base.read_bytes()
    desk.minimize(env, "--base-layer", base)  # which requires that env is as it was
    assert base.read_bytes() == before


def test_a_file_that_is_not_a_layer_for_this_python_is_refused(desk: Desk, env: Environment, layer: Any) -> None:
    desk.write("handler.py", "import alpha\n\n\ndef handler(e, c):\n    return alpha.VALUE\n")
    other = layer("other.zip", {"x.py": ""}, prefix="python/lib/python3.5/site-packages/")
    desk.fails(env, USAGE, ("other.zip", "python3.5", "name a layer for"), "--base-layer", other)
    bare = layer("bare.zip", {"x.py": ""}, prefix="")
    desk.fails(env, USAGE, ("bare.zip", "python/"), "--base-layer", bare)
    outside = layer("outside.zip", {"../../x.py": ""}, prefix="python/../../")
    desk.fails(env, USAGE, ("outside.zip", "outside of the layer"), "--base-layer", outside)
    broken = desk.folder / "layers/broken.zip"
    broken.write_bytes(other.read_bytes()[:50])
    desk.fails(env, USAGE, ("broken.zip", "not a readable zip"), "--base-layer", broken)
    desk.fails(env, USAGE, ("never.zip", "No such file"), "--base-layer", desk.folder / "never.zip")
    older = layer("older.zip", {"_layer_minimizer/__init__.py": "", "_layer_minimizer/cold/index": ""})
    desk.fails(env, USAGE, ("older.zip", "another version of this tool"), "--base-layer", older)


# ---- two layers of this tool -----------------------------------------------------------------------------------------

COLD_KEEP = ("--effort", "1", "--bytecode", "auto", "--cold", "keep")
LOW = {
    "low/__init__.py": "import heavy\nfrom low import core\nNAME = 'low'\n",
    "low/core.py": "def work(x):\n    return x + 1\n",
    "low/late.py": "def double(x):\n    return 2 * x\n",
    "low/data.txt": "the data of low",
}
HEAVY = {
    "heavy/__init__.py": "from heavy.frames import Frame\n" + "# \n" * 5000,
    "heavy/frames.py": "class Frame:\n    def __init__(self, rows):\n        self.rows = rows\n\n    def total(self):\n"
    "        return sum(self.rows)\n" + "# \n" * 9000,
}
HIGH = {
    "high/__init__.py": "import low\nimport heavy\nimport bulky\n\n\ndef ask(x):\n    return low.core.work(x) * 10\n",
    "high/later.py": "def triple(x):\n    return 3 * x\n",
    "high/notes.txt": "the notes of high",
    "bulky.py": "class Thing:\n    def __init__(self):\n        self.x = 7\n" + "# \n" * 9000,
}
ASK = """
import os
import high


def handler(what, context):
    if what == "cold":
        import bulky, heavy, low
        from importlib import import_module
        import_module("low.late"), import_module("high.later")
        read = lambda module, name: open(os.path.join(os.path.dirname(module.__file__), name)).read()
        return [
            low.late.double(2), high.later.triple(2), read(low, "data.txt"), read(high, "notes.txt"),
            heavy.Frame([1, 2]).total(), bulky.Thing().x,
        ]
    return high.ask(4)
"""


@pytest.mark.parametrize("layouts", [("site", "site"), ("flat", "flat"), ("flat", "site"), ("site", "flat")])
def test_two_layers_of_this_tool_give_back_what_is_cold_in_both(
    desk: Desk, make_env: Callable[..., Environment], layouts: tuple[str, str]
) -> None:
    env = make_env()
    env.install("low", LOW).install("heavy", HEAVY).install("high", HIGH)
    event = desk.folder / "event.json"
    event.write_text('"hot"')
    desk.write("handler.py", "import low\n\n\ndef handler(e, c):\n    return low.core.work(1)\n")
    make(desk, env, "--event", event, "--layout", layouts[0], *COLD_KEEP)
    base = desk.output.rename(desk.folder / "base.zip")
    assert {"heavy/__init__.pyc", "heavy/frames.pyc"} & kept(base)

    desk.write("handler.py", ASK)
    options = ("--event", event, "--layout", layouts[1], "--base-layer", base, *COLD_KEEP)
    report = report_of(desk, env, *options)
    assert report["conflicts"] == []
    assert not [name for name in kept(desk.output) if name.startswith(("low/", "heavy/"))]
    assert "bulky" in {each["module"] for each in report["stand_ins"]}
    for order in ((base, desk.output), (desk.output, base)):
        assert together(desk, env, "hot", *order) == 50
        assert together(desk, env, "cold", *order) == [4, 6, "the data of low", "the notes of high", 3, 7]
    again = desk.output.read_bytes()
    assert report_of(desk, env, *options)["verified"]
    assert desk.output.read_bytes() == again


def test_what_a_base_layer_lacks_comes_with_ours(desk: Desk, make_env: Callable[..., Environment]) -> None:
    env = make_env()
    env.install("low", LOW).install("heavy", HEAVY).install("high", HIGH)
    event = desk.folder / "event.json"
    event.write_text('"hot"')
    desk.write("handler.py", "import low\n\n\ndef handler(e, c):\n    return low.core.work(1)\n")
    dropped = (*COLD_KEEP[:-1], "drop")
    make(desk, env, "--event", event, *dropped)
    base = desk.output.rename(desk.folder / "base.zip")
    event.write_text('["hot", "cold"]')
    desk.write("handler.py", ASK)
    make(desk, env, "--event", event, "--base-layer", base, *COLD_KEEP)
    assert {"low/late.pyc", "low/data.txt", "heavy/frames.pyc", "heavy/__init__.pyc"} <= kept(desk.output)
    assert "low/core.pyc" not in kept(desk.output)
    assert together(desk, env, "hot", base, desk.output) == 50
    assert together(desk, env, "cold", base, desk.output)[-2:] == [3, 7]


def test_another_version_in_a_base_layer_needs_no_metadata(desk: Desk, make_env: Callable[..., Environment]) -> None:
    older, newer = make_env(), make_env()
    older.install("low", LOW).install("heavy", HEAVY).install("high", HIGH)
    newer.install("low", {**LOW, "low/core.py": "def work(x):\n    return x + 2\n"}, version="2.0")
    newer.install("heavy", HEAVY).install("high", HIGH)
    event = desk.folder / "event.json"
    event.write_text('"hot"')
    desk.write("handler.py", "import low\n\n\ndef handler(e, c):\n    return low.core.work(1)\n")
    make(desk, older, "--event", event, *COLD_KEEP)
    base = desk.output.rename(desk.folder / "base.zip")
    assert not [name for name in kept(base) if name.endswith("METADATA")]
    desk.write("handler.py", ASK)
    report = report_of(desk, newer, "--event", event, "--base-layer", base, *COLD_KEEP)
    assert [(each["kind"], each["name"]) for each in report["conflicts"]] == [("version", "low")]
    assert together(desk, newer, "hot", base, desk.output) == 50
    assert together(desk, newer, "cold", base, desk.output) == [4, 6, "the data of low", "the notes of high", 3, 7]
