"""Runs the user's entry as AWS Lambda does, and writes the results as JSON.

argv[1] is a JSON file with: ``root`` (the task root), ``module`` (the entry's file name without ``.py``), ``handler``
(a function's name, or empty), ``events`` ([name, payload, context] rows), ``front`` (folders that stand on sys.path
right behind the task root, as a layer's do), ``result`` (where the outcome goes), ``stdout`` (where a script's
standard output goes), ``study`` (where to write what modules are and do, or empty; see study.py), ``sites`` (folders
whose modules that is about), ``standard`` (modules of the standard library that it is about, too), ``brief`` (whether
to leave out signatures), ``check`` (the namespaces of a run without stand-ins, or empty; see standins.py), ``timed``
(where to write how long imports take, or empty; see import_times.py). Runs in the traced interpreter: CPython 3.6 and
later, the standard library alone.
"""

import sys

from layer_minimizer_loading import load_as_before, load_eagerly, load_probe_file, load_stand_in_parts

_LAZY = load_eagerly()

# The first entry is the folder of this file; a module of the user's must never be found there.
del sys.path[0]

import ast
import decimal
import functools
import importlib
import json
import os
import time
import traceback
import types

load_as_before(_LAZY)

_GRACE_SECONDS = 3  # for threads that are about to end


class Context(object):
    """What handlers read from Lambda's context object."""

    def __init__(self, function, overrides):
        self._deadline = time.time() + 900.0
        self.function_name = function
        self.function_version = "$LATEST"
        self.invoked_function_arn = "arn:aws:lambda:us-east-1:123456789012:function:" + function
        self.memory_limit_in_mb = "3008"
        self.aws_request_id = "8f5a2c1e-0000-4000-8000-6c6179657273"
        self.log_group_name = "/aws/lambda/" + function
        self.log_stream_name = "1970/01/01/[$LATEST]6c6179657273"
        self.identity = types.SimpleNamespace(cognito_identity_id=None, cognito_identity_pool_id=None)
        self.client_context = None
        self.tenant_id = None
        for name, value in overrides.items():
            setattr(self, name, value)

    def get_remaining_time_in_millis(self):
        """Return the milliseconds left before Lambda would end the invocation."""
        return max(0, int((self._deadline - time.time()) * 1000))

    def log(self, message):
        """Write to the function's log."""
        sys.stdout.write(str(message))


class Refused(Exception):
    """The entry cannot be run as it is; the text is the reason."""


def _names(targets):
    for target in targets:
        if isinstance(target, ast.Name):
            yield target.id
        elif isinstance(target, (ast.Tuple, ast.List)):
            for name in _names(target.elts):
                yield name


def defined_names(statements):
    """Return the names that a module's top level binds, inside ``if``, ``try`` and ``with`` too."""
    found = set()
    for node in statements:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            found.add(node.name)
        elif isinstance(node, ast.Assign):
            found.update(_names(node.targets))
        elif isinstance(node, ast.AnnAssign):
            found.update(_names([node.target]))
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            found.update((alias.asname or alias.name).split(".")[0] for alias in node.names)
        if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            for part in ("body", "orelse", "finalbody"):
                found |= defined_names(getattr(node, part, None) or [])
            for handler in getattr(node, "handlers", ()):
                found |= defined_names(handler.body)
    return found


def handler_name(path, wanted):
    """Return the name of the handler function that the entry defines, or empty for a plain script."""
    if wanted:
        return wanted
    with open(path, "rb") as source:
        defined = defined_names(ast.parse(source.read(), path).body)
    for name in ("handler", "lambda_handler"):
        if name in defined:
            return name
    return ""


def _encode(value):
    if isinstance(value, decimal.Decimal):
        return float(value)
    raise TypeError("Object of type %s is not JSON serializable" % type(value).__name__)


def call(function, event):
    """Invoke the handler once and return its response as JSON text, encoded as Lambda's runtime does."""
    name, payload, overrides = event
    value = function(payload, Context(os.environ["AWS_LAMBDA_FUNCTION_NAME"], overrides))
    try:
        return json.dumps(value, default=_encode, ensure_ascii=False)
    except (TypeError, ValueError) as exc:
        raise Refused(
            "the handler's response to %r can not be sent by Lambda: %s. Return plain dicts, lists, text, numbers; "
            "for instance float(x) for a NumPy or torch number" % (name, exc)
        )


def run_handler(settings, name, outcome, study):
    """Import the entry as Lambda does and call its handler with every event."""
    # Child processes that import the parent's main module would run this file; Lambda's has no use for them either.
    sys.modules["__main__"] = types.ModuleType("__main__")
    outcome["phase"] = "import"
    begun = time.time()
    module = importlib.import_module(settings["module"])
    outcome["init_seconds"] = time.time() - begun
    snapshot = sys.modules.get("_layer_minimizer.snapshot")
    if snapshot is not None:
        snapshot.put_back()
    if study is not None:
        study.begin()
    function = getattr(module, name, None)
    if not callable(function):
        raise Refused("%s.py defines no function %r; name the handler with --handler" % (settings["module"], name))
    for event in settings["events"] or [["(no event)", {}, {}]]:
        outcome["phase"] = event[0]
        outcome["results"].append([event[0], call(function, event)])
        take_stock()


def run_script(settings, path, outcome, study):
    """Run the entry as ``python entry.py`` would."""
    if settings["events"]:
        raise Refused(
            "%s.py has no function named handler or lambda_handler, so it is run as a script, and a script is given "
            "no event: leave --event away, or name the function with --handler" % settings["module"]
        )
    outcome["phase"] = "script"
    main = types.ModuleType("__main__")
    main.__file__ = path
    main.__builtins__ = __builtins__
    sys.modules["__main__"] = main
    sys.argv[:] = [path]
    with open(path, "rb") as source:
        code = compile(source.read(), path, "exec")
    if study is not None:
        study.begin()
    exec(code, main.__dict__)


def take_stock():
    """Make the probe, where one runs, record what is loaded now."""
    probe = sys.modules.get("_layer_minimizer_probe")
    if probe is not None:
        probe.snapshot()


def user_traceback(exc):
    """Return the exception's traceback without the frames of this folder and of the import machinery."""
    own = (os.path.join(os.path.dirname(os.path.abspath(__file__)), ""), importlib.__file__, "<frozen importlib")
    whole = traceback.TracebackException(type(exc), exc, exc.__traceback__)
    left = [whole]
    while left:
        each = left.pop()
        each.stack[:] = [frame for frame in each.stack if not frame.filename.startswith(own)]
        left += [other for other in (each.__cause__, each.__context__) if other is not None]
    return "".join(whole.format())


def write_result(path, outcome):
    """Write the outcome as a whole or not at all: on a full disk the file is missing."""
    try:
        with open(path + ".part", "w") as out:
            json.dump(outcome, out)
        os.rename(path + ".part", path)
    except OSError as exc:
        os.write(2, ("cannot write the result: %s\n" % exc).encode("utf-8", "backslashreplace"))


def peak_memory():
    """Return the peak resident set of this program in KiB; 0 if it is unknown.

    Not getrusage: its value is never less than what the process that started this one had in memory.
    """
    try:
        with open("/proc/self/status") as status:
            return next((int(line.split()[1]) for line in status if line.startswith("VmHWM:")), 0)
    except (OSError, ValueError):
        return 0


def direct_output(name, file):
    """Redirect a script's standard output, which is its result, into a file; a handler's goes to standard error."""
    sys.stdout.flush()
    target = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600) if not name else os.dup(2)
    os.dup2(target, 1)
    os.close(target)
    if name and hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(line_buffering=True)  # both streams are one, and may be watched


def begin_watching(settings):
    """Return the observer of the modules in this run, if requested, and the one that times imports."""
    study = times = None
    if settings["study"]:
        load_stand_in_parts("standin_state")
        describe = load_probe_file("tables").describe
        signatures = None if settings["brief"] else load_probe_file("signatures")
        study = load_probe_file("study").Study(describe, signatures, settings["sites"], settings["standard"])
        # After the probe, which must be the first.
        sys.meta_path.insert(1 if "_layer_minimizer_probe" in sys.modules else 0, study)
    if settings["timed"]:
        times = load_probe_file("import_times").ImportTimes()
        sys.meta_path.insert(0, times)
    return study, times


def end_watching(settings, study, times):
    """Write the observations."""
    if study is not None:
        study.end(settings["study"])
    if times is not None:
        times.write(settings["timed"])


def run_entry(settings, path, outcome, study):
    """Run the entry as handler or script; an exception becomes part of the outcome."""
    try:
        name = handler_name(path, settings["handler"])
        outcome["kind"] = "handler" if name else "script"
        direct_output(name, settings["stdout"])
        if name:
            run_handler(settings, name, outcome, study)
        else:
            run_script(settings, path, outcome, study)
    except Refused as exc:
        outcome["refused"] = str(exc)
    except SystemExit as exc:
        if outcome["kind"] == "handler" or exc.code not in (None, 0):
            outcome["error"] = user_traceback(exc)
    except KeyboardInterrupt:
        raise
    except BaseException as exc:
        outcome["error"] = user_traceback(exc)
        outcome["missing"] = getattr(exc, "name", None) if isinstance(exc, ImportError) else None


def check_stand_ins(settings):
    """Load the modules of all stand-ins, and report the results; see standins.py."""
    os.dup2(2, 1)  # what modules print now is no part of a script's output
    with open(settings["check"]) as names:
        namespaces = json.load(names)
    room, namespace = settings["room"], load_probe_file("study").namespace
    registries = identities = state = places = None
    if room is not None:
        runtime = load_stand_in_parts("standin_state")
        registries = load_probe_file("registries").Registries
        identities = load_probe_file("identities").Identities(runtime)
        state = load_probe_file("process_state")
        places = functools.partial(load_probe_file("places").Places, placeholder=runtime.Placeholder)
    sys.modules["_layer_minimizer_standins"].check(namespaces, namespace, registries, identities, room, state, places)


def main():
    with open(sys.argv[1], "rb") as source:
        settings = json.loads(source.read().decode("utf-8"))
    front = settings["front"]
    sys.path[:] = [settings["root"]] + front + [entry for entry in sys.path if entry not in front]
    path = os.path.join(settings["root"], settings["module"] + ".py")
    outcome = {"kind": "", "phase": "parse", "results": [], "error": "", "refused": ""}
    study, times = begin_watching(settings)
    begun = time.time()
    run_entry(settings, path, outcome, study)
    sys.stdout.flush()
    sys.stderr.flush()
    outcome["seconds"] = time.time() - begun
    outcome["peak_kib"] = peak_memory()
    take_stock()
    end_watching(settings, study, times)
    if settings["check"]:
        check_stand_ins(settings)
    write_result(settings["result"], outcome)
    code = 1 if outcome["error"] or outcome["refused"] else 0
    if outcome["kind"] == "handler":
        end_with_threads(code)
    return code


def end_with_threads(code):
    """End this process in a moment, even if a thread of the handler never ends: Lambda stops it where it is."""
    threading = sys.modules.get("threading")
    if threading is None or len(threading.enumerate()) == 1:
        return
    import atexit

    def end():
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)

    watch = threading.Timer(_GRACE_SECONDS, end)
    watch.daemon = True
    watch.start()


if __name__ == "__main__":
    sys.exit(main())
