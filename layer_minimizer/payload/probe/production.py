"""Records in a deployed function what its events use, and prints that into the function's log.

Lies in a layer, or in the handler's folder, as the package ``layer_minimizer_probe``, with ``probe.py``, what loads it,
and ``startup``; ``layer_minimizer_probe.handler`` takes the handler's place and calls the one that the variable
LAYER_MINIMIZER_HANDLER names. CPython 3.6 and later, the standard library alone.

What is new since the last event is printed once the handler has ended, since after that the process may be frozen or
gone: one or more lines ``layer_minimizer trace BASE64``, each with compressed JSON that can be read without the others:
"python", "soabi", "machine", "path" (sys.path), "task" (the function's folder), "handler", "installed" ([name, version]
rows) and "facts" (lines of ``probe.py``). Nothing of events or results is in it. In between the facts lie in /tmp.
"""

import base64
import importlib
import json
import os
import sys
import sysconfig
import tempfile
import zlib

from .layer_minimizer_loading import load_probe_file

# So many bytes of facts in a line: one that is lost takes little with it.
_BLOCK = 8192
_METADATA = (".dist-info", ".egg-info")


def _begin():
    """Start the probe in this process and in those that it will start, and return it and the file of its facts."""
    here = os.path.dirname(os.path.abspath(__file__))
    probe = load_probe_file("probe")
    handle, facts = tempfile.mkstemp(prefix="layer_minimizer-", suffix=".facts")
    os.close(handle)
    probe.start(facts, "s")
    entries = [os.path.join(here, "startup"), os.environ.get("PYTHONPATH", "")]
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, entries))
    os.environ["LAYER_MINIMIZER_PROBE"] = facts + ":s"
    return probe, facts


def _installed():
    """Return name and version of what is installed, by the names of metadata folders."""
    found = set()
    for folder in sys.path:
        try:
            names = os.listdir(folder)
        except OSError:
            continue
        for name in names:
            stem, kind = os.path.splitext(name)
            if kind in _METADATA and "-" in stem:
                found.add(tuple(stem.split("-")[:2]))
    return sorted(found)


class _Reporter(object):
    """Prints the facts that were not printed yet. Never raises, since it runs in production."""

    def __init__(self, probe, facts, handler):
        self.probe = probe
        self.facts = facts
        self.read = 0
        self.place = {
            "python": "%d.%d.%d" % sys.version_info[:3],
            "soabi": sysconfig.get_config_var("SOABI") or "",
            "machine": os.uname().machine,
            "path": sys.path,
            "task": os.environ.get("LAMBDA_TASK_ROOT") or os.getcwd(),
            "handler": handler,
        }

    def report(self):
        try:
            self.probe.snapshot()
            with open(self.facts, "rb") as source:
                source.seek(self.read)
                new = source.read()
            new = new[: new.rfind(b"\n") + 1]
            more = {} if self.read else {"installed": _installed()}
            self.read += len(new)
            lines = new.decode("ascii").splitlines(keepends=True)
            while lines:
                size = count = 0
                while count < len(lines) and size < _BLOCK:
                    size += len(lines[count])
                    count += 1
                self._print(dict(self.place, facts="".join(lines[:count]), **more))
                lines, more = lines[count:], {}
        except Exception as exc:
            sys.stderr.write("layer_minimizer cannot trace: %s: %s\n" % (type(exc).__name__, exc))

    def _print(self, facts):
        packed = base64.b64encode(zlib.compress(json.dumps(facts).encode("ascii"), 9)).decode("ascii")
        sys.stderr.write("layer_minimizer trace " + packed + "\n")
        sys.stderr.flush()


def _wrap(name):
    """Return the handler ``name``, and with it what it takes to load and to call it in the log."""
    os.environ["_HANDLER"] = name  # the runtime has already read it; the program may read its own name
    reporter = None
    try:
        reporter = _Reporter(*(_begin() + (name,)))
    except Exception as exc:
        sys.stderr.write("layer_minimizer cannot trace: %s: %s\n" % (type(exc).__name__, exc))
    module, _, function = name.rpartition(".")
    try:
        original = getattr(importlib.import_module(module.replace("/", ".")), function)
    finally:
        if reporter:
            reporter.report()
    if reporter is None:
        return original

    def handler(event, context):
        try:
            return original(event, context)
        finally:
            reporter.report()

    return handler


handler = _wrap(os.environ["LAYER_MINIMIZER_HANDLER"])
