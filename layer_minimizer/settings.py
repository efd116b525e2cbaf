"""The settings of a run: every option of the command and of `layer_minimizer.minimize`."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Self

from layer_minimizer.aws.runtimes import ARCHITECTURES, load_runtimes
from layer_minimizer.core.errors import UsageError
from layer_minimizer.core.option_declarations import Option, Options, declared, option
from layer_minimizer.core.option_kinds import (
    FLAG,
    INPUT_FILE,
    MINUTES,
    NAMES,
    OUTPUT_FILE,
    OUTPUT_FOLDER,
    PROGRAM,
    RUNS,
    SECONDS,
    SIZE,
    TEXT,
    TOLERANCE,
    nearest,
    one_of,
    whole_in,
)
from layer_minimizer.execution.engine import ENGINES
from layer_minimizer.execution.observed_run import DEFAULT_TIMEOUT
from layer_minimizer.layer.layout import Layout
from layer_minimizer.model.plan import Cold
from layer_minimizer.pack.budget import Budget

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

# With so much memory a function has one whole processor: https://docs.aws.amazon.com/lambda/latest/dg/configuration-memory.html
DEFAULT_MEMORY = 1769
DEFAULT_TMP_SIZE = 512
DEFAULT_TOOL_IMAGE = "quay.io/pypa/manylinux2014_x86_64"
LOCAL = "local"
_RUNTIMES = list(load_runtimes())
_RUNTIME, _ARCHITECTURE, _ENGINE = one_of(_RUNTIMES), one_of(ARCHITECTURES), one_of(ENGINES)
_MEMORY, _TMP_SIZE = whole_in(128, 10240, "MB", "as Lambda gives"), whole_in(512, 10240, "MB", "as Lambda gives")
# The groups of the help, in their order.
WORKLOAD, CONTAINER, CONTENTS = "what must keep working", "in a container", "what goes into the layer"
FORMS, TARGET, RESULT = "Python code and shared libraries", "where the layer is to work", "what comes out"
STAGES, SETTINGS_FILE, MESSAGES = "single stages", "settings file", "messages"
PUBLISHED, UPLOAD = "the layer version", "the upload"
GROUPS = (WORKLOAD, CONTAINER, CONTENTS, FORMS, TARGET, RESULT, STAGES, PUBLISHED, UPLOAD, SETTINGS_FILE, MESSAGES)


@dataclass(frozen=True, slots=True)
class Inputs(Options):
    """What must keep working: the user's code, and what it is run with."""

    # fmt: off
    entry: str = option("", INPUT_FILE, "a Lambda handler, or a script", WORKLOAD, common=True, trace=True)
    handler: str = option("", TEXT, "the function to call; default: handler, else lambda_handler", WORKLOAD, metavar="NAME", trace=True, example='"predict"')
    events: tuple[str, ...] = option((), INPUT_FILE, "JSON, an event or a list; default: {}", WORKLOAD, name="event", repeat=True, common=True, trace=True, example='["event.json"]')
    models: tuple[str, ...] = option((), INPUT_FILE, "a file beside the entry while it runs", WORKLOAD, name="model", repeat=True, common=True, trace=True, example='["model.pkl"]', details="the path of the first is in MODEL_PATH")
    traces: tuple[str, ...] = option((), INPUT_FILE, "saved traces, and logs of traced functions", STAGES, name="trace", repeat=True, several=True, trace=True, example='["production.log"]')


    # fmt: on


@dataclass(frozen=True, slots=True)
class Settings(Options):
    """How a layer is made. It has many fields because each of them is an option of the user's.

    Whatever a value comes from (Python, a settings file, the command line) it is converted or refused alike.
    """

    # fmt: off
    python: str = option("", PROGRAM, "whose packages are minimized; default: this one", WORKLOAD, common=True, trace=True, example='".venv/bin/python"', outside=True)
    observe: str = option("auto", one_of(("auto", "probe", "strace")), "how the files that the entry uses are observed", WORKLOAD, trace=True)
    timeout: float = option(DEFAULT_TIMEOUT, SECONDS, "seconds for each run", WORKLOAD, trace=True, example="600")
    include: tuple[str, ...] = option((), TEXT, "keep these files too", CONTENTS, metavar="GLOB", repeat=True, common=True, example='["scipy/signal/**"]', details="below site-packages; * stays in a folder, ** does not")
    exclude: tuple[str, ...] = option((), TEXT, "never keep these files", CONTENTS, metavar="GLOB", repeat=True, common=True, example='["**/*.pyi"]')
    provided: tuple[str, ...] = option((), NAMES, "distributions that another layer has", CONTENTS, metavar="DIST", repeat=True, several=True, trace=True, example='["torch"]')
    base_layers: tuple[str, ...] = option((), INPUT_FILE, "a layer below this one", CONTENTS, name="base-layer", metavar="ZIP|ARN", repeat=True, common=True, trace=True, example='["torch.zip"]', details="in the function's order; an ARN with a version")
    closure: str = option("trace", one_of(("trace", "static")), "static: also what kept code could import", CONTENTS)
    keep: tuple[str, ...] = option((), TEXT, "modules to keep as they are, without stand-ins", FORMS, metavar="MODULE", repeat=True, trace=True, example='["scipy.stats"]')
    effort: float = option(5.0, MINUTES, "minutes to search for unused imports", FORMS, trace=True, example="5", details="0: keep all of them")
    bytecode: str = option("auto", one_of(("auto", "only", "both", "source")), "what modules are shipped as", FORMS, details="auto: compressed bytecode, and sources whose text was read")
    strip_docstrings: bool = option(False, FLAG, "leave docstrings out of the bytecode", FORMS, common=True, example="true")
    native: str = option("on", one_of(("on", "off")), "on: ship the pages of shared libraries that are in use", FORMS, trace=True, details="off: ship them whole")
    cold: Cold = option(Cold.KEEP, one_of(Cold), "files and pages that no event used", FORMS, common=True, example='"keep"', details="keep: compressed; drop: leave out; auto: keep what --max-size allows")
    runtime_library: str = option("", INPUT_FILE, "the runtime for another architecture", FORMS)
    runtime: str = option("", _RUNTIME, "check the layer against this runtime of Lambda", TARGET, metavar="PYTHON", common=True, trace=True, example='"python3.12"', details=f"{_RUNTIMES[-1]} to {_RUNTIMES[0]}")
    architecture: str = option("", _ARCHITECTURE, "of the function; default: this machine's", TARGET, common=True, example='"arm64"')
    verify: str = option("local", one_of(("local", "lambda")), "lambda: emulate Lambda, too", TARGET, common=True, example='"lambda"', outside=True)
    memory: int = option(DEFAULT_MEMORY, _MEMORY, "of the function in an emulated Lambda", TARGET, outside=True)
    tmp_size: int = option(DEFAULT_TMP_SIZE, _TMP_SIZE, "of /tmp in an emulated Lambda", TARGET, outside=True)
    engine: str = option("", _ENGINE, "emulate Lambda in a container; default: namespaces", TARGET, outside=True)
    verify_image: str = option("", TEXT, "of that container; default: Lambda's own", TARGET, metavar="NAME", outside=True)
    emulator: str = option("", INPUT_FILE, "aws-lambda-rie; default: found, or fetched", TARGET, outside=True)
    layout: Layout = option(Layout.SITE, one_of(Layout), "site: python/lib/…/site-packages, flat: python/", RESULT, example='"site"')
    max_size: int | None = option(None, SIZE, "limit of the unzipped size; default: Lambda's", RESULT, common=True, example='"250MB"', details="which is 262,144,000 bytes, for all layers and the function")
    tolerance: float = option(0.0, TOLERANCE, "for numbers in results; default: exact", RESULT, example="1e-6")
    runs: int | None = option(None, RUNS, "runs that verify the layer; default: 1, or 10 without a way back", RESULT, example="10")
    time_imports: bool = option(False, FLAG, "time imports before and after; --report does so, too", RESULT)
    # fmt: on

    @property
    def budget(self) -> Budget:
        """How large the layer may be."""
        return Budget() if self.max_size is None else Budget(self.max_size, chosen=True)


@dataclass(frozen=True, slots=True)
class ContainerOptions(Options):
    """Where the tool itself runs."""

    # fmt: off
    runner: str = option(LOCAL, one_of((LOCAL, *ENGINES)), "where to do all this", CONTAINER, common=True, trace=True, example='"docker"', outside=True)
    requirements: str = option("", INPUT_FILE, "what pip installs in the container", CONTAINER, common=True, trace=True, instead_of=("image",), example='"requirements.txt"', outside=True)
    image: str = option("", TEXT, "an image that has your packages", CONTAINER, metavar="NAME", trace=True, instead_of=("requirements", "base_image"), outside=True)
    base_image: str = option("", TEXT, "to install them on; default: Lambda's of --runtime", CONTAINER, metavar="NAME", trace=True, instead_of=("image",), outside=True)
    platform: str = option("", TEXT, "of the container, for instance linux/arm64", CONTAINER, metavar="NAME", trace=True, outside=True)
    tool_image: str = option(DEFAULT_TOOL_IMAGE, TEXT, "whose /opt/python this tool runs on where the image's Python is older than 3.11", CONTAINER, metavar="NAME", trace=True, outside=True)
    # fmt: on

    @property
    def local(self) -> bool:
        """Whether there is no container."""
        return self.runner == LOCAL


@dataclass(frozen=True, slots=True)
class Outputs(Options):
    """What is written and answered."""

    # fmt: off
    output: str = option("", OUTPUT_FILE, "the layer; default: layer.zip", RESULT, common=True, example='"layer.zip"')
    function_zip: str = option("", OUTPUT_FILE, "also write the function's own zip", RESULT, common=True, example='"function.zip"', details="entry, local modules, models")
    report: str = option("", OUTPUT_FOLDER, "write report.json and report.html there", RESULT, common=True, example='"report"')
    report_json: str = option("", OUTPUT_FILE, "also write the report's JSON there", RESULT)
    json: bool = option(False, FLAG, "print the report as JSON, and nothing else", RESULT, common=True)
    explain: str = option("", TEXT, "why a path, module or distribution is there", RESULT, metavar="NAME", common=True, in_file=False)
    save_trace: str = option("", OUTPUT_FILE, "write the trace; without --output no layer is made", STAGES, trace=True)
    save_plan: str = option("", OUTPUT_FILE, "write what becomes of each file, and why; without --output no layer is made", STAGES)
    plan: str = option("", INPUT_FILE, "with --explain: ask a saved plan", STAGES, in_file=False)
    # fmt: on

    @property
    def makes_layer(self) -> bool:
        """Whether a layer is wanted, and not an answer or single stages."""
        return not (self.explain or self.plan or ((self.save_trace or self.save_plan) and not self.output))


@dataclass(frozen=True, slots=True)
class PublishOptions(Options):
    """What ``minimize publish`` does, by the names that `publish.publish` has for it."""

    # fmt: off
    archive: str = option("", INPUT_FILE, "the layer's zip", PUBLISHED, positional=True, required=True)
    name: str = option("", TEXT, "of the layer, or its ARN without a version", PUBLISHED, metavar="NAME", required=True, example='"my-packages"')
    runtimes: tuple[str, ...] = option((), TEXT, "that the layer is for: python3.12", PUBLISHED, name="runtime", metavar="PYTHON", repeat=True, required=True, example='["python3.12"]')
    architectures: tuple[str, ...] = option((), _ARCHITECTURE, "that the layer is for", PUBLISHED, name="architecture", repeat=True)
    description: str = option("", TEXT, "of the version", PUBLISHED, example='"..."')
    license_info: str = option("", TEXT, "for instance MIT", PUBLISHED, name="license", example='"MIT"')
    bucket: str = option("", TEXT, "in S3, through which a zip over 50 MB is sent", UPLOAD, metavar="NAME", example='"my-bucket"')
    key: str = option("", TEXT, "of the object in it; default: a name of its own", UPLOAD, metavar="KEY")
    keep_object: bool = option(False, FLAG, "do not delete the object afterwards", UPLOAD)
    region: str = option("", TEXT, "default: boto3's", UPLOAD, metavar="REGION", example='"eu-central-1"')
    profile: str = option("", TEXT, "of ~/.aws/config; default: boto3's", UPLOAD, metavar="NAME")
    dry_run: bool = option(False, FLAG, "only say what would be done", UPLOAD)
    json: bool = option(False, FLAG, "print the result as JSON, and nothing else", UPLOAD)


    # fmt: on


@dataclass(frozen=True, slots=True)
class FileOptions(Options):
    """Which settings count; only the command line can say so."""

    # fmt: off
    config: str | None = option(None, INPUT_FILE, "this one; default: the nearest, here or above", SETTINGS_FILE, common=True, trace=True, in_file=False, details="a layer_minimizer.toml, or a pyproject.toml with [tool.layer_minimizer]")
    no_config: bool = option(False, FLAG, "read no settings file", SETTINGS_FILE, trace=True, in_file=False, instead_of=("config",))
    layers: tuple[str, ...] = option((), TEXT, "one of its layers; default: all", SETTINGS_FILE, name="layer", metavar="NAME", repeat=True, common=True, trace=True, in_file=False)


    # fmt: on


@dataclass(frozen=True, slots=True)
class Messages(Options):
    """What the command says on standard error, and how."""

    # fmt: off
    quiet: bool = option(False, FLAG, "only errors on standard error", MESSAGES, short="-q", trace=True, instead_of=("verbose",))
    verbose: bool = option(False, FLAG, "more on standard error", MESSAGES, short="-v", trace=True, instead_of=("quiet",))
    color: str = option("auto", one_of(("auto", "always", "never")), "on a terminal, and as NO_COLOR and FORCE_COLOR say", MESSAGES, trace=True)


    # fmt: on


@dataclass(frozen=True, slots=True)
class Request:
    """All that one run of ``minimize`` is to do."""

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
        """The options, in the order of `MAIN`."""
        return (self.inputs, self.settings, self.container, self.outputs, self.messages)

    def items(self) -> Iterator[tuple[Option, Any]]:
        """Return all options and their values."""
        return (item for part in self.parts for item in part.items())

    @property
    def values(self) -> dict[str, Any]:
        """The values that are not the defaults, by the options' keys; JSON can have them, and `of` takes them again."""
        return {key: value for part in self.parts for key, value in part.values.items()}


MAIN_PARTS: tuple[type[Options], ...] = (Inputs, Settings, ContainerOptions, Outputs, Messages)
PUBLISH_PARTS: tuple[type[Options], ...] = (PublishOptions, Messages)


def choose(settings: Settings | None, options: Mapping[str, Any]) -> Settings:
    """Return ``settings`` with single fields replaced.

    Raises:
        UsageError: a field has a value that it cannot have, or there is no such field.
    """
    known = {each.field for each in declared(Settings)}
    for name in options:
        if name not in known:
            raise UsageError(f"{name}: there is no such option{nearest(name, known)}")
    return replace(settings or Settings(), **options)
