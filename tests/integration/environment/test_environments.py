"""All kinds of environments: each CPython, each way in which packages can be installed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.sites import stocked_env

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tests.support.desk import Desk
    from tests.support.sites import Environment

    MakeEnv = Callable[..., Environment]
    Add = Callable[..., None]

env = stocked_env
ALPHA = {"alpha/__init__.py": "from alpha import core\nVALUE = core.VALUE\n", "alpha/core.py": "VALUE = 'a'\n"}
ALPHA_KEPT = set(ALPHA)
USES_ALPHA = "import alpha\n\n\ndef handler(event, context):\n    return alpha.VALUE\n"
METADATA = (
    "try:\n    from importlib.metadata import version\nexcept ImportError:\n    version = lambda name: 'unknown'\n"
)


def handler_source(imports: str, result: str) -> str:
    return f"import {imports}\n\n\ndef handler(event, context):\n    return {result}\n"


def first_result(
    desk: Desk, env: Environment | None, *args: object, variables: Mapping[str, str] | None = None
) -> object:
    """Minimize and return the first result of the traced run."""
    trace = desk.folder / "trace.json"
    desk.minimize(env, "--save-trace", trace, "--output", desk.output, *args, variables=variables)
    return json.loads(json.loads(trace.read_text())["results"][0][1])


# ---- every CPython ---------------------------------------------------------------------------------------------------


def test_venv(desk: Desk, make_env: MakeEnv, version: str) -> None:
    env = make_env(version).install("alpha", ALPHA).install("beta", {"beta.py": "X = 1\n"})
    (env.site / "alpha" / "data.txt").write_text("of no RECORD")
    source = handler_source("os, alpha", "open(os.path.join(os.path.dirname(alpha.__file__), 'data.txt')).read()")
    desk.write("handler.py", source)
    assert first_result(desk, env) == "of no RECORD"
    assert desk.kept(version) == ALPHA_KEPT | {"alpha/data.txt"}


def make_base(python: str, version: str, folder: Path) -> Path:
    """Copy an interpreter so that it has a site-packages folder of its own, and links to its standard library."""
    real = Path(python)
    stdlib = Path(
        subprocess.run(
            [python, "-c", "import os; print(os.path.dirname(os.__file__))"], check=True, capture_output=True, text=True
        ).stdout.strip()
    )
    library = folder / "lib" / f"python{version}"
    library.mkdir(parents=True)
    (folder / "bin").mkdir()
    for path in stdlib.iterdir():
        if path.name not in ("site-packages", "__pycache__"):
            (library / path.name).symlink_to(path)
    (library / "site-packages").mkdir()
    copied = folder / "bin" / f"python{version}"
    shutil.copy2(real, copied)
    asked = subprocess.run([copied, "-c", "import sys; print(sys.prefix)"], check=False, capture_output=True, text=True)
    if asked.stdout.strip() != str(folder):
        pytest.skip(f"python{version} cannot be copied: {asked.stderr or asked.stdout}")
    return copied


def test_system_site_packages(
    desk: Desk, make_env: MakeEnv, python_of: Callable[[str], str], add: Add, version: str
) -> None:
    base = make_base(python_of(version), version, desk.folder / "base")
    site = desk.folder / "base" / "lib" / f"python{version}" / "site-packages"
    add(site, "beta", {"beta.py": "X = 'base'\n", "beta_unused.py": ""})
    add(site, "alpha", {**ALPHA, "alpha/core.py": "VALUE = 'old'\n", "alpha/older.py": ""}, version="0.9")
    env = make_env(version, "--system-site-packages", base=str(base)).install("alpha", ALPHA)
    desk.watched.append(desk.folder / "base")
    desk.write("handler.py", handler_source("alpha, beta", "alpha.VALUE + beta.X"))
    assert first_result(desk, env) == "abase"
    assert desk.kept(version) == ALPHA_KEPT | {"beta.py"}
    with zipfile.ZipFile(desk.output) as archive:
        core = next(name for name in archive.namelist() if name.endswith("alpha/core.py"))
        assert archive.read(core) == b"VALUE = 'a'\n"


def test_base_interpreter_without_environment(
    desk: Desk, python_of: Callable[[str], str], add: Add, main_version: str
) -> None:
    base = make_base(python_of(main_version), main_version, desk.folder / "base")
    add(desk.folder / "base" / "lib" / f"python{main_version}" / "site-packages", "alpha", ALPHA)
    desk.watched.append(desk.folder / "base")
    desk.write("handler.py", USES_ALPHA)
    desk.minimize(None, "--python", base)
    assert desk.kept() == ALPHA_KEPT


CHILDREN = """\
import multiprocessing
import os
import subprocess
import sys


def work(name):
    return __import__(name).X


def handler(event, context):
    found = []
    for method, name in (("fork", "by_fork"), ("spawn", "by_spawn")):
        with multiprocessing.get_context(method).Pool(1) as pool:
            found += pool.map(work, [name])
    command = [sys.executable, "-c", "import by_subprocess; print(by_subprocess.X)"]
    found.append(subprocess.check_output(command).decode().strip())
    return found
"""


def test_children(desk: Desk, make_env: MakeEnv, version: str) -> None:
    names = ["by_fork", "by_spawn", "by_subprocess"]
    env = make_env(version).install("children", {f"{name}.py": f"X = '{name}'\n" for name in (*names, "by_nobody")})
    desk.write("handler.py", CHILDREN)
    assert first_result(desk, env, "--observe", "probe") == names
    assert desk.kept(version) == {f"{name}.py" for name in names}


POOL = """\
import multiprocessing
from concurrent.futures import ProcessPoolExecutor

import alpha


def work(number):
    import by_worker
    return [by_worker.X * number, alpha.VALUE]


def handler(event, context):
    with ProcessPoolExecutor(2) as pool:
        return [multiprocessing.get_start_method(), list(pool.map(work, [1, 2]))]
"""


def test_a_process_pool_starts_as_the_newest_pythons_do(desk: Desk, make_env: MakeEnv) -> None:
    """The layer's run returns the same, or it would not be written. Before 3.14 processes were forked by default."""
    env = make_env("3.14").install("alpha", ALPHA)
    env.install("pooled", {"by_worker.py": "X = 5\n", "by_nobody.py": "X = 1\n"})
    desk.write("handler.py", POOL)
    assert first_result(desk, env, "--observe", "probe") == ["forkserver", [[5, "a"], [10, "a"]]]
    assert desk.kept("3.14") == ALPHA_KEPT | {"by_worker.py"}


USES_LATER = "import alpha\nimport used_by_nobody\n\n\ndef handler(event, context):\n    return alpha.VALUE\n"


@pytest.mark.parametrize(("setting", "loads", "effort"), [("all", False, 0), ("all", False, 1), ("", True, 0)])
def test_lazy_imports_are_traced_as_the_function_has_them(
    desk: Desk, make_env: MakeEnv, setting: str, effort: int, *, loads: bool
) -> None:
    env = make_env("3.15").install("alpha", ALPHA).install("more", {"used_by_nobody.py": "X = 1\n"})
    desk.write("handler.py", USES_LATER)
    report = desk.folder / "report.json"
    variables = {"XDG_CACHE_HOME": str(desk.folder / "cache"), **({"PYTHON_LAZY_IMPORTS": setting} if setting else {})}
    options = ("--observe", "probe", "--effort", effort, "--report-json", report)
    ended = desk.minimize(env, *options, variables=variables)
    assert json.loads(report.read_text())["lazy_imports"] == setting
    said = "Lazy imports: traced and verified with PYTHON_LAZY_IMPORTS=all; the function needs this variable, too."
    assert (said in ended.out) == (setting == "all")
    assert desk.kept("3.15") == ALPHA_KEPT | ({"used_by_nobody.py"} if loads else set())


def test_child_that_is_killed_while_the_probe_writes(desk: Desk, make_env: MakeEnv) -> None:
    """Such a child leaves half a line, and the next fact is written behind it."""
    env = make_env().install("alpha", ALPHA).install("beta", {"beta.py": "X = 1\n"})
    source = """\
import os

with open(os.environ["LAYER_MINIMIZER_PROBE"].rsplit(":", 1)[0], "ab") as log:
    log.write(b"('open', '/half/of (' a path")

import alpha, beta


def handler(event, context):
    return alpha.VALUE
"""
    desk.write("handler.py", source)
    desk.minimize(env, "--observe", "probe")
    assert desk.kept() == ALPHA_KEPT | {"beta.py"}


def test_probe_and_strace_see_the_same(desk: Desk, make_env: MakeEnv, version: str) -> None:
    if shutil.which("strace") is None:
        pytest.skip("there is no strace here")
    env = make_env(version).install(
        "alpha",
        {**ALPHA, "alpha/data.txt": "x", "alpha/asked.txt": "x", "alpha/unused.txt": "x", "alpha/sub/a.txt": "x"},
    )
    env.install("split-one", {"split/one/__init__.py": "X = 1\n"})
    env.install("split-two", {"split/two/__init__.py": "X = 2\n"})
    env.install("named", {"named.py": METADATA + "V = version('named')\n"}, version="3.2")
    env.install("pathy", {"pathy.pth": "pathy_folder\n", "pathy_folder/inside.py": "X = 1\n"})
    (env.site / "alpha" / "link.txt").symlink_to("data.txt")
    source = """\
import os
import subprocess
import sys

import alpha
import inside
import named
import split.two

TOP = os.path.dirname(alpha.__file__)


def handler(event, context):
    subprocess.check_call([sys.executable, "-c", "import alpha.core"])
    found = [open(os.path.join(TOP, "link.txt")).read(), os.path.exists(os.path.join(TOP, "asked.txt"))]
    return found + sorted(os.listdir(os.path.join(TOP, "sub")))[:0]
"""
    desk.write("handler.py", source)
    kept = {}
    for observe in ("probe", "strace"):
        plan = desk.folder / f"{observe}.json"
        desk.minimize(env, "--observe", observe, "--save-plan", plan)
        kept[observe] = {row[0] for row in json.loads(plan.read_text())["decisions"] if row[3].lower() == "kept"}
    assert kept["probe"] == kept["strace"]
    assert kept["probe"] >= {"alpha/data.txt", "alpha/link.txt", "split/two/__init__.py", "pathy_folder/inside.py"}
    assert kept["probe"] & {"alpha/unused.txt", "split/one/__init__.py"} == set()


# ---- what runs at start ----------------------------------------------------------------------------------------------


@pytest.fixture
def startup_env(make_env: MakeEnv) -> Environment:
    env = make_env().install("alpha", ALPHA)
    env.install("pathy", {"pathy.pth": "# a comment\npathy_folder\n", "pathy_folder/inside.py": "X = 'inside'\n"})
    hook = {"hooky.pth": "import hooky_start\n", "hooky_start.py": "import sys\nsys.hooky = 'hooked'\n"}
    env.install("hooky", {**hook, "hooky/__init__.py": "import sys\nX = sys.hooky\n"})
    return env


@pytest.mark.parametrize(
    ("uses", "result", "kept"),
    [
        ("inside", "inside.X", {"pathy.pth", "pathy_folder/inside.py"}),
        ("hooky", "hooky.X", {"hooky.pth", "hooky_start.py", "hooky/__init__.py"}),
        ("alpha", "alpha.VALUE", ALPHA_KEPT),
    ],
)
def test_pth(desk: Desk, startup_env: Environment, uses: str, result: str, kept: set[str]) -> None:
    desk.write("handler.py", handler_source(uses, result))
    desk.minimize(startup_env)
    assert desk.kept() == kept


NSPKG = (
    "import sys, types, os;has_mfs = sys.version_info > (3, 5);"
    "p = os.path.join(sys._getframe(1).f_locals['sitedir'], *('ns',));"
    "importlib = has_mfs and __import__('importlib.util');has_mfs and __import__('importlib.machinery');"
    "m = has_mfs and sys.modules.setdefault('ns', importlib.util.module_from_spec("
    "importlib.machinery.PathFinder.find_spec('ns', [os.path.dirname(p)])));"
    "m = m or sys.modules.setdefault('ns', types.ModuleType('ns'));"
    "mp = (m or []) and m.__dict__.setdefault('__path__',[]);(p not in mp) and mp.append(p)\n"
)


def test_namespace_made_by_a_pth_file(desk: Desk, make_env: MakeEnv) -> None:
    env = make_env()
    for name in ("one", "two"):
        env.install(f"ns.{name}", {f"ns.{name}-nspkg.pth": NSPKG, f"ns/{name}/__init__.py": f"X = '{name}'\n"})
    desk.write("handler.py", handler_source("ns.one", "ns.one.X"))
    desk.minimize(env)
    assert desk.kept() == {"ns.one-nspkg.pth", "ns/one/__init__.py"}


# ---- namespaces ------------------------------------------------------------------------------------------------------

PKGUTIL = "__path__ = __import__('pkgutil').extend_path(__path__, __name__)\n"


@pytest.mark.parametrize("init", [None, PKGUTIL], ids=["pep 420", "pkgutil"])
def test_namespace_of_two_distributions(desk: Desk, make_env: MakeEnv, init: str | None) -> None:
    own = {} if init is None else {"ns/__init__.py": init}
    env = make_env()
    for name in ("one", "two", "three"):
        env.install(f"ns-{name}", {**own, f"ns/{name}.py": f"X = '{name}'\n"})
    desk.write("handler.py", handler_source("ns.one, ns.two", "ns.one.X + ns.two.X"))
    assert first_result(desk, env) == "onetwo"
    assert desk.kept() == {"ns/one.py", "ns/two.py", *own}


def test_namespace_of_which_one_part_is_provided(desk: Desk, make_env: MakeEnv) -> None:
    env = make_env()
    for name in ("one", "two", "three"):
        env.install(f"ns-{name}", {f"ns/{name}/__init__.py": f"X = '{name}'\n", f"ns/{name}/more.py": ""})
    desk.write("handler.py", handler_source("ns.one.more, ns.two.more", "ns.one.X + ns.two.X"))
    desk.minimize(env, "--provided", "ns_one")
    assert desk.kept() == {"ns/two/__init__.py", "ns/two/more.py"}


def test_provided_distribution_is_whole(desk: Desk, make_env: MakeEnv) -> None:
    """Another layer has all of a distribution: also what the run did not use, its metadata and its libraries."""
    env = (
        make_env()
        .install("alpha", {**ALPHA, "alpha/more.py": ""})
        .install("beta", {"beta.py": "import alpha\nX = 1\n"})
    )
    source = METADATA + handler_source("alpha, beta", "[alpha.VALUE, beta.X, version('alpha')]")
    desk.write("handler.py", source)
    assert first_result(desk, env, "--provided", "Alpha") == ["a", 1, "1.0"]
    assert desk.kept() == {"beta.py"}


# ---- editable installations ------------------------------------------------------------------------------------------

FINDER = """\
import sys
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import spec_from_file_location
from pathlib import Path

MAPPING = {mapping!r}
NAMESPACES = {{}}


class _EditableFinder:
    @classmethod
    def find_spec(cls, fullname, path=None, target=None):
        if fullname in MAPPING:
            candidate = Path(MAPPING[fullname], "__init__.py")
            if candidate.exists():
                return spec_from_file_location(fullname, candidate)
            return spec_from_file_location(fullname, MAPPING[fullname] + ".py")
        return None


def install():
    if not any(finder == _EditableFinder for finder in sys.meta_path):
        sys.meta_path.append(_EditableFinder)
"""
PROJECT = {
    "proj/__init__.py": "import os\nTOP = os.path.dirname(os.path.abspath(__file__))\n",
    "proj/part.py": "from proj import TOP\nfrom importlib.metadata import version\nV = version('proj')\n",
    "proj/data/words.txt": "words of proj",
    "proj/unused.py": "X = 1\n",
    "proj/data/unused.txt": "x",
    "single.py": "X = 'single'\n",
    "tests/test_proj.py": "",
}
PROJECT_HANDLER = """\
import os
import proj.part
{more}

def handler(event, context):
    with open(os.path.join(proj.TOP, "data", "words.txt")) as data:
        return [data.read(), proj.part.V{result}]
"""
PROJECT_KEPT = {"proj/__init__.py", "proj/part.py", "proj/data/words.txt", "proj-4.5.dist-info/METADATA"}


@pytest.fixture
def source_tree(desk: Desk) -> Path:
    source = desk.folder / "checkout" / "src"
    for path, text in PROJECT.items():
        (source / path).parent.mkdir(parents=True, exist_ok=True)
        (source / path).write_text(text)
    desk.watched.append(desk.folder / "checkout")
    return source


def install_editable(env: Environment, source: Path, style: str) -> None:
    if style == "finder":
        mapping = {"proj": str(source / "proj"), "single": str(source / "single")}
        start = "__editable___proj_4_5_finder"
        files = {
            "__editable__.proj-4.5.pth": f"import {start}; {start}.install()\n",
            f"{start}.py": FINDER.format(mapping=mapping),
        }
    else:
        files = {"__editable__.proj-4.5.pth": f"{source}\n"}
    url = json.dumps({"dir_info": {"editable": True}, "url": source.parent.as_uri()})
    env.install("proj", files, version="4.5", metadata={"direct_url.json": url})


@pytest.mark.parametrize("style", ["finder", "path"])
def test_editable(desk: Desk, make_env: MakeEnv, source_tree: Path, style: str) -> None:
    env = make_env().install("alpha", ALPHA)
    install_editable(env, source_tree, style)
    desk.write("handler.py", PROJECT_HANDLER.format(more="import single, alpha\n", result=", single.X, alpha.VALUE"))
    assert first_result(desk, env) == ["words of proj", "4.5", "single", "a"]
    assert desk.kept() == PROJECT_KEPT | ALPHA_KEPT | {"single.py"}


@pytest.mark.parametrize("style", ["finder", "path"])
def test_editable_that_is_not_used(desk: Desk, make_env: MakeEnv, source_tree: Path, style: str) -> None:
    env = make_env().install("alpha", ALPHA)
    install_editable(env, source_tree, style)
    desk.write("handler.py", USES_ALPHA)
    desk.minimize(env)
    assert desk.kept() == ALPHA_KEPT


def test_editable_project_that_the_entry_belongs_to(desk: Desk, make_env: MakeEnv, source_tree: Path) -> None:
    env = make_env().install("alpha", ALPHA)
    install_editable(env, source_tree, "path")
    entry = source_tree.parent / "handler.py"
    entry.write_text(PROJECT_HANDLER.format(more="import alpha\n", result=", alpha.VALUE"))
    desk.minimize(env, "--entry", entry)
    assert desk.kept() == PROJECT_KEPT | ALPHA_KEPT


# ---- folders and links -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["PYTHONUSERBASE", "HOME"])
def test_user_site(desk: Desk, python_of: Callable[[str], str], add: Add, main_version: str, how: str) -> None:
    base = make_base(python_of(main_version), main_version, desk.folder / "base")
    add(desk.folder / "base" / "lib" / f"python{main_version}" / "site-packages", "beta", {"beta.py": "X = 'b'\n"})
    user = desk.folder / "user" if how == "PYTHONUSERBASE" else desk.home / ".local"
    add(user / "lib" / f"python{main_version}" / "site-packages", "alpha", ALPHA)
    desk.watched += [desk.folder / "base", user]
    desk.write("handler.py", handler_source("alpha, beta", "alpha.VALUE + beta.X"))
    variables = {"PYTHONUSERBASE": str(user)} if how == "PYTHONUSERBASE" else {}
    assert first_result(desk, None, "--python", base, variables=variables) == "ab"
    assert desk.kept() == ALPHA_KEPT | {"beta.py"}


def test_package_that_is_a_link_out_of_the_site(desk: Desk, make_env: MakeEnv, add: Add) -> None:
    shared = desk.folder / "shared"
    add(shared, "alpha", {**ALPHA, "alpha/unused.py": ""})
    env = make_env().install("beta", {"beta.py": "X = 1\n"})
    (env.site / "alpha").symlink_to(shared / "alpha")
    (env.site / "single.py").symlink_to(desk.write("elsewhere.py", "X = 's'\n"))
    desk.watched.append(shared)
    desk.write("function/handler.py", handler_source("alpha, single", "alpha.VALUE + single.X"))
    desk.minimize(env, "--entry", desk.work / "function" / "handler.py")
    assert desk.kept() == ALPHA_KEPT | {"single.py"}
    with zipfile.ZipFile(desk.output) as archive:
        modes = {entry.external_attr >> 16 for entry in archive.infolist() if "_layer_minimizer/" not in entry.filename}
    assert modes == {0o100644}


def test_package_that_is_a_link_within_the_site(desk: Desk, make_env: MakeEnv) -> None:
    env = make_env().install("alpha", {f"real_{path}": text for path, text in ALPHA.items()} | {"real_alpha/x.py": ""})
    (env.site / "alpha").symlink_to("real_alpha")
    desk.write("handler.py", USES_ALPHA)
    desk.minimize(env)
    assert desk.kept() == {"alpha", *(f"real_{path}" for path in ALPHA)}


def test_links_that_lead_nowhere_or_around(desk: Desk, make_env: MakeEnv) -> None:
    env = make_env().install("alpha", ALPHA)
    (env.site / "alpha" / "around").symlink_to(".")
    (env.site / "alpha" / "nowhere").symlink_to("absent")
    (env.site / "alpha" / "itself").symlink_to("itself")
    (env.site / "up").symlink_to("..")
    desk.write("handler.py", USES_ALPHA)
    (desk.work / "around").symlink_to(".")
    (desk.work / "nowhere").symlink_to("absent")
    desk.minimize(env)
    assert desk.kept() == ALPHA_KEPT


def test_environment_reached_through_a_link(desk: Desk, make_env: MakeEnv) -> None:
    env = make_env().install("alpha", ALPHA)
    link = desk.folder / "link"
    link.symlink_to(env.root.parent)
    desk.watched.append(env.root)
    desk.write("handler.py", USES_ALPHA)
    desk.minimize(None, "--python", link / env.root.name / "bin" / "python")
    assert desk.kept() == ALPHA_KEPT


def test_interpreter_given_by_a_relative_path_and_by_name(desk: Desk, make_env: MakeEnv) -> None:
    env = make_env().install("alpha", ALPHA)
    desk.write("handler.py", USES_ALPHA)
    desk.minimize(None, "--python", os.path.relpath(env.python, desk.work), cwd=desk.work)
    path = {"PATH": f"{env.root / 'bin'}:{os.environ['PATH']}"}
    desk.minimize(None, "--python", "python", variables=path)
    assert desk.kept() == ALPHA_KEPT


def test_zipped_egg_is_refused(desk: Desk, make_env: MakeEnv) -> None:
    env = make_env().install("alpha", ALPHA)
    with zipfile.ZipFile(env.site / "thing-1.0.egg", "w") as egg:
        egg.writestr("thing.py", "X = 1\n")
    (env.site / "easy-install.pth").write_text("./thing-1.0.egg\n")
    desk.write("handler.py", USES_ALPHA)
    desk.fails(env, 7, [str(env.site / "thing-1.0.egg"), "zipped", "pip"])


def test_unpacked_egg(desk: Desk, make_env: MakeEnv) -> None:
    env = make_env()
    egg = env.site / "thing-1.0.egg"
    for path, text in {
        "thing/__init__.py": "X = 't'\n",
        "thing/no.py": "",
        "EGG-INFO/PKG-INFO": "Name: thing\n",
    }.items():
        (egg / path).parent.mkdir(parents=True, exist_ok=True)
        (egg / path).write_text(text)
    (env.site / "easy-install.pth").write_text("./thing-1.0.egg\n")
    desk.write("handler.py", handler_source("thing", "thing.X"))
    desk.minimize(env)
    assert desk.kept() == {"easy-install.pth", "thing-1.0.egg/thing/__init__.py"}


def test_distribution_as_egg_info(desk: Desk, make_env: MakeEnv) -> None:
    env = make_env()
    files = {
        "old.py": "from importlib.metadata import version\nX = version('old')\n",
        "old-0.3.egg-info/PKG-INFO": "Metadata-Version: 1.0\nName: old\nVersion: 0.3\n",
        "old-0.3.egg-info/installed-files.txt": "../old.py\nPKG-INFO\n",
        "old-0.3.egg-info/top_level.txt": "old\n",
    }
    for path, text in files.items():
        (env.site / path).parent.mkdir(parents=True, exist_ok=True)
        (env.site / path).write_text(text)
    desk.write("handler.py", handler_source("old", "old.X"))
    assert first_result(desk, env) == "0.3"
    assert desk.kept() == {"old.py", "old-0.3.egg-info/PKG-INFO"}


def test_entry_points(desk: Desk, make_env: MakeEnv) -> None:
    """All distributions are read by such a scan, and only the plugin is used."""
    env = make_env().install("alpha", ALPHA)
    env.install("plugin", {"plugin.py": "X = 'p'\n"}, metadata={"entry_points.txt": "[group]\nplugin = plugin:X\n"})
    env.install("other", {"other.py": "X = 1\n"}, metadata={"entry_points.txt": "[elsewhere]\nother = other:X\n"})
    source = """\
from importlib.metadata import entry_points


def handler(event, context):
    return [point.load() for point in entry_points(group="group")]
"""
    desk.write("handler.py", source)
    assert first_result(desk, env) == ["p"]
    assert desk.kept() >= {"plugin.py", "plugin-1.0.dist-info/METADATA", "plugin-1.0.dist-info/entry_points.txt"}
    assert {name.split("/")[0] for name in desk.kept()} == {"plugin.py", "plugin-1.0.dist-info"}


# ---- compiled code ---------------------------------------------------------------------------------------------------

EXTENSION = """\
#define PY_SSIZE_T_CLEAN
#include <Python.h>
int answer(void);
static PyObject *ask(PyObject *self, PyObject *none) { return PyLong_FromLong(answer()); }
static PyMethodDef methods[] = {{"ask", ask, METH_NOARGS, ""}, {0, 0, 0, 0}};
static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "_core", "", -1, methods};
PyMODINIT_FUNC PyInit__core(void) { return PyModule_Create(&module); }
"""


@pytest.mark.parametrize("observe", ["probe", "auto"])
def test_extension_with_a_library_of_its_own(
    desk: Desk, make_env: MakeEnv, python_of: Callable[[str], str], main_version: str, observe: str
) -> None:
    gcc = shutil.which("gcc")
    if gcc is None:
        pytest.skip("there is no gcc here")
    asked = "import sysconfig; print(sysconfig.get_path('include')); print(sysconfig.get_config_var('EXT_SUFFIX'))"
    command = [python_of(main_version), "-c", asked]
    include, suffix = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    if not Path(include, "Python.h").exists():
        pytest.skip("the headers of CPython are not installed")
    build = desk.folder / "build"
    build.mkdir()
    (build / "inner.c").write_text("int inner(void) { return 42; }\n")
    (build / "answer.c").write_text("int inner(void);\nint answer(void) { return inner(); }\n")
    (build / "core.c").write_text(EXTENSION)
    shared = [gcc, "-shared", "-fPIC", "-L."]
    origin = "-Wl,--enable-new-dtags,-rpath,$ORIGIN"
    for arguments in (
        ["inner.c", "-o", "libinner-1a2b.so.1", "-Wl,-soname,libinner-1a2b.so.1"],
        ["answer.c", "-o", "libanswer.so.2", "-Wl,-soname,libanswer.so.2", "-l:libinner-1a2b.so.1", origin],
        ["core.c", f"-I{include}", "-o", "core.so", "-l:libanswer.so.2", "-Wl,-rpath-link,.", f"{origin}/../fast.libs"],
    ):
        subprocess.run([*shared, *arguments], cwd=build, check=True)
    libraries = ("libinner-1a2b.so.1", "libanswer.so.2")
    files: dict[str, str | bytes] = {f"fast.libs/{name}": (build / name).read_bytes() for name in libraries}
    extension = f"fast/_core{suffix}"
    files |= {"fast/__init__.py": "from fast._core import ask\n", extension: (build / "core.so").read_bytes()}
    env = make_env().install("fast", {**files, "fast.libs/libunused.so.1": files["fast.libs/libanswer.so.2"]})
    desk.write("handler.py", handler_source("fast", "fast.ask()"))
    assert first_result(desk, env, "--observe", observe) == 42
    assert desk.kept() == set(files)


# ---- layouts ---------------------------------------------------------------------------------------------------------


def test_flat_layout(desk: Desk, make_env: MakeEnv) -> None:
    env = make_env().install("alpha", ALPHA).install("beta", {"beta.py": "X = 'b'\n"})
    source = """\
import subprocess
import sys

import alpha


def handler(event, context):
    printed = subprocess.check_output([sys.executable, "-c", "import beta; print(beta.X)"])
    return alpha.VALUE + printed.decode().strip()
"""
    desk.write("handler.py", source)
    assert first_result(desk, env, "--layout", "flat") == "ab"
    assert desk.kept(layout="flat") == ALPHA_KEPT | {"beta.py"}


def test_static_closure(desk: Desk, make_env: MakeEnv) -> None:
    env = make_env().install(
        "alpha", {**ALPHA, "alpha/__init__.py": ALPHA["alpha/__init__.py"] + LAZY, "alpha/lazy.py": ""}
    )
    env.install("beta", {"beta.py": "X = 1\n"}).install("gamma", {"gamma.py": "X = 1\n"})
    desk.write("handler.py", USES_ALPHA)
    desk.minimize(env)
    assert desk.kept() == ALPHA_KEPT
    desk.minimize(env, "--closure", "static")
    assert desk.kept() == ALPHA_KEPT | {"alpha/lazy.py", "beta.py"}


LAZY = "\n\ndef later():\n    import beta\n    from alpha import lazy\n"
