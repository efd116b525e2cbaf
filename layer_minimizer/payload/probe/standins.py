"""Replaces modules by stand-ins in a run where everything is installed, to see whether the result stays the same.

Runs inside the traced interpreter: CPython 3.6 and later, the standard library alone.
"""

import contextlib
import importlib
import json
import os
import sys
from importlib.machinery import ModuleSpec

from _layer_minimizer_probe import ask_behind, replace_execution

_expected = {}
_report = None
_standin = None


class _Loader(object):
    """Makes a module that stands in for the one that ``spec`` describes."""

    def __init__(self, spec, table, stand_in):
        self._spec = spec
        self._table = table
        self._stand_in = stand_in

    def create_module(self, spec):
        return None

    def exec_module(self, module):
        self._stand_in(module, self._table, lambda: self._spec)

    def __getattr__(self, name):
        return getattr(self._spec.loader, name)


class _Watched(type(sys)):
    """A real package of which others expect submodules that they do not import themselves."""

    def __getattr__(self, name):
        # "from package import submodule" looks for an attribute first, and imports the submodule itself; one that is
        # in sys.modules is being imported just now.
        imported = sys._getframe(1).f_code.co_filename.startswith("<frozen importlib")
        full = self.__name__ + "." + name
        if name not in _expected.get(self.__name__, ()) or imported or full in sys.modules:
            raise AttributeError("module %r has no attribute %r" % (self.__name__, name))
        _report("implicit " + full)
        return importlib.import_module(full)


class TrialFinder(object):
    """Finds the modules of ``tables`` as stand-ins; the finders behind it find the real ones.

    A table is JSON until its module is imported: behind a stand-in, most are not, and what is read of all of them is
    gone through at each collection of garbage.
    ``expected`` are the submodules by package that were loaded in a run without stand-ins. One that is missing now was
    imported by a module that is stood in for: it is imported when it is asked for, and that is reported.
    """

    def __init__(self, tables, expected, standin, report):
        global _report, _standin
        self._tables = tables
        self._standin = _standin = standin
        standin.plan(tables)
        _expected.update(expected)
        _report = report

    def find_spec(self, name, path=None, target=None):
        text = self._tables.get(name)
        table = None if text is None else json.loads(text)
        if table is not None and self._standin.is_awake(table):
            table = None
        real = ask_behind(self, name, path, target)
        if real is None or real.loader is None:
            return real
        if table is not None:
            return self._standing_in(real, table)
        found = self._standin.find_below(name)
        if found is None and name in _expected:
            replace_execution(real, _execute)
        return found or real

    def _standing_in(self, real, table):
        spec = ModuleSpec(real.name, _Loader(real, table, self._standin.stand_in), origin=real.origin)
        spec.submodule_search_locations = real.submodule_search_locations
        spec.has_location = real.has_location
        spec.cached = real.cached
        return spec


def check(namespaces, namespace, registries, identities, room, state, places):  # noqa: PLR0913, PLR0917 - sees effects
    """Wake all stand-ins, in the order in which they were imported, and report what that shows.

    What an unfit module imports will be imported by the real one from now on: then it is checked, too.

    ``namespaces`` are those of the modules at the end of a run without stand-ins. ``registries(others)`` watches what
    modules hold, ``identities`` finds where placeholders can be told from the real things, ``state`` has what sees
    changes of the process, and ``places(modules)`` sees changes of names and attributes; all are None where nothing
    could be loaded later in any case. ("late", module) is one that cannot be loaded any more; ("effect", module) one
    that changes the process or a module that is real already: adds a name to it, changes one, or puts something into
    what it holds.
    ("fills", module, packages) does the latter, too, but there is no ``room`` (in bytes) for it: it has to be loaded as
    soon as one of these packages does what no event did. ("seen", module) is one whose placeholders can be told.
    ("environ", module, variables) adds variables to the environment, as standin_environ.py wants to have them.
    """
    _report("check")
    _standin.report_to(lambda _text: None)
    _report_seen(identities and identities.before())
    loaded = _real_modules(sys.modules)
    real = {name: module for name, module in loaded.items() if name in namespaces}
    watched = registries({name: module for name, module in loaded.items() if name not in real}) if registries else None
    if watched:
        watched.add(real)
    held = places and places(real)
    effects = _Effects(_Lacking(namespaces, namespace, real), watched, state and state.ProcessState())
    late, checked = _standin.asleep(), set()
    while late:
        checked.update(late)
        unfit = effects.of_each(late)
        for changer, place in sorted(state.patches(set(late)).items()) if state else ():
            unfit.add(_report_effect(changer, "changes %s" % place))
        changed = held.taken(_real_modules(late)) if held else {}
        found, room = _report_fillers(_with_changes(effects.take_fillers(), changed), room)
        unfit |= found | _report_seen(identities and identities.after())
        late = [name for name in _standin.asleep() if name not in checked and effects.importers.get(name) in unfit]
    if room is not None:
        _report("room %d" % room)


class _Effects(object):
    """Notes what changes while modules are executed, each change for the innermost module that is executed then.

    ``importers`` are the modules during whose execution others were imported as stand-ins.
    """

    def __init__(self, missing, watched, process):
        self.importers = {}
        self._fillers = []
        self._unfit = set()
        self._missing = missing
        self._watched = watched
        self._process = process
        self._there = set(sys.modules)
        self._asleep = set(_standin.asleep())

    def of_each(self, late):
        """Wake the stand-ins with these names, and report what that changes; return the names of the unfit ones."""
        self._unfit = set()
        with self._watching(frozenset(late)):
            for name in late:
                try:
                    _standin.wake(name, "a check")
                except Exception as exc:
                    _report("late %s %s: %s" % (name, type(exc).__name__, exc))
                    self._unfit.add(name)
        return self._unfit

    def take_fillers(self):
        """Return (bytes, name, label, packages) of each module since the last call: what came, what it has filled."""
        found, self._fillers = self._fillers, []
        return found

    @contextlib.contextmanager
    def _watching(self, names):
        waking, running = sys.modules[_standin.wake_module.__module__], []
        become_real = waking.become_real

        def watch(state, *why):
            if state.name not in names:
                return become_real(state, *why)
            if running:
                self._note(running[-1])
            running.append(state.name)
            try:
                return become_real(state, *why)
            finally:
                self._note(running.pop())

        waking.become_real = watch
        try:
            yield
        finally:
            waking.become_real = become_real

    def _note(self, name):
        asleep = set(_standin.asleep())
        came = set(sys.modules).difference(self._there) | self._asleep.difference(asleep)
        self._there.update(came)
        self._asleep = asleep
        self.importers.update(dict.fromkeys(came & asleep, name))
        if self._process and _report_process(name, self._process, came):
            self._unfit.add(name)
        if self._watched:
            self._fillers.append(_filled(name, came, self._watched))
        for place in self._missing.appeared():
            self._unfit.add(_report_effect(name, place))


class _Lacking(object):
    """The names that real modules had in a run without stand-ins, and have not now."""

    def __init__(self, namespaces, namespace, real):
        self._namespaces = namespaces
        self._namespace = namespace
        self._real = real
        self._missing = {name: self._lacked_by(name) for name in real}

    def appeared(self):
        """Return one place in each module in which a name has appeared since the last call."""
        places = []
        for other, lacking in list(self._missing.items()):
            left = lacking and self._lacked_by(other)
            if left < lacking:
                places.append("%s.%s" % (other, min(lacking - left)))
            self._missing[other] = left
            if not left:
                del self._missing[other]
        return places

    def _lacked_by(self, name):
        return _lacking(self._namespaces[name], sys.modules.get(name, self._real[name]), self._namespace)


def _with_changes(fillers, changed):
    """Return the fillers with those modules that change a place, too: that is an effect of the same kind.

    If such a package is real, so is all that is in it.
    """
    return [each if each[1] not in changed else _with_change(each, changed[each[1]]) for each in fillers]


def _with_change(filler, place):
    size, name, label, packages = filler
    whole = sum(_size(module) for other, module in list(sys.modules.items()) if (other + ".").startswith(name + "."))
    return max(size, whole), name, label or place, sorted({*packages, place.partition(".")[0]})


def _report_process(name, process, came):
    """Report how a module has changed the process; of variables, those values that the code of what came contains.

    Return whether there was such an effect, beside variables.
    """
    changed = process.changed()[:1]
    for label in changed:
        _report_effect(name, "changes %s" % label)
    if process.added_variables:
        constants = _constants(came)
        given = [
            "%s=%s" % (variable, value) if constants.issuperset((variable, value)) else variable
            for variable, value in sorted(process.added_variables.items())
        ]
        _report("environ %s %s" % (name, json.dumps(given)))
    return bool(changed)


def _report_effect(name, effect):
    """Report what a module does, and return its name."""
    _report("effect %s %s" % (name, effect))
    return name


def _constants(names):
    """Return the texts in the code of modules, without their functions."""
    found = set()
    for name, module in _real_modules(names).items():
        try:
            code = module.__spec__.loader.get_code(name)
            found.update(each for each in code.co_consts if type(each) is str)
        except Exception:
            pass  # an extension module, or a loader of the program's own
    return found


def _report_seen(found):
    """Report (module, reason) of those whose placeholders can be told; return their names."""
    names = set()
    for module, reason in found or ():
        _report("seen %s %s" % (module, reason))
        names.add(module)
    return names


def _real_modules(names):
    found = {name: sys.modules.get(name) for name in list(names)}
    return {name: module for name, module in found.items() if type(module) in (type(sys), _Watched)}


def _filled(name, came, registries):
    """Return (bytes, name, label, packages) of a module that was woken: how much came for it, and what it has filled.

    ``came`` are the names of the modules that are there since then. What one of these holds of it counts only for the
    packages: as long as nothing has loaded it, no code can ask it.
    """
    grown = registries.grown()
    modules = _real_modules(came)
    size = sum(_size(module) for module in modules.values())
    modules.pop(name, None)
    filled = grown + registries.add(modules, name)
    registries.add(_real_modules([name]))
    packages = sorted({label.partition(".")[0] for label in filled})
    return size, name, min(grown) if grown else "", packages


def _report_fillers(found, room):
    """Report what fills registries: the smallest are better real, as far as there is ``room`` for their code.

    Return the names of these, and the room that is left.
    """
    unfit = set()
    for size, name, label, packages in sorted(found) if room is not None else ():
        if label and size <= room:
            room -= size
            unfit.add(_report_effect(name, "fills %s" % label))
        elif packages:
            _report("fills %s %s" % (name, " ".join(packages)))
    return unfit, room


def _size(module):
    try:
        return os.path.getsize(module.__file__)
    except (AttributeError, TypeError, OSError):
        return 0


def _lacking(before, module, namespace):
    """Return the names that a module had, and has not now or with a class of another kind."""
    now = namespace(module)
    return {name for name, meta in before.items() if name not in now or (meta and now[name] != meta)}


def _execute(execute, module):
    """Make a package a watched one from its execution on; where that is impossible, the run fails by what it lacks."""
    if type(module) is type(sys):
        module.__class__ = _Watched
    execute(module)
