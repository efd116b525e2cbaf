"""`--verify lambda`: what works in Lambda passes, and what does not fails with a message that names the cause."""

from __future__ import annotations

import http.server
import importlib.metadata
import os
import shutil
import signal
import subprocess
import threading
import time
import zipfile
from typing import TYPE_CHECKING

import pytest

from layer_minimizer import pipeline
from layer_minimizer.aws import programs
from layer_minimizer.core.cache import cache_folder
from layer_minimizer.core.errors import UsageError, VerifyError
from layer_minimizer.layer import archive
from layer_minimizer.model.workload import Event, Workload
from layer_minimizer.settings import Settings, choose
from layer_minimizer.verify import emulated
from tests.support.desk import placed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.support.sites import Environment

    from .conftest import LambdaDesk

# Something for the layer to hold.
ALPHA = {"alpha/__init__.py": "from alpha.core import VALUE\n", "alpha/core.py": "VALUE = 41\n"}
PLAIN = "import alpha\n\n\ndef handler(event, context):\n    return {'value': alpha.VALUE, 'event': event}\n"


def handler(body: str, top: str = "") -> dict[str, str]:
    lines = "\n".join(f"    {line}" for line in body.splitlines())
    return {"handler.py": f"import os\nimport alpha\n{top}\n\ndef handler(event, context):\n{lines}\n"}


@pytest.fixture(params=["namespaces", "engine"])
def place(request: pytest.FixtureRequest) -> LambdaDesk:
    """Both places, one after the other."""
    desk: LambdaDesk = request.getfixturevalue("desk" if request.param == "namespaces" else "engine_desk")
    return desk


# ---- what works ---------------------------------------------------------------------------------------------------


def test_the_report_tells_of_limits(place: LambdaDesk, alpha: Environment) -> None:
    done = place.prove(alpha, {"handler.py": PLAIN}, *place.events({"a": 1}, "ä€"), "--memory", "256")
    assert done.code == 0, done.said
    found = done.report["lambda"]
    assert (found["events"], found["skipped"]) == (2, [])
    assert 0 < found["init_seconds"] < 10
    assert 4 << 20 < found["peak_bytes"] < 100 << 20
    assert (found["memory"], found["tmp_size"]) == (256, 512)
    assert found["where"] == (place.options[3] if place.options else "namespaces")


def test_without_the_option_nothing_is_emulated(desk: LambdaDesk, alpha: Environment) -> None:
    done = desk.prove(alpha, {"handler.py": PLAIN}, "--verify", "local", "--emulator", "/nowhere")
    assert done.code == 0, done.said
    assert done.report["lambda"] is None


def test_every_python(desk: LambdaDesk, each_env: Environment) -> None:
    each_env.install("alpha", {"alpha/__init__.py": "VALUE = 41\n"})
    done = desk.prove(each_env, {"handler.py": PLAIN}, *desk.events({}, {"x": 1.5}))
    assert done.code == 0, done.said
    assert done.report["lambda"]["events"] == 2


def test_lazy_imports_are_those_of_the_run(
    desk: LambdaDesk, make_environment: Callable[..., Environment], python_of: Callable[[str], str]
) -> None:
    """The results must equal those of the traced run."""
    env = make_environment(python_of("3.15")).install("alpha", {"alpha/__init__.py": "VALUE = 41\n"})
    source = "import sys, alpha\n\n\ndef handler(event, context):\n    return [alpha.VALUE, sys.get_lazy_imports()]\n"
    desk.environment["PYTHON_LAZY_IMPORTS"] = "all"
    done = desk.prove(env, {"handler.py": source})
    assert done.code == 0, done.said
    assert (done.report["lazy_imports"], done.report["lambda"]["events"]) == ("all", 1)


@pytest.mark.parametrize("layout", ["site", "flat"])
def test_layouts(place: LambdaDesk, alpha: Environment, layout: str) -> None:
    done = place.prove(alpha, {"handler.py": PLAIN}, "--layout", layout)
    assert done.code == 0, done.said


def test_pth_files_of_a_layer_run(desk: LambdaDesk, env: Environment) -> None:
    env.install("alpha", {"alpha/__init__.py": "VALUE = 1\n", "alpha.pth": "import sys; sys.alpha_pth = 7\n"})
    done = desk.prove(env, handler("return sys.alpha_pth", "import sys"))
    assert done.code == 0, done.said


def test_a_script(place: LambdaDesk, alpha: Environment) -> None:
    script = (
        "import sys, os, logging\nimport alpha\nlogging.warning('to standard error')\n"
        "print(alpha.VALUE, 'ä', __name__, len(sys.argv))\nos.write(1, b'raw\\n')\n"
    )
    done = place.prove(alpha, {"predict.py": script})
    assert done.code == 0, done.said
    assert done.report["lambda"]["events"] == 1


def test_a_model_lies_beside_the_handler(place: LambdaDesk, alpha: Environment) -> None:
    model = place.folder / "model.bin"
    model.write_bytes(b"x" * 1000)
    model.chmod(0o644)
    done = place.prove(alpha, handler("return os.path.getsize(os.environ['MODEL_PATH'])"), "--model", str(model))
    assert done.code == 0, done.said


def test_nan_and_numbers(place: LambdaDesk, alpha: Environment) -> None:
    done = place.prove(alpha, handler("return [float('nan'), float('inf'), 1e300, 2**70, {'errorType': 'mine'}]"))
    assert done.code == 0, done.said


def test_a_result_that_looks_like_an_error_is_a_result(desk: LambdaDesk, alpha: Environment) -> None:
    done = desk.prove(alpha, handler("return {'errorType': 'mine', 'errorMessage': 'expected'}"))
    assert done.code == 0, done.said


def test_what_another_layer_brings(place: LambdaDesk, alpha: Environment) -> None:
    alpha.install("beta", {"beta/__init__.py": "NAME = __file__\n", "beta/data.txt": "the data"})
    body = "return [alpha.VALUE, open(os.path.join(os.path.dirname(beta.__file__), 'data.txt')).read()]"
    done = place.prove(alpha, handler(body, "import beta"), "--provided", "beta")
    assert done.code == 0, done.said
    with zipfile.ZipFile(place.folder / "layer.zip") as layer:
        assert not any("beta" in name for name in placed(layer))


PLACE = """\
if "AWS_EXECUTION_ENV" not in os.environ:
    return True
import resource, socket, sys

site = "/opt/python/lib/python%d.%d/site-packages" % sys.version_info[:2]
assert sys.path[:3] == ["/var/task", site, "/opt/python"], sys.path
assert os.getcwd() == os.environ["LAMBDA_TASK_ROOT"] == "/var/task", os.getcwd()
assert (os.getuid(), os.getgid()) == (993, 990), os.getuid()
assert os.path.expanduser("~") == "/home/sbx_user1051" and "HOME" not in os.environ, os.environ
assert not os.path.exists("/home/sbx_user1051")
assert "TMPDIR" not in os.environ and "SECRET_OF_MINE" not in os.environ
assert resource.getrlimit(resource.RLIMIT_NOFILE) == (1024, 1024)
assert [name for _, name in socket.if_nameindex() if name != "lo"] == [] or os.environ.get("container")
assert not os.path.exists("/dev/shm")
assert os.environ["LD_LIBRARY_PATH"].endswith(":/var/task:/var/task/lib:/opt/lib")
assert os.environ["_HANDLER"] == "handler.handler"
assert os.environ["AWS_LAMBDA_FUNCTION_MEMORY_SIZE"] == context.memory_limit_in_mb == "640"
assert os.environ["AWS_REGION"] and os.environ["AWS_LAMBDA_RUNTIME_API"]
assert alpha.__file__.startswith(site), alpha.__file__
assert not os.path.exists(HERE), HERE
room = os.statvfs("/tmp")
assert room.f_blocks * room.f_frsize == 600 << 20, room
with open("/tmp/new", "w") as new:
    new.write("x")
folders = ["/", "/opt", "/opt/python", "/var/task", "/var", "/usr/lib", "/etc", "/dev", "/var/rapid"]
for path in (*folders, "/proc/sys/kernel/hostname"):
    try:
        open(path + "/new" if os.path.isdir(path) else path, "w").close()
    except OSError:
        pass
    else:
        raise AssertionError("writable: " + path)
server = socket.socket()
server.bind(("127.0.0.1", 0))
server.listen(1)
socket.create_connection(server.getsockname(), 5).close()
return True
"""


def test_the_place_is_lambdas(place: LambdaDesk, alpha: Environment) -> None:
    place.environment["SECRET_OF_MINE"] = "visible"
    body = PLACE.replace("HERE", repr(str(place.folder)))
    done = place.prove(alpha, handler(body), "--memory", "640", "--tmp-size", "600")
    assert done.code == 0, done.said
    assert done.report["lambda"]["tmp_bytes"] > 0


def test_packages_of_the_base_interpreter_are_out_of_sight(desk: LambdaDesk, alpha: Environment) -> None:
    folders = (*alpha.describe().hidden_dirs, *alpha.describe().site_dirs)
    assert folders
    body = f"shown = [f for f in {folders!r} if os.path.isdir(f) and os.listdir(f)]\n"
    body += "assert 'AWS_EXECUTION_ENV' not in os.environ or not shown, shown\nreturn 1"
    done = desk.prove(alpha, handler(body))
    assert done.code == 0, done.said


@pytest.fixture
def ordinary(tmp_path: Path) -> tuple[str, ...]:
    """Return the start of a command that runs the tool, and a Python, as a user without any right."""
    if os.geteuid() != 0:
        pytest.skip("this is an ordinary user already: all tests say what this one would")
    drop = ("setpriv", "--reuid=54321", "--regid=54321", "--clear-groups")
    python = "/usr/bin/python3"
    allowed = [*drop, "unshare", "--user", "--map-current-user", "--mount", python, "-c"]
    asked = subprocess.run([*allowed, "import sys; sys.exit(sys.version_info < (3, 11))"], check=False)
    if asked.returncode != 0:
        pytest.skip("user namespaces are not allowed, or there is no Python 3.11 that every user may run")
    site = tmp_path / "tool"
    for name in (
        "layer_minimizer",
        "modulegraph",
        "altgraph",
        "packaging",
        "pyelftools",
        "rich",
        "tomlkit",
        "pygments",
        "markdown-it-py",
        "mdurl",
        "shtab",
    ):
        for file in importlib.metadata.files(name) or []:
            if ".." not in file.parts and "__pycache__" not in file.parts:
                (site / file).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(str(file.locate()), site / file)
    return (*drop, "env", f"PYTHONPATH={site}", python, "-m", "layer_minimizer")


def test_an_ordinary_user(
    desk: LambdaDesk, make_environment: Callable[..., Environment], ordinary: tuple[str, ...]
) -> None:
    env = make_environment("/usr/bin/python3")
    env.install("alpha", ALPHA)
    interpreter = env.describe()
    # What is fetched must not come from a network once more.
    programs.find_emulator("", interpreter.machine)
    programs.find_client(interpreter.version, interpreter.machine)
    cache = desk.folder / "cache"
    shutil.copytree(cache_folder("emulator"), cache / "emulator")
    desk.tool = ordinary
    desk.environment |= {"HOME": "/nowhere", "LAYER_MINIMIZER_CACHE": str(cache), "XDG_CACHE_HOME": str(cache)}
    body = PLACE.replace("HERE", repr(str(desk.folder)))
    done = desk.prove(env, handler(body), "--memory", "640", "--tmp-size", "600")
    assert done.code == 0, done.said
    assert done.report["lambda"]["where"] == "namespaces"
    done = desk.prove(env, handler("open('/var/task/new', 'w')\nreturn 1".replace("/var/task", "' + os.getcwd() + '")))
    assert done.code == 6, done.said
    assert "can write to /tmp only" in done.said


# ---- what does not ------------------------------------------------------------------------------------------------


def test_a_handler_that_writes_beside_itself(place: LambdaDesk, alpha: Environment) -> None:
    body = "with open(os.path.join(os.path.dirname(__file__), 'cache.txt'), 'w') as out:\n    out.write('x')\nreturn 1"
    done = place.prove(alpha, handler(body))
    assert done.code == 6, done.said
    assert "Read-only file system" in done.said
    assert "can write to /tmp only" in done.said
    assert not (place.folder / "layer.zip").exists()


def test_too_little_memory(place: LambdaDesk, alpha: Environment) -> None:
    files = handler("data = b'x' * (300 << 20)\nreturn len(data)")
    done = place.prove(alpha, files, "--memory", "256")
    assert done.code == 6, done.said
    assert "it needs more than 256 MB (peak" in done.said
    done = place.prove(alpha, files, "--memory", "512")
    assert done.code == 0, done.said
    assert 300 << 20 < done.report["lambda"]["peak_bytes"] < 400 << 20


def test_memory_of_children_counts(desk: LambdaDesk, alpha: Environment) -> None:
    child = "import time; data = bytearray(b'x') * (150 << 20); time.sleep(0.5)"
    body = f"import subprocess, sys\nchildren = [subprocess.Popen([sys.executable, '-c', {child!r}]) for _ in '12']\n"
    body += "return [child.wait() for child in children]"
    done = desk.prove(alpha, handler(body), "--memory", "256")
    assert done.code == 6, done.said
    assert "it needs more than 256 MB (peak" in done.said


class _Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"hello")

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[int]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Answer) as serving:
        thread = threading.Thread(target=serving.serve_forever, daemon=True)
        thread.start()
        yield serving.server_address[1]
        serving.shutdown()
        thread.join()


def test_a_handler_that_needs_the_network(place: LambdaDesk, alpha: Environment, server: int) -> None:
    body = f"import urllib.request\nreturn urllib.request.urlopen('http://127.0.0.1:{server}/').read().decode()"
    done = place.prove(alpha, handler(body))
    assert done.code == 6, done.said
    assert "has no network" in done.said


def test_an_exception(place: LambdaDesk, alpha: Environment) -> None:
    body = "if 'AWS_EXECUTION_ENV' in os.environ:\n    raise ValueError('not in Lambda')\nreturn 1"
    done = place.prove(alpha, handler(body))
    assert done.code == 6, done.said
    assert "ValueError: not in Lambda" in done.said
    assert "/var/task/handler.py" in done.said


def test_an_exception_while_it_is_imported(desk: LambdaDesk, alpha: Environment) -> None:
    top = "if 'AWS_EXECUTION_ENV' in os.environ:\n    raise ValueError('not at import')\n"
    done = desk.prove(alpha, handler("return 1", top))
    assert done.code == 6, done.said
    assert "not at import" in done.said


def test_another_result(desk: LambdaDesk, alpha: Environment) -> None:
    done = desk.prove(alpha, handler("return os.environ.get('AWS_EXECUTION_ENV', 'none')"))
    assert done.code == 6, done.said
    assert "the results differ" in done.said
    assert "AWS_Lambda_python3" in done.said


def test_a_timeout(desk: LambdaDesk, alpha: Environment) -> None:
    body = "import time\nif 'AWS_EXECUTION_ENV' in os.environ:\n    time.sleep(60)\nreturn 1"
    begun = time.monotonic()
    done = desk.prove(alpha, handler(body), "--timeout", "4")
    assert done.code == 6, done.said
    assert "Task timed out after 4.00 seconds" in done.said
    assert time.monotonic() - begun < 50


def test_a_process_that_ends(desk: LambdaDesk, alpha: Environment) -> None:
    body = "if 'AWS_EXECUTION_ENV' in os.environ:\n    os.write(2, b'good bye')\n    os._exit(3)\nreturn 1"
    done = desk.prove(alpha, handler(body))
    assert done.code == 6, done.said
    assert "exit status 3" in done.said
    assert "good bye" in done.said


def test_a_script_that_fails(desk: LambdaDesk, alpha: Environment) -> None:
    script = "import os, sys\nimport alpha\nprint(1)\nsys.exit(4 if 'AWS_EXECUTION_ENV' in os.environ else 0)\n"
    done = desk.prove(alpha, {"predict.py": script})
    assert done.code == 6, done.said
    assert "the script ended with exit code 4" in done.said


def test_no_shared_memory(desk: LambdaDesk, alpha: Environment) -> None:
    done = desk.prove(alpha, handler("import multiprocessing\nmultiprocessing.Lock()\nreturn 1"))
    assert done.code == 6, done.said
    assert "Lambda has no /dev/shm" in done.said


def test_a_full_tmp(desk: LambdaDesk, alpha: Environment) -> None:
    body = "import tempfile\nwith tempfile.TemporaryFile() as out:\n    out.write(b'x' * (530 << 20))\nreturn 1"
    done = desk.prove(alpha, handler(body))
    assert done.code == 6, done.said
    assert "set --tmp-size" in done.said


def test_a_file_that_was_taken_out_of_the_zip(
    desk: LambdaDesk, alpha: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = archive.unzip

    def damage(layer: Path, folder: Path) -> None:
        real(layer, folder)
        if folder.parent.name == "lambda":
            for path in folder.rglob("core.*"):
                path.unlink()

    monkeypatch.setattr(archive, "unzip", damage)
    entry = desk.folder / "handler.py"
    entry.write_text(PLAIN)
    with pytest.raises(VerifyError, match=r"alpha/core\.pyc is missing: the layer in /opt/python") as failed:
        pipeline.minimize(
            entry=entry,
            output=desk.folder / "layer.zip",
            python=alpha.python,
            verify="lambda",
            observe="probe",
            effort=0.0,
            cold="drop",  # else it would come back from the cold store
        )
    assert "is not what was proved" in str(failed.value)
    assert not (desk.folder / "layer.zip").exists()


def test_events_that_set_the_context_are_left_out(desk: LambdaDesk, alpha: Environment) -> None:
    file = desk.folder / "tests.json"
    file.write_text('{"tests": [{"name": "own", "event": 1, "context": {"function_name": "x"}}, {"event": 2}]}')
    done = desk.prove(
        alpha,
        handler("return event"),
        "--event",
        str(file),
    )
    assert done.code == 0, done.said
    assert done.report["lambda"]["skipped"] == ["own"]
    assert any("not verified in emulated Lambda" in warning for warning in done.report["warnings"])
    file.write_text('{"tests": [{"name": "own", "event": 1, "context": {"function_name": "x"}}]}')
    done = desk.prove(alpha, {"handler.py": PLAIN}, "--event", str(file))
    assert done.code == 2, done.said
    assert "add one without" in done.said


def test_no_image_and_no_program(engine_desk: LambdaDesk, alpha: Environment) -> None:
    done = engine_desk.prove(alpha, {"handler.py": PLAIN}, "--verify-image", "localhost:1/none:none")
    assert done.code == 7, done.said
    assert "use another one with --verify-image" in done.said
    done = engine_desk.prove(alpha, {"handler.py": PLAIN}, "--emulator", "/nowhere")
    assert done.code == 2, done.said


def test_wrong_values() -> None:
    with pytest.raises(UsageError, match="memory=64: it must be a whole number of MB from 128 to 10,240, Lambda"):
        choose(Settings(), {"memory": 64})
    with pytest.raises(UsageError, match="tmp_size=100: it must be a whole number of MB from 512 to 10,240"):
        choose(Settings(tmp_size=100), {})
    with pytest.raises(UsageError, match="requires a container engine"):
        emulated.check_emulation(emulated.Emulation(256, 512, image="some/image"))
    with pytest.raises(UsageError, match="verify='cloud'"):
        choose(Settings(), {"verify": "cloud"})


def test_events_without_tests(tmp_path: Path) -> None:
    entry = tmp_path / "entry.py"
    assert emulated._events(Workload(entry, events=(Event("a", 1),))) == ((Event("a", 1),), ())


# ---- a library that is too new ------------------------------------------------------------------------------------


def test_a_library_for_a_newer_c_library(
    desk: LambdaDesk,
    docker: dict[str, str],
    make_image: Callable[[str, str], str],
    make_environment: Callable[..., Environment],
    python_of: Callable[[str], str],
    tmp_path: Path,
) -> None:
    old = make_environment(python_of("3.9"))
    source = tmp_path / "new.c"
    # pthread_create moved into libc with glibc 2.34.
    source.write_text("#include <pthread.h>\nstatic void *f(void *p) { return p; }\nint answer(void) {\n"
                      "pthread_t t; pthread_create(&t, 0, f, 0); pthread_join(t, 0); return 42; }\n")  # fmt: skip
    library = tmp_path / "libnew.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-o", library, source], check=True)
    if b"GLIBC_2.34" not in library.read_bytes():
        pytest.skip("the C library of this machine is older than 2.34")
    old.install("alpha", {"alpha/__init__.py": "", "alpha/libnew.so": library.read_bytes()})
    body = "import ctypes\nreturn ctypes.CDLL(os.path.join(os.path.dirname(alpha.__file__), 'libnew.so')).answer()"
    desk.environment |= docker
    done = desk.prove(old, handler(body))
    assert done.code == 0, done.said
    image = make_image("bullseye", "3.9")
    done = desk.prove(old, handler(body), "--engine", "docker", "--verify-image", image)
    assert done.code == 6, done.said
    assert "GLIBC_2.34' not found" in done.said
    assert f"The C library of {image} is older" in done.said
    done = desk.prove(
        old, {"handler.py": PLAIN.replace("alpha.VALUE", "1")}, "--engine", "docker", "--verify-image", image
    )
    assert done.code == 0, done.said


# ---- nothing stays ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_nothing_stays_after_an_interruption(place: LambdaDesk, alpha: Environment, number: signal.Signals) -> None:
    mark = f"{place.folder}/marked"
    body = f"import time\nif 'AWS_EXECUTION_ENV' in os.environ:\n    time.sleep(300)\nreturn {mark!r} and 1"
    process = place.start(alpha, handler(body))
    assert process.stderr
    for line in process.stderr:
        if "emulated Lambda" in line:
            break
    time.sleep(3)
    assert process.poll() is None
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert "nothing was written" in said
    assert not (place.folder / "layer.zip").exists()
    place.assert_clean()


def test_a_long_init_phase_is_a_warning() -> None:
    assert list(emulated._warnings(9.9, ())) == []
    (said,) = emulated._warnings(10.4, ())
    assert "the init phase took 10.4 s" in said
    assert "repeats it with the first event" in said
