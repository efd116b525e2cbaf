"""Write the layer that traces a deployed function."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from layer_minimizer.core.files import check_output, replacing, scratch_folder
from layer_minimizer.execution.probe import copy_probe
from layer_minimizer.layer.archive import write_zip

if TYPE_CHECKING:
    import os

    from layer_minimizer.model.outcome import LayerArchive

    StrPath = str | os.PathLike[str]

# The wrapper replaces the handler that the runtime loads, as AWS documents it:
# https://docs.aws.amazon.com/lambda/latest/dg/runtimes-modify.html#runtime-wrapper
_WRAPPER = """\
#!/bin/sh
export LAYER_MINIMIZER_HANDLER="$_HANDLER" _HANDLER=layer_minimizer_probe.handler
exec "$@"
"""


def write_probe(target: Path, scratch: Path) -> LayerArchive:
    """Write the layer that traces a deployed function; it is inactive until an environment variable enables it.

    Raises:
        PackError: the zip cannot be written.
        RunnerError: the scratch folder cannot be written.
    """
    package = scratch / "layer" / "python" / "layer_minimizer_probe"
    probe = copy_probe(scratch)
    (package / "startup").mkdir(parents=True)
    shutil.copyfile(probe / "production.py", package / "__init__.py")
    for name in ("layer_minimizer_loading.py", "probe.py"):
        shutil.copyfile(probe / name, package / name)
    shutil.copyfile(probe / "startup" / "sitecustomize.py", package / "startup" / "sitecustomize.py")
    wrapper = scratch / "layer" / "layer_minimizer_trace"
    wrapper.write_text(_WRAPPER, "utf-8")
    wrapper.chmod(0o755)
    with replacing(target) as part:
        archive = write_zip(scratch / "layer", part)
    return replace(archive, path=target)


def write_probe_layer(output: StrPath) -> LayerArchive:
    """Write the layer that traces a deployed function.

    Raises:
        PackError: the zip cannot be written.
    """
    target = Path(output).absolute()
    check_output(target)
    with scratch_folder() as scratch:
        return write_probe(target, scratch)
