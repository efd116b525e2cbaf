"""Two layers that Lambda has unpacked into one folder: both stores are searched; of two files the later one counts."""

from __future__ import annotations

import json
import marshal
import subprocess
import zlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from .conftest import ColdLayer

STUB = "from _layer_minimizer.stubs import stand_in\n\nstand_in(__name__, {last!r}, {tables!r})\n"
COMPILE = "import py_compile, sys; py_compile.compile(sys.argv[1], sys.argv[2], doraise=True)"


def test_both_stores_are_searched(layer_of: Callable[..., ColdLayer], cpython: str) -> None:
    hot = {"pkg/__init__.py": "", "pkg/real.py": "x = 'real'\n"}
    first = {"pkg/one.py": "x = 1\n", "pkg/d/one.txt": "1", "only.py": "x = 'only'\n", "same.py": "x = 's'\n"}
    first["pkg/hot.py"] = "x = 'cold'\n"
    second = {"pkg/two.py": "x = 2\n", "pkg/d/two.txt": "2", "same.py": "x = 's'\n", "pkg/real.py": "x = 'cold'\n"}
    left_out = {"late.py": "Late 1", "gone.py": "Gone 2"}
    layer_of(cpython, first, hot, name="A", left_out=left_out)
    later = {"pkg/hot.py": "x = 'hot'\n"}
    layer = layer_of(cpython, second | {"late.py": "x = 'late'\n"}, later, name="B", left_out={"only.py": "Only 3"})
    # As Lambda does: what is in both has the same bytes, or is in folders of its own.
    (source,) = layer.root.parent.glob("A")
    differing = []
    for path in sorted(layer.root.rglob("*")):
        target = source / path.relative_to(layer.root)
        if path.is_symlink() or target.is_symlink():
            target.unlink(missing_ok=True)
        if path.is_symlink():
            target.parent.mkdir(parents=True, exist_ok=True)
            target.symlink_to(path.readlink())
        elif path.is_file():
            if target.exists() and target.read_bytes() != path.read_bytes():
                differing.append(target)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(path.read_bytes())
    assert differing == []
    assert len(list(source.glob("_layer_minimizer/cold/*/index"))) == 2
    layer.root = source
    layer.environment["PYTHONPATH"] = str(source)
    layer.run(
        """
        import pkg.one, pkg.two, pkg.real, pkg.hot, only, late, same
        assert (pkg.one.x, pkg.two.x, only.x, late.x, same.x) == (1, 2, "only", "late", "s")
        assert (pkg.real.x, pkg.hot.x) == ("cold", "hot")
        assert sorted(os.listdir(R + "/pkg/d")) == sorted(each.name for each in os.scandir(R + "/pkg/d"))
        assert sorted(os.listdir(R + "/pkg/d")) == ["one.txt", "two.txt"]
        assert [open(R + "/pkg/d/%s.txt" % name).read() for name in ("one", "two")] == ["1", "2"]
        assert "two.py" in os.listdir(R + "/pkg") and os.path.getsize(R + "/pkg/one.py") == 6
        try:
            import gone
        except ModuleNotFoundError as exc:
            assert "gone.py of Gone 2 was left out of this layer" in str(exc), exc
        else:
            raise AssertionError
        """
    )


def test_tables_of_both_and_what_is_real_before_what_stands_in(
    layer_of: Callable[..., ColdLayer], cpython: str, tmp_path: Path
) -> None:
    layer = layer_of(cpython, {"low.py": "def f():\n    return 'low'\n"}, name="A")
    layer_of(
        cpython, {"high.py": "def f():\n    return 'high'\n"}, {"fact.py": "x = 'real'\n"}, name="B", root=layer.root
    )

    def table(name: str) -> dict[str, Any]:
        names = {"f": ["function", name, "f", None]}
        return {"names": names, "dynamic": False, "group": name, "also": []}

    (layer.root / "_layer_minimizer/stand_ins").mkdir()
    for tables, kept, names in (("a", True, ["low"]), ("b", True, ["high"]), ("c", False, ["fact", "lost"])):
        known = {"layer": f"layer-{tables}", "kept": kept, "modules": {name: table(name) for name in names}}
        content = marshal.dumps(json.loads(json.dumps(known)), 2)
        # Both forms of a table.
        content = zlib.compress(content) if tables == "a" else content
        (layer.root / f"_layer_minimizer/stand_ins/{tables}").write_bytes(content)
        for name in names:
            source = tmp_path / "stub.py"
            source.write_text(STUB.format(last=f"{name}.pyc", tables=tables))
            target = layer.root / f"{name}.pyc"
            subprocess.run([cpython, "-I", "-S", "-c", COMPILE, source, target], check=True)
    layer.run(
        """
        import low, high, fact
        assert fact.x == "real"
        standing = type(low).__name__, type(high).__name__, type(fact).__name__
        assert standing == ("StandIn", "StandIn", "module"), standing
        assert (low.f(), high.f()) == ("low", "high")
        import lost
        try:
            lost.f()
        except ModuleNotFoundError as exc:
            assert "it was left out of the layer layer-c" in str(exc), exc
        else:
            raise AssertionError
        """
    )
