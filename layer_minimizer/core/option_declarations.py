"""How an option is declared: as a field of a frozen dataclass, whose metadata say all that is to be known of it."""

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
    """One option. It has many fields because this is the only place that says anything about it.

    ``name`` is that of the command line and of settings files, ``field`` that of the dataclass. ``help`` says in a few
    words what it is for, ``details`` what does not fit into the short help. ``repeat`` makes it a list, of which
    ``several`` may follow one option on the command line. ``common`` options are in the short help, ``trace`` ones are
    options of ``minimize trace`` too; ``example`` is the value that ``minimize init`` proposes, as TOML.
    ``in_file`` is false for what only the command line can say. Options that are ``instead_of`` others, which are named
    by their keys, win over what lower settings say for those. ``outside`` are those that do not go into a container.
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
    outside: bool = False

    @property
    def key(self) -> str:
        """Its name as a key of `Values`."""
        return self.name.replace("-", "_")

    @property
    def text(self) -> str:
        """What the short help says of it."""
        return "; ".join([self.help, *self._more()])

    @property
    def long_text(self) -> str:
        """What the whole help says of it."""
        return "; ".join(filter(None, [self.help, self.details, *self._more()]))

    def _more(self) -> Iterator[str]:
        if self.repeat and not self.positional:
            yield "repeatable"
        if isinstance(self.default, str | float | int) and self.default not in ("", False):
            yield f"default: {f'{self.default}'.removesuffix('.0')}"

    @property
    def value(self) -> str:
        """What stands for its value in the help; the empty text where it takes none."""
        if self.kind is FLAG:
            return ""
        return self.metavar or "|".join(self.kind.choices) or self.kind.metavar or "TEXT"

    def convert(self, value: Any) -> Any:
        """Return a value as Python, a settings file or JSON has it, as the tool uses it; of a list, a tuple.

        Raises:
            WrongValueError: it cannot be used.
        """
        if value is self.default or (type(value) is type(self.default) and value == self.default):
            return self.default
        if not self.repeat:
            return self.kind.convert(value)
        listed = [value] if isinstance(value, str | os.PathLike) else value
        if not isinstance(listed, list | tuple | set | frozenset):
            raise WrongValueError("a list of texts")
        return self.collected(map(self.kind.convert, listed))

    def collected(self, values: Iterable[Any]) -> tuple[Any, ...]:
        """Return single values of a repeated option as its value."""
        return tuple(name for names in values for name in names) if self.kind is NAMES else tuple(values)


def option(default: Any, kind: Kind, help_text: str, group: str, **more: Any) -> Any:
    """Return a field that declares an option; ``more`` are the other fields of `Option`."""
    return field(default=default, metadata={"option": Option(kind, help_text, group, default=default, **more)})


def declared(options: type[Options]) -> tuple[Option, ...]:
    """Return the options that a class declares, in their order."""
    found = []
    for each in fields(options):
        known: Option = each.metadata["option"]
        found.append(replace(known, field=each.name, name=known.name or each.name.replace("_", "-")))
    return tuple(found)


@dataclass(frozen=True, slots=True)
class Options:
    """Base of the classes that declare options: whoever makes one, its values are converted or refused alike."""

    def __post_init__(self) -> None:
        """Convert the values.

        Raises:
            UsageError: one of them cannot be used.
        """
        for each in declared(type(self)):
            value = getattr(self, each.field)
            try:
                object.__setattr__(self, each.field, each.convert(value))
            except WrongValueError as exc:
                raise UsageError(f"{each.field}={value!r}: it must be {exc}") from exc

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Self:
        """Return options from values by their keys; keys of others do not matter."""
        return cls(**{each.field: values[each.key] for each in declared(cls) if each.key in values})

    def items(self) -> Iterator[tuple[Option, Any]]:
        """Return the options and their values."""
        return ((each, getattr(self, each.field)) for each in declared(type(self)))

    @property
    def values(self) -> Values:
        """The values that are not the defaults, by their keys."""
        return {each.key: value for each, value in self.items() if value != each.default}
