"""Environment variables that modules set when they are imported, while stand-ins are in the modules' places.

A variable is "NAME=value" where the module's code contains the value: its stand-in sets it at once, as child processes
inherit it, too. It is "NAME" where the module computes the value: what asks for that variable, or for all, loads the
module.
"""

import os

_given = {}  # the values that stand-ins have set, by module and variable
_computed = {}  # (module, function that loads it) by variable
_Real = type(os.environ)


def are_free(variables):
    """Return whether none of them has another value already: the module's own code has to decide then."""
    for variable in variables:
        name, constant, value = variable.partition("=")
        if os.environ.get(name, value) != value or (not constant and name in os.environ):
            return False
    return True


def give(module, variables, load):
    """Set the variables in the place of ``module``, which ``load()`` loads for those that it computes."""
    for variable in variables:
        name, constant, value = variable.partition("=")
        if not constant:
            _computed[name] = (module, load)
            _watch()
        elif name not in os.environ:
            os.environ[name] = _given.setdefault(module, {})[name] = value


def take_back(module):
    """Remove what was set in the place of ``module``, whose own code is about to set it."""
    for name in [name for name, (owner, _load) in _computed.items() if owner == module]:
        del _computed[name]
    for name, value in _given.pop(module, {}).items():
        if os.environ.get(name) == value:
            del os.environ[name]


def _watch():
    os.environ.__class__ = _Environ
    os.environb.__class__ = _Environ


def _ask(name):
    _module, load = _computed.get(os.fsdecode(name) if isinstance(name, (str, bytes)) else name, (None, None))
    if load:
        load()


def _ask_all():
    for _module, load in list(_computed.values()):
        load()


class _Environ(_Real):
    """Variables, some of which are set as soon as somebody asks for them."""

    __slots__ = ()

    def __getitem__(self, name):
        _ask(name)
        return _Real.__getitem__(self, name)

    def __setitem__(self, name, value):
        _ask(name)
        _Real.__setitem__(self, name, value)

    def __delitem__(self, name):
        _ask(name)
        _Real.__delitem__(self, name)

    def __iter__(self):
        _ask_all()
        return _Real.__iter__(self)

    def __len__(self):
        _ask_all()
        return _Real.__len__(self)

    def __repr__(self):
        _ask_all()
        return _Real.__repr__(self)


_Environ.__name__, _Environ.__qualname__, _Environ.__module__ = _Real.__name__, _Real.__qualname__, _Real.__module__
