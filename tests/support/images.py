"""Debian images that are created by the tests, without a registry."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from .debian import tar_of
from .pythons import need_python

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .docker import Engine

DEBIAN = "layer_minimizer_test/debian:bookworm"
PYTHON = "python3-minimal,python3,libstdc++6"
PACKAGES = "python3,python3-venv,python3-pip,g++,libc6-dev,strace,unzip,ca-certificates"
# Of an interpreter's site-packages, only what CPython itself installs is copied.
OF_CPYTHON = {"pip", "setuptools", "pkg_resources", "_distutils_hack", "distutils-precedence.pth"}


@pytest.fixture(scope="session")
def make_image(docker: dict[str, str]) -> Iterator[Callable[[str, str], str]]:
    """Return a function that creates Debian images with Debian's Python; they are removed at the end."""
    made: list[str] = []
    environment = {**os.environ, **docker}

    def make(suite: str, tag: str) -> str:
        # One per test process, since each process removes its own images when it ends.
        name = f"layer_minimizer_test/{suite}-{os.getpid()}:{tag}"
        found = subprocess.run(["docker", "image", "inspect", name], env=environment, capture_output=True, check=False)
        if found.returncode == 0:
            return name
        rootfs = tar_of(suite, PYTHON)
        subprocess.run(["docker", "import", rootfs, name], env=environment, check=True, capture_output=True)
        made.append(name)
        return name

    yield make
    for name in made:
        subprocess.run(["docker", "image", "rm", "--force", name], env=environment, check=False, capture_output=True)


@pytest.fixture(scope="session")
def image(docker: dict[str, str], make_image: Callable[[str, str], str]) -> str:
    """Return an image with a Python of the version that runs the tests, and nothing else."""
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    given = os.environ.get("LAYER_MINIMIZER_TEST_IMAGE", f"local/python:{version}")
    command = ["docker", "image", "inspect", given]
    if subprocess.run(command, env={**os.environ, **docker}, capture_output=True, check=False).returncode == 0:
        return given
    suite = {"3.11": "bookworm", "3.13": "trixie"}.get(version)
    if suite is None:
        pytest.skip(f"no Debian release has Python {version}; LAYER_MINIMIZER_TEST_IMAGE can name an image")
    return make_image(suite, version)


@pytest.fixture(scope="session")
def old_image(
    docker: dict[str, str], make_image: Callable[[str, str], str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """Yield an image with the CPython 3.6 of this machine in /var/lang, as in Lambda's images."""
    prefix = Path(need_python("3.6")).parent.parent
    context = tmp_path_factory.mktemp("old_image")
    skipped = shutil.ignore_patterns("site-packages", "test", "__pycache__")
    shutil.copytree(prefix, context / "python", symlinks=True, ignore=skipped)
    lines = ["ARG BASE", "FROM $BASE", "COPY python /var/lang"]
    lines += ["ENV PATH=/var/lang/bin:/usr/bin:/bin LD_LIBRARY_PATH=/var/lang/lib"]
    (context / "Dockerfile").write_text("\n".join(lines) + "\n")
    name = f"layer_minimizer_test/python36:{os.getpid()}"
    environment = {**os.environ, **docker}
    base = make_image("bookworm", "3.11")
    command = ["docker", "build", "--quiet", "--build-arg", f"BASE={base}", "--tag", name, context]
    subprocess.run(command, env=environment, check=True, capture_output=True)
    yield name
    subprocess.run(["docker", "image", "rm", "--force", name], env=environment, check=True, capture_output=True)


@pytest.fixture(scope="session")
def debian(engine: Engine) -> str:
    """Return the name of an image with Debian's Python 3.11, pip, a compiler, strace and unzip."""
    if engine.run("image", "inspect", DEBIAN).returncode != 0:
        engine.images.add(DEBIAN)
        engine.output("import", str(tar_of("bookworm", PACKAGES)), DEBIAN)
    return DEBIAN


@pytest.fixture(scope="session")
def trusting(engine: Engine, debian: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return the Debian image with the certificates of ``PIP_CERT``, for Dockerfiles that do not set them."""
    bundle = os.environ.get("PIP_CERT")
    if not bundle:
        return debian
    folder = tmp_path_factory.mktemp("trusting")
    shutil.copy(bundle, folder / "bundle.pem")
    text = f"FROM {debian}\nCOPY bundle.pem /bundle.pem\nENV PIP_CERT=/bundle.pem\n"
    return engine.build("layer_minimizer_test/trusting", text, folder)


@pytest.fixture(scope="session")
def old_and_new(
    engine: Engine, trusting: str, python_of: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory
) -> str:
    """Return an image with CPython 3.6, and with 3.12 for the tool in /opt/python, as in manylinux images."""
    folder = tmp_path_factory.mktemp("pythons")
    lines = [f"FROM {trusting}"]
    for version in ("3.6", "3.12"):
        prefix = Path(python_of(version)).parents[1]
        shutil.copytree(prefix, folder / version, symlinks=True, ignore=foreign)
        # The same path as here: its RPATH may contain it.
        lines.append(f"COPY {version} {prefix}")
        if version == "3.6":
            lines.append(f"RUN cd /usr/local/bin && ln -s {prefix}/bin/python3.6 . && ln -s python3.6 python3")
        else:
            lines.append(f"RUN mkdir /opt/python && ln -s {prefix} /opt/python/cp312-cp312")
    return engine.build("layer_minimizer_test/old", "\n".join(lines) + "\n", folder)


def foreign(folder: str, names: list[str]) -> list[str]:
    """Return the names that are not copied with a CPython."""
    if os.path.basename(folder) == "site-packages":
        return [name for name in names if name not in OF_CPYTHON and not name.startswith(("pip-", "setuptools-"))]
    return [name for name in names if name in {"__pycache__", "test"} or name.endswith(".a")]
