"""Convert the log of a traced deployed function into a `Trace`.

``payload/probe/production.py`` runs in the function and prints facts to its log. Their paths are those of the Lambda
environment; here each is mapped to the path of the same file in the environment to be minimized.
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
from layer_minimizer.execution.probe_facts import parse_fact
from layer_minimizer.model.trace import Trace, TracedDistribution, TracedMetadata, TracedModule
from layer_minimizer.model.workload import Workload

if TYPE_CHECKING:
    from collections.abc import Iterator

    from layer_minimizer.model.interpreter import Interpreter

# The observer name in traces of deployed functions.
OBSERVER = "production"
_LINE = re.compile(r"\blayer_minimizer trace (?P<packed>[A-Za-z0-9+/]+=*)")
# Facts with a path in their second field, and facts with a name before the path.
_PATHS = ("open", "list", "stat", "library")
_NAMED = ("module", "startup", "loaded")
# The runtime's own packages. /var/lang is not listed: the author of an image may install packages there.
_RUNTIME_FOLDERS = ("/var/runtime", "/var/rapid")


@dataclass(frozen=True, slots=True)
class ProductionTrace:
    """The environment and facts of one traced function, as its log contains them.

    ``path``: the function's ``sys.path``; ``task``: its code folder; ``installed``: its distributions with versions;
    ``facts``: lines of facts that the probe printed.
    """

    python: str
    soabi: str
    machine: str
    path: tuple[str, ...]
    task: str
    handler: str
    installed: tuple[tuple[str, str], ...]
    facts: tuple[str, ...]

    def trace(self, interpreter: Interpreter, scratch: Path) -> Trace:
        """Convert this to a trace of the environment of ``interpreter``; the folder ``scratch`` must not exist."""
        module, _, function = self.handler.rpartition(".")
        root = scratch / "task"
        root.mkdir(parents=True)
        mapper = _PathMapper.of(self, interpreter, str(root))
        facts = read_facts(mapper.translate(self.facts), interpreter, root)
        # Foreign and unplaced paths are omitted: the same path on this machine may be an unrelated file.
        return Trace(
            python=self.python,
            observers=(OBSERVER,),
            kind="handler",
            modules=facts.modules(),
            files=traced_files(facts.uses),
            metadata=tuple(TracedMetadata(name, reader) for name, reader in sorted(facts.metadata.items())),
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
    """Maps paths of a deployed function to this environment.

    ``folders``: (deployed folder, local folder) pairs, the longest first.
    ``sites``: the local site-packages folders.
    ``soabi``: the SOABI of the function's interpreter, and that of the local one.
    ``entry``: module name of the handler.
    """

    folders: tuple[tuple[str, str], ...]
    sites: tuple[str, ...]
    soabi: tuple[str, str]
    entry: str

    @classmethod
    def of(cls, deployed: ProductionTrace, interpreter: Interpreter, root: str) -> _PathMapper:
        sites = [
            folder.rstrip("/")
            for folder in deployed.path
            if folder.startswith("/opt/") or folder.rstrip("/").endswith(("/site-packages", "/dist-packages"))
        ]
        folders = {folder: "" for folder in sites if not folder.startswith(_RUNTIME_FOLDERS)} | {deployed.task: root}
        longest = sorted(folders.items(), key=lambda pair: -len(pair[0]))
        return cls(
            folders=tuple(longest),
            sites=interpreter.site_dirs,
            soabi=(deployed.soabi, interpreter.soabi),
            entry=deployed.handler.rpartition(".")[0],
        )

    def translate(self, facts: tuple[str, ...]) -> Iterator[tuple[Any, ...]]:
        """Yield the facts with local paths; skip files that are neither in site-packages nor in the function."""
        for text in facts:
            for fact in parse_fact(text):
                at = 1 if fact[0] in _PATHS else 2
                if fact[0] not in (*_PATHS, *_NAMED):
                    yield fact
                elif local := self._local_path(fact[at]):
                    yield self._from_entry((*fact[:at], local, *fact[at + 1 :]))
                elif fact[0] == "module":
                    yield self._from_entry((*fact[:at], "", *fact[at + 1 :]))

    def _from_entry(self, fact: tuple[Any, ...]) -> tuple[Any, ...]:
        """Rename the entry module to ``__main__``, its name in local runs."""
        if fact[0] == "module" and fact[3] == self.entry:
            return (*fact[:3], "__main__", *fact[4:])
        return fact

    def _local_path(self, path: str) -> str:
        for deployed, local in self.folders:
            if path.startswith(f"{deployed}/"):
                relative = path[len(deployed) + 1 :]
                if all(self.soabi):
                    relative = relative.replace(*self.soabi)
                # Packages may also be in the function's own folder, next to the handler.
                known = [site for site in self.sites if Path(site, source_of(relative)).exists()]
                return f"{(known or [local or self.sites[0]])[0]}/{relative}"
        return ""


def read_production_log(text: str) -> list[ProductionTrace]:
    """Read the lines of traced functions from a log; return one value for each environment, ignore other lines."""
    environments: dict[str, dict[str, Any]] = {}
    facts: dict[str, dict[str, None]] = {}
    for found in _LINE.finditer(text):
        data = _unpack(found["packed"])
        if data is None:
            continue  # the line is truncated
        lines = dict.fromkeys(data.pop("facts").splitlines())
        installed = data.pop("installed", None)
        key = json.dumps(data, sort_keys=True)
        environments.setdefault(key, {**data, "installed": ()})
        if installed:
            environments[key]["installed"] = tuple((canonicalize_name(name), version) for name, version in installed)
        facts.setdefault(key, {}).update(lines)
    return [
        ProductionTrace(**{**environment, "path": tuple(environment["path"])}, facts=tuple(facts[key]))
        for key, environment in environments.items()
    ]


def _unpack(packed: str) -> dict[str, Any] | None:
    try:
        data = json.loads(zlib.decompress(base64.b64decode(packed, validate=True)))
    except (binascii.Error, zlib.error, ValueError):
        return None
    wanted = {"python", "soabi", "machine", "path", "task", "handler", "facts"}
    return data if isinstance(data, dict) and wanted <= data.keys() <= wanted | {"installed"} else None


def drop_unused_imports(trace: Trace, deployed: Trace) -> Trace:
    """Remove imports from a deployed function's trace that ``trace`` shows to be unused.

    A deployed function runs without stand-ins, so its trace contains unused imports, too. An import is unused if
    ``trace`` has a stand-in for the module, or if only modules with stand-ins import it.
    """
    unused = {module.name: module.path for module in trace.stand_ins if module.path}
    unused |= {module.name: module.path for module in trace.asleep}
    real = {module.name for module in trace.modules} - unused.keys()
    new = {module.name for module in deployed.modules if module.path} - unused.keys() - real
    tops = {_top(path) for path in unused.values()} - {_top(m.path) for m in _placed(trace, real)}
    tops -= {_top(m.path) for m in _placed(deployed, new)}
    paths = set(unused.values())
    return replace(
        deployed,
        modules=tuple(module for module in deployed.modules if module.name not in unused),
        files=tuple(file for file in deployed.files if file.path not in paths and _top(file.path) not in tops),
    )


def _placed(trace: Trace, names: set[str]) -> Iterator[TracedModule]:
    return (module for module in trace.modules if module.path and module.name in names)


def _top(path: str) -> str:
    """Return the top-level package of a file; wheels put its libraries into the neighbouring folder ``NAME.libs``."""
    return path.split("/", 1)[0].removesuffix(".libs")
