"""Placeholders for the classes and functions of a stand-in's module, and their attributes that come from tables."""

import importlib
import sys
import types
from opcode import opmap

from .standin_state import (
    NOTHING,
    Placeholder,
    StandIn,
    find_defined,
    find_loaded,
    follow,
    get_slot,
    namespace,
    report,
    shared,
)
from .standin_waking import settle, wake_module

_READS = frozenset(opmap[name] for name in ("LOAD_ATTR", "LOAD_METHOD", "IMPORT_FROM") if name in opmap)
_MATCH = opmap.get("MATCH_CLASS")
# "from module import *" only copies names to a namespace.
_STAR = (opmap["IMPORT_STAR"],) if "IMPORT_STAR" in opmap else (opmap["CALL_INTRINSIC_1"], 2)


def hand_out(state, attribute, kind):
    """Return the placeholder of an attribute, or NOTHING if the real one is needed."""
    if kind[0] == "value":
        return kind[1]
    if kind[0] == "tuple":
        return tuple(kind[1])
    if kind[0] == "list":
        return list(kind[1])
    if kind[0] == "module":
        return importlib.import_module(kind[1])
    if kind[0] == "other":
        return NOTHING
    known = find_loaded(kind)
    if known is not NOTHING or kind[0] not in _PLACEHOLDERS or not is_read(sys._getframe(2), attribute):
        return known
    if kind[0] == "class" and hasattr(sys, "addaudithook") and not _watching:
        _watching.append(sys.addaudithook(_before_unpickling))
    made = _PLACEHOLDERS[kind[0]](state.module, attribute, kind)
    return shared.setdefault((kind[1], kind[2]), made)


_watching = []


def _before_unpickling(event, args):
    """Load the class that a pickle names: C code finds it in a real module, and makes instances of types alone."""
    if event == "pickle.find_class":
        found = find_defined(*args)
        if type(found) is _Class:
            _real(found, "unpickling")


def is_read(frame, attribute):
    """Return whether Python code reads the attribute; C code may need a real type."""
    code = frame.f_code
    if code.co_filename.startswith("<frozen importlib"):
        return code.co_name == "_handle_fromlist"
    doing = code.co_code[frame.f_lasti]
    if _MATCH is not None and _MATCH in code.co_code[::2]:
        return False  # a pattern must be a real class
    star = doing == _STAR[0] and (len(_STAR) == 1 or code.co_code[frame.f_lasti + 1] == _STAR[1])
    return star or (attribute in code.co_names and doing in _READS)


def _real(placeholder, touched):
    """Return the real object of a placeholder, from the module that defines it or another one that has it."""
    kind = get_slot(placeholder, "_kind")
    for _ in range(2):  # one module may import the other, which is then a stand-in
        for module in (sys.modules.get(kind[1]), get_slot(placeholder, "_in")):
            if get_slot(placeholder, "_found") is None and type(module) is StandIn:
                wake_module(module, "%s (%s)" % (get_slot(placeholder, "_as"), touched))
    if get_slot(placeholder, "_found") is None:
        real = find_loaded(kind)
        if real is NOTHING or real is placeholder:  # an object of a package may name the package as its module
            real = follow(get_slot(placeholder, "_in"), get_slot(placeholder, "_as").split("."))
        if real is placeholder:
            raise ImportError("%s has no %s" % (kind[1], kind[2]), name=kind[1])
        if issubclass(type(real), Placeholder):
            real = _real(real, touched)
        settle([(placeholder, real)])
    return get_slot(placeholder, "_found")


class _Forwarding(Placeholder):
    """Placeholder for a class or a function of a module that is not loaded yet."""

    __slots__ = ()

    def __call__(self, *args, **kwargs):
        return _real(self, "()")(*args, **kwargs)

    def __getattribute__(self, name):
        if name == "__class__":
            return _claimed(type(self), sys._getframe(1))
        if name in ("__mro_entries__", "__reduce_ex__") and hasattr(type(self), name):
            return get_slot(self, name)
        if name == "__deepcopy__" and sys._getframe(1).f_globals.get("__name__") == "copy":
            raise AttributeError(name)  # an attribute of instances, which the real object does not have
        if get_slot(self, "_found") is None:
            if name in get_slot(self, "_patches"):
                return get_slot(self, "_patches")[name]
            answer = type(self)._known.get(name)
            found = NOTHING if answer is None else answer(get_slot(self, "_kind"))
            if found is NOTHING:
                found = _described(self, name)
            if found is not NOTHING:
                return (self,) + found if name == "__mro__" else found
        real = _real(self, name)
        if name == "__bases__" and not is_read(sys._getframe(1), name):
            return (real,)  # so that issubclass() finds it
        return getattr(real, name)

    def __setattr__(self, name, value):
        if get_slot(self, "_found") is None:
            get_slot(self, "_patches")[name] = value
        else:
            setattr(get_slot(self, "_found"), name, value)

    def __delattr__(self, name):
        delattr(_real(self, name), name)

    def __dir__(self):
        return dir(_real(self, "__dir__"))

    def __eq__(self, other):
        if other is self:
            return True
        real = _late(self)
        return NotImplemented if real is None else real == other

    def __hash__(self):
        return get_slot(self, "_hash")

    def __reduce_ex__(self, protocol):
        import copy

        return copy.copy, (_real(self, "pickle"),)  # which returns classes and functions unchanged

    def __repr__(self):
        found = get_slot(self, "_found")
        return "<%s %r>" % (type(self)._what, ".".join(get_slot(self, "_kind")[1:3])) if found is None else repr(found)


class Target(object):
    """Placeholder for an object in the path of an assigned attribute: ``module.options.display.width = 80``.

    What is set is set again on the real one. It never leaves the statement; see is_only_written_to.
    """

    __slots__ = ("_path", "_state")

    def __init__(self, state, path):
        object.__setattr__(self, "_state", state)
        object.__setattr__(self, "_path", path)

    def __getattr__(self, name):
        return Target(self._state, self._path + (name,))

    def __setattr__(self, name, value):
        self._state.set_later[self._path + (name,)] = value


def is_only_written_to(frame, attribute):
    """Return whether the attribute is read only to assign an attribute of it."""
    if not is_read(frame, attribute):
        return False  # C code may keep the object
    import dis

    behind = False
    for step in dis.get_instructions(frame.f_code):
        if not behind:
            behind = step.offset == frame.f_lasti
        elif step.opname not in ("LOAD_ATTR", "CACHE", "EXTENDED_ARG", "NOP"):
            return step.opname == "STORE_ATTR"
    return False


def _described(placeholder, name):
    """Return attributes of functions and methods, which decorators read, from a table."""
    kind = get_slot(placeholder, "_kind")
    if type(placeholder) is _Function and len(kind) > 3 and kind[3]:
        if name == "__signature__":
            return _signature(kind[3])
        if name == "__wrapped__" and name in kind[3]["own"]:
            return _method(placeholder, name, kind[3])
        if name not in kind[3]["own"] and not hasattr(types.FunctionType, name):
            raise AttributeError("'function' object has no attribute %r" % name)
    elif type(placeholder) is _Class:
        members = kind[4] if len(kind) > 4 else {}
        known = members[name] if name in members else _members[0](kind[1], kind[2], name)
        if known is False and name in _CLASS_LEVEL:
            known = None
        if known is not None and name not in members:
            module = get_slot(placeholder, "_in")
            report("member %s %s %s" % (namespace(module)["__name__"], get_slot(placeholder, "_as"), name))
        if known is False:
            raise AttributeError("type object %r has no attribute %r" % (kind[2], name))
        if known:
            return _method(placeholder, name, known)
    return NOTHING


# Attributes of the metaclass, or that affect the behavior of the class.
_CLASS_LEVEL = frozenset(dir(type)) | frozenset(("__signature__", "__isabstractmethod__"))
# Returns the signature of a method that is not in the tables; False if the class does not have the method.
_members = [lambda module, name, method: None]


def know_members(find):
    """Set the function ``find(module, qualified class name, method)`` for signatures that are not in a table."""
    _members[0] = find


def _method(placeholder, name, signature):
    kind = get_slot(placeholder, "_kind")
    own = ["function", kind[1], "%s.%s" % (kind[2], name), signature]
    made = _Function(get_slot(placeholder, "_in"), "%s.%s" % (get_slot(placeholder, "_as"), name), own)
    return shared.setdefault((own[1], own[2]), made)


def _signature(described):
    import inspect

    empty = inspect.Parameter.empty
    parameters = [
        inspect.Parameter(
            name,
            inspect._ParameterKind(kind),
            default=default[0] if default else empty,
            annotation=annotation[0] if annotation else empty,
        )
        for name, kind, default, annotation in described["parameters"]
    ]
    return inspect.Signature(parameters, return_annotation=described["result"][0] if described["result"] else empty)


def _claimed(kind, frame):
    """Return the value of ``__class__`` of a placeholder."""
    if kind is _Class and frame.f_code is _RESOLVE_BASES:
        return _Class  # so that its __mro_entries__ is called
    return {_Class: type, _Function: types.FunctionType}.get(kind, types.BuiltinFunctionType)


_RESOLVE_BASES = getattr(getattr(types, "resolve_bases", None), "__code__", None)


def _late(placeholder, descends=None):
    """Return the real object if it is loaded or must be loaded to create the class ``descends``, else None."""
    if get_slot(placeholder, "_found") is None:
        kind = get_slot(placeholder, "_kind")
        found = find_loaded(kind)
        if found is not NOTHING:
            settle([(placeholder, found)])
        elif descends is not None and any(
            (getattr(base, "__module__", None), getattr(base, "__qualname__", None)) == (kind[1], kind[2])
            for base in type.__getattribute__(descends, "__mro__")
        ):
            _real(placeholder, "isinstance")
    return get_slot(placeholder, "_found")


def _bases(kind):
    """Return the bases if they are loaded, so that their own bases are known."""
    found = tuple(find_loaded(["class"] + base) for base in kind[3])
    return NOTHING if NOTHING in found else found


def _linear(kind):
    """Return the rest of the __mro__ of a class, if it is obvious from the tables."""
    bases = _bases(kind)
    return NOTHING if bases is NOTHING or len(bases) > 1 else bases[0].__mro__


def _has_not(kind):
    raise AttributeError("type object %r has no such attribute" % kind[2])


_NAMES = {
    "__module__": lambda kind: kind[1],
    "__qualname__": lambda kind: kind[2],
    "__name__": lambda kind: kind[2].rpartition(".")[2],
}


class _Class(_Forwarding):
    """Placeholder for a class. It has no instances before its module is loaded."""

    __slots__ = ()
    _what = "class"
    _known = dict(_NAMES, __bases__=_bases, __mro__=_linear, __abstractmethods__=_has_not)

    def __new__(cls, name, bases, content):
        if isinstance(bases, tuple):  # type(base)(name, bases, content)
            return types.new_class(name, bases, {}, lambda namespace: namespace.update(content))
        return object.__new__(cls)

    def __instancecheck__(self, value):
        real = _late(self, type(value))
        return real is not None and isinstance(value, real)

    def __subclasscheck__(self, other):
        if other is self:
            return True
        if type(other) is _Class or not isinstance(other, type):
            return issubclass(_real(other, "issubclass") if type(other) is _Class else other, _real(self, "issubclass"))
        real = _late(self, other)
        return real is not None and issubclass(other, real)

    def __mro_entries__(self, bases):
        return (_real(self, "base class"),)

    def __getitem__(self, item):
        return _real(self, "[]")[item]

    def __or__(self, other):
        return _union(self, self, other)

    def __ror__(self, other):
        return _union(self, other, self)


def _union(placeholder, left, right):
    from .standin_unions import unite

    made = unite(placeholder, left, right)
    if made is not None:
        return made
    real = _real(placeholder, "|")
    return (real if left is placeholder else left) | (real if right is placeholder else right)


class _Builtin(_Forwarding):
    """Placeholder for a function that does not become a method as a class attribute."""

    __slots__ = ()
    _what = "built-in function"
    _known = _NAMES


class _Function(_Builtin):
    """Placeholder for a function."""

    __slots__ = ()
    _what = "function"

    def __get__(self, instance, owner=None):
        return self if instance is None else types.MethodType(self, instance)


_PLACEHOLDERS = {"function": _Function, "builtin": _Builtin}
if sys.version_info >= (3, 7):  # CPython 3.6 does not call __mro_entries__
    _PLACEHOLDERS["class"] = _Class


def _with_real_class(function, namespace):
    """Wrap a function of ABCs that accepts only types, to pass real classes to it; its globals are ``namespace``."""
    real, placeholder = _real, _Class

    def ask(cls, other):
        return function(cls, real(other, "abstract base class") if type(other) is placeholder else other)

    return types.FunctionType(ask.__code__, namespace, ask.__name__, None, ask.__closure__)


def teach_abc():
    """Make abstract base classes accept placeholders, by passing the real class.

    The functions of ``abc`` in C have no frame. Protocols look at the globals of the frame that asks them, and answer
    the module ``abc`` where they refuse others, so a wrapper has the globals of ``abc``.
    """
    import abc

    for name in ("_abc_register", "_abc_subclasscheck"):
        if hasattr(abc, name):
            setattr(abc, name, _with_real_class(getattr(abc, name), vars(abc)))
