"""The reader of model files, with real pickles, compared with the names that a real unpickler looks up."""

import array
import bz2
import collections
import copyreg
import datetime as dt
import decimal
import fractions
import gzip
import importlib
import io
import lzma
import pathlib
import pickle
import random
import struct
import tempfile
import uuid
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from layer_minimizer.analysis.pickles import PickledGlobals, read_globals
from layer_minimizer.core.errors import UsageError

PROTOCOLS = range(pickle.HIGHEST_PROTOCOL + 1)
NOTHING = PickledGlobals((), "")
MODEL = {
    "weights": [decimal.Decimal(1), fractions.Fraction(1, 3)] * 3,
    "kinds": {dt.date: uuid.UUID(int=1), "counter": collections.Counter("abca")},
}


MODEL_NAMES = {
    ("collections", "Counter"),
    ("datetime", "date"),
    ("decimal", "Decimal"),
    ("fractions", "Fraction"),
    ("uuid", "UUID"),
}


LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
ATOMS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False),
    st.text(max_size=20),
    st.binary(max_size=300),
    st.sampled_from([dict, len, collections.OrderedDict, decimal.Decimal, dt.UTC, pathlib.PurePosixPath]),
    st.decimals(allow_nan=False),
    st.fractions(),
    st.dates(),
    st.timedeltas(),
    st.uuids(),
    st.complex_numbers(allow_nan=False),
    st.builds(range, st.integers(0, 9)),
    st.builds(bytearray, st.binary(max_size=9)),
    st.builds(lambda numbers: array.array("d", numbers), st.lists(st.floats(), max_size=3)),
    st.builds(pathlib.PurePosixPath, st.sampled_from(["a", "b/c"])),
)
VALUES = st.recursive(
    ATOMS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.lists(inner, max_size=4).map(tuple),
        st.dictionaries(st.text(max_size=3), inner, max_size=3),
        st.dictionaries(st.text(max_size=3), inner, max_size=3).map(collections.OrderedDict),
        st.frozensets(st.integers(), max_size=3),
        st.sets(st.text(max_size=3), max_size=3),
        st.lists(inner, max_size=3).map(collections.deque),
        inner.map(lambda value: [value, value]),  # the second one comes from the memo
    ),
    max_leaves=15,
)


class Recorder(pickle.Unpickler):
    """A real unpickler that records the names and objects that it looks up."""

    def __init__(self, content: bytes) -> None:
        super().__init__(io.BytesIO(content))
        self.names: set[tuple[str, str]] = set()
        self.objects: list[object] = []

    def find_class(self, module: str, name: str, /) -> Any:
        found = super().find_class(module, name)
        self.names.add((module, name))
        self.objects.append(found)
        return found


class dtype:  # noqa: N801 - numpy's name
    """Is pickled like numpy's data types: as a call and a state."""

    def __init__(self, code: str, *_: object) -> None:
        self.code = code

    def __reduce__(self) -> tuple[object, ...]:
        return dtype, (self.code, False, True), (3, "<", None, None, None, -1, -1, 0)

    def __setstate__(self, state: object) -> None:
        pass


class NumpyArrayWrapper:
    """Represents an array whose bytes follow outside the pickle, like joblib's class of this name."""

    def __init__(self, code: str, shape: tuple[int, ...], raw: bytes, alignment: int | None) -> None:
        self.subclass, self.shape, self.order, self.dtype = bytearray, shape, "C", dtype(code)
        self.numpy_array_alignment_bytes = alignment
        RAW[id(self)] = raw


RAW: dict[int, bytes] = {}


_PythonPickler: Any = pickle._Pickler


class ArrayPickler(_PythonPickler):  # type: ignore[misc]  # the one whose steps can be extended
    """Writes arrays between the opcodes, like joblib's pickler."""

    def __init__(self, stream: IO[bytes], protocol: int) -> None:
        super().__init__(stream, protocol)
        self.stream = stream

    def save(self, obj: Any, *arguments: Any, **named: Any) -> None:
        super().save(obj, *arguments, **named)
        if isinstance(obj, NumpyArrayWrapper):
            if self.proto >= 4:
                self.framer.commit_frame(force=True)
            if obj.dtype.code != "O" and obj.numpy_array_alignment_bytes:
                padding = 16 - (self.stream.tell() + 1) % 16
                self.stream.write(bytes([padding]) + b"\xff" * padding)
            self.stream.write(RAW[id(obj)])


def write(folder: Path, content: bytes, name: str = "model") -> Path:
    path = folder / name
    path.write_bytes(content)
    return path


def resolved(names: tuple[tuple[str, str], ...]) -> Iterator[object]:
    for module, name in names:
        found: Any = importlib.import_module(module)
        for part in name.split("."):
            found = getattr(found, part)
        yield found


@settings(deadline=None)
@given(value=VALUES, protocol=st.sampled_from(PROTOCOLS))
def test_names_are_what_a_real_unpickler_looks_up(value: object, protocol: int) -> None:
    content = pickle.dumps(value, protocol)
    recorder = Recorder(content)
    recorder.load()
    with tempfile.TemporaryDirectory() as folder:
        found = read_globals(write(Path(folder), content))
    assert found.problem == ""
    assert {id(o) for o in resolved(found.globals)} == {id(o) for o in recorder.objects}
    if protocol >= 3:
        assert set(found.globals) == recorder.names
    assert list(found.globals) == sorted(set(found.globals))


@settings(deadline=None)
@given(value=VALUES, protocol=st.sampled_from(PROTOCOLS), data=st.data())
def test_a_truncated_pickle_is_never_accepted(value: object, protocol: int, data: st.DataObject) -> None:
    content = pickle.dumps([value, "end"], protocol)
    kept = data.draw(st.integers(8, len(content) - 1))
    with tempfile.TemporaryDirectory() as folder:
        path = write(Path(folder), content[:kept])
        with pytest.raises(UsageError, match=r"model is cut short \(.+\): export or copy it again"):
            read_globals(path)


@settings(deadline=None, max_examples=300)
@given(data=st.data())
def test_corrupt_bytes_raise_no_other_errors(data: st.DataObject) -> None:
    content = bytearray(pickle.dumps(MODEL, data.draw(st.sampled_from(PROTOCOLS))))
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    with tempfile.TemporaryDirectory() as folder:
        path = write(Path(folder), bytes(content))
        try:
            found = read_globals(path)
        except UsageError as error:
            assert "is cut short" in str(error)  # noqa: PT017 - either of two outcomes is right
        else:
            assert isinstance(found, PickledGlobals)


@pytest.mark.parametrize("protocol", [0, 1, 2])
def test_names_of_python_2_become_those_of_python_3(tmp_path: Path, protocol: int) -> None:
    content = pickle.dumps([set, collections.UserDict, range], protocol)
    assert b"__builtin__" in content
    found = read_globals(write(tmp_path, content))
    assert found == PickledGlobals((("builtins", "range"), ("builtins", "set"), ("collections", "UserDict")), "")


def test_strings_of_python_2_are_accepted(tmp_path: Path) -> None:
    content = b"(lp0\nS'\\xe9'\np1\naU\x01\xe9acdecimal\nDecimal\np2\naT\x01\x00\x00\x00\xe9a(idecimal\nContext\na."
    assert read_globals(write(tmp_path, content)).globals == (("decimal", "Context"), ("decimal", "Decimal"))


@pytest.mark.parametrize("protocol", [3, 4])
def test_nested_and_foreign_names_are_read_without_an_import(tmp_path: Path, protocol: int) -> None:
    content = pickle.dumps(MODEL, protocol)
    foreign = content.replace(b"decimal", b"d\xc3\xa9cima").replace(b"Decimal", b"A.b_c.D")
    assert len(foreign) == len(content)
    assert ("décima", "A.b_c.D") in read_globals(write(tmp_path, foreign)).globals


def test_nothing_in_the_file_is_executed(tmp_path: Path) -> None:
    witness = tmp_path / "witness"
    path = write(tmp_path, b"cbuiltins\nopen\n(V" + str(witness).encode() + b"\nVw\ntR.")
    assert read_globals(path).globals == (("builtins", "open"),)
    assert not witness.exists()
    pickle.loads(path.read_bytes()).close()
    assert witness.exists()


@pytest.mark.parametrize(
    "compress",
    [
        bytes,
        gzip.compress,
        bz2.compress,
        lzma.compress,
        lambda content: lzma.compress(content, format=lzma.FORMAT_ALONE),
        lambda content: zlib.compress(content, 1),
        zlib.compress,
        lambda content: zlib.compress(content, 9),
    ],
)
def test_compressed_pickles_are_read_and_truncation_is_detected(
    tmp_path: Path, compress: Callable[[bytes], bytes]
) -> None:
    noise = random.Random(0).randbytes(300_000)
    content = compress(pickle.dumps([noise, bytes(5_000_000), MODEL]))
    assert set(read_globals(write(tmp_path, content)).globals) == MODEL_NAMES
    for kept in (len(content) // 2, len(content) - 1):
        if content[0] == 0x5D and kept == len(content) - 1:
            continue  # the end of this format is optional
        with pytest.raises(UsageError, match="is cut short"):
            read_globals(write(tmp_path, content[:kept]))


def test_damage_inside_compressed_data_is_reported(tmp_path: Path) -> None:
    content = bytearray(gzip.compress(pickle.dumps([random.Random(0).randbytes(300_000), MODEL])))
    content[-200:-150] = bytes(50)
    found = read_globals(write(tmp_path, bytes(content)))
    assert "cannot be decompressed" in found.problem or "not pickle data" in found.problem


@pytest.mark.parametrize("magic", [b'\x04"M\x18', b"(\xb5/\xfd"])
def test_unsupported_compressions_are_reported(tmp_path: Path, magic: bytes) -> None:
    assert read_globals(write(tmp_path, magic + bytes(100))) == PickledGlobals(
        (), "it is compressed with lz4 or zstd, which are not supported"
    )


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_every_pickle_of_a_zip_is_read(tmp_path: Path, compression: int) -> None:
    path = tmp_path / "model.pt"
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("archive/data.pkl", pickle.dumps(decimal.Decimal(1), 2))
        archive.writestr("archive/deep/constants.pkl", pickle.dumps((dt.date(2000, 1, 1), collections.deque())))
        archive.writestr("archive/data/0", pickle.dumps(fractions.Fraction(1, 2)))
        archive.writestr("archive/notes.pkl", "no pickle at all")
        archive.writestr("archive/version", "3\n")
    expected = (("collections", "deque"), ("datetime", "date"), ("decimal", "Decimal"))
    assert read_globals(path) == PickledGlobals(expected, "")
    content = path.read_bytes()
    for kept in (4, len(content) // 2, len(content) - 30):
        with pytest.raises(UsageError, match="is cut short"):
            read_globals(write(tmp_path, content[:kept]))


def test_a_zip_with_wrong_check_sums_is_read_as_torch_reads_it(tmp_path: Path) -> None:
    content = pickle.dumps(MODEL)
    path = tmp_path / "model.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", content)
    wrong = path.read_bytes().replace(struct.pack("<I", zlib.crc32(content)), b"\x01\x02\x03\x04")
    path.write_bytes(wrong)
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() == "archive/data.pkl"
    assert set(read_globals(path).globals) == MODEL_NAMES


def test_legacy_torch_ends_where_the_storages_begin(tmp_path: Path) -> None:
    parts = [LEGACY_MAGIC, 1001, {"little_endian": True}, MODEL, ["94", "95"]]
    pickles = b"".join(pickle.dumps(part, 2) for part in parts)
    # The number of elements looks like the first opcode of a pickle of protocol 2.
    storages = struct.pack("<q", 0x0280) + bytes(640 * 4)
    assert read_globals(write(tmp_path, pickles + storages)) == PickledGlobals(tuple(sorted(MODEL_NAMES)), "")
    for cut in (pickles, pickles[:-2], b"".join(pickle.dumps(part, 2) for part in parts[:3])):
        with pytest.raises(UsageError, match="is cut short"):
            read_globals(write(tmp_path, cut))
    without_storages = b"".join(pickle.dumps(part, 2) for part in [*parts[:4], []])
    assert set(read_globals(write(tmp_path, without_storages)).globals) == MODEL_NAMES


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_consecutive_pickles_are_read_up_to_raw_bytes(tmp_path: Path, protocol: int) -> None:
    parts: list[object] = [decimal.Decimal(1), 2, collections.deque()]
    several = b"".join(pickle.dumps(part, protocol) for part in parts)
    for rest in (b"", b"\x00\x01raw", b"\x93raw"):
        found = read_globals(write(tmp_path, several + rest))
        assert ("decimal", "Decimal") in found.globals
        assert ("collections", "deque") in found.globals
        assert found.problem == ""


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("alignment", [None, 16])
def test_arrays_between_the_opcodes_are_skipped(tmp_path: Path, protocol: int, alignment: int | None) -> None:
    raw = b"\xff." * 40
    objects = pickle.dumps([dt.date(2000, 1, 1)], 2)
    model = [
        NumpyArrayWrapper("f8", (2, 5), raw, alignment),
        NumpyArrayWrapper("u1", (80,), raw, alignment),
        NumpyArrayWrapper("U4", (5,), raw, alignment),
        NumpyArrayWrapper("i4", (), raw[:4], alignment),
        NumpyArrayWrapper("f8", (0, 3), b"", alignment),
        NumpyArrayWrapper("O", (1,), objects, alignment),
        decimal.Decimal(1),
    ]
    stream = io.BytesIO()
    ArrayPickler(stream, protocol).dump(model)
    found = read_globals(write(tmp_path, stream.getvalue()))
    here = {(__name__, "dtype"), (__name__, "NumpyArrayWrapper")}
    assert {("datetime", "date"), ("decimal", "Decimal"), *here} <= set(found.globals)
    assert found.problem == ""
    assert read_globals(write(tmp_path, zlib.compress(stream.getvalue()))) == found
    with pytest.raises(UsageError, match="is cut short"):
        read_globals(write(tmp_path, stream.getvalue()[:-60]))


def test_raw_bytes_of_unknown_size_are_reported(tmp_path: Path) -> None:
    content = pickle.dumps([decimal.Decimal(1), "here"], 4)
    place = content.index(b"\x8c\x04here")
    found = read_globals(write(tmp_path, content[:place] + b"\xff\xfe\xff" + content[place:]))
    assert found.globals == (("decimal", "Decimal"),)
    assert "is not pickle data" in found.problem


def npy(header: str, payload: bytes, version: int = 1) -> bytes:
    length = struct.pack("<H" if version == 1 else "<I", len(header))
    return b"\x93NUMPY" + bytes([version, 0]) + length + header.encode() + payload


def test_arrays_of_objects_are_read(tmp_path: Path) -> None:
    objects = npy("{'descr': '|O', 'fortran_order': False, 'shape': (1,), }\n", pickle.dumps(MODEL))
    numbers = npy("{'descr': '<f8', 'fortran_order': False, 'shape': (1,), }\n", pickle.dumps(MODEL))
    newer = npy("{'descr': [('a', '|O')], 'fortran_order': False, 'shape': (1,), }\n", pickle.dumps(MODEL), 3)
    assert set(read_globals(write(tmp_path, objects)).globals) == MODEL_NAMES
    assert set(read_globals(write(tmp_path, newer)).globals) == MODEL_NAMES
    assert read_globals(write(tmp_path, numbers)) == NOTHING
    with zipfile.ZipFile(tmp_path / "model.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.npy", numbers)
        archive.writestr("b.npy", objects)
    assert set(read_globals(tmp_path / "model.npz").globals) == MODEL_NAMES


@pytest.mark.parametrize(
    "content",
    [
        b'{"weights": [1, 2]}',
        b"[1, 2]",
        b"\x80\x02\x00\x00\x00\x00\x00\x00" + b'{"__metadata__":{}}' + bytes(640),  # safetensors
        b"\x08\x07\x12\x07pytorch\x1a\x05",  # onnx
        b"\x89HDF\r\n\x1a\n" + bytes(50),
        b"\x89PNG\r\n\x1a\n" + bytes(50),
        b"GGUF" + bytes(50),
        b"tree\nversion=v4\n",
        b"Nothing to see here\n",
        b"The model\n",
        b"I am text\n",
        b"Value\n" * 9,
        b"import os\n",
        b"cats and dogs\nand more\n",
        b"(a, b)\n",
        b"x^2 + 1\n",
        b"]\x00\x00 no lzma at all",
        gzip.compress(b"a,b\n1,2\n", mtime=0),
        bytes(1000),
    ],
)
def test_files_of_other_kinds_refer_to_nothing(tmp_path: Path, content: bytes) -> None:
    assert read_globals(write(tmp_path, content)) == NOTHING


def test_names_from_an_extension_registry_are_reported(tmp_path: Path) -> None:
    copyreg.add_extension("decimal", "Decimal", 0x1234)
    try:
        content = pickle.dumps(decimal.Decimal(1), 2)
    finally:
        copyreg.remove_extension("decimal", "Decimal", 0x1234)
    found = read_globals(write(tmp_path, content))
    assert ("decimal", "Decimal") not in found.globals
    assert found.problem == "1 of its names can be resolved only when it is loaded"


def test_files_that_cannot_be_read_are_errors(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="gone cannot be read"):
        read_globals(tmp_path / "gone")
    with pytest.raises(UsageError, match="cannot be read"):
        read_globals(tmp_path)
    with pytest.raises(UsageError, match=r"is cut short \(it is empty\): export or copy it again"):
        read_globals(write(tmp_path, b""))
