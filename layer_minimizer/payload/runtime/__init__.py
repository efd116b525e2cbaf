"""The runtime in a layer: serves the modules and files that do not lie in their places.

Copied into the layer as the package ``_layer_minimizer``. Runs in the interpreter of the handler: CPython 3.6 and
later, with the standard library only. Files are served by the native runtime (``native``), which is loaded first;
what is in Python finds packed bytecode and loads stand-ins.
"""

import os
import sys

__all__ = ["Eager", "start"]
# The file with the modules that every start loads: their names, each with the contents of its file of bytecode. A small
# layer has it compressed.
FIRST = "first"
_HEAD = 16 if sys.version_info >= (3, 7) else 12  # bytes before the code in such a file


class Eager(object):
    """A block in which modules are loaded where they are imported, whatever PYTHON_LAZY_IMPORTS says (PEP 810).

    The import system calls what is loaded here, and could not import anything for it in turn.
    """

    def __enter__(self):
        self._mode = sys.get_lazy_imports() if hasattr(sys, "get_lazy_imports") else ""
        if self._mode:
            sys.set_lazy_imports("normal")

    def __exit__(self, *_exception):
        if self._mode:
            sys.set_lazy_imports(self._mode)


def start(root=None):
    """Serve the layers in the site folder ``root`` (by default the one that this package lies in), once."""
    with Eager():
        _start(root)


def _start(root):
    from . import check

    here = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    # Layers may lie in two folders, and what serves all of them lies packed in this one.
    roots = [here] if root is None or os.path.abspath(root) == here else [here, os.path.abspath(root)]
    for each in roots:
        check.begin(each)
    from . import finder

    new = [each for each in roots if finder.serve(each)]
    if any(os.path.exists(os.path.join(each, "_layer_minimizer", "order")) for each in new):
        from . import order

        order.serve(new)
    if any(os.path.exists(os.path.join(each, "_layer_minimizer", "standard")) for each in new):
        from . import standard

        standard.serve(new, Eager)
    if os.environ.get("AWS_LAMBDA_INITIALIZATION_TYPE") == "snap-start":
        from . import snapshot

        snapshot.watch()


def _load_first():
    """Load the modules in ``FIRST``, where the layer has it: that takes less time than a file for each."""
    import marshal
    from _frozen_importlib import ModuleSpec

    folder = os.path.dirname(__file__)
    try:
        with open(folder + "/" + FIRST, "rb") as source:
            data = source.read()
        if data[:1] == b"x":  # nothing that marshal writes for a tuple
            import zlib

            data = zlib.decompress(data)
        found = [(name, marshal.loads(code[_HEAD:])) for name, code in marshal.loads(data)]  # noqa: S302 - the tool's own
    except Exception:  # of reading, of marshal or of zlib
        if any(name.startswith("check.") for name in os.listdir(folder)):
            return  # each has its own file
        # A program may take an ImportError for the want of something optional, and return another result.
        text = "layer_minimizer: %s/%s is missing or damaged: deploy the layer again\n" % (folder, FIRST)
        os.write(2, text.encode("utf-8", "backslashreplace"))
        os._exit(1)
    for name, code in found:
        full = __name__ + "." + name
        module = sys.modules[full] = type(sys)(full)
        module.__spec__ = ModuleSpec(full, None, origin=folder + "/" + FIRST)
        module.__package__, module.__file__ = __name__, folder + "/" + name + ".pyc"
        globals()[name] = module
        exec(code, module.__dict__)  # noqa: S102 - as the import system does


with Eager():
    _load_first()
