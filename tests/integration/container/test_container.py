"""``--runner``: an image from requirements, the tool in a container of it, and its outputs."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import layer_minimizer
from tests.support.desk import placed
from tests.support.index import need_uv, served
from tests.support.places import EXAMPLES, MINIMIZE
from tests.support.sites import write_files

from .conftest import image_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.support.docker import Engine

    from .conftest import EngineDesk

ALPHA = {"alpha/__init__.py": "VALUE = 42\n", "alpha/unused.py": "X = 1\n", "alpha/data.txt": "x" * 2000}
HANDLER = "import alpha\n\n\ndef handler(event, context):\n    return alpha.VALUE\n"
USER = 1000


@pytest.fixture(scope="module")
def with_alpha(engine: Engine, debian: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A user's own image with a package."""
    folder = tmp_path_factory.mktemp("alpha")
    for name, content in ALPHA.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(content)
    text = f"FROM {debian}\nCOPY alpha /usr/local/lib/python3.11/dist-packages/alpha\nUSER 1000\n"
    return engine.build("layer_minimizer_test/alpha", text, folder)


@pytest.fixture
def function(desk: EngineDesk) -> EngineDesk:
    (desk.folder / "handler.py").write_text(HANDLER)
    return desk


def names_in(layer: Path) -> set[str]:
    with zipfile.ZipFile(layer) as archive:
        return {name.split("/site-packages/")[1] for name in placed(archive)}


# ---- what comes out -----------------------------------------------------------------------------------------------


def test_from_requirements_to_a_verified_layer(pillow: EngineDesk, debian: str) -> None:
    given = ["--base-image", debian, "--requirements", "requirements.txt", "--event", "events.json", "--json"]
    given += ["--output", "layer.zip", "--report-json", "report.json"]
    first = pillow.minimize(*given)
    report = json.loads(first.out)
    assert report["verified"] is True
    assert report["layer"]["path"] == str(pillow.layer)
    assert report == pillow.report()
    assert report["layer"]["zipped_bytes"] == pillow.layer.stat().st_size
    assert any(library["shipped"] < library["file"] for library in report["libraries"])
    assert "strace" in report["observers"]
    assert "/layer_minimizer/out/" not in first.out + first.err
    layer = pillow.layer.read_bytes()
    # Once more: the image is there, and the same image gives the same bytes.
    again = pillow.minimize(*given)
    assert (image_of(again), "building the image" in again.err) == (image_of(first), False)
    assert pillow.layer.read_bytes() == layer


def test_equal_to_a_run_without_a_container(
    pillow: EngineDesk, debian: str, requirements_env: Callable[[str, Path], Path]
) -> None:
    """Two builds of CPython may import slightly different modules; the results and the size are equal."""
    given = ["--event", "events.json", "--report-json", "report.json", "--observe", "probe"]
    pillow.minimize("--base-image", debian, "--requirements", "requirements.txt", *given)
    inside = pillow.report()
    python = requirements_env("quickstart", EXAMPLES / "quickstart/requirements.txt")
    local = [str(MINIMIZE), "--effort", "0", "--entry", "handler.py", "--python", str(python), *given]
    subprocess.run(local, cwd=pillow.folder, check=True, capture_output=True, env=pillow.variables({}))
    outside = pillow.report()
    assert inside["verification"]["events"] == outside["verification"]["events"]
    assert inside["kept"].keys() == outside["kept"].keys()
    assert inside["layer"]["unzipped_bytes"] == pytest.approx(outside["layer"]["unzipped_bytes"], rel=0.05)


def test_text_names_the_users_paths(function: EngineDesk, with_alpha: str) -> None:
    done = function.minimize("--image", with_alpha, "--output", "my layer.zip")
    assert "Verified: 1 event" in done.out
    assert f"minimize publish '{function.folder}/my layer.zip' --name" in done.out
    assert "/layer_minimizer/out/" not in done.out + done.err
    assert names_in(function.folder / "my layer.zip") >= {"alpha/__init__.pyc"}


def test_all_outputs_and_no_more(function: EngineDesk, with_alpha: str) -> None:
    function.minimize("--image", with_alpha, "--save-trace", "trace.json", "--save-plan", "plan.json")
    assert {path.name for path in function.folder.iterdir()} == {"handler.py", "tmp", "trace.json", "plan.json"}
    done = function.minimize("--image", with_alpha, "--trace", "trace.json", "--explain", "alpha")
    assert "alpha/__init__.py" in done.out
    assert not function.layer.exists()
    function.minimize("--image", with_alpha)
    assert function.layer.exists()


def test_settings_of_two_layers_and_their_reports(function: EngineDesk, with_alpha: str) -> None:
    """The tool in the container gets the combined options, not the settings file, which names this machine's Python."""
    text = f'image = "{with_alpha}"\npython = ".venv/bin/python"\nrequirements = "more.txt"\n[layers.one]\n'
    (function.folder / "layer_minimizer.toml").write_text(f'{text}[layers.two]\nlayout = "flat"\n')
    (function.folder / "more.txt").write_text("")
    function.fails(2, ["--image", "--requirements"])
    text = text.replace('requirements = "more.txt"\n', "")
    (function.folder / "layer_minimizer.toml").write_text(f'{text}[layers.two]\nlayout = "flat"\n')
    done = function.minimize("--report", "reports")
    assert [line for line in done.out.splitlines() if line.startswith("Layer ")] == ["Layer one", "Layer two"]
    assert "/layer_minimizer/out/" not in done.out + done.err
    for name in ("one", "two"):
        folder = function.folder / "reports" / name
        assert {path.name for path in folder.iterdir()} == {"report.json", "report.html"}
        layer = json.loads((folder / "report.json").read_text())["layer"]
        assert layer["path"] == str(function.folder / f"{name}.zip")
        assert layer["zipped_bytes"] == Path(layer["path"]).stat().st_size
    given = ["--json", "--report", "again", "--report-json", "report.json", "--output", "again.zip", "--layer", "two"]
    told = json.loads(function.minimize(*given).out)
    assert told == function.report() == json.loads((function.folder / "again" / "two" / "report.json").read_text())
    function.fails(5, ["--report", "absent"], "--report", "absent/reports")


def test_the_layer_is_proved_in_another_container(function: EngineDesk, with_alpha: str, debian: str) -> None:
    given = ["--image", with_alpha, "--verify", "lambda", "--verify-image", debian, "--memory", "512"]
    done = function.minimize(*given, "--report-json", "report.json", "--function-zip", "function.zip")
    assert f"Verified in emulated Lambda ({debian}): 1 event" in done.out
    found = function.report()["lambda"]
    assert (found["where"], found["events"], found["memory"]) == (debian, 1, 512)


def test_what_fails_in_lambda_alone_brings_out_no_layer(function: EngineDesk, with_alpha: str, debian: str) -> None:
    beside = (
        "import os\n\nimport alpha\n\n\ndef handler(event, context):\n    path = os.path.dirname(__file__) + '/new'\n"
    )
    (function.folder / "handler.py").write_text(f"{beside}    open(path, 'w').close()\n    return alpha.VALUE\n")
    given = ["--image", with_alpha, "--verify", "lambda", "--verify-image", debian, "--report-json", "report.json"]
    function.fails(6, ["Read-only file system", "can write to /tmp only"], *given)
    assert not (function.folder / "report.json").exists()


def test_a_failed_run_brings_out_what_it_wrote(function: EngineDesk, with_alpha: str) -> None:
    given = ["--image", with_alpha, "--output", "layer.zip", "--save-trace", "trace.json", "--max-size", "1"]
    function.fails(5, ["--max-size is 1."], *given)
    assert json.loads((function.folder / "trace.json").read_text())


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("setpriv"), reason="to become another user takes root")
def test_outputs_belong_to_who_called(function: EngineDesk, with_alpha: str) -> None:
    """The user is not root, but may read the tests' Python, which otherwise only root may."""
    for path in (function.folder, function.folder / "handler.py"):
        os.chown(path, USER, USER)
    capabilities = "+dac_override,+dac_read_search"
    prefix = ["setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups"]
    prefix += [f"--inh-caps={capabilities}", f"--ambient-caps={capabilities}"]
    (function.folder / "tmp").mkdir()
    os.chown(function.folder / "tmp", USER, USER)
    function.minimize("--image", with_alpha, "--report-json", "report.json", prefix=prefix)
    for path in (function.layer, function.folder / "report.json"):
        assert (path.stat().st_uid, path.stat().st_gid) == (USER, USER)


def test_users_files_cannot_be_changed(desk: EngineDesk, with_alpha: str) -> None:
    """The handler runs in a copy; the originals have the same paths in the container, and are read-only."""
    (desk.folder / "model.bin").write_text("weights")
    (desk.folder / "handler.py").write_text(f"""\
import errno

import alpha


def handler(event, context):
    said = []
    for name in ("handler.py", "model.bin", "new.txt"):
        try:
            open("{desk.folder}/" + name, "a").close()
        except OSError as exc:
            said.append(errno.errorcode[exc.errno])
    if said != ["EROFS"] * 3:
        raise SystemError(said)
    return said
""")
    desk.minimize("--image", with_alpha, "--model", "model.bin")
    assert desk.layer.exists()


def test_files_from_everywhere(desk: EngineDesk, with_alpha: str, tmp_path: Path) -> None:
    """The entry, a model and an event are in three folders, with names that need quoting in a mount."""
    places = [tmp_path / name for name in ("with space", "comma,colon:", 'quote"é')]
    for place in places:
        place.mkdir()
    (places[0] / "handler.py").write_text(
        "import os\n\nimport alpha\n\n\ndef handler(event, context):\n"
        "    return [event, open(os.environ['MODEL_PATH']).read(), alpha.VALUE]\n"
    )
    (places[1] / "model.bin").write_text("weights")
    (places[2] / "event.json").write_text('{"x": 1}')
    given = [
        "--entry",
        places[0] / "handler.py",
        "--model",
        places[1] / "model.bin",
        "--event",
        places[2] / "event.json",
    ]
    desk.minimize("--image", with_alpha, "--output", "layer.zip", *given)
    assert desk.layer.exists()


def test_without_a_compiled_part_here(function: EngineDesk, debian: str, tmp_path: Path) -> None:
    """A tool that was installed without a compiler, as on another system, has its C parts compiled in the image."""
    shutil.copytree(
        Path(layer_minimizer.__file__).parent, tmp_path / "layer_minimizer", ignore=shutil.ignore_patterns("*.so")
    )
    (function.folder / "handler.py").write_text("def handler(event, context):\n    return 1\n")
    prefix = ["env", f"PYTHONPATH={tmp_path}"]
    done = function.minimize("--image", debian, "--explain", "pip", code=4, prefix=prefix)
    script = "import sys; sys.path.insert(0, '/layer_minimizer/tool'); from layer_minimizer.native import parts; "
    script += "import ctypes; print(repr(parts.unavailable_reason())); ctypes.CDLL(str(parts.runtime_library()))"
    asked = function.engine.output("run", "--rm", "--entrypoint", "python3", image_of(done), "-I", "-c", script)
    assert asked == "''"


# ---- images -------------------------------------------------------------------------------------------------------


def test_another_interpreter_of_the_image(
    function: EngineDesk, engine: Engine, with_alpha: str, tmp_path: Path
) -> None:
    change = "rm -f /usr/bin/python /usr/bin/python3 && mkdir /own && ln -s /usr/bin/python3.11 /own/python3"
    text = f"FROM {with_alpha}\nUSER root\nRUN {change}\n"
    image = engine.build("layer_minimizer_test/own", text, tmp_path)
    words = [image, "has no working Python (python3, python)", "with --python"]
    function.fails(7, words, "--image", image)
    function.minimize("--image", image, "--python", "/own/python3")
    assert function.layer.exists()


def test_old_python_with_the_tool_on_another(desk: EngineDesk, old_and_new: str) -> None:
    (desk.folder / "requirements.txt").write_text("-r more.txt\n")
    (desk.folder / "more.txt").write_text("six==1.17.0\n")
    (desk.folder / "handler.py").write_text(
        "import sys\n\nimport six\n\n\ndef handler(event, context):\n"
        "    return [sys.version_info[:2], six.text_type('é')]\n"
    )
    given = ["--base-image", old_and_new, "--tool-image", old_and_new, "--requirements", "requirements.txt"]
    desk.minimize(*given, "--output", "layer.zip", "--report-json", "report.json")
    assert desk.report()["verified"] is True
    with zipfile.ZipFile(desk.layer) as archive:
        assert all(name.startswith("python/lib/python3.6/") for name in archive.namelist())


BACKEND = """\
import zipfile


def build_wheel(folder, config_settings=None, metadata_directory=None):
    name = "own-1.0-py3-none-any.whl"
    with zipfile.ZipFile(f"{folder}/{name}", "w") as wheel:
        wheel.write("src/own.py", "own.py")
        wheel.writestr("own-1.0.dist-info/METADATA", "Metadata-Version: 2.1\\nName: own\\nVersion: 1.0\\n")
        wheel.writestr("own-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\\nTag: py3-none-any\\n")
        wheel.writestr("own-1.0.dist-info/RECORD", "")
    return name
"""


def test_a_lock_and_the_project_that_it_belongs_to(
    desk: EngineDesk, debian: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uv = need_uv()
    with served(tmp_path / "index") as index:
        digest = index.wheel("alpha", "1.0", ALPHA)
        write_files(
            desk.folder,
            {
                "pyproject.toml": (
                    '[project]\nname = "own"\nversion = "1.0"\nrequires-python = ">=3.11"\ndependencies = ["alpha"]\n'
                    '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
                ),
                "backend.py": BACKEND,
                "src/own.py": "VALUE = 1\n",
                "handler.py": f"import own\n{HANDLER}",
            },
        )
        monkeypatch.setenv("UV_DEFAULT_INDEX", index.url)
        monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "uv"))
        subprocess.run([uv, "lock", "-q", "--python", sys.executable], cwd=desk.folder, check=True)
        variables = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": f"{tmp_path}/index/alpha"}
        given = ["--base-image", debian, "--lock", "uv.lock"]
        desk.minimize(*given, variables=variables)
        assert {"alpha/__init__.pyc", "own.pyc"} <= names_in(desk.layer)
        desk.layer.unlink()
        lock = desk.folder / "uv.lock"
        lock.write_text(lock.read_text().replace(digest.partition(":")[2], "0" * 64))
        desk.fails(
            7, ["uv.lock cannot be built", "THESE PACKAGES DO NOT MATCH THE HASHES"], *given, variables=variables
        )


def test_what_pip_is_told_is_not_in_the_image(desk: EngineDesk, engine: Engine, debian: str) -> None:
    wheels = desk.folder / "wheels"
    wheels.mkdir()
    (desk.folder / "requirements.txt").write_text("alpha\n")
    (desk.folder / "handler.py").write_text(HANDLER)
    metadata = "Metadata-Version: 2.1\nName: alpha\nVersion: 1.0\n"
    with zipfile.ZipFile(wheels / "alpha-1.0-py3-none-any.whl", "w") as wheel:
        for name, content in {
            **ALPHA,
            "alpha-1.0.dist-info/METADATA": metadata,
            "alpha-1.0.dist-info/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
            "alpha-1.0.dist-info/RECORD": "",
        }.items():
            wheel.writestr(name, content)
    secret = "correct-horse"
    variables = {
        "PIP_FIND_LINKS": "wheels/",
        "PIP_INDEX_URL": f"http://user:{secret}@127.0.0.1:9/simple",
        "PIP_RETRIES": "0",
        "NO_PROXY": f"{secret}.example",
    }
    done = desk.minimize("--base-image", debian, "--requirements", "requirements.txt", variables=variables)
    assert "alpha/__init__.pyc" in names_in(desk.layer)
    assert secret not in engine.output("history", "--no-trunc", image_of(done))
    assert secret not in engine.output("image", "inspect", image_of(done))
    assert "wheels" not in engine.output("run", "--rm", "--entrypoint", "ls", image_of(done), "/", "/layer_minimizer")
    # Where packages come from is not what they are.
    again = desk.minimize(
        "--base-image", debian, "--requirements", "requirements.txt", variables={"PIP_INDEX_URL": "http://x.example"}
    )
    assert "building the image" not in again.err
    (desk.folder / "requirements.txt").write_text("alpha==1.0\n")
    third = desk.minimize("--base-image", debian, "--requirements", "requirements.txt", variables=variables)
    assert image_of(third) != image_of(done)


# ---- what goes wrong ----------------------------------------------------------------------------------------------


def test_no_daemon(function: EngineDesk) -> None:
    words = ["docker does not answer", "daemon running?", "/nowhere/docker.sock"]
    variables = {"DOCKER_HOST": "unix:///nowhere/docker.sock"}
    function.fails(7, words, "--image", "x", variables=variables)


def test_no_engine(function: EngineDesk, tmp_path: Path) -> None:
    function.fails(7, ["docker is not installed here"], "--image", "x", variables={"PATH": str(tmp_path)})


def test_no_such_image(function: EngineDesk) -> None:
    words = ["the image localhost:1/none does not exist here and cannot be pulled", "localhost:1"]
    function.fails(7, words, "--image", "localhost:1/none")


def test_input_that_is_missing(function: EngineDesk) -> None:
    """With the same messages as without a container, and before anything is built."""
    variables = {"DOCKER_HOST": "unix:///nowhere/docker.sock"}
    function.fails(2, ["no such entry file"], "--image", "x", "--entry", "absent.py", variables=variables)
    function.fails(2, ["absent.json: cannot read"], "--image", "x", "--event", "absent.json", variables=variables)
    function.fails(5, ["cannot write"], "--image", "x", "--output", "absent/layer.zip", variables=variables)


def test_input_that_only_the_tool_inside_misses(function: EngineDesk, with_alpha: str) -> None:
    function.fails(2, ["--trace absent.json: No such file"], "--image", with_alpha, "--trace", "absent.json")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "needs --runtime"),
        (("--image", "x", "--requirements", "y"), "--image already has packages"),
        (("--runner", "local", "--image", "x"), "--image requires --runner docker or --runner podman"),
        (("--base-image", "x", "--requirements", "absent.txt"), "absent.txt: no such file"),
    ],
)
def test_arguments_that_do_not_go_together(function: EngineDesk, arguments: tuple[str, ...], words: str) -> None:
    function.fails(2, [words], *arguments)


def test_build_that_fails(function: EngineDesk, debian: str) -> None:
    (function.folder / "requirements.txt").write_text("no-such-thing-as-this==1.0\n")
    words = ["requirements.txt cannot be built", "No matching distribution found for no-such-thing-as-this"]
    variables = {"PIP_NO_INDEX": "1"}
    function.fails(7, words, "--base-image", debian, "--requirements", "requirements.txt", variables=variables)
    assert function.engine.containers("no-such-thing") == []


def test_exit_code_and_words_of_the_tool(function: EngineDesk, with_alpha: str) -> None:
    (function.folder / "handler.py").write_text("import alpha\n\n\ndef handler(event, context):\n    return 1 / 0\n")
    function.fails(3, [f'File "{function.folder}', "ZeroDivisionError"], "--image", with_alpha)


# ---- stopped ------------------------------------------------------------------------------------------------------


@pytest.fixture
def sleeper(function: EngineDesk) -> EngineDesk:
    (function.folder / "handler.py").write_text(
        "import time\n\nimport alpha\n\n\ndef handler(event, context):\n"
        "    print('asleep', flush=True)\n    time.sleep(600)\n"
    )
    return function


def start(desk: EngineDesk, *args: str) -> Iterator[str]:
    """Start the command; yield its output line by line, then its exit code. Sent values are signals."""
    command = [str(MINIMIZE), *desk.arguments(*args)]
    process = subprocess.Popen(
        command, cwd=desk.folder, env=desk.variables({}), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stderr is not None
    watchdog = threading.Timer(120, process.kill)
    watchdog.start()
    try:
        for line in process.stderr:
            if " the image layer_minimizer/image:" in line:
                desk.engine.images.add(line.split("the image ")[1].split()[0])
            number = yield line
            if number:
                process.send_signal(number)
        yield f"ended with {process.wait()}"
    finally:
        watchdog.cancel()
        process.kill()
        process.wait()
        process.stderr.close()


def interrupt(running: Iterator[str], number: int, words: str) -> list[str]:
    """Send a signal when the output contains ``words``; return the output after that."""
    for line in running:
        if words in line:
            return [running.send(number), *running]  # type: ignore[attr-defined]
    raise AssertionError(f"{words!r} was never said")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["int", "term"])
def test_interrupted_run(sleeper: EngineDesk, with_alpha: str, number: int) -> None:
    said = interrupt(start(sleeper, "--image", with_alpha), number, "asleep")
    assert said[-2:] == ["minimize: interrupted; nothing was written\n", "ended with 130"]
    assert sleeper.engine.containers(str(sleeper.folder)) == []
    assert sleeper.engine.containers("layer_minimizer-") == []
    assert sorted(path.name for path in sleeper.folder.iterdir()) == ["handler.py", "tmp"]
    assert list((sleeper.folder / "tmp").iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["int", "term"])
def test_interrupted_build(function: EngineDesk, debian: str, number: int) -> None:
    """During pip's call of the package's build backend, which takes long."""
    name = f"sleeper{number}"
    (function.folder / "wheels").mkdir()
    source = function.folder / f"{name}-1.0"
    source.mkdir()
    (source / "pyproject.toml").write_text(
        '[build-system]\nrequires = []\nbuild-backend = "own"\nbackend-path = ["."]\n'
    )
    (source / "own.py").write_text("import time\n\ntime.sleep(600)\n")
    (source / "PKG-INFO").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    shutil.make_archive(str(function.folder / f"wheels/{name}-1.0"), "gztar", function.folder, source.name)
    (function.folder / f"{name}.txt").write_text(f"{name}\n")
    os.environ["PIP_FIND_LINKS"], before = "wheels/", os.environ.get("PIP_FIND_LINKS")
    try:
        running = start(function, "--base-image", debian, "--requirements", f"{name}.txt")
        said = interrupt(running, number, f"Processing /layer_minimizer_build/pip/PIP_FIND_LINKS/0/wheels/{name}")
    finally:
        os.environ.pop("PIP_FIND_LINKS")
        if before is not None:
            os.environ["PIP_FIND_LINKS"] = before
    assert said[-2:] == ["minimize: interrupted; nothing was written\n", "ended with 130"]
    wait_until_gone(function.engine, f"{name}.txt")
    assert list((function.folder / "tmp").iterdir()) == []


def wait_until_gone(engine: Engine, words: str) -> None:
    """The daemon removes a build's container after the command has ended; wait for it."""
    end = time.monotonic() + 15
    while engine.containers(words):
        assert time.monotonic() < end, engine.containers(words)
        time.sleep(0.2)


def test_killed_by_somebody_else(sleeper: EngineDesk, with_alpha: str) -> None:
    running = start(sleeper, "--image", with_alpha)
    for line in running:
        if "asleep" in line:
            [container] = running_in(sleeper.engine, sleeper)
            sleeper.engine.output("kill", container)
    assert line == "ended with 7"
    assert running_in(sleeper.engine, sleeper) == []


def running_in(engine: Engine, desk: EngineDesk) -> list[str]:
    """Return the containers that have the desk's folder mounted."""
    shown = engine.output("ps", "--all", "--no-trunc", "--format", "{{.ID}} {{.Mounts}}")
    return [line.split()[0] for line in shown.splitlines() if str(desk.folder) in line]


def test_out_of_memory(function: EngineDesk, with_alpha: str) -> None:
    (function.folder / "handler.py").write_text(
        "import time\n\nimport alpha\n\n\ndef handler(event, context):\n    print('hungry', flush=True)\n"
        "    time.sleep(3)\n    return len(bytearray(400_000_000))\n"
    )
    running, said = start(function, "--image", with_alpha, "--observe", "probe"), []
    for line in running:
        said.append(line)
        if "hungry" in line:
            [container] = running_in(function.engine, function)
            limited = function.engine.run("update", "--memory=120m", "--memory-swap=120m", container)
            if limited.returncode != 0:
                pytest.skip(f"memory cannot be limited here: {limited.stderr}")
    assert "exceeded its memory limit" in "".join(said)
    assert line in {"ended with 3", "ended with 7"}
