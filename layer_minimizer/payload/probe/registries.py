"""Sees which modules put things into containers of others: registries that are filled by imports alone.

Runs inside the traced interpreter: CPython 3.6 and later, the standard library alone.
"""

import collections
import types

_CONTAINERS = frozenset((dict, list, set, collections.OrderedDict, collections.defaultdict, collections.deque))
# Larger ones hold data, not registries of registries.
_MOST_NESTED = 256
_MODULE_OF_CLASS = type.__dict__["__module__"].__get__
_NAMESPACE_OF_CLASS = type.__dict__["__dict__"].__get__


class Registries(object):
    """The containers that modules hold: under their names, in their classes, and in their instances.

    ``others`` are modules that are not watched. What these hold (sys.modules, linecache.cache) is not a registry.
    """

    def __init__(self, others):
        # All are kept alive, so that an id stays that of one container.
        self._foreign = {id(container): container for _label, container in _containers(others)}
        self._watched = {}
        self._lengths = []

    def add(self, modules, filler=""):
        """Watch more ``modules``; return the labels of what in them already holds something of ``filler``, a module."""
        filled = []
        for label, container in _containers(modules):
            if id(container) not in self._foreign and id(container) not in self._watched:
                self._watched[id(container)] = (label, container)
                self._lengths.append(len(container))
                if filler and _holds_of(filler, container):
                    filled.append(label)
        return filled

    def grown(self):
        """Return the labels of those that have more entries than at the last call, or when they were added."""
        lengths = [len(container) for _label, container in self._watched.values()]
        before, self._lengths = self._lengths, lengths
        if lengths == before:
            return []
        rows = zip(self._watched.values(), before, lengths)  # noqa: B905 - "strict" is not known to old interpreters
        return [label for (label, _held), was, now in rows if now > was]


def _containers(modules):
    for name, module in modules.items():
        for attribute, value in _public(module.__dict__):
            for container in _held_by(value, name):
                yield "%s.%s" % (name, attribute), container


def _holds_of(name, container):
    things = list(container)
    if hasattr(container, "values"):
        things.extend(container.values())
    things.extend([part for thing in things if type(thing) is tuple for part in thing])
    return any(_module_of(thing) == name for thing in things)


def _module_of(thing):
    """Return the module that a function or class was defined in."""
    if issubclass(type(thing), type):
        return _MODULE_OF_CLASS(thing)
    return thing.__module__ if type(thing) is types.FunctionType else None


def _public(namespace):
    return [(n, value) for n, value in list(namespace.items()) if isinstance(n, str) and not n.startswith("__")]


def _held_by(value, name):
    """Return the containers that a value in the namespace of the module ``name`` is or has; none of their code runs."""
    kind = type(value)
    if kind in _CONTAINERS:
        return [value] + _directly_in(value)
    if kind is types.FunctionType:
        registry = value.__dict__.get("registry")  # of functools.singledispatch
        return [registry] if type(registry) is types.MappingProxyType else []
    if issubclass(kind, type):
        return _values(_NAMESPACE_OF_CLASS(value)) if _MODULE_OF_CLASS(value) == name else []
    if issubclass(kind, types.ModuleType):
        return []
    try:
        return _values(object.__getattribute__(value, "__dict__"))
    except (AttributeError, TypeError):
        return []


def _values(namespace):
    return [value for _name, value in _public(namespace) if type(value) in _CONTAINERS]


def _directly_in(container):
    if len(container) > _MOST_NESTED:
        return []
    values = container.values() if isinstance(container, dict) else container
    return [value for value in list(values) if type(value) in _CONTAINERS]
