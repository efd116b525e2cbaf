"""Train the example's model on drawn shapes: python train.py WORK_FOLDER (CPython 3.6).

Writes into the folder: shapes/ (the training images), export.pkl (the model) and shape.png (a circle that the model
has not seen).
"""

import io
import random
import sys
from pathlib import Path

import numpy as np
import torch
from fastai.vision import ImageDataBunch, accuracy, cnn_learner, models, open_image
from PIL import Image, ImageDraw

KINDS = ("circle", "square")
SIDE = 64
PER_KIND = 300
EPOCHS = 3
LEARNING_RATE = 5e-3
HELD_OUT_PER_KIND = 20
LEAST_ACCURACY = 0.95


def draw(kind, rng):
    """Draw one dark shape somewhere on a light ground."""
    image = Image.new("RGB", (SIDE, SIDE), tuple(rng.randrange(150, 256) for _ in range(3)))
    size = rng.randrange(24, 44)
    left, top = (rng.randrange(4, SIDE - size - 3) for _ in range(2))
    canvas = ImageDraw.Draw(image)
    shape = canvas.ellipse if kind == "circle" else canvas.rectangle
    shape([left, top, left + size, top + size], fill=tuple(rng.randrange(100) for _ in range(3)))
    return image


def draw_folder(root, rng):
    """Draw the training images, one folder per kind."""
    for kind in KINDS:
        folder = root / kind
        folder.mkdir(parents=True, exist_ok=True)
        for number in range(PER_KIND):
            draw(kind, rng).save(str(folder / f"{number:03}.png"))


def train(root):
    """Train a small network from nothing, nothing is downloaded."""
    random.seed(1)
    np.random.seed(1)  # noqa: NPY002 (what fastai v1 draws from)
    torch.manual_seed(1)
    data = ImageDataBunch.from_folder(root, valid_pct=0.2, seed=1, size=SIDE, bs=16, num_workers=0)
    learn = cnn_learner(data, models.resnet18, pretrained=False, metrics=accuracy)
    learn.fit_one_cycle(EPOCHS, LEARNING_RATE)
    return learn


def held_out_accuracy(learn, rng):
    """Share of freshly drawn images that the model names rightly."""
    correct = 0
    for kind in KINDS:
        for _ in range(HELD_OUT_PER_KIND):
            png = io.BytesIO()
            draw(kind, rng).save(png, "PNG")
            correct += str(learn.predict(open_image(png))[0]) == kind
    return correct / (HELD_OUT_PER_KIND * len(KINDS))


def main():
    work = Path(sys.argv[1]).resolve()
    work.mkdir(parents=True, exist_ok=True)
    rng = random.Random(1)
    draw_folder(work / "shapes", rng)
    learn = train(work / "shapes")
    correct = held_out_accuracy(learn, rng)
    print(f"accuracy on {HELD_OUT_PER_KIND * len(KINDS)} unseen shapes: {correct:.0%}")
    if correct < LEAST_ACCURACY:
        sys.exit(f"the model is not usable: fewer than {LEAST_ACCURACY:.0%} are right")
    draw("circle", rng).save(str(work / "shape.png"))
    learn.export(work / "export.pkl")


if __name__ == "__main__":
    main()
