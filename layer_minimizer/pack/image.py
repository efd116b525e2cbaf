"""Makes a container image: a base image, above it a layer with the packages and one with the function."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from layer_minimizer.core.errors import UsageError
from layer_minimizer.layer import layout, oci
from layer_minimizer.layer.root_files import RootFiles
from layer_minimizer.model.image import Image, ImageArchive, ImageLayer, ImagePart

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from layer_minimizer.pack.base_image import BaseImage
    from layer_minimizer.settings import Settings

# In images, too, the packages lie where Lambda unpacks layers.
OPT = "opt"
# Makes the base's Python find them, as if they were in the same folder and before its other packages.
PTH = "layer_minimizer_packages.pth"
_PTH_LINE = (
    'import sys, site; s = sys._getframe(1).f_locals.get("sitedir"); p = "{folder}"; '
    "s in sys.path and sys.path.insert(sys.path.index(s), p); site.addsitedir(p)\n"
)
_EPOCH = "1980-01-01T00:00:00Z"
_TAG = re.compile(r"[a-z0-9][a-z0-9._/:-]*")


@dataclass(frozen=True, slots=True)
class ImageOptions:
    """How a container of the image is started, where that differs from the base image.

    Attributes:
        tag: the name of the image.
        user: the user, by name or number.
        environment: variables, as NAME=VALUE.
        labels: labels, as NAME=VALUE; they become annotations of the manifest, too.
        entrypoint: the entry point, as a command line.
        command: its arguments, as a command line.
    """

    tag: str
    user: str = ""
    environment: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    entrypoint: str = ""
    command: str = ""

    @classmethod
    def of(cls, settings: Settings, output: Path) -> ImageOptions:
        """Return the options of the settings; by default the image is named after the output.

        Raises:
            UsageError: one of them is not valid.
        """
        tag = settings.image_name or re.sub(r"[^a-z0-9._-]+", "-", output.stem.lower()).strip("-._") or "image"
        if not _TAG.fullmatch(tag):
            raise UsageError(f"--image-name {tag}: the name of an image has small letters, digits and . _ - / : only")
        if ":" not in tag.rpartition("/")[2]:
            tag += ":latest"
        for option, values in (("--image-env", settings.image_env), ("--image-label", settings.image_label)):
            for value in values:
                if not value.partition("=")[0] or "=" not in value:
                    raise UsageError(f"{option} {value}: it needs NAME=VALUE")
        found = cls(
            tag,
            settings.image_user,
            settings.image_env,
            settings.image_label,
            settings.image_entrypoint,
            settings.image_command,
        )
        for option, line in (("--image-entrypoint", found.entrypoint), ("--image-command", found.command)):
            _words(line, option)
        return found


@dataclass(frozen=True, slots=True)
class ImageContents:
    """What is put on a base image.

    Attributes:
        layer: the unpacked layer with the packages, as in ``/opt`` of a Lambda function.
        function: the folder with the function.
        site: the folder of the packages in ``layer``.
        entry: the name of the entry.
        handler: the name of the handler function; empty for a script.
        model: the name of the first model, or empty.
    """

    layer: Path
    function: Path
    site: str
    entry: str
    handler: str
    model: str


@dataclass(frozen=True, slots=True)
class MadeImage:
    """An image that was made, before it is written as a layout."""

    image: Image
    base: BaseImage
    parts: tuple[ImagePart, ...]

    @property
    def command(self) -> tuple[str, ...]:
        """The entry point and the arguments of a container."""
        process = self.image.process
        return (*(process.get("Entrypoint") or ()), *(process.get("Cmd") or ()))

    def write(self, target: Path, tag: str, *, folder: bool) -> ImageArchive:
        """Write the layout as a tar, or as a folder.

        Raises:
            PackError: it cannot be written.
        """
        layout = oci.Layout(self.image, tag)
        if folder:
            layout.write_folder(target)
        else:
            layout.write_tar(target)
        base = self.base.image.name
        return ImageArchive(target, layout.digest, layout.image_id, tag, base, self.parts, self.command)


def make_image(base: BaseImage, contents: ImageContents, options: ImageOptions, scratch: Path) -> MadeImage:
    """Make the two layers and the configuration of an image.

    Raises:
        PackError: a layer cannot be written.
    """
    scratch.mkdir(parents=True, exist_ok=True)
    packages = oci.write_layer(dict(_packages(base, contents)), scratch / "packages.tar.gz", base.files.files)
    function = oci.write_layer(dict(_function(base, contents)), scratch / "function.tar.gz", base.files.files)
    parts = (
        ImagePart("base", tuple(each.blob.digest for each in base.image.layers), base.image.bytes, base.files.bytes),
        _part("packages", packages),
        _part("function", function),
    )
    config = _config(base, contents, options, (packages, function))
    annotations = {**base.image.annotations, **dict(_pairs(options.labels))}
    image = Image(options.tag, config, (*base.image.layers, packages, function), annotations)
    return MadeImage(image, base, parts)


def _part(name: str, layer: ImageLayer) -> ImagePart:
    return ImagePart(name, (layer.blob.digest,), layer.blob.size, RootFiles.of((layer,)).bytes)


def _packages(base: BaseImage, contents: ImageContents) -> Iterator[tuple[str, oci.Source]]:
    top = base.files.real(OPT)
    for path in contents.layer.rglob("*"):
        if path.is_symlink() or not path.is_dir() or not any(path.iterdir()):
            yield f"{top}/{path.relative_to(contents.layer).as_posix()}", path
    if base.site:
        yield f"{base.files.real(base.site)}/{PTH}", _PTH_LINE.format(folder=f"/{OPT}/{contents.site}").encode()


def _function(base: BaseImage, contents: ImageContents) -> Iterator[tuple[str, oci.Source]]:
    top = base.files.real(base.folder)
    for path in contents.function.rglob("*"):
        if path.is_symlink() or not path.is_dir():
            yield f"{top}/{path.relative_to(contents.function).as_posix()}", path


def _pairs(values: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    for value in values:
        name, _, rest = value.partition("=")
        yield name, rest


def _words(line: str, option: str = "") -> list[str]:
    try:
        return shlex.split(line)
    except ValueError as exc:
        raise UsageError(f"{option} {line}: {exc}") from exc


# ---- the configuration --------------------------------------------------------------------------------------------


def _config(
    base: BaseImage, contents: ImageContents, options: ImageOptions, added: tuple[ImageLayer, ...]
) -> Mapping[str, Any]:
    """Return the base's configuration with the added layers, and with another command."""
    config = dict(base.image.config)
    config.setdefault("created", _EPOCH)
    root = config.get("rootfs") or {"type": "layers"}
    below = [layer.diff_id for layer in base.image.layers]
    config["rootfs"] = {**root, "diff_ids": [*below, *(layer.diff_id for layer in added)]}
    if config.get("history"):
        made = [{"created": _EPOCH, "created_by": f"minimize: {name}"} for name in ("the packages", "the function")]
        config["history"] = [*config["history"], *made]
    # docker's own copy of the configuration of the container from which the base was made, and its digest
    for name in ("container_config", "container"):
        config.pop(name, None)
    config["config"] = _process(base, contents, options)
    return config


def _process(base: BaseImage, contents: ImageContents, options: ImageOptions) -> dict[str, Any]:
    process = {name: value for name, value in base.image.process.items() if name != "Image"}
    environment = base.image.environment
    if (contents.layer / layout.LIBRARY_FOLDER).is_dir() and not base.for_lambda:
        own = environment.get("LD_LIBRARY_PATH")
        libraries = f"/{OPT}/{layout.LIBRARY_FOLDER}"
        environment["LD_LIBRARY_PATH"] = f"{own}:{libraries}" if own else libraries
    if contents.model:
        environment["MODEL_PATH"] = f"{base.folder}/{contents.model}"
    environment |= dict(_pairs(options.environment))
    process["Env"] = [f"{name}={value}" for name, value in environment.items()]
    process["WorkingDir"] = base.folder
    if base.for_lambda:
        process["Cmd"] = [f"{contents.entry.removesuffix('.py')}.{contents.handler or 'handler'}"]
    else:
        process["Cmd"] = [base.python, f"{base.folder}/{contents.entry}"]
    if options.user:
        process["User"] = options.user
    if labels := {**(process.get("Labels") or {}), **dict(_pairs(options.labels))}:
        process["Labels"] = labels
    if options.entrypoint:
        process["Entrypoint"] = _words(options.entrypoint)
    if options.command:
        process["Cmd"] = _words(options.command)
    return process
