"""The lines of a layer's log: each sentence stands here once, and the tool that reads it imports it from here.

Loaded when there is something to log. The native part's sentences stand in native/src/coldpages.c; a test keeps both
equal.
"""

import os
import sys

RESTORED_MODULE = "restored module %s"
RESTORED_FILE = "restored file %s"
# A module, the attribute that was needed, and the file and line that needed it.
WOKE = "woke %s for %s at %s"
# The native part: the first page and how many, of which library.
RESTORED_PAGES = "restored pages %#x+%#x of %s"
# The native part, before it ends the process: the address, and the library.
PAGE_DROPPED = "cannot restore page %#x of %s: it was dropped"

# The stderr handler that note() may have added; True once the configuration of logging has been checked.
_logging_ready = []


def note(text):
    """Log what was restored from a cold store, if LAYER_MINIMIZER_LOG is set."""
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


def tell(text):
    """Log a report of a stand-in that says which module was loaded; others are ignored."""
    if text.startswith(WOKE.partition("%s")[0]):
        note(text)


def _append(path, text):
    try:
        handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.write(handle, (text + "\n").encode("utf-8", "backslashreplace"))
        finally:
            os.close(handle)
    except OSError:
        pass  # what a handler does must not depend on whether its log can be written
