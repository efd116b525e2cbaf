"""Labels for parcels; its project's folder holds more than packages, so that a finder of its own leads to it."""


def label(zone, price):
    return f"{zone.upper()} {price:.2f}"
