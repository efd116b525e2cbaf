"""Writes the file with the orders in which a layer lists folders; the runtime reads it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from layer_minimizer.layer.cold_store import PACKAGE
from layer_minimizer.payload.runtime import order

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from layer_minimizer.model.trace import ListedFolder


def write_orders(top: Path, folders: Iterable[ListedFolder]) -> None:
    """Write the orders of ``folders`` into the layer in the site folder ``top``, if it has a runtime.

    Raises:
        OSError: the file cannot be written.
    """
    if (top / PACKAGE).is_dir():
        file = top / PACKAGE / order.FILE
        text = "\0\0".join("\0".join((each.path, *each.names)) for each in folders)
        file.write_bytes(text.encode("utf-8", "surrogateescape"))
        file.chmod(0o644)
