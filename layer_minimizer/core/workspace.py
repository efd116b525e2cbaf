"""Where a run of the tool writes: a folder for what it needs on the way, and outputs that are not finished."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from layer_minimizer.core import files
from layer_minimizer.core.errors import PackError
from layer_minimizer.core.files import scratch_folder
from layer_minimizer.core.progress import Clock

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator

    StrPath = str | os.PathLike[str]


@dataclass(frozen=True, slots=True)
class Workspace:
    """Where a run writes: a folder for what it needs on the way, and outputs that are not finished.

    ``targets`` are the places of those outputs.
    """

    scratch: Path
    layer: Path
    function: Path | None
    targets: tuple[tuple[Path, Path], ...]
    clock: Clock = field(default_factory=Clock)

    @staticmethod
    @contextmanager
    def open(output: StrPath, function_zip: StrPath | None) -> Iterator[Workspace]:
        """Return a workspace; nothing of it is left afterwards but what was committed."""
        paths = [Path(path).absolute() for path in (output, function_zip) if path]
        with ExitStack() as stack:
            scratch = stack.enter_context(scratch_folder())
            parts = [stack.enter_context(files.unfinished(path)) for path in paths]
            function = parts[1] if function_zip else None
            yield Workspace(scratch, parts[0], function, tuple(zip(parts, paths, strict=True)))

    def commit(self) -> None:
        """Put the outputs in their places, the function's first.

        Raises:
            PackError: one cannot be written.
        """
        for part, target in reversed(self.targets):
            try:
                part.replace(target)
            except OSError as exc:
                raise PackError(f"cannot write {target}: {exc.strerror}") from exc
