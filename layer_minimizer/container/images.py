"""The image of a container: its tag is a digest of its contents, so that it is built only once."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import shlex
import tempfile
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from layer_minimizer.container import build_context
from layer_minimizer.container.build_context import PIP, PIP_INSIDE, REQUIREMENTS, TOOL
from layer_minimizer.core import progress
from layer_minimizer.core.errors import RunnerError
from layer_minimizer.execution.engine import SHOWN_LINES, Engine, tail

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

log = logging.getLogger(__name__)
# The folder with everything that is added to a base image.
HOME = "/layer_minimizer"
OUT = f"{HOME}/out"
# The request of the command in a container, as JSON, and the internal command that executes it: its arguments are
# this file and the interpreter whose packages are minimized.
REQUEST = f"{HOME}/request.json"
INSIDE = "inside-container"
_REPOSITORY = "layer_minimizer/image"
# The oldest Python that this tool supports.
_OLDEST_TOOL_PYTHON = (3, 11)
# Up to this Python, the included pip supports only the oldest kinds of wheels.
_LAST_WITH_OLD_PIP = (3, 7)
_COLOUR = re.compile(rb"\x1b\[[0-9;]*m")
_DESCRIBE_PYTHON = "import json, sys; print(json.dumps([sys.executable, list(sys.version_info[:2])]))"
_FIND_PYTHON = 'for each in "$@"; do command -v "$each" >/dev/null && exec "$each" -c "$ASK"; done; exit 127'
_FIND_FOR_TOOL = (
    "for each in /opt/python/cp314-cp314 /opt/python/cp313-cp313 /opt/python/cp312-cp312 /opt/python/cp311-cp311; do "
    'if test -x "$each/bin/python"; then '
    """prefix=$("$each/bin/python" -c 'import sys; print(sys.base_prefix)'); break; fi; done; """
    'test -n "$prefix" || { echo "no Python from 3.11 to 3.14 in /opt/python" >&2; exit 1; }; '
)
_LINK_PREFIX = f'test -e "$prefix" || {{ mkdir -p "${{prefix%/*}}" && ln -s {HOME}/python "$prefix"; }}'
_INSTALLERS = (
    ("apt-get", "apt-get update && apt-get install -y --no-install-recommends", "rm -rf /var/lib/apt/lists/*"),
    ("dnf", "dnf install -y", "dnf clean all"),
    ("microdnf", "microdnf install -y", "microdnf clean all"),
    ("yum", "yum install -y", "yum clean all"),
)


@dataclass(frozen=True, slots=True)
class Recipe:
    """The inputs of an image.

    ``requirements`` are installed in addition to the packages of ``base``; without requirements, the packages of
    ``base`` are minimized. ``python`` is the interpreter in the image, by default ``python3`` or ``python``.
    ``platform`` is the engine's option. ``tool_image`` has a Python for this tool, used if the image's is too old.
    ``origin`` is the user's file from which the requirements are.
    """

    base: str
    requirements: Path | None = None
    python: str = ""
    platform: str = ""
    tool_image: str = ""
    origin: str = ""

    @property
    def platform_option(self) -> tuple[str, ...]:
        """The engine's option for the platform, empty without one."""
        return ("--platform", self.platform) if self.platform else ()


@dataclass(frozen=True, slots=True)
class _Python:
    """An interpreter in an image."""

    path: str
    version: tuple[int, int]


def provide(engine: Engine, recipe: Recipe) -> str:
    """Return the tag of a recipe's image; build the image if the engine does not have it.

    Raises:
        UsageError: the requirements cannot be used.
        RunnerError: the base image is not available or has no Python, or the build fails.
    """
    identity, architecture = _base(engine, recipe)
    with tempfile.TemporaryDirectory(prefix="layer_minimizer-", ignore_cleanup_errors=True) as name:
        context = Path(name)
        compilations = build_context.add_tool(context / TOOL, architecture)
        requirements = ""
        if recipe.requirements:
            requirements = build_context.add_requirements(recipe.requirements, context / REQUIREMENTS)
        # Package sources are not part of the digest: the same requirements from another index give the same image.
        inputs = (identity, recipe.python, recipe.platform, recipe.tool_image, requirements, *compilations)
        tag = f"{_REPOSITORY}:{_digest(context, inputs)}"
        if engine.has_image(tag):
            log.info("using the image %s", tag)
            return tag
        python = _find_python(engine, recipe)
        settings = build_context.proxies(os.environ)
        if requirements:
            settings = build_context.add_pip_settings(context / PIP, os.environ)
        dockerfile = context / "Dockerfile"
        dockerfile.write_text("\n".join(_dockerfile(recipe, python, requirements, compilations, settings)) + "\n")
        version = ".".join(map(str, python.version))
        with progress.step(f"building the image {tag} on {recipe.base}, with Python {version}"):
            _build(engine, recipe, tag, context, settings)
        return tag


def _base(engine: Engine, recipe: Recipe) -> tuple[str, str]:
    """Return the ID and the architecture of the base image; pull it if needed."""
    inspect = ("image", "inspect", "--format", "{{.Id}} {{.Os}}/{{.Architecture}}", recipe.base)
    found = engine.read_output(*inspect).split() if engine.has_image(recipe.base) else []
    if not found or not f"{recipe.platform or found[1]}/".startswith(f"{found[1]}/"):
        lines: deque[bytes] = deque(maxlen=SHOWN_LINES)
        with progress.step(f"pulling {recipe.base}"):
            code = engine.run_with_output(("pull", *recipe.platform_option, recipe.base), _log_lines(lines))
        if code != 0:
            raise RunnerError(
                f"the image {recipe.base} does not exist here and cannot be pulled; name another one with --base-image "
                f"or --image:\n{_joined(lines)}"
            )
        found = engine.read_output(*inspect).split()
    return found[0], found[1].partition("/")[2]


def _find_python(engine: Engine, recipe: Recipe) -> _Python:
    """Return the interpreter of the base image."""
    names = (recipe.python,) if recipe.python else ("python3", "python")
    with engine.container_name() as name:
        output = engine.read_output(
            *(
                "run",
                "--name",
                name,
                *recipe.platform_option,
                "--entrypoint",
                "/bin/sh",
                "--env",
                f"ASK={_DESCRIBE_PYTHON}",
            ),
            *(recipe.base, "-c", _FIND_PYTHON, "sh", *names),
            why=f"{recipe.base} has no working Python ({', '.join(names)}); name one in it with --python:",
            grace_seconds=30,
        )
    try:
        path, (major, minor) = json.loads(output.splitlines()[-1])
    except (ValueError, IndexError, TypeError) as exc:
        raise RunnerError(
            f"{names[0]} of {recipe.base} is not a Python interpreter; its output:\n{tail(output)}"
        ) from exc
    return _Python(path, (major, minor))


def _digest(folder: Path, texts: Iterable[str]) -> str:
    """Return a digest of the files in ``folder`` and of further texts."""
    digest = hashlib.sha256(json.dumps(list(texts)).encode())
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        digest.update(json.dumps([path.relative_to(folder).as_posix(), path.stat().st_size]).encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()[:20]


# ---- the Dockerfile -----------------------------------------------------------------------------------------------


def _dockerfile(
    recipe: Recipe, python: _Python, requirements: str, compilations: tuple[str, ...], settings: Mapping[str, str]
) -> Iterator[str]:
    """Yield the lines of the Dockerfile, with instructions that docker's old and new builder and podman support."""
    tool, runs_tool, packages = f"{HOME}/{TOOL}", python.path, python.path
    if python.version < _OLDEST_TOOL_PYTHON:
        runs_tool = f"{HOME}/python/bin/python3"
        yield f"FROM {recipe.tool_image} AS interpreter"
        yield "USER root"
        yield f'RUN {_FIND_FOR_TOOL} mkdir -p {HOME} && cp -a "$prefix" {HOME}/python && echo "$prefix" >{HOME}/prefix'
    yield f"FROM {recipe.base} AS build"
    yield "USER root"
    if requirements or compilations:
        compiler = _install("gcc", "g++ libc6-dev", "gcc-c++")
        yield f"RUN command -v c++ >/dev/null || {compiler} || echo 'going on without a C compiler'"
    if requirements:
        packages = f"{HOME}/env/bin/python"
        yield from _install_requirements(python, requirements, settings)
    # Last, so that another version of the tool does not invalidate the cached packages.
    yield f"COPY {TOOL} {tool}"
    if compilations:
        # Without a compiler the tool ships whole libraries, and warns.
        yield f"RUN cd {tool} && if command -v cc; then {' && '.join(compilations)}; fi"
    yield f"FROM {recipe.base}"
    yield "USER root"
    yield f"RUN command -v strace >/dev/null || {_install('strace')} || echo 'going on without strace'"
    if python.version < _OLDEST_TOOL_PYTHON:
        yield f"COPY --from=interpreter {HOME} {HOME}"
        # Some interpreters find their shared library by the path that they were built with.
        yield f"RUN read -r prefix <{HOME}/prefix; {_LINK_PREFIX}"
    if requirements:
        yield f"COPY --from=build {HOME}/env {HOME}/env"
    yield f"COPY --from=build {tool} {tool}"
    start = [runs_tool, "-I", "-S", tool]
    yield f"RUN mkdir -p {OUT} {HOME}/home {HOME}/scratch && {shlex.join(start)} --version"
    # Mounts of the user's files may hide the usual folders.
    yield f"ENV HOME={HOME}/home TMPDIR={HOME}/scratch"
    yield f"ENTRYPOINT {json.dumps([*start, INSIDE, REQUEST, packages])}"
    yield "CMD []"


def _install_requirements(python: _Python, requirements: str, settings: Mapping[str, str]) -> Iterator[str]:
    environment = f"{HOME}/env"
    make = f"{shlex.quote(python.path)} -m venv --system-site-packages"
    # Without pip for a new environment, it uses the image's own pip.
    yield f"RUN {make} {environment} || {make} --clear --without-pip {environment}"
    yield f"COPY {PIP} {PIP_INSIDE}"
    for name in sorted(settings):
        if name.startswith("PIP_"):  # engines predefine the others
            yield f"ARG {name}"
    pip = f"{environment}/bin/python -m pip install --no-cache-dir"
    if python.version <= _LAST_WITH_OLD_PIP:
        yield f"RUN {pip} --upgrade pip"
    yield f"COPY {REQUIREMENTS} /layer_minimizer_build/{REQUIREMENTS}"
    yield f"RUN cd /layer_minimizer_build/{REQUIREMENTS} && {pip} --requirement {shlex.quote(requirements)}"


def _install(package: str, debian: str = "", others: str = "") -> str:
    """Return a shell command that installs a package with the package manager of the image."""
    commands = " ".join(
        f"elif command -v {program} >/dev/null; "
        f"then {install} {' '.join(filter(None, (package, debian if program == 'apt-get' else others)))} && {clean};"
        for program, install, clean in _INSTALLERS
    )
    return f"{{ {commands.removeprefix('el')} else false; fi; }}"


# ---- the build ----------------------------------------------------------------------------------------------------


def _build(engine: Engine, recipe: Recipe, tag: str, context: Path, settings: Mapping[str, str]) -> None:
    # Values are passed by the environment: other users of this machine can see a command's arguments.
    arguments = [argument for name in sorted(settings) for argument in ("--build-arg", name)]
    command = ("build", "--force-rm", *recipe.platform_option, *arguments, "--tag", tag, str(context))
    lines: deque[bytes] = deque(maxlen=SHOWN_LINES)
    if engine.run_with_output(command, _log_lines(lines), environment=settings) != 0:
        raise RunnerError(f"the image with {recipe.origin or 'the tool'} cannot be built:\n{_joined(lines)}")


def _log_lines(lines: deque[bytes]) -> Callable[[bytes], None]:
    """Return a listener that logs the engine's output and appends it to ``lines`` for an error message."""

    def log_line(line: bytes) -> None:
        # Engines colour error messages even if the output is not a terminal.
        lines.append(_COLOUR.sub(b"", line))
        log.info("%s", lines[-1].decode(errors="replace").rstrip())

    return log_line


def _joined(lines: Iterable[bytes]) -> str:
    return b"".join(lines).decode(errors="replace").strip()
