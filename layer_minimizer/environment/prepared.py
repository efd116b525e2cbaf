"""Make the environment of a lock or a requirements file with uv, once, in the cache of this tool."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import platform
import re
import shutil
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from packaging.version import Version

from layer_minimizer.analysis import elf
from layer_minimizer.core import progress
from layer_minimizer.core.cache import cache_folder
from layer_minimizer.core.errors import RunnerError, UsageError
from layer_minimizer.core.files import unfinished_folder
from layer_minimizer.environment import local_sources
from layer_minimizer.environment.interpreter import describe_interpreter
from layer_minimizer.environment.lock_fit import allows_python, read_fitting, require_python
from layer_minimizer.environment.locked_packages import LockedPackage, requirements_text
from layer_minimizer.environment.package_source import SourceKind, requirement_lines
from layer_minimizer.execution.uv import Uv

if TYPE_CHECKING:
    from collections.abc import Iterator

    from layer_minimizer.environment.package_source import PackageSource
    from layer_minimizer.model.interpreter import Interpreter

log = logging.getLogger(__name__)
# The folder in the cache.
ENVIRONMENTS = "environments"
# The names that container engines and the kernel have for processors; uv and ELF headers use the kernel's.
_MACHINES = {"amd64": "x86_64", "x86_64": "x86_64", "arm64": "aarch64", "aarch64": "aarch64"}
# The versions of glibc for which uv knows a platform: the values of its option --python-platform.
_GLIBCS = (17, 28, *range(31, 41))
# Without a runtime, an environment for another machine is one for Lambda's current system, Amazon Linux 2023.
_DEFAULT_GLIBC = Version("2.34")
_SHOWN = 5


@dataclass(frozen=True, slots=True)
class Target:
    """For which Python and which machine an environment is made.

    Attributes:
        version: a version, or what else uv accepts for one; empty for the project's own.
        python: an interpreter; used if there is no version.
        platform: ``linux/arm64`` or ``linux/amd64``; empty for this machine's.
        glibc: the glibc of the Lambda runtime; None if the layer is for no certain one.
    """

    version: str = ""
    python: str = ""
    platform: str = ""
    glibc: Version | None = None

    @property
    def machine(self) -> str:
        """The kernel's name of the processor; empty for this machine's.

        Raises:
            UsageError: the platform is unknown.
        """
        if not self.platform:
            return ""
        system, _, rest = self.platform.partition("/")
        machine = _MACHINES.get(rest.partition("/")[0])
        if system != "linux" or machine is None:
            raise UsageError(f"--platform {self.platform}: Lambda runs on linux/amd64 and linux/arm64")
        return machine


def make_environment(source: PackageSource, target: Target) -> str:
    """Return the interpreter of the environment with the packages of ``source``; make it if the cache has none.

    The project's own ``.venv`` is neither read nor changed.

    Raises:
        UsageError: the lock is not valid, does not fit the project, or lacks what is chosen from it.
        RunnerError: there is no uv or no such Python, a package cannot be installed, or nothing of it can be run here.
    """
    machine = target.machine
    packages = () if source.kind in (SourceKind.UV, SourceKind.REQUIREMENTS) else tuple(read_fitting(source))
    uv = Uv.find(source.option)
    base = _find_python(uv, source, target)
    if source.kind is not SourceKind.UV:  # which checks it by itself
        require_python(source, base.version)
    wanted = _Wanted(source, packages, base, python_platform(base.machine, machine, target.glibc))
    folder = cache_folder(ENVIRONMENTS) / wanted.key
    if folder.is_dir():
        log.info("using the environment of %s: %s", source.file, folder)
    else:
        version = ".".join(map(str, base.version))
        with progress.step(f"installing {source.file.name} for Python {version} into {folder}"):
            _create(uv, wanted, folder)
    if machine not in ("", base.machine):
        _refuse_foreign(target, base, folder)
    return str(folder / "bin" / "python")


# ---- the interpreter ------------------------------------------------------------------------------------------------


def _find_python(uv: Uv, source: PackageSource, target: Target) -> Interpreter:
    """Return the interpreter with which the environment is made."""
    if not target.version:
        own = describe_interpreter(target.python or sys.executable)
        own = describe_interpreter(own.base_executable)
        if target.python or _suits(source, own):
            return own
    what = f"Python {target.version}" if target.version else f"a Python for {source.folder}"
    arguments = ("python", "find", "--system", *([target.version] if target.version else ()))
    output = uv.run(*arguments, folder=source.folder, why=f"{what} is not installed here:")
    paths = [line for line in output.splitlines() if os.path.isabs(line)]
    if not paths:
        raise RunnerError(f"{what}: uv python find names no interpreter:\n{output}")
    return describe_interpreter(paths[-1])


def _suits(source: PackageSource, own: Interpreter) -> bool:
    """Return whether a project leaves the choice of this interpreter to the user."""
    return not (source.folder / ".python-version").is_file() and allows_python(source.pyproject(), own.version)


def python_platform(own: str, machine: str, glibc: Version | None) -> str:
    """Return uv's name of the platform whose wheels are installed; empty for that of the interpreter.

    Wheels that need a newer glibc than the runtime has are not for it, even if they work here.
    """
    if machine in ("", own):
        here = re.fullmatch(r"glibc (\S+)", os.confstr("CS_GNU_LIBC_VERSION") or "")
        if glibc is None or (here and Version(here[1]) <= glibc):
            return ""
    minor = max(known for known in _GLIBCS if known <= max((glibc or _DEFAULT_GLIBC).minor, _GLIBCS[0]))
    return f"{machine or own}-manylinux_2_{minor}"


def _refuse_foreign(target: Target, base: Interpreter, folder: Path) -> None:
    """Raise the error that says what of an environment for another machine cannot be run here."""
    site = next(folder.glob("lib/python*/site-packages"))
    compiled = sorted(
        path.relative_to(site).as_posix()
        for path in site.rglob("*")
        if elf.is_elf_name(path.name) and path.is_file() and elf.read_dynamic(path)
    )
    shown = ", ".join(compiled[:_SHOWN]) + (f" and {len(compiled) - _SHOWN:,} more" if len(compiled) > _SHOWN else "")
    what = f"it cannot load {shown}" if compiled else "the layer's own runtime library would be for another machine"
    raise RunnerError(
        f"--platform {target.platform}: its wheels are in {folder}, but {base.executable} is for {base.machine}: "
        f"{what}. So nothing can be traced or verified here. Run minimize on such a machine; or with --runner docker "
        f"and an emulator (tonistiigi/binfmt); or name with --python one that QEMU runs: minimize help packages"
    )


# ---- making it ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Wanted:
    """An environment: the list of its packages, the interpreter, and uv's name of the platform."""

    source: PackageSource
    packages: tuple[LockedPackage, ...]
    base: Interpreter
    platform: str

    @property
    def key(self) -> str:
        """The name in the cache: a digest of all that decides about the content."""
        source, base = self.source, self.base
        if source.kind is SourceKind.REQUIREMENTS:
            listed: list[str] = [line for _, line in requirement_lines(source.file)]
        else:
            listed = [source.file.read_text("utf-8")]
        found = {
            "lists": listed,
            "kind": source.kind,
            "chosen": [sorted(set(source.groups)), sorted(set(source.extras)), source.package],
            "python": [base.executable, *base.version, base.soabi, base.machine],
            "platform": [self.platform, platform.machine()],
            "pyproject": source.pyproject() if source.kind is SourceKind.UV else {},
            "local": local_sources.state(self.local),
        }
        return hashlib.sha256(json.dumps(found, default=str, sort_keys=True).encode()).hexdigest()[:24]

    @property
    def local(self) -> tuple[Path, ...]:
        """The files and folders of this machine that are installed or searched."""
        if self.source.kind is SourceKind.UV:
            return tuple(local_sources.of_uv_lock(self.source))
        if self.source.kind is SourceKind.REQUIREMENTS:
            return tuple(local_sources.of_requirements(requirement_lines(self.source.file)))
        return tuple(local_sources.of_urls(package.url for package in self.packages))


def _create(uv: Uv, wanted: _Wanted, folder: Path) -> None:
    """Install into a temporary folder, and rename it. If two runs do that at the same time, the first one counts."""
    source = wanted.source
    why = f"{source.option} cannot be installed:"
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with unfinished_folder(folder) as part, tempfile.TemporaryDirectory(prefix="layer_minimizer-") as scratch:
            made = part / "env"
            make = ("venv", "--relocatable", "--no-project", "--python", wanted.base.executable, str(made))
            uv.run(*make, folder=source.folder, why=why)
            # uv builds a project in its folder, and decides by pyproject.toml whether an earlier build will do.
            names = [("--refresh-package", name) for name in local_sources.names(wanted.local)]
            more = [*(word for pair in names for word in pair), "--python", str(made / "bin" / "python")]
            if wanted.platform:
                more += ["--python-platform", wanted.platform]
            install = [*_install(wanted, Path(scratch)), *more]
            uv.run(*install, folder=source.folder, why=why, variables={"UV_PROJECT_ENVIRONMENT": str(made)})
            _publish(made, folder)
    except (OSError, shutil.Error) as exc:
        raise RunnerError(f"{source.option}: cannot create {folder}: {exc}; LAYER_MINIMIZER_CACHE moves it") from exc


def _install(wanted: _Wanted, scratch: Path) -> Iterator[str]:
    """Yield the command of uv that installs the packages; ``scratch`` is for files."""
    source = wanted.source
    match source.kind:
        case SourceKind.UV:
            yield from ("sync", "--locked", "--no-editable", "--no-default-groups", *source.choice)
        case SourceKind.PYLOCK:
            yield from ("pip", "sync", "--allow-empty-requirements", *source.choice, str(source.file))
        case SourceKind.REQUIREMENTS:
            has_hashes = any("--hash" in line for _, line in requirement_lines(source.file))
            # As pip does: with the hash of one package, it wants those of all.
            yield from ("pip", "install", *(["--require-hashes"] if has_hashes else ()))
            yield from ("--requirements", str(source.file))
        case _:
            file = scratch / "requirements.txt"
            file.write_text(requirements_text(wanted.packages), "utf-8")
            # A hash of a lock fits one file, whichever index has it.
            yield from ("pip", "sync", "--allow-empty-requirements", "--index-strategy", "unsafe-best-match")
            yield from (*(["--require-hashes"] if all(p.hashes for p in wanted.packages) else ()), str(file))


def _publish(made: Path, folder: Path) -> None:
    try:
        made.rename(folder)
    except OSError:
        if not folder.is_dir():  # another run has made it
            raise
