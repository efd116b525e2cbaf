"""The jobs that a command line and a settings file result in."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from layer_minimizer.cli import jobs, parser
from layer_minimizer.core.errors import UsageError
from layer_minimizer.settings import Inputs, Request

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

COMMON = """\
entry = "handler.py"
event = ["a.json", "b.json"]
effort = 1
strip-docstrings = true
"""
TWO = f'{COMMON}[layers.api]\nentry = "api.py"\n[layers.web]\nentry = "web.py"\nevent = []\neffort = 2\n'


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[Any]]:
    """Write a settings file, and return the jobs of a command line in a subfolder, with their options by key."""
    (tmp_path / "sub").mkdir()
    monkeypatch.chdir(tmp_path / "sub")

    def runs(text: str, *arguments: str, command: str = "") -> list[Any]:
        (tmp_path / "layer_minimizer.toml").write_text(text)
        return flat(command, arguments)

    return runs


def flat(command: str, arguments: Sequence[str]) -> list[Any]:
    if command == "publish":
        found = [(run.name, [*run.options.items(), *run.messages.items()]) for run in jobs.load_publications(arguments)]
    else:
        found = [(run.name, list(run.request.items())) for run in jobs.load_jobs(command, arguments)]
    return [
        SimpleNamespace(name=name, options=SimpleNamespace(**{option.key: value for option, value in items}))
        for name, items in found
    ]


def only(runs: list[Any]) -> Any:
    assert len(runs) == 1
    return runs[0].options


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--entry", "h.py", "--event", "a", "--event", "b", "--output=-x", "--json", "-v", "--no-strip-docstrings"],
        ["--provided", "a,b", "c", "--provided", "d", "--trace", "x", "y", "--trace=z", "--max-size", "1.5GiB"],
        [
            "--timeout",
            "0.1",
            "--tolerance",
            "1e-300",
            "--effort",
            "0",
            "--runs=7",
            "--entry",
            "",
            "--cold",
            "auto",
            "--memory=512",
        ],
        ["--ent", "h.py", "--strip", "--include=--odd", "--include", "a b"],
        ["--explain", "x", "--plan", "p.json", "--color", "never", "--entry", "caf\udce9.py"],
    ],
)
def test_a_request_that_went_through_json_means_the_same(arguments: list[str], tmp_path: Path) -> None:
    (run,) = jobs.load_jobs("", [*arguments, "--no-config"])
    (tmp_path / "request.json").write_text(json.dumps(run.request.values))
    again = jobs.load_request(str(tmp_path / "request.json"), "")
    assert again.request == run.request
    given = parser.command_parser("").read(arguments)
    assert {option.key: value for option, value in run.request.items() if option.key in given} == given


@pytest.mark.parametrize("text", ["", "[]", "3", '{"cold": "dropp"}', '{"effort": "5"}'])
def test_what_is_no_request(text: str, tmp_path: Path) -> None:
    (tmp_path / "request.json").write_text(text)
    with pytest.raises(UsageError):
        jobs.load_request(str(tmp_path / "request.json"), "")


def test_without_settings_nothing_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (run,) = jobs.load_jobs("", ["--entry", "h.py"])
    assert (run.name, run.request) == ("", Request(inputs=Inputs(entry="h.py")))


def test_files_are_where_the_settings_are(desk: Callable[..., list[Any]], tmp_path: Path) -> None:
    options = only(desk(COMMON))
    assert options.entry == str(tmp_path / "handler.py")
    assert options.event == (str(tmp_path / "a.json"), str(tmp_path / "b.json"))
    assert options.output == str(tmp_path / "layer.zip")


def test_the_command_line_wins_key_by_key(desk: Callable[..., list[Any]], tmp_path: Path) -> None:
    options = only(desk(COMMON, "--event", "c.json", "--no-strip-docstrings", "--output", "o.zip"))
    assert options.event == ("c.json",)
    assert (options.strip_docstrings, options.output) == (False, "o.zip")
    assert (options.effort, options.entry) == (1.0, str(tmp_path / "handler.py"))


def test_no_config(desk: Callable[..., list[Any]]) -> None:
    assert only(desk("this is no TOML", "--no-config", "--entry", "h.py")).effort == 5.0


def test_a_saved_plan_needs_no_settings(desk: Callable[..., list[Any]]) -> None:
    assert only(desk(TWO, "--plan", "p.json", "--explain", "x")).plan == "p.json"


def test_all_layers_in_the_order_of_the_file(desk: Callable[..., list[Any]], tmp_path: Path) -> None:
    api, web = desk(TWO)
    assert (api.name, web.name) == ("api", "web")
    assert (api.options.entry, api.options.effort, len(api.options.event)) == (str(tmp_path / "api.py"), 1.0, 2)
    assert (web.options.entry, web.options.effort, web.options.event) == (str(tmp_path / "web.py"), 2.0, ())
    assert (api.options.output, web.options.output) == (str(tmp_path / "api.zip"), str(tmp_path / "web.zip"))


def test_chosen_layers(desk: Callable[..., list[Any]]) -> None:
    assert [run.name for run in desk(TWO, "--layer", "web")] == ["web"]
    assert [run.name for run in desk(TWO, "--layer", "web", "--layer", "api", "--layer", "web")] == ["web", "api"]


@pytest.mark.parametrize(
    ("text", "arguments", "words"),
    [
        (TWO, ["--layer", "apt"], ["--layer apt", "api, web", "did you mean 'api'"]),
        (COMMON, ["--layer", "api"], ["--layer api", "none with a name"]),
        (TWO, ["--output", "x.zip"], ["--output", "api, web", "--layer"]),
        (TWO, ["--function-zip", "f.zip"], ["--function-zip", "api, web"]),
        (TWO, ["--report-json", "r.json"], ["--report-json", "api, web"]),
        (TWO, ["--save-trace", "t.json"], ["--save-trace", "api, web"]),
        (f'output = "x.zip"\n{TWO}', [], ["x.zip", "api and web"]),
        (f'{TWO}function-zip = "api.zip"', [], ["api.zip", "api and web"]),
        (TWO, ["--config", ""], ["--config"]),
    ],
)
def test_what_cannot_be(desk: Callable[..., list[Any]], text: str, arguments: list[str], words: list[str]) -> None:
    with pytest.raises(UsageError) as raised:
        desk(text, *arguments)
    assert [word for word in words if word not in str(raised.value)] == []


def test_a_layer_without_a_settings_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match="no settings file"):
        jobs.load_jobs("", ["--layer", "api"])


def test_reports_of_named_layers_have_folders_of_their_own(desk: Callable[..., list[Any]], tmp_path: Path) -> None:
    assert [run.options.report for run in desk(TWO, "--report", "r")] == ["r/api", "r/web"]
    assert only(desk(TWO, "--report", "r", "--layer", "web")).report == "r/web"
    settings = f'report = "all"\n{TWO}report = "own"\n'
    assert [run.options.report for run in desk(settings)] == [str(tmp_path / "all" / "api"), str(tmp_path / "own")]
    assert only(desk(f'report = "all"\n{COMMON}')).report == str(tmp_path / "all")


def test_a_single_stage_makes_no_layer(desk: Callable[..., list[Any]], tmp_path: Path) -> None:
    assert only(desk(f'output = "x.zip"\n{COMMON}', "--save-plan", "p.json")).output == ""
    assert only(desk(f'save-plan = "p.json"\n{COMMON}')).output == str(tmp_path / "layer.zip")


@pytest.mark.parametrize(
    ("settings", "arguments", "quiet", "verbose"),
    [
        ("quiet = true", [], True, False),
        ("quiet = true", ["-v"], False, True),
        ("quiet = true", ["--no-quiet"], False, False),
        ("quiet = true\n[layers.a]\nverbose = true", [], False, True),
        ("quiet = false\nverbose = true", [], False, True),
    ],
)
def test_quiet_or_verbose(
    desk: Callable[..., list[Any]], settings: str, arguments: list[str], *, quiet: bool, verbose: bool
) -> None:
    options = only(desk(settings, *arguments))
    assert (options.quiet, options.verbose) == (quiet, verbose)


def test_what_only_a_container_needs(desk: Callable[..., list[Any]], tmp_path: Path) -> None:
    settings = f'{COMMON}requirements = "r.txt"\npython = ".venv/bin/python"\nruntime = "python3.12"\n'
    local = only(desk(settings))
    assert (local.requirements, local.python) == ("", str(tmp_path / ".venv/bin/python"))
    contained = only(desk(settings, "--runner", "docker"))
    assert (contained.requirements, contained.python) == (str(tmp_path / "r.txt"), "")
    assert only(desk(settings, "--runner", "docker", "--python", "/opt/python")).python == "/opt/python"
    assert only(desk(settings, "--runner", "docker", "--image", "own")).requirements == ""
    assert only(desk(settings, "--requirements", "other.txt")).requirements == "other.txt"


def test_requirements_and_locks_without_a_container(desk: Callable[..., list[Any]], tmp_path: Path) -> None:
    alone = f'{COMMON}requirements = "r.txt"\nplatform = "linux/arm64"\n'
    options = only(desk(alone))
    assert (options.requirements, options.platform) == (str(tmp_path / "r.txt"), "linux/arm64")
    options = only(desk(alone, "--python", "python3"))
    assert (options.requirements, options.platform, options.python) == ("", "", "python3")
    options = only(desk(alone, "--lock", "uv.lock", "--python-version", "3.12"))
    assert (options.lock, options.requirements, options.python_version) == ("uv.lock", "", "3.12")
    locked = f'{COMMON}lock = "uv.lock"\ngroup = ["a"]\npython-version = "3.12"\n'
    options = only(desk(locked, "--group", "b,c", "--runner", "docker"))
    assert (options.lock, options.group, options.python_version) == (str(tmp_path / "uv.lock"), ("b", "c"), "3.12")
    options = only(desk(locked, "--image", "own", "--runner", "docker"))
    assert (options.lock, options.image) == ("", "own")
    assert only(desk(locked, "--python", "python3")).python_version == ""


def test_traces(desk: Callable[..., list[Any]], tmp_path: Path) -> None:
    options = only(desk(f'{COMMON}output = "x.zip"\nmax-size = 5\n', command="trace"))
    assert (options.save_trace, options.output, options.max_size) == (str(tmp_path / "trace.json"), "", None)
    assert (options.effort, options.entry) == (1.0, str(tmp_path / "handler.py"))
    assert [run.options.save_trace for run in desk(TWO, command="trace")] == [
        str(tmp_path / "api.trace.json"),
        str(tmp_path / "web.trace.json"),
    ]
    assert only(desk(COMMON, "--no-config", "--entry", "h.py", command="trace")).save_trace == "trace.json"


# ---- publish --------------------------------------------------------------------------------------------------------


def test_publish_with_nothing_on_the_command_line(desk: Callable[..., list[Any]], tmp_path: Path) -> None:
    settings = f'{COMMON}runtime = "python3.12"\narchitecture = "arm64"\n[publish]\nname = "mine"\nbucket = "b"\n'
    options = only(desk(settings, command="publish"))
    assert (options.archive, options.name) == (str(tmp_path / "layer.zip"), "mine")
    assert (options.runtime, options.architecture, options.bucket) == (("python3.12",), ("arm64",), "b")
    assert only(desk(settings, "--runtime", "python3.11", command="publish")).runtime == ("python3.11",)


def test_publish_all_layers_or_one(desk: Callable[..., list[Any]], tmp_path: Path) -> None:
    settings = f'{TWO}runtime = "python3.12"\n[layers.api.publish]\nruntime = ["python3.10", "python3.11"]\n'
    api, web = (run.options for run in desk(settings, "--runtime", "python3.13", command="publish"))
    assert (api.name, api.archive, api.runtime) == ("api", str(tmp_path / "api.zip"), ("python3.13",))
    (web,) = desk(settings, "--layer", "web", command="publish")
    assert (web.options.name, web.options.runtime) == ("web", ("python3.12",))


def test_the_archive_says_which_layer_it_is(desk: Callable[..., list[Any]]) -> None:
    settings = '[publish]\ndescription = "d"\n[layers.web]\n[layers.api]\nruntime = "python3.11"\n'
    options = only(desk(settings, "../api.zip", command="publish"))
    assert (options.name, options.runtime, options.description) == ("api", ("python3.11",), "d")


def test_another_zip_is_none_of_the_layers(desk: Callable[..., list[Any]]) -> None:
    settings = f'{COMMON}runtime = "python3.12"\n[publish]\nname = "mine"\nbucket = "b"\ndescription = "d"\n'
    options = only(desk(settings, "probe.zip", "--name", "trace", "--runtime", "python3.11", command="publish"))
    assert (options.archive, options.name, options.runtime) == ("probe.zip", "trace", ("python3.11",))
    assert (options.bucket, options.description) == ("b", "")
    with pytest.raises(UsageError, match="publish needs --name, --runtime;"):
        desk(settings, "probe.zip", command="publish")


@pytest.mark.parametrize(
    ("more", "arguments", "words"),
    [
        ("", ["--name", "x"], "x would be published for both layers api and web"),
        ('[publish]\nname = "x"\n', [], "both layers api and web"),
        ("", ["x.zip", "--layer", "api", "--layer", "web"], "several layers"),
    ],
)
def test_two_layers_are_not_published_as_one(
    desk: Callable[..., list[Any]], more: str, arguments: list[str], words: str
) -> None:
    with pytest.raises(UsageError, match=words):
        desk(TWO + 'runtime = "python3.12"\n' + more, *arguments, "--runtime", "python3.12", command="publish")
