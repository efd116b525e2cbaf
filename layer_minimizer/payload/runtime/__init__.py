"""Serves, inside a layer, the modules and files that went into its cold store instead of being laid out.

Copied into the layer as the package ``_layer_minimizer``. Runs in the handler's interpreter, so: CPython 3.6 and
later, the standard library alone, and nothing is imported or read before something is missing.
"""

import os
import sys

__all__ = ["note", "start"]

# The stderr handler that note() may have added; True once logging has been asked.
_logging_ready = []


def start(root=None):
    """Serve the cold store of the site folder ``root`` (by default the one that this package lies in), once."""
    from . import check

    here = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    # Layers may lie in two folders, and what serves all of them lies packed in this one.
    roots = [here] if root is None or os.path.abspath(root) == here else [here, os.path.abspath(root)]
    for each in roots:
        check.begin(each)
    from . import files, finder

    new = [each for each in roots if finder.serve(each)]
    if new:
        files.install()


def note(text):
    """Tell what was fetched from a cold store, if the environment asks for it with LAYER_MINIMIZER_LOG."""
    target = os.environ.get("LAYER_MINIMIZER_LOG")
    if not target:
        return
    if "/" in target:
        _append(target, text)
        return
    import logging

    logger = logging.getLogger("layer_minimizer")
    if not _logging_ready:
        _logging_ready.append(True)
        logger.setLevel(logging.INFO)
        if not logging.getLogger().handlers and not logger.handlers:
            logger.addHandler(logging.StreamHandler(sys.stderr))
    logger.info("%s", text)


def _append(path, text):
    try:
        handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.write(handle, (text + "\n").encode("utf-8", "backslashreplace"))
        finally:
            os.close(handle)
    except OSError:
        pass  # what a handler does must not depend on whether its log can be written
