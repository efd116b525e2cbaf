"""Choose the interpreter whose packages are used: an existing one, or that of an environment made for the run."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import TYPE_CHECKING

from layer_minimizer.aws.runtimes import load_runtimes, python_of
from layer_minimizer.core.errors import UsageError
from layer_minimizer.environment.package_source import PackageSource
from layer_minimizer.environment.prepared import Target, make_environment

if TYPE_CHECKING:
    from layer_minimizer.settings import Settings


def with_packages(settings: Settings) -> Settings:
    """Return the settings with the interpreter whose packages are used, in place of a lock or requirements.

    Raises:
        UsageError, RunnerError: as `make_environment`.
    """
    python = _provide_python(settings)
    return replace(
        settings,
        python=python,
        lock="",
        requirements="",
        groups=(),
        extras=(),
        package="",
        python_version="",
        platform="",
    )


def _provide_python(settings: Settings) -> str:
    """Return the interpreter; with a lock or requirements its environment is made first.

    Raises:
        UsageError, RunnerError: as `make_environment`.
    """
    source = package_source(settings)
    if source is None:
        for option, value in (("--python-version", settings.python_version), ("--platform", settings.platform)):
            if value:
                raise UsageError(
                    f"{option} {value} is for packages that are installed: name them with --lock or --requirements"
                )
        return settings.python or sys.executable
    runtime = load_runtimes().get(settings.runtime)
    version = settings.python_version
    if settings.python and version:
        raise UsageError(f"--python {settings.python} and --python-version {version}: choose one")
    if not (version or settings.python):
        version = python_of(settings.runtime)
    glibc = runtime.versions["GLIBC"] if runtime else None
    return make_environment(source, Target(version, settings.python, settings.platform, glibc))


def package_source(settings: Settings) -> PackageSource | None:
    """Return the lock or the requirements that the options name, and what they choose from it; None if there is none.

    Raises:
        UsageError: a file does not exist, or the options contradict each other.
    """
    return PackageSource.of(
        lock=settings.lock,
        requirements=settings.requirements,
        groups=settings.groups,
        extras=settings.extras,
        package=settings.package,
    )
