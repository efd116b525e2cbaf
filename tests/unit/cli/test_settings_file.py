"""Settings files: how they are found and read, and the errors in them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from layer_minimizer.cli import parser, settings_file
from layer_minimizer.core.errors import UsageError
from layer_minimizer.core.option_kinds import FLAG, File, WrongValueError
from layer_minimizer.settings import Request

if TYPE_CHECKING:
    from layer_minimizer.core.option_declarations import Option


ON_THE_COMMAND_LINE_ONLY = {"config", "no-config", "layer", "explain", "plan"}


def read(file: Path, text: str | bytes) -> settings_file.SettingsFile:
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return settings_file.read(file)


def keys(command: str) -> list[str]:
    names = [option.name for option in parser.command_parser(command).options.values()]
    return [name for name in names if name not in ON_THE_COMMAND_LINE_ONLY]


def example(option: Option) -> Any:
    """Return a TOML value for a key."""
    if option.kind is FLAG:
        return True
    one: Any = option.kind.choices[-1] if option.kind.choices else None
    for value in ("0.5GB", "a,b", 0.5, 1, 1024) if one is None else ():
        try:
            option.kind.convert(value)
        except WrongValueError:
            continue
        one = value
        break
    return [one, one] if option.repeat else one


# ---- what is read ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", keys(""))
@pytest.mark.parametrize("change", [str, lambda key: key.replace("-", "_")], ids=["dashes", "underscores"])
def test_a_key_says_what_the_option_says(tmp_path: Path, key: str, change: Any) -> None:
    option = parser.command_parser("").options[key.replace("-", "_")]
    value = example(option)
    found = read(tmp_path / "layer_minimizer.toml", f"{change(key)} = {json.dumps(value)}\n").common.values
    words = [f"--{key}"] if value is True else [f"--{key}={each}" for each in (value if option.repeat else [value])]
    expected = parser.command_parser("").read(words)
    if option.kind.file and option.kind.file is not File.PROGRAM:
        value = expected[option.key]
        expected[option.key] = tuple(str(tmp_path / each) for each in value) if option.repeat else str(tmp_path / value)
    assert found == expected


@pytest.mark.parametrize("key", keys("publish"))
def test_keys_of_publish(tmp_path: Path, key: str) -> None:
    option = parser.command_parser("publish").options[key.replace("-", "_")]
    value = example(option)
    found = read(tmp_path / "layer_minimizer.toml", f"[publish]\n{key} = {json.dumps(value)}\n").common.publish
    as_read = tuple(value) if option.repeat else value
    assert found == {option.key: str(tmp_path / value) if key == "archive" else as_read}


def test_layers_and_tables_in_pyproject(tmp_path: Path) -> None:
    found = read(
        tmp_path / "pyproject.toml",
        '[project]\nname = "x"\n[tool.layer_minimizer]\neffort = 1\n[tool.layer_minimizer.publish]\nname = "all"\n'
        '[tool.layer_minimizer.layers.api]\nentry = "api.py"\n[tool.layer_minimizer.layers."größer"]\neffort = 2\n'
        '[tool.layer_minimizer.layers.api.publish]\nname = "mine"\n',
    )
    assert found.common == settings_file.Section({"effort": 1.0}, {"name": "all"})
    assert found.layers == {
        "api": settings_file.Section({"entry": str(tmp_path / "api.py")}, {"name": "mine"}),
        "größer": settings_file.Section({"effort": 2.0}),
    }


@pytest.mark.parametrize(
    ("written", "read_as"),
    [
        ("max-size = 262144000", 262_144_000),
        ('max-size = "250MB"', 250_000_000),
        ('event = "one.json"', ["{}/one.json"]),
        ("event = []", []),
        ('base-layer = ["a.zip", "arn:aws:lambda:x:1:layer:y:3"]', ["{}/a.zip", "arn:aws:lambda:x:1:layer:y:3"]),
        ('python = "python3.12"', "python3.12"),
        ('python = ".venv/bin/python"', "{}/.venv/bin/python"),
        ('output = "/elsewhere/layer.zip"', "/elsewhere/layer.zip"),
        ('output = ""', ""),
        ("strip_docstrings = false", False),
        ('include = ["a/**", "b"]', ["a/**", "b"]),
        ("tolerance = 1e-6", 1e-6),
        ("runs = 30", 30),
    ],
)
def test_values(tmp_path: Path, written: str, read_as: Any) -> None:
    expected = json.loads(json.dumps(read_as).replace("{}", str(tmp_path)))
    (found,) = read(tmp_path / "layer_minimizer.toml", written).common.values.values()
    assert found == (tuple(expected) if isinstance(expected, list) else expected)


def test_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/somebody")
    found = read(tmp_path / "layer_minimizer.toml", 'entry = "~/handler.py"')
    assert found.common.values == {"entry": "/home/somebody/handler.py"}


def test_a_byte_order_mark_does_no_harm(tmp_path: Path) -> None:
    assert read(tmp_path / "layer_minimizer.toml", b"\xef\xbb\xbfeffort = 1\r\n").common.values == {"effort": 1.0}


# ---- what is wrong --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("max-sise = 1", ["max-sise", "did you mean 'max-size'"]),
        ("max_sise = 1", ["max_sise", "did you mean 'max-size'"]),
        ("zebra = 1", ["no key 'zebra'"]),
        ("[tool.layer_minimizer]\neffort = 1", ["'tool'", "at the top level"]),
        ("[layer.a]\nentry = 'x'", ["'layer'", "command line only"]),
        ("[layer-s.a]\nentry = 'x'", ["layer-s", "did you mean 'layers'"]),
        ("explain = 'scipy'", ["'explain'", "command line only"]),
        ("[publish]\nbuckett = 'x'", ["[publish]", "buckett", "did you mean 'bucket'"]),
        ("[layers.a]\nentri = 'x'", ["[layers.a]", "entri", "did you mean 'entry'"]),
        ("[layers.a.publish]\nentry = 'x'", ["[layers.a.publish]", "no key 'entry'"]),
        ("[layers.a.layers.b]", ["[layers.a]", "no key 'layers'"]),
        ("layers = 3", ["layers = 3", "must be a table"]),
        ("[layers]\na = 3", ["layers.a = 3", "must be a table"]),
        ("publish = 'x'", ['publish = "x"', "must be a table"]),
        ("[layers.'a/b']", ["[layers] 'a/b'", "valid as a file name"]),
        ("[layers.'..']", ["'..'", "valid as a file name"]),
        ("[layers.'']", ["''", "valid as a file name"]),
        ("effort = 'soon'", ['effort = "soon"', "must be a number of minutes, 0 or more"]),
        ("effort = '5'", ['effort = "5"', "must be a number of minutes"]),
        ("effort = -1", ["effort = -1", "0 or more"]),
        ("effort = nan", ["effort = NaN", "0 or more"]),
        ("effort = true", ["effort = true", "number"]),
        ("timeout = 0", ["timeout = 0", "number of seconds above 0"]),
        ("tolerance = 1", ["tolerance = 1", "number from 0 to 1"]),
        ("runs = 0", ["runs = 0", "whole number, 1 or more"]),
        ("runs = true", ["runs = true", "whole number"]),
        ("memory = 512.5", ["memory = 512.5", "whole number"]),
        ("max-size = 'huge'", ['max-size = "huge"', "250MB"]),
        ("max-size = -1", ["max-size = -1", "250MB"]),
        ("layout = 'round'", ['layout = "round"', "one of site, flat"]),
        ("runtime = 'python3.1'", ['runtime = "python3.1"', "python3.12"]),
        ("cold = 'dropp'", ["keep, drop, auto", "did you mean 'drop'"]),
        ("cold = ['drop']", ['cold = ["drop"]', "one of"]),
        ("entry = 3", ["entry = 3", "a string"]),
        ("entry = ['a.py']", ['entry = ["a.py"]', "a string"]),
        ("entry = 'a\\u0000'".replace("'", '"'), ["null characters"]),
        ("event = 3", ["event = 3", "a list of strings"]),
        ("event = ['a', 3]", ["event", "a string"]),
        ("strip-docstrings = 'yes'", ['strip-docstrings = "yes"', "true or false"]),
        ("strip-docstrings = 1", ["strip-docstrings = 1", "true or false"]),
        ("entry = 1979-05-27", ["entry", "1979-05-27", "a string"]),
        ("quiet = true\nverbose = true", ["both 'quiet' and 'verbose'"]),
        ("max-size = 1\nmax_size = 2", ["'max-size' twice"]),
        ("effort = 1\neffort 2", ["not valid TOML", "line 2"]),
        ("effort = 1\n\nevent = [", ["not valid TOML", "line 3"]),
        ("effort = 1\neffort = 2", ["not valid TOML", "line 2"]),
        (b"effort = 1\n# caf\xe9\n", ["line 2", "not valid UTF-8"]),
        ("x = " + "[" * 10_000, ["nested too deeply"]),
        ("effort = 1" + "0" * 5000, ["not valid TOML", "digits"]),
    ],
    ids=lambda value: str(value)[:24] if not isinstance(value, list) else "",
)
def test_mistakes_are_named(tmp_path: Path, text: str | bytes, words: list[str]) -> None:
    file = tmp_path / "layer_minimizer.toml"
    with pytest.raises(UsageError) as raised:
        read(file, text)
    assert [word for word in (str(file), *words) if word not in str(raised.value)] == []


def test_mistakes_in_pyproject_name_its_table(tmp_path: Path) -> None:
    file = tmp_path / "pyproject.toml"
    with pytest.raises(UsageError) as raised:
        read(file, '[tool.layer_minimizer.layers."a b"]\nentri = "x"\n')
    assert str(raised.value).startswith(f"{file}: [tool.layer_minimizer.layers.\"a b\"] has no key 'entri'")


def test_a_chosen_pyproject_without_settings(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"has no table \[tool.layer_minimizer\]"):
        read(tmp_path / "pyproject.toml", "[tool.other]\n")


def test_a_folder_and_a_missing_file(tmp_path: Path) -> None:
    for name, words in ((".", "is a folder"), ("absent.toml", "No such file")):
        with pytest.raises(UsageError, match=words):
            settings_file.read(tmp_path / name)


# ---- which file counts ----------------------------------------------------------------------------------------------


def test_the_nearest_file_with_settings_counts(tmp_path: Path) -> None:
    below = tmp_path / "a" / "b"
    below.mkdir(parents=True)
    (tmp_path / "layer_minimizer.toml").write_text("effort = 1\n")
    (below / "pyproject.toml").write_text("[tool.other]\n")
    assert settings_file.find(below) == tmp_path / "layer_minimizer.toml"
    (tmp_path / "a" / "pyproject.toml").write_text("[tool.layer_minimizer]\n")
    assert settings_file.find(below) == tmp_path / "a" / "pyproject.toml"
    (below / "layer_minimizer.toml").write_text("")
    assert settings_file.find(below) == below / "layer_minimizer.toml"


def test_two_files_of_one_folder(tmp_path: Path) -> None:
    (tmp_path / "layer_minimizer.toml").write_text("effort = 1\n")
    (tmp_path / "pyproject.toml").write_text("[tool.layer_minimizer]\n")
    with pytest.raises(UsageError, match="keep one of them"):
        settings_file.find(tmp_path)


@pytest.mark.parametrize(
    "content", [b"this is [no TOML", b"\xff\xfe", b'name = "layer_minimizer"\n', b"tool = 3 # layer_minimizer"]
)
def test_files_of_others_do_not_matter(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "pyproject.toml").write_bytes(content)
    (tmp_path / "below").mkdir()
    (tmp_path / "below" / "pyproject.toml").mkdir()
    found = settings_file.find(tmp_path / "below")
    assert found is None or not found.is_relative_to(tmp_path)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("[tool.layer_minimizer\n", "not valid TOML.*line 1"),
        ("[tool.layer-minimizer]\n", r"must be named \[tool.layer_minimizer\]"),
    ],
)
def test_files_that_speak_of_this_tool_must_be_right(tmp_path: Path, content: str, words: str) -> None:
    (tmp_path / "pyproject.toml").write_text(content)
    with pytest.raises(UsageError, match=words):
        settings_file.find(tmp_path)


# ---- anything at all ------------------------------------------------------------------------------------------------

TEXTS = st.sampled_from(
    ["", "x", "-x", "--json", "keep", "a,b", "250MB", "1e-3", "python3.12", "a\nb", "größe", "/", "~"]
)
VALUES = st.recursive(
    TEXTS | st.text(max_size=5) | st.integers() | st.floats() | st.booleans(),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(TEXTS, inner, max_size=1),
    max_leaves=4,
)


@given(st.dictionaries(st.sampled_from([*keys(""), "layers", "publish"]), VALUES, max_size=3))
@settings(max_examples=400)
def test_a_file_is_refused_or_means_a_request_that_json_can_have(data: dict[str, Any]) -> None:
    keys_of = (settings_file.MAIN_PARTS, settings_file.PUBLISH_PARTS)
    try:
        values = (
            settings_file._Reader(Path("/x.toml"), *map(settings_file._keys, keys_of))
            .section("", data, ("layers",))
            .values
        )
    except UsageError:
        return
    request = Request.of(values)
    assert {option.key: value for option, value in request.items() if option.key in values} == values
    assert Request.of(json.loads(json.dumps(request.values))) == request
