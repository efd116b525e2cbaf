"""Give the folders of a run names that do not depend on the run, so that results that contain paths can be compared."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

SITE, TASK, TMP, HOME = "{site-packages}", "{task}", "{tmp}", "{home}"
# A folder with fewer parts may be the end of another path: "/srv/tmp".
_FEW_PARTS = 3


@dataclass(frozen=True)
class Places:
    """The folders of a run, with the names that stand for them in its results.

    Attributes:
        folders: (absolute path, name) pairs; several paths can have one name.
    """

    folders: tuple[tuple[str, str], ...]

    @classmethod
    def of(cls, *, site: Iterable[str], task: str, tmp: str = "", home: str = "") -> Places:
        """Return the places of a run: its site-packages folders, task root, and folders for temporary files."""
        named = [*((folder, SITE) for folder in site), (task, TASK), (tmp, TMP), (home, HOME), ("/tmp", TMP)]  # noqa: S108
        return cls(tuple(dict.fromkeys((folder.rstrip("/"), name) for folder, name in named if folder.rstrip("/"))))

    def rename(self, text: str) -> str:
        """Return a result with the names in place of the folders."""
        if not self.folders:
            return text
        return self._pattern.sub(lambda found: self._names[found[0]], text)

    @cached_property
    def _names(self) -> dict[str, str]:
        return dict(reversed(self.folders))

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        longest_first = sorted(self._names, key=len, reverse=True)
        return re.compile("|".join(map(_folder_pattern, longest_first)))


def _folder_pattern(folder: str) -> str:
    start = r"(?<![\w.-])" if folder.count("/") <= _FEW_PARTS else ""
    return rf"{start}{re.escape(folder)}(?![\w-]|\.\w)"
