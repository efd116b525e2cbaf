"""Warnings about what a layer cannot give to a function."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from layer_minimizer.environment.inventory import take_inventory
from layer_minimizer.environment.site import Site
from layer_minimizer.model.plan import Decision, KeepPlan, Reason, Verdict
from layer_minimizer.plan.unusable import unusable_warnings

if TYPE_CHECKING:
    from collections.abc import Callable

FILES = {
    "tool/__init__.py": "",
    "tool/a.dll": "MZ",
    "tool/b.dylib": "",
    "tool/dropped.dll": "",
    "../bin/native": b"\x7fELF",
    "../bin/script": "#!/usr/bin/python\n",
    "../share/native": b"\x7fELF",
    "../share/man/man1/tool.1": "",
    "../share/tool/templates/a.html": "",
    "../etc/tool/a.conf": "",
}


def test_programs_outside_of_the_site_and_files_of_other_platforms(make_site: Callable[..., Path], build: Any) -> None:
    site = make_site("tool", FILES)
    (site / "tool/foreign.so").write_bytes(other_processor())
    (site / "tool/own.so").write_bytes(Path(sys.executable).read_bytes())
    found = Site(build.interpreter(site), take_inventory(build.interpreter(site)))
    decisions = tuple(decision(each.path, each.distribution) for each in found.inventory.files)
    plan = KeepPlan("3.11.7", decisions, folders=(), chains=())
    program, data, foreign = unusable_warnings(plan, found)
    assert "tool installs native outside of site-packages" in program
    assert "tool installs etc/tool, share/tool outside of site-packages" in data
    assert "contains files for another platform (tool/a.dll, tool/b.dylib, tool/foreign.so; " in foreign


def decision(path: str, distribution: str) -> Decision:
    verdict = Verdict.DROPPED if "dropped" in path else Verdict.COLD
    return Decision(path, 1, distribution or "tool", verdict, Reason.UNTOUCHED, "")


def other_processor() -> bytes:
    content = bytearray(Path(sys.executable).read_bytes())
    content[18:20] = (243).to_bytes(2, "little")  # RISC-V
    return bytes(content)
