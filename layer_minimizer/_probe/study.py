"""Notes whose code runs while events are handled, and what every module consists of.

From that the tool guesses which modules do nothing for a result; see ../search.py. Runs inside the traced interpreter:
CPython 3.6 and later, the standard library alone.
"""

import json
import sys
import threading


class Study(object):
    """What one run shows of modules. ``describe(module)`` gives a module's table, ``sites`` are folders."""

    def __init__(self, describe, sites):
        self._describe = describe
        self._sites = tuple(site.rstrip("/") + "/" for site in sites)
        self._tables = {}
        self._ran = set()
        self._watching = False

    def begin(self):
        """Start to note whose code runs. What ran before was the import of the entry."""
        self.look()
        self._watching = True
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
            self._ran.add(code.co_filename)
            return monitoring.DISABLE  # once for each piece of code: after that it costs nothing

        monitoring.register_callback(monitoring.OPTIMIZER_ID, monitoring.events.PY_START, started)
        monitoring.set_events(monitoring.OPTIMIZER_ID, monitoring.events.PY_START)

    def _called(self, frame, event, argument):
        if event == "call":
            self._ran.add(frame.f_code.co_filename)

    def look(self):
        """Describe the modules that are loaded now and were not before."""
        for name, module in list(sys.modules.items()):
            if name in self._tables or type(module) is not type(sys):
                continue
            file = module.__dict__.get("__file__")
            if isinstance(file, str) and file.startswith(self._sites):
                self._tables[name] = dict(self._describe(module), file=file)

    def end(self, path):
        """Stop, and write what was found as JSON: ``tables`` by module, ``ran``: the files whose code ran, or null."""
        if hasattr(sys, "monitoring") and self._watching:
            sys.monitoring.set_events(sys.monitoring.OPTIMIZER_ID, 0)
            sys.monitoring.free_tool_id(sys.monitoring.OPTIMIZER_ID)
        else:
            sys.setprofile(None)
            threading.setprofile(None)
        self.look()
        ran = sorted(self._ran) if self._watching else None
        with open(path, "w") as out:
            json.dump({"tables": self._tables, "ran": ran}, out)
