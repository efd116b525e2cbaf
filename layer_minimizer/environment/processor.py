"""Environment variables of this machine that choose code by the kind of processor (processor.toml)."""

from __future__ import annotations

import mmap
import tomllib
from importlib import resources
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path


def chosen_code(environment: Mapping[str, str]) -> dict[str, str]:
    """Return those of the variables that are set."""
    rules = tomllib.loads((resources.files(__package__) / "processor.toml").read_text("utf-8"))
    return {name: environment[name] for name in rules["variables"] if name in environment}


def warn_of_chosen_code(environment: Mapping[str, str], libraries: Iterable[Path]) -> Iterator[str]:
    """Yield a warning if one of the ``libraries`` has the name of a variable that is set, and so may read it."""
    chosen = chosen_code(environment)
    if chosen and (read := _contained(chosen, libraries)):
        listed = " ".join(f"{name}={value}" for name, value in chosen.items() if name in read)
        yield (
            f"libraries choose their code by variables of this machine: {listed}. Set the same ones for the function, "
            "or make the layer without them"
        )


def _contained(names: Iterable[str], libraries: Iterable[Path]) -> set[str]:
    """Return those of the names that one of the files contains."""
    left, found = set(names), set[str]()
    for library in libraries:
        if left and library.stat().st_size:
            with library.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
                found |= {name for name in left if content.find(name.encode()) >= 0}
            left -= found
    return found
