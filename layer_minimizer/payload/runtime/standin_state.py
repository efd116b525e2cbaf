"""The mutable state of stand-ins, and functions that look up what modules and other objects hold.

The lowest of the parts of standin.py.
"""

import gc
import sys
import types

AS_IMPORTED = frozenset(("__name__", "__spec__", "__loader__", "__file__", "__path__", "__package__", "__cached__"))
NOTHING = object()
states = {}  # of the stand-ins whose modules are not loaded, by id
planned = set()  # the names of all modules that are imported as stand-ins only
loading_threads = set()  # the threads that load a real module
awake_names = set()
awake_groups = set()
stirred = set()  # packages with a loaded module that was not used in the trace
shared = {}  # placeholders that have not been replaced, by module and qualified name
replaced = []  # placeholders that have been replaced, kept for weak references
_report = [lambda text: None]


def report_to(note):
    """Set the function ``note(text)`` for reports about replaced and loaded modules."""
    _report[0] = note


def report(text):
    """Report an event of a stand-in."""
    _report[0](text)


class State(object):
    """The data of a stand-in about the real module."""

    def __init__(self, module, table, find):
        self.module = module
        self.name = module.__name__
        self.names = table["names"]
        self.dynamic = table["dynamic"]
        self.group = table["group"]
        self.fills = table.get("fills", ())
        self.variables = table.get("environ", ())
        self.find = find  # returns the real module's spec, or raises
        self.set_later = {}  # attributes that other code has set
        self.touched = set()  # attributes that other code has read
        self.waking = None  # the thread that runs the real code


# Placeholders store their data in slots; all other attributes are those of the real object.
get_slot = object.__getattribute__


class Placeholder(object):
    """Placeholder for a class or function of a module that is not loaded; see standin_placeholders.py."""

    __slots__ = ("_in", "_as", "_kind", "_found", "_hash", "_patches", "__weakref__")

    def __init__(self, module, attribute, kind):
        put = object.__setattr__
        put(self, "_in", module)
        put(self, "_as", attribute)
        put(self, "_kind", kind)
        put(self, "_found", None)
        put(self, "_hash", object.__hash__(self))
        put(self, "_patches", {})


class StandIn(types.ModuleType):
    """The class of a module that is not loaded yet. standin.py sets its methods."""


def namespace(module):
    """Return the names of a module without loading it."""
    return types.ModuleType.__getattribute__(module, "__dict__")


def ask(module, name):
    """Read an attribute of a module that is loaded or being loaded."""
    return (types.ModuleType.__getattribute__ if type(module) is StandIn else getattr)(module, name)


def put(module, name, value):
    """Set an attribute of a module without loading it."""
    (types.ModuleType.__setattr__ if type(module) is StandIn else setattr)(module, name, value)


def is_child(package, name, value):
    """Return whether the import system has bound, or would bind, ``value`` as a submodule."""
    return isinstance(value, types.ModuleType) and sys.modules.get("%s.%s" % (package, name)) is value


def find_loaded(kind):
    """Return the real object if the module that defines it is loaded."""
    if type(sys.modules.get(kind[1])) is StandIn:
        return NOTHING
    return find_named(sys.modules.get(kind[1]), kind)


def find_named(module, kind):
    """Return the object that a module has under the qualified name in ``kind`` if it is the one of this kind."""
    found = find_in(module, kind[2])
    if issubclass(type(found), Placeholder):
        return NOTHING  # the module has it from another one, which is a stand-in
    # The name of an object can differ from the attribute.
    same = getattr(found, "__qualname__", None) == kind[2] and getattr(found, "__module__", None) == kind[1]
    return found if same else NOTHING


def find_defined(module, path):
    """Return the object with a qualified name in the module of a name, without running its code."""
    return find_in(sys.modules.get(module), path)


def find_in(module, path):
    """Return the object with a qualified name in a module, without running its code."""
    found = module
    if not issubclass(type(found), types.ModuleType):
        return NOTHING
    names = namespace(found)
    for part in path.split("."):
        found = names.get(part, NOTHING)
        names = type.__getattribute__(found, "__dict__") if issubclass(type(found), type) else {}
    return found


def follow(module, path):
    """Return the value of a chain of attributes."""
    found = ask(module, path[0])
    for name in path[1:]:
        found = getattr(found, name)
    return found


def read(module, attribute):
    """Return the value of a dotted attribute of a module, or NOTHING."""
    try:
        return follow(module, attribute.split("."))
    except AttributeError:
        return NOTHING


def referents(holder):
    """Return what an object holds, and nothing for a module: its namespace is an object of its own.

    Extension modules also name what they have freed and keep for later use, which must not be touched: with that of
    _asyncio, CPython 3.12 never ends its next collection of garbage.
    """
    return [] if issubclass(type(holder), types.ModuleType) else gc.get_referents(holder)
