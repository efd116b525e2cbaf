"""The files with which other tools build and deploy a function and its layer, written by ``minimize init --for``.

Their texts are the files in ``templates/TARGET``. ``{{name}}`` in them is replaced by a value of the function. A line
with a value that the function does not have is omitted.
"""

from __future__ import annotations

import os
import platform
import re
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from layer_minimizer.analysis.handler_names import handler_name
from layer_minimizer.aws.runtimes import ARCHITECTURES, python_of
from layer_minimizer.cli.project import runtime_of
from layer_minimizer.cli.settings_file import OWN_FILE, SHARED_FILE
from layer_minimizer.core.errors import PackError, UsageError
from layer_minimizer.settings import DEFAULT_MEMORY

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from importlib.resources.abc import Traversable

# The targets, and the commands that build and deploy by the files of each.
TARGETS = {
    "sam": "sam build --no-cached && sam deploy --guided",
    "cdk": "cdk deploy",
    "terraform": "terraform init && terraform apply",
    "serverless": "serverless deploy",
    # Lambda refuses images with BuildKit's attestations:
    # https://docs.aws.amazon.com/lambda/latest/dg/python-image.html
    "docker": "BUILDX_NO_DEFAULT_ATTESTATIONS=1 docker build --platform {{platform}} -t {{name}} .",
}
_SUFFIX = ".template"
_PLACEHOLDER = re.compile(r"\{\{(\w+)\}\}")
# The names of Lambda's architectures in CDK and in images.
_NAMES_OF_ARCHITECTURES = {
    "x86_64": {"cdk_architecture": "X86_64", "platform": "linux/amd64"},
    "arm64": {"cdk_architecture": "ARM_64", "platform": "linux/arm64"},
}
# Characters without a meaning in a shell, in a Makefile and in all formats of the templates.
_PLAIN = re.compile(r"[\w./@+-]+")
_NAME_LENGTH = 50
_TASK = "/var/task"


@dataclass(frozen=True, slots=True)
class Deployment:
    """What the files say about a function; file names are relative to ``folder``, where they are written.

    ``values`` are the values of the placeholders; an empty one means that the function does not have it.
    ``others`` are layers that the function needs besides the new one.
    """

    folder: Path
    values: Mapping[str, str]
    others: tuple[str, ...] = ()

    def files(self, target: str) -> Iterator[tuple[Path, str]]:
        """Yield the paths and texts of the files for ``target``."""
        for path, template in templates(target):
            yield self.folder / path, fill(template.read_text("utf-8"), self.values)

    def command(self, target: str) -> str:
        """Return the commands that use the files for ``target``."""
        return fill(TARGETS[target], self.values)


def templates(target: str) -> Iterator[tuple[str, Traversable]]:
    """Yield the templates for a target, each with the relative path of the file that is written, in order."""
    found = dict(_below(resources.files(__package__).joinpath("templates", target), ""))
    yield from sorted(found.items(), key=lambda item: item[0])


def _below(folder: Traversable, prefix: str) -> Iterator[tuple[str, Traversable]]:
    for each in folder.iterdir():
        if each.is_dir():
            yield from _below(each, f"{prefix}{each.name}/")
        elif each.name.endswith(_SUFFIX):
            yield prefix + each.name.removesuffix(_SUFFIX), each


def fill(text: str, values: Mapping[str, str]) -> str:
    """Return a text with the placeholders replaced, without the lines that have an empty value."""
    kept = (line for line in text.splitlines(keepends=True) if all(values[name] for name in _PLACEHOLDER.findall(line)))
    return _PLACEHOLDER.sub(lambda found: values[found[1]], "".join(kept))


# ---- values ------------------------------------------------------------------------------------------------------


def describe(
    options: Mapping[str, Any], settings: Path, layer: str, published: str, targets: Iterable[str]
) -> Deployment:
    """Return what the files for ``targets`` say about a function.

    ``options`` are the options of ``minimize`` by their keys, with absolute file names. ``settings`` is the settings
    file, ``layer`` the name of a layer in it, if layers have names, ``published`` the name for publishing, if any.

    Raises:
        UsageError: it cannot be deployed in this way.
    """
    folder = settings.absolute().parent
    if (form := options.get("format", "layer")) != "layer":
        raise UsageError(f"{settings} has format = {str(form)!r}; the files that --for writes take the layer's zip")
    models = options.get("model", ())
    values = {
        **_function(options, settings),
        "name": _name(published or layer or folder.resolve().name),
        "memory": str(options.get("memory", DEFAULT_MEMORY)),
        "model": f"{_TASK}/{Path(models[0]).name}" if models else "",
        "layer": _below_folder(options.get("output", "") or folder / f"{layer or 'layer'}.zip", folder),
        "function": _below_folder(options.get("function_zip", "") or folder / "function.zip", folder),
        "command": " ".join(["minimize", *_config(settings), *(("--layer", layer) if layer else ())]),
        "requirements": _requirements(options, folder) if "docker" in targets else "",
    }
    for key in ("handler", "model", "layer", "function", "requirements"):
        _require_plain(values[key])
    _require_plain(layer)
    return Deployment(folder, values, (*options.get("base_layer", ()), *options.get("provided", ())))


def _function(options: Mapping[str, Any], settings: Path) -> dict[str, str]:
    """Return what Lambda has to know about the function: handler, runtime, architecture."""
    entry = Path(_required(options.get("entry", ""), f"{settings} names no entry: add entry, the handler's file"))
    if not entry.is_file():
        raise UsageError(f"{entry}: this file, the entry in {settings}, does not exist")
    handler = _required(
        options.get("handler", "") or handler_name(entry),
        f"{entry} has no function handler or lambda_handler; if another one is the handler, add the key handler",
    )
    runtime = _required(
        options.get("runtime", "") or runtime_of(options.get("python", "")),
        f"{settings}: Lambda has no supported runtime for the version of the interpreter; add the key runtime",
    )
    architecture = options.get("architecture", "") or _architecture()
    return {
        "entry": entry.name,
        "handler": f"{entry.stem}.{handler}",
        "runtime": runtime,
        "python_version": _required(
            python_of(runtime), f"{settings}: {runtime} has no Python to call the handler; name a runtime with one"
        ),
        "architecture": architecture,
        **_NAMES_OF_ARCHITECTURES[architecture],
    }


def _required(value: str, message: str) -> str:
    if not value:
        raise UsageError(message)
    return value


def _require_plain(name: str) -> None:
    """Raise an error if a name would need quoting, which each tool does in another way."""
    if name and not _PLAIN.fullmatch(name):
        raise UsageError(
            f"{name!r}: the files that --for writes cannot contain this name; rename it, to letters, digits and ./@+-_"
        )


def _name(text: str) -> str:
    """Return a name that functions, layers, roles, stacks and services may have."""
    name = re.sub(r"[^A-Za-z0-9]+", "-", text).strip("-")[:_NAME_LENGTH].rstrip("-").lower()
    return name if name[:1].isalpha() else f"function-{name}".rstrip("-")


def _architecture() -> str:
    machine = platform.machine()
    return next((name for name, other in ARCHITECTURES.items() if other == machine), "x86_64")


def _config(settings: Path) -> tuple[str, ...]:
    """Return the option that selects a settings file which is not found by its name."""
    if settings.name in (OWN_FILE, SHARED_FILE):
        return ()
    _require_plain(settings.name)
    return "--config", settings.name


def _below_folder(path: Path | str, folder: Path) -> str:
    name = os.path.relpath(path, folder)
    if name.startswith(".."):
        raise UsageError(f"{path}: --for writes files that use it, which requires that it is below {folder}")
    return name


def _requirements(options: Mapping[str, Any], folder: Path) -> str:
    """Return the requirements file that is installed in an image; all other files must be in the folder, too."""
    for key in ("entry", "event", "model", "trace"):
        listed = options.get(key, ())
        for path in [listed] if isinstance(listed, str) else listed:
            _below_folder(path, folder)
    found = options.get("requirements", "") or (
        str(folder / "requirements.txt") if os.path.isfile(folder / "requirements.txt") else ""
    )
    return _below_folder(
        _required(
            found, f"--for docker: {folder} has no requirements.txt, from which the image's packages are installed"
        ),
        folder,
    )


# ---- writing -----------------------------------------------------------------------------------------------------


def require_free(folder: Path, targets: Iterable[str]) -> None:
    """Check that none of the files for ``targets`` exists.

    Raises:
        UsageError: one or more exist.
    """
    names = [name for target in targets for name, _ in templates(target)]
    existing = [name for name in names if os.path.lexists(folder / name)]
    parents = {str(parent) for name in names for parent in Path(name).parents}
    existing += sorted(name for name in parents if os.path.lexists(folder / name) and not os.path.isdir(folder / name))
    if existing:
        raise UsageError(
            f"{', '.join(existing)} already exist{'s' if len(existing) == 1 else ''} in {folder}; nothing is written. "
            "Remove or rename, or run minimize init in another folder and copy what you need"
        )


def write(files: Iterable[tuple[Path, str]]) -> None:
    """Write all files, which must not exist, or none.

    Raises:
        PackError: one cannot be written.
    """
    made: list[Path] = []
    try:
        for path, text in files:
            for folder in reversed([each for each in path.parents if not os.path.lexists(each)]):
                folder.mkdir()
                made.append(folder)
            with path.open("x", encoding="utf-8") as file:
                made.append(path)
                file.write(text)
    except OSError as exc:
        for path in reversed(made):
            if path.is_dir():
                path.rmdir()
            else:
                path.unlink()
        raise PackError(f"cannot write {exc.filename}: {exc.strerror}; no file for --for was written") from exc
