"""Modules that stand in for others that nothing has needed yet.

A stand-in has the names of the real module. What import-time code does with them (bind, subclass-check, annotate,
register) is answered from a table that was written when the real module was last seen; anything else wakes it: the
real code is run in the very same module object, and what was handed out is replaced by the real things, wherever it
can be found, or forwards to them.

Standard library only, CPython 3.6 and later. Ships inside layers, and runs inside traced programs to find out which
modules can be replaced; there its parts (standin_*.py) are loaded one by one, see layer_minimizer_loading.py.

A table is ``{"names": {name: kind}, "dynamic": bool, "group": name, "also": [module...], "fills": [package...],
"environ": [variable...]}``: all names of the real module, whether it has a ``__getattr__`` of its own, the modules with
which it is real or replaced together, modules that others expect to be loaded with it, packages whose registries it
fills, and environment variables that it sets (see standin_environ.py). A kind is one of::

    ["value", x]                          text, number, bool or None: x itself
    ["tuple", [x, ...]]                   a tuple of such
    ["list", [x, ...]]                    the names of __all__
    ["module", full name]
    ["class", module, qualified name, [[module, qualified name] of each base...]]
    ["function", module, qualified name, signature or None]
    ["builtin", module, qualified name]   a function that is written in C
    ["loaded", module, qualified name]    no placeholder can act for it: the thing itself, where it is loaded
    ["other"]                             wakes
"""

import importlib
import sys
import types
from _thread import get_ident

from .standin_finding import LAST, find_below
from .standin_placeholders import Target, hand_out, is_only_written_to, know_members, teach_abc
from .standin_state import (
    AS_IMPORTED,
    NOTHING,
    StandIn,
    State,
    ask,
    awake_groups,
    awake_names,
    is_child,
    namespace,
    planned,
    put,
    report,
    report_to,
    states,
)
from .standin_waking import execute, find_caller, give_variables, in_order, note_woken, wake_module

__all__ = [
    "asleep",
    "find_below",
    "in_order",
    "is_awake",
    "know_members",
    "plan",
    "planned",
    "report_to",
    "stand_in",
    "wake",
]

_OF_ANY = frozenset(("__dict__", "__doc__", "__builtins__", "__annotations__", "__annotate__"))
_NOT_OF_ANY = AS_IMPORTED - {"__spec__"}
# How reports name the kinds in tables.
_REPORTED_KINDS = {"tuple": "value", "list": "value", "builtin": "function", "loaded": "class"}


def asleep():
    """Return the names of the stand-ins that have not been woken, in the order in which they were imported."""
    return [state.name for state in list(states.values())]


def plan(names):
    """Add the modules that a layer has stand-ins for; :func:`find_below` leaves those alone."""
    planned.update(names)


def _get_attribute(module, name):
    state = states.get(id(module))
    if state is None or state.waking == get_ident():
        return ask(module, name)
    if name == "__class__":
        return types.ModuleType
    own = namespace(module)
    if name == "__dict__" and _is_executed(sys._getframe(1)):
        return own
    awake = state.waking is not None or state.group in awake_groups
    # An import statement reads __spec__: modules that belong together run in the order in which they are imported.
    if name in own and (name in AS_IMPORTED and name != "__spec__" if awake else name not in _OF_ANY):
        return own[name]
    kind = state.names.get(name)
    if kind is None and name not in _OF_ANY and (not (state.dynamic or awake) or name in _NOT_OF_ANY):
        if hasattr(types.ModuleType, name):
            return types.ModuleType.__getattribute__(module, name)
        raise AttributeError("module %r has no attribute %r" % (state.name, name))
    found = hand_out(state, name, kind) if kind is not None and not awake else NOTHING
    if found is not NOTHING and name not in state.touched:
        state.touched.add(name)
        report("touched %s %s %s" % (state.name, _REPORTED_KINDS.get(kind[0], kind[0]), name))
    if found is NOTHING and kind == ["other"] and not awake and is_only_written_to(sys._getframe(1), name):
        found = Target(state, (name,))
    return found if found is not NOTHING else ask(wake_module(module, name), name)


def _set_attribute(module, name, value):
    state = states.get(id(module))
    if state is None or state.waking == get_ident():
        put(module, name, value)
    elif name == "__class__" or state.waking is not None:
        put(wake_module(module, name), name, value)
    else:
        child = is_child(state.name, name, value)
        if child and state.names.get(name, ["module", value.__name__]) != ["module", value.__name__]:
            return  # the package has something else of that name, which it got after its module
        if name not in AS_IMPORTED and not child:
            state.set_later[name] = value
        put(module, name, value)


def _delete_attribute(module, name):
    real = wake_module(module, name)
    (types.ModuleType.__delattr__ if type(real) is StandIn else delattr)(real, name)


def _list_names(module):
    real = wake_module(module, "__dir__")
    return types.ModuleType.__dir__(real) if type(real) is StandIn else real.__dir__()


def _describe(module):
    own = namespace(module)
    return "<module %r from %r>" % (own.get("__name__"), own.get("__file__"))


StandIn.__getattribute__ = _get_attribute
StandIn.__setattr__ = _set_attribute
StandIn.__delattr__ = _delete_attribute
StandIn.__dir__ = _list_names
StandIn.__repr__ = _describe


def _is_executed(frame):
    """Return whether a loader is about to run what stands in the real module's place: in a reload."""
    return frame.f_code.co_name == "exec_module" and frame.f_code.co_filename.startswith("<frozen importlib")


def stand_in(module, table, find):
    """Make ``module``, which is just being imported, stand in for the real one.

    ``find()`` returns the real module's spec, with its loader; it raises when the layer has no real one.
    """
    name = module.__name__
    own = namespace(module)
    if LAST not in sys.meta_path:
        sys.meta_path.append(LAST)
        teach_abc()
    own.pop("stand_in", None)  # what a layer has in the real one's place is one call of this name
    if type(module) is StandIn:
        wake_module(module, "reload")
    if name in awake_names or is_awake(table) or not _may_set(table):
        spec = find()
        note_woken(name, table["group"], "reload" if name in awake_names else "what it belongs to", find_caller())
        execute(name, module, spec)
    else:
        for extra in [key for key in own if key not in AS_IMPORTED and key != "__doc__"]:
            del own[extra]
        states[id(module)] = State(module, table, find)
        module.__class__ = StandIn
        give_variables(states[id(module)])
        report("stand-in %s" % name)
    for other in table.get("also", ()):
        importlib.import_module(other)


def _may_set(table):
    """Return whether a stand-in can set the environment variables of its module."""
    if not table.get("environ"):
        return True
    from . import standin_environ  # here, as hardly a module sets any

    return standin_environ.are_free(table["environ"])


def is_awake(table):
    """Return whether something of a module's group is real: packages that are half real break."""
    return table["group"] in awake_groups


def wake(name, touched):
    """Load the real module in place of the stand-in ``name``, its packages first; return it.

    ``touched`` is the attribute for which that is done.
    """
    module = sys.modules.get(name)
    return wake_module(module, touched) if type(module) is StandIn else module
