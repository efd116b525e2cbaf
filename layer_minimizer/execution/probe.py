"""Copy the probe to a scratch folder, from which the traced interpreter imports it."""

from __future__ import annotations

import shutil
from pathlib import Path

from layer_minimizer.core.errors import RunnerError
from layer_minimizer.core.files import scratch_errors

_PAYLOAD = Path(__file__).parents[1] / "payload"
_PROBE, _RUNTIME = _PAYLOAD / "probe", _PAYLOAD / "runtime"


def copy_probe(folder: Path) -> Path:
    """Copy the files that run inside the traced interpreter to ``folder``, which is never hidden; return the copy.

    Raises:
        RunnerError: the folder cannot be written.
    """
    with scratch_errors(RunnerError, f"cannot copy the probe into {folder}"):
        probe = Path(shutil.copytree(_PROBE, folder / "probe", ignore=shutil.ignore_patterns("__pycache__")))
        for part in (_RUNTIME / "messages.py", _RUNTIME / "order.py", *_RUNTIME.glob("standin*.py")):
            shutil.copy(part, probe)
    return probe
