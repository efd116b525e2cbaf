"""The interpreter whose packages are minimized."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Interpreter:
    """The Python whose installed distributions are minimized.

    Attributes:
        executable: the path of the interpreter.
        base_executable: the interpreter that a virtual environment was created from, else the same.
        version: its version.
        soabi: the tag in the names of its extension modules.
        machine: the architecture, as in ``platform.machine()``.
        site_dirs: its site-packages folders in the order of ``sys.path``.
        stdlib_dirs: the folders of the standard library.
        hidden_dirs: site-packages folders of the base interpreter and the user, which are hidden in verifying runs.
        user_base: the value of PYTHONUSERBASE, or empty.
        library_dir: the folder for LD_LIBRARY_PATH, or empty.
        page_size: the bytes of a page of memory, as the kernel that runs it has them.
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
    page_size: int = 4096

    @property
    def folder(self) -> str:
        """The name of its folder in a layer, such as ``python3.11``."""
        return f"python{self.version[0]}.{self.version[1]}"

    @property
    def avoid(self) -> tuple[str, ...]:
        """Folders that do not belong to a function even if they are below the entry's folder."""
        return (*self.site_dirs, *self.hidden_dirs)

    @property
    def cache_tag(self) -> str:
        """The tag in the names of its bytecode files, such as ``cpython-311``."""
        return f"cpython-{self.version[0]}{self.version[1]}"
