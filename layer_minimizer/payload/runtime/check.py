"""Refuses a layer that differs from the verified one: a file is missing, truncated, or has other contents.

What the layers had stands in tables in the folder ``check``. A file is compared when it is first read or loaded, and
one that is missing when it is looked for. LAYER_MINIMIZER_CHECK may say "all" (compare all at the start) or
"off".

A damaged layer ends the process with one line that names the file: most programs catch the ImportError of what they
take to be optional, go on without it, and return another result.
"""

import marshal
import os
import sys
from _io import open as _open  # without the hooks
from posix import listdir
from posix import stat as _stat
from zlib import crc32, decompress  # already loaded at startup

PACKAGE = "_layer_minimizer"
# When the contents of a file are compared; NEVER: only if all files are.
NEVER, LATER, ALWAYS = range(3)
_PIECE = 1 << 17  # fits into the processor's cache
_layers = {}  # by the real path of the site folder


class Sums(object):
    """The checksums of the layers in one site folder; a file must match one of the layers that contain it."""

    def __init__(self, root):
        self.root = root
        self.tables = []
        self.files = {}  # path -> ((size, crc, when) of each layer that contains it)
        self.seen = set()
        self._sorted = []

    def add(self, file):
        """Add a layer's table."""
        with _open(file, "rb") as source:
            check, packed = source.readline(), source.read()
        if check != b"%08x\n" % (crc32(packed) & 0xFFFFFFFF):
            refuse(self.root, file[len(self.root) + 1 :], "is damaged")
        table = marshal.loads(decompress(packed))  # noqa: S302 - written by the tool, with a valid checksum
        self.tables.append(table)
        if not self.files:
            self.files = table["files"]
            return
        for path, sums in table["files"].items():
            self.files[path] = self.files.get(path, ()) + sums

    def compare(self, path, data=None, least=LATER):
        """Refuse the layers if this file was changed; ``data`` is its content if it was read."""
        known = self.files.get(path)
        if known is not None and path not in self.seen:
            sums = [crc for _size, crc, when in known if when >= least]
            if data is not None:
                size, crc = len(data), crc32(data)
            else:
                size, crc = self._read(path, contents=bool(sums))
            if size not in [had for had, _crc, _when in known]:
                refuse(self.root, path, "has %d bytes instead of %d" % (size, known[0][0]))
            if sums and crc & 0xFFFFFFFF not in sums:
                refuse(self.root, path, "is damaged (its checksum is wrong)")
            if sums or least <= LATER:
                self.seen.add(path)  # otherwise only its size was compared

    def _read(self, path, contents):
        file = self.root + "/" + path
        crc = size = 0
        try:
            if not contents:
                return _stat(file).st_size, 0
            piece = bytearray(_PIECE)
            view = memoryview(piece)
            with _open(file, "rb", 0) as source:
                while True:
                    got = source.readinto(piece)
                    if not got:
                        return size, crc
                    size += got
                    crc = crc32(view[:got], crc)
        except OSError as exc:
            return refuse(self.root, path, "is missing (%s)" % (exc.strerror or exc))

    def begin(self, everything):
        """Check the files that are checked at startup."""
        for table in self.tables:
            for path in sorted(self.files) if everything else table["start"]:
                self.compare(path, None, NEVER if everything else ALWAYS)

    def names(self, folder):
        """Return the names of the files directly in a folder."""
        from bisect import bisect_left  # few programs list a folder

        if len(self._sorted) != len(self.files):
            self._sorted = sorted(self.files)
        start = folder + "/" if folder else ""
        at = bisect_left(self._sorted, start)
        while at < len(self._sorted) and self._sorted[at].startswith(start):
            name, _, below = self._sorted[at][len(start) :].partition("/")
            if not below:
                yield name
            # "0" follows "/": skips all files of a subfolder.
            at = bisect_left(self._sorted, start + name + "0", at + 1) if below else at + 1


def begin(root):
    """Check once the files with which the layers in the site folder ``root`` start."""
    how = os.environ.get("LAYER_MINIMIZER_CHECK", "")
    real = os.path.realpath(root)
    if how == "off" or real in _layers:
        return
    folder = root + "/" + PACKAGE + "/check"
    try:
        names = sorted(listdir(folder))
    except OSError:
        return  # made without checksums
    sums = Sums(root)
    for name in names:
        sums.add(folder + "/" + name)
    sums.begin(how == "all")
    _layers[real] = sums


def content(layer, path, data=None):
    """Check a file that is about to be used; ``data`` is its content if it was read."""
    sums = _layers.get(layer.tops[-1])
    if sums is None or path not in sums.files:
        return
    known = sums.files[path][0]
    # Fast path: most files are in one layer only, and unchanged.
    if data is not None and known[0] == len(data) and known[1] == crc32(data):
        return
    sums.compare(path, data)


def library(layer, path):
    """Check a library and the libraries that are loaded with it."""
    sums = _layers.get(layer.tops[-1])
    if sums is not None and path not in sums.seen:
        for table in sums.tables:
            for each in table["needs"].get(path, ()):
                sums.compare(each)
        sums.compare(path)


def module(layer, stem, suffixes):
    """Check that no file of a module is missing; the path has no suffix."""
    sums = _layers.get(layer.tops[-1])
    if sums is not None:
        for suffix in suffixes:
            if stem + suffix in sums.files:
                sums.compare(stem + suffix)
            if stem + "/__init__" + suffix in sums.files:
                sums.compare(stem + "/__init__" + suffix)


def listed(layer, folder, names):
    """Check that no file of a folder is missing."""
    sums = _layers.get(layer.tops[-1])
    if sums is not None:
        for name in sums.names(folder):
            if name not in names:
                sums.compare(folder + "/" + name if folder else name)


def damaged(root, text):
    """Refuse a layer with a damaged cold store, if the layer has checksums."""
    if os.path.realpath(root) in _layers:
        _end(text)


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
