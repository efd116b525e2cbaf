"""Train the example's model on drawn shapes: python train.py WORK_FOLDER.

Writes into the folder: shapes/ (the training images), export.pkl (the model), circle.png and square.png (images that
the model has not seen), event_image.json and event_path.json (one event of either kind that the handler takes).
"""

import base64
import io
import json
import random
import sys
from pathlib import Path

import torchvision_shim  # noqa: F401 (comes first: fastai imports torchvision)

# isort: split
from fastai.vision.all import ImageDataLoaders, PILImage, accuracy, resnet18, set_seed, vision_learner
from PIL import Image, ImageDraw

KINDS = ("circle", "square")
SIDE = 64
PER_KIND = 300
EPOCHS = 5
LEARNING_RATE = 5e-3
HELD_OUT_PER_KIND = 50
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
            draw(kind, rng).save(folder / f"{number:03}.png")


def train(root):
    """Train a small network from nothing, nothing is downloaded."""
    set_seed(1, reproducible=True)
    loaders = ImageDataLoaders.from_folder(root, valid_pct=0.2, seed=1, bs=16, num_workers=0)
    learn = vision_learner(loaders, resnet18, pretrained=False, metrics=accuracy)
    with learn.no_bar():
        learn.fit_one_cycle(EPOCHS, LEARNING_RATE)
    return learn


def held_out_accuracy(learn, rng):
    """Share of freshly drawn images that the model names rightly."""
    kinds = [kind for kind in KINDS for _ in range(HELD_OUT_PER_KIND)]
    loader = learn.dls.test_dl([PILImage.create(draw(kind, rng)) for kind in kinds], num_workers=0)
    with learn.no_bar():
        probabilities, _ = learn.get_preds(dl=loader)
    named = [learn.dls.vocab[index] for index in probabilities.argmax(dim=1).tolist()]
    return sum(name == kind for name, kind in zip(named, kinds, strict=True)) / len(kinds)


def write_events(work, rng):
    """Write one event with the image in it and one that names an image beside the handler."""
    images = {kind: draw(kind, rng) for kind in KINDS}
    for kind, image in images.items():
        image.save(work / f"{kind}.png")
    png = io.BytesIO()
    images["circle"].save(png, "PNG")
    events = {"event_image": {"image": base64.b64encode(png.getvalue()).decode()}, "event_path": {"path": "square.png"}}
    for name, event in events.items():
        (work / f"{name}.json").write_text(json.dumps(event) + "\n")


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
    write_events(work, rng)
    learn.export(work / "export.pkl")


if __name__ == "__main__":
    main()
