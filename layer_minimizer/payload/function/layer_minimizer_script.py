"""A handler for a program that has none: runs LAYER_MINIMIZER_SCRIPT as ``python script.py`` would.

Its response is what the script prints. Runs on CPython 3.6 and later.
"""

import logging
import os
import runpy
import sys
import tempfile


def handler(event, context):
    """Run the script once and return its standard output; the file descriptor's, since C code prints too."""
    path = os.environ["LAYER_MINIMIZER_SCRIPT"]
    sys.argv[:] = [path]
    runtime, printed = sys.stdout, tempfile.TemporaryFile()
    kept = os.dup(1)
    # The runtime's handler logs to standard output.
    root = logging.getLogger()
    handlers, root.handlers = root.handlers, []
    try:
        os.dup2(printed.fileno(), 1)
        sys.stdout = sys.__stdout__
        try:
            runpy.run_path(path, run_name="__main__")
        except SystemExit as exc:
            if exc.code not in (None, 0):
                raise RuntimeError("the script ended with exit code %r" % (exc.code,))
        sys.stdout.flush()
        sys.__stdout__.flush()
    finally:
        root.handlers = handlers
        sys.stdout = runtime
        os.dup2(kept, 1)
        os.close(kept)
    printed.seek(0)
    return printed.read().decode("utf-8", "backslashreplace")
