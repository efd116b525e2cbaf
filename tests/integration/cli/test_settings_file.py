"""Settings files, several layers, `minimize init` and reports in folders, by real runs of the command."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import tomllib
import zipfile
from typing import TYPE_CHECKING

import pytest

from tests.support.desk import placed
from tests.support.sites import stocked_env

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.support.command import Ended
    from tests.support.desk import Desk
    from tests.support.sites import Environment

    Run = Callable[..., Ended]

env = stocked_env
USAGE, TRACE, PACK = 2, 3, 5
FAST = 'effort = 0\nbytecode = "source"\ncold = "drop"\nruns = 1\n'
BETA = "import beta\n\n\ndef handler(event, context):\n    return beta.NAME\n"


@pytest.fixture
def run(desk: Desk, tool: tuple[str, ...]) -> Run:
    """Run the command in the folder with the user's files, or a subfolder; no unfinished files may remain."""

    def run(
        *args: object, code: int = 0, below: str = ".", prefix: tuple[str, ...] = ()
    ) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [*prefix, *tool, *map(str, args)],
            cwd=desk.work / below,
            env=desk.variables(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == code, done.stderr
        assert os.listdir(desk.tmp) == []
        assert [str(path) for path in desk.folder.rglob("*.part")] == []
        return done

    return run


@pytest.fixture
def unprivileged() -> tuple[str, ...]:
    """Return the prefix of a command line that makes file permissions apply even to root."""
    if os.geteuid() != 0:
        return ()
    program = shutil.which("setpriv")
    if program is None:
        pytest.skip("root may read everything, and there is no setpriv to take that away")
    powers = "-dac_override,-dac_read_search"
    return (program, f"--bounding-set={powers}", f"--inh-caps={powers}")


def settings(env: Environment, more: str = "", *, table: str = "", entry: str = "handler.py") -> str:
    return f'{table}\nentry = "{entry}"\npython = "{env.python}"\n{FAST}{more}'


def kept(layer: Path) -> set[str]:
    with zipfile.ZipFile(layer) as archive:
        names = (name.partition("/site-packages/")[2] for name in placed(archive))
        return {name.partition("/")[0] for name in names} & {"alpha", "beta.py", "gamma"}


@pytest.fixture
def two(desk: Desk, env: Environment) -> str:
    """Settings of two layers; one is of another handler."""
    desk.write("handler.py", "import alpha\n\n\ndef handler(event, context):\n    return alpha.VALUE\n")
    desk.write("größer/web.py", BETA)
    return settings(env, '[layers.api]\n[layers."größer"]\nentry = "größer/web.py"\n')


# ---- one layer ------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("handler")
def test_settings_in_pyproject_from_a_folder_below(desk: Desk, env: Environment, run: Run) -> None:
    desk.write("event.json", '"the event"')
    desk.write("src/deep/nothing", "")
    more = 'event = ["event.json"]\ninclude = ["gamma/**"]\n'
    desk.write("pyproject.toml", '[project]\nname = "x"\n' + settings(env, more, table="[tool.layer_minimizer]"))
    ended = run(below="src/deep")
    assert f"publish {desk.work}/layer.zip" in ended.stdout
    assert kept(desk.work / "layer.zip") == {"alpha", "gamma"}
    assert "Verified: 1 event" in ended.stdout


@pytest.mark.usefixtures("handler")
def test_the_command_line_wins(desk: Desk, env: Environment, run: Run) -> None:
    desk.write("layer_minimizer.toml", settings(env, 'include = ["gamma/**"]\njson = true\noutput = "mine.zip"\n'))
    report = json.loads(run("--include", "beta.py").stdout)
    assert report["layer"]["path"] == str(desk.work / "mine.zip")
    assert kept(desk.work / "mine.zip") == {"alpha", "beta.py"}
    assert "Verified" in run("--no-json", "--output", desk.output).stdout
    assert kept(desk.output) == {"alpha", "gamma"}


@pytest.mark.usefixtures("handler")
def test_no_config_and_another_config(desk: Desk, env: Environment, run: Run) -> None:
    desk.write("layer_minimizer.toml", "entri = 1\n")
    desk.write("other/some settings.toml", settings(env, entry="../handler.py"))
    assert "--entry" in run("--no-config", code=USAGE).stderr
    run("--config", "other/some settings.toml")
    assert kept(desk.work / "other" / "layer.zip") == {"alpha"}


@pytest.mark.usefixtures("handler")
@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("max-sise = 1\n", ["layer_minimizer.toml", "max-sise", "did you mean 'max-size'"]),
        ("effort = [\n", ["layer_minimizer.toml", "not valid TOML", "line 2"]),
        ("layout = 'round'\n", ["layer_minimizer.toml", 'layout = "round"', "site, flat"]),
        ("entry = 'absent.py'\n", ["{work}/absent.py", "no such entry"]),
        ("[layers.a]\n[layers.b]\n", ["nothing to trace"]),
    ],
)
def test_mistakes(desk: Desk, run: Run, text: str, words: list[str]) -> None:
    desk.write("layer_minimizer.toml", text)
    ended = run(code=USAGE)
    assert ended.stdout == ""
    assert [word for word in words if word.format(work=desk.work) not in ended.stderr] == []


def test_settings_that_cannot_be_read(desk: Desk, run: Run) -> None:
    file = desk.write("layer_minimizer.toml", b"# caf\xe9\n")
    assert "line 1: not valid UTF-8" in run(code=USAGE).stderr
    file.unlink()
    file.mkdir()
    assert "is a folder" in run(code=USAGE).stderr
    file.rmdir()
    file.symlink_to("absent.toml")
    assert "cannot read the settings" in run(code=USAGE).stderr


def test_settings_without_permission(desk: Desk, run: Run, unprivileged: tuple[str, ...]) -> None:
    for name in ("layer_minimizer.toml", "pyproject.toml"):
        file = desk.write(name, "")
        file.chmod(0)
        said = run(code=USAGE, prefix=unprivileged).stderr
        assert f"{file}: cannot read the settings: Permission denied" in said
        file.unlink()


@pytest.mark.usefixtures("handler")
def test_a_report_without_permission(desk: Desk, env: Environment, run: Run, unprivileged: tuple[str, ...]) -> None:
    desk.write("layer_minimizer.toml", settings(env))
    (desk.work / "locked").mkdir(0o555)
    for name in ("locked", "locked/report"):
        said = run("--report", name, code=PACK, prefix=unprivileged).stderr
        assert f"--report: cannot write into {desk.work}/locked: Permission denied" in said


@pytest.mark.usefixtures("handler")
def test_questions_and_stages_use_the_settings(desk: Desk, env: Environment, run: Run) -> None:
    desk.write("layer_minimizer.toml", settings(env, 'output = "layer.zip"\n'))
    assert "alpha/core.py" in run("--explain", "alpha").stdout
    run("--save-plan", "plan.json")
    assert run("trace").stdout.startswith(str(desk.work / "trace.json"))
    assert {path.name for path in desk.work.iterdir()} == {
        "handler.py", "layer_minimizer.toml", "plan.json", "trace.json",
    }  # fmt: skip
    assert "alpha/core.py" in run("--plan", "plan.json", "--explain", "alpha").stdout


# ---- several layers -------------------------------------------------------------------------------------------------


def test_two_layers(desk: Desk, run: Run, two: str) -> None:
    desk.write("layer_minimizer.toml", two)
    ended = run("--report", "reports")
    assert kept(desk.work / "api.zip") == {"alpha"}
    assert kept(desk.work / "größer.zip") == {"beta.py"}
    first, second = ended.stdout.split("\nLayer größer\n")
    assert first.startswith("Layer api\n\n")
    assert f"{desk.work}/api.zip" in first
    assert "größer.zip" in second
    for name in ("api", "größer"):
        report = json.loads((desk.work / "reports" / name / "report.json").read_text())
        assert report["layer"]["path"] == str(desk.work / f"{name}.zip")


def test_two_layers_for_programs(desk: Desk, run: Run, two: str) -> None:
    desk.write("layer_minimizer.toml", two)
    told = json.loads(run("--json").stdout)
    assert [*told] == ["layers"]
    assert {name: report["verified"] for name, report in told["layers"].items()} == {"api": True, "größer": True}
    alone = json.loads(run("--json", "--layer", "größer").stdout)
    assert alone["layer"]["sha256"] == told["layers"]["größer"]["layer"]["sha256"]


def test_one_of_two_layers(desk: Desk, run: Run, two: str) -> None:
    desk.write("layer_minimizer.toml", two)
    run("--layer", "größer", "--function-zip", "function.zip")
    assert not (desk.work / "api.zip").exists()
    assert (desk.work / "größer.zip").exists()
    ended = run("--layer", "gröser", code=USAGE)
    assert "did you mean 'größer'" in ended.stderr


def test_the_first_layer_that_fails_is_the_last(desk: Desk, env: Environment, run: Run) -> None:
    desk.write("good.py", BETA)
    desk.write("bad.py", "def handler(event, context):\n    raise ValueError('no')\n")
    layers = '[layers.one]\nentry = "good.py"\n[layers.two]\nentry = "bad.py"\n[layers.three]\nentry = "good.py"\n'
    desk.write("layer_minimizer.toml", settings(env, layers))
    ended = run(code=TRACE)
    assert "minimize: layer two: " in ended.stderr
    assert f"written before that: {desk.work}/one.zip" in ended.stderr
    assert ended.stdout.startswith("Layer one\n")
    assert {path.name for path in desk.work.glob("*.zip")} == {"one.zip"}
    assert run("--json", code=TRACE).stdout == ""


def test_traces_of_two_layers(desk: Desk, run: Run, two: str) -> None:
    desk.write("layer_minimizer.toml", two)
    ended = run("trace", "-q")
    assert {path.name for path in desk.work.glob("*.json")} == {"api.trace.json", "größer.trace.json"}
    assert "Layer größer" in ended.stdout


# ---- reports in folders ---------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("handler")
def test_a_report_in_a_folder(desk: Desk, env: Environment, run: Run) -> None:
    desk.write("layer_minimizer.toml", settings(env, 'report = "report"\n'))
    for _ in range(2):  # a folder that is there is no obstacle
        report = json.loads(run("--json").stdout)
        assert json.loads((desk.work / "report" / "report.json").read_text()) == report


@pytest.mark.usefixtures("handler")
@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("file", ["file is not a folder", "--report"]),
        ("absent/report", ["--report", "does not exist", "absent"]),
        ("file/report", ["file is not a folder"]),
        ("/proc/report", ["--report", "/proc"]),
    ],
)
def test_no_report_can_be_there(desk: Desk, env: Environment, run: Run, name: str, words: list[str]) -> None:
    desk.write("file", "")
    desk.write("layer_minimizer.toml", settings(env))
    ended = run("--report", name, code=PACK)
    assert [word for word in words if word not in ended.stderr] == []
    assert "tracing" not in ended.stderr
    assert not (desk.work / "layer.zip").exists()


# ---- init -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def project(desk: Desk, env: Environment) -> Desk:
    """A user's folder before the first use of this tool."""
    desk.write(
        "handler.py", "import alpha\n\n\ndef handler(event, context):\n    return alpha.VALUE * event['times']\n"
    )
    desk.write("other/app.py", BETA)
    desk.write("events/größer.json", '{"times": 2}')
    desk.write("event.json", '{"times": 1}')
    desk.write("event_cut.json", "{")
    desk.write("model.bin", "weights")
    desk.write("requirements.txt", "alpha\n")
    (desk.work / ".venv").symlink_to(env.root)
    return desk


@pytest.mark.parametrize(
    "options", [(), ("--pyproject",), ("--output", "etc/my settings.toml")], ids=["own", "pyproject", "named"]
)
def test_init_then_minimize(project: Desk, run: Run, options: tuple[str, ...]) -> None:
    project.write("pyproject.toml", "[project]\nname = 'x'")
    project.write("etc/nothing", "")
    told = run("init", *options)
    name, following = told.stdout.splitlines()
    assert following.startswith("Next: minimize")
    for word in ("entry: handler.py", "other/app.py", "events/größer.json", "event_cut.json", "model.bin", "python3."):
        assert word in told.stderr
    file = project.work / name
    settings = tomllib.loads(file.read_text())
    assert settings.get("tool", {}).get("layer_minimizer", settings)["entry"].endswith("handler.py")
    chosen = ("--config", name) if options[:1] == ("--output",) else ()
    assert following == ("Next: minimize --config 'etc/my settings.toml'" if chosen else "Next: minimize")
    ended = run(*chosen, "--effort", "0")
    assert "Verified: 2 events" in ended.stdout
    assert kept(file.parent / "layer.zip") == {"alpha"}


def test_init_overwrites_nothing(project: Desk, run: Run) -> None:
    run("init")
    before = (project.work / "layer_minimizer.toml").read_bytes()
    assert "already exists" in run("init", code=USAGE).stderr
    assert (project.work / "layer_minimizer.toml").read_bytes() == before
    assert "layer_minimizer.toml already exists" in run("init", "--pyproject", code=USAGE).stderr
    (project.work / "layer_minimizer.toml").unlink()
    assert "does not exist" in run("init", "--pyproject", code=USAGE).stderr
    project.write("pyproject.toml", "[tool.layer_minimizer]\n")
    for options in ((), ("--pyproject",)):
        assert "already" in run("init", *options, code=USAGE).stderr
    assert "absent" in run("init", "--output", "absent/x.toml", code=PACK).stderr


def test_init_leaves_the_rest_of_a_pyproject_alone(project: Desk, run: Run) -> None:
    content = b"[project]\r\nname = 'x'  # mine"
    file = project.write("pyproject.toml", content)
    file.chmod(0o640)
    run("init", "--pyproject")
    after = file.read_bytes()
    assert after.startswith(content + b"\r\n\r\n[tool.layer_minimizer]\r\n#")
    assert after.count(b"\n") == after.count(b"\r\n")
    assert stat.S_IMODE(file.stat().st_mode) == 0o640
    for wrong in ("tool = {x = 1}\n", "[project\n"):
        project.write("pyproject.toml", wrong)
        assert "pyproject.toml" in run("init", "--pyproject", code=USAGE).stderr
        assert file.read_text() == wrong


def test_init_where_there_is_no_handler(desk: Desk, run: Run) -> None:
    desk.write("helper.py", "def help(): pass\n")
    assert "--entry" in run("init", code=USAGE).stderr
    assert {path.name for path in desk.work.iterdir()} == {"helper.py"}


# ---- the rest of the command line -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["trase"], ["unknown command 'trase'", "did you mean 'trace'"]),
        (["handler.py"], ["unknown command 'handler.py'", "--entry handler.py"]),
        (["--config", "x.toml", "--no-config"], ["--no-config"]),
        (["--color", "red"], ["--color", "always"]),
    ],
)
def test_wrong_words(run: Run, arguments: list[str], words: list[str]) -> None:
    ended = run(*arguments, code=USAGE)
    assert ended.stdout == ""
    assert [word for word in words if word not in ended.stderr] == []


@pytest.mark.usefixtures("handler")
def test_the_working_directory_is_gone(desk: Desk, env: Environment, tool: tuple[str, ...]) -> None:
    script = 'mkdir gone && cd gone && rmdir ../gone && exec "$@"'
    command = ["sh", "-c", script, "sh", *tool, *desk.arguments(env)]
    done = subprocess.run(
        command, cwd=desk.folder, env=desk.variables(), capture_output=True, text=True, check=False, timeout=120
    )
    assert (done.returncode, "Verified" in done.stdout) == (0, True), done.stderr
