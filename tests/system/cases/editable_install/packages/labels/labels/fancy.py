"""Labels with a frame."""

from labels import label


def framed(zone, price):
    text = label(zone, price)
    return "\n".join(["+" * (len(text) + 2), f"+{text}+", "+" * (len(text) + 2)])
