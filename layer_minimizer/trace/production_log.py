"""Traces of deployed functions: the layer that takes them, and the function's log turned into a `Trace`.

What runs in the function is ``payload/probe/production.py``; it prints its facts into the log. Their paths are those of
another machine: here each becomes the path that the same file has in the environment to be minimized.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
import zlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from packaging.utils import canonicalize_name

from layer_minimizer.execution.facts import read_facts, source_of, traced_files
from layer_minimizer.execution.observed_run import parse_fact
from layer_minimizer.model.trace import Trace, TracedDistribution, TracedMetadata, TracedModule
from layer_minimizer.model.workload import Workload

if TYPE_CHECKING:
    from collections.abc import Iterator

    from layer_minimizer.model.interpreter import Interpreter

# The name of this kind of observer in a trace.
OBSERVER = "production"
_LINE = re.compile(r"\blayer_minimizer trace (?P<packed>[A-Za-z0-9+/]+=*)")
# Facts whose second field is a path, and those with a name before it.
_PATHS = ("open", "list", "stat", "library")
_NAMED = ("module", "startup", "loaded")
# The runtime's own client; in /var/lang packages may have been installed by the image's author.
_OF_THE_RUNTIME = ("/var/runtime", "/var/rapid")


@dataclass(frozen=True, slots=True)
class ProductionTrace:
    """What the log of one function tells: its interpreter, its sys.path and folder, and the facts of the probe."""

    python: str
    soabi: str
    machine: str
    path: tuple[str, ...]
    task: str
    handler: str
    installed: tuple[tuple[str, str], ...]
    facts: tuple[str, ...]

    def trace(self, interpreter: Interpreter, scratch: Path) -> Trace:
        """Return what this says as a trace of the environment of ``interpreter``; ``scratch`` must not exist."""
        module, _, function = self.handler.rpartition(".")
        root = scratch / "task"
        root.mkdir(parents=True)
        places = _PathMapper.of(self, interpreter, str(root))
        facts = read_facts(places.moved(self.facts), interpreter, root)
        # What other machines have at the same path by chance is no part of this one's trace.
        return Trace(
            python=self.python,
            observers=(OBSERVER,),
            kind="handler",
            modules=facts.modules(),
            files=traced_files(facts.uses),
            metadata=tuple(TracedMetadata(name, asker) for name, asker in sorted(facts.metadata.items())),
            foreign=(),
            unplaced=(),
            processes=facts.processes,
            results=(),
            seconds=0.0,
            workload=Workload(Path(self.task, f"{module}.py"), function),
            task=traced_files(facts.task),
            machine=self.machine,
            distributions=tuple(TracedDistribution(name, version) for name, version in self.installed),
        )


@dataclass(frozen=True, slots=True)
class _PathMapper:
    """Where the folders of a deployed function lie in this environment: (there, here) pairs, the longest first."""

    folders: tuple[tuple[str, str], ...]
    sites: tuple[str, ...]
    soabi: tuple[str, str]
    entry: str

    @classmethod
    def of(cls, seen: ProductionTrace, interpreter: Interpreter, root: str) -> _PathMapper:
        sites = [
            folder.rstrip("/")
            for folder in seen.path
            if folder.startswith("/opt/") or folder.rstrip("/").endswith(("/site-packages", "/dist-packages"))
        ]
        folders = {folder: "" for folder in sites if not folder.startswith(_OF_THE_RUNTIME)} | {seen.task: root}
        longest = sorted(folders.items(), key=lambda pair: -len(pair[0]))
        return cls(
            tuple(longest), interpreter.site_dirs, (seen.soabi, interpreter.soabi), seen.handler.rpartition(".")[0]
        )

    def moved(self, facts: tuple[str, ...]) -> Iterator[tuple[Any, ...]]:
        """Yield the facts as this machine's probe would have told them; files of neither place are left out."""
        for text in facts:
            for fact in parse_fact(text):
                at = 1 if fact[0] in _PATHS else 2
                if fact[0] not in (*_PATHS, *_NAMED):
                    yield fact
                elif here := self._here(fact[at]):
                    yield self._from_entry((*fact[:at], here, *fact[at + 1 :]))
                elif fact[0] == "module":
                    yield self._from_entry((*fact[:at], "", *fact[at + 1 :]))

    def _from_entry(self, fact: tuple[Any, ...]) -> tuple[Any, ...]:
        """Name the entry as it is named in a run of this tool's."""
        if fact[0] == "module" and fact[3] == self.entry:
            return (*fact[:3], "__main__", *fact[4:])
        return fact

    def _here(self, path: str) -> str:
        for there, here in self.folders:
            if path.startswith(f"{there}/"):
                relative = path[len(there) + 1 :].replace(*self.soabi) if all(self.soabi) else path[len(there) + 1 :]
                # Packages may also lie in the function's own folder, beside the handler.
                known = [site for site in self.sites if Path(site, source_of(relative)).exists()]
                return f"{(known or [here or self.sites[0]])[0]}/{relative}"
        return ""


def read_production_log(text: str) -> list[ProductionTrace]:
    """Find what functions have printed about themselves in a log, whatever else it says; one for each environment."""
    places: dict[str, dict[str, Any]] = {}
    facts: dict[str, dict[str, None]] = {}
    for found in _LINE.finditer(text):
        said = _unpack(found["packed"])
        if said is None:
            continue  # a line that was cut off; what it said is missing
        more = dict.fromkeys(said.pop("facts").splitlines())
        installed = said.pop("installed", None)
        key = json.dumps(said, sort_keys=True)
        places.setdefault(key, {**said, "installed": ()})
        if installed:
            places[key]["installed"] = tuple((canonicalize_name(name), version) for name, version in installed)
        facts.setdefault(key, {}).update(more)
    return [
        ProductionTrace(**{**place, "path": tuple(place["path"])}, facts=tuple(facts[key]))
        for key, place in places.items()
    ]


def _unpack(packed: str) -> dict[str, Any] | None:
    try:
        said = json.loads(zlib.decompress(base64.b64decode(packed, validate=True)))
    except (binascii.Error, zlib.error, ValueError):
        return None
    wanted = {"python", "soabi", "machine", "path", "task", "handler", "facts"}
    return said if isinstance(said, dict) and wanted <= said.keys() <= wanted | {"installed"} else None


def without_idle(trace: Trace, deployed: Trace) -> Trace:
    """Leave away of a deployed function's trace what it imported, and what another run knows to be of no use.

    A deployed function has no stand-ins: it imports all that is imported without use. Of a module that ``trace`` has
    stood in for, or that only such modules import, an import says nothing new.
    """
    idle = {module.name: module.path for module in trace.stand_ins}
    idle |= {module.name: module.path for module in trace.asleep}
    real = {module.name for module in trace.modules} - idle.keys()
    new = {module.name for module in deployed.modules if module.path} - idle.keys() - real
    tops = {_top(path) for path in idle.values()} - {_top(m.path) for m in _placed(trace, real)}
    tops -= {_top(m.path) for m in _placed(deployed, new)}
    paths = set(idle.values())
    return replace(
        deployed,
        modules=tuple(module for module in deployed.modules if module.name not in idle),
        files=tuple(file for file in deployed.files if file.path not in paths and _top(file.path) not in tops),
    )


def _placed(trace: Trace, names: set[str]) -> Iterator[TracedModule]:
    return (module for module in trace.modules if module.path and module.name in names)


def _top(path: str) -> str:
    """Return the package that a file belongs to; wheels put its libraries into a folder of their own beside it."""
    return path.split("/", 1)[0].removesuffix(".libs")
