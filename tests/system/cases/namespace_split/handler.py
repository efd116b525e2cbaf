"""Fares: a namespace package whose halves come from two distributions."""

import acme
from acme.money import fare


def handler(event, context):
    if event.get("ask") == "parse":
        from acme.units.parse import parse

        return parse(event["text"], "m")
    if event.get("ask") == "words":
        from acme.money.words import in_words

        return in_words(event["language"], fare(event["value"], event["unit"]))
    if event.get("ask") == "namespace":
        return [getattr(acme, "__file__", None), sorted(vars(acme).keys() & {"money", "units"})]
    return fare(event["value"], event["unit"])
