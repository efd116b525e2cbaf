"""The settings of a run: every option of the command and of `layer_minimizer.minimize`."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Self

from layer_minimizer.aws.runtimes import ARCHITECTURES, load_runtimes, python_of
from layer_minimizer.core.errors import UsageError
from layer_minimizer.core.option_declarations import Option, Options, declared, option
from layer_minimizer.core.option_kinds import (
    FLAG,
    INPUT_FILE,
    MINUTES,
    NAMES,
    OUTPUT_FILE,
    OUTPUT_FOLDER,
    PRICE,
    PROGRAM,
    RUNS,
    SECONDS,
    SIZE,
    TEXT,
    TOLERANCE,
    did_you_mean,
    one_of,
    whole_in,
)
from layer_minimizer.execution.engine import ENGINES
from layer_minimizer.execution.observed_run import DEFAULT_TIMEOUT
from layer_minimizer.layer.formats import Format
from layer_minimizer.layer.layout import Layout
from layer_minimizer.model.plan import Cold

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

# With this memory a function has one full vCPU: https://docs.aws.amazon.com/lambda/latest/dg/configuration-memory.html
DEFAULT_MEMORY = 1769
DEFAULT_TMP_SIZE = 512
DEFAULT_TOOL_IMAGE = "quay.io/pypa/manylinux2014_x86_64"
LOCAL = "local"
_RUNTIMES = list(load_runtimes())
_WITH_PYTHON = [name for name in _RUNTIMES if python_of(name)]
_OS_ONLY = ", ".join(name for name in _RUNTIMES if not python_of(name))
_RUNTIME, _ARCHITECTURE, _ENGINE = one_of(_RUNTIMES), one_of(ARCHITECTURES), one_of(ENGINES)
_MEMORY, _TMP_SIZE = whole_in(128, 10240, "MB", "Lambda's limits"), whole_in(512, 10240, "MB", "Lambda's limits")
# The groups of options in the help, in order.
WORKLOAD, CONTAINER, CONTENTS = "what must keep working", "in a container", "what goes into the layer"
FORMS, TARGET, RESULT = "Python code and shared libraries", "target runtime and verification", "results"
IMAGE = "a container image"
STAGES, SETTINGS_FILE, MESSAGES = "single stages", "settings file", "messages"
PUBLISHED, UPLOAD = "the layer version", "the upload"
GROUPS = (
    WORKLOAD,
    CONTAINER,
    CONTENTS,
    FORMS,
    TARGET,
    RESULT,
    IMAGE,
    STAGES,
    PUBLISHED,
    UPLOAD,
    SETTINGS_FILE,
    MESSAGES,
)


@dataclass(frozen=True, slots=True)
class Inputs(Options):
    """The workload: the user's code, and its events and models."""

    # fmt: off
    entry: str = option("", INPUT_FILE, "a Lambda handler, or a script", WORKLOAD, common=True, trace=True)
    handler: str = option("", TEXT, "the function to call; default: handler, else lambda_handler", WORKLOAD, metavar="NAME", trace=True, example='"predict"')
    events: tuple[str, ...] = option((), INPUT_FILE, "JSON, an event or a list; default: {}", WORKLOAD, name="event", repeat=True, common=True, trace=True, example='["event.json"]')
    models: tuple[str, ...] = option((), INPUT_FILE, "a file placed next to the entry", WORKLOAD, name="model", repeat=True, common=True, trace=True, example='["model.pkl"]', details="MODEL_PATH has the path of the first")
    traces: tuple[str, ...] = option((), INPUT_FILE, "saved traces, and logs of traced functions", STAGES, name="trace", repeat=True, several=True, trace=True, example='["production.log"]')


    # fmt: on


@dataclass(frozen=True, slots=True)
class Settings(Options):
    """How a layer is made. It has many fields because each of them is an option of the user.

    A value from Python, a settings file or the command line is converted and checked in the same way.
    """

    # fmt: off
    python: str = option("", PROGRAM, "whose packages are used; default: this one", WORKLOAD, common=True, trace=True, instead_of=("python_version",), example='".venv/bin/python"', details="with --lock or --requirements: for which they are installed", host_only=True)
    lock: str = option("", INPUT_FILE, "install what this lock has, with uv", WORKLOAD, common=True, trace=True, instead_of=("requirements", "image"), example='"uv.lock"', details="uv.lock, poetry.lock, pdm.lock or pylock.toml", host_only=True)
    requirements: str = option("", INPUT_FILE, "install these with uv, or pip in a container", WORKLOAD, common=True, trace=True, instead_of=("lock", "image"), example='"requirements.txt"', host_only=True)
    groups: tuple[str, ...] = option((), NAMES, "also a dependency group of the lock", WORKLOAD, name="group", metavar="NAME", repeat=True, trace=True, example='["production"]', details="default: none, not even dev", host_only=True)
    extras: tuple[str, ...] = option((), NAMES, "also an extra of the project", WORKLOAD, name="extra", metavar="NAME", repeat=True, trace=True, example='["images"]', host_only=True)
    package: str = option("", TEXT, "a member of uv's workspace, in place of its root", WORKLOAD, metavar="NAME", trace=True, host_only=True)
    python_version: str = option("", TEXT, "the Python to install them for", WORKLOAD, metavar="VERSION", common=True, trace=True, instead_of=("python",), example='"3.12"', details="default: --python, --runtime's, the project's, this one", host_only=True)
    platform: str = option("", TEXT, "the platform to install them for, also of the container: linux/arm64", WORKLOAD, metavar="NAME", trace=True, host_only=True)
    observe: str = option("auto", one_of(("auto", "probe", "strace")), "how the used files are observed", WORKLOAD, trace=True)
    timeout: float = option(DEFAULT_TIMEOUT, SECONDS, "limit of each run", WORKLOAD, trace=True, example="600")
    include: tuple[str, ...] = option((), TEXT, "keep these files too", CONTENTS, metavar="GLOB", repeat=True, common=True, example='["scipy/signal/**"]', details="below site-packages; * stays in a folder, ** does not")
    exclude: tuple[str, ...] = option((), TEXT, "never keep these files", CONTENTS, metavar="GLOB", repeat=True, common=True, example='["**/*.pyi"]')
    provided: tuple[str, ...] = option((), NAMES, "distributions that another layer contains", CONTENTS, metavar="DIST", repeat=True, several=True, trace=True, example='["torch"]')
    base_layers: tuple[str, ...] = option((), INPUT_FILE, "a layer that the function already has", CONTENTS, name="base-layer", metavar="ZIP|ARN", repeat=True, common=True, trace=True, example='["torch.zip"]', details="in the function's order; an ARN needs a version")
    closure: str = option("trace", one_of(("trace", "static")), "static: also what kept code could import", CONTENTS)
    licenses: str = option("keep", one_of(("keep", "drop")), "license texts and METADATA of what is in the layer", CONTENTS, example='"drop"', details="keep: as plain files; drop: leave out those that no event read")
    keep: tuple[str, ...] = option((), TEXT, "modules never to replace by stand-ins", FORMS, metavar="MODULE", repeat=True, trace=True, example='["scipy.stats"]')
    effort: float = option(5.0, MINUTES, "work of the search for unused imports", FORMS, trace=True, example="5", details="in minutes of an ordinary machine; 0: keep all of them")
    bytecode: str = option("auto", one_of(("auto", "only", "both", "source")), "the form of Python modules in the layer", FORMS, details="auto: packed bytecode, and sources that were read as text")
    smallest: bool = option(False, FLAG, "compress as much as possible", FORMS, example="true", details="takes longer, and starts slower; default: only as far as the size limit requires")
    strip_docstrings: bool = option(False, FLAG, "omit docstrings from the bytecode", FORMS, example="true")
    native: str = option("on", one_of(("on", "off")), "on: ship only the used pages of shared libraries", FORMS, trace=True, details="off: ship them whole")
    cold: Cold = option(Cold.KEEP, one_of(Cold), "files and pages that no event used", FORMS, common=True, example='"keep"', details="keep: compressed; drop: omitted; auto: keep what --max-size allows")
    gpu: str = option("drop", one_of(("drop", "keep")), "libraries and packages for a GPU", FORMS, example='"keep"', details="drop: only what the run used of them, and links to them; a use of more ends in an error; keep: as all others")
    snapstart: tuple[str, ...] = option((), INPUT_FILE, "logs of a deployed layer: what it restores before a snapshot", FORMS, metavar="LOG", repeat=True, example='["production.log"]', details="of a function with LAYER_MINIMIZER_LOG=1, for Lambda SnapStart")
    runtime_library: str = option("", INPUT_FILE, "this tool's runtime library for another architecture", FORMS)
    format: Format = option(Format.LAYER, one_of(Format), "what is written to --output", RESULT, common=True, example='"image"', details="layer: a zip for Lambda; folder: the same files, for COPY in a Dockerfile; image: a container image, a tar or (without .tar) an OCI image layout")
    base_image: str = option("", TEXT, "the image below the packages", CONTAINER, metavar="NAME", trace=True, example='"python:3.12-slim"', instead_of=("image",), host_only=True, details="default with --runner: Lambda's for --runtime; with --format image also the path of an OCI image layout or of a docker save tar, or scratch: this machine's Python")
    image_name: str = option("", TEXT, "name of the new image; default: the output's", IMAGE, metavar="NAME[:TAG]", example='"app:1.0"', host_only=True)
    image_user: str = option("", TEXT, "its user; default: the base's", IMAGE, metavar="USER", example='"1000"', host_only=True)
    image_env: tuple[str, ...] = option((), TEXT, "a variable for its containers", IMAGE, metavar="NAME=VALUE", repeat=True, example='["STAGE=test"]', host_only=True)
    image_label: tuple[str, ...] = option((), TEXT, "a label, also an annotation of the manifest", IMAGE, metavar="NAME=VALUE", repeat=True, example='["org.opencontainers.image.licenses=MIT"]', host_only=True)
    image_entrypoint: str = option("", TEXT, "its entry point; default: the base's", IMAGE, metavar="COMMAND", host_only=True)
    image_command: str = option("", TEXT, "its command; default: the handler for Lambda's images, else Python with the entry", IMAGE, metavar="COMMAND", host_only=True)
    runtime: str = option("", _RUNTIME, "check the layer against this runtime of Lambda", TARGET, metavar="PYTHON", common=True, trace=True, example='"python3.12"', details=f"{_WITH_PYTHON[-1]} to {_WITH_PYTHON[0]}, {_OS_ONLY}")
    architecture: str = option("", _ARCHITECTURE, "the function's; default: this machine's", TARGET, common=True, example='"arm64"')
    verify: str = option("local", one_of(("local", "lambda")), "lambda: also in emulated Lambda", TARGET, common=True, example='"lambda"', host_only=True)
    memory: int = option(DEFAULT_MEMORY, _MEMORY, "memory of the function in the emulated Lambda", TARGET, host_only=True)
    tmp_size: int = option(DEFAULT_TMP_SIZE, _TMP_SIZE, "size of /tmp in the emulated Lambda", TARGET, host_only=True)
    engine: str = option("", _ENGINE, "emulate Lambda in a container; default: namespaces", TARGET, host_only=True)
    verify_image: str = option("", TEXT, "image of that container; default: Lambda's own", TARGET, metavar="NAME", host_only=True)
    emulator: str = option("", INPUT_FILE, "aws-lambda-rie; default: found or downloaded", TARGET, host_only=True)
    layout: Layout = option(Layout.SITE, one_of(Layout), "site: python/lib/…/site-packages, flat: python/", RESULT, example='"site"')
    max_size: int | None = option(None, SIZE, "limit of the unzipped size; default: Lambda's", RESULT, common=True, example='"250MB"', details="262,144,000 bytes for all layers and the function")
    tolerance: float = option(0.0, TOLERANCE, "tolerance for numbers in results; default: exact", RESULT, example="1e-6")
    runs: int | None = option(None, RUNS, "runs that verify the layer; default: 1, or 10 if files or pages are dropped", RESULT, example="10")
    time_imports: bool = option(False, FLAG, "time imports before and after; implied by --report", RESULT)
    price_per_gb_second: float | None = option(None, PRICE, "for the cost of cold starts in the report; default: Lambda's", RESULT, example="0.0000166667", details="needs --report or --time-imports")
    # fmt: on

    @property
    def prefers_small(self) -> bool:
        """Whether the layer is to be as small as possible, rather than to start fast; whoever drops files wants that."""
        return self.smallest or self.cold is Cold.DROP


@dataclass(frozen=True, slots=True)
class ContainerOptions(Options):
    """Whether the tool runs in a container, and in which."""

    # fmt: off
    runner: str = option(LOCAL, one_of((LOCAL, *ENGINES)), "where this tool runs", CONTAINER, common=True, trace=True, example='"docker"', host_only=True)
    image: str = option("", TEXT, "an image with your packages", CONTAINER, metavar="NAME", trace=True, instead_of=("requirements", "lock", "base_image"), host_only=True)
    tool_image: str = option(DEFAULT_TOOL_IMAGE, TEXT, "image with a Python for this tool in /opt/python, used if the other image has none from 3.11 on", CONTAINER, metavar="NAME", trace=True, host_only=True)
    # fmt: on

    @property
    def local(self) -> bool:
        """Whether the tool runs on this machine, without a container."""
        return self.runner == LOCAL


@dataclass(frozen=True, slots=True)
class Outputs(Options):
    """The files that are written, and what is printed."""

    # fmt: off
    output: str = option("", OUTPUT_FILE, "the layer; default: layer.zip", RESULT, common=True, example='"layer.zip"')
    function_zip: str = option("", OUTPUT_FILE, "also write the function's own zip", RESULT, common=True, example='"function.zip"', details="entry, local modules, models")
    sbom: str = option("", OUTPUT_FILE, "write a software bill of materials (CycloneDX JSON)", RESULT, example='"sbom.json"')
    report: str = option("", OUTPUT_FOLDER, "write report.json and report.html there", RESULT, common=True, example='"report"')
    report_json: str = option("", OUTPUT_FILE, "also write the report's JSON there", RESULT)
    json: bool = option(False, FLAG, "print the report as JSON, and nothing else", RESULT, common=True)
    largest: int = option(8, RUNS, "how many of the largest distributions the text lists", RESULT, example="20")
    explain: str = option("", TEXT, "why a path, module or distribution is kept", RESULT, metavar="NAME", common=True, in_file=False)
    save_trace: str = option("", OUTPUT_FILE, "write the trace; without --output no layer is made", STAGES, trace=True)
    save_plan: str = option("", OUTPUT_FILE, "write the decision about each file, with its reason; without --output no layer is made", STAGES)
    plan: str = option("", INPUT_FILE, "with --explain: use a saved plan", STAGES, in_file=False)
    # fmt: on

    @property
    def makes_layer(self) -> bool:
        """Whether a layer is made, rather than an explanation or single stages."""
        return not (self.explain or self.plan or ((self.save_trace or self.save_plan) and not self.output))


@dataclass(frozen=True, slots=True)
class PublishOptions(Options):
    """The options of ``minimize publish``; the fields are the parameters of `publish.publish`."""

    # fmt: off
    archive: str = option("", INPUT_FILE, "the layer's zip", PUBLISHED, positional=True, required=True)
    name: str = option("", TEXT, "the layer's name, or its ARN without a version", PUBLISHED, metavar="NAME", required=True, example='"my-packages"')
    runtimes: tuple[str, ...] = option((), TEXT, "compatible runtime, e.g. python3.12", PUBLISHED, name="runtime", metavar="PYTHON", repeat=True, required=True, example='["python3.12"]')
    architectures: tuple[str, ...] = option((), _ARCHITECTURE, "compatible architecture", PUBLISHED, name="architecture", repeat=True)
    description: str = option("", TEXT, "description of the version", PUBLISHED, example='"..."')
    license_info: str = option("", TEXT, "license of the version, e.g. MIT", PUBLISHED, name="license", example='"MIT"')
    bucket: str = option("", TEXT, "S3 bucket for the upload of a zip over 50 MB", UPLOAD, metavar="NAME", example='"my-bucket"')
    key: str = option("", TEXT, "key of the object in the bucket; default: a unique one", UPLOAD, metavar="KEY")
    keep_object: bool = option(False, FLAG, "do not delete the object afterwards", UPLOAD)
    region: str = option("", TEXT, "AWS region; default: boto3's", UPLOAD, metavar="REGION", example='"eu-central-1"')
    profile: str = option("", TEXT, "profile in ~/.aws/config; default: boto3's", UPLOAD, metavar="NAME")
    dry_run: bool = option(False, FLAG, "only show what would be done", UPLOAD)
    json: bool = option(False, FLAG, "print the result as JSON, and nothing else", UPLOAD)


    # fmt: on


@dataclass(frozen=True, slots=True)
class FileOptions(Options):
    """Which settings file is read, and for which layers; only on the command line."""

    # fmt: off
    config: str | None = option(None, INPUT_FILE, "default: the nearest, in this or a parent folder", SETTINGS_FILE, common=True, trace=True, in_file=False, details="a layer_minimizer.toml, or a pyproject.toml with [tool.layer_minimizer]")
    no_config: bool = option(False, FLAG, "read no settings file", SETTINGS_FILE, trace=True, in_file=False, instead_of=("config",))
    layers: tuple[str, ...] = option((), TEXT, "of the settings file; default: all", SETTINGS_FILE, name="layer", metavar="NAME", repeat=True, common=True, trace=True, in_file=False)


    # fmt: on


@dataclass(frozen=True, slots=True)
class Messages(Options):
    """The messages on standard error."""

    # fmt: off
    quiet: bool = option(False, FLAG, "only errors on standard error", MESSAGES, short="-q", trace=True, instead_of=("verbose",))
    verbose: bool = option(False, FLAG, "more messages on standard error", MESSAGES, short="-v", trace=True, instead_of=("quiet",))
    color: str = option("auto", one_of(("auto", "always", "never")), "auto: on a terminal; NO_COLOR and FORCE_COLOR are respected", MESSAGES, trace=True)


    # fmt: on


@dataclass(frozen=True, slots=True)
class Request:
    """Everything that one run of ``minimize`` needs."""

    inputs: Inputs = field(default_factory=Inputs)
    settings: Settings = field(default_factory=Settings)
    container: ContainerOptions = field(default_factory=ContainerOptions)
    outputs: Outputs = field(default_factory=Outputs)
    messages: Messages = field(default_factory=Messages)

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Self:
        """Return the request with these values, by the options' keys."""
        return cls(
            Inputs.of(values),
            Settings.of(values),
            ContainerOptions.of(values),
            Outputs.of(values),
            Messages.of(values),
        )

    @property
    def parts(self) -> tuple[Options, ...]:
        """The options, in the order of `MAIN_PARTS`."""
        return (self.inputs, self.settings, self.container, self.outputs, self.messages)

    def items(self) -> Iterator[tuple[Option, Any]]:
        """Return all options and their values."""
        return (item for part in self.parts for item in part.items())

    @property
    def values(self) -> dict[str, Any]:
        """The values other than the defaults, by the options' keys; they can be stored as JSON and passed to `of`."""
        return {key: value for part in self.parts for key, value in part.values.items()}


MAIN_PARTS: tuple[type[Options], ...] = (Inputs, Settings, ContainerOptions, Outputs, Messages)
PUBLISH_PARTS: tuple[type[Options], ...] = (PublishOptions, Messages)


def choose(settings: Settings | None, options: Mapping[str, Any]) -> Settings:
    """Return ``settings`` with single fields replaced.

    Raises:
        UsageError: a value is not allowed, or a field does not exist.
    """
    known = {each.field for each in declared(Settings)}
    for name in options:
        if name not in known:
            raise UsageError(f"unknown option {name!r}{did_you_mean(name, known)}")
    return replace(settings or Settings(), **options)
