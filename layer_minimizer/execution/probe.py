"""Copy the probe into a scratch folder, from which the traced interpreter runs it."""

from __future__ import annotations

import shutil
from pathlib import Path

from layer_minimizer.core.errors import RunnerError

_PAYLOAD = Path(__file__).parents[1] / "payload"
_PROBE, _RUNTIME = _PAYLOAD / "probe", _PAYLOAD / "runtime"


def copy_probe(folder: Path) -> Path:
    """Put the files that run inside the traced interpreter where no hidden folder can take them away.

    Raises:
        RunnerError: the folder cannot be written.
    """
    try:
        probe = Path(shutil.copytree(_PROBE, folder / "probe", ignore=shutil.ignore_patterns("__pycache__")))
        for part in (_RUNTIME / "messages.py", *_RUNTIME.glob("standin*.py")):
            shutil.copy(part, probe)
    except OSError as exc:
        raise RunnerError(f"cannot copy the probe into {folder}: {_why(exc)}; TMPDIR sets another place") from exc
    return probe


def _why(error: OSError) -> str:
    """Say what the system said; shutil puts the errors of single files into a list."""
    listed = error.args[0] if isinstance(error, shutil.Error) else None
    return str(listed[0][2]).partition(": ")[0] if listed else error.strerror or str(error)
