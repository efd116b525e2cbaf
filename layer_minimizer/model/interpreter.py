"""The interpreter whose packages are minimized."""

from __future__ import annotations

from dataclasses import dataclass

# ---- where it runs ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Interpreter:
    """The Python whose installed distributions are minimized.

    ``base_executable`` is the interpreter that a virtual environment was made from (itself when there is none);
    ``site_dirs`` are its site-packages folders in the order of ``sys.path``; ``hidden_dirs`` are
    further site-packages folders that must be out of reach when a layer is verified (those of the base interpreter and
    of the user); ``library_dir`` is a folder that the dynamic loader looks into first, or empty.
    """

    executable: str
    base_executable: str
    version: tuple[int, int, int]
    soabi: str
    machine: str
    site_dirs: tuple[str, ...]
    stdlib_dirs: tuple[str, ...]
    hidden_dirs: tuple[str, ...]
    user_base: str
    library_dir: str = ""

    @property
    def folder(self) -> str:
        """Name of the version's folder in a layer, ``python3.11``."""
        return f"python{self.version[0]}.{self.version[1]}"

    @property
    def avoid(self) -> tuple[str, ...]:
        """Folders that are no part of a function although they may lie below the entry's."""
        return (*self.site_dirs, *self.hidden_dirs)

    @property
    def cache_tag(self) -> str:
        """What the names of its bytecode files have in their middle, ``cpython-311``."""
        return f"cpython-{self.version[0]}{self.version[1]}"
