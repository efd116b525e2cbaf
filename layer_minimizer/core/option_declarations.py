"""Declare options as fields of frozen dataclasses; a field's metadata has everything about its option."""

from __future__ import annotations

import os
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, Self

from layer_minimizer.core.errors import UsageError
from layer_minimizer.core.option_kinds import FLAG, NAMES, Kind, WrongValueError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

# Values of options by their keys.
Values = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Option:
    """One option. It has many fields because an option is declared only here.

    ``kind``: the allowed values. ``default``: the value if none is given. ``group``: the heading in the help.
    ``name``: the name on the command line and in settings files. ``field``: the name in the dataclass.
    ``short``: the one-letter option. ``metavar``: the placeholder for the value in the help.
    ``help``: the text in the short help. ``details``: further text in the full help.
    ``example``: the TOML value that ``minimize init`` proposes.
    ``repeat``: the value is a list. ``several``: several values may follow one option on the command line.
    ``positional``, ``required``: as in `argparse`.
    ``common``: in the short help. ``trace``: also an option of ``minimize trace``.
    ``in_file``: allowed in settings files. ``host_only``: not passed into a container.
    ``instead_of``: keys of the options that this one excludes; it overrides their values of lower precedence.
    """

    kind: Kind
    help: str
    group: str
    name: str = ""
    field: str = ""
    default: Any = None
    details: str = ""
    metavar: str = ""
    example: str = ""
    short: str = ""
    instead_of: tuple[str, ...] = ()
    repeat: bool = False
    several: bool = False
    common: bool = False
    trace: bool = False
    in_file: bool = True
    positional: bool = False
    required: bool = False
    host_only: bool = False

    @property
    def key(self) -> str:
        """The name as a key of `Values`."""
        return self.name.replace("-", "_")

    @property
    def text(self) -> str:
        """The text in the short help."""
        return "; ".join([self.help, *self._more()])

    @property
    def long_text(self) -> str:
        """The text in the full help."""
        return "; ".join(filter(None, [self.help, self.details, *self._more()]))

    def _more(self) -> Iterator[str]:
        if self.repeat and not self.positional:
            yield "repeatable"
        if isinstance(self.default, str | float | int) and self.default not in ("", False):
            yield f"default: {f'{self.default}'.removesuffix('.0')}"

    @property
    def value(self) -> str:
        """The placeholder for the value in the help; empty for a flag."""
        if self.kind is FLAG:
            return ""
        return self.metavar or "|".join(self.kind.choices) or self.kind.metavar or "TEXT"

    def convert(self, value: Any) -> Any:
        """Return the converted value from Python, a settings file or JSON; a list becomes a tuple.

        Raises:
            WrongValueError: the value is not allowed.
        """
        if value is self.default or (type(value) is type(self.default) and value == self.default):
            return self.default
        if not self.repeat:
            return self.kind.convert(value)
        listed = [value] if isinstance(value, str | os.PathLike) else value
        if not isinstance(listed, list | tuple | set | frozenset):
            raise WrongValueError("a list of strings")
        return self.collected(map(self.kind.convert, listed))

    def collected(self, values: Iterable[Any]) -> tuple[Any, ...]:
        """Return the value of a repeated option from its single values."""
        return tuple(name for names in values for name in names) if self.kind is NAMES else tuple(values)


def option(default: Any, kind: Kind, help_text: str, group: str, **more: Any) -> Any:
    """Return a field that declares an option; ``more`` are the other fields of `Option`."""
    return field(default=default, metadata={"option": Option(kind, help_text, group, default=default, **more)})


def declared(options: type[Options]) -> tuple[Option, ...]:
    """Return the options that a class declares, in order."""
    found = []
    for each in fields(options):
        known: Option = each.metadata["option"]
        found.append(replace(known, field=each.name, name=known.name or each.name.replace("_", "-")))
    return tuple(found)


@dataclass(frozen=True, slots=True)
class Options:
    """Base of the classes that declare options; every instance converts and checks its values."""

    def __post_init__(self) -> None:
        """Convert the values.

        Raises:
            UsageError: a value is not allowed.
        """
        for each in declared(type(self)):
            value = getattr(self, each.field)
            try:
                object.__setattr__(self, each.field, each.convert(value))
            except WrongValueError as exc:
                raise UsageError(f"{each.field}={value!r}: it must be {exc}") from exc

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Self:
        """Return options from values by their keys; keys of other options are ignored."""
        return cls(**{each.field: values[each.key] for each in declared(cls) if each.key in values})

    def items(self) -> Iterator[tuple[Option, Any]]:
        """Yield the options and their values."""
        return ((each, getattr(self, each.field)) for each in declared(type(self)))

    @property
    def values(self) -> Values:
        """The values other than the defaults, by their keys."""
        return {each.key: value for each, value in self.items() if value != each.default}
