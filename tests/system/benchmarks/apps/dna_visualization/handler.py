"""Turns DNA into the points of a line, as SeBS' dna-visualisation does."""

import random

from squiggle import transform


def handler(event, context):
    sequence = "".join(random.Random(event["seed"]).choices("ACGT", k=event["length"]))
    xs, ys = transform(sequence, method=event["method"])
    return {"points": len(xs), "last": [float(xs[-1]), float(ys[-1])], "highest": float(max(ys))}
