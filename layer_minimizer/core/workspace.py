"""The files that a run of the tool writes: a scratch folder, and outputs under temporary names."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from layer_minimizer.core import files, output_folder
from layer_minimizer.core.files import scratch_folder
from layer_minimizer.core.progress import Clock

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator

    StrPath = str | os.PathLike[str]


@dataclass(frozen=True, slots=True)
class Workspace:
    """The scratch folder of a run, and its outputs under temporary names.

    Attributes:
        scratch: the folder for temporary files.
        layer: the temporary name of the layer's zip.
        function: the temporary name of the function's zip, if one is needed.
        targets: (temporary name, final name) of each output, the layer (or what is made of it) first.
        clock: measures the duration of the stages.
    """

    scratch: Path
    layer: Path
    function: Path | None
    targets: tuple[tuple[Path, Path], ...]
    clock: Clock = field(default_factory=Clock)

    @staticmethod
    @contextmanager
    def open(
        output: StrPath, function_zip: StrPath | None, *, is_zip: bool = True, with_function: bool = False
    ) -> Iterator[Workspace]:
        """Yield a workspace; everything that was not committed is removed afterwards.

        ``is_zip``: the output is the layer's zip; otherwise it is made of the zip, which lies in the scratch folder.
        ``with_function``: the function's zip is needed, even if it is no output.
        """
        paths = [Path(path).absolute() for path in (output, function_zip) if path]
        with ExitStack() as stack:
            scratch = stack.enter_context(scratch_folder())
            parts = [stack.enter_context(files.unfinished(path)) for path in paths]
            function = parts[1] if function_zip else scratch / "function.zip" if with_function else None
            layer = parts[0] if is_zip else scratch / "layer.zip"
            yield Workspace(scratch, layer, function, tuple(zip(parts, paths, strict=True)))

    @property
    def output(self) -> Path:
        """The temporary name of the output."""
        return self.targets[0][0]

    @property
    def function_target(self) -> Path | None:
        """The final name of the function's zip, if it is an output."""
        return self.targets[1][1] if len(self.targets) > 1 else None

    def commit(self) -> None:
        """Rename the outputs to their final names, the function's first.

        Raises:
            PackError: one of them cannot be written.
        """
        for part, target in reversed(self.targets):
            if part.is_dir():
                output_folder.replace_folder(part, target)
            else:
                files.replace_output(part, target)
