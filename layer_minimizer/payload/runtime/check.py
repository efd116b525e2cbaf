"""Refuses a layer that differs from the verified one, and loads the native runtime, which does so from then on.

What the layers had stands in tables in the folder ``check``; native/src/layerfiles.h describes their format. Without
the native runtime, all files are looked at here, at the start: whether they are there, and their sizes.
LAYER_MINIMIZER_CHECK may say "all" (compare the contents of all files at the start) or "off".

A damaged layer ends the process with one line that names the file: most programs catch the ImportError of what they
take to be optional, go on without it, and return another result.
"""

import os
import sys
from _frozen_importlib import ModuleSpec
from _imp import create_dynamic, exec_dynamic
from posix import listdir
from struct import Struct
from zlib import crc32  # already loaded at startup

PACKAGE = "_layer_minimizer"
LIBRARIES = "layer_minimizer.libs"
NATIVE = "liblayercold-"
# When the contents of a file are compared; NEVER: only if all files are.
NEVER, LATER, ALWAYS = range(3)
_HEAD, _FILE = Struct("<QIIIIII"), Struct("<IIIIQ")
_MAGIC = int.from_bytes(b"LLYTTST1", "little")
_UNCHECKED = 12  # bytes before those that the checksum covers

native = None  # the native runtime, as a module
_begun = set()  # the real paths of site folders


def begin(root):
    """Load the native runtime of the layers in the site folder ``root``, or compare their files, once."""
    global native  # noqa: PLW0603 - one for the process
    real = os.path.realpath(root)
    if real in _begun:
        return
    _begun.add(real)
    library = _native_in(root)
    if library is None:
        if os.environ.get("LAYER_MINIMIZER_CHECK") != "off":
            _compare_all(root)
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


def is_cold(path):
    """Return whether a file lies in a cold store of a layer, restored or not."""
    return native is not None and native.is_cold(path)


def is_left_out(path):
    """Return whether the environment has a file that the layer does not have."""
    return native is not None and native.is_left_out(path)


def _native_in(root):
    try:
        names = sorted(listdir(root + "/" + LIBRARIES))
    except OSError:
        return None
    return next((root + "/" + LIBRARIES + "/" + name for name in names if name.startswith(NATIVE)), None)


def _compare_all(root):
    folder = root + "/" + PACKAGE + "/check"
    try:
        tables = [folder + "/" + name for name in sorted(listdir(folder))]
    except OSError:
        return  # made without checksums
    contents = os.environ.get("LAYER_MINIMIZER_CHECK") == "all"
    known = {}  # path -> the (size, crc) of each layer that contains it
    for table in tables:
        for path, size, crc, when in _rows(root, table):
            known.setdefault(path, []).append((size, crc if contents or when == ALWAYS else None))
    for path, sums in known.items():
        _compare(root, path, sums)


def _rows(root, table):
    with open(table, "rb") as source:
        data = source.read()
    if len(data) < _HEAD.size or _HEAD.unpack_from(data)[1] != crc32(data[_UNCHECKED:]):
        refuse(root, table, "is damaged")
    magic, _crc, _size, files, needs, _texts, _unused = _HEAD.unpack_from(data)
    if magic != _MAGIC:
        refuse(root, table, "has another format")
    end = _HEAD.size + files * _FILE.size
    texts = end + 4 * needs
    for name, _needs, crc, when, size in _FILE.iter_unpack(data[_HEAD.size : end]):
        path = data[texts + name : data.index(b"\0", texts + name)]
        yield path.decode("utf-8", "surrogateescape"), size, crc, when


def _compare(root, path, sums):
    file = root + "/" + path
    try:
        size = os.stat(file).st_size
        if size not in [had for had, _crc in sums]:
            refuse(root, path, "has %d bytes instead of %d" % (size, sums[0][0]))
        if all(crc is not None for _had, crc in sums):
            with open(file, "rb") as source:
                crc = crc32(source.read()) & 0xFFFFFFFF
            if (size, crc) not in sums:
                refuse(root, path, "is damaged (its checksum is wrong)")
    except OSError as exc:
        refuse(root, path, "is missing (%s)" % (exc.strerror or exc))


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
