"""Prices of parcels, with packages that are installed in editable mode, in both ways that setuptools has for it."""

import labels
import tariffs


def handler(event, context):
    zone = tariffs.zone(event["zone"])
    price = zone["base"] + zone["per_kg"] * event["kg"]
    if "discount" in event:
        from tariffs.discount import reduced

        price = reduced(price, event["discount"])
    if event.get("fancy"):
        from labels.fancy import framed

        return framed(event["zone"], price)
    return labels.label(event["zone"], price)
