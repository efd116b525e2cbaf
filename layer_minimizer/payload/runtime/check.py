"""Refuses a layer that differs from the verified one, and loads the native runtime, which does so from then on.

It refuses what is missing or has another size. LAYER_MINIMIZER_CHECK may say "all" (compare the contents of all files
at the start) or "off". Without the native runtime, ``comparing`` looks at all files at the start.

A damaged layer ends the process with one line that names the file: most programs catch the ImportError of what they
take to be optional, go on without it, and return another result.
"""

import os
import sys
from _frozen_importlib import ModuleSpec
from _imp import create_dynamic, exec_dynamic
from posix import listdir

PACKAGE = "_layer_minimizer"
LIBRARIES = "layer_minimizer.libs"
NATIVE = "liblayercold-"
PAGES = "pages-"  # then the bytes of a page for which the shared libraries were rewritten

native = None  # the native runtime, as a module
_begun = set()  # the real paths of site folders
_real_paths = {}  # by path


def begin(root):
    """Load the native runtime of the layers in the site folder ``root``, or compare their files, once."""
    global native  # noqa: PLW0603 - one for the process
    real = real_path(root)
    if real in _begun:
        return
    _begun.add(real)
    names = _native_names(root)
    library = next((root + "/" + LIBRARIES + "/" + name for name in names if name.startswith(NATIVE)), None)
    _compare_page_size(root, names)
    if library is None:
        if os.environ.get("LAYER_MINIMIZER_CHECK") != "off":
            from .comparing import compare_all

            compare_all(root, root + "/" + PACKAGE + "/check", refuse)
        return
    spec = ModuleSpec(PACKAGE + ".native", None, origin=library)
    try:
        loaded = create_dynamic(spec)
        exec_dynamic(loaded)
    except ImportError as exc:
        _end(
            "%s cannot be loaded (%s): the layer was built for another machine or C library; build it on one like "
            "this, or with --native off" % (library, exc)
        )
    native = native or loaded  # a second one in a process leaves everything to the first
    native.add(root)


def has_begun(root):
    """Return whether the layers in the site folder ``root`` have been started, which its ``.pth`` file does."""
    return real_path(root) in _begun


def real_path(root):
    """Return the real path of a site folder, which asks the system about each folder above it once."""
    if root not in _real_paths:
        _real_paths[root] = os.path.realpath(root)
    return _real_paths[root]


def is_cold(path):
    """Return whether a file lies in a cold store of a layer, restored or not."""
    return native is not None and native.is_cold(path)


def is_left_out(path):
    """Return whether the environment has a file that the layer does not have."""
    return native is not None and native.is_left_out(path)


def _native_names(root):
    try:
        return sorted(listdir(root + "/" + LIBRARIES))
    except OSError:
        return []


def _compare_page_size(root, names):
    """End the process if the loader would refuse the layer's libraries, which programs may take to be optional."""
    size = os.sysconf("SC_PAGE_SIZE")
    for name in names:
        if name.startswith(PAGES) and int(name[len(PAGES) :]) < size:
            _end(
                "the shared libraries of the layer in %s are for systems with memory pages of %d KiB, this one has %d: "
                "build it on one like this, or with --native off" % (root, int(name[len(PAGES) :]) >> 10, size >> 10)
            )


def refuse(root, path, why):
    """End the process: the layer in ``root`` differs from the verified one."""
    _end(
        "%s %s: the layer in %s is not what was proved. Deploy it again, or build it anew; where another layer is "
        "meant to replace that file, LAYER_MINIMIZER_CHECK=off lets it run" % (path, why, root)
    )


def _end(text):
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except Exception:
        pass  # there may be none
    os.write(2, ("layer_minimizer: %s\n" % text).encode("utf-8", "backslashreplace"))
    os._exit(1)
