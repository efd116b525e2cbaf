"""The paths in a layer: Lambda's two folder layouts, and the names of the files that this tool adds."""

from __future__ import annotations

from enum import StrEnum

CHECKSUMS = "check"
NO_DISTRIBUTION = "(no distribution)"
SYSTEM_LIBRARIES = "(libraries of this machine)"
# Lambda adds it to LD_LIBRARY_PATH: https://docs.aws.amazon.com/lambda/latest/dg/packaging-layers.html
LIBRARY_FOLDER = "lib"
# Cold pages of compacted libraries and the runtime that restores them: next to the packages, as auditwheel's folders.
NATIVE_FOLDER = "layer_minimizer.libs"
RUNTIME = "liblayercold-{digest}.so"


class Layout(StrEnum):
    """Folder of the packages in a layer. Lambda adds both to sys.path, but runs ``.pth`` files only in the first."""

    SITE = "site"  # python/lib/python3.x/site-packages/
    FLAT = "flat"  # python/

    def prefix(self, python: str) -> str:
        """Return the folder of the packages in a layer for the Python version ``python`` (such as ``3.11.7``)."""
        if self is Layout.FLAT:
            return "python"
        return f"python/lib/python{'.'.join(python.split('.')[:2])}/site-packages"


def path_in_lambda(layout: Layout, python: str) -> str:
    """Return the folder of a layer's packages in a Lambda function."""
    return f"/opt/{layout.prefix(python)}"
