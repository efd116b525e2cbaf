"""Classifies images with a network that torch.jit.script has compiled: torchvision, which defined it, is not needed."""

import base64
import io
import os

import torch
from PIL import Image

torch.set_num_threads(1)
MODEL = torch.jit.load(os.path.join(os.path.dirname(os.path.abspath(__file__)), "resnet18.pt"))


def _image(event):
    if "png" in event:
        return Image.open(io.BytesIO(base64.b64decode(event["png"], validate=True)))
    return Image.new(event.get("mode", "RGB"), tuple(event["size"]), event["colour"])


def _batch(event):
    image = _image(event).convert("RGB").resize((64, 64), Image.Resampling.BILINEAR)
    pixels = torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8).reshape(1, 64, 64, 3)
    return pixels.permute(0, 3, 1, 2).float() / 255


def handler(event, context):
    batch = _batch(event)
    if event.get("ask") == "gradient":
        batch.requires_grad_()
        MODEL(batch)[0].max().backward()
        return round(float(batch.grad.abs().sum()), 3)
    with torch.inference_mode():
        if event.get("flip"):
            batch = torch.cat(
                [batch, batch.flip(3), torch.nn.functional.interpolate(batch, scale_factor=0.5).repeat(1, 1, 2, 2)]
            )
        if event.get("ask") == "code":
            return len(MODEL.layer1.code.splitlines())
        if event.get("ask") == "top":
            values, found = MODEL(batch).softmax(1).topk(3)
            return [found.tolist(), [[round(value, 4) for value in row] for row in values.tolist()]]
        return [round(value, 4) for value in MODEL(batch).mean(0).tolist()]
