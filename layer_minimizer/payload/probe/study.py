"""Records which modules' code runs for a result, and describes every module.

From that the tool guesses which modules do nothing for a result; see trace/stand_in_search.py. Runs inside the traced
interpreter: CPython 3.6 and later, the standard library alone.
"""

import _imp
import json
import os
import sys
import threading
import time
from importlib.machinery import ExtensionFileLoader

from _layer_minimizer_probe import ask_behind, replace_execution


def namespace(module):
    """Return the names that a module has, each with the metaclass of its value, empty where that is an ordinary one."""
    found = {}
    for name, value in list(getattr(module, "__dict__", {}).items()):
        if isinstance(name, str) and not issubclass(type(value), type(sys)):
            meta = type(value)
            found[name] = meta.__qualname__ if issubclass(meta, type) and meta is not type else ""
    return found


def _described_anywhere(table, file):
    """Return what of a standard module's table holds wherever its source is the same.

    Its values and names may depend on the machine (versions of libraries, what the system has), so that they are read
    from the real module.
    """
    names = {name: kind[:4] for name, kind in table["names"].items()}
    for name, kind in names.items():
        if kind[0] in ("value", "tuple", "list"):
            names[name] = ["other"]
        elif kind[0] == "function":
            names[name] = kind[:3] + [None]
    with open(file, "rb") as source:
        text = source.read()
    return {"names": names, "dynamic": True, "standard": _imp.source_hash(0, text).hex(), "bytes": len(text)}


class Study(object):
    """The observations of one run about the modules in ``sites``; ``describe(module)`` returns the table of one.

    ``signatures`` describes functions and classes; None where an earlier run has described them.
    ``standard`` are modules of the standard library that are described, too, with those in them, if they are loaded
    before the first event: as far as that holds for every machine with the same source, of which ``"standard"`` in the
    table is a hash.
    """

    def __init__(self, describe, signatures, sites, standard=()):
        self._describe = describe
        self._signatures = signatures
        self._sites = tuple(site.rstrip("/") + "/" for site in sites)
        # What is loaded already would be so in a run with stand-ins, too. (CPython 3.6 has no such hash.)
        self._standard = frozenset(standard if hasattr(_imp, "source_hash") else ())
        self._before = frozenset(sys.modules)
        self._begun = False
        self._tables = {}
        self._of_library = set()  # those of them that are the standard library's
        self._classes = {}
        # Modules that are being executed or have raised: an import that raised takes its module out of sys.modules,
        # after this was told, and leaves there what the module had imported.
        self._failed = set()
        self._ran = set()
        self._watching = False
        self._depth = {}
        self._seconds = {}
        # ``waiting``: for each module that the thread is executing, the seconds that went into what that imported.
        self._importing = threading.local()

    def find_spec(self, name, path=None, target=None):
        """Notice a module that is about to be imported: it is described as soon as what began its import is done.

        At that time all that its own package does to it is done, and nothing yet of what others do to it.
        Where a loader cannot be watched, its module is described later.
        """
        spec = ask_behind(self, name, path, target)
        if spec is not None:
            if isinstance(spec.loader, ExtensionFileLoader):
                create = spec.loader.create_module
                spec.loader.create_module = lambda spec: self._create(create, spec)
            replace_execution(spec, self._execute)
        return spec

    def _create(self, create, spec):
        # All code of a module with single-phase initialization runs here, and imports others: it is not complete yet.
        begun = self._enter(spec.name)
        try:
            return create(spec)
        finally:
            self._leave(spec.name, begun)

    def _execute(self, execute, module):
        name = module.__name__
        top = name.split(".")[0]
        begun = self._enter(name)
        try:
            execute(module)
            self._failed.discard(name)
        finally:
            self._leave(name, begun)
            if not self._depth[top]:
                self.look(top)

    def _enter(self, name):
        top = name.split(".")[0]
        self._depth[top] = self._depth.get(top, 0) + 1
        self._importing.__dict__.setdefault("waiting", []).append(0.0)
        self._failed.add(name)
        return time.perf_counter()

    def _leave(self, name, begun):
        waiting = self._importing.waiting
        took = time.perf_counter() - begun
        self._seconds[name] = self._seconds.get(name, 0.0) + took - waiting.pop()
        self._depth[name.split(".")[0]] -= 1
        if waiting:
            waiting[-1] += took

    def begin(self):
        """Start to note whose code runs, but for what runs only while a module is imported."""
        self.look()
        self._watching = self._begun = True
        if hasattr(sys, "monitoring"):
            self._monitor(sys.monitoring)
        else:
            threading.setprofile(self._called)
            sys.setprofile(self._called)

    def _monitor(self, monitoring):
        try:
            monitoring.use_tool_id(monitoring.OPTIMIZER_ID, "layer_minimizer")
        except ValueError:  # the program has a tool of that number itself
            self._watching = False
            return

        def started(code, offset):
            if self._imports():
                return None
            self._ran.add(code.co_filename)
            return monitoring.DISABLE  # once for each piece of code: after that it costs nothing

        monitoring.register_callback(monitoring.OPTIMIZER_ID, monitoring.events.PY_START, started)
        monitoring.set_events(monitoring.OPTIMIZER_ID, monitoring.events.PY_START)

    def _called(self, frame, event, argument):
        if event == "call" and not self._imports():
            self._ran.add(frame.f_code.co_filename)

    def _imports(self):
        """Return whether this thread is executing a module."""
        return self._importing.__dict__.get("waiting")

    def look(self, top=None):
        """Describe the modules, of one package or of all, that are loaded now and were not before.

        Submodules that have been bound to their packages since then are added.
        """
        waiting = self._importing.__dict__.setdefault("waiting", [])
        waiting.append(0.0)  # what describes modules is no code of the program's
        try:
            self._look(top)
        finally:
            waiting.pop()

    def _look(self, top):
        for name, module in list(sys.modules.items()):
            if type(name) is not str:
                continue
            package, _, last = name.rpartition(".")
            known = self._tables.get(package)
            if known is not None and getattr(sys.modules.get(package), "__dict__", {}).get(last) is module:
                known.add(last, ["module", name])
            if name in self._tables or name in self._failed or type(module) is not type(sys):
                continue
            if top is not None and name.split(".")[0] != top:
                continue
            file = module.__dict__.get("__file__")
            if isinstance(file, str) and file.startswith(self._sites):
                self._tables[name] = _Table(self._described(module), file)
                if self._signatures is not None:
                    self._classes[name] = json.dumps(self._signatures.of_classes(module))
            elif isinstance(file, str) and self._is_standard(name, file):
                self._tables[name] = _Table(_described_anywhere(self._describe(module), file), file)
                self._of_library.add(name)

    def _is_standard(self, name, file):
        base = os.path.join(os.path.dirname(os.__file__), *name.split("."))
        named = any((name + ".").startswith(each + ".") for each in self._standard)
        return (
            named
            and not self._begun
            and name not in self._before
            and file in (base + ".py", os.path.join(base, "__init__.py"))
        )

    def _described(self, module):
        table = self._describe(module)
        if self._signatures is None:
            return table
        for name, kind in table["names"].items():
            if kind[0] == "function":
                kind.append(self._signatures.of_function(module.__dict__.get(name)))
        return table

    def end(self, path):
        """Stop, and write what was found as JSON.

        ``tables`` by module; ``ran``: the files whose code ran, or null; ``seconds`` that the execution of each module
        took by itself. What their classes consist of goes into a second file, and what they have at the very end
        into a third: ``{module: namespace(module)}``; neither is written if nothing is to be said about signatures.
        """
        if hasattr(sys, "monitoring") and self._watching:
            sys.monitoring.set_events(sys.monitoring.OPTIMIZER_ID, 0)
            sys.monitoring.free_tool_id(sys.monitoring.OPTIMIZER_ID)
        else:
            # The program's own function may stand there: then this one has not seen everything.
            self._watching = self._watching and sys.getprofile() == self._called
            sys.setprofile(None)
            threading.setprofile(None)
        self.look()
        ran = sorted(self._ran) if self._watching else None
        tables = _joined({name: table.text() for name, table in self._tables.items()})
        _write(path, _joined({"tables": tables, "ran": json.dumps(ran), "seconds": json.dumps(self._seconds)}))
        if self._signatures is None:
            return
        _write(path + ".classes", _joined(self._classes))
        own = [name for name in self._tables if name not in self._of_library and name in sys.modules]
        names = {name: namespace(sys.modules[name]) for name in own}
        _write(path + ".names", json.dumps(names))


class _Table(object):
    """The table of a module, as text: the collector of garbage would go through millions of lists again and again."""

    __slots__ = ("_added", "_known", "_names", "_rest")

    def __init__(self, table, file):
        names = table.pop("names")
        self._known = frozenset(names)
        self._names = json.dumps(names)
        self._added = ""
        self._rest = json.dumps(dict(table, file=file))

    def add(self, name, kind):
        """Add a name that the module has been given since then."""
        if name not in self._known:
            self._known |= {name}
            self._added += ", %s: %s" % (json.dumps(name), json.dumps(kind))

    def text(self):
        """Return it as JSON."""
        names = "{%s}" % (self._names[1:-1] + self._added).lstrip(", ")
        return '{"names": %s, %s' % (names, self._rest[1:])


def _joined(texts):
    """Return the JSON of a dictionary whose values are JSON already."""
    return "{%s}" % ", ".join("%s: %s" % (json.dumps(name), text) for name, text in texts.items())


def _write(path, text):
    with open(path, "w") as out:
        out.write(text)  # json.dump would encode piece by piece, which takes ten times as long
