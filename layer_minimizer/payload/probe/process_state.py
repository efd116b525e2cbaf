"""Sees which modules change the process or the standard library when they are loaded, without any call from others.

Runs inside the traced interpreter: CPython 3.6 and later, the standard library alone.
"""

import _signal
import builtins
import importlib
import locale
import os
import sys
import threading
import types

# What a call returns, by value. A cache that is filled by being asked is no change.
_ASKED = (
    ("csv", "field_size_limit"),
    ("csv", "list_dialects"),
    ("decimal", "getcontext"),
    ("faulthandler", "is_enabled"),
    ("gc", "get_threshold"),
    ("gc", "isenabled"),
    ("os", "getcwd"),
    ("socket", "getdefaulttimeout"),
    ("sys", "get_int_max_str_digits"),
    ("sys", "getrecursionlimit"),
    ("sys", "getswitchinterval"),
    ("tempfile", "gettempdir"),
)
# Attributes: another object is a change, and so is another number of entries.
_HELD = (
    ("asyncio.events", "_event_loop_policy"),
    ("builtins", "__dict__"),
    ("decimal", "DefaultContext"),
    ("logging", "_levelToName"),
    ("logging", "root.handlers"),
    ("logging", "root.level"),
    ("mimetypes", "types_map"),
    ("multiprocessing", "context._default_context._actual_context"),
    ("shutil", "_ARCHIVE_FORMATS"),
    ("shutil", "_UNPACK_FORMATS"),
    ("sqlite3", "adapters"),
    ("sqlite3", "converters"),
    ("ssl", "_create_default_https_context"),
    ("sys", "displayhook"),
    ("sys", "dont_write_bytecode"),
    ("sys", "excepthook"),
    ("sys", "path"),
    ("sys", "stderr"),
    ("sys", "stdin"),
    ("sys", "stdout"),
    ("sys", "unraisablehook"),
    ("threading", "excepthook"),
    ("time", "tzname"),
    ("urllib.request", "_opener"),
    ("xml.etree.ElementTree", "_namespace_map"),
)
# Functions that fill what nothing can list.
_FILLERS = (("codecs", "register"), ("codecs", "register_error"))
_CONTAINERS = (("copyreg", "dispatch_table"), ("sys", "meta_path"), ("sys", "path_hooks"))


class ProcessState(object):
    """The state of the process, and of the standard library as far as it is not a cache, between two moments."""

    def __init__(self):
        self._filled = []
        for module, name in _FILLERS:
            holder = sys.modules.get(module) or importlib.import_module(module)
            setattr(holder, name, self._watch(getattr(holder, name), "%s.%s" % (module, name)))
        for module, _name in _ASKED + _HELD:
            try:
                importlib.import_module(module)
            except Exception:
                pass  # built without it
        self._before = _take()
        self.added_variables = {}

    def _watch(self, fill, label):
        def watched(*arguments):
            self._filled.append(label)
            return fill(*arguments)

        return watched

    def changed(self):
        """Return the labels of what is not as it was at the last call, without variables that were added to os.environ.

        These are ``added_variables``, {name: value}, then.
        """
        before, self._before = self._before, _take()
        filled, self._filled = self._filled, []
        was, now = before["os.environ"], self._before["os.environ"]
        only_more = all(now.get(name) == value for name, value in was.items())
        self.added_variables = {name: value for name, value in now.items() if name not in was} if only_more else {}
        if only_more:
            before["os.environ"] = now
        return filled + sorted(label for label, now in self._before.items() if now != before.get(label, now))


def _take():
    found = {"os.environ": dict(os.environ), "os.umask": os.umask(0)}
    os.umask(found["os.umask"])
    for module, name in _ASKED:
        ask = getattr(sys.modules.get(module), name, None)
        if ask is not None:
            value = ask()
            found["%s.%s" % (module, name)] = repr(value) if name == "getcontext" else value
    for module, name in _HELD:
        value = sys.modules.get(module)
        for part in name.split("."):
            value = getattr(value, part, None)
        found["%s.%s" % (module, name)] = _comparable(value)
    size = threading.stack_size()  # which resets it
    threading.stack_size(size)
    found["threading.stack_size"] = size
    found["locale.setlocale"] = locale.setlocale(locale.LC_ALL)
    # Below signal.getsignal, which looks up a name for each number.
    found["signal.signal"] = [_Same(_signal.getsignal(number)) for number in range(1, _signal.NSIG)]
    if "resource" in sys.modules:
        resource = sys.modules["resource"]
        found["resource.setrlimit"] = [resource.getrlimit(limit) for limit in _limits(resource)]
    return found


def _limits(resource):
    if not _LIMITS:
        _LIMITS.extend(getattr(resource, name) for name in sorted(dir(resource)) if name.startswith("RLIMIT_"))
    return _LIMITS


_LIMITS = []


def _comparable(value):
    if type(value) in (dict, list, set):
        return _Same(value), len(value)
    if value is None or type(value) in (bool, int, float, str, tuple):
        return value
    if type(value).__module__ in ("decimal", "_decimal"):
        return repr(value)
    return _Same(value)


class _Same(object):
    """Equal to what holds the same object, which it keeps alive."""

    def __init__(self, value):
        self.value = value

    def __eq__(self, other):
        return type(other) is _Same and self.value is other.value

    def __ne__(self, other):
        return not self == other

    __hash__ = None


def patches(loaded):
    """Return {module of ``loaded``: a place} of those whose functions or classes lie in the standard library.

    That are replaced functions, methods and hooks: in modules, in their classes, and in containers of the process.
    """
    found = {}
    for name, module in list(sys.modules.items()):
        if type(module) is not types.ModuleType or not _is_of_standard_library(module):
            continue
        for attribute, value in list(vars(module).items()):
            _note(found, value, loaded, name, attribute)
            if issubclass(type(value), type) and type.__getattribute__(value, "__module__") == name:
                for member, held in list(type.__getattribute__(value, "__dict__").items()):
                    _note(found, held, loaded, name, "%s.%s" % (attribute, member))
    for name, attribute in _CONTAINERS:
        container = getattr(sys.modules.get(name), attribute, ())
        for value in list(container.values() if isinstance(container, dict) else container):
            _note(found, value, loaded, name, attribute)
            _note(found, type(value), loaded, name, attribute)
    return found


def _is_of_standard_library(module):
    file = getattr(module, "__file__", None)
    if file is None:
        return getattr(getattr(module, "__spec__", None), "origin", None) in ("built-in", "frozen")
    folder = os.path.dirname(os.__file__) + os.sep
    return file.startswith(folder) and not file.startswith((folder + "site-packages", folder + "dist-packages"))


def _note(found, value, loaded, name, attribute):
    kind = type(value)
    if kind is types.FunctionType:
        owner = value.__module__
    elif issubclass(kind, type):
        owner = type.__getattribute__(value, "__module__")
    else:
        return
    if type(owner) is str and owner in loaded and owner not in (name, builtins.__name__):
        found.setdefault(owner, "%s.%s" % (name, attribute))
