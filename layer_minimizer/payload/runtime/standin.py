"""Modules that stand in for others that nothing has needed yet.

A stand-in has the names of the real module. What import-time code does with them (bind, subclass-check, annotate,
register) is answered from a table that was written when the real module was last seen; anything else wakes it: the
real code is run in the very same module object, and what was handed out is replaced by the real things, wherever it
can be found, or forwards to them.

Standard library only, CPython 3.6 and later. Ships inside layers, and runs inside traced programs to find out which
modules can be stood in for; there it is loaded as a file of its own.

A table is ``{"names": {name: kind}, "dynamic": bool, "group": name, "also": [module...], "fills": [package...]}``: all
names of the real module, whether it has a ``__getattr__`` of its own, the modules with which it is real or stood in
for, modules that others expect to be loaded with it, and packages whose registries it fills. A kind is one of::

    ["value", x]                          text, number, bool or None: x itself
    ["tuple", [x, ...]]                   a tuple of such
    ["list", [x, ...]]                    the names of __all__
    ["module", full name]
    ["class", module, qualified name, [[module, qualified name] of each base...]]
    ["function", module, qualified name, signature or None]
    ["builtin", module, qualified name]   a function that is written in C
    ["loaded", module, qualified name]    no placeholder is honest for it: the thing itself, where it is loaded
    ["other"]                             wakes
"""

import importlib
import os
import sys
import time
import types
from _thread import get_ident
from importlib.machinery import ModuleSpec
from opcode import opmap

_AS_IMPORTED = frozenset(("__name__", "__spec__", "__loader__", "__file__", "__path__", "__package__", "__cached__"))
_OF_ANY = frozenset(("__dict__", "__doc__", "__builtins__", "__annotations__", "__annotate__"))
_NOT_OF_ANY = _AS_IMPORTED - {"__spec__"}
_READS = frozenset(opmap[name] for name in ("LOAD_ATTR", "LOAD_METHOD", "IMPORT_FROM") if name in opmap)
# "from module import *": what it reads it only puts into a namespace.
_STAR = (opmap["IMPORT_STAR"],) if "IMPORT_STAR" in opmap else (opmap["CALL_INTRINSIC_1"], 2)
_NOTHING = object()
_states = {}  # of the stand-ins that have not been woken, by id
_planned = set()  # the names of all modules that are not imported otherwise than as stand-ins
_loading = set()  # the threads that load a real module
_awake = set()
_awake_groups = set()
_stirred = set()  # packages in which something was loaded that the traced program had not needed
_shared = {}  # placeholders that have not been replaced, by module and qualified name
_replaced = []  # and those that have been: what refers to them weakly has to go on
_report = [lambda text: None]


def asleep():
    """Give the names of the stand-ins that have not been woken, in the order in which they were imported."""
    return [state.name for state in list(_states.values())]


def plan(names):
    """Let :func:`find_below` know the modules that a layer has stand-ins for."""
    _planned.update(names)


def report_to(note):
    """Call ``note(text)`` from now on whenever a module is stood in for or woken."""
    _report[0] = note


# How reports call the kinds of things that tables tell.
_TOLD = {"tuple": "value", "list": "value", "builtin": "function", "loaded": "class"}


class _State(object):
    """What a stand-in knows of the module that it stands in for."""

    def __init__(self, module, table, find):
        self.module = module
        self.name = module.__name__
        self.names = table["names"]
        self.dynamic = table["dynamic"]
        self.group = table["group"]
        self.fills = table.get("fills", ())
        self.find = find  # gives the real module's spec, or raises
        self.set_later = {}  # what others have set on the module
        self.touched = set()  # what has been taken from it
        self.waking = None  # the thread that runs the real code


def _namespace(module):
    return types.ModuleType.__getattribute__(module, "__dict__")


def _ask(module, name):
    """Read an attribute of a module that is real, or just becoming so."""
    return (types.ModuleType.__getattribute__ if type(module) is StandIn else getattr)(module, name)


def _put(module, name, value):
    (types.ModuleType.__setattr__ if type(module) is StandIn else setattr)(module, name, value)


class StandIn(types.ModuleType):
    """The class of a module that has not been woken."""

    def __getattribute__(self, name):
        state = _states.get(id(self))
        if state is None or state.waking == get_ident():
            return _ask(self, name)
        if name == "__class__":
            return types.ModuleType
        own = _namespace(self)
        if name == "__dict__" and _is_executed(sys._getframe(1)):
            return own
        awake = state.waking is not None or state.group in _awake_groups
        # An import statement reads __spec__: modules that belong together run in the order in which they are imported.
        if name in own and (name in _AS_IMPORTED and name != "__spec__" if awake else name not in _OF_ANY):
            return own[name]
        kind = state.names.get(name)
        if kind is None and name not in _OF_ANY and (not (state.dynamic or awake) or name in _NOT_OF_ANY):
            if hasattr(types.ModuleType, name):
                return types.ModuleType.__getattribute__(self, name)
            raise AttributeError("module %r has no attribute %r" % (state.name, name))
        found = _hand_out(state, name, kind) if kind is not None and not awake else _NOTHING
        if found is not _NOTHING and name not in state.touched:
            state.touched.add(name)
            _report[0]("touched %s %s %s" % (state.name, _TOLD.get(kind[0], kind[0]), name))
        if found is _NOTHING and kind == ["other"] and not awake and _is_only_written_to(sys._getframe(1), name):
            found = _Target(state, (name,))
        return found if found is not _NOTHING else _ask(_wake(self, name), name)

    def __setattr__(self, name, value):
        state = _states.get(id(self))
        if state is None or state.waking == get_ident():
            _put(self, name, value)
        elif name == "__class__" or state.waking is not None:
            _put(_wake(self, name), name, value)
        else:
            child = _is_child(state.name, name, value)
            if child and state.names.get(name, ["module", value.__name__]) != ["module", value.__name__]:
                return  # the package has something else of that name, which it got after its module
            if name not in _AS_IMPORTED and not child:
                state.set_later[name] = value
            _put(self, name, value)

    def __delattr__(self, name):
        real = _wake(self, name)
        (types.ModuleType.__delattr__ if type(real) is StandIn else delattr)(real, name)

    def __dir__(self):
        real = _wake(self, "__dir__")
        return types.ModuleType.__dir__(real) if type(real) is StandIn else real.__dir__()

    def __repr__(self):
        own = _namespace(self)
        return "<module %r from %r>" % (own.get("__name__"), own.get("__file__"))


def _is_executed(frame):
    """Say whether a loader is about to run what stands in the real module's place: in a reload."""
    return frame.f_code.co_name == "exec_module" and frame.f_code.co_filename.startswith("<frozen importlib")


def _is_child(package, name, value):
    """Say whether the import system has bound, or would bind, ``value`` as a submodule."""
    return isinstance(value, types.ModuleType) and sys.modules.get("%s.%s" % (package, name)) is value


def stand_in(module, table, find):
    """Make ``module``, which is just being imported, stand in for the real one.

    ``find()`` gives the real module's spec, with its loader; it raises when the real one is not to be had.
    """
    name = module.__name__
    own = _namespace(module)
    if _LAST not in sys.meta_path:
        sys.meta_path.append(_LAST)
        _teach_abc()
    own.pop("stand_in", None)  # what a layer has in the real one's place is one call of this name
    if type(module) is StandIn:
        _wake(module, "reload")
    if name in _awake or is_awake(table):
        spec = find()
        _woken(name, table["group"], "reload" if name in _awake else "what it belongs to", _caller())
        _load(name, module, spec)
    else:
        for extra in [key for key in own if key not in _AS_IMPORTED and key != "__doc__"]:
            del own[extra]
        _states[id(module)] = _State(module, table, find)
        module.__class__ = StandIn
        _report[0]("stand-in %s" % name)
    for other in table.get("also", ()):
        importlib.import_module(other)


def is_awake(table):
    """Say whether something of a module's group is real: packages that are half real are hard to get right."""
    return table["group"] in _awake_groups


# ---- waking -------------------------------------------------------------------------------------------------------


def wake(name, touched):
    """Load the real module in place of the stand-in ``name``, its packages first; give it.

    ``touched`` is the attribute for which that is done.
    """
    module = sys.modules.get(name)
    return _wake(module, touched) if type(module) is StandIn else module


def _caller():
    """Give file and line of the code that touched a stand-in."""
    frame = sys._getframe(2)
    own = os.path.dirname(_caller.__code__.co_filename)
    while frame is not None and (
        os.path.dirname(frame.f_code.co_filename) == own or frame.f_code.co_filename.startswith("<frozen importlib")
    ):
        frame = frame.f_back
    return "%s:%d" % (frame.f_code.co_filename, frame.f_lineno) if frame is not None else "the interpreter"


def _woken(name, group, touched, caller):
    _report[0]("woke %s for %s at %s" % (name, touched, caller))
    _awake.add(name)
    _awake_groups.add(group)
    _stirred.add(name.partition(".")[0])


def _wake(module, touched):
    state = _states.get(id(module))
    if state is None:
        return module
    package = sys.modules.get(state.name.rpartition(".")[0])
    if type(package) is StandIn:
        _wake(package, touched)
    caller = _caller()
    # The import system's own lock: it knows of threads that wait for each other in a circle.
    lock = importlib._bootstrap._ModuleLockManager(state.name)
    try:
        lock.__enter__()
    except importlib._bootstrap._DeadlockError:
        return module  # as far as it has come: an import statement does the same
    try:
        if id(module) in _states and state.waking is None:

            def load():
                # What has woken in the meantime may have woken it.
                return _become_real(state, touched, caller) if id(module) in _states else module

            return in_order(state.name, load)
    finally:
        lock.__exit__(None, None, None)
    return module


def in_order(name, load):
    """Load a module with ``load()``, and again with more of its distribution awake if that fails.

    Where modules import each other in a circle, it matters which of them came first: those that were imported have.
    What the program does from now on was in no trace, so the registries of its packages are filled as well.
    """
    me = get_ident()
    if me in _loading:
        return load()  # what it is loaded for is loaded again
    _loading.add(me)
    try:
        loaded = _load_after_others(name, load)
        _stirred.add(name.partition(".")[0])
        _bind(name)
        _fill_registries()
        return loaded
    finally:
        _loading.discard(me)


def _load_after_others(name, load):
    try:
        return load()
    except (ImportError, AttributeError) as exc:
        beside = _asleep_beside(name, exc.__traceback__)
        if isinstance(exc, ModuleNotFoundError) or not beside:
            raise
    if type(sys.modules.get(name)) is not StandIn:
        sys.modules.pop(name, None)  # as an import that fails does: it is half loaded
    _wake_all(beside, "what %s relies on" % name)
    return load()


def _wake_all(states, touched):
    for state in states:
        try:
            _wake(state.module, touched)
        except (ImportError, AttributeError):
            pass  # told to those who need that one


def _bind(name):
    """Bind a module in its package as the import system is about to: what is loaded now may look for it there."""
    package, _, last = name.rpartition(".")
    module = sys.modules.get(name)
    if package in sys.modules and module is not None and last not in _namespace(sys.modules[package]):
        _put(sys.modules[package], last, module)


def _fill_registries():
    """Wake those stand-ins that would have filled registries of the packages in which something was loaded."""
    tried = set()  # one that cannot be loaded would be tried for ever
    while _stirred:
        packages = set(_stirred)
        _stirred.difference_update(packages)
        fillers = [each for each in list(_states.values()) if each not in tried and not packages.isdisjoint(each.fills)]
        tried.update(fillers)
        _wake_all(fillers, "what it adds to %s" % ", ".join(sorted(packages)))


def _asleep_beside(name, traceback):
    """Give the stand-ins in the distributions that an error came through, in the order in which they were imported."""
    tops = set()
    while traceback is not None:
        tops.add(str(traceback.tb_frame.f_globals.get("__name__")).partition(".")[0])
        traceback = traceback.tb_next
    return [state for state in list(_states.values()) if state.name.partition(".")[0] in tops and state.name != name]


def _become_real(state, touched, caller):
    module, name = state.module, state.name
    spec = state.find()
    _woken(name, state.group, touched, caller)
    own = _namespace(module)
    before = dict(own)
    children = {key: value for key, value in before.items() if _is_child(name, key, value)}
    for key in set(children).union(state.set_later):
        own.pop(key, None)
    there = sys.modules.get(name)
    state.waking = get_ident()
    try:
        sys.modules[name] = module
        real = _load(name, module, spec)
    except BaseException as exc:
        for key in set(own).difference(before):
            del own[key]
        own.update(before)
        sys.modules[name] = module
        _awake.discard(name)
        state.waking = None
        if not isinstance(exc, AttributeError):
            raise
        # As it is it would say that the module has no such attribute.
        raise ImportError("%s could not be loaded: %s" % (name, exc), name=name) from exc
    finally:
        if there is not module:  # the program has taken it out
            sys.modules.pop(name, None) if there is None else sys.modules.update({name: there})
    _hand_over(state, real, children)
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
    return sys.modules.get(name, made)  # a module may put something else into its place


def _hand_over(state, real, children):
    """Let others see the real module, with what they have set on the stand-in."""
    module = state.module
    pairs = [] if real is module else [(module, real)]
    for placeholder in list(_shared.values()):
        found = _loaded(_get(placeholder, "_kind"))
        if found is _NOTHING and _get(placeholder, "_in") is module:
            found = _read(real, _get(placeholder, "_as"))
        if found is not _NOTHING and not issubclass(type(found), _Placeholder):
            pairs.append((placeholder, found))
    try:
        _settle(pairs)
        _set_again(state, real, children)
    finally:  # what cannot be set is told to who woke the module, which is real all the same
        _become_plain(state, module, real)


def _set_again(state, real, children):
    for attribute, value in list(state.set_later.items()):
        if isinstance(attribute, tuple):
            setattr(_follow(real, attribute[:-1]), attribute[-1], value)
        else:
            _put(real, attribute, value)
    for attribute, value in children.items():
        if attribute not in getattr(real, "__dict__", ()):
            _put(real, attribute, value)


def _become_plain(state, module, real):
    if real is not module:
        _namespace(module)["__forward__"] = real
        module.__class__ = _Forward
    elif type(module) is StandIn:  # it may have given itself another class
        module.__class__ = types.ModuleType
    del _states[id(module)]
    package, _, last = state.name.rpartition(".")
    if package in sys.modules and getattr(sys.modules[package], "__dict__", {}).get(last, module) is module:
        _put(sys.modules[package], last, real)


def _follow(module, path):
    """Give what attributes lead to, one after the other."""
    found = _ask(module, path[0])
    for name in path[1:]:
        found = getattr(found, name)
    return found


def _read(module, attribute):
    try:
        return _follow(module, attribute.split("."))
    except AttributeError:
        return _NOTHING


class _Forward(types.ModuleType):
    """The class of a stand-in whose real module is another object."""

    def __getattribute__(self, name):
        return getattr(_namespace(self)["__forward__"], name)

    def __setattr__(self, name, value):
        setattr(_namespace(self)["__forward__"], name, value)

    def __delattr__(self, name):
        delattr(_namespace(self)["__forward__"], name)

    def __dir__(self):
        return dir(_namespace(self)["__forward__"])

    def __repr__(self):
        return repr(_namespace(self)["__forward__"])


class _Last(object):
    """The last finder of all: what nobody finds in a package may be there once the package is real."""

    def find_spec(self, name, path=None, target=None):
        above = name.rpartition(".")[0]
        package = sys.modules.get(above)
        state = _states.get(id(package))
        if above not in _awake if state is None else state.waking is not None:
            return None
        try:
            return _find_below(package, state, name, target)
        except ModuleNotFoundError:
            if _is_being_imported(sys._getframe(1)):
                raise
            return None


_LAST = _Last()


def find_below(name):
    """Find a real module in a package that may be asleep: that wakes, since a package's code runs before its modules'.

    None where there is nothing to be woken.
    """
    package = sys.modules.get(name.rpartition(".")[0])
    state = _states.get(id(package))
    return None if name in _planned or state is None or state.waking is not None else _find_below(package, state, name)


def _find_below(package, state, name, target=None):
    _without_lock(_wake, package, name)
    if name in sys.modules:
        return _spec_of_loaded(name, sys.modules[name], sys._getframe(1))
    path = getattr(package, "__path__", None)
    return None if state is None or path is None else importlib._bootstrap._find_spec(name, path, target)


def _is_being_imported(frame):
    """Say whether finders are asked for the sake of an import: importlib.util.find_spec asks, too."""
    while frame.f_code.co_name != "_find_spec" and frame.f_back is not None:
        frame = frame.f_back
    return frame.f_back is not None and frame.f_back.f_code.co_name == "_find_and_load_unlocked"


def _spec_of_loaded(name, module, frame):
    """Give a spec that leads to a module which was loaded while it was looked for.

    The import system would take the module's own, and so load it again: it hides until then.
    """
    own = _namespace(module) if issubclass(type(module), types.ModuleType) else {}
    spec = own.get("__spec__")
    if spec is None:
        return ModuleSpec(name, _There(module))
    if not _is_being_imported(frame):
        return spec
    own["__spec__"] = None
    return ModuleSpec(name, _There(module, spec))


def _without_lock(call, *args):
    """Run code as outside of the global import lock, which is held while finders are asked."""
    import _imp

    try:
        _imp.release_lock()
    except RuntimeError:
        return call(*args)
    try:
        return call(*args)
    finally:
        _imp.acquire_lock()


class _There(object):
    """Loads a module that another one has put into sys.modules."""

    def __init__(self, module, spec=None):
        self._module = module
        self._spec = spec

    def create_module(self, spec):
        return None

    def exec_module(self, module):
        sys.modules[module.__name__] = self._module
        if self._spec is not None:
            _namespace(self._module)["__spec__"] = self._spec


# ---- what is handed out -------------------------------------------------------------------------------------------


def _hand_out(state, attribute, kind):
    """Give what stands for an attribute, _NOTHING where only the real one will do."""
    if kind[0] == "value":
        return kind[1]
    if kind[0] == "tuple":
        return tuple(kind[1])
    if kind[0] == "list":
        return list(kind[1])
    if kind[0] == "module":
        return importlib.import_module(kind[1])
    if kind[0] == "other":
        return _NOTHING
    known = _loaded(kind)
    if known is not _NOTHING or kind[0] not in _PLACEHOLDERS or not _is_read(sys._getframe(2), attribute):
        return known
    made = _PLACEHOLDERS[kind[0]](state.module, attribute, kind)
    return _shared.setdefault((kind[1], kind[2]), made)


def _is_read(frame, attribute):
    """Say whether Python code reads an attribute just there: C code that does may want a type, and say so too late."""
    code = frame.f_code
    if code.co_filename.startswith("<frozen importlib"):
        return code.co_name == "_handle_fromlist"
    doing = code.co_code[frame.f_lasti]
    star = doing == _STAR[0] and (len(_STAR) == 1 or code.co_code[frame.f_lasti + 1] == _STAR[1])
    return star or (attribute in code.co_names and doing in _READS)


def _loaded(kind):
    """Give the thing itself where the module that defines it is loaded for real."""
    if type(sys.modules.get(kind[1])) is StandIn:
        return _NOTHING
    found = _defined(kind[1], kind[2])
    # Not all that says so of itself is to be found by its name.
    same = getattr(found, "__qualname__", None) == kind[2] and getattr(found, "__module__", None) == kind[1]
    return found if same else _NOTHING


def _defined(module, path):
    """Give what a module has under a qualified name; nothing is asked of objects."""
    found = sys.modules.get(module)
    if not issubclass(type(found), types.ModuleType):
        return _NOTHING
    names = _namespace(found)
    for part in path.split("."):
        found = names.get(part, _NOTHING)
        names = type.__getattribute__(found, "__dict__") if issubclass(type(found), type) else {}
    return found


_get = object.__getattribute__


def _real(placeholder, touched):
    """Give what a placeholder stands for, from the module that defines it or that has it, too."""
    kind = _get(placeholder, "_kind")
    for _ in range(2):  # the one may be imported, and stood in for, by the other
        for module in (sys.modules.get(kind[1]), _get(placeholder, "_in")):
            if _get(placeholder, "_found") is None and type(module) is StandIn:
                _wake(module, "%s (%s)" % (_get(placeholder, "_as"), touched))
    if _get(placeholder, "_found") is None:
        real = _loaded(kind)
        if real is _NOTHING or real is placeholder:  # what says that it is of a package may be in it as a placeholder
            real = _follow(_get(placeholder, "_in"), _get(placeholder, "_as").split("."))
        if real is placeholder:
            raise ImportError("%s has no %s" % (kind[1], kind[2]), name=kind[1])
        if issubclass(type(real), _Placeholder):
            real = _real(real, touched)
        _settle([(placeholder, real)])
    return _get(placeholder, "_found")


class _Placeholder(object):
    """Stands for a class or a function of a module that has not been woken."""

    __slots__ = ("_in", "_as", "_kind", "_found", "_hash", "_patches", "__weakref__")

    def __init__(self, module, attribute, kind):
        put = object.__setattr__
        put(self, "_in", module)
        put(self, "_as", attribute)
        put(self, "_kind", kind)
        put(self, "_found", None)
        put(self, "_hash", object.__hash__(self))
        put(self, "_patches", {})

    def __call__(self, *args, **kwargs):
        return _real(self, "()")(*args, **kwargs)

    def __getattribute__(self, name):
        if name == "__class__":
            return _claimed(type(self), sys._getframe(1))
        if name in ("__mro_entries__", "__reduce_ex__") and hasattr(type(self), name):
            return _get(self, name)
        if name == "__deepcopy__" and sys._getframe(1).f_globals.get("__name__") == "copy":
            raise AttributeError(name)  # asked of an instance, which the real thing would not be there
        if _get(self, "_found") is None:
            if name in _get(self, "_patches"):
                return _get(self, "_patches")[name]
            answer = type(self)._known.get(name)
            found = _NOTHING if answer is None else answer(_get(self, "_kind"))
            if found is _NOTHING:
                found = _described(self, name)
            if found is not _NOTHING:
                return (self,) + found if name == "__mro__" else found
        real = _real(self, name)
        if name == "__bases__" and not _is_read(sys._getframe(1), name):
            return (real,)  # so issubclass() comes to it
        return getattr(real, name)

    def __setattr__(self, name, value):
        if _get(self, "_found") is None:
            _get(self, "_patches")[name] = value
        else:
            setattr(_get(self, "_found"), name, value)

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
        return _get(self, "_hash")

    def __reduce_ex__(self, protocol):
        import copy

        return copy.copy, (_real(self, "pickle"),)  # which gives classes and functions as they are, anywhere

    def __repr__(self):
        found = _get(self, "_found")
        return "<%s %r>" % (type(self)._what, ".".join(_get(self, "_kind")[1:3])) if found is None else repr(found)


class _Target(object):
    """Stands for an object on the way to an attribute that is set: ``module.options.display.width = 80``.

    What is set is set again on the real one. It never leaves the statement; see _is_only_written_to.
    """

    __slots__ = ("_path", "_state")

    def __init__(self, state, path):
        object.__setattr__(self, "_state", state)
        object.__setattr__(self, "_path", path)

    def __getattr__(self, name):
        return _Target(self._state, self._path + (name,))

    def __setattr__(self, name, value):
        self._state.set_later[self._path + (name,)] = value


def _is_only_written_to(frame, attribute):
    """Say whether the attribute that is being read is only a step to one that is set."""
    if not _is_read(frame, attribute):
        return False  # C code keeps what it reads
    import dis

    behind = False
    for step in dis.get_instructions(frame.f_code):
        if not behind:
            behind = step.offset == frame.f_lasti
        elif step.opname not in ("LOAD_ATTR", "CACHE", "EXTENDED_ARG", "NOP"):
            return step.opname == "STORE_ATTR"
    return False


def _described(placeholder, name):
    """Answer from a table what is asked of functions and of classes' methods by code that only decorates."""
    kind = _get(placeholder, "_kind")
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
            module = _get(placeholder, "_in")
            _report[0]("member %s %s %s" % (_namespace(module)["__name__"], _get(placeholder, "_as"), name))
        if known is False:
            raise AttributeError("type object %r has no attribute %r" % (kind[2], name))
        if known:
            return _method(placeholder, name, known)
    return _NOTHING


# What is found on a class's class, or decides how the class itself is seen.
_CLASS_LEVEL = frozenset(dir(type)) | frozenset(("__signature__", "__isabstractmethod__"))
# Tells the signature of a method where more is known than the tables hold; False for what a class has not.
_members = [lambda module, name, method: None]


def know_members(find):
    """Ask ``find(module, qualified class name, method)`` from now on for signatures that a table lacks."""
    _members[0] = find


def _method(placeholder, name, signature):
    kind = _get(placeholder, "_kind")
    own = ["function", kind[1], "%s.%s" % (kind[2], name), signature]
    made = _Function(_get(placeholder, "_in"), "%s.%s" % (_get(placeholder, "_as"), name), own)
    return _shared.setdefault((own[1], own[2]), made)


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
    """Give the class that a placeholder says it is of."""
    if kind is _Class and frame.f_code is _RESOLVE_BASES:
        return _Class  # so that it gets asked for the class that it stands for
    return {_Class: type, _Function: types.FunctionType}.get(kind, types.BuiltinFunctionType)


_RESOLVE_BASES = getattr(getattr(types, "resolve_bases", None), "__code__", None)


def _late(placeholder, descends=None):
    """Give the real thing if it is loaded by now, or must be for the class ``descends`` to be; None if it is not."""
    if _get(placeholder, "_found") is None:
        kind = _get(placeholder, "_kind")
        found = _loaded(kind)
        if found is not _NOTHING:
            _settle([(placeholder, found)])
        elif descends is not None and any(
            (getattr(base, "__module__", None), getattr(base, "__qualname__", None)) == (kind[1], kind[2])
            for base in type.__getattribute__(descends, "__mro__")
        ):
            _real(placeholder, "isinstance")
    return _get(placeholder, "_found")


def _bases(kind):
    """Give the bases where they are loaded: what they derive from themselves is known then, too."""
    found = tuple(_loaded(["class"] + base) for base in kind[3])
    return _NOTHING if _NOTHING in found else found


def _linear(kind):
    """Give what follows a class in its __mro__, where that is plain to see."""
    bases = _bases(kind)
    return _NOTHING if bases is _NOTHING or len(bases) > 1 else bases[0].__mro__


def _has_not(kind):
    raise AttributeError("type object %r has no such attribute" % kind[2])


_NAMES = {
    "__module__": lambda kind: kind[1],
    "__qualname__": lambda kind: kind[2],
    "__name__": lambda kind: kind[2].rpartition(".")[2],
}


class _Class(_Placeholder):
    """Stands for a class. No instance of it can exist before its module is loaded."""

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


def _union(placeholder, *parts):
    if sys.version_info < (3, 10) or any(isinstance(part, str) for part in parts):
        _real(placeholder, "|")
        left, right = (_get(part, "_found") if part is placeholder else part for part in parts)
        return left | right
    import typing

    return typing.Union[parts]


class _Builtin(_Placeholder):
    """Stands for a function that is no method where a class has it."""

    __slots__ = ()
    _what = "built-in function"
    _known = _NAMES


class _Function(_Builtin):
    """Stands for a function."""

    __slots__ = ()
    _what = "function"

    def __get__(self, instance, owner=None):
        return self if instance is None else types.MethodType(self, instance)


_PLACEHOLDERS = {"function": _Function, "builtin": _Builtin}
if sys.version_info >= (3, 7):  # before, a class statement cannot be told what a base stands for
    _PLACEHOLDERS["class"] = _Class


def _teach(asked):
    """Let a function of ABCs, which refuses what is no type unseen, be given real classes."""

    def ask(cls, other):
        return asked(cls, _real(other, "abstract base class") if type(other) is _Class else other)

    return ask


def _teach_abc():
    import abc

    for name in ("_abc_register", "_abc_subclasscheck"):
        if hasattr(abc, name):
            setattr(abc, name, _teach(getattr(abc, name)))


# ---- after waking -------------------------------------------------------------------------------------------------


def _settle(pairs):
    """Give placeholders their real objects, and put those wherever the placeholders are."""
    first = len(_replaced)
    for old, real in pairs:
        if issubclass(type(old), _Placeholder):
            object.__setattr__(old, "_found", real)
            _shared.pop(tuple(_get(old, "_kind")[1:3]), None)
            _replaced.append(old)
    left = _replace(tuple(old for old, _ in pairs), {id(old): real for old, real in pairs}) if pairs else []
    for old in _replaced[first:]:
        if not left:  # else it is still a key somewhere
            object.__setattr__(old, "_hash", hash(_get(old, "_found")))
        for name, value in _get(old, "_patches").items():
            setattr(_get(old, "_found"), name, value)


_SKIPPED = (types.FrameType, types.ModuleType, type, _Placeholder)
_DEPTH = 4  # of tuples in tuples


def _replace(old, new):
    """Put ``new[id(x)]`` where the ``x`` of ``old`` are: namespaces, containers, closures, attributes.

    Gives the containers that could not be changed, as they are just being iterated over.
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
            if holder is not sys.modules and holder is not _replaced and not issubclass(type(holder), _SKIPPED):
                _replace_in(holder, new, left)
        if not fixed:
            break
        new.update((id(each), type(each)([new.get(id(item), item) for item in each])) for each in fixed)
        old = tuple(fixed)
        del found, fixed
    return left


def _is_complete(holder):
    """Say whether a tuple has all its items: C code may be putting them there just now."""
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
            _replace_in_dict(holder.__annotations__, new)  # is a tuple until it is asked for
        else:
            _replace_attributes(holder, new)
    except Exception:
        pass  # a holder that does not allow it keeps what forwards


def _is_iterated(holder):
    import gc

    return any(type(each).__name__.endswith("iterator") for each in gc.get_referrers(holder))


def _replace_in_dict(holder, new):
    # Classes remember what they have looked up.
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


_SLOT = type(_Placeholder.__dict__["_in"])


# ---- when the real module is there --------------------------------------------------------------------------------


def describe(module):
    """Give the table of a module that is loaded."""
    names = {}
    package = getattr(module.__dict__.get("__spec__"), "submodule_search_locations", None) is not None
    for name, value in module.__dict__.items():
        if name == "__path__" and not package:
            names[name] = ["other"]  # a module that lets others pass for its submodules
        elif name == "__all__" and type(value) is list and all(type(item) is str for item in value):
            names[name] = ["list", value]
        elif name not in _AS_IMPORTED and name not in ("__doc__", "__builtins__"):
            names[name] = _kind(value)
    return {"names": names, "dynamic": "__getattr__" in names}


def _kind(value):
    kind = type(value)
    if value is None or kind in (bool, int, float) or (kind is str and len(value) < 1000):
        return ["other"] if _is_of_this_run(value) else ["value", value]
    if kind is tuple and len(value) < 20 and all(type(item) in (str, int, bool) for item in value):
        return ["other"] if any(map(_is_of_this_run, value)) else ["tuple", list(value)]
    # Nothing is asked of the value itself: what objects do when they are looked at is theirs.
    if issubclass(kind, types.ModuleType):
        name = types.ModuleType.__getattribute__(value, "__dict__").get("__name__")
        return ["module", name] if sys.modules.get(name) is value else ["other"]
    if issubclass(kind, type):
        return _kind_of_class(value, kind)
    if kind in _FUNCTIONS and _is_found(value, value.__module__, value.__qualname__):
        return [_FUNCTIONS[kind], value.__module__, value.__qualname__]
    return ["other"]


_FUNCTIONS = {types.FunctionType: "function", types.BuiltinFunctionType: "builtin"}


def _is_of_this_run(value):
    """Say whether a value may be another one elsewhere: places, what the environment says, process, time."""
    if type(value) is str:
        return value.startswith(os.sep) or sys.prefix in value or value in os.environ.values()
    if type(value) is float:
        return not abs(value) < float("inf") or abs(value - time.time()) < 1e7
    return type(value) is int and value == os.getpid()


def _kind_of_class(value, meta):
    where = [type.__getattribute__(value, "__module__"), type.__getattribute__(value, "__qualname__")]
    if not _is_found(value, *where):
        return ["other"]
    flags = type.__getattribute__(value, "__flags__")
    fixed = not flags & _HEAP_TYPE or flags & _IMMUTABLE_TYPE
    if fixed or meta is not type or issubclass(value, (BaseException, type)):
        # C code wants it, it may be caught, or it decides by itself what its instances are.
        return ["loaded"] + where
    return ["class"] + where + [[[base.__module__, base.__qualname__] for base in value.__bases__]]


_HEAP_TYPE = 1 << 9
_IMMUTABLE_TYPE = 1 << 8 if sys.version_info >= (3, 10) else 0


def _is_found(value, module, name):
    """Say whether a class or function is what its name leads to."""
    return isinstance(module, str) and isinstance(name, str) and _defined(module, name) is value
