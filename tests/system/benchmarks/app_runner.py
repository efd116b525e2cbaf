"""Imports a handler, calls it with the first event, and prints as JSON what both have taken. Run by starts.py.

usage: START=MONOTONIC_SECONDS app_runner.py FOLDER EVENTS

The results of all events are printed, too: "ok" or the type of the error, and a text.

Processor seconds are those of all threads and of children that have ended. They are read here, since wait4 would add
the end of the process. So is memory (VmHWM): wait4's maximum includes the process before it became an interpreter.
"""

import os
import sys
import time

begun = float(os.environ.pop("START"))
sys.path.insert(0, sys.argv[1])
from handler import handler

marks = [(time.monotonic(), time.process_time())]
# What only this program needs is imported here, and the time between the first two marks is left out.
import json
import resource


def of_children():
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def answer(event):
    try:
        return "ok", handler(event, None)
    except Exception as error:
        return type(error).__name__, str(error)


def text(kind, result):
    return [kind, json.dumps(result, sort_keys=True, default=repr) if kind == "ok" else result]


children = [of_children()]
with open(sys.argv[2]) as source:
    events = json.load(source)
marks.append((time.monotonic(), time.process_time()))
first = answer(events[0])
marks.append((time.monotonic(), time.process_time()))
children.append(of_children())
with open("/proc/self/status") as status:
    peak = next(int(line.split()[1]) for line in status if line.startswith("VmHWM:"))
wall, cpu = marks[0][0] - begun, marks[0][1] + children[0]
measured = {
    "import wall": wall,
    "import cpu": cpu,
    "first wall": wall + marks[2][0] - marks[1][0],
    "first cpu": cpu + marks[2][1] - marks[1][1] + children[1] - children[0],
    "rss": peak / 1024,
}
results = [text(*first), *(text(*answer(event)) for event in events[1:])]
sys.__stdout__.write("\n" + json.dumps([measured, results]) + "\n")
sys.__stdout__.flush()
os._exit(0)  # the end of the process is not part of its start
