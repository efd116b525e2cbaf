"""Imports a handler, calls it with the first event, and prints as JSON what both have taken. Run by starts.py.

usage: START=MONOTONIC_SECONDS app_runner.py FOLDER EVENTS

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


children = [of_children()]
with open(sys.argv[2]) as source:
    event = json.load(source)[0]
marks.append((time.monotonic(), time.process_time()))
result = handler(event, None)
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
sys.__stdout__.write("\n" + json.dumps([measured, json.dumps(result, sort_keys=True, default=repr)]) + "\n")
sys.__stdout__.flush()
os._exit(0)  # the end of the process is not part of its start
