"""Makes many predictions of random images in eight threads, and measures the memory.

usage: python soak.py FOLDER_OF_PACKAGES MODEL COUNT. The model is an exported learner. Prints JSON: a digest of all
results in order, and the memory of the process after a tenth of them (warm) and at the end.
"""

import hashlib
import json
import os
import sys
import threading
from pathlib import Path

sys.path.insert(0, sys.argv[1])
sys.path.append(str(Path(__file__).parents[3] / "examples/fastai_vision"))

import torch
import torchvision_shim  # noqa: F401 - before fastai imports torchvision

# isort: split
from fastai.vision.all import load_learner

THREADS = 8
MODES = ("nearest", "bilinear", "bicubic", "area")  # in this order: later ones use further code
LOG = os.environ.get("LAYER_MINIMIZER_LOG", "")


def memory() -> dict[str, int]:
    """Return resident and anonymous memory in bytes, and the number of restored chunks."""
    with open("/proc/self/smaps_rollup", encoding="utf-8") as rollup:
        kilobytes = {row[0]: int(row[1]) for line in rollup if (row := line.split())[0] in ("Rss:", "Anonymous:")}
    chunks = 0
    if LOG and os.path.exists(LOG):
        with open(LOG, encoding="utf-8") as log:
            chunks = sum(line.startswith("restored pages ") for line in log)
    return {"rss": kilobytes["Rss:"] * 1024, "anonymous": kilobytes["Anonymous:"] * 1024, "chunks": chunks}


def predict(model: torch.nn.Module, number: int, mode: str) -> bytes:
    dice = torch.Generator().manual_seed(number)
    side = 24 + 4 * (number % 5)
    with torch.inference_mode():
        image = torch.randn(1, 3, 20, 20, generator=dice)
        image = torch.nn.functional.interpolate(image, (side, side), mode=mode)
        return bytes(model(image).softmax(1).numpy().tobytes())


def main() -> None:
    torch.set_num_threads(1)
    model, count = load_learner(sys.argv[2]).model.eval(), int(sys.argv[3])
    results = [b""] * count

    def work(numbers: range) -> None:
        for number in numbers:
            results[number] = predict(model, number, MODES[number * len(MODES) // count])

    def all_of(first: int, stop: int) -> dict[str, int]:
        threads = [threading.Thread(target=work, args=(range(first + i, stop, THREADS),)) for i in range(THREADS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return memory()

    warm, end = all_of(0, count // 10), all_of(count // 10, count)
    found = hashlib.sha256(b"".join(results)).hexdigest()
    different = len(set(results))
    json.dump({"digest": found, "different": different, "warm": warm, "end": end}, sys.stdout)


main()
