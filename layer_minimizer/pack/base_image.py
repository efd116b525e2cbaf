"""Choose the base of an image: read it, or fetch it by an engine, and find its Python."""

from __future__ import annotations

import posixpath
import re
import shutil
import subprocess
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from layer_minimizer.core import progress
from layer_minimizer.core.errors import PackError, RunnerError
from layer_minimizer.core.files import scratch_errors
from layer_minimizer.execution.engine import ENGINES, Engine, tail
from layer_minimizer.layer.image_reader import read_image
from layer_minimizer.layer.root_files import RootFiles
from layer_minimizer.pack.scratch_image import make_scratch_image

if TYPE_CHECKING:
    from collections.abc import Iterator

    from layer_minimizer.model.image import Image
    from layer_minimizer.model.interpreter import Interpreter

SCRATCH = "scratch"
# The names of architectures in images, see https://go.dev/doc/install/source#environment.
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
# What engines set if an image does not.
PROGRAM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# The tag in name:tag@digest, which docker and podman ignore and skopeo refuses.
_BESIDE_DIGEST = re.compile(r":[^:/@]+(?=@)")
_STANDARD_LIBRARY = re.compile(r"(?P<prefix>.*?)/?lib(?:64)?/python(?P<version>3\.\d+)/os\.pyc?")


@dataclass(frozen=True, slots=True)
class BaseImage:
    """An image on which packages and function are put.

    Attributes:
        image: its layers and configuration.
        files: what is in it.
        python: the path of its Python.
        site: the folder in which that Python reads ``.pth`` files; empty in Lambda's images, which have their own.
        folder: the folder for the function.
    """

    image: Image
    files: RootFiles
    python: str
    site: str
    folder: str

    @property
    def for_lambda(self) -> bool:
        """Whether it contains Lambda's runtime."""
        return not self.site


def choose_base_image(name: str, interpreter: Interpreter, scratch: Path) -> BaseImage:
    """Return the base image ``name``: ``scratch``, the path of an image, or the name of one to be fetched by an engine.

    Raises:
        UsageError: it is not an image, or it is damaged.
        RunnerError: there is no engine to fetch it, or the engine cannot.
        PackError: it is for another architecture, or has another Python.
    """
    architecture = ARCHITECTURES.get(interpreter.machine, interpreter.machine)
    if name == SCRATCH:
        image = make_scratch_image(interpreter, architecture, scratch)
    elif Path(name).exists():
        image = read_image(Path(name), scratch, architecture)
    else:
        image = replace(read_image(_fetched(name, scratch, architecture), scratch, architecture), name=name)
    system = (str(image.config.get("os", "")), str(image.config.get("architecture", "")))
    if system != ("linux", architecture):
        raise PackError(
            f"--base-image {name} is for {'/'.join(system)}, and {interpreter.executable} is for linux/{architecture}: "
            f"use the base image for linux/{architecture}, or minimize on a machine for {'/'.join(system)}"
        )
    with progress.step(f"reading the base image {name}"):
        return _with_python(image, RootFiles.of(image.layers), interpreter, name)


# ---- fetching -----------------------------------------------------------------------------------------------------


def _fetched(name: str, scratch: Path, architecture: str) -> Path:
    """Return a tar with an image, from the first engine that has it or can pull it, or by skopeo."""
    problems = []
    target = scratch / "fetched.tar"
    scratch.mkdir(parents=True, exist_ok=True)
    with progress.step(f"fetching the base image {name}"):
        for program in ENGINES:
            try:
                _save(Engine.find(program), name, target, architecture)
            except RunnerError as exc:
                problems.append(str(exc))
            else:
                return target
        if skopeo := shutil.which("skopeo"):
            source = f"docker://{_BESIDE_DIGEST.sub('', name)}"
            command = [skopeo, "--override-arch", architecture, "copy", "--quiet", source]
            done = subprocess.run(  # noqa: S603 - a program of this machine
                [*command, f"oci-archive:{target}"], capture_output=True, text=True, check=False
            )
            if done.returncode == 0:
                return target
            problems.append(f"skopeo: {tail(done.stderr.strip())}")
        else:
            problems.append("skopeo is not installed here")
    listed = "\n".join(f"  {problem}" for problem in problems)
    raise RunnerError(
        f"--base-image {name} is no file here, and cannot be fetched:\n{listed}\n"
        "What to do: name an OCI image layout or a tar written by docker save, podman save or skopeo copy; or "
        "--base-image scratch, for this machine's Python"
    )


def _save(engine: Engine, name: str, target: Path, architecture: str) -> None:
    if not engine.has_image(name):
        engine.read_output(
            "pull", "--quiet", "--platform", f"linux/{architecture}", name, why=f"{engine.program} pull:"
        )
    with (
        scratch_errors(PackError, f"cannot write {target}"),
        engine.stream_output("save", name) as stream,
        target.open("wb") as sink,
    ):
        shutil.copyfileobj(stream, sink, 1 << 20)


# ---- its Python ---------------------------------------------------------------------------------------------------


def _with_python(image: Image, files: RootFiles, interpreter: Interpreter, name: str) -> BaseImage:
    """Return the base image with its Python, the first of the wanted version on its PATH.

    Raises:
        PackError: it has none.
    """
    wanted = "{}.{}".format(*interpreter.version[:2])
    found = list(_pythons(files, image.environment.get("PATH") or PROGRAM_PATH))
    python = next((each for each in found if each.version == wanted), None)
    if python is None:
        have = ", ".join(f"Python {each.version} ({each.path})" for each in found) or "no Python on its PATH"
        raise PackError(
            f"--base-image {name} has {have}, and compiled code works with one version only: it needs Python {wanted}, "
            f"the version of {interpreter.executable}. Use another base image, or an environment of its version with "
            "--python"
        )
    task = image.environment.get("LAMBDA_TASK_ROOT", "")
    folder = task or str(image.process.get("WorkingDir") or "").rstrip("/") or "/app"
    site = "" if task else _site(files, python)
    return BaseImage(image, files, python.path, site, folder)


@dataclass(frozen=True, slots=True)
class _Python:
    """A Python in an image: its path, its version, and its prefix."""

    path: str
    version: str
    prefix: str


def _pythons(files: RootFiles, program_path: str) -> Iterator[_Python]:
    standard = [match for path in files.files if (match := _STANDARD_LIBRARY.fullmatch(path))]
    versions = sorted({match["version"] for match in standard}, reverse=True)
    seen = set[str]()
    for folder in program_path.split(":"):
        for program in ("python3", "python", *(f"python{version}" for version in versions)):
            path = posixpath.join(folder, program)
            real = files.real(path)
            found = files.files.get(real)
            if found is None or found.kind != "file" or not folder.startswith("/"):
                continue
            prefix = posixpath.dirname(posixpath.dirname(real))
            version = _version(real, [match["version"] for match in standard if files.real(match["prefix"]) == prefix])
            if version and version not in seen:
                seen.add(version)
                own = posixpath.dirname(folder)
                is_virtual = files.get(f"{own}/pyvenv.cfg") is not None
                yield _Python(path, version, own if is_virtual else f"/{prefix}")


def _version(real: str, installed: list[str]) -> str:
    """Return the version of a Python by its name, or by the only standard library next to it."""
    if named := re.search(r"python(3\.\d+)$", real):
        return named[1] if named[1] in installed else ""
    return installed[0] if len(set(installed)) == 1 else ""


def _site(files: RootFiles, python: _Python) -> str:
    """Return the site-packages folder of a Python; Debian's own has another name."""
    debian = python.prefix == "/usr" and (
        "etc/debian_version" in files.files or "usr/lib/python3/dist-packages" in files.files
    )
    if debian:
        return f"/usr/local/lib/python{python.version}/dist-packages"
    return f"{python.prefix.rstrip('/')}/lib/python{python.version}/site-packages"


def libraries_in(base: BaseImage) -> Counter[str]:
    """Return the names of the shared libraries in the folders where the loader of an image looks for them."""
    own = base.image.environment.get("LD_LIBRARY_PATH", "").split(":")
    tops = ("lib", "lib64", "usr/lib", "usr/lib64", "usr/local/lib", "usr/local/lib64")
    folders = {base.files.real(folder) for folder in (*tops, *filter(None, own))}
    folders |= {path for path in base.files.files if path.endswith("-linux-gnu") and posixpath.dirname(path) in folders}
    found = Counter[str]()
    for path in base.files.files:
        folder, _, name = path.rpartition("/")
        if ".so" in name and folder in folders:
            found[name] += 1
    return found
