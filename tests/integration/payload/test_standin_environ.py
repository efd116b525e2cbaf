"""Environment variables that modules set at import are there although stand-ins are in the modules' places."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from .standing_in import Modules

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

CONSTANT = """
import os
if "MODE" not in os.environ:
    os.environ["MODE"] = "fast"
    FIRST = True
def f():
    return FIRST
"""
COMPUTED = """
import os
os.environ["PLACE"] = os.sep + "place"
LIST = []
"""
ENVIRON = {"constant": ["MODE=fast"], "computed": ["PLACE"]}
IMPORTS = "import os, constant, computed\n"
# What a program does, and the modules that it needs for that.
PROGRAMS = {
    "print(os.environ['MODE'], os.environ.get('OTHER'), 'OTHER' in os.environ, os.popen('echo $MODE').read())": set(),
    "print(os.getenv('PLACE'))": {"computed"},
    "print('PLACE' in os.environ)": {"computed"},
    "print(os.environb[b'PLACE'])": {"computed"},
    "print(sorted(name for name in os.environ if name in ('MODE', 'PLACE')))": {"computed"},
    "print(dict(os.environ)['PLACE'], len(os.environ) == len(os.environ.copy()))": {"computed"},
    "print('PLACE' in repr(os.environ), type(os.environ))": {"computed"},
    "os.environ['PLACE'] = 'mine'; computed.LIST.append(1); print(os.environ['PLACE'])": {"computed"},
    "del os.environ['PLACE']; computed.LIST.append(1); print(os.environ.get('PLACE'))": {"computed"},
    "print(os.environ.pop('PLACE'), os.environ.get('PLACE'))": {"computed"},
    "print(constant.f(), os.environ['MODE'])": {"constant"},
    "os.environ['MODE'] = 'mine'; print(os.environ['MODE'])": set(),
}


@pytest.fixture(params=[("3.6", "trial"), ("3.13", "layer")], ids="-".join)
def modules(
    request: pytest.FixtureRequest, write: Callable[..., Path], python_of: Callable[[str], str], tmp_path: Path
) -> Modules:
    version, way = request.param
    site = write(tmp_path / "site", {"constant.py": CONSTANT, "computed.py": COMPUTED})
    return Modules(python_of(version), site, tmp_path / "scratch", way).describe(
        ["constant", "computed"], environ=ENVIRON
    )


def test_variables_are_there(modules: Modules) -> None:
    for program, woken in PROGRAMS.items():
        assert modules.honest(IMPORTS + program) == woken, program


@pytest.mark.parametrize("name", ["MODE", "PLACE"])
def test_a_module_decides_itself_if_a_variable_is_set_already(modules: Modules, name: str) -> None:
    modules.environment = {name: "own"}
    woken = {"MODE": "constant", "PLACE": "computed"}[name]
    assert modules.honest(f"{IMPORTS}print(os.environ['MODE'], hasattr(constant, 'FIRST'))") == {woken}
