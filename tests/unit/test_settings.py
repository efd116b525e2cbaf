"""An option's value is converted or refused alike, wherever it comes from."""

from __future__ import annotations

import json
from dataclasses import fields
from enum import Enum
from pathlib import Path
from typing import Any

import pytest

from layer_minimizer import pipeline
from layer_minimizer.cli import parser, settings_file
from layer_minimizer.core.errors import UsageError
from layer_minimizer.core.option_declarations import Option, Options, declared
from layer_minimizer.core.option_kinds import FLAG
from layer_minimizer.layer.formats import Format
from layer_minimizer.layer.layout import Layout
from layer_minimizer.model.plan import Cold
from layer_minimizer.settings import (
    GROUPS,
    MAIN_PARTS,
    ContainerOptions,
    FileOptions,
    Inputs,
    Outputs,
    PublishOptions,
    Request,
    Settings,
    choose,
)

# What each option takes: a value as Python and TOML have it, and what becomes of it; then values that it refuses.
VALUES: dict[str, tuple[Any, Any, list[Any]]] = {
    "python": ("python3.12", "python3.12", [3, ["a"], "\0"]),
    "lock": ("/p/uv.lock", "/p/uv.lock", [1, ["a"]]),
    "requirements": ("/p/r.txt", "/p/r.txt", [1, ["a"]]),
    "group": (["a,b", "c"], ("a", "b", "c"), [1, [1]]),
    "extra": (["a,b", "c"], ("a", "b", "c"), [1, [1]]),
    "package": ("member", "member", [1, ["a"]]),
    "python_version": ("3.12", "3.12", [3.12, ["3.12"]]),
    "platform": ("linux/arm64", "linux/arm64", [1, ["a"]]),
    "observe": ("strace", "strace", ["probes", 1, ["probe"], ""]),
    "timeout": (600, 600.0, [0, -1, "soon", True, float("nan")]),
    "include": (["a/**", "b"], ("a/**", "b"), [3, [3], {"a": 1}]),
    "exclude": ("a/**", ("a/**",), [3, [None], [["a"]]]),
    "provided": (["torch, torchvision", "x"], ("torch", "torchvision", "x"), [1.0, [1]]),
    "base_layer": (["/a.zip", "arn:x"], ("/a.zip", "arn:x"), [3, [3]]),
    "closure": ("static", "static", ["all", ["static"]]),
    "licenses": ("drop", "drop", ["none", ["keep"]]),
    "keep": (["scipy.stats"], ("scipy.stats",), [0, [0]]),
    "effort": (0, 0.0, [-1, "soon", True, float("inf")]),
    "bytecode": ("both", "both", ["none", 3]),
    "smallest": (True, True, [1, "true", "yes"]),
    "strip_docstrings": (True, True, [1, "true", "yes"]),
    "native": ("off", "off", ["offf", False]),
    "cold": ("drop", Cold.DROP, ["dropp", ["drop"], 1]),
    "gpu": ("keep", "keep", ["all", True]),
    "snapstart": (["/a.log"], ("/a.log",), [3, [3]]),
    "runtime_library": ("/lib.so", "/lib.so", [1, ["a"]]),
    "format": ("folder", Format.FOLDER, ["zip", ["folder"], 1]),
    "base_image": ("base.tar", "base.tar", [1, ["a"]]),
    "image_name": ("app:1", "app:1", [1, ["a"]]),
    "image_user": ("1000", "1000", [1000, ["a"]]),
    "image_env": (["A=1", "B=2"], ("A=1", "B=2"), [3, [3]]),
    "image_label": ("a=b", ("a=b",), [3, [3]]),
    "image_entrypoint": ("/start", "/start", [1, ["a"]]),
    "image_command": ("python -m app", "python -m app", [1, ["a"]]),
    "runtime": ("python3.12", "python3.12", ["python2.7", 3.12]),
    "architecture": ("arm64", "arm64", ["aarch64", 64]),
    "verify": ("lambda", "lambda", ["cloud", True]),
    "memory": (512, 512, [64, 10241, 512.5, "512MB", True]),
    "tmp_size": (1024, 1024, [100, 20000, "1024x"]),
    "engine": ("podman", "podman", ["containerd", 1]),
    "verify_image": ("name", "name", [1, ["a"]]),
    "emulator": ("/rie", "/rie", [1, ["a"]]),
    "layout": ("flat", Layout.FLAT, ["round", ["flat"]]),
    "max_size": ("1.5MB", 1_500_000, ["huge", -1, 1.5, "1 XB", True]),
    "tolerance": (0.5, 0.5, [1, -0.5, "small", True]),
    "runs": (30, 30, [0, -1, 1.5, "x", True, 10**6]),
    "time_imports": (True, True, [1, "on"]),
    "price_per_gb_second": (0.00002, 0.00002, [-1, "cheap", True, float("inf")]),
}  # fmt: skip
OPTIONS = {option.key: option for option in declared(Settings)}


def texts(option: Option, value: Any) -> list[str]:
    """Return the words of a command line for a value as Python has it."""
    if option.kind is FLAG:
        return [f"--{option.name}"]
    return [f"--{option.name}={each}" for each in (value if isinstance(value, list) else [value])]


def test_every_option_is_tried() -> None:
    assert list(OPTIONS) == [key for key in VALUES if key in OPTIONS]
    assert len(OPTIONS) == len(VALUES) == len(fields(Settings))


@pytest.mark.parametrize("key", VALUES)
def test_a_good_value(key: str, tmp_path: Path) -> None:
    option, (value, expected, _) = OPTIONS[key], VALUES[key]
    chosen = Settings(**{option.field: value})
    assert getattr(chosen, option.field) == expected
    assert type(getattr(chosen, option.field)) is type(expected)
    assert choose(None, {option.field: value}) == chosen
    assert choose(Settings(**{option.field: value}), {}) == chosen
    assert choose(chosen, {option.field: getattr(chosen, option.field)}) == chosen
    file = tmp_path / "layer_minimizer.toml"
    file.write_text(f"{option.name} = {json.dumps(value)}")
    assert Settings.of(settings_file.read(file).common.values) == chosen
    assert Settings.of(parser.command_parser("").read(texts(option, value))) == chosen
    assert Settings.of(json.loads(json.dumps(chosen.values))) == chosen


@pytest.mark.parametrize("key", VALUES)
def test_bad_values(key: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    option, (_, _, wrong) = OPTIONS[key], VALUES[key]
    file = tmp_path / "layer_minimizer.toml"
    for value in wrong:
        said = []
        for attempt in (
            lambda value=value: Settings(**{option.field: value}),
            lambda value=value: choose(None, {option.field: value}),
            lambda value=value: pipeline.minimize(entry="absent.py", output="x.zip", **{option.field: value}),
        ):
            with pytest.raises(UsageError) as raised:
                attempt()
            said.append(str(raised.value))
        assert len(set(said)) == 1
        assert said[0].startswith(f"{option.field}={value!r}: it must be ")
        if value != "" and not (isinstance(value, list) and None in value):
            file.write_text(f"{option.name} = {toml(value)}")
            with pytest.raises(UsageError) as raised:
                settings_file.read(file)
            assert said[0].partition(": it must be ")[2] in str(raised.value)
        if isinstance(value, str) and option.kind is not FLAG and "\0" not in value:
            with pytest.raises(SystemExit) as ended:
                parser.command_parser("").read([f"--{option.name}={value}"])
            assert ended.value.code == UsageError.exit_code
            assert f"--{option.name}" in capsys.readouterr().err


def toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {toml(each)}" for key, each in value.items()) + "}"
    return json.dumps(value).replace("NaN", "nan").replace("Infinity", "inf")


def test_members_of_enumerations_and_paths() -> None:
    assert Settings(cold=Cold.DROP, layout=Layout.FLAT) == choose(None, {"cold": "drop", "layout": "flat"})
    assert Settings(base_layers=(Path("a.zip"), "b.zip")).base_layers == ("a.zip", "b.zip")  # type: ignore[arg-type]
    assert Settings(python=Path("/bin/python")).python == "/bin/python"  # type: ignore[arg-type]
    with pytest.raises(UsageError, match=r"cold=<Layout\.FLAT: 'flat'>: it must be one of keep, drop, auto"):
        Settings(cold=Layout.FLAT)  # type: ignore[arg-type]


@pytest.mark.parametrize(("key", "text"), [("timeout", "600"), ("effort", "0"), ("memory", "512"), ("runs", "3")])
def test_only_the_command_line_has_numbers_as_texts(key: str, text: str) -> None:
    assert Settings.of(parser.command_parser("").read([f"--{key}={text}"])) == Settings.of({key: int(text)})
    with pytest.raises(UsageError, match=f"{key}='{text}': it must be "):
        Settings(**{key: text})  # type: ignore[arg-type]


def test_an_option_that_does_not_exist() -> None:
    with pytest.raises(UsageError, match="unknown option 'max_sise'; did you mean 'max_size'"):
        choose(None, {"max_sise": 1})


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (lambda: Inputs(events=3), "events=3: it must be a list of strings"),  # type: ignore[arg-type]
        (lambda: ContainerOptions(runner="dockre"), "one of local, docker, podman; did you mean 'docker'"),
        (lambda: Outputs(json=1), "json=1: it must be true or false"),  # type: ignore[arg-type]
        (lambda: PublishOptions(architectures=("arm",)), "one of x86_64, arm64"),
        (lambda: Request.of({"effort": "5"}), "effort='5': it must be a number of minutes, 0 or more"),
    ],
)
def test_other_options(given: Any, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        given()


@pytest.mark.parametrize("part", [*MAIN_PARTS, PublishOptions, FileOptions])
def test_declarations_are_complete(part: type[Options]) -> None:
    for option in declared(part):
        assert option.help
        assert option.group in GROUPS
        assert option.convert(option.default) == option.default
        assert getattr(part(), option.field) == option.default


def test_keys_are_distinct() -> None:
    keys = [option.key for part in (*MAIN_PARTS, FileOptions) for option in declared(part)]
    assert len(set(keys)) == len(keys)
    known = {*keys, *(option.key for option in declared(PublishOptions))}
    assert {key for part in MAIN_PARTS for option in declared(part) for key in option.instead_of} <= known


def test_a_request_is_one_json_document() -> None:
    values = {key: value for key, (value, _, _) in VALUES.items()}
    request = Request.of({**values, "entry": "caf\udce9.py", "json": True})
    document = json.dumps(request.values)
    assert Request.of(json.loads(document)) == request
    assert not [value for value in request.values.values() if isinstance(value, Enum) and not isinstance(value, str)]
    assert Request().values == {}
