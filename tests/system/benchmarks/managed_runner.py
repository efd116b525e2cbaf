"""Forks workers that import a handler and call it with the first event, and prints as JSON what all have taken.

usage: START=MONOTONIC_SECONDS managed_runner.py FOLDER EVENTS WORKERS. Run by managed_instances.py.

The workers are forked as by Lambda's runtime client (awslambdaric) on Managed Instances: before the handler's import.
"""

import json
import multiprocessing
import os
import resource
import sys
import time

SIZES = ("Rss", "Pss")


def work(folder, file, answers, end):
    """Import the handler and answer; then stay until all are measured."""
    sys.path.insert(0, folder)
    from handler import handler  # noqa: PLC0415 - in each worker

    with open(file) as source:
        event = json.load(source)[0]
    result = json.dumps(handler(event, None), sort_keys=True, default=repr)
    answers.put((time.monotonic(), result))
    end.wait()


def memory(process):
    """Return the kilobytes of a process: all, and its share of what several have."""
    with open(f"/proc/{process}/smaps_rollup") as lines:
        found = dict(line.split()[:2] for line in lines if line.endswith("kB\n"))
    return [int(found[name + ":"]) for name in SIZES]


def main():
    begun = float(os.environ.pop("START"))
    folder, file, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
    context = multiprocessing.get_context("fork")
    answers, end = context.SimpleQueue(), context.Event()
    workers = [context.Process(target=work, args=(folder, file, answers, end)) for _ in range(count)]
    for worker in workers:
        worker.start()
    given = [answers.get() for _ in workers]
    sizes = [memory(worker.pid) for worker in workers]
    end.set()
    for worker in workers:
        worker.join()
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    measured = {"wall": max(at for at, _ in given) - begun, "cpu": used.ru_utime + used.ru_stime + time.process_time()}
    measured.update(
        (name.lower(), sum(column) / 1024) for name, column in zip(SIZES, zip(*sizes, strict=True), strict=True)
    )
    results = sorted({result for _, result in given})
    sys.stdout.write("\n" + json.dumps([measured, results]) + "\n")


if __name__ == "__main__":
    main()
