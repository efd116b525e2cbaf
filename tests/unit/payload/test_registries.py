"""Which containers of a module others have filled, seen from inside the traced interpreter."""

import functools
import importlib.util
import types
from pathlib import Path
from typing import Any

import pytest

import layer_minimizer


@pytest.fixture
def registries() -> Any:
    path = Path(layer_minimizer.__file__).parent / "payload" / "probe" / "registries.py"
    spec = importlib.util.spec_from_file_location("registries", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.Registries


def make(name: str, **values: object) -> dict[str, types.ModuleType]:
    module = types.ModuleType(name)
    vars(module).update(values)
    return {name: module}


class Holder:
    """An instance whose own attributes count, and of whose class nothing does: it is of this module."""

    shared: dict[str, int] = {}  # noqa: RUF012 - a class that shares one is what is tested

    def __init__(self) -> None:
        self.own: list[int] = []

    def __len__(self) -> int:
        raise AssertionError("none of a program's code may run")


def test_growth_is_seen_wherever_a_module_holds_containers(registries: Any) -> None:
    kind = type("Kind", (), {"__module__": "shop", "known": {}})
    show = functools.singledispatch(str)
    holder, table, nested, row = Holder(), {"a": 1}, {"all": {}}, [1]
    modules = make("shop", holder=holder, table=table, nested=nested, rows=[row], Kind=kind, show=show, __path__=[])
    watched = registries({})
    watched.add(modules)
    assert watched.grown() == []
    table["b"] = 2
    nested["all"]["x"] = 1
    assert watched.grown() == ["shop.table", "shop.nested"]
    assert watched.grown() == []
    row.append(2)
    holder.own.append(1)
    kind.known["x"] = 1
    show.register(bytes)(repr)
    assert sorted(watched.grown()) == ["shop.Kind", "shop.holder", "shop.rows", "shop.show"]
    table.clear()
    modules["shop"].__path__.append("x")
    Holder.shared["x"] = 1
    assert watched.grown() == []
    Holder.shared.clear()


def test_what_others_hold_as_well_is_no_registry(registries: Any) -> None:
    loaded = {"x": 1}
    watched = registries(make("sys_like", modules=loaded))
    watched.add(make("shop", alias=loaded, own=[]))
    loaded["y"] = 2
    assert watched.grown() == []


def test_a_module_that_came_later_tells_what_it_holds_of_its_filler(registries: Any) -> None:
    def made_by_filler() -> None: ...

    made_by_filler.__module__ = "filler"
    watched = registries({})
    assert watched.add(make("late", found=[("key", made_by_filler)], other=[1]), "filler") == ["late.found"]
    assert watched.add(make("later", found={"key": made_by_filler}), "somebody") == []
    assert watched.grown() == []
