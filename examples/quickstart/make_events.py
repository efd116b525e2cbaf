"""Write events.json: python make_events.py FILE. One event per image format that the handler is to take."""

import base64
import io
import json
import sys
from pathlib import Path

from PIL import Image, ImageDraw

FORMATS = ("PNG", "JPEG")


def draw():
    """Draw a disc on a gradient."""
    image = Image.merge("RGB", [Image.linear_gradient("L").resize((96, 64)).rotate(angle) for angle in (0, 180, 0)])
    ImageDraw.Draw(image).ellipse([30, 14, 66, 50], fill=(220, 60, 40))
    return image


def make_event(image_format):
    encoded = io.BytesIO()
    draw().save(encoded, image_format)
    return {"image": base64.b64encode(encoded.getvalue()).decode(), "side": 32}


tests = [{"name": image_format.lower(), "event": make_event(image_format)} for image_format in FORMATS]
Path(sys.argv[1]).write_text(json.dumps({"tests": tests}, indent=2) + "\n")
