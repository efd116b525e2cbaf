"""Fills dictionaries and sets anew, some of whose keys are replaced or have another hash."""

_FORWARD = ("dict_keyiterator", "dict_valueiterator", "dict_itemiterator")


def fill(holder, current):
    """Fill a dictionary or set anew; ``current(x)`` returns what is in the place of ``x``.

    Return False if that cannot be, as it is just being iterated over.
    """
    import collections
    import gc

    referrers = gc.get_referrers(holder)
    iterators = [each for each in referrers if type(each).__name__.endswith("iterator")]
    try:
        if isinstance(holder, set):
            return not iterators and _fill_set(holder, current)
        if isinstance(holder, collections.OrderedDict):
            return not iterators and _fill_ordered(holder, current)
        return _fill_dict(holder, current, referrers, iterators)
    except Exception:
        return True  # what cannot be a key any more


def _fill_set(holder, current):
    fresh = {current(item) for item in set.__iter__(holder)}
    set.clear(holder)
    set.update(holder, fresh)
    return True


def _fill_ordered(holder, current):
    import collections

    base = collections.OrderedDict
    items = []
    try:  # its iterators look up each key, and some have another hash now
        while True:
            items.append(base.popitem(holder, last=False))
    except KeyError:
        items += dict.items(holder)  # a subclass looks them up, too
    base.clear(holder)
    for key, value in items:
        base.__setitem__(holder, current(key), current(value))
    return True


def _fill_dict(holder, current, referrers, iterators):
    items = [(current(key), current(value)) for key, value in dict.items(holder)]
    if items and type(items[0][1]).__name__ == "_lru_list_elem":
        # A cache of limited size: it may forget at any time, and it has its keys at a second place, too.
        for each in referrers:
            if type(each).__name__ == "_lru_cache_wrapper":
                each.cache_clear()
        return True
    if not all(type(each).__name__ in _FORWARD for each in iterators):
        return False
    fresh = dict(items)  # what cannot be a key any more is raised before anything is lost
    left = [len(_remaining(each)) for each in iterators]
    _set_items(holder, fresh)
    for each, expected in zip(iterators, left):  # noqa: B905 - "strict" is not known to old interpreters
        skipped = expected - len(_remaining(each))
        if skipped:  # it knows the place of the next entry, before which there were others that had been deleted
            _set_items(holder, fresh, [object() for _ in range(skipped)])
    return True


def _remaining(iterator):
    return iterator.__reduce__()[1][0]


def _set_items(holder, items, deleted=()):
    padded = dict.fromkeys(deleted)
    padded.update(items)
    dict.clear(holder)
    dict.update(holder, padded)
    for each in deleted:
        dict.__delitem__(holder, each)
