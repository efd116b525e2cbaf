"""Classify an image with a fastai v2 model: the Lambda handler that the layer is made for."""

import base64
import io
import os
from pathlib import Path

import torchvision_shim  # noqa: F401 (comes first: fastai imports torchvision)

# isort: split
from fastai.vision.all import PILImage, load_learner

TASK_ROOT = Path(__file__).resolve().parent
MODEL = Path(os.environ.get("MODEL_PATH") or TASK_ROOT / "export.pkl")

learn = load_learner(MODEL)  # once per process, not once per event


def read_image(event):
    """Return the image that the event holds or names; a path is relative to this file's folder."""
    given = [key for key in ("image", "path") if isinstance(event, dict) and isinstance(event.get(key), str)]
    if len(given) != 1:
        raise ValueError('the event must be {"image": BASE64} or {"path": PATH}')
    key = given[0]
    if key == "path":
        source = TASK_ROOT / event["path"]
        if not source.is_file():
            raise ValueError(f'"path" names no file: {event["path"]}')
    else:
        try:
            source = io.BytesIO(base64.b64decode(event["image"], validate=True))
        except ValueError as error:
            raise ValueError(f'"image" is not base64: {error}') from error
    try:
        return PILImage.create(source)
    except OSError as error:  # Pillow's UnidentifiedImageError is one
        raise ValueError(f'"{key}" is not an image that can be read') from error


def handler(event, context):  # noqa: ARG001 (Lambda passes it)
    image = read_image(event)
    with learn.no_bar():
        label, _, probabilities = learn.predict(image)
    return {"label": label, "probabilities": dict(zip(learn.dls.vocab, probabilities.tolist(), strict=True))}
