"""Records what a Python process touches: modules, files, folders, shared libraries, distributions looked up by name.

Runs inside the traced interpreter, so: CPython 3.6 and later, the standard library alone, nothing imported that the
interpreter has not loaded by itself, and no decision about anything. ``start(log)`` begins; every fact is appended
to the file ``log`` at once, one ``ascii(tuple)`` a line, so that a process that is killed has lost nothing:

    ("process", pid)                            once a process
    ("startup", name, file)                     a module that was loaded before the probe began
    ("module", name, file, importer, line)      a module that was looked for and found, first importer only
    ("missing", name)                           a module that was looked for and not found
    ("loaded", name, file)                      a module in sys.modules when the process (or an event) ended
    ("open" | "list" | "stat" | "library", path)
    ("distribution", name, asked by)
    ("note", text)                              what became of a stand-in; see ../runtime/standin.py
"""

import atexit
import os
import sys

_METADATA_MODULES = ("importlib.metadata", "importlib_metadata", "pkg_resources")
_IMPORT_MACHINERY = ("importlib", "importlib._bootstrap", "importlib._bootstrap_external", "importlib.util")
_HERE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "")
_os_open, _os_write, _os_close = os.open, os.write, os.close
_WRITING = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND


class _Log(object):
    """Appends each fact once.

    The file is opened for every line: a descriptor that is kept could be closed by the program, and its number given
    to a file of the program's own, into which the probe would then write.
    """

    def __init__(self, path):
        self.path = path
        self.seen = set()

    def __call__(self, *fact):
        if fact in self.seen:
            return
        self.seen.add(fact)
        try:
            handle = _os_open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                _os_write(handle, (ascii(fact) + "\n").encode("ascii"))
            finally:
                _os_close(handle)
        except OSError:
            pass  # a full disk or table of descriptors is reported by the process that reads the results

    def path_fact(self, kind, path):
        """Record a path given as text, bytes or an object with __fspath__; anything else names no file."""
        if isinstance(path, int) or path is None:
            return
        try:
            path = os.fsdecode(path)
            if path == self.path:
                return
            if not path.startswith("/"):
                path = os.path.join(os.getcwd(), path)
        except (TypeError, ValueError, OSError):
            return
        self(kind, os.path.normpath(path) if "/." in path or "//" in path else path)


def _importer():
    """Return name and line of the innermost frame that is no part of the import machinery or of this folder."""
    frame = sys._getframe(2)
    while frame is not None:
        name = frame.f_globals.get("__name__", "")
        if name not in _IMPORT_MACHINERY and not frame.f_code.co_filename.startswith(_HERE):
            return str(name), frame.f_lineno or 0
        frame = frame.f_back
    return "", 0


def ask_behind(finder, name, path, target):
    """Return the spec that the finders behind ``finder`` in sys.meta_path have for a module.

    None when they have none, or when one of them is of the old kind, which the interpreter itself knows how to ask.
    """
    behind = sys.meta_path
    if finder in behind:
        behind = behind[behind.index(finder) + 1 :]
    for other in list(behind):
        find = getattr(other, "find_spec", None)
        if find is None:
            return None
        spec = find(name, path, target)
        if spec is not None:
            return spec
    return None


def replace_execution(spec, execute):
    """Make ``execute(original, module)`` execute the module of ``spec``, where its loader allows that."""
    original = getattr(spec.loader, "exec_module", None)
    if original is None:
        return
    try:
        spec.loader.exec_module = lambda module: execute(original, module)
    except AttributeError:
        pass


class _Finder(object):
    """The first finder in sys.meta_path: calls the other finders, and records what they find and who imports it."""

    def __init__(self, log):
        self.log = log

    def find_spec(self, name, path=None, target=None):
        importer, line = _importer()
        spec = ask_behind(self, name, path, target)
        if spec is None:
            if all(hasattr(finder, "find_spec") for finder in sys.meta_path):
                self.log("missing", name)
            return None
        self.note(name, spec, importer, line)
        if name in _METADATA_MODULES:
            replace_execution(spec, self._watch_metadata)
        return spec

    def _watch_metadata(self, execute, module):
        execute(module)
        try:
            _watch_metadata(module, self.log)
        except Exception:
            pass  # a release of another shape

    def note(self, name, spec, importer, line):
        if ("module", name) in self.log.seen:
            return
        self.log.seen.add(("module", name))
        origin = spec.origin if getattr(spec, "has_location", False) else ""
        if not isinstance(origin, str):
            origin = ""
        self.log("module", name, origin, importer, line)


def _asker():
    """Return the module that looked up a distribution: the first frame outside the metadata libraries."""
    frame = sys._getframe(2)
    while frame is not None:
        name = str(frame.f_globals.get("__name__", ""))
        if not name.startswith(_METADATA_MODULES) and frame.f_code.co_filename != __file__:
            return name
        frame = frame.f_back
    return ""


def _watch_metadata(module, log):
    """Record which distributions are looked up by name; a scan of all distributions does not count."""
    if module.__name__ == "pkg_resources":
        _watch_working_set(module.WorkingSet, log)
        return
    from_name = module.Distribution.from_name.__func__

    def watched(cls, name):
        log("distribution", str(name), _asker())
        return from_name(cls, name)

    module.Distribution.from_name = classmethod(watched)


def _watch_working_set(working_set, log):
    find, resolve = working_set.find, working_set.resolve

    def watched_find(self, req):
        log("distribution", str(req.key), _asker())
        return find(self, req)

    def watched_resolve(self, requirements, *args, **kwargs):
        found = resolve(self, requirements, *args, **kwargs)
        asker = _asker()
        # Importing pkg_resources resolves the requirements of __main__, which the program did not request.
        for distribution in found:
            log("distribution", str(distribution.key), asker)
        return found

    working_set.find, working_set.resolve = watched_find, watched_resolve


class _Watched(object):
    """A function with an observer in front.

    No plain function: those turn into methods as class attributes, which built-in functions do not, and pathlib
    stores os.stat in a class body.
    """

    def __init__(self, function, observe):
        self.function = function
        self.observe = observe
        self.__wrapped__ = function
        self.__name__ = function.__name__
        self.__qualname__ = function.__name__
        # pickle looks for the name where this object lies, which is not the module that os takes its functions from.
        self.__module__ = "os" if function.__module__ == "posix" else function.__module__
        self.__doc__ = function.__doc__

    def __call__(self, *args, **kwargs):
        try:
            self.observe(*args, **kwargs)
        except Exception:
            pass
        return self.function(*args, **kwargs)

    def __reduce__(self):
        return self.__name__

    def __repr__(self):
        return repr(self.function)


def _audit(log):
    """Record the audit events of CPython 3.8+. The hook cannot be removed and must never raise."""

    def opened(path, mode, flags):
        if not (isinstance(flags, int) and flags & _WRITING):
            log.path_fact("open", path)

    def imported(module, filename, *_rest):
        if filename:
            log.path_fact("library", filename)

    def started(program):
        # What is looked for on PATH belongs to the machine.
        if program and "/" in os.fsdecode(program):
            log.path_fact("open", program)

    handlers = {
        "open": opened,
        "import": imported,
        "os.listdir": lambda path: log.path_fact("list", path if path is not None else "."),
        "os.scandir": lambda path: log.path_fact("list", path if path is not None else "."),
        "subprocess.Popen": lambda path, *_rest: started(path),
        "os.exec": lambda path, *_rest: started(path),
        "os.posix_spawn": lambda path, *_rest: started(path),
        "ctypes.dlopen": lambda path: log.path_fact("library", path) if path and "/" in path else None,
    }

    def hook(event, args):
        handler = handlers.get(event)
        if handler is not None:
            try:
                handler(*args)
            except Exception:
                pass

    sys.addaudithook(hook)


def _wrap_open(log):
    """Watch opens where there are no audit events (3.6 and 3.7)."""
    import builtins
    import io
    from importlib import machinery

    def opened(file, mode="r", *_args, **_kwargs):
        if not set(mode) & set("wax"):
            log.path_fact("open", file)

    def opened_low(path, flags=0, *_args, **_kwargs):
        if not flags & _WRITING:
            log.path_fact("open", path)

    builtins.open = io.open = _Watched(io.open, opened)
    os.open = _watched_os("open", opened_low)
    os.listdir = _watched_os("listdir", lambda path=".": log.path_fact("list", path))
    os.scandir = _watched_os("scandir", lambda path=".": log.path_fact("list", path))

    def watch_loader(loader, method, kind):
        inner = getattr(loader, method)

        def watched(self, subject):
            # get_data is handed a path, create_module a spec.
            log.path_fact(kind, getattr(subject, "origin", subject))
            return inner(self, subject)

        setattr(loader, method, watched)

    for loader in (machinery.SourceFileLoader, machinery.SourcelessFileLoader):
        watch_loader(loader, "get_data", "open")
    watch_loader(machinery.ExtensionFileLoader, "create_module", "library")


def _watched_os(name, observe):
    """Wrap a function of os, and name the wrapper wherever os lists what the function supports."""
    function = getattr(os, name)
    watched = _Watched(function, observe)
    for supported in (os.supports_dir_fd, os.supports_effective_ids, os.supports_fd, os.supports_follow_symlinks):
        if function in supported:
            supported.add(watched)
    return watched


def _wrap_stat(log):
    """Record checks for existence, which have no audit event. Not needed if system calls are traced."""

    def asked(path, *_args, **kwargs):
        if kwargs.get("dir_fd") is None:
            log.path_fact("stat", path)

    for name in ("stat", "lstat", "access", "readlink"):
        setattr(os, name, _watched_os(name, asked))


def _wrap_exit():
    """Take stock before os._exit, which forked children end with and which skips atexit."""
    leave = os._exit

    def observe(*_args):
        snapshot()

    os._exit = _Watched(leave, observe)


def snapshot():
    """Note the modules and shared libraries that are loaded now."""
    if _log is None:
        return
    for name, module in sorted(sys.modules.items(), key=lambda item: repr(item[0])):
        try:
            file = getattr(module, "__file__", None)
        except Exception:
            continue  # a lazy module that fails to load
        if isinstance(name, str) and isinstance(file, str):
            _log("loaded", name, file)
    if not _files:
        return
    try:
        with _plain_open("/proc/self/maps", "rb") as maps:
            lines = maps.read().splitlines()
    except OSError:
        return
    for line in lines:
        fields = line.split(None, 5)
        if len(fields) == 6 and b".so" in fields[5] and not fields[5].endswith(b" (deleted)"):
            _log("library", os.fsdecode(fields[5]))


def note(text):
    """Record an event of a stand-in."""
    _log("note", text)


_log = None
_files = True
_plain_open = open


def start(path, options=""):
    """Begin to record into the file ``path``, with ``options``, which are letters.

    s: also wrap the functions that check whether a file exists.
    b: is for startup/sitecustomize.py, see installed.py.
    m: record modules and notes alone: of a run with stand-ins that is only tried out, nobody asks for more.
    """
    global _files, _log
    if _log is not None:
        return
    log, _files = _Log(path), "m" not in options
    log("process", os.getpid())
    for name, module in sorted(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if isinstance(file, str) and file != __file__:
            log("startup", name, file)
        if name in _METADATA_MODULES:
            _watch_metadata(module, log)
    if _files:
        _watch_files(log)
        if "s" in options:
            _wrap_stat(log)
    _wrap_exit()
    sys.meta_path.insert(0, _Finder(log))
    _log = log
    atexit.register(snapshot)
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=lambda: log("process", os.getpid()))


def _watch_files(log):
    if hasattr(sys, "addaudithook"):
        _audit(log)
    else:
        _wrap_open(log)
