"""Imports a case's handler, calls it for each event, and writes down what came of it.

Runs in the case's environment or on its layer, on any CPython from 3.6 on: play.py FOLDER EVENTS RESULT
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
# Since the interpreter was started: what a layer does before anything is imported counts, too.
seconds = time.time() - float(os.environ.pop("BEGUN"))
came = []
with open(events) as source:
    given = json.load(source)
for event in given:
    try:
        came.append(["ok", json.dumps(handler(event, None), sort_keys=True, default=repr)])
    except Exception as error:
        came.append([type(error).__name__, str(error)])
with open(result, "w") as target:
    json.dump({"import_seconds": seconds, "results": came}, target)
