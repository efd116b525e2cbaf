"""Where the parts of a layer lie: Lambda's two folder layouts, and the names of our own files in them."""

from __future__ import annotations

from enum import StrEnum

SUMS = "check"
LIBRARIES = "layer_minimizer.libs"
NO_DISTRIBUTION = "(no distribution)"
SYSTEM_LIBRARIES = "(libraries of this machine)"
# Lambda has it on LD_LIBRARY_PATH: https://docs.aws.amazon.com/lambda/latest/dg/packaging-layers.html
LIBRARY_FOLDER = "lib"
# Of libraries that are shipped without their cold pages: beside the packages, as auditwheel's folders are.
FOLDER = "layer_minimizer.libs"
RUNTIME = "liblayercold-{digest}.so"


class Layout(StrEnum):
    """Where in a layer the packages lie; Lambda puts both on sys.path, and runs ``.pth`` files in the first only."""

    SITE = "site"  # python/lib/python3.x/site-packages/
    FLAT = "flat"  # python/

    def prefix(self, python: str) -> str:
        """Return the folder of the packages within the layer for the version ``python`` (``3.11.7``)."""
        if self is Layout.FLAT:
            return "python"
        return f"python/lib/python{'.'.join(python.split('.')[:2])}/site-packages"


def place_in_lambda(layout: Layout, python: str) -> str:
    """Return where the packages of a layer lie in a function that has it."""
    return f"/opt/{layout.prefix(python)}"
