"""Read and extend the tables of stand-ins, which describe modules (see ``payload/probe/study.py``)."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

# Number of fields in the description of a class without signatures; see payload/runtime/standin.py.
_CLASS_WITHOUT_MEMBERS = 4


def with_members(
    tables: Mapping[str, Mapping[str, Any]], members: Iterable[tuple[str, str, str]], classes: Path
) -> dict[str, Mapping[str, Any]]:
    """Return the tables with the signatures of members, (module, class, method), which the file ``classes`` has."""
    extended = dict(tables)
    known = json.loads(classes.read_bytes()) if members else {}
    for module, attribute, method in sorted(members):
        names = dict(extended[module]["names"])
        kind = [*names[attribute], *([{}] if len(names[attribute]) == _CLASS_WITHOUT_MEMBERS else [])]
        described = known[kind[1]][kind[2]]
        signature = described["methods"][method] if method in described["names"] else False
        names[attribute] = [*kind[:-1], {**kind[-1], method: signature}]
        extended[module] = {**extended[module], "names": names}
    return extended


def expected_submodules(tables: Mapping[str, Mapping[str, Any]]) -> dict[str, list[str]]:
    """Return the submodules of each package that were its attributes at the end of the run that the tables are from."""
    expected: dict[str, list[str]] = {}
    for name in tables:
        package, _, last = name.rpartition(".")
        if tables.get(package, {}).get("names", {}).get(last) == ["module", name]:
            expected.setdefault(package, []).append(last)
    return expected
