"""The kinds of option values: how each is read from text, settings files and Python, and what is allowed."""

from __future__ import annotations

import difflib
import os
import re
from dataclasses import dataclass
from enum import Enum, StrEnum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}
_MAX_RUNS = 999_999
_MAX_SECONDS = 10**7


class WrongValueError(ValueError):
    """A value that is not allowed; the text says what is allowed."""


class File(Enum):
    """What a file name in a value refers to."""

    INPUT = "a file that is read"
    OUTPUT = "a file that is written"
    FOLDER = "a folder that is written"
    PROGRAM = "a program: a path, or a name on PATH"


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of option values.

    ``allowed`` describes the allowed values in an error message: "it must be ...". ``check`` converts a value from
    Python or a settings file to the form that the tool uses; it accepts its own results unchanged. ``read`` parses text
    from the command line for ``check``. Both raise an error for a value that is not allowed. ``choices`` are the
    allowed texts, if they are few, ``file`` says what a file name refers to, and ``metavar`` is the
    placeholder in the help.
    """

    allowed: str
    check: Callable[[Any], Any]
    read: Callable[[str], Any] = str
    choices: tuple[str, ...] = ()
    file: File | None = None
    metavar: str = ""

    def convert(self, value: Any) -> Any:
        """Return the converted value from Python or a settings file.

        Raises:
            WrongValueError: the value is not allowed.
        """
        try:
            return self.check(value)
        except WrongValueError:
            raise
        except (TypeError, ValueError, KeyError, OverflowError) as exc:
            suggestion = did_you_mean(str(value), self.choices) if self.choices else ""
            raise WrongValueError(f"{self.allowed}{suggestion}") from exc

    def from_text(self, text: str) -> Any:
        """Return the value of a text from the command line.

        Raises:
            WrongValueError: the value is not allowed.
        """
        try:
            value = self.read(text)
        except ValueError as exc:
            raise WrongValueError(self.allowed) from exc
        return self.convert(value)


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return a suggestion of the most similar name, to append to an error message; empty if none is similar."""
    found = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f"; did you mean {found[0]!r}?" if found else ""


# ---- checks -------------------------------------------------------------------------------------------------------


def _text(value: Any) -> str:
    if not isinstance(value, str) or isinstance(value, Enum):
        raise TypeError
    if "\0" in value:
        raise WrongValueError("a string without null characters")
    return value


def _path(value: Any) -> str:
    return _text(os.fspath(value))


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise TypeError
    return value


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError
    return float(value)


def _whole(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError
    return value


def _size(value: Any) -> int:
    text = value if isinstance(value, str) else str(_whole(value))
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([a-zA-Z]*)", text.strip())
    if not found:
        raise ValueError
    return int(float(found[1]) * _UNITS[found[2].upper()])


def _whole_text(text: str) -> int:
    if not re.fullmatch(r"-?\d{1,12}", text):
        raise ValueError
    return int(text)


def _names(text: Any) -> tuple[str, ...]:
    return tuple(name for name in re.split(r"[,\s]+", _text(text)) if name)


# ---- kinds --------------------------------------------------------------------------------------------------------


def _between(check: Callable[[Any], Any], is_allowed: Callable[[Any], bool]) -> Callable[[Any], Any]:
    def checked(value: Any) -> Any:
        found = check(value)
        if not is_allowed(found):
            raise ValueError
        return found

    return checked


TEXT = Kind("a string", _text)
# One text can have several names, separated by commas or spaces.
NAMES = Kind("a string", _names)
FLAG = Kind("true or false", _flag)
SIZE = Kind("a size: 250MB, 0.9GB or a whole number of bytes", _size, metavar="SIZE")
TOLERANCE = Kind("a number from 0 to 1", _between(_number, lambda x: 0 <= x < 1), float, metavar="X")
RUNS = Kind("a whole number, 1 or more", _between(_whole, lambda n: 1 <= n <= _MAX_RUNS), _whole_text, metavar="N")
SECONDS = Kind(
    "a number of seconds above 0", _between(_number, lambda x: 0 < x < _MAX_SECONDS), float, metavar="SECONDS"
)
MINUTES = Kind(
    "a number of minutes, 0 or more", _between(_number, lambda x: 0 <= x < float("inf")), float, metavar="MINUTES"
)
PRICE = Kind(
    "a number of US dollars, 0 or more", _between(_number, lambda x: 0 <= x < float("inf")), float, metavar="DOLLARS"
)
INPUT_FILE = Kind("a string", _path, file=File.INPUT, metavar="FILE")
OUTPUT_FILE = Kind("a string", _path, file=File.OUTPUT, metavar="FILE")
OUTPUT_FOLDER = Kind("a string", _path, file=File.FOLDER, metavar="DIR")
PROGRAM = Kind("a string", _path, file=File.PROGRAM, metavar="PATH")


def whole_in(smallest: int, largest: int, unit: str, reason: str = "") -> Kind:
    """Return the kind of whole numbers of ``unit`` in a range; ``reason`` says where the range comes from."""
    allowed = f"a whole number of {unit} from {smallest} to {largest:,}{reason and f', {reason}'}"
    return Kind(allowed, _between(_whole, lambda n: smallest <= n <= largest), _whole_text, metavar=unit)


def one_of(names: type[StrEnum] | Iterable[str]) -> Kind:
    """Return the kind of values from a fixed set: the members of an enumeration, or texts."""
    choices = tuple(map(str, names))

    def check(value: Any) -> Any:
        if not isinstance(value, str) or value not in choices:
            raise ValueError
        return names(value) if isinstance(names, type) else str(value)

    return Kind(f"one of {', '.join(choices)}", check, choices=choices)
