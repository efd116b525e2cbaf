"""Replaces placeholders by the real objects in all data structures of the program."""

import sys
import types

from .standin_state import Placeholder, get_slot, replaced, shared


def settle(pairs):
    """Store the real objects in their placeholders, and replace all references to these."""
    first = len(replaced)
    for old, real in pairs:
        if issubclass(type(old), Placeholder):
            object.__setattr__(old, "_found", real)
            shared.pop(tuple(get_slot(old, "_kind")[1:3]), None)
            replaced.append(old)
    left = _replace(tuple(old for old, _ in pairs), {id(old): real for old, real in pairs}) if pairs else []
    for old in replaced[first:]:
        if not left:  # else it is still a key somewhere
            object.__setattr__(old, "_hash", hash(get_slot(old, "_found")))
        for name, value in get_slot(old, "_patches").items():
            setattr(get_slot(old, "_found"), name, value)


_SKIPPED = (types.FrameType, types.ModuleType, type, Placeholder)
_DEPTH = 4  # of tuples in tuples


def _replace(old, new):
    """Put ``new[id(x)]`` where the ``x`` of ``old`` are: namespaces, containers, closures, attributes.

    Returns the containers that could not be changed, as they are just being iterated over.
    """
    import gc
    import weakref

    refs = [ref for item in old for ref in weakref.getweakrefs(item) if type(ref) is weakref.ref]
    new.update((id(ref), weakref.ref(new[id(ref())], ref.__callback__)) for ref in refs if ref() is not None)
    old += tuple(refs)
    alive, left = [], []
    del refs
    for _ in range(_DEPTH):
        alive.append(old)
        found = [each for each in gc.get_referrers(*old) if each is not old and each is not alive]
        fixed = [each for each in found if type(each) in (tuple, frozenset) and _is_complete(each)]
        for holder in found:
            if holder is not sys.modules and holder is not replaced and not issubclass(type(holder), _SKIPPED):
                _replace_in(holder, new, left)
        if not fixed:
            break
        new.update((id(each), type(each)([new.get(id(item), item) for item in each])) for each in fixed)
        old = tuple(fixed)
        del found, fixed
    return left


def _is_complete(holder):
    """Return whether a tuple has all its items: C code may be putting them there just now."""
    import gc

    return len(gc.get_referents(holder)) == len(holder)


def _replace_in(holder, new, left):
    kind = type(holder)
    try:
        if issubclass(kind, (dict, set)) and any(id(key) in new for key in list(holder)) and _is_iterated(holder):
            left.append(id(holder))
        elif issubclass(kind, dict):
            _replace_in_dict(holder, new)
        elif issubclass(kind, list) or kind.__name__ == "deque":
            for index, item in enumerate(holder):
                if id(item) in new:
                    holder[index] = new[id(item)]
        elif issubclass(kind, set):
            found = [item for item in holder if id(item) in new]
            holder.difference_update(found)
            holder.update(new[id(item)] for item in found)
        elif kind.__name__ == "cell":
            holder.cell_contents = new[id(holder.cell_contents)]
        elif kind is types.FunctionType:
            holder.__defaults__ = new.get(id(holder.__defaults__), holder.__defaults__)
            _replace_in_dict(holder.__annotations__, new)  # converts the internal tuple to a dict
        else:
            _replace_attributes(holder, new)
    except Exception:
        pass  # a holder that does not allow it keeps what forwards


def _is_iterated(holder):
    import gc

    return any(type(each).__name__.endswith("iterator") for each in gc.get_referrers(holder))


def _replace_in_dict(holder, new):
    # Classes cache attribute lookups.
    owner = _class_of(holder) if "__module__" in holder and "__spec__" not in holder else None
    items = list(holder.items())
    for key, value in items:
        if id(value) in new:
            if owner is not None:
                type.__setattr__(owner, key, new[id(value)])
            else:
                holder[key] = new[id(value)]
    first = next((index for index, (key, _) in enumerate(items) if id(key) in new), len(items))
    for key, _ in items[first:]:  # their order stays
        value = holder.pop(key)
        holder[new.get(id(key), key)] = value


def _class_of(namespace):
    import gc

    for holder in gc.get_referrers(namespace):
        if issubclass(type(holder), type) and any(inner is namespace for inner in gc.get_referents(holder)):
            return holder
    return None


def _replace_attributes(holder, new):
    try:
        _replace_in_dict(object.__getattribute__(holder, "__dict__"), new)
    except AttributeError:
        pass
    for base in type.__getattribute__(type(holder), "__mro__"):
        for slot in list(type.__getattribute__(base, "__dict__").values()):
            if type(slot) is _SLOT:
                try:
                    value = slot.__get__(holder, base)
                except AttributeError:
                    continue
                if id(value) in new:
                    slot.__set__(holder, new[id(value)])


_SLOT = type(Placeholder.__dict__["_in"])
