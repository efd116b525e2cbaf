"""Finds where a program could tell the placeholders of stand-ins from the real things.

Runs inside the traced interpreter: CPython 3.6 and later, the standard library alone.
"""

import gc
import sys
import types

_PLAIN = frozenset((str, int, float, complex, bool, bytes, type(None)))
_MOST_PARTS = 200
_COLLECTED = (tuple, frozenset)
_CONTAINERS = (dict, set, frozenset)
_NOT_PARTS = (types.ModuleType, types.FunctionType, type)


class Identities(object):
    """The placeholders of a program whose stand-ins sleep, and where they are; ``state`` is standin_state.py.

    All methods yield (module, what is wrong).
    """

    def __init__(self, state):
        gc.collect()
        self._state = state

    def _says(self, placeholder, text):
        kind = state_of(placeholder, "_kind")
        module = self._state.namespace(state_of(placeholder, "_in"))["__name__"]
        return module, "%s.%s %s" % (kind[1], kind[2], text)

    def before(self):
        """Tell of what can be seen while they sleep: ids as keys, patterns of match statements, what pickles find."""
        placeholders = {id(each): each for each in self._state.shared.values()}
        for each in placeholders.values() if sys.version_info < (3, 8) else ():
            kind = state_of(each, "_kind")
            if kind[0] == "class" and type(sys.modules.get(kind[1], self)) not in (Identities, self._state.StandIn):
                # Unpickling takes it from there, with C code that makes instances of nothing but types.
                yield self._says(each, "is what pickles find in %s" % kind[1])
        for found in self._in_containers(placeholders):
            yield found

    def _in_containers(self, placeholders):
        by_namespace = {}
        for container in gc.get_objects():
            if issubclass(type(container), _CONTAINERS) and container is not placeholders:
                keys = _keys_of(container)
                for key in keys if int in map(type, keys) else ():
                    if type(key) is int and key in placeholders:
                        yield self._says(placeholders[key], "has its id in a %s" % type(container).__name__)
                if type(container) is dict and "__name__" in container:
                    found = {name: value for name, value in container.items() if id(value) in placeholders}
                    by_namespace[id(container)] = found
        for function in gc.get_objects():
            if type(function) is types.FunctionType and by_namespace.get(id(function.__globals__)):
                names = by_namespace[id(function.__globals__)]
                for name in _matched(function.__code__, names):
                    yield self._says(names[name], "is a pattern in %s" % function.__qualname__)

    def after(self):
        """Tell of what can be seen when all are awake: what still holds a placeholder, and keys that are not found."""
        gc.collect()
        real = self._state.replaced  # the one list in which they stay
        holders = _holders_of({id(each) for each in real}, self._state.referents)
        things = [object()]
        may_hold = (types.FrameType, self._state.Placeholder)
        more = sys.getrefcount(things[0]) - len(things)  # than objects that hold a thing
        for index in range(len(real)):
            found = holders.get(id(real[index]), [])
            seen = [each for each in found if each is not real and not isinstance(each, may_hold)]
            if seen:
                yield self._says(real[index], "is kept by a %s" % _name_of_type(seen[0]))
            elif sys.getrefcount(real[index]) > more + len(found):
                yield self._says(real[index], "is kept by running code or C code")
        holders.clear()
        by_id = {id(state_of(each, "_found")): each for each in real}
        for key, container in _lost_keys():
            placeholder = _part_in(key, by_id)
            if placeholder is not None:
                yield self._says(placeholder, "is in a key of a %s, with its hash" % type(container).__name__)


state_of = object.__getattribute__


def _holders_of(wanted, referents):
    """Return the objects that hold those whose ids are ``wanted``, once for each time that they do."""
    found = {}
    for holder in gc.get_objects():
        held = referents(holder)
        if not wanted.isdisjoint(map(id, held)):
            for each in held:
                if id(each) in wanted:
                    found.setdefault(id(each), []).append(holder)
    return found


def _name_of_type(value):
    return "%s.%s" % (type(value).__module__, type(value).__qualname__)


def _base_of(container):
    return next(base for base in _CONTAINERS if issubclass(type(container), base))


def _keys_of(container):
    return list(_base_of(container).__iter__(container))


def _matched(code, names):
    """Yield those names that code has as classes in patterns."""
    import dis

    if "MATCH_CLASS" not in dis.opmap:
        return
    steps = []
    if dis.opmap["MATCH_CLASS"] in code.co_code[::2]:  # few functions have one, and reading instructions takes long
        steps = [step for step in dis.get_instructions(code) if step.opname not in ("CACHE", "EXTENDED_ARG")]
    for index, step in enumerate(steps):
        if step.opname == "MATCH_CLASS" and index > 1 and steps[index - 2].argval in names:
            yield steps[index - 2].argval
    for inner in code.co_consts:
        if type(inner) is types.CodeType:
            for name in _matched(inner, names):
                yield name


def _lost_keys():
    """Yield (key, container) of keys that have another hash now than when they came there, or should have."""
    # A list of all objects would hold placeholders, too, while a hash of the program's own loads a module.
    for container in [each for each in gc.get_objects() if issubclass(type(each), _CONTAINERS)]:
        keys = _keys_of(container)
        if _PLAIN.issuperset(map(type, keys)):
            continue
        keys = [key for key in keys if type(key) not in _PLAIN and _has_own_hash(type(key))]
        try:
            # A set of a dictionary or of a set takes over its hashes, and one of a list asks each key. Looking up a key
            # is no test: CPython 3.15 compares addresses before hashes.
            held = frozenset(dict.copy(container) if keys and isinstance(container, dict) else keys and container)
            lost = bool(keys) and hash(held) != hash(frozenset(_keys_of(container)))
            for key in keys:
                if lost or _remembers_hash(key):
                    yield key, container
        except Exception:
            pass  # of the program's own


def _remembers_hash(key):
    names = getattr(key, "__dict__", None)
    parts = gc.get_referents(key) + (list(names.values()) if type(names) is dict else [])
    return not isinstance(key, _COLLECTED) and any(type(part) is int and part == hash(key) for part in parts)


def _has_own_hash(kind):
    return kind.__hash__ is not object.__hash__


def _part_in(key, wanted):
    """Return what ``wanted`` has, by id, for the first part of a key that is there."""
    parts = [key]
    for part in parts:
        if id(part) in wanted:
            return wanted[id(part)]
        if len(parts) < _MOST_PARTS and not isinstance(part, _NOT_PARTS):
            parts += gc.get_referents(part)
    return None
