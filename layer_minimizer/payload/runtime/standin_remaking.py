"""Makes anew what consists of placeholders and cannot be changed, and changes built-in objects that can.

``current(x)`` returns what is in the place of ``x`` now.
"""

import sys
import types

_CACHES_HASH = sys.version_info >= (3, 14)  # in tuples
_HAS_FIXED_VARIABLES = sys.version_info >= (3, 12)  # before, a TypeVar has ordinary attributes
_ALIAS = getattr(types, "GenericAlias", None)


def make_anew(holder, current):
    """Return what takes the place of an object that cannot be changed, None for others."""
    kind = type(holder)
    if issubclass(kind, (tuple, frozenset)):
        return _collect(holder, tuple if issubclass(kind, tuple) else frozenset, current)
    if kind in REMADE:
        return REMADE[kind](holder, current)
    if kind.__name__ == "TypeVar" and _HAS_FIXED_VARIABLES:
        return _make_variable(holder, current)
    if _ALIAS is not None and issubclass(kind, _ALIAS):
        args = tuple([current(item) for item in holder.__args__])
        made = _ALIAS.__new__(kind, current(holder.__origin__), args)
        return next(iter(made)) if getattr(holder, "__unpacked__", False) else made
    return None


def _collect(holder, base, current):
    import gc

    kind, before = type(holder), list(base.__iter__(holder))
    # C code may be putting items into a tuple just now.
    if kind is base and len(gc.get_referents(holder)) != len(before):
        return None
    items = [current(item) for item in before]
    if base is tuple and not _CACHES_HASH and all(item is old for item, old in zip(items, before)):  # noqa: B905
        return holder  # only its hash is another one
    made = base.__new__(kind, items)
    if kind is not base and hasattr(holder, "__dict__"):
        made.__dict__.update(holder.__dict__)
    return made


def _make_method(holder, current):
    return types.MethodType(current(holder.__func__), current(holder.__self__))


def make_union(holder, current):
    """Return the union of what is in the place of the parts of another one."""
    import functools
    import operator

    return functools.reduce(operator.or_, [current(item) for item in holder.__args__])


def _unite_any(holder, current):
    import typing

    return typing.Union[tuple([current(item) for item in holder.__args__])]


def _make_variable(holder, current):
    names = ("covariant", "contravariant", "infer_variance")
    settings = {name: getattr(holder, "__%s__" % name) for name in names}
    if getattr(holder, "has_default", bool)():
        settings["default"] = current(holder.__default__)
    types_of = [current(item) for item in holder.__constraints__]
    made = type(holder)(holder.__name__, *types_of, bound=current(holder.__bound__), **settings)
    made.__module__ = holder.__module__
    return made


# What cannot be changed, by its type.
REMADE = {types.MethodType: _make_method}
if hasattr(types, "UnionType"):  # it takes only types before CPython 3.14
    REMADE[types.UnionType] = make_union if sys.version_info < (3, 14) else _unite_any


def change_built_in(holder, current):
    """Change what a list, a cell, or a built-in object that can be initialized again has; return whether it is one."""
    kind = type(holder)
    if issubclass(kind, list) or kind.__name__ == "deque":
        base = list if issubclass(kind, list) else kind
        for index, item in enumerate(list(base.__iter__(holder))):
            if current(item) is not item:
                base.__setitem__(holder, index, current(item))
    elif kind.__name__ == "cell":
        holder.cell_contents = current(holder.cell_contents)
    elif kind in (staticmethod, classmethod):
        kind.__init__(holder, current(holder.__func__))
    elif kind is property:
        kind.__init__(holder, current(holder.fget), current(holder.fset), current(holder.fdel), holder.__doc__)
    elif kind is getattr(sys.modules.get("functools"), "partial", None):
        function, args, kwargs, names = holder.__reduce__()[2]
        args = tuple([current(item) for item in args])
        holder.__setstate__((current(function), args, {name: current(kwargs[name]) for name in kwargs}, names))
    else:
        return False
    return True
