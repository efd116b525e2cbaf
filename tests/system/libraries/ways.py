"""Ways to go through a table of operations, each of which prints a line an operation: its result, or its error.

For programs that run once on the original packages and once on those of a layer; the lines must be the same.
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
    """Let sixteen threads begin at the same moment, each with another operation. Enough turns take all of them."""
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
    """Let the process and its children each do a third at the same time, so that two of them touch the same pages."""
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
    """Go the way that the command line names: ``alone``, ``threads TURN`` or ``children``."""
    way, *turn = sys.argv[2:]
    if way == "threads":
        sys.stdout.writelines(at_once(operations, digest, int(turn[0])))
    elif way == "children":
        sys.stdout.writelines(among_children(operations, digest))
    else:
        for name in operations:
            sys.stdout.write(line(operations, digest, name))
            sys.stdout.flush()  # before a fork, and where the process ends early
