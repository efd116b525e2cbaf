"""Runs texts through steps; what steps there are, installed distributions say."""

from importlib.metadata import entry_points


def _found():
    return {entry.name: entry for entry in entry_points(group="textpipe.steps")}


STEPS = _found()


def run(text, names):
    for name in names:
        if name not in STEPS:
            raise LookupError(f"no step {name}; installed are {', '.join(sorted(STEPS))}")
        text = STEPS[name].load()(text)
    return text


def origins():
    return {name: f"{entry.dist.name} {entry.dist.version}" for name, entry in sorted(STEPS.items())}
