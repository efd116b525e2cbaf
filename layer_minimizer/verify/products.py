"""What is written to the output: the layer's zip, a folder with its files, or a container image that was verified.

In every format the layer is made and verified first. What is made of it is written to the temporary name of the output.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import date
from typing import TYPE_CHECKING, Protocol

from packaging.version import Version

from layer_minimizer.analysis.handler_names import handler_name
from layer_minimizer.aws.limits import LAMBDA_IMAGE_BYTES, LAMBDA_LAYERS
from layer_minimizer.aws.runtimes import ARCHITECTURES, Runtime
from layer_minimizer.core.errors import PackError, UsageError
from layer_minimizer.core.files import check_output, scratch_errors
from layer_minimizer.core.output_folder import check_output_folder, mark_folder
from layer_minimizer.environment.interpreter import describe_interpreter
from layer_minimizer.execution.engine import Engine
from layer_minimizer.layer.archive import unzip
from layer_minimizer.layer.formats import Format
from layer_minimizer.pack import budget
from layer_minimizer.pack.base_image import BaseImage, choose_base_image, libraries_in
from layer_minimizer.pack.budget import Budget
from layer_minimizer.pack.image import ImageContents, ImageOptions, make_image
from layer_minimizer.plan.compatibility import Target
from layer_minimizer.verify.image import ImageProof, prove_image

if TYPE_CHECKING:
    from pathlib import Path

    from layer_minimizer.core.workspace import Workspace
    from layer_minimizer.model.image import ImageArchive
    from layer_minimizer.model.interpreter import Interpreter
    from layer_minimizer.model.outcome import FunctionArchive, LayerArchive
    from layer_minimizer.model.trace import Trace
    from layer_minimizer.pack.budget import ReservedBytes
    from layer_minimizer.pack.function import PackedFunction
    from layer_minimizer.settings import Settings

_IMAGE_OPTIONS = ("image_name", "image_user", "image_env", "image_label", "image_entrypoint", "image_command")
# The newest version of every family of symbols: whether a library loads in an image is seen when the image is run.
_ANY_VERSION = {family: Version("999") for family in ("GLIBC", "GLIBCXX", "CXXABI", "GCC")}


@dataclass(frozen=True, slots=True)
class Written:
    """What was written: path, digest and sizes of the packages, and the image that contains them, if it is one."""

    archive: LayerArchive
    image: ImageArchive | None = None


@dataclass(frozen=True, slots=True)
class Verified:
    """What a product is made of: the zips of the verified layer and of the function, and the traced workload."""

    layer: LayerArchive
    function: PackedFunction | None
    trace: Trace


class Product(Protocol):
    """A format of the output."""

    @property
    def is_zip(self) -> bool:
        """Whether the output is the layer's zip as it is."""

    @property
    def with_function(self) -> bool:
        """Whether the function is a part of the output."""

    def check(self, output: Path) -> None:
        """Check before any work begins that the output can be written.

        Raises:
            MinimizeError: it cannot, or an option does not fit the format.
        """

    def prepare(self, workspace: Workspace, python: str, /) -> Product:
        """Return the product with everything that it needs besides the packages, read before the workload runs.

        ``python`` is the interpreter whose packages are used.

        Raises:
            MinimizeError: something is missing, or does not fit the packages.
        """

    def target(self, interpreter: Interpreter, /) -> Target | None:
        """Return the platform that shared libraries are checked against, if the format has one of its own."""

    def write(self, verified: Verified, workspace: Workspace, /) -> Written:
        """Write the output under its temporary name.

        Raises:
            MinimizeError: it cannot be written or, if it is run again, does not give the expected results.
        """


def choose_product(settings: Settings, output: Path) -> Product:
    """Return the product of the format in the settings.

    Raises:
        UsageError: an option does not fit the format.
    """
    if settings.format is Format.IMAGE:
        return ImageProduct(settings, output, ImageOptions.of(settings, output))
    for name in _IMAGE_OPTIONS:
        if getattr(settings, name):
            raise UsageError(f"--{name.replace('_', '-')} requires --format image")
    if settings.format is Format.FOLDER:
        return FolderProduct()
    if len(settings.base_layers) >= LAMBDA_LAYERS:
        raise UsageError(
            f"a function in AWS Lambda has at most {LAMBDA_LAYERS} layers, this one included: name at most "
            f"{LAMBDA_LAYERS - 1} with --base-layer"
        )
    return LayerProduct()


def size_warnings(
    settings: Settings, written: Written, function: FunctionArchive | None, reserved: ReservedBytes
) -> tuple[str, ...]:
    """Return warnings about what is too large for Lambda: the zips for an upload, or everything for the limit."""
    if written.image:
        unpacked = sum(part.unpacked_bytes for part in written.image.parts)
        too_large = f"{unpacked:,} bytes unpacked exceed the {LAMBDA_IMAGE_BYTES:,} of an image in AWS Lambda"
        return (too_large,) if unpacked > LAMBDA_IMAGE_BYTES else ()
    own = budget.upload_warnings(written.archive) if settings.format is Format.LAYER else ()
    return (*own, *budget.function_warnings(Budget.of(settings), written.archive, function, reserved))


# ---- a layer ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class LayerProduct:
    """The zip of a layer."""

    is_zip: bool = True
    with_function: bool = False

    def check(self, output: Path) -> None:
        """Check that the file can be written."""
        check_output(output)

    def prepare(self, _workspace: Workspace, _python: str) -> LayerProduct:
        """Return the same: it needs nothing else."""
        return self

    def target(self, _interpreter: Interpreter) -> None:
        """Return None: the runtime is an option."""

    def write(self, verified: Verified, _workspace: Workspace) -> Written:
        """Return the layer, which is there already."""
        return Written(verified.layer)


# ---- a folder -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class FolderProduct:
    """The files of a layer in a folder."""

    is_zip: bool = False
    with_function: bool = False

    def check(self, output: Path) -> None:
        """Check that the folder can be written, and that nobody's files are replaced."""
        check_output_folder(output)

    def prepare(self, _workspace: Workspace, _python: str) -> FolderProduct:
        """Return the same: it needs nothing else."""
        return self

    def target(self, _interpreter: Interpreter) -> None:
        """Return None: the runtime is an option."""

    def write(self, verified: Verified, workspace: Workspace) -> Written:
        """Unpack the layer."""
        part = workspace.output
        try:
            part.mkdir()
            unzip(verified.layer.path, part)
            _set_modes(part)
            digest = mark_folder(part)
        except OSError as exc:
            raise PackError(
                f"cannot write {part.parent}/: {exc.strerror}; make room or choose another --output"
            ) from exc
        return Written(replace(verified.layer, path=part, sha256=digest, zipped_bytes=0))


def _set_modes(folder: Path) -> None:
    """Make folders readable for all users, whatever the umask is, as they are in a zip."""
    for path in (folder, *folder.rglob("*")):
        if path.is_dir() and not path.is_symlink():
            path.chmod(0o755)


# ---- an image -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ImageProduct:
    """A container image: an OCI image layout, as a tar or a folder.

    Attributes:
        settings: the options.
        output: the path of the output.
        options: how its containers are started.
        base: the base image, once it was read.
        is_zip: False.
        with_function: True.
    """

    settings: Settings
    output: Path
    options: ImageOptions
    base: BaseImage | None = None
    is_zip: bool = field(default=False, init=False)
    with_function: bool = field(default=True, init=False)

    @property
    def _is_folder(self) -> bool:
        return self.output.suffix != ".tar"

    def check(self, output: Path) -> None:
        """Check that the output can be written, and the options that an image has or cannot have."""
        settings = self.settings
        if not settings.base_image:
            raise UsageError(
                "--format image requires --base-image: the name of an image, the path of an OCI image layout or of a "
                "docker save tar, or scratch for this machine's Python"
            )
        if settings.base_layers:
            raise UsageError("--base-layer does not fit --format image: a function that is an image has no layers")
        if settings.engine:
            Engine.find(settings.engine)
        if self._is_folder:
            check_output_folder(output)
        else:
            check_output(output)

    def prepare(self, workspace: Workspace, python: str) -> ImageProduct:
        """Read or fetch the base image, and check that it fits the packages."""
        settings = self.settings
        with workspace.clock.stage("pack", f"reading the base image {settings.base_image}"):
            base = choose_base_image(
                settings.base_image, describe_interpreter(python), workspace.scratch / "base-image"
            )
        return replace(self, base=base)

    def target(self, interpreter: Interpreter) -> Target | None:
        """Return what the base image has, unless a runtime of Lambda is named."""
        if self.settings.runtime or self.base is None:
            return None
        runtime = Runtime(
            name="the base image",
            python=None,
            system=self.settings.base_image,
            versions=_ANY_VERSION,
            provides=frozenset(libraries_in(self.base)),
            architectures=tuple(ARCHITECTURES),
            deprecated=date.max,
        )
        return Target(runtime, interpreter.machine, (interpreter.version[0], interpreter.version[1]))

    def write(self, verified: Verified, workspace: Workspace) -> Written:
        """Make the image, run it, and write it."""
        if self.base is None or verified.function is None:
            raise PackError("the image has no base or no function")  # `prepare` was not called
        trace, scratch = verified.trace, workspace.scratch / "image"
        with workspace.clock.stage("pack", f"making the image {self.options.tag}"):
            contents = self._contents(verified, scratch / "opt")
            made = make_image(self.base, contents, self.options, scratch / "layers")
        proof = ImageProof(trace, self.settings.timeout, self.settings.tolerance, self.settings.engine)
        with workspace.clock.stage("verify", f"running {trace.workload.entry.name} in a container of the image"):
            proved = prove_image(made, proof, scratch / "proof")
        with workspace.clock.stage("pack", f"writing {self.output.name}"):
            image = made.write(workspace.output, self.options.tag, folder=self._is_folder)
            if self._is_folder:
                mark_folder(workspace.output)
        image = replace(image, path=self.output, verified=proved.where, seconds=proved.seconds)
        packages = next(part for part in image.parts if part.name == "packages")
        digest = image.digest.removeprefix("sha256:")
        return Written(replace(verified.layer, path=self.output, sha256=digest, zipped_bytes=packages.bytes), image)

    def _contents(self, verified: Verified, layer: Path) -> ImageContents:
        trace = verified.trace
        workload = trace.workload
        if verified.function is None or self.base is None:
            raise PackError("the image has no base or no function")
        if self.base.for_lambda and trace.kind == "script" and not self.options.command:
            raise PackError(
                f"{workload.entry.name} is a script, and the base image is Lambda's, which starts a handler: define a "
                "handler, use another base image, or name the command with --image-command"
            )
        with scratch_errors(PackError, f"cannot unpack the layer into {layer}"):
            unzip(verified.layer.path, layer)
        return ImageContents(
            layer=layer,
            function=verified.function.workload.entry.parent,
            site=self.settings.layout.prefix(trace.python),
            entry=workload.entry.name,
            handler=workload.handler or handler_name(workload.entry),
            model=workload.models[0].name if workload.models else "",
        )
