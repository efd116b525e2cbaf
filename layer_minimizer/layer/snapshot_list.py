"""The list of what a layer puts back before a snapshot (Lambda SnapStart): written into the layer, read from logs.

It has the form of a layer's log, which is what it is made of.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from layer_minimizer.core.errors import PackError, UsageError
from layer_minimizer.core.files import scratch_errors
from layer_minimizer.layer import log_messages
from layer_minimizer.layer.cold_store import PACKAGE, digest
from layer_minimizer.model.snapshot import Needs, PutBack
from layer_minimizer.payload.runtime import messages, snapshot

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path


def read_needs(logs: Iterable[Path], option: str) -> Needs:
    """Read from logs of a deployed layer what it restored or loaded.

    Raises:
        UsageError: a file cannot be read, or is no such log.
    """
    found: tuple[dict[str, None], dict[str, None], dict[tuple[int, int, str], None]] = ({}, {}, {})
    for log in logs:
        try:
            text = log.read_text("utf-8", errors="replace")
        except OSError as exc:
            raise UsageError(f"{option} {log} cannot be read: {exc.strerror}") from exc
        matches = list(log_messages.RESTORED.finditer(text))
        if not matches:
            raise UsageError(
                f"{option} {log} does not say what a layer restored: set LAYER_MINIMIZER_LOG=1 for a function with a "
                "layer of this tool, and pass the log of its invocations"
            )
        for match in matches:
            if name := match["module"] or match["woken"]:
                found[0][name] = None
            elif match["file"]:
                found[1][match["file"].strip()] = None
            else:
                found[2][int(match["page"], 16), int(match["count"], 16), match["library"].strip()] = None
    names, files, pages = found
    return Needs(tuple(names), tuple(files), tuple(pages))


def write_list(put_back: PutBack, top: Path) -> None:
    """Write the list into the layer in the site folder ``top``, unless it is empty.

    Raises:
        PackError: it cannot be written.
    """
    lines = [
        *(messages.WOKE % (name, "a snapshot", "its list") for name in put_back.stand_ins),
        *(messages.RESTORED_FILE % path for path in put_back.files),
        *(messages.RESTORED_MODULE % name for name in put_back.modules),
        *(messages.RESTORED_PAGES % pages for pages in put_back.pages),
    ]
    if not lines:
        return
    content = "".join(f"{line}\n" for line in lines).encode()
    file = top / PACKAGE / snapshot.FOLDER / digest(content)
    with scratch_errors(PackError, f"cannot write below {top}: {{file}}"):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
        file.chmod(0o644)


def has_list(top: Path) -> bool:
    """Return whether the layers in the site folder ``top`` put something back before a snapshot."""
    return (top / PACKAGE / snapshot.FOLDER).is_dir()
