"""Programs that run with stand-ins, beside the same programs on the real modules."""

from __future__ import annotations

import json
import marshal
import os
import subprocess
import textwrap
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from layer_minimizer.execution.probe import copy_probe
from layer_minimizer.layer.cold_chunks import ColdFile
from tests.support.cold_layers import lay_out

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_DRIVER = Path(__file__).with_name("standin_driver.py")
_COMPILE = """
import json, os, py_compile, sys
for last in json.loads(sys.argv[1]):
    source = "from _layer_minimizer.stubs import stand_in\\n\\nstand_in(__name__, %r, 'tables')\\n" % last
    with open(last + ".py", "w") as out:
        out.write(source)
    py_compile.compile(last + ".py", last, last[:-1], doraise=True)
    os.remove(last + ".py")
"""


@dataclass
class Ended:
    """What a run printed, and which modules it stood in for and woke."""

    code: int
    out: str
    error: str
    reports: list[str] = field(default_factory=list)

    def of(self, kind: str) -> set[str]:
        return {line.split()[1] for line in self.reports if line.startswith(f"{kind} ")}

    @property
    def woke(self) -> set[str]:
        return self.of("woke")


@dataclass
class Modules:
    """Modules in a folder, and an interpreter that runs programs on them or on their stand-ins.

    ``way`` is "trial" (everything is installed, a finder gives stand-ins) or "layer" (stubs lie in a layer, the real
    modules in its cold store). ``real`` modules are cold, and never stood in for.
    """

    python: str
    site: Path
    scratch: Path
    way: str = "trial"
    kept: bool = True
    real: tuple[str, ...] = ()
    timeout: float = 60
    environment: Mapping[str, str] = field(default_factory=dict)
    tables: dict[str, dict[str, Any]] = field(default_factory=dict)

    def describe(
        self,
        names: Iterable[str],
        groups: Mapping[str, str] | None = None,
        program: str = "",
        environ: Mapping[str, list[str]] | None = None,
        **also: list[str],
    ) -> Modules:
        """Note the tables of these modules, of what they import, and of what a program does.

        A group is a top-level package by default. ``environ`` has the environment variables that modules set.
        """
        tables = json.loads(self._drive(self.site, describe=list(names), program=program))
        for name, table in tables.items():
            if name in self.real:
                continue
            known = {"group": (groups or {}).get(name, name.partition(".")[0]), "also": also.get(name, [])}
            variables = {"environ": environ[name]} if name in (environ or {}) else {}
            self.tables[name] = {**table, **known, **variables}
        if self.way == "layer":
            self._lay_out()
        return self

    def plain(self, program: str) -> Ended:
        return self._run(self.site, program)

    def stood_in(self, program: str) -> Ended:
        if self.way == "trial":
            return self._run(self.site, program, tables=self.tables)
        log = self.scratch / "log"
        log.unlink(missing_ok=True)
        ended = self._run(self.scratch / "layer", program, LAYER_MINIMIZER_LOG=str(log))
        ended.reports = log.read_text().splitlines() if log.exists() else []
        return ended

    def honest(self, program: str) -> set[str]:
        """Run a program on real modules and on stand-ins; give the modules that woke.

        Both must print the same, and something.
        """
        real, other = self.plain(program), self.stood_in(program)
        assert real.code == 0, real.error
        assert other.code == 0, other.error + "\n".join(other.reports)
        assert other.out == real.out != "", f"{other.out}instead of\n{real.out}{other.reports}"
        return other.woke

    # ---- processes --------------------------------------------------------------------------------------------

    def _drive(self, site: Path, **settings: Any) -> str:
        ended = self._start(site, settings, {})
        assert ended.returncode == 0, f"{ended.stderr}{ended.stdout}"
        return (self.scratch / "out.json").read_text()

    def _run(
        self, site: Path, program: str, tables: dict[str, dict[str, Any]] | None = None, **environment: str
    ) -> Ended:
        done = self._start(site, {"program": textwrap.dedent(program), "tables": tables}, environment)
        reports = json.loads((self.scratch / "out.json").read_text())
        return Ended(done.returncode, done.stdout, done.stderr, reports)

    def _start(
        self, site: Path, settings: dict[str, Any], environment: Mapping[str, str]
    ) -> subprocess.CompletedProcess[str]:
        self.scratch.mkdir(exist_ok=True)
        probe = self.scratch / "probe"
        if not probe.exists():
            copy_probe(self.scratch)
        files = {
            "probe": str(probe),
            "out": str(self.scratch / "out.json"),
            "site": str(site),
        }
        order = self.scratch / "order.json"
        order.write_text(json.dumps({"describe": None, "tables": None, "program": "", **files, **settings}))
        base = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "LAYER_MINI"))}
        return subprocess.run(
            [self.python, "-B", "-S" if site == self.site else "-B", str(_DRIVER), str(order)],
            check=False,
            capture_output=True,
            text=True,
            timeout=self.timeout,
            env={**base, "PYTHONPATH": str(site), **self.environment, **environment},
        )

    def _lay_out(self) -> None:
        """Make a layer whose modules are stubs, with the real ones in its cold store."""
        top = self.scratch / "layer"
        top.mkdir(parents=True)
        everything = [path for path in sorted(self.site.rglob("*")) if path.is_file()]
        cold, stubs = [], []
        for path in everything:
            relative = str(path.relative_to(self.site))
            last = f"{relative.partition('.')[0]}.pyc"
            name = last[: -len(".pyc")].replace("/", ".").replace(".__init__", "")
            if name in self.real:
                cold.append(ColdFile(relative, path))
            elif name in self.tables:
                cold.append(ColdFile(relative, path))
                (top / last).parent.mkdir(parents=True, exist_ok=True)
                stubs.append(str(top / last))
            else:
                (top / relative).parent.mkdir(parents=True, exist_ok=True)
                (top / relative).write_bytes(path.read_bytes())
        lay_out(cold if self.kept else [], top)
        relatives = [os.path.relpath(stub, top) for stub in stubs]
        subprocess.run([self.python, "-I", "-S", "-c", _COMPILE, json.dumps(relatives)], check=True, cwd=top)
        known = {"layer": "layer-R", "kept": self.kept, "modules": self.tables}
        (top / "_layer_minimizer/stand_ins").mkdir()
        (top / "_layer_minimizer/stand_ins/tables").write_bytes(marshal.dumps(json.loads(json.dumps(known)), 2))
