"""What is known of stand-ins: everything that changes while a program runs, and how modules are looked at.

The lowest of the parts of standin.py.
"""

import sys
import types

AS_IMPORTED = frozenset(("__name__", "__spec__", "__loader__", "__file__", "__path__", "__package__", "__cached__"))
NOTHING = object()
states = {}  # of the stand-ins that have not been woken, by id
planned = set()  # the names of all modules that are not imported otherwise than as stand-ins
loading_threads = set()  # the threads that load a real module
awake_names = set()
awake_groups = set()
stirred = set()  # packages in which something was loaded that the traced program had not needed
shared = {}  # placeholders that have not been replaced, by module and qualified name
replaced = []  # and those that have been: what refers to them weakly has to go on
_report = [lambda text: None]


def report_to(note):
    """Call ``note(text)`` from now on whenever a module is stood in for or woken."""
    _report[0] = note


def report(text):
    """Pass on what became of a stand-in."""
    _report[0](text)


class State(object):
    """What a stand-in knows of the module that it stands in for."""

    def __init__(self, module, table, find):
        self.module = module
        self.name = module.__name__
        self.names = table["names"]
        self.dynamic = table["dynamic"]
        self.group = table["group"]
        self.fills = table.get("fills", ())
        self.find = find  # returns the real module's spec, or raises
        self.set_later = {}  # what others have set on the module
        self.touched = set()  # what has been taken from it
        self.waking = None  # the thread that runs the real code


# What a placeholder's own slots hold; all other questions go to the real thing.
get_slot = object.__getattribute__


class Placeholder(object):
    """Stands for a class or a function of a module that has not been woken; standin_placeholders.py has the kinds."""

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
    """The class of a module that has not been woken. standin.py, which needs all the other parts, sets its methods."""


def namespace(module):
    """Return the names of a module, without waking it."""
    return types.ModuleType.__getattribute__(module, "__dict__")


def ask(module, name):
    """Read an attribute of a module that is real, or just becoming so."""
    return (types.ModuleType.__getattribute__ if type(module) is StandIn else getattr)(module, name)


def put(module, name, value):
    """Set an attribute of a module, without waking it."""
    (types.ModuleType.__setattr__ if type(module) is StandIn else setattr)(module, name, value)


def is_child(package, name, value):
    """Return whether the import system has bound, or would bind, ``value`` as a submodule."""
    return isinstance(value, types.ModuleType) and sys.modules.get("%s.%s" % (package, name)) is value


def find_loaded(kind):
    """Return the thing itself where the module that defines it is loaded for real."""
    if type(sys.modules.get(kind[1])) is StandIn:
        return NOTHING
    found = find_defined(kind[1], kind[2])
    # Not everything is found under the name that it has.
    same = getattr(found, "__qualname__", None) == kind[2] and getattr(found, "__module__", None) == kind[1]
    return found if same else NOTHING


def find_defined(module, path):
    """Return what a module has under a qualified name; nothing is asked of objects."""
    found = sys.modules.get(module)
    if not issubclass(type(found), types.ModuleType):
        return NOTHING
    names = namespace(found)
    for part in path.split("."):
        found = names.get(part, NOTHING)
        names = type.__getattribute__(found, "__dict__") if issubclass(type(found), type) else {}
    return found


def follow(module, path):
    """Return what attributes lead to, one after the other."""
    found = ask(module, path[0])
    for name in path[1:]:
        found = getattr(found, name)
    return found


def read(module, attribute):
    """Return what a dotted attribute of a module leads to, or NOTHING."""
    try:
        return follow(module, attribute.split("."))
    except AttributeError:
        return NOTHING
