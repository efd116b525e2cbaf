"""The tables of a layer are written as the native runtime reads them: both sides say the same of each structure."""

from __future__ import annotations

import re
import struct
import zlib
from typing import TYPE_CHECKING

import pytest

from layer_minimizer.layer import cold_store, file_index
from layer_minimizer.layer.file_index import FileRow, KeptRow
from layer_minimizer.payload import reaper
from layer_minimizer.payload.runtime import comparing
from tests.support.places import CHECKOUT

if TYPE_CHECKING:
    from collections.abc import Iterable

SOURCES = CHECKOUT / "layer_minimizer/native/src"
CODES = {"uint64_t": "Q", "uint32_t": "I"}
TEXTS = {name: (SOURCES / name).read_text() for name in ("fileindex.h", "layerfiles.h", "coldstore.h", "lzma.h")}


def format_of(header: str, struct_name: str) -> str:
    """Return the format of a structure in a C header, as of the module struct."""
    found = re.search(rf"^struct {struct_name} \{{(.*?)^\}};", TEXTS[header], re.MULTILINE | re.DOTALL)
    assert found, struct_name
    body = re.sub(r"/\*.*?\*/", "", found[1], flags=re.DOTALL)
    fields = re.findall(r"(\w+) ([\w, ]+);", body)
    return "<" + "".join(CODES[kind] * len(names.split(",")) for kind, names in fields)


def constant(header: str, name: str) -> int:
    """Return a number that a C header defines: by a macro, or in an enumeration."""
    text = TEXTS[header]
    if macro := re.search(rf"^#define {name} (0x[0-9a-f]+|\d+)(?:ULL|u)?\b", text, re.MULTILINE):
        return int(macro[1], 0)
    enums = re.findall(r"enum \w*\s*\{(.*?)\}", re.sub(r"/\*.*?\*/", "", text, flags=re.DOTALL), re.DOTALL)
    for entries in enums:
        number = -1
        for entry in entries.split(","):
            key, _, value = (part.strip() for part in entry.partition("="))
            number = int(value, 0) if value.isdigit() else number + 1
            if key == name:
                return number
    raise AssertionError(name)


@pytest.mark.parametrize(
    ("header", "name", "written"),
    [
        ("fileindex.h", "FileIndex", file_index._INDEX),
        ("fileindex.h", "FileBody", file_index._BODY),
        ("fileindex.h", "ColdFile", file_index._FILE),
        ("fileindex.h", "FileChunk", file_index._CHUNK),
        ("layerfiles.h", "FileTable", file_index._TABLE),
        ("layerfiles.h", "KeptFile", file_index._KEPT),
        ("layerfiles.h", "FileTable", comparing._HEAD),
        ("layerfiles.h", "KeptFile", comparing._FILE),
    ],
)
def test_structures_are_the_same(header: str, name: str, written: struct.Struct) -> None:
    assert format_of(header, name) == written.format
    # As the compiler lays them out: no gaps, and the same length in a row.
    assert struct.calcsize("@" + written.format[1:]) == written.size
    assert written.size % 8 == 0


def test_constants_are_the_same() -> None:
    assert constant("fileindex.h", "FILE_INDEX_MAGIC") == file_index._INDEX_MAGIC
    assert constant("layerfiles.h", "FILE_TABLE_MAGIC") == file_index._TABLE_MAGIC == comparing._MAGIC
    assert constant("fileindex.h", "LEFT_OUT") == file_index.LEFT_OUT
    assert constant("fileindex.h", "BY_COLD_KEEP") == file_index.BY_COLD_KEEP
    assert constant("fileindex.h", "LAST_NEED") == file_index._END
    assert constant("fileindex.h", "FILTER_HASHES") == file_index._HASHES
    chunks = [constant("fileindex.h", f"CHUNK_{name}") for name in ("STORED", "LZMA", "CODE")]
    assert chunks == [file_index.STORED, file_index.LZMA, file_index.CODE]
    assert constant("coldstore.h", "DIGEST_LENGTH") == cold_store._DIGITS
    assert f'#define PUT_BACK "{cold_store.PUT_BACK}"\n' in TEXTS["coldstore.h"]
    assert reaper.PUT_BACK == cold_store.PUT_BACK
    # Both checksums begin behind the first two fields.
    assert struct.calcsize("<QI") == file_index._UNCHECKED == comparing._UNCHECKED
    assert TEXTS["coldstore.h"].count("+ 12, size - 12)") == TEXTS["layerfiles.h"].count("+ 12, size - 12)") == 1


def test_the_decoder_has_the_parameters_of_the_encoder() -> None:
    for chain in (file_index.FILTERS, file_index.CODE_FILTERS[1:]):
        (only,) = chain
        assert (only["lc"], only["lp"], only["pb"]) == (3, 0, 2)
        assert only["dict_size"] >= file_index.CHUNK_BYTES


def may_contain(index: bytes, path: str) -> bool:
    """Ask the filter of an index, as coldstore.h does."""
    _magic, _crc, size, *_ = file_index._INDEX.unpack_from(index)
    bits = index[file_index._INDEX.size :][:size]
    value = 0xCBF29CE484222325
    for byte in path.encode("utf-8", "surrogateescape"):
        value = ((value ^ byte) * 0x100000001B3) % 2**64
    one, two, mask = value % 2**32, (value >> 32) | 1, (size * 8 - 1) % 2**32
    places = [(one + number * two) % 2**32 for number in range(file_index._HASHES)]
    return bool(size) and all(bits[(place & mask) >> 3] >> (place & 7) & 1 for place in places)


def index_of(rows: Iterable[FileRow]) -> bytes:
    return file_index.pack_index(rows, [], 0)


def test_the_filter_passes_what_was_left_out_and_few_others() -> None:
    left_out = [FileRow(f"gone/{number}.txt", "Gone 1") for number in range(2000)]
    libraries = [FileRow(f"p/libx{number}.so.1", "P 1", chunk=0) for number in range(50)]
    cold = [FileRow(f"p/{number}.txt", "P 1", chunk=0) for number in range(500)]
    index = index_of([*left_out, *libraries, *cold])
    assert all(may_contain(index, row.path) for row in left_out)
    assert all(may_contain(index, f"/libx{number}.so.1") for number in range(50))
    others = [f"other/{number}.txt" for number in range(2000)]
    assert sum(may_contain(index, path) for path in (*others, *(row.path for row in cold))) < 20


def test_an_index_without_such_files_has_no_filter() -> None:
    index = index_of([FileRow("p/a.txt", "P 1", chunk=0)])
    assert file_index._INDEX.unpack_from(index)[2] == 0
    assert not may_contain(index, "p/a.txt")


def test_rows_are_in_order_of_their_bytes_and_read_back() -> None:
    paths = ["b/x", "b.txt", "\u00fc.txt", "a", "\udcff.bin", "b"]
    rows = [FileRow(path, f"{path} 1", (), 0o755, 7, number, number * 2**33) for number, path in enumerate(paths)]
    found, _chunks = file_index.read_index(index_of(rows))
    assert [row.path for row in found] == sorted(paths, key=lambda path: path.encode("utf-8", "surrogateescape"))
    assert sorted(found, key=lambda row: row.offset) == rows


def test_a_table_is_read_as_it_is_written() -> None:
    rows = [
        KeptRow("b.so", ("x.libs/liby.so", "a.txt"), 1, 2**40),
        KeptRow("a.txt", (), 2, 3),
    ]
    table = file_index.pack_table(rows)
    magic, crc, size, files, needs, texts, unused = comparing._HEAD.unpack_from(table)
    assert (magic, size, files, unused) == (comparing._MAGIC, len(table), 2, 0)
    assert crc == zlib.crc32(table[comparing._UNCHECKED :])
    start = comparing._HEAD.size
    kept = list(comparing._FILE.iter_unpack(table[start : start + files * comparing._FILE.size]))
    numbers = struct.unpack_from(f"<{needs}I", table, start + files * comparing._FILE.size)
    strings = table[-texts:]

    def text(offset: int) -> str:
        return strings[offset : strings.index(b"\0", offset)].decode()

    assert [(text(path), crc, unused, size) for path, _needs, crc, unused, size in kept] == [
        ("a.txt", 2, 0, 3),
        ("b.so", 1, 0, 2**40),
    ]
    assert [
        [text(number) for number in numbers[begin : numbers.index(file_index._END, begin)]] for _path, begin, *_ in kept
    ] == [
        [],
        ["x.libs/liby.so", "a.txt"],
    ]
