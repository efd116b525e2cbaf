"""Damages a layer, one file at a time, and reports how a program on it reacts.

    python tests/system/chaos/damage.py --layer layer.zip --python env/bin/python --task FOLDER --event events.json

Each of a number of random files is removed, truncated, and changed in one byte. After each damage the handler runs on
the layer alone, in a new process, with all events; then the file is restored. That contents are compared, which shows a
changed byte, has to be asked for (LAYER_MINIMIZER_CHECK=all). A table shows the outcomes. One in four
of the files is from a cold store or the layer's runtime, even if there are few of these.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import urllib.parse
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from layer_minimizer.environment.interpreter import describe_interpreter, make_virtual_environment, site_of
from layer_minimizer.layer import archive, layout

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

_RUNTIME = (
    "_layer_minimizer", "layer_minimizer.libs", "layer_minimizer.pth", "layer_minimizer.start",
    "layer_minimizer_start.py", "sitecustomize.py",
)  # fmt: skip
_SHARE_OF_RUNTIME = 0.25
# Prints all errors of a chain without their frames, which would name files by chance.
_RUN = """\
import importlib, json, sys, warnings
warnings.simplefilter("ignore")
sys.path.insert(0, sys.argv[1])

def chain(exc):
    text = []
    while exc is not None and len(text) < 20:
        text.append("%s: %s" % (type(exc).__name__, exc))
        exc = exc.__cause__ or exc.__context__
    return "\\n".join(text)

rows = []
try:
    handler = importlib.import_module("handler").handler
except BaseException as exc:
    rows.append(["error", chain(exc)])
else:
    with open(sys.argv[2], "rb") as file:
        events = json.loads(file.read().decode())
    for event in events:
        try:
            rows.append(["right", json.dumps(handler(event, None), sort_keys=True, default=repr)])
        except BaseException as exc:
            rows.append(["error", chain(exc)])
with open(sys.argv[3], "w") as out:
    json.dump(rows, out)
"""


_SUFFIX = r"(/__init__)?(\.cpython-[^/]*)?\.(pyc?|so[.\d]*|json)$"


class Kind(StrEnum):
    """The kind of damage to a file."""

    REMOVE = "remove"
    TRUNCATE = "truncate"
    FLIP = "flip"


class End(StrEnum):
    """The outcome of a run on a damaged layer; the first two are correct."""

    RIGHT = "right"
    NAMED = "named"
    UNNAMED = "unnamed"
    WRONG = "wrong"
    HANG = "hang"


@dataclass(frozen=True, slots=True)
class Damage:
    """A damaged file, relative to the layer; ``at`` is the changed byte, or the length after truncation."""

    path: str
    kind: Kind
    at: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """The outcome of a run after a damage, and its output."""

    damage: Damage
    end: End
    output: str


@dataclass(frozen=True, slots=True)
class Ran:
    """The results of a run: a row per event, or none if the process died; its standard error; whether it timed out."""

    rows: list[list[str]]
    output: str
    hung: bool = False


@dataclass(frozen=True, slots=True)
class Place:
    """An unpacked copy of the layer, and an environment that has nothing else."""

    folder: Path
    python: Path
    task: Path
    events: Path
    timeout: float

    @property
    def opt(self) -> Path:
        """The folder of the unpacked layer."""
        return self.folder / "opt"

    def run(self, *, contents: bool = False) -> Ran:
        """Run all events in a new process; ``contents``: the runtime compares the contents of all files."""
        temp = self.folder / "tmp"
        temp.mkdir()
        out = self.folder / "rows.json"
        out.unlink(missing_ok=True)
        keep = {name: os.environ[name] for name in ("PATH", "LANG", "LAYER_MINIMIZER_CHECK") if name in os.environ}
        keep |= {"LAYER_MINIMIZER_CHECK": "all"} if contents else {}
        command = [str(self.python), "-B", str(self.folder / "run.py"), str(self.task), str(self.events), str(out)]
        try:
            done = subprocess.run(
                command,
                env={**keep, "HOME": str(temp), "TMPDIR": str(temp), "OPENBLAS_NUM_THREADS": "1"},
                cwd=self.task,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=self.timeout,
                check=False,
            )
        except subprocess.TimeoutExpired as exc:
            return Ran([], (exc.stderr or b"").decode(errors="replace"), hung=True)
        finally:
            shutil.rmtree(temp)
        text = done.stderr.decode(errors="replace")
        if not out.exists():
            return Ran([], f"{text}\nexit code {done.returncode}")
        return Ran(json.loads(out.read_bytes()), text)


def make_place(folder: Path, layer: Path, python: str, task: Path, events: Path, timeout: float) -> Place:
    """Unpack a layer in ``folder``, and create an environment whose site-packages is the layer."""
    interpreter = describe_interpreter(python)
    archive.unzip(layer, folder / "opt")
    site = site_of(interpreter, folder / "env")
    program = make_virtual_environment(interpreter, folder / "env")
    site.symlink_to(folder / "opt" / layout.Layout.SITE.prefix(".".join(map(str, interpreter.version))))
    (folder / "run.py").write_text(_RUN)
    return Place(folder, program, task, events, timeout)


def draw(opt: Path, files: int, seed: int) -> list[Damage]:
    """Choose random files and their damages; the same seed gives the same choice."""
    chance = random.Random(seed)
    found = sorted(path for path in opt.rglob("*") if path.is_file() and not path.is_symlink() and path.stat().st_size)
    own = [path for path in found if any(part in _RUNTIME for part in path.parts)]
    others = sorted(set(found) - set(own))
    for pool in (own, others):
        chance.shuffle(pool)
    number = min(len(own), max(files - len(others), round(files * _SHARE_OF_RUNTIME)))
    chosen = [*own[:number], *others[: files - number]]
    while len(chosen) < files:
        chosen.append(chance.choice(found))  # once more, at another byte
    return [
        Damage(str(path.relative_to(opt)), kind, chance.randrange(path.stat().st_size))
        for path in chosen
        for kind in Kind
    ]


def run_damaged(place: Place, damage: Damage, sound: Ran) -> Outcome:
    """Damage a file, run, and restore the file."""
    target = place.opt / damage.path
    backup = place.folder / "backup"
    target.rename(backup)
    try:
        if damage.kind is not Kind.REMOVE:
            content = bytearray(backup.read_bytes())
            if damage.kind is Kind.TRUNCATE:
                del content[damage.at :]
            else:
                content[damage.at] ^= 1 << (damage.at % 8)
            target.write_bytes(content)
            target.chmod(backup.stat().st_mode & 0o777)
        ran = place.run(contents=damage.kind is Kind.FLIP)
    finally:
        backup.replace(target)
    end, output = classify(damage, ran, sound)
    return Outcome(damage, end, output)


def classify(damage: Damage, ran: Ran, sound: Ran) -> tuple[End, str]:
    """Return the outcome of a run, by comparison with a run on the undamaged layer, and its output."""
    if ran.hung:
        return End.HANG, ran.output
    if ran.rows == sound.rows:
        return End.RIGHT, ran.output
    if not ran.rows or (len(ran.rows) < len(sound.rows) and ran.rows[0][0] == "error"):
        text = "\n".join([ran.output, *(row[1] for row in ran.rows)])
        return (End.NAMED if names(text, damage.path) else End.UNNAMED), text
    output, ends = [], set()
    for row, right in zip(ran.rows, sound.rows, strict=True):
        if row != right:
            output.append(f"{row[1][:2000]} INSTEAD OF {right[1][:200]}")
            if row[0] == "right":
                ends.add(End.WRONG)
            else:
                ends.add(End.NAMED if names(f"{row[1]}\n{ran.output}", damage.path) else End.UNNAMED)
    worst = max(ends, key=list(End).index)
    return worst, "\n".join([ran.output, *output])


def names(text: str, path: str) -> bool:
    """Return whether a text names a file of a layer, its module, or the library or store that contains it."""
    inner = re.sub(r"^.*site-packages/", "", path)
    stem = re.sub(r"\.cold$", "", inner) if inner.endswith(".cold") else re.sub(_SUFFIX, "", inner)
    stem = stem.replace("/__pycache__/", "/")
    accepted = {inner, path.rpartition("/")[2], stem.replace("/", ".")}
    if inner.startswith("_layer_minimizer/cold/"):
        accepted.add(inner.rpartition("/")[0])
    if inner.startswith("layer_minimizer.libs/"):
        accepted.add(urllib.parse.unquote(stem.rpartition("/")[2]))
    return any(re.search(rf"(?<![\w.]){re.escape(name)}(?!\w)", text) for name in accepted - {"", "__init__.pyc"})


def run_all(places: Sequence[Place], damages: Iterable[Damage]) -> Iterator[Outcome]:
    """Yield the outcome of each damage, with one process per place. The undamaged layer is run twice first."""
    sound = places[0].run()
    again = places[-1].run()
    if not sound.rows or any(row[0] != "right" for row in sound.rows[:1]) or sound.rows != again.rows:
        raise SystemExit(f"the undamaged layer does not give the same results twice: {sound} {again}")
    free = list(places)

    def one(damage: Damage) -> Outcome:
        place = free.pop()
        try:
            return run_damaged(place, damage, sound)
        finally:
            free.append(place)

    with ThreadPoolExecutor(len(places)) as pool:
        yield from pool.map(one, damages)
    for place in places:
        if place.run().rows != sound.rows:
            raise SystemExit("the layer was not restored")


def table(outcomes: Iterable[Outcome]) -> dict[str, dict[str, int]]:
    """Count the outcomes by kind of damage."""
    counted = Counter((outcome.damage.kind, outcome.end) for outcome in outcomes)
    return {kind: {end: counted[kind, end] for end in End} for kind in Kind}


def _main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layer", type=Path, required=True)
    parser.add_argument("--python", required=True, help="the interpreter of the layer's environment")
    parser.add_argument("--task", type=Path, required=True, help="the folder of handler.py")
    parser.add_argument("--event", type=Path, action="append", required=True, help="a list of events; repeatable")
    parser.add_argument("--files", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--timeout", type=float, default=60.0)
    parser.add_argument("--log", type=Path, help="one line of JSON for each damage")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="layer_minimizer-chaos-") as scratch:
        events = Path(scratch) / "events.json"
        events.write_text(json.dumps([event for file in options.event for event in json.loads(file.read_bytes())]))
        place: tuple[Any, ...] = (options.layer, options.python, options.task.absolute(), events, options.timeout)
        places = [make_place(Path(scratch) / f"place{number}", *place) for number in range(options.jobs)]
        outcomes = list(run_all(places, draw(places[0].opt, options.files, options.seed)))
    if options.log:
        rows = [(o.damage.kind, o.damage.path, o.damage.at, o.end, o.output[-4000:]) for o in outcomes]
        options.log.write_text("".join(json.dumps(row) + "\n" for row in rows))
    counted = table(outcomes)
    sys.stdout.write(f"{'':10}" + "".join(f"{end:>9}" for end in End) + "\n")
    for kind, ends in counted.items():
        sys.stdout.write(f"{kind:10}" + "".join(f"{number:>9}" for number in ends.values()) + "\n")
    return 0 if all(row[end] == 0 for row in counted.values() for end in (End.UNNAMED, End.WRONG, End.HANG)) else 1


if __name__ == "__main__":
    sys.exit(_main())
