"""Loads the modules of stand-ins: runs the real code in the same module object, and replaces the placeholders."""

import importlib
import os
import sys
import types
from _thread import get_ident

from .messages import WOKE
from .standin_state import (
    NOTHING,
    Placeholder,
    StandIn,
    awake_groups,
    awake_names,
    find_loaded,
    find_named,
    follow,
    get_slot,
    is_child,
    loading_threads,
    namespace,
    put,
    read,
    report,
    shared,
    states,
    stirred,
)


def settle(pairs):
    """Put the real objects in the place of their placeholders."""
    from . import standin_replacing  # here, as most programs load nothing

    standin_replacing.settle(pairs)


def give_variables(state):
    """Set the environment variables that a module sets, or load it when somebody asks for them."""
    if state.variables:
        from . import standin_environ  # here, as hardly a module sets any

        standin_environ.give(state.name, state.variables, lambda: wake_module(state.module, "os.environ"))


def _take_variables_back(state):
    if state.variables:
        from . import standin_environ

        standin_environ.take_back(state.name)


def find_caller():
    """Return file and line of the code that touched a stand-in."""
    frame = sys._getframe(2)
    own = os.path.dirname(find_caller.__code__.co_filename)
    while frame is not None and (
        os.path.dirname(frame.f_code.co_filename) == own or frame.f_code.co_filename.startswith("<frozen importlib")
    ):
        frame = frame.f_back
    return "%s:%d" % (frame.f_code.co_filename, frame.f_lineno) if frame is not None else "the interpreter"


def note_woken(name, group, touched, caller):
    """Report that the real code of a module is about to run, and for what."""
    report(WOKE % (name, touched, caller))
    awake_names.add(name)
    awake_groups.add(group)
    stirred.add(name.partition(".")[0])


def wake_module(module, touched):
    """Load the real module in place of a stand-in, its packages first; return it."""
    state = states.get(id(module))
    if state is None:
        return module
    package = sys.modules.get(state.name.rpartition(".")[0])
    if type(package) is StandIn:
        wake_module(package, touched)
    caller = find_caller()
    # The lock of the import system, which detects deadlocks.
    lock = importlib._bootstrap._ModuleLockManager(state.name)
    try:
        lock.__enter__()
    except importlib._bootstrap._DeadlockError:
        return module  # as far as it has come: an import statement does the same
    try:
        if id(module) in states and state.waking is None:

            def load():
                # What has woken in the meantime may have woken it.
                return become_real(state, touched, caller) if id(module) in states else module

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
    if me in loading_threads:
        return load()  # what it is loaded for is loaded again
    loading_threads.add(me)
    try:
        loaded = _load_after_others(name, load)
        stirred.add(name.partition(".")[0])
        _bind(name)
        _fill_registries()
        return loaded
    finally:
        loading_threads.discard(me)


def _load_after_others(name, load):
    try:
        return load()
    except (ImportError, AttributeError) as exc:
        related = _related_stand_ins(name, exc.__traceback__)
        if isinstance(exc, ModuleNotFoundError) or not related:
            raise
    if type(sys.modules.get(name)) is not StandIn:
        sys.modules.pop(name, None)  # as an import that fails does: it is half loaded
    _wake_all(related, "what %s relies on" % name)
    return load()


def _wake_all(states, touched):
    for state in states:
        try:
            wake_module(state.module, touched)
        except (ImportError, AttributeError):
            pass  # raised again where that one is needed


def _bind(name):
    """Bind a module in its package as the import system is about to: what is loaded now may look for it there."""
    above, _, last = name.rpartition(".")
    package, module = sys.modules.get(above), sys.modules.get(name)
    if issubclass(type(package), types.ModuleType) and module is not None and last not in namespace(package):
        put(package, last, module)


def _fill_registries():
    """Wake those stand-ins that would have filled registries of the packages in which something was loaded."""
    tried = set()  # one that cannot be loaded would be tried for ever
    while stirred:
        packages = set(stirred)
        stirred.difference_update(packages)
        fillers = [each for each in list(states.values()) if each not in tried and not packages.isdisjoint(each.fills)]
        tried.update(fillers)
        _wake_all(fillers, "what it adds to %s" % ", ".join(sorted(packages)))


def _related_stand_ins(name, traceback):
    """Return the stand-ins in the distributions that an error came through, in the order of their imports."""
    tops = set()
    while traceback is not None:
        tops.add(str(traceback.tb_frame.f_globals.get("__name__")).partition(".")[0])
        traceback = traceback.tb_next
    return [state for state in list(states.values()) if state.name.partition(".")[0] in tops and state.name != name]


def become_real(state, touched, caller):
    """Run the real code of a stand-in, and put what it defines in the place of the placeholders; return the module."""
    module, name = state.module, state.name
    spec = state.find()
    note_woken(name, state.group, touched, caller)
    own = namespace(module)
    before = dict(own)
    children = {key: value for key, value in before.items() if is_child(name, key, value)}
    for key in set(children).union(state.set_later):
        own.pop(key, None)
    there = sys.modules.get(name)
    state.waking = get_ident()
    _take_variables_back(state)
    try:
        sys.modules[name] = module
        real = execute(name, module, spec)
    except BaseException as exc:
        for key in set(own).difference(before):
            del own[key]
        own.update(before)
        sys.modules[name] = module
        awake_names.discard(name)
        state.waking = None
        give_variables(state)
        if not isinstance(exc, AttributeError):
            raise
        # As it is it would mean that the module has no such attribute.
        raise ImportError("%s could not be loaded: %s" % (name, exc), name=name) from exc
    finally:
        if there is not module:  # the program has taken it out
            sys.modules.pop(name, None) if there is None else sys.modules.update({name: there})
    _hand_over(state, real, children)
    return real


def execute(name, module, spec):
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
    """Put the real module in the stand-in's place, with what has been set on it."""
    module = state.module
    pairs = [] if real is module else [(module, real)]
    pairs += _found_in(module, real)
    try:
        settle(pairs)
        _set_again(state, real, children)
    finally:  # what cannot be set is raised where the module was needed, which is real all the same
        _become_plain(state, module, real)


def _found_in(module, real):
    """Return (placeholder, real object) of all whose modules are loaded."""
    pairs = []
    for placeholder in list(shared.values()):
        found = find_loaded(get_slot(placeholder, "_kind"))
        if found is NOTHING:
            found = _find_moved(placeholder, module, real)
        if found is not NOTHING and not issubclass(type(found), Placeholder):
            pairs.append((placeholder, found))
    return pairs


def _find_moved(placeholder, module, real):
    """Return the real object of a placeholder if ``real`` has it, whose objects may name another module as theirs."""
    if get_slot(placeholder, "_in") is module:
        return read(real, get_slot(placeholder, "_as"))
    kind = get_slot(placeholder, "_kind")
    return find_named(real, kind) if issubclass(type(real), types.ModuleType) else NOTHING


def _set_again(state, real, children):
    for attribute, value in list(state.set_later.items()):
        if isinstance(attribute, tuple):
            setattr(follow(real, attribute[:-1]), attribute[-1], value)
        else:
            put(real, attribute, value)
    for attribute, value in children.items():
        if attribute not in getattr(real, "__dict__", ()):
            put(real, attribute, value)


def _become_plain(state, module, real):
    if real is not module:
        namespace(module)["__forward__"] = real
        module.__class__ = _Forward
    elif type(module) is StandIn:  # the module may have set another class
        module.__class__ = types.ModuleType
    del states[id(module)]
    package, _, last = state.name.rpartition(".")
    if package in sys.modules and getattr(sys.modules[package], "__dict__", {}).get(last, module) is module:
        put(sys.modules[package], last, real)


class _Forward(types.ModuleType):
    """The class of a stand-in whose real module is another object."""

    def __getattribute__(self, name):
        return getattr(namespace(self)["__forward__"], name)

    def __setattr__(self, name, value):
        setattr(namespace(self)["__forward__"], name, value)

    def __delattr__(self, name):
        delattr(namespace(self)["__forward__"], name)

    def __dir__(self):
        return dir(namespace(self)["__forward__"])

    def __repr__(self):
        return repr(namespace(self)["__forward__"])
