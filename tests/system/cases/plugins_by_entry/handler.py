"""Runs texts through the steps that an event names; each comes from a distribution of its own, as in spaCy."""

import textpipe


def handler(event, context):
    if event.get("ask") == "origins":
        return textpipe.origins()
    return textpipe.run(event["text"], event["steps"])
