"""Which image a container is made of: described by what is in it, built once, found again by its tag."""

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
# All that is added to a base image.
HOME = "/layer_minimizer"
OUT = f"{HOME}/out"
# What the command in a container is to do, as JSON, and the command that does that: its arguments are this file and the
# interpreter whose packages are minimized.
REQUEST = f"{HOME}/request.json"
INSIDE = "inside-container"
_REPOSITORY = "layer_minimizer/image"
# What this tool itself runs on.
_OLDEST_TOOL_PYTHON = (3, 11)
# The pip that these bring along knows no wheels but the oldest kinds.
_LAST_WITH_OLD_PIP = (3, 7)
_COLOUR = re.compile(rb"\x1b\[[0-9;]*m")
_ASK = "import json, sys; print(json.dumps([sys.executable, list(sys.version_info[:2])]))"
_FIND = 'for each in "$@"; do command -v "$each" >/dev/null && exec "$each" -c "$ASK"; done; exit 127'
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
    """What an image is made of.

    ``requirements`` are installed beside the packages that ``base`` has; without them those are minimized.
    ``python`` is the interpreter in the image, by default ``python3`` or ``python``; ``tool_image`` has the one for
    this tool where the image's is too old for it.
    """

    base: str
    requirements: Path | None = None
    python: str = ""
    platform: str = ""
    tool_image: str = ""

    @property
    def platform_option(self) -> tuple[str, ...]:
        """What pulls, builds and runs need to be for the platform."""
        return ("--platform", self.platform) if self.platform else ()


@dataclass(frozen=True, slots=True)
class _Python:
    """An interpreter that an image has."""

    path: str
    version: tuple[int, int]


def provide(engine: Engine, recipe: Recipe) -> str:
    """Return the name of the image of a recipe, which is built if the engine does not have it.

    Raises:
        UsageError: the requirements cannot be used.
        RunnerError: the base cannot be had or has no Python, or the build fails.
    """
    identity, architecture = _base(engine, recipe)
    with tempfile.TemporaryDirectory(prefix="layer_minimizer-", ignore_cleanup_errors=True) as name:
        context = Path(name)
        compilations = build_context.add_tool(context / TOOL, architecture)
        requirements = ""
        if recipe.requirements:
            requirements = build_context.add_requirements(recipe.requirements, context / REQUIREMENTS)
        # Where packages are found is not what they are: the same requirements from elsewhere are the same image.
        known = (identity, recipe.python, recipe.platform, recipe.tool_image, requirements, *compilations)
        tag = f"{_REPOSITORY}:{_digest(context, known)}"
        if engine.has_image(tag):
            log.info("using the image %s", tag)
            return tag
        python = _find_python(engine, recipe)
        settings = build_context.proxies(os.environ)
        if requirements:
            settings = build_context.add_pip_settings(context / PIP, os.environ)
        dockerfile = context / "Dockerfile"
        dockerfile.write_text("\n".join(_describe(recipe, python, requirements, compilations, settings)) + "\n")
        version = ".".join(map(str, python.version))
        with progress.step(f"building the image {tag} on {recipe.base}, with Python {version}"):
            _build(engine, recipe, tag, context, settings)
        return tag


def _base(engine: Engine, recipe: Recipe) -> tuple[str, str]:
    """Return the identity and the architecture of the base, which is pulled if it is not there."""
    look = ("image", "inspect", "--format", "{{.Id}} {{.Os}}/{{.Architecture}}", recipe.base)
    found = engine.answer(*look).split() if engine.has_image(recipe.base) else []
    if not found or not f"{recipe.platform or found[1]}/".startswith(f"{found[1]}/"):
        words: deque[bytes] = deque(maxlen=SHOWN_LINES)
        with progress.step(f"pulling {recipe.base}"):
            code = engine.listen(("pull", *recipe.platform_option, recipe.base), _telling(words))
        if code != 0:
            raise RunnerError(
                f"there is no image {recipe.base} here, and it cannot be pulled; --base-image or --image names another "
                f"one:\n{_said(words)}"
            )
        found = engine.answer(*look).split()
    return found[0], found[1].partition("/")[2]


def _find_python(engine: Engine, recipe: Recipe) -> _Python:
    """Ask an interpreter of the base for its path and version."""
    wanted = (recipe.python,) if recipe.python else ("python3", "python")
    with engine.container() as name:
        said = engine.answer(
            *("run", "--name", name, *recipe.platform_option, "--entrypoint", "/bin/sh", "--env", f"ASK={_ASK}"),
            *(recipe.base, "-c", _FIND, "sh", *wanted),
            why=f"{recipe.base} has no Python that runs ({', '.join(wanted)}); --python names one in it:",
            patience=30,
        )
    try:
        path, (major, minor) = json.loads(said.splitlines()[-1])
    except (ValueError, IndexError, TypeError) as exc:
        raise RunnerError(f"{wanted[0]} of {recipe.base} is no Python; it said:\n{tail(said)}") from exc
    return _Python(path, (major, minor))


def _digest(folder: Path, more: Iterable[str]) -> str:
    """Return a text that is another one for other files in ``folder``."""
    digest = hashlib.sha256(json.dumps(list(more)).encode())
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        digest.update(json.dumps([path.relative_to(folder).as_posix(), path.stat().st_size]).encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()[:20]


# ---- the Dockerfile -----------------------------------------------------------------------------------------------


def _describe(
    recipe: Recipe, python: _Python, requirements: str, compilations: tuple[str, ...], settings: Mapping[str, str]
) -> Iterator[str]:
    """Write the Dockerfile, in words that docker's old and new builder and podman know alike."""
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
    # Last: another version of the tool is no reason to install the packages again.
    yield f"COPY {TOOL} {tool}"
    if compilations:
        # Without a compiler the tool ships libraries whole, and says so.
        yield f"RUN cd {tool} && if command -v cc; then {' && '.join(compilations)}; fi"
    yield f"FROM {recipe.base}"
    yield "USER root"
    yield f"RUN command -v strace >/dev/null || {_install('strace')} || echo 'going on without strace'"
    if python.version < _OLDEST_TOOL_PYTHON:
        yield f"COPY --from=interpreter {HOME} {HOME}"
        # Some find their own library under the name that they were built with.
        yield f"RUN read -r prefix <{HOME}/prefix; {_LINK_PREFIX}"
    if requirements:
        yield f"COPY --from=build {HOME}/env {HOME}/env"
    yield f"COPY --from=build {tool} {tool}"
    start = [runs_tool, "-I", "-S", tool]
    yield f"RUN mkdir -p {OUT} {HOME}/home {HOME}/scratch && {shlex.join(start)} --version"
    # What is mounted from the user's machine may cover the ordinary folders.
    yield f"ENV HOME={HOME}/home TMPDIR={HOME}/scratch"
    yield f"ENTRYPOINT {json.dumps([*start, INSIDE, REQUEST, packages])}"
    yield "CMD []"


def _install_requirements(python: _Python, requirements: str, settings: Mapping[str, str]) -> Iterator[str]:
    environment = f"{HOME}/env"
    make = f"{shlex.quote(python.path)} -m venv --system-site-packages"
    # An environment sees the image's own pip, where there is none to be put into it.
    yield f"RUN {make} {environment} || {make} --clear --without-pip {environment}"
    yield f"COPY {PIP} {PIP_INSIDE}"
    for name in sorted(settings):
        if name.startswith("PIP_"):  # an engine knows the others by itself
            yield f"ARG {name}"
    pip = f"{environment}/bin/python -m pip install --no-cache-dir"
    if python.version <= _LAST_WITH_OLD_PIP:
        yield f"RUN {pip} --upgrade pip"
    yield f"COPY {REQUIREMENTS} /layer_minimizer_build/{REQUIREMENTS}"
    yield f"RUN cd /layer_minimizer_build/{REQUIREMENTS} && {pip} --requirement {shlex.quote(requirements)}"


def _install(package: str, debian: str = "", others: str = "") -> str:
    """Return a shell command that installs a package with whatever installs packages in the image."""
    ways = " ".join(
        f"elif command -v {program} >/dev/null; "
        f"then {install} {' '.join(filter(None, (package, debian if program == 'apt-get' else others)))} && {clean};"
        for program, install, clean in _INSTALLERS
    )
    return f"{{ {ways.removeprefix('el')} else false; fi; }}"


# ---- the build ----------------------------------------------------------------------------------------------------


def _build(engine: Engine, recipe: Recipe, tag: str, context: Path, settings: Mapping[str, str]) -> None:
    # A value stays in the client's environment: other users of this machine see a command's arguments.
    arguments = [argument for name in sorted(settings) for argument in ("--build-arg", name)]
    command = ("build", "--force-rm", *recipe.platform_option, *arguments, "--tag", tag, str(context))
    words: deque[bytes] = deque(maxlen=SHOWN_LINES)
    if engine.listen(command, _telling(words), environment=settings) != 0:
        raise RunnerError(f"the image with {recipe.requirements or 'the tool'} cannot be built:\n{_said(words)}")


def _telling(words: deque[bytes]) -> Callable[[bytes], None]:
    """Tell the user what the engine says, and note it in ``words``, in case that it was the last."""

    def hear(line: bytes) -> None:
        # Engines colour what goes wrong, wherever it goes to.
        words.append(_COLOUR.sub(b"", line))
        log.info("%s", words[-1].decode(errors="replace").rstrip())

    return hear


def _said(words: Iterable[bytes]) -> str:
    return b"".join(words).decode(errors="replace").strip()
