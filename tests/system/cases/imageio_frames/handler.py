"""Reads and writes animations; the plugin for each format is found by its entry."""

import imageio.v3 as iio
import numpy as np


def handler(event, context):
    frames = (np.arange(4 * 16 * 16 * 3) % 255).astype(np.uint8).reshape(4, 16, 16, 3)
    if event.get("single"):
        frames = frames[0]
    data = iio.imwrite("<bytes>", frames, extension=event["extension"], **event.get("options", {}))
    back = iio.imread(data, extension=event["extension"])
    found = {"shape": list(back.shape), "sum": int(back.sum())}
    if event.get("props"):
        found["props"] = list(iio.improps(data, extension=event["extension"]).shape)
    return found
