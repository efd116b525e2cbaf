"""Placeholders for ``X | Y`` where X is the placeholder of a class: CPython 3.10 to 3.13 unite nothing but types."""

import sys
import types

from .standin_remaking import REMADE, make_union

_UNION = getattr(types, "UnionType", None)
_TAKES_ALL = sys.version_info >= (3, 14)


def unite(placeholder, left, right):
    """Return ``left | right``, one of which is a placeholder; NotImplemented if the other one has to say.

    None if only the real class can tell.
    """
    other = right if left is placeholder else left
    if _UNION is None:
        return None
    if other is None or isinstance(other, (type, types.GenericAlias, _UNION)) or _is_alias(other):
        import typing

        made = typing.Union[left, right]
        return made if _TAKES_ALL or made is placeholder else Union(made.__args__)
    return NotImplemented if type(other).__module__ == "typing" else None


def _is_alias(value):
    return type(value).__name__ == "TypeAliasType"


class Union(object):
    """What types.UnionType is for types."""

    __slots__ = ("__args__", "__weakref__")

    def __init__(self, args):
        self.__args__ = args

    @property
    def __class__(self):
        return _UNION

    @property
    def __parameters__(self):
        return self._as_typing().__parameters__

    def _as_typing(self):
        import typing

        return typing.Union[self.__args__]

    def __or__(self, other):
        made = unite(self, self, other)
        return NotImplemented if made is None else made

    def __ror__(self, other):
        made = unite(self, other, self)
        return NotImplemented if made is None else made

    def __eq__(self, other):
        if type(other) not in (Union, _UNION):
            return NotImplemented
        return set(self.__args__) == set(other.__args__)

    def __hash__(self):
        return hash(frozenset(self.__args__))

    def __getitem__(self, items):
        return make_union(self._as_typing()[items], lambda item: item)

    def __instancecheck__(self, value):
        return isinstance(value, self.__args__)

    def __subclasscheck__(self, other):
        return issubclass(other, self.__args__)

    def __reduce__(self):
        import functools
        import operator

        return functools.reduce, (operator.or_, self.__args__)

    def __repr__(self):
        return " | ".join(map(_name_of, self.__args__))


def _name_of(part):
    if part is type(None):
        return "None"
    if not isinstance(part, type) or isinstance(part, types.GenericAlias):
        return repr(part)
    return part.__qualname__ if part.__module__ == "builtins" else "%s.%s" % (part.__module__, part.__qualname__)


REMADE[Union] = make_union
