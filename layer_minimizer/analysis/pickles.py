"""Find the modules and classes that a model file refers to, without unpickling it.

The opcodes are interpreted with a reduced unpickler stack. It holds names, numbers and short tuples only, which is
enough to resolve STACK_GLOBAL and to skip the arrays that joblib writes between the opcodes. All other values are
opaque, so that memory use does not depend on the size of the model.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import math
import pickletools
import re
import zipfile
import zlib
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from layer_minimizer.core.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_Stream: TypeAlias = "io.BufferedReader[Any]"
_Names: TypeAlias = set[tuple[str, str]]
_MAX_LENGTH = 4096  # bytes of the longest relevant name or number; longer ones are skipped
_MAX_TUPLE_ITEMS = 64  # items of the largest relevant tuple: numpy's shapes
_CHUNK_BYTES = 1 << 20
_FIRST_PYTHON_3_PROTOCOL = 3  # the first protocol that uses the module names of Python 3
# The content of the first of five pickles; raw storages follow them.
_LEGACY_TORCH, _LEGACY_TORCH_PICKLES = 0x1950A86A20F9469CFC6C, 5
_MARK, _OPAQUE = object(), object()
_CONSTANTS = {"MARK": _MARK, "NONE": None, "EMPTY_TUPLE": ()}
_OPCODES = {ord(opcode.code): opcode for opcode in pickletools.opcodes}
_MARKED = {opcode.name for opcode in pickletools.opcodes if pickletools.markobject in opcode.stack_before}
_ARITY = {o.name: [*o.stack_before, pickletools.markobject].index(pickletools.markobject) for o in pickletools.opcodes}
_LENGTH_BYTES = {-2: 1, -3: 4, -4: 4, -5: 8}  # by pickletools' TAKEN_FROM_ARGUMENT1, 4, 4U and 8U
_STRING_OPCODES = {"BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "BINSTRING", "SHORT_BINSTRING"}
_VALUE_OPCODES = {*_STRING_OPCODES, "UNICODE", "BININT", "BININT1", "BININT2", "LONG1"}
_ARRAY_CLASSES = ("dtype", "NumpyArrayWrapper")  # the classes that determine the size of an array that joblib writes
_NAME = re.compile(r"[^\s\x00-\x1f]+")
_DTYPE = re.compile(r"[|<>=]?([A-Za-z])([0-9]*)")
_UNSUPPORTED = (b'\x04"M\x18', b"(\xb5/\xfd")  # lz4 and zstd


@dataclass(frozen=True, slots=True)
class PickledGlobals:
    """The (module, name) pairs that loading a model would import, and the problem if there may be others."""

    globals: tuple[tuple[str, str], ...]
    problem: str


class _CutShortError(EOFError):
    """The data ends before the end of the pickle."""


class _Named(NamedTuple):
    """A class, or with arguments an instance of it: a numpy dtype, or joblib's placeholder for an array."""

    name: str
    arguments: object = None


class _Zlib(io.RawIOBase):
    """Decompresses a plain zlib stream, for which the standard library has no file class."""

    def __init__(self, source: _Stream) -> None:
        self._source = source
        self._decompressor = zlib.decompressobj()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._decompressor.eof:
            data = self._decompressor.unconsumed_tail or self._source.read(_CHUNK_BYTES)
            content = self._decompressor.decompress(data, len(buffer))
            if content:
                buffer[: len(content)] = content
                return len(content)
            if not data:
                raise EOFError("its compressed data ends early")
        return 0


_COMPRESSED: tuple[tuple[tuple[bytes, ...], Callable[..., Any]], ...] = (
    ((b"\x1f\x8b",), gzip.open),
    ((b"BZh",), bz2.open),
    ((b"\xfd7zXZ\x00", b"]\x00\x00"), lzma.open),
    ((b"x\x01", b"x^", b"x\x9c", b"x\xda"), _Zlib),
)


class _Unpickling:
    """Interprets one pickle from its first opcode to STOP."""

    def __init__(self, stream: _Stream, names: _Names) -> None:
        self.names = names
        self.protocol = -1
        self.opcodes = self.memoized = self.unresolved = 0
        self._stream = stream
        self._stack: list[Any] = []
        self._memo: dict[int, Any] = {}

    def run(self) -> object:
        """Return the value on the stack at STOP."""
        try:
            while True:
                opcode = _OPCODES[self._read_exactly(1)[0]]
                argument = self._argument(opcode)
                if opcode.name == "STOP":
                    return self._stack.pop()
                popped = self._pop(opcode.name)
                made = self._pushed(opcode.name, argument, popped)
                self._stack += [made] * len(opcode.stack_after)
                if opcode.name == "BUILD" and _is_array(made):
                    self._array(popped[1])
                self.opcodes += 1
        except (LookupError, AttributeError, TypeError) as error:  # for example, more is popped than was pushed
            raise ValueError("not a pickle") from error

    def _read_exactly(self, count: int) -> bytes:
        data = self._stream.read(count)
        if len(data) < count:
            raise _CutShortError("it ends in the middle of a pickle")
        return data

    def _skip(self, count: int) -> None:
        while count:
            count -= len(self._read_exactly(min(count, _CHUNK_BYTES)))

    def _line(self) -> str:
        line = self._stream.readline()
        if not line.endswith(b"\n"):
            raise _CutShortError("it ends in the middle of a pickle")
        return line[:-1].decode("utf-8", "surrogateescape")

    def _argument(self, opcode: pickletools.OpcodeInfo) -> Any:
        """Read an opcode's argument; unlike pickletools, skip large ones and accept strings of Python 2."""
        if opcode.arg is None or opcode.name in ("GLOBAL", "INST"):
            return (self._line(), self._line()) if opcode.arg else None
        if opcode.arg.n == pickletools.UP_TO_NEWLINE:
            line = self._line()
            return int(line) if opcode.name in ("GET", "PUT") else line
        if opcode.arg.n > 0:
            return int.from_bytes(self._read_exactly(opcode.arg.n), "little", signed=opcode.name == "BININT")
        length = int.from_bytes(self._read_exactly(_LENGTH_BYTES[opcode.arg.n]), "little")
        data = b"" if length > _MAX_LENGTH else self._read_exactly(length)
        self._skip(length - len(data))
        if opcode.name in _STRING_OPCODES:
            return data.decode("utf-8" if "UNICODE" in opcode.name else "latin-1", "surrogatepass")
        return int.from_bytes(data, "little", signed=True)

    def _pushed(self, name: str, argument: Any, popped: list[Any]) -> object:  # noqa: C901 - one branch for each kind
        """Return the value that an opcode pushes; for most opcodes it is opaque."""
        made: object = _OPAQUE
        self.unresolved += name.startswith("EXT")
        if name in ("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"):
            made = popped[0] if popped else self._stack[-1]
            if made is not _OPAQUE:  # large models memoize millions of opaque values
                self._memo[self.memoized if argument is None else argument] = made
            self.memoized += 1
        elif name in ("GET", "BINGET", "LONG_BINGET"):
            made = self._memo.get(argument, _OPAQUE)
        elif name in _VALUE_OPCODES and argument is not None:
            made = argument
        elif name in _CONSTANTS:
            made = _CONSTANTS[name]
        elif name in ("GLOBAL", "INST", "STACK_GLOBAL"):
            made = self._global(*(argument or popped))
        elif name == "EMPTY_DICT" and self._stack and _is_array(self._stack[-1]):
            made = {}
        elif name in ("TUPLE", "TUPLE1", "TUPLE2", "TUPLE3") and len(popped) <= _MAX_TUPLE_ITEMS:
            made = tuple(item if isinstance(item, str | int) else _OPAQUE for item in popped)
        elif name in ("REDUCE", "NEWOBJ") and isinstance(popped[0], _Named) and popped[0].name in _ARRAY_CLASSES:
            made = _Named(popped[0].name, popped[1])
        elif name in ("SETITEM", "SETITEMS", "BUILD", "DUP"):
            made = popped[0]
            if isinstance(made, dict) and name != "DUP":
                made.update(zip(popped[1::2], popped[2::2], strict=True))
        elif name == "PROTO":
            self.protocol = argument
        return made

    def _pop(self, name: str) -> list[Any]:
        stack, fixed, above = self._stack, _ARITY[name], []
        if name in _MARKED or (name == "POP" and stack[-1] is _MARK):
            while (item := stack.pop()) is not _MARK:
                above.append(item)
            fixed = fixed if name in _MARKED else 0
        return ([stack.pop() for _ in range(fixed)][::-1] if fixed else []) + above[::-1]

    def _global(self, module: object, name: object) -> object:
        if not isinstance(module, str) or not isinstance(name, str):
            self.unresolved += 1
            return _OPAQUE
        if not _NAME.fullmatch(module) or not _NAME.fullmatch(name):
            raise ValueError("not a pickle")
        if self.protocol < _FIRST_PYTHON_3_PROTOCOL:
            module, name = NAME_MAPPING.get((module, name), (IMPORT_MAPPING.get(module, module), name))
        self.names.add((module, name))
        return _Named(name)

    def _array(self, state: dict[str, Any]) -> None:
        """Skip the array that joblib writes after its placeholder: a separate pickle, or padding and raw bytes."""
        kind, size = _DTYPE.fullmatch(state["dtype"].arguments[0]).groups()  # type: ignore[union-attr]  # see run
        if kind == "O" or (kind == "V" and self._stream.peek(1)[:1] == b"\x80"):
            _Unpickling(self._stream, self.names).run()
            return
        if state.get("numpy_array_alignment_bytes") is not None:
            self._skip(self._read_exactly(1)[0])
        self._skip(math.prod(state["shape"]) * int(size) * (4 if kind == "U" else 1))


def _is_array(value: object) -> bool:
    return isinstance(value, _Named) and value.arguments is not None and value.name == "NumpyArrayWrapper"


def _read_pickles(stream: _Stream, names: _Names) -> str:
    """Read consecutive pickles up to the end or to raw bytes; return the problem, if any."""
    done, expected, problem = 0, 0, ""
    while stream.peek(1) and (not expected or done < expected):
        unpickling = _Unpickling(stream, set())
        try:
            top = unpickling.run()
        except _CutShortError:
            if unpickling.protocol >= 0 or unpickling.memoized:
                raise
            return problem  # text can begin with a valid opcode
        except ValueError:
            if not done and (unpickling.memoized or (unpickling.protocol >= 0 and unpickling.opcodes > 1)):
                names |= unpickling.names
                problem = f"what follows its first {unpickling.opcodes} opcodes is not pickle data"
            return problem
        names |= unpickling.names
        if unpickling.unresolved:
            problem = f"{unpickling.unresolved} of its names can be resolved only when it is loaded"
        done += 1
        if top == _LEGACY_TORCH:
            expected = _LEGACY_TORCH_PICKLES
    # The last of the five pickles lists the storages that must follow.
    if done < expected or (expected and unpickling.memoized > 1 and not stream.peek(1)):
        raise _CutShortError("its weights are missing")
    return problem


def _read_zip(stream: _Stream, names: _Names) -> str:
    problem = ""
    with zipfile.ZipFile(stream) as archive:
        for entry in archive.infolist():
            if entry.filename.endswith((".pkl", ".npy")):
                # Without this attribute the checksum is not verified: torch can omit it, and loads such models.
                del entry.CRC
                with archive.open(entry) as raw, io.BufferedReader(raw) as content:  # type: ignore[type-var]
                    problem = _read(content, names) or problem
    return problem


def _read(stream: _Stream, names: _Names) -> str:
    head = stream.peek(8)[:8]
    if not head:
        raise _CutShortError("it is empty")
    if head.startswith(b"PK\x03\x04"):
        return _read_zip(stream, names)
    if head.startswith(_UNSUPPORTED):
        return "it is compressed with lz4 or zstd, which are not supported"
    if head.startswith(b"\x93NUMPY"):
        length_bytes = 2 if stream.read(8)[6:7] == b"\x01" else 4
        if b"|O" not in stream.read(int.from_bytes(stream.read(length_bytes), "little")):
            return ""
    opener = next((opener for magics, opener in _COMPRESSED if head.startswith(magics)), None)
    if opener is None:
        return _read_pickles(stream, names)
    with opener(stream) as raw, io.BufferedReader(raw) as content:
        try:
            content.peek(1)
        except (zlib.error, lzma.LZMAError):
            return ""  # other files can begin with the same bytes as compressed ones
        return _read_pickles(content, names)


def read_globals(model: Path) -> PickledGlobals:
    """Return the modules and classes that a model file refers to; the layer needs them to load the model.

    Pickles of every protocol are read, single or consecutive, compressed or not, as torch, joblib and numpy write them.
    A file of another kind refers to nothing.

    Raises:
        UsageError: the file cannot be read or is cut short.
    """
    names: _Names = set()
    try:
        with model.open("rb") as stream:
            problem = _read(stream, names)
    except (EOFError, zipfile.BadZipFile) as error:
        raise UsageError(f"The model {model} is cut short ({error}): export or copy it again.") from error
    except (OSError, zlib.error, lzma.LZMAError, RuntimeError) as error:
        if getattr(error, "errno", None) is not None:
            raise UsageError(f"The model {model} cannot be read ({error}): name a readable file.") from error
        problem = f"its data cannot be decompressed ({error})"
    return PickledGlobals(tuple(sorted(names)), problem)
