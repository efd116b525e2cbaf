"""Compares the files of a layer with the tables in its folder ``check``, where no native runtime does.

native/src/layerfiles.h describes the format of the tables.
"""

import os
from posix import listdir
from struct import Struct
from zlib import crc32

_HEAD, _FILE = Struct("<QIIIIII"), Struct("<IIIIQ")
_MAGIC = int.from_bytes(b"LLYTTST1", "little")
_UNCHECKED = 12  # bytes before those that the checksum covers


def compare_all(root, folder, refuse):
    """Call ``refuse(root, path, why)`` for a file in a site folder that differs from what tables in ``folder`` say."""
    try:
        tables = [folder + "/" + name for name in sorted(listdir(folder))]
    except OSError:
        return  # made without checksums
    contents = os.environ.get("LAYER_MINIMIZER_CHECK") == "all"
    known = {}  # path -> the (size, crc) of each layer that contains it
    for table in tables:
        for path, size, crc in _rows(root, table, refuse):
            known.setdefault(path, []).append((size, crc if contents else None))
    for path, sums in known.items():
        _compare(root, path, sums, refuse)


def _rows(root, table, refuse):
    with open(table, "rb") as source:
        data = source.read()
    if len(data) < _HEAD.size or _HEAD.unpack_from(data)[1] != crc32(data[_UNCHECKED:]):
        refuse(root, table, "is damaged")
    magic, _crc, _size, files, needs, _texts, _unused = _HEAD.unpack_from(data)
    if magic != _MAGIC:
        refuse(root, table, "has another format")
    end = _HEAD.size + files * _FILE.size
    texts = end + 4 * needs
    for name, _needs, crc, _unused, size in _FILE.iter_unpack(data[_HEAD.size : end]):
        path = data[texts + name : data.index(b"\0", texts + name)]
        yield path.decode("utf-8", "surrogateescape"), size, crc


def _compare(root, path, sums, refuse):
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
