"""Which test runs each command of the documentation, or why no test runs it.

A walk is a test with ``@walks(file, beginning, ...)``. For each beginning, ``shown`` has the code block or inline code
of that file that starts with it, in this order. For a second file the test has a second ``@walks`` below
the first one. The text is read from the file when the test runs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from . import documents

if TYPE_CHECKING:
    from collections.abc import Callable

    from .documents import Shown


@dataclass(frozen=True)
class Claim:
    """The code block or inline code in a file of the documentation that starts with ``beginning``."""

    file: str
    beginning: str

    def fits(self, shown: Shown) -> bool:
        """Return whether the claim is for this code."""
        return shown.file == self.file and shown.text.startswith(self.beginning)

    def find(self) -> Shown:
        """Return the claimed block, else the inline code, which may occur several times."""
        for found in (documents.blocks(), documents.spans()):
            fitting = [shown for shown in found if self.fits(shown)]
            # An exact match has priority: --help is not --help-all.
            fitting = [shown for shown in fitting if shown.text == self.beginning] or fitting
            if len({shown.text for shown in fitting}) == 1:
                return fitting[0]
            if fitting:
                listed = "\n".join(map(str, fitting))
                raise LookupError(f"several blocks begin with {self.beginning!r}:\n{listed}")
        raise LookupError(f"nothing in {self.file} begins with {self.beginning!r}")


WALKS: list[Claim] = []


def walks(file: str, *beginnings: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Declare that a test runs the code of a file with these beginnings, in this order."""

    def claim(test: Callable[..., None]) -> Callable[..., None]:
        made = [Claim(file, beginning) for beginning in beginnings]
        WALKS.extend(made)
        test.claims = [*made, *getattr(test, "claims", ())]  # type: ignore[attr-defined]
        return test

    return claim


_FILE = "tests/system/examples/test_examples.py"
_EXAMPLES = f"{_FILE}::test_example_gives_the_expected_layer"
_WHOLE = f"{_FILE}::test_all_of_fastai_and_torch_is_refused_by_lambdas_limit_and_fits_a_larger_one"
_TWO = f"{_FILE}::test_a_layer_for_a_function_that_has_torch_from_another"

_FASTAI_V1 = "tests/integration/container/test_dockerfiles.py::test_fastai_v1"

_DEPLOYMENT = "tests/integration/cli/test_deployment.py"

_WHEEL = "layer_minimizer-0.2.0-py3-none-manylinux_2_17_x86_64.whl"
_PACKAGING = "tests/system/wheel/test_packaging.py"
_BY_UV = f"{_PACKAGING}::test_uv_runs_it_without_an_installation"
_FROM_SOURCE = "tests/system/wheel/test_from_source.py"

# Whole commands without comments, and the test that runs them, possibly with other arguments.
ELSEWHERE = {
    "./examples/quickstart/run.sh": _EXAMPLES,
    "./examples/fastai_vision/run.sh": _EXAMPLES,
    "./examples/fastai_v1_vision/run.sh": _EXAMPLES,
    "./examples/fastai_v1_two_layers/run.sh": _EXAMPLES,
    "./examples/fastai_vision/run.sh --max-size 1GB": _WHOLE,
    "./examples/fastai_vision/run.sh --cold drop": _WHOLE,
    "./examples/fastai_vision/run.sh --without-torch": _TWO,
    "./examples/fastai_v1_vision/run.sh --max-size 2GB": _WHOLE,
    "docker build -f docker/fastai_v1/Dockerfile -t minimizer-fastai-v1 .": _FASTAI_V1,
    'docker run --name run -v "$PWD/examples/fastai_v1_vision/out":/function:ro minimizer-fastai-v1 '
    "--entry /function/task/predict.py --model /function/export.pkl --provided torch "
    "--output /layer_minimizer/layer.zip": _FASTAI_V1,
    "docker cp run:/layer_minimizer/layer.zip .": _FASTAI_V1,
    "sam build --no-cached && sam deploy --guided": f"{_DEPLOYMENT}::test_sam_builds_and_uploads_the_verified_zips",
    "terraform init && terraform apply": f"{_DEPLOYMENT}::test_terraform_applies_the_verified_zips",
    "docker rm run": _FASTAI_V1,
    "python3 -m venv ~/minimizer": "tests/system/docs/test_walks.py::test_install",
    "~/minimizer/bin/pip install .": "tests/system/docs/test_walks.py::test_install",
    f"~/minimizer/bin/pip install {_WHEEL}": f"{_PACKAGING}::test_wheel_compacts_the_libraries_of_the_quickstart",
    f"uvx --from {_WHEEL} minimize --version": _BY_UV,
    "python -m layer_minimizer": f"{_PACKAGING}::test_command_has_the_name_of_the_distribution_too",
    "LAYER_MINIMIZER_NATIVE=off ~/minimizer/bin/pip install .": (
        f"{_FROM_SOURCE}::test_without_native_libraries_a_run_says_what_is_missing"
    ),
}

# Whole commands, and why no test runs them.
NOT_RUN = {
    "./tests/run.sh": "it is what runs this test",
    './tests/run.sh -m "not example"': "it is what runs this test; the arguments are passed on to pytest",
    "./tests/run.sh --all": "it is what runs this test",
    "pip install --editable '.[dev]'": "the environment of the tests has it; another test checks that the extra exists",
    "pytest tests/unit": "it would run tests from within a test",
    "pytest tests/unit/plan": "it would run tests from within a test",
    "pytest -k planner": "it would run tests from within a test",
    'pytest -m "not case and not example"': "it would run tests from within a test",
    "pip install 'layer_minimizer[lambda]'": "there is no release yet; another test checks that the extra exists",
    "pip install '.[aws]'": "the walk that publishes runs it with the tool's own pip",
    "pip install '.[uv]'": "the environment of the tests has uv; another test checks that the extra exists",
    "pyenv install 3.6.15": "it changes the machine, and compiles for minutes",
    "systemctl start docker": "it changes the machine",
    "docker image rm": "a name without an argument; tests remove their images with it",
    "docker image prune": "it would remove images that are not the tests'",
    "docker system prune": "it would remove images that are not the tests'",
    "docker does not answer; is its daemon running?": "a message",
    "docker build": "a name without an argument; the test of the Dockerfile runs it",
    "pip wheel": "a name without an argument",
    "pip freeze": "a name without an argument",
    "./.packaging/release.sh dist": "it makes the wheels before the tests begin",
    f"pipx run --spec {_WHEEL} minimize --version": "the environment of the tests has no pipx; uv's command is run",
    "minimize --version": "tests of the command run it",
}

# Beginnings of blocks that are not commands: output, and excerpts of files.
SAMPLES = {
    "only in tuesday.trace: ": "printed by the walk with tuesday.trace, which compares it",
    '{"format": 1,': "the report: its names are compared with those of a real report",
    '{"arn", "version", ': "the output of publish --json: its names are compared with real output",
    "Verified in emulated Lambda": "printed with --verify lambda; tests/integration/verify compares it",
    "Cost: init ": "printed where imports are timed; tests/unit/report/test_report.py compares its form",
    "6.5 MB → 7.1 MB unzipped": "printed by the walk with diff, which compares it",
    "# Load the model\n": "an excerpt of predict.py, which is compared",
    '{"label": "circle", ': "what the example's handler returns",
    "layer_minimizer/\n": "the folders of the package, which are compared with the existing ones",
    "cli\ncontainer | pipeline\n": "the import contract, which is compared with pyproject.toml",
}
