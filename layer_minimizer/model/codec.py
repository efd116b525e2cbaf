"""Convert values to JSON and back, according to the types of their dataclass fields.

A dataclass becomes an object with the names of its fields; in a list, which may have thousands of items, it becomes a
list of its values. Tuples and sets become lists. Types are checked on reading.
"""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Callable, Mapping
from enum import Enum
from functools import cache
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, TypeVar

from layer_minimizer.core.errors import UsageError

if TYPE_CHECKING:
    Reader = Callable[[Any], Any]

_Value = TypeVar("_Value")
_SCALARS = {str: (str,), int: (int,), bool: (bool,), float: (float, int)}


def encode(value: Any) -> Any:
    """Return the JSON form of a value."""
    if isinstance(value, Enum):
        return value.value
    kind: Any = type(value)
    if (types := _types(kind)) is not None:
        return {name: encode(getattr(value, name)) for name in types}
    if isinstance(value, tuple):
        return [_encode_item(item) for item in value]
    if isinstance(value, frozenset):
        return sorted(map(encode, value))
    if isinstance(value, Mapping):
        return {name: encode(each) for name, each in value.items()}
    return str(value) if isinstance(value, PurePath) else value


def _encode_item(value: Any) -> Any:
    kind: Any = type(value)
    types = _types(kind)
    return encode(value) if types is None else [encode(getattr(value, name)) for name in types]


def decode(kind: type[_Value], data: Any) -> _Value:
    """Return the value of type ``kind`` from its JSON form.

    Raises:
        KeyError, TypeError, ValueError: ``data`` is not the JSON form of such a value.
    """
    untyped: Any = kind
    read: Callable[[Any], _Value] = _reader(untyped)
    return read(data)


def encode_document(value: Any, version: int) -> dict[str, Any]:
    """Return the JSON form of a value to be saved, with the number of its format."""
    return {"format": version, **encode(value)}


def decode_document(  # noqa: PLR0913 - the data, and its names in error messages
    kind: type[_Value], data: Any, version: int, *, name: str, has: str, remedy: str = ""
) -> _Value:
    """Return a saved value. ``name`` is its name in messages, ``has`` a key that such a value always has.

    Raises:
        UsageError: ``data`` is something else, of another format, or damaged; ``remedy`` is added to the message.
    """
    if not isinstance(data, dict) or has not in data:
        raise UsageError(f"it is not a {name}: make one with --save-{name}")
    if data.get("format") != version:
        raise UsageError(f"it has format {data.get('format')!r}, this version reads format {version}{remedy}")
    try:
        return decode(kind, data)
    except (KeyError, TypeError, ValueError) as exc:
        raise UsageError(f"a part of the {name} is damaged ({type(exc).__name__}: {exc}){remedy}") from exc


@cache
def _types(kind: Any) -> dict[str, Any] | None:
    """Return the types of a dataclass's fields by name, in their order; None for other types."""
    if not dataclasses.is_dataclass(kind):
        return None
    hints = typing.get_type_hints(kind)
    return {field.name: hints[field.name] for field in dataclasses.fields(kind)}


@cache
def _reader(kind: Any) -> Reader:
    """Return the function that reads the JSON form of a type."""
    if kind is Any:
        return lambda data: data
    if dataclasses.is_dataclass(kind):
        return _object_reader(kind)
    if kind in _SCALARS:
        return _scalar_reader(kind)
    if typing.get_origin(kind) is not None:
        return _collection_reader(kind)
    # An enumeration, or a path.
    return lambda data: kind(_checked(data, str))


def _scalar_reader(kind: type) -> Reader:
    # bool is a subclass of int, but true is not a number in JSON.
    return lambda data: data if type(data) is kind else _checked(data, *_SCALARS[kind])


def _collection_reader(kind: Any) -> Reader:
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is Mapping:
        read_value = _reader(arguments[1])
        return lambda data: {name: read_value(each) for name, each in _checked(data, dict).items()}
    if origin is tuple and arguments[-1] is not ...:
        items = [_item_reader(argument) for argument in arguments]
        return lambda data: tuple(read(item) for read, item in zip(items, _checked(data, list), strict=True))
    read = _item_reader(arguments[0])
    return lambda data: origin(map(read, _checked(data, list)))


@cache
def _item_reader(kind: Any) -> Reader:
    return _row_reader(kind) if dataclasses.is_dataclass(kind) else _reader(kind)


def _object_reader(kind: Any) -> Reader:
    readers = {name: _reader(of) for name, of in (_types(kind) or {}).items()}
    missing = dataclasses.MISSING
    optional = {f.name for f in dataclasses.fields(kind) if (f.default, f.default_factory) != (missing, missing)}

    def read(data: Any) -> Any:
        _checked(data, dict)
        # Values saved by an earlier version may lack fields that have a default.
        return kind(
            **{name: reader(data[name]) for name, reader in readers.items() if name in data or name not in optional}
        )

    return read


def _row_reader(kind: Any) -> Reader:
    readers = [_reader(of) for of in (_types(kind) or {}).values()]

    def read(data: Any) -> Any:
        if len(_checked(data, list)) != len(readers):
            raise TypeError(f"{data!r} does not have the {len(readers)} values of a {kind.__name__}")
        return kind(*[reader(item) for reader, item in zip(readers, data, strict=True)])

    return read


def _checked(data: Any, *kinds: type) -> Any:
    """Return ``data`` if it is of one of these types, else raise TypeError."""
    if type(data) not in kinds:
        raise TypeError(f"{data!r} is not of the type {kinds[0].__name__}")
    return data
