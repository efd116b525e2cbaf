"""Recognizes what of an environment is for a GPU: libraries by what is in them, others by rules (gpu.toml)."""

from __future__ import annotations

import tomllib
from collections import Counter
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import cache
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from layer_minimizer.analysis import elf
from layer_minimizer.native.elf_image import ElfImage, UnsupportedLibraryError, map_file, read_image
from layer_minimizer.native.symbols import needed_names

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from layer_minimizer.model.installed import InstalledFile

# A library is for a GPU if at least this part of what is mapped of it are programs for one, and a distribution if at
# least this part of it are such libraries.
_MOST_OF_A_LIBRARY, _MOST_OF_A_DISTRIBUTION = 0.5, 0.9


@dataclass(frozen=True, slots=True)
class GpuParts:
    """What of an environment is for a GPU.

    Attributes:
        libraries: the shared libraries, each with the reason.
        distributions: the distributions of which everything is, each with the reason.
    """

    libraries: Mapping[str, str] = field(default_factory=dict)
    distributions: Mapping[str, str] = field(default_factory=dict)

    def reason(self, file: InstalledFile) -> str:
        """Return why a file is for a GPU; empty if it is not."""
        return self.libraries.get(file.path) or self.distributions.get(file.distribution, "")


def find_gpu_parts(files: Iterable[InstalledFile]) -> GpuParts:
    """Return what is for a GPU among installed files."""
    files, rules = tuple(files), _rules()
    distributions = {
        name: f"{name} is for a GPU"
        for name in {file.distribution for file in files}
        if any(fnmatchcase(name, pattern) for pattern in rules["distributions"])
    }
    libraries = {}
    needs = {file: _needed(Path(file.source)) for file in files if elf.is_elf_name(file.path) and not file.link}
    needed = {name for names in needs.values() for name in names}
    for file, names in needs.items():
        if file.distribution in distributions:
            libraries[file.path] = distributions[file.distribution]
        elif why := _reason(file, names, needed):
            libraries[file.path] = why
    distributions = _by_libraries(files, libraries) | distributions
    return GpuParts(libraries, distributions)


def cpu_builds(distributions: Iterable[str]) -> dict[str, str]:
    """Return where those of some distributions that have a build without libraries for a GPU have it."""
    known = _rules()["cpu_builds"]
    return {name: known[name] for name in distributions if name in known}


def _reason(file: InstalledFile, names: Iterable[str], needed: set[str]) -> str:
    """Return why a library that needs ``names`` is for a GPU; empty if not. ``needed``: what all libraries need."""
    rules = _rules()
    if any(fnmatchcase(file.path, pattern) for pattern in rules["libraries"]):
        return "it is loaded where there is a GPU"
    for name in names:
        if any(fnmatchcase(name, pattern) for pattern in rules["drivers"]):
            return f"it needs {name}, a part of a GPU's driver"
    # One that is loaded by itself may have functions for the processor, too, as extensions of torchvision have.
    if file.path.rpartition("/")[2] not in needed:
        return ""
    programs = _programs(Path(file.source))
    return f"most of it are programs for a GPU ({programs})" if programs else ""


def _programs(source: Path) -> str:
    """Return the section with programs for a GPU, if these are most of a library."""
    image = _read(source)
    if image is None:
        return ""
    found = [section for section in image.sections if section.name in _rules()["sections"]]
    mapped = sum(segment.file_size for segment in image.loads)
    return found[0].name if sum(section.size for section in found) >= _MOST_OF_A_LIBRARY * mapped and found else ""


def _by_libraries(files: Iterable[InstalledFile], libraries: Mapping[str, str]) -> dict[str, str]:
    """Return the distributions that consist of libraries for a GPU, with the reason."""
    sizes, of_gpu = Counter[str](), Counter[str]()
    for file in files:
        sizes[file.distribution] += file.size
        of_gpu[file.distribution] += file.size if file.path in libraries else 0
    most = [name for name in of_gpu if name and of_gpu[name] >= _MOST_OF_A_DISTRIBUTION * sizes[name] > 0]
    return {name: f"nearly all of {name} are libraries for a GPU" for name in most}


def _needed(source: Path) -> tuple[str, ...]:
    """Return the DT_NEEDED names of a library."""
    image = _read(source)
    return needed_names(image) if image else ()


def _read(source: Path) -> ElfImage | None:
    """Read a library; None if that is not possible, which others report if it matters."""
    try:
        return read_image(map_file(source))
    except (OSError, ValueError, UnsupportedLibraryError):
        return None


@cache
def _rules() -> Mapping[str, Any]:
    return tomllib.loads(resources.files(__package__).joinpath("gpu.toml").read_text("utf-8"))
