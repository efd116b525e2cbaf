"""The files that ``minimize init --for`` writes: their values, what is refused, and that nothing is overwritten."""

from __future__ import annotations

import ast
import json
import re
from typing import TYPE_CHECKING, Any

import hcl2
import pytest
import yaml

from layer_minimizer.cli import deployment
from layer_minimizer.cli.commands import init
from layer_minimizer.cli.deployment import TARGETS
from layer_minimizer.core.errors import PackError, UsageError
from layer_minimizer.settings import Messages

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

HANDLER = "def handler(event, context):\n    return event\n"
FILES = {
    "sam": ["layer/Makefile", "template.yaml"],
    "cdk": ["cdk.json", "cdk_app.py"],
    "terraform": ["lambda.tf"],
    "serverless": ["minimize.cjs", "serverless.yml"],
    "docker": ["Dockerfile", "Dockerfile.dockerignore"],
}
SETTINGS = 'entry = "src/app.py"\nruntime = "python3.12"\narchitecture = "arm64"\nmodel = ["model.pkl"]\n'


class Tags(yaml.SafeLoader):
    """Reads CloudFormation's short forms, such as !Ref, as (tag, value)."""


Tags.add_multi_constructor("!", lambda loader, tag, node: (tag, loader.construct_scalar(node)))


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder with a function and its settings, which is the working directory."""
    folder = tmp_path / "My 2nd project"
    (folder / "src").mkdir(parents=True)
    (folder / "src" / "app.py").write_text(HANDLER)
    for name, text in {"model.pkl": "", "requirements.txt": "", "layer_minimizer.toml": SETTINGS}.items():
        (folder / name).write_text(text)
    monkeypatch.chdir(folder)
    return folder


def run(*targets: str, **options: Any) -> str:
    return "".join(init.run(init.InitOptions(targets=targets, **options), Messages()))


def listed(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}


def described(folder: Path, options: Mapping[str, Any], *targets: str, layer: str = "") -> deployment.Deployment:
    (folder / "handler.py").write_text(HANDLER)
    known = {"entry": str(folder / "handler.py"), "runtime": "python3.12", **options}
    return deployment.describe(known, folder / "layer_minimizer.toml", layer, "", targets)


@pytest.mark.parametrize("target", TARGETS)
def test_the_settings_that_exist_are_used_and_kept(project: Path, target: str) -> None:
    before = listed(project)
    printed = run(target)
    after = listed(project)
    assert after.keys() - before.keys() == set(FILES[target])
    assert {name: after[name] for name in before} == before
    text = "\n".join(after[name] for name in FILES[target])
    for value in ("app.handler", "3.12", "minimize", "layer.zip", "function.zip", "/var/task/model.pkl"):
        assert value in text, value
    assert not re.search(r"\{\{\w+\}\}", text + printed)
    assert max(map(len, text.splitlines())) <= 120
    assert printed.splitlines()[:-1] == FILES[target]
    assert printed.splitlines()[-1].startswith("Next: ")


def test_sam_template(project: Path) -> None:
    run("sam")
    resources = yaml.load((project / "template.yaml").read_text(), Tags)["Resources"]
    layer, function = resources["Packages"], resources["Function"]
    assert layer["Metadata"] == {"BuildMethod": "makefile", "BuildArchitecture": "arm64"}
    assert (project / layer["Properties"]["ContentUri"] / "Makefile").is_file()
    assert "\nbuild-Packages:\n\t" in (project / "layer/Makefile").read_text()
    properties = function["Properties"]
    assert (properties["Handler"], properties["Runtime"]) == ("app.handler", "python3.12")
    assert properties["Architectures"] == layer["Properties"]["CompatibleArchitectures"] == ["arm64"]
    assert properties["Environment"] == {"Variables": {"MODEL_PATH": "/var/task/model.pkl"}}
    assert properties["Layers"] == [("Ref", "Packages")]


def test_serverless_file(project: Path) -> None:
    run("serverless")
    content = yaml.load((project / "serverless.yml").read_text(), Tags)
    assert content["service"] == "my-2nd-project"
    assert content["provider"] | {"runtime": "python3.12", "architecture": "arm64"} == content["provider"]
    assert content["functions"]["function"]["layers"] == [("Ref", "PackagesLambdaLayer")]
    assert "plugins" not in content


def test_terraform_file(project: Path) -> None:
    run("terraform")
    content = hcl2.loads((project / "lambda.tf").read_text())
    resources = {kind.strip('"'): block for each in content["resource"] for kind, block in each.items()}
    (function,) = resources["aws_lambda_function"].values()
    assert function["layers"] == ["${aws_lambda_layer_version.packages.arn}"]
    assert function["architectures"] == ['"arm64"']
    assert set(resources) >= {"aws_lambda_layer_version", "aws_iam_role"}


def test_cdk_app_is_valid_python_that_cdk_starts(project: Path) -> None:
    run("cdk")
    ast.parse((project / "cdk_app.py").read_text())
    assert json.loads((project / "cdk.json").read_text()) == {"app": "python3 cdk_app.py"}
    assert "Architecture.ARM_64" in (project / "cdk_app.py").read_text()


def test_a_function_without_a_model_has_no_line_about_it(tmp_path: Path) -> None:
    made = described(tmp_path, {}, "sam")
    texts = [text for target in TARGETS if target != "docker" for _, text in made.files(target)]
    assert not [text for text in texts if "MODEL_PATH" in text or "nvironment" in text]


def test_new_settings_and_files_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "app.py").write_text(HANDLER)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("layer_minimizer.cli.project._runtime", lambda _python: ("python3.13", ""))
    printed = run("terraform", "sam", "sam")
    assert printed.split("\n")[:3] == ["layer_minimizer.toml", "Next: minimize", "lambda.tf"]
    assert sorted(listed(tmp_path)) == [
        "app.py",
        "lambda.tf",
        "layer/Makefile",
        "layer_minimizer.toml",
        "template.yaml",
    ]
    assert "Runtime: python3.13\n" in (tmp_path / "template.yaml").read_text()


# ---- names ----------------------------------------------------------------------------------------------------------


def test_names_of_settings_outputs_and_layers(project: Path) -> None:
    (project / "layer_minimizer.toml").rename(project / "prod.toml")
    more = 'output = "out/l.zip"\nfunction-zip = "out/f.zip"\nhandler = "predict"\nmemory = 512\n'
    (project / "prod.toml").write_text(
        f'{SETTINGS}{more}[layers.a]\n[layers.b]\nruntime = "python3.13"\npublish.name = "b_packages"\n'
    )
    with pytest.raises(UsageError, match=r"several layers: a, b; choose one with --layer"):
        run("sam", output="prod.toml")
    with pytest.raises(UsageError, match=r"--layer c: no such layer in prod.toml; it has a, b"):
        run("sam", output="prod.toml", layer="c")
    run("sam", "terraform", output="prod.toml", layer="b")
    text = (project / "layer/Makefile").read_text() + (project / "template.yaml").read_text()
    assert "minimize --config prod.toml --layer b --output out/l.zip --function-zip out/f.zip\n" in text
    assert "Handler: app.predict" in text
    assert "MemorySize: 512" in text
    assert "python3.13" in text
    assert 'function_name    = "b-packages"' in (project / "lambda.tf").read_text()


def test_the_table_of_a_pyproject(project: Path) -> None:
    (project / "layer_minimizer.toml").unlink()
    (project / "pyproject.toml").write_text(f"[tool.layer_minimizer]\n{SETTINGS}")
    run("sam")
    run("cdk", pyproject=True)
    assert "&& minimize --output" in (project / "layer/Makefile").read_text()
    assert not (project / "layer_minimizer.toml").exists()


@pytest.mark.parametrize(
    ("text", "name"),
    [("My thumbnails", "my-thumbnails"), ("2nd", "function-2nd"), ("a_größe", "a-gr-e"), ("é", "function")],
)
def test_a_name_that_aws_accepts(text: str, name: str) -> None:
    assert deployment._name(text) == name


# ---- errors ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", TARGETS)
def test_nothing_is_overwritten_and_nothing_is_half_written(project: Path, target: str) -> None:
    name = FILES[target][-1]
    (project / name).write_text("mine")
    before = listed(project)
    other = "docker" if target == "sam" else "sam"
    with pytest.raises(UsageError, match=f"^{re.escape(name)} already exists in .*; nothing is written"):
        run(other, target)
    assert listed(project) == before


def test_without_settings_either_if_a_file_exists(project: Path) -> None:
    (project / "layer_minimizer.toml").unlink()
    (project / "Dockerfile").symlink_to("absent")
    with pytest.raises(UsageError, match="Dockerfile already exists"):
        run("docker")
    assert not (project / "layer_minimizer.toml").exists()


def test_a_folder_that_is_a_file(project: Path) -> None:
    (project / "layer").write_text("mine")
    before = listed(project)
    with pytest.raises(UsageError, match=r"^layer already exists in .*; nothing is written"):
        run("docker", "sam")
    assert listed(project) == before


def test_files_of_which_one_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    files = [(tmp_path / name, "text") for name in ("a", "b/c/d", "file/e")]
    with pytest.raises(PackError, match=r"cannot write .*file/e: Not a directory; no file for --for was written"):
        deployment.write(files)
    assert listed(tmp_path) == {"file": "mine"}
    assert not (tmp_path / "b").exists()


@pytest.mark.parametrize(
    ("text", "message"), [(HANDLER, r"has no requirements\.txt"), ("print(1)\n", "has no function handler")]
)
def test_no_settings_without_the_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, message: str
) -> None:
    (tmp_path / "app.py").write_text(text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("layer_minimizer.cli.project._runtime", lambda _python: ("python3.13", ""))
    with pytest.raises(UsageError, match=message):
        run("docker", entry="app.py")
    assert listed(tmp_path) == {"app.py": text}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ('runtime = "python3.12"', r"layer_minimizer\.toml names no entry"),
        ('entry = "src/app.py"\nruntime = "provided.al2023"', r"provided\.al2023 has no Python to call the handler"),
        ('entry = "absent.py"', r"absent\.py: this file, the entry in .*, does not exist"),
        ('entry = "script.py"', r"script\.py has no function handler or lambda_handler"),
        ('entry = "a b.py"\nruntime = "python3.12"', r"'a b\.handler': .* cannot contain this name; rename it"),
        (f'{SETTINGS}output = "../x.zip"', r"x\.zip: --for writes files that use it, .* below"),
        (f'{SETTINGS}requirements = "../r.txt"', r"r\.txt: --for writes files that use it, .* below"),
        (f'{SETTINGS}event = ["../e.json"]', r"e\.json: --for writes files that use it, .* below"),
    ],
)
def test_what_cannot_be_deployed(project: Path, settings: str, message: str) -> None:
    for name, text in {"script.py": "print(1)\n", "a b.py": HANDLER}.items():
        (project / name).write_text(text)
    (project / "layer_minimizer.toml").write_text(settings)
    before = listed(project)
    with pytest.raises(UsageError, match=message):
        run("docker")
    assert listed(project) == before


def test_an_image_needs_requirements(project: Path) -> None:
    (project / "requirements.txt").unlink()
    with pytest.raises(UsageError, match=r"--for docker: .* has no requirements\.txt"):
        run("docker")
    assert run("sam")


def test_settings_that_make_no_zip(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"has format = 'image'; .* take the layer's zip"):
        described(tmp_path, {"format": "image"}, "sam")
    assert described(tmp_path, {"format": "layer"}, "sam")


def test_options_that_contradict_each_other(project: Path) -> None:
    with pytest.raises(UsageError, match=r"--entry src/app\.py: .*layer_minimizer\.toml exists, and names the entry"):
        run("sam", entry="src/app.py")
    with pytest.raises(UsageError, match=r"--layer a: no such layer in .*; it has none with a name"):
        run("sam", layer="a")
    (project / "layer_minimizer.toml").unlink()
    with pytest.raises(UsageError, match=r"--layer a: it selects a layer of existing settings, for --for"):
        run(layer="a")
    with pytest.raises(UsageError, match="must be one of sam, cdk, terraform, serverless, docker; did you mean 'sam'"):
        run("sams")


def test_other_layers_are_named(project: Path, caplog: pytest.LogCaptureFixture) -> None:
    more = 'base-layer = ["torch.zip"]\nprovided = ["numpy"]\n'
    (project / "layer_minimizer.toml").write_text(SETTINGS + more)
    run("sam")
    assert "also needs the layers with torch.zip, numpy" in caplog.text
