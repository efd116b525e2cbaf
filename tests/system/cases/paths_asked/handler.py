"""Asks an atlas, whose package looks whether its files are there before it opens one."""

import atlas


def handler(event, context):
    return getattr(atlas, event["ask"])(*event.get("of", []))
