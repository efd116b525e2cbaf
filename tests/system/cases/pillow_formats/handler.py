"""Makes thumbnails and saves them in the format that is asked for."""

import io

from PIL import Image


def handler(event, context):
    image = Image.new("RGB", (40, 30), event.get("colour", "navy"))
    file = io.BytesIO()
    image.save(file, event["format"])
    back = Image.open(io.BytesIO(file.getvalue()))
    back.load()
    small = back.convert("RGB").resize((8, 6))
    return {"format": back.format, "size": small.size, "pixel": small.getpixel((3, 3))}
