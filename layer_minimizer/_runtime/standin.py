"""Modules that stand in for others that nothing has needed yet.

A stand-in has the names of the real module. What import-time code does with them (bind, subclass-check, annotate,
register) is answered from a table that was written when the real module was last seen; anything else wakes it: the
real code is run in the very same module object, and what was handed out is replaced by the real things, wherever it
can be found, or forwards to them.

Standard library only, CPython 3.6 and later. Ships inside layers, and runs inside traced programs to find out which
modules can be stood in for.

A table is ``{"names": {name: kind}, "dynamic": bool, "group": name, "also": [module...]}``: all names of the real
module, whether it has a ``__getattr__`` of its own, the modules with which it is real or stood in for, and modules that
others expect to be loaded with it. A kind is one of::

    ["value", x]                          text, number, bool or None: x itself
    ["tuple", [x, ...]]                   a tuple of such
    ["module", full name]
    ["class", module, qualified name, [[module, qualified name] of each base...]]
    ["function", module, qualified name]
    ["loaded", module, qualified name]    no placeholder is honest for it: the thing itself, where it is loaded
    ["other"]                             wakes
"""

import importlib
import sys
import types
from _thread import get_ident

_AS_IMPORTED = frozenset(
    ("__name__", "__spec__", "__loader__", "__file__", "__path__", "__package__", "__cached__", "__class__")
)
_waiting = {}  # stand-ins that have not been woken, by module name: _State
_awake = set()
_awake_groups = set()
_report = [lambda text: None]


def report_to(note):
    """Call ``note(text)`` from now on whenever a module is stood in for or woken."""
    _report[0] = note


class _State:
    """What a stand-in knows of the module that it stands in for."""

    def __init__(self, table, wake):
        self.names = table["names"]
        self.dynamic = table["dynamic"]
        self.group = table["group"]
        self.wake = wake  # gives the real module's spec, or raises
        self.handed = {}  # placeholders by name
        self.set_later = []  # what others have set on the module
        self.waking = None  # the thread that runs the real code


def _caller():
    """Give file and line of the code that touched a stand-in."""
    frame = sys._getframe(2)
    while frame is not None and (
        frame.f_code.co_filename == __file__ or frame.f_code.co_filename.startswith("<frozen importlib")
    ):
        frame = frame.f_back
    return "%s:%d" % (frame.f_code.co_filename, frame.f_lineno) if frame is not None else "the interpreter"


class StandIn(types.ModuleType):
    """The class of a module that has not been woken."""

    def __getattribute__(self, name):
        plain = types.ModuleType.__getattribute__
        if name in _AS_IMPORTED:
            return plain(self, name)
        own = plain(self, "__dict__")
        state = _waiting.get(own["__name__"])
        if state is None:  # woken by another thread just now
            return getattr(sys.modules.get(own["__name__"], self), name)
        if state.waking == get_ident():
            return plain(self, name)
        if state.waking is None and name in own and name not in ("__dict__", "__doc__"):
            return own[name]
        kind = state.names.get(name)
        if kind is None and not state.dynamic and name not in ("__dict__", "__doc__"):
            if hasattr(types.ModuleType, name):
                return plain(self, name)
            raise AttributeError("module %r has no attribute %r" % (own["__name__"], name))
        if kind is not None and state.waking is None:
            found = _hand_out(own["__name__"], state, name, kind)
            if found is not _NOTHING:
                return found
        return getattr(wake(own["__name__"], name), name)

    def __setattr__(self, name, value):
        own = types.ModuleType.__getattribute__(self, "__dict__")
        state = _waiting.get(own["__name__"])
        bound_by_import = sys.modules.get("%s.%s" % (own["__name__"], name)) is value
        if state is not None and state.waking is None and name not in _AS_IMPORTED and not bound_by_import:
            state.set_later.append((name, value))
        types.ModuleType.__setattr__(self, name, value)

    def __delattr__(self, name):
        delattr(wake(types.ModuleType.__getattribute__(self, "__name__"), name), name)

    def __dir__(self):
        return dir(wake(types.ModuleType.__getattribute__(self, "__name__"), "__dir__"))

    def __repr__(self):
        own = types.ModuleType.__getattribute__(self, "__dict__")
        return "<module %r from %r>" % (own["__name__"], own.get("__file__"))


def stand_in(module, table, find):
    """Make ``module``, which is just being imported, stand in for the real one.

    ``find()`` gives the real module's spec, with its loader; it raises when the real one is not to be had.
    """
    name = module.__name__
    own = module.__dict__
    for extra in [key for key in own if key not in _AS_IMPORTED and key != "__doc__"]:
        del own[extra]
    _waiting[name] = _State(table, find)
    module.__class__ = StandIn
    _report[0]("stand-in %s" % name)
    if name in _awake or is_awake(table):
        wake(name, "reload" if name in _awake else "what it belongs to")
    for other in table.get("also", ()):
        importlib.import_module(other)


def is_awake(table):
    """Say whether something of a module's group is real: packages that are half real are hard to get right."""
    return table["group"] in _awake_groups


def wake(name, touched):
    """Load the real module in place of the stand-in ``name``, its packages first; give it.

    ``touched`` is the attribute for which that is done.
    """
    package = name.rpartition(".")[0]
    if package in _waiting:
        wake(package, touched)
    caller = _caller()
    # The import system's own lock: it knows of threads that wait for each other in a circle.
    with importlib._bootstrap._ModuleLockManager(name):
        state = _waiting.get(name)
        module = sys.modules.get(name)
        if state is None or state.waking is not None:
            return module
        spec = state.wake()
        _report[0]("woke %s for %s at %s" % (name, touched, caller))
        _awake_groups.add(state.group)
        state.waking = get_ident()
        before = dict(types.ModuleType.__getattribute__(module, "__dict__"))
        try:
            real = _load(name, module, spec)
        except BaseException:
            own = types.ModuleType.__getattribute__(module, "__dict__")
            own.clear()
            own.update(before)
            sys.modules[name] = module
            state.waking = None
            raise
        module.__class__ = types.ModuleType if real is module else _Forward
        if real is not module:
            types.ModuleType.__getattribute__(module, "__dict__")["__forward__"] = real
        _awake.add(name)
        del _waiting[name]
    for attribute, value in state.set_later:
        setattr(real, attribute, value)
    _settle([(module, real)] if real is not module else [], sorted(state.handed.items()), real)
    return real


def _load(name, module, spec):
    """Run the real module: in the stand-in's own namespace where its loader can do that."""
    made = spec.loader.create_module(spec) if hasattr(spec.loader, "create_module") else None
    if made is None:
        made = module
    else:
        sys.modules[name] = made
    importlib._bootstrap._init_module_attrs(spec, made, override=True)
    spec._initializing = True
    try:
        spec.loader.exec_module(made)
    finally:
        spec._initializing = False
    real = sys.modules.get(name, made)  # a module may put something else into its place
    package, _, last = name.rpartition(".")
    if package in sys.modules and real is not module:
        setattr(sys.modules[package], last, real)
    return real


class _Forward(types.ModuleType):
    """The class of a stand-in whose real module is another object."""

    def __getattribute__(self, name):
        own = types.ModuleType.__getattribute__(self, "__dict__")
        return getattr(own["__forward__"], name)

    def __setattr__(self, name, value):
        setattr(types.ModuleType.__getattribute__(self, "__dict__")["__forward__"], name, value)


# ---- what is handed out -------------------------------------------------------------------------------------------


_NOTHING = object()


def _hand_out(name, state, attribute, kind):
    """Give what stands for an attribute, _NOTHING where only the real one will do."""
    if kind[0] == "value":
        return kind[1]
    if kind[0] == "tuple":
        return tuple(kind[1])
    if kind[0] == "module":
        return importlib.import_module(kind[1])
    if kind[0] == "other":
        return _NOTHING
    known = _loaded(kind)
    if known is not _NOTHING or kind[0] == "loaded":
        return known
    if attribute not in state.handed:
        made = _Class(name, attribute, kind) if kind[0] == "class" else _Function(name, attribute, kind)
        state.handed.setdefault(attribute, made)
    return state.handed[attribute]


def _loaded(kind):
    """Give the thing itself where the module that defines it is loaded for real."""
    found = sys.modules.get(kind[1])
    if found is None or kind[1] in _waiting:
        return _NOTHING
    for part in kind[2].split("."):
        found = getattr(found, part, _NOTHING)
    # Not all that says so of itself is to be found by its name.
    same = getattr(found, "__qualname__", None) == kind[2] and getattr(found, "__module__", None) == kind[1]
    return found if same else _NOTHING


class _Placeholder:
    """Stands for a class or a function of a module that has not been woken."""

    __slots__ = ("__weakref__", "_as", "_found", "_in", "_kind", "_patches")

    def __init__(self, module, attribute, kind):
        put = object.__setattr__
        put(self, "_in", module)
        put(self, "_as", attribute)
        put(self, "_kind", kind)
        put(self, "_found", None)
        put(self, "_patches", [])

    def _real(self, touched="it"):
        get = object.__getattribute__
        if get(self, "_found") is None:
            name, attribute = get(self, "_in"), get(self, "_as")
            module = wake(name, "%s (%s)" % (attribute, touched))
            if get(self, "_found") is None:  # the stand-in had been woken before and knew nothing of this one
                _settle([], [(attribute, self)], module)
        return get(self, "_found")

    def __call__(self, *args, **kwargs):
        return self._real("()")(*args, **kwargs)

    def __getattribute__(self, name):
        # These two every object has from its class, where they would be found first.
        if name == "__module__":
            return object.__getattribute__(self, "_kind")[1]
        if name == "__doc__":
            return getattr(object.__getattribute__(self, "_real")(name), name)
        return object.__getattribute__(self, name)

    def __getattr__(self, name):
        for patched, value in reversed(object.__getattribute__(self, "_patches")):
            if patched == name:
                return value
        if self._found is None and name in self._known:
            return self._known[name](self)
        return getattr(self._real(name), name)

    def __setattr__(self, name, value):
        if object.__getattribute__(self, "_found") is None:
            object.__getattribute__(self, "_patches").append((name, value))
        else:
            setattr(object.__getattribute__(self, "_found"), name, value)

    def __delattr__(self, name):
        delattr(self._real(name), name)

    def __dir__(self):
        return dir(self._real("__dir__"))

    def __reduce_ex__(self, protocol):
        return _by_name, (self._in, self._as)

    def __repr__(self):
        return "<%s '%s.%s'>" % (self._what, self._kind[1], self._kind[2])


def _by_name(module, attribute):
    return getattr(importlib.import_module(module), attribute)


def _bases(placeholder):
    return tuple(_base(module, name) for module, name in placeholder._kind[3])


def _name(placeholder):
    return placeholder._kind[2].rpartition(".")[2]


def _qualified_name(placeholder):
    return placeholder._kind[2]


class _Class(_Placeholder):
    """Stands for a class. No instance of it can exist before its module is loaded."""

    __slots__ = ()
    _what = "class"
    _known = {
        "__name__": _name,
        "__qualname__": _qualified_name,
        "__bases__": _bases,
        "__mro__": lambda self: (self,) + tuple(base for base in _bases(self) if base is not object) + (object,),
    }

    @property
    def __class__(self):
        return type

    def _late(self):
        """Give the real class if its module has been loaded in the meantime, by whomever."""
        if self._found is None:
            known = _loaded(self._kind)
            return None if known is _NOTHING else known
        return self._found

    def __instancecheck__(self, value):
        real = self._late()
        return real is not None and isinstance(value, real)

    def __subclasscheck__(self, other):
        real = self._late()
        if real is not None:
            return issubclass(other, real)
        return other is self or self in getattr(other, "__bases__", ())

    def __mro_entries__(self, bases):
        return (self._real("base class"),)

    def __getitem__(self, item):
        return self._real("[]")[item]

    def __or__(self, other):
        import typing

        return typing.Union[self, other]

    def __ror__(self, other):
        import typing

        return typing.Union[other, self]


def _base(module, name):
    kind = ["class", module, name, [["builtins", "object"]]]
    known = _loaded(kind)
    return _Class(module, name, kind) if known is _NOTHING else known


class _Function(_Placeholder):
    """Stands for a function."""

    __slots__ = ()
    _what = "function"
    _known = {"__name__": _name, "__qualname__": _qualified_name}

    @property
    def __class__(self):
        return types.FunctionType

    def __get__(self, instance, owner=None):
        if instance is None:
            return self
        return types.MethodType(self, instance)


# ---- after waking -------------------------------------------------------------------------------------------------


def _settle(pairs, handed, module):
    """Give placeholders their real objects, and put those wherever the placeholders are."""
    get = object.__getattribute__
    for attribute, placeholder in handed:
        real = getattr(module, attribute)
        object.__setattr__(placeholder, "_found", real)
        for name, value in get(placeholder, "_patches"):
            setattr(real, name, value)
        pairs.append((placeholder, real))
    if pairs:
        _replace({id(old): new for old, new in pairs}, tuple(old for old, _ in pairs))


def _replace(new, old):
    """Put the new things where the old are: namespaces, containers, closures. What is fixed (tuples) keeps the old.

    ``new`` by the old ones' id.
    """
    import gc

    for holder in gc.get_referrers(*old):
        if holder is old or holder is sys.modules:
            continue
        try:
            if isinstance(holder, dict):
                _replace_in_dict(holder, new)
            elif type(holder) is list:
                holder[:] = [new.get(id(item), item) for item in holder]
            elif type(holder) is set:
                found = [item for item in holder if id(item) in new]
                holder.difference_update(found)
                holder.update(new[id(item)] for item in found)
            elif type(holder).__name__ == "cell":
                holder.cell_contents = new[id(holder.cell_contents)]
            elif not isinstance(holder, (tuple, type, types.FrameType, types.ModuleType, _Placeholder)):
                for name, value in list(vars(holder).items()):
                    if id(value) in new:
                        setattr(holder, name, new[id(value)])
        except Exception:
            continue  # a holder that does not allow it keeps what forwards


def _replace_in_dict(holder, new):
    owner = _class_of(holder) if "__module__" in holder and "__name__" not in holder else None
    for key, value in list(holder.items()):
        if id(value) in new:
            if owner is not None:
                setattr(owner, key, new[id(value)])  # classes remember what they have looked up
            else:
                holder[key] = new[id(value)]
    for key in [key for key in holder if id(key) in new]:
        holder[new[id(key)]] = holder.pop(key)


def _class_of(namespace):
    import gc

    for holder in gc.get_referrers(namespace):
        if isinstance(holder, type) and any(inner is namespace for inner in gc.get_referents(holder)):
            return holder
    return None


# ---- when the real module is there --------------------------------------------------------------------------------


def describe(module):
    """Give the table of a module that is loaded."""
    names = {}
    for name, value in module.__dict__.items():
        if name not in _AS_IMPORTED and name not in ("__doc__", "__builtins__"):
            names[name] = _kind(value)
    return {"names": names, "dynamic": "__getattr__" in names}


def _kind(value):
    kind = type(value)
    if value is None or kind is bool or kind is int or (kind is str and len(value) < 1000):
        return ["value", value]
    if kind is float and value == value and abs(value) != float("inf"):
        return ["value", value]
    if kind is tuple and len(value) < 20 and all(type(item) in (str, int, bool) for item in value):
        return ["tuple", list(value)]
    # Nothing is asked of the value itself: what objects do when they are looked at is theirs.
    if issubclass(kind, types.ModuleType):
        name = types.ModuleType.__getattribute__(value, "__dict__").get("__name__")
        return ["module", name] if sys.modules.get(name) is value else ["other"]
    if issubclass(kind, type):
        return _kind_of_class(value, kind)
    if kind in (types.FunctionType, types.BuiltinFunctionType) and _is_name(value.__module__, value.__qualname__):
        return ["function", value.__module__, value.__qualname__]
    return ["other"]


def _kind_of_class(value, meta):
    where = [type.__getattribute__(value, "__module__"), type.__getattribute__(value, "__qualname__")]
    if not _is_name(*where):
        return ["other"]
    if meta is not type or issubclass(value, BaseException):
        return ["loaded"] + where  # may be caught, or decides by itself what its instances are
    return ["class"] + where + [[[base.__module__, base.__qualname__] for base in value.__bases__]]


def _is_name(module, name):
    return isinstance(module, str) and isinstance(name, str) and "<" not in name
