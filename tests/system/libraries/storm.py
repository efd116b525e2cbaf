"""Reads cold pages of real libraries in sixteen threads at the same time, and in child processes forked meanwhile.

usage: python storm.py FOLDER_OF_PACKAGES FOLDER_OF_ORIGINALS PAGES SEED. PAGES is a JSON file with rows: library,
address of the page in it, offset in the original file, size. Each thread and each child reads all pages in its own
order, and compares them with the original. Prints the result as JSON.
"""

import ctypes
import json
import os
import random
import sys
import threading
from pathlib import Path

sys.path.insert(0, sys.argv[1])
sys.path.append(str(Path(__file__).parents[3] / "examples/fastai_vision"))

import torchvision_shim  # noqa: F401 - before fastai imports torchvision

# isort: split
import fastai.vision.all  # noqa: F401 - loads and uses the libraries

THREADS = 16
CHILDREN = 4
# Unlike ctypes.string_at, a foreign function releases the GIL.
copy = ctypes.CDLL(None).memcpy
copy.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t]
Page = tuple[str, int, bytes]


def placed(packages: Path, originals: Path, rows: list[tuple[str, int, int, int]]) -> list[Page]:
    """Return the pages with their names, addresses in this process, and original bytes."""
    pages = []
    loaded: dict[str, ctypes.CDLL] = {}
    for library, address, offset, size in rows:
        if library not in loaded:
            loaded[library] = ctypes.CDLL(str(packages / library))
        # The handle of dlopen points to the link_map, whose first field is the base address.
        base = ctypes.c_size_t.from_address(loaded[library]._handle).value
        with (originals / library).open("rb") as source:
            source.seek(offset)
            pages.append((f"{library} {address:#x}", base + address, source.read(size)))
    return pages


def without_rights(pages: list[Page]) -> int:
    """Return the number of pages that are not readable yet."""
    closed = []
    with open("/proc/self/maps", encoding="utf-8") as maps:
        for line in maps:
            bounds, rights = line.split()[:2]
            if rights == "---p":
                closed.append([int(bound, 16) for bound in bounds.split("-")])
    return sum(any(start <= address < stop for start, stop in closed) for _, address, _ in pages)


def wrong_pages(pages: list[Page], dice: random.Random) -> list[str]:
    room = ctypes.create_string_buffer(4096)
    wrong = []
    for name, address, expected in dice.sample(pages, len(pages)):
        copy(room, address, len(expected))
        if room.raw[: len(expected)] != expected:
            wrong.append(name)
    return wrong


def main() -> None:
    packages, originals, listed = map(Path, sys.argv[1:4])
    seed = int(sys.argv[4])
    pages = placed(packages, originals, json.loads(listed.read_text()))
    missing = without_rights(pages)
    start = threading.Barrier(THREADS + 1)
    wrong: list[str] = []

    def work(number: int) -> None:
        dice = random.Random(f"{seed} {number}")
        start.wait()
        wrong.extend(wrong_pages(pages, dice))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(THREADS)]
    for thread in threads:
        thread.start()
    children = []
    start.wait()
    for number in range(CHILDREN):  # while the threads run
        child = os.fork()
        if child == 0:
            os._exit(len(wrong_pages(pages, random.Random(f"{seed} child {number}"))) > 0)
        children.append(child)
    for thread in threads:
        thread.join()
    statuses = [os.waitpid(child, 0)[1] for child in children]
    json.dump({"missing": missing, "still": without_rights(pages), "wrong": wrong, "children": statuses}, sys.stdout)


main()
