"""Reads the cold store of one layer: ``index`` lists what is where, ``data`` holds the compressed chunks.

index: a line of JSON (the header), a line with its CRC, then one zlib-compressed JSON document (a segment) for each
top-level name, so that only the distributions that are asked for get parsed. Every part is checked against a CRC
before it is believed.
"""

import os
from _io import open as _open  # the runtime's own files must never be looked for in a cold store
from bisect import bisect_left

from . import check

# How a chunk is packed: the number stands in its row of the chunk table.
STORED, ZLIB, LZMA2, X86_LZMA2 = range(4)
FORMAT = 1
DICTIONARY = 4 << 20  # of all LZMA chunks; none is larger
_CACHED_BYTES = 8 << 20
_EIO = 5
_FILE_MODE, _FOLDER_MODE = 0o100000, 0o040000


class ColdStoreError(OSError):
    """A cold store lacks what it should hold; the text names the file, the store and what to do."""


def damaged(root, store, why, path=""):
    """Return the error of a store that cannot be read, unless it ends here; ``path`` is what was looked for in it."""
    error = unreadable(root, store, why, path)
    check.damaged(root, error.strerror)
    return error


def unreadable(root, store, why, path=""):
    """Return the error of a store that this Python cannot read."""
    text = "the layer's cold store %s %s: deploy the layer again, or build it anew" % (store, why)
    if path:
        return ColdStoreError(_EIO, "cannot restore %s: %s" % (path, text), root + "/" + path)
    return ColdStoreError(_EIO, text, store)


class Names(object):
    """Paths, as a tree of folders."""

    def __init__(self, paths):
        self.names = sorted(paths)

    def has_folder(self, folder):
        """Return whether a path is in ``folder``."""
        at = bisect_left(self.names, folder + "/")
        return at < len(self.names) and self.names[at].startswith(folder + "/")

    def entries(self, folder):
        """Return the names directly in ``folder``; each subfolder's files are skipped at once."""
        start = folder + "/"
        at = bisect_left(self.names, start)
        while at < len(self.names) and self.names[at].startswith(start):
            name = self.names[at][len(start) :].partition("/")
            yield name[0]
            # "0" is the character behind "/".
            at = bisect_left(self.names, start + name[0] + "0", at + 1) if name[1] else at + 1


class _Segment(Names):
    """The contents of a store with one top-level name."""

    def __init__(self, document):
        super().__init__(document["files"])
        self.files = document["files"]
        self.chunks = document["chunks"]
        self.needs = document.get("needs", {})


class Holder(object):
    """What one layer holds of a site folder without having laid it out; ``about`` is a file of that age and owner."""

    about = ""

    def stat(self, path):
        """Return what os.stat would return for a cold file or folder, or None."""
        held = path in self
        if not held and not (path and self.is_folder(path)):
            return None
        like = os.stat(self.about)
        mode, size, links = (
            (_FILE_MODE | self.mode(path), self.size(path), 1) if held else (_FOLDER_MODE | 0o755, 4096, 2)
        )
        import zlib

        inode = zlib.crc32(path.encode("utf-8", "surrogatepass")) | 1 << 40
        fields = (mode, inode, like.st_dev, links, like.st_uid, like.st_gid, size)
        times = {
            name: getattr(like, name)
            for name in ("st_atime", "st_mtime", "st_ctime", "st_atime_ns", "st_mtime_ns", "st_ctime_ns")
        }
        blocks = {"st_blksize": 4096, "st_blocks": (size + 511) // 512, "st_rdev": 0}
        whole = tuple(int(times[name]) for name in ("st_atime", "st_mtime", "st_ctime"))
        return os.stat_result(fields + whole, dict(times, **blocks))


class Part(Holder):
    """The cold files that one layer brings: the folder ``folder`` of the store of ``root``."""

    def __init__(self, root, folder):
        self.root = root
        self.folder = folder
        self.about = folder + "/index"
        self._line = None
        self._base = 0
        self._header = None
        self._segments = {}
        self._chunks = {}

    # ---- what is there ---------------------------------------------------------------------------------------

    @property
    def header(self):
        """The store's description of itself."""
        if self._header is None:
            line = self._first_line()
            import json

            header = json.loads(line.decode("ascii"))
            if header["format"] != FORMAT:
                raise self._error("index", "has format %r, and this runtime reads %d" % (header["format"], FORMAT))
            self._header = header
        return self._header

    def mentions(self, name):
        """Return whether the header could mention ``name``; answers most questions without parsing it."""
        if self._header is None and name.isprintable() and '"' not in name and "\\" not in name:
            try:
                return b'"' + name.encode("ascii") + b'"' in self._first_line()
            except UnicodeEncodeError:
                pass  # such a name is escaped in JSON
        return True

    def dropped(self, name):
        """Return the distribution of an import name that was left out of the layer wholly, or an empty text."""
        return self.header["dropped"].get(name, "") if self.mentions(name) else ""

    def __contains__(self, path):
        return self._find(path) is not None

    def is_folder(self, path):
        """Return whether the folder ``path`` has cold files."""
        if not path:
            return True
        segment = self._segment(path.partition("/")[0])
        return segment is not None and segment.has_folder(path)

    def names(self, folder):
        """Return the sorted names of the cold files and of the folders with cold files directly in ``folder``."""
        if not folder:
            return list(self.header["entries"])
        segment = self._segment(folder.partition("/")[0])
        return sorted(segment.entries(folder)) if segment is not None else []

    def size(self, path):
        """Return the bytes of a cold file."""
        return self._entry(path)[1][2]

    def mode(self, path):
        """Return a cold file's permission bits."""
        return self._entry(path)[1][3]

    # ---- its contents ----------------------------------------------------------------------------------------

    def pieces(self, path):
        """Return a cold file's bytes one chunk after the other, so that a large one never lies in memory whole."""
        segment, entry = self._entry(path)
        number, offset, left = entry[:3]
        while left:
            chunk = self._chunk(segment.chunks[str(number)], path)
            piece = chunk[offset : offset + left]
            if not piece:
                raise self._error("index", "names bytes that are not in its chunk", path)
            yield piece
            left -= len(piece)
            number, offset = number + 1, 0

    def needs(self, path):
        """Return the site libraries that a cold shared library needs."""
        return self._entry(path)[0].needs.get(path, ())

    # ---- reading the two files -------------------------------------------------------------------------------

    def _error(self, part, why, path=""):
        return damaged(self.root, self.folder + "/" + part, why, path)

    def _bytes_at(self, part, offset, length, path=""):
        try:
            with _open(self.folder + "/" + part, "rb") as source:
                source.seek(offset)
                data = source.read(length)
        except OSError as exc:
            raise self._error(part, "cannot be read (%s)" % (exc.strerror or exc), path) from exc
        if len(data) != length:
            raise self._error(part, "is cut short", path)
        return data

    def _first_line(self):
        if self._line is None:
            try:
                with _open(self.folder + "/index", "rb") as source:
                    line, check = source.readline(), source.readline()
            except OSError as exc:
                raise self._error("index", "cannot be read (%s)" % (exc.strerror or exc)) from exc
            import zlib

            if check != b"%08x\n" % zlib.crc32(line):
                raise self._error("index", "is damaged (its header's checksum is wrong)")
            self._base = len(line) + len(check)
            self._line = line
        return self._line

    def _segment(self, top):
        """Return the contents with a top-level name, or None."""
        segment = self._segments.get(top)
        if segment is not None or not self.mentions(top):
            return segment
        row = self.header["segments"].get(top)
        if row is None:
            return None
        import json
        import zlib

        offset, length, crc = row
        packed = self._bytes_at("index", self._base + offset, length, top)
        if zlib.crc32(packed) != crc:
            raise self._error("index", "is damaged (a wrong checksum)", top)
        segment = _Segment(json.loads(zlib.decompress(packed).decode("ascii")))
        return self._segments.setdefault(top, segment)

    def _find(self, path):
        top, below = path.partition("/")[::2]
        segment = self._segment(top if below else top.partition(".")[0])
        entry = segment.files.get(path) if segment is not None else None
        return None if entry is None else (segment, entry)

    def _entry(self, path):
        found = self._find(path)
        if found is None:
            raise KeyError(path)
        return found

    def _chunk(self, row, path):
        """Return a chunk's bytes; dict operations are atomic, so that two threads at worst unpack the same one."""
        offset, packed, size, crc, method = row
        data = self._chunks.get(offset)
        if data is not None:
            return data
        import zlib

        try:
            data = _unpack(self._bytes_at("data", offset, packed, path), size, method)
        except ImportError as exc:
            why = "is compressed, and this Python cannot read it (%s)" % exc
            raise unreadable(self.root, self.folder + "/data", why, path) from exc
        except OSError:
            raise
        except Exception as exc:  # whatever zlib and lzma make of damaged bytes
            raise self._error("data", "is damaged (%s)" % exc, path) from exc
        if len(data) != size or zlib.crc32(data) != crc:
            raise self._error("data", "is damaged (a wrong checksum)", path)
        self._keep(offset, data)
        return data

    def _keep(self, offset, data):
        chunks = self._chunks
        chunks[offset] = data
        for oldest in list(chunks)[:-1]:
            if sum(map(len, list(chunks.values()))) <= _CACHED_BYTES:
                break
            chunks.pop(oldest, None)


def _unpack(packed, size, method):
    if method == STORED:
        return packed
    if method == ZLIB:
        import zlib

        return zlib.decompressobj().decompress(packed, size + 1)
    import lzma

    filters = [{"id": lzma.FILTER_LZMA2, "dict_size": DICTIONARY}]
    if method == X86_LZMA2:
        filters.insert(0, {"id": lzma.FILTER_X86})
    return lzma.LZMADecompressor(lzma.FORMAT_RAW, None, filters).decompress(packed, size + 1)
