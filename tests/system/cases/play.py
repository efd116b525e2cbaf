"""Imports the handler of a case, calls it with each event, and writes the results.

usage: play.py FOLDER EVENTS RESULT

Runs in the environment of the case or on its layer, on CPython 3.6 and later.
"""

import importlib
import json
import os
import sys
import time
import warnings

folder, events, result = sys.argv[1:]
sys.path.insert(0, folder)
warnings.simplefilter("ignore")
handler = importlib.import_module("handler").handler
# From the start of the interpreter, since the runtime of a layer works before the first import.
seconds = time.time() - float(os.environ.pop("START"))
results = []
with open(events) as source:
    values = json.load(source)
for event in values:
    try:
        results.append(["ok", json.dumps(handler(event, None), sort_keys=True, default=repr)])
    except Exception as error:
        results.append([type(error).__name__, str(error)])
with open(result, "w") as target:
    json.dump({"import_seconds": seconds, "results": results}, target)
