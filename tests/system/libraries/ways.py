"""Runs a table of operations in sequence, in threads or in child processes, and prints a line per operation.

A line has the result or the error. Programs run it on the original packages and on a layer; the lines must be equal.
"""

import os
import random
import sys
import threading
from collections.abc import Callable, Iterable, Mapping
from typing import Any

THREADS = 16
PROCESSES = 6

Operations = Mapping[str, Callable[[], Any]]
Digest = Callable[[Any], str]


def line(operations: Operations, digest: Digest, name: str) -> str:
    try:
        result = digest(operations[name]())
    except Exception as error:  # noqa: BLE001 - errors are results, too
        result = f"{type(error).__name__}: {next(iter(str(error).strip().splitlines()), '')[:80]}"
    return f"{name}: {result}\n"


def at_once(operations: Operations, digest: Digest, turn: int) -> Iterable[str]:
    """Run sixteen operations at the same time in threads; ``turn`` selects them."""
    names = random.Random(1).sample(list(operations), len(operations))
    mine = [names[(turn * THREADS + i) % len(names)] for i in range(THREADS)]
    found: dict[str, str] = {}
    start = threading.Barrier(THREADS)

    def work(name: str) -> None:
        start.wait()
        found[name] = line(operations, digest, name)

    sys.setswitchinterval(1e-5)
    threads = [threading.Thread(target=work, args=(name,)) for name in mine]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [found[name] for name in operations if name in found]


def among_children(operations: Operations, digest: Digest) -> Iterable[str]:
    """Run a third of the operations in each of six processes, so that two processes use the same pages."""
    children = []
    for k in range(1, PROCESSES):
        read, write = os.pipe()
        child = os.fork()
        if child == 0:
            os.write(write, share(operations, digest, k).encode())
            os._exit(0)
        os.close(write)
        children.append((child, read))
    texts = [share(operations, digest, 0)]
    for child, read in children:
        with open(read, encoding="utf-8") as source:
            texts.append(source.read())
        status = os.waitpid(child, 0)[1]
        if status:
            texts.append(f"a child ended with status {status}\n")
    return texts


def share(operations: Operations, digest: Digest, k: int) -> str:
    names = list(operations)[k % (PROCESSES // 2) :: PROCESSES // 2]
    return "".join(line(operations, digest, name) for name in names)


def go(operations: Operations, digest: Digest) -> None:
    """Run the operations as the command line says: ``alone``, ``threads TURN`` or ``children``."""
    way, *turn = sys.argv[2:]
    if way == "threads":
        sys.stdout.writelines(at_once(operations, digest, int(turn[0])))
    elif way == "children":
        sys.stdout.writelines(among_children(operations, digest))
    else:
        for name in operations:
            sys.stdout.write(line(operations, digest, name))
            sys.stdout.flush()  # in case the process ends early
