"""Let torchvision be imported beside a torch that its C extension was not built for.

torchvision's wheel carries `_C.so`, built against one build of torch (the one with CUDA). Beside a CPU build of torch
that extension cannot be loaded. torchvision puts up with that, its Python code runs without the extension, but its
import then registers something for the operator `torchvision::nms`, which only the extension declares, and dies with
`operator torchvision::nms does not exist`. Declaring the operators is enough: a classifier never calls them.

Import this module before anything that imports torchvision. Where the extension does load (a CUDA torch, or a
torchvision built for the CPU) it declares its operators itself and declaring them twice would be an error. Therefore
the extension is loaded first, just as torchvision will do (to load it again then does nothing), and only what is still
missing after that is declared here.
"""

import contextlib
import importlib.util
from pathlib import Path

import torch

SCHEMAS = {
    "nms": "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms": "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
}


def load_extension():
    """Load torchvision's own C extension, if it is there and fits this torch."""
    spec = importlib.util.find_spec("torchvision")  # finds the package without importing it
    for folder in (spec and spec.submodule_search_locations) or ():
        for extension in Path(folder).glob("_C*.so"):
            with contextlib.suppress(OSError):
                torch.ops.load_library(str(extension))


def declare_missing():
    """Declare the operators that are still missing; return what keeps them declared, or None."""
    missing = [schema for name, schema in SCHEMAS.items() if not hasattr(torch.ops.torchvision, name)]
    if not missing:
        return None
    library = torch.library.Library("torchvision", "FRAGMENT")
    for schema in missing:
        library.define(schema)
    return library


load_extension()
LIBRARY = declare_missing()  # stays referenced: its declarations vanish with the object
