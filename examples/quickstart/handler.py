"""Make a thumbnail: {"image": BASE64, "side": PIXELS} gives its size, its format and the PNG itself."""

import base64
import io

from PIL import Image


def handler(event, context):  # noqa: ARG001 (Lambda passes it)
    side = event.get("side", 32)
    with Image.open(io.BytesIO(base64.b64decode(event["image"]))) as image:
        source_format = image.format
        thumbnail = image.convert("RGB")
    thumbnail.thumbnail((side, side))
    png = io.BytesIO()
    thumbnail.save(png, "PNG")
    return {
        "source_format": source_format,
        "format": "PNG",
        "size": list(thumbnail.size),
        "thumbnail": base64.b64encode(png.getvalue()).decode(),
    }
