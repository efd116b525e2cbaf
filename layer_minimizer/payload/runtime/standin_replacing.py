"""Replaces placeholders by the real objects in all data structures of the program.

What consists of placeholders and cannot be changed, such as a tuple or ``list[x]``, is made anew and replaced in its
turn. What can be changed may have another hash then: the dictionaries and sets that have it as a key are filled anew.
"""

import gc
import sys
import types

from .standin_filling import fill
from .standin_frames import replace_in_frame, replace_in_stack
from .standin_remaking import change_built_in, make_anew
from .standin_state import Placeholder, get_slot, namespace, referents, replaced, shared

_SKIPPED = (types.ModuleType, type, Placeholder)
_MAX_DEPTH = 12  # of tuples in objects in tuples
_MANY = 256  # more than this are faster found by their ids
_SUSPENDED = {types.GeneratorType: "gi", types.CoroutineType: "cr", types.AsyncGeneratorType: "ag"}
_SLOT = type(Placeholder.__dict__["_in"])


def settle(pairs):
    """Store the real objects in their placeholders, and replace all references to these; ``pairs`` is emptied."""
    first = len(replaced)
    _store(pairs)
    complete = not pairs or _Replacing(pairs).run()
    for old in replaced[first:]:
        if complete:  # else it is still a key somewhere
            object.__setattr__(old, "_hash", hash(get_slot(old, "_found")))
        for name, value in get_slot(old, "_patches").items():
            setattr(get_slot(old, "_found"), name, value)


def _store(pairs):
    for old, real in pairs:
        if issubclass(type(old), Placeholder):
            object.__setattr__(old, "_found", real)
            shared.pop(tuple(get_slot(old, "_kind")[1:3]), None)
            replaced.append(old)


class _Replacing(object):
    """Puts real objects where the others are: namespaces, containers, closures, attributes, local variables.

    ``_old``: the objects whose holders are looked for next.
    ``_new``: by id, what comes in the place of an object, or the object itself if its hash is another one now.
    ``_changed``: by id, dictionaries with other values, which may be those of instances.
    ``_keyed``: dictionaries and sets with a key that is replaced or has another hash.
    ``_alive``: all these objects, so that an id stays that of one object.
    """

    def __init__(self, pairs):
        self._old = tuple([old for old, _ in pairs])
        self._new = {id(old): real for old, real in pairs}
        self._changed = {}
        self._keyed = []
        self._alive = []
        del pairs[:]  # so that what only they hold has no holder left

    def run(self):
        """Replace all; return False if a dictionary or set keeps keys as it is just being iterated over."""
        self._add_references()
        for _ in range(_MAX_DEPTH):
            if not self._old:
                break
            self._alive.append(self._old)
            changed = self._replace_in_namespaces()
            self._old = tuple(changed + self._replace_elsewhere())
            del changed
        replace_in_stack(self.current)
        return not [holder for holder in self._keyed if not fill(holder, self.current)]

    def _replace_in_namespaces(self):
        """Replace what modules have under their names; return those namespaces whose own holders are concerned."""
        ids = set(map(id, self._old))
        modules = [module for module in list(sys.modules.values()) if issubclass(type(module), types.ModuleType)]
        found = [names for names in map(namespace, modules) if not ids.isdisjoint(map(id, list(names.values())))]
        return [names for names in found if self._concerns(names)]

    def _replace_elsewhere(self):
        """Replace what all other objects have; return those of them whose own holders are concerned.

        Most placeholders lie in nothing but namespaces of modules: their reference counts show that no other object
        has them, and a look at all objects takes long.
        """
        # The new object shows what counting alone adds.
        alone, *counts = map(sys.getrefcount, (object(),) + self._old)
        held = [old for old, count in zip(self._old, counts) if count - alone > self._own_references(old)]  # noqa: B905
        if not held:
            return []
        own = {id(each) for each in self._alive}
        own.update(map(id, (held, self._alive, self._new, self._changed, self._keyed, sys.modules, replaced)))
        return [each for each in _holders_of(held) if id(each) not in own and self._concerns(each)]

    def _own_references(self, old):
        """Return how many references this module's own data have to an object."""
        in_replaced = issubclass(type(old), Placeholder) and get_slot(old, "_found") is not None
        return 1 + in_replaced + (id(old) in self._changed) + (self._new.get(id(old)) is old)

    def current(self, item):
        """Return what is in the place of an object now."""
        while self._new.get(id(item), item) is not item:
            item = self._new[id(item)]
        return item

    def _add_references(self):
        """Make weak references to the real objects in the place of those to the others."""
        import weakref

        refs = []
        for old in self._old:
            for ref in weakref.getweakrefs(old):
                kind, real = type(ref), self._new[id(old)]
                if kind is weakref.ref:
                    self._new[id(ref)] = weakref.ref(real, ref.__callback__)
                elif kind is weakref.KeyedRef:
                    self._new[id(ref)] = weakref.KeyedRef(real, ref.__callback__, ref.key)
                elif kind in (weakref.ProxyType, weakref.CallableProxyType):
                    self._new[id(ref)] = weakref.proxy(real)
                refs.append(ref)
        self._old += tuple(refs)

    def _concerns(self, holder):
        """Replace what a holder of one of the old objects has; return whether its own holders have to be looked for.

        They have to if another object comes in its place, or if its hash is another one now.
        """
        if issubclass(type(holder), _SKIPPED):
            return False
        if type(holder) is types.FrameType:
            self._replace_in_suspended(*gc.get_referrers(holder))
            return False
        try:
            made = make_anew(holder, self.current) if self._new.get(id(holder), holder) is holder else None
            if made is not None:
                self._new[id(holder)] = made
                return True
            return self._replace_in(holder)
        except Exception:
            return False  # a holder that does not allow it keeps what forwards

    def _replace_in(self, holder):
        kind = type(holder)
        if issubclass(kind, dict):
            return self._replace_in_dict(holder)
        if issubclass(kind, set):
            self._note_keys(holder)
        elif kind is types.FunctionType:
            holder.__defaults__ = self.current(holder.__defaults__)
            if hasattr(holder, "__type_params__"):
                holder.__type_params__ = self.current(holder.__type_params__)
            if sys.version_info < (3, 14):
                self._replace_in_dict(holder.__annotations__)  # converts the internal tuple to a dict
        elif kind in _SUSPENDED:
            self._replace_in_suspended(holder)
        elif not change_built_in(holder, self.current):
            return self._replace_attributes(holder)
        return False

    def _replace_in_suspended(self, *holders):
        """Replace local variables of generators and coroutines, whose frames have them before CPython 3.11."""
        for holder in holders:
            prefix = _SUSPENDED.get(type(holder))
            if prefix is not None and not getattr(holder, prefix + "_running"):
                replace_in_frame(getattr(holder, prefix + "_frame"), self.current)

    def _note_keys(self, holder):
        if not any(each is holder for each in self._keyed):
            self._keyed.append(holder)

    def _replace_in_dict(self, holder):
        """Replace values, and note a dictionary with keys to replace; return whether it may belong to an instance."""
        # Classes cache attribute lookups.
        owner = _class_of(holder) if "__module__" in holder and "__spec__" not in holder else None
        items = list(dict.items(holder))
        for key, value in items:
            real = self.current(value)
            if real is not value and owner is not None:
                type.__setattr__(owner, key, real)
            elif real is not value:
                dict.__setitem__(holder, key, real)
        if any(id(key) in self._new for key, _ in items):
            self._note_keys(holder)
        if owner is not None or "__spec__" in holder:
            return False
        if not any(id(value) in self._new for _, value in items):
            return False
        self._changed[id(holder)] = holder
        return True

    def _replace_attributes(self, holder):
        """Replace what an instance has; return whether its hash may depend on that."""
        changed = False
        try:
            names = object.__getattribute__(holder, "__dict__")
            changed = self._replace_in_dict(names) or id(names) in self._changed
        except AttributeError:
            pass
        for base in type.__getattribute__(type(holder), "__mro__"):
            for slot in list(type.__getattribute__(base, "__dict__").values()):
                if type(slot) is _SLOT:
                    try:
                        value = slot.__get__(holder, base)
                    except AttributeError:
                        continue
                    changed = changed or id(value) in self._new
                    if self.current(value) is not value:
                        slot.__set__(holder, self.current(value))
        if not changed or type(holder).__hash__ in (None, object.__hash__):
            return False
        # Again if it was changed before: a part of it may have another hash only now.
        self._new[id(holder)] = holder
        return True


def _holders_of(things):
    if len(things) < _MANY:
        return gc.get_referrers(*things)
    ids = set(map(id, things))
    return [each for each in gc.get_objects() if not ids.isdisjoint(map(id, referents(each)))]


def _class_of(namespace):
    for holder in gc.get_referrers(namespace):
        if issubclass(type(holder), type) and any(inner is namespace for inner in gc.get_referents(holder)):
            return holder
    return None
