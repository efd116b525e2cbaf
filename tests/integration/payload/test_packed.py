"""Modules that are shipped as compressed bytecode are imported, listed and opened as if each lay in its place."""

from __future__ import annotations

import os
import zlib
from typing import TYPE_CHECKING

import pytest

from layer_minimizer.environment import interpreter
from layer_minimizer.layer import cold_store, packed_bytecode
from layer_minimizer.pack import bytecode, checksums

from .conftest import pack

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from .conftest import ColdLayer

TREE = {
    "tree/__init__.py": "from . import leaf\nfrom .branch.twig import VALUE\nORDER = ['tree']\n",
    "tree/leaf.py": "VALUE = 'leaf'\n\n\ndef fail():\n    raise ValueError(VALUE)\n",
    "tree/branch/__init__.py": "import os\nHERE = os.path.dirname(__file__)\n",
    "tree/branch/twig.py": "import os\nVALUE = open(os.path.join(os.path.dirname(__file__), 'data.txt')).read()\n",
    "tree/__main__.py": "import sys\nprint('main', __package__, sys.argv[1:])\n",
    "single.py": "VALUE = 'single'\n",
    "space/inner/__init__.py": "VALUE = 'inner'\n",
    "space/inner/deep.py": "VALUE = 'deep'\n",
}
HOT = {"tree/branch/data.txt": "data", "tree/real.py": "VALUE = 'real'\n"}
COLD = TREE | {"tree/cold.py": "VALUE = 'cold'\n"}


@pytest.fixture
def layer(layer_of: Callable[..., ColdLayer], cpython: str) -> ColdLayer:
    return layer_of(cpython, COLD, HOT, TREE)


def test_nothing_but_what_leads_to_them_lies_in_their_places(layer: ColdLayer) -> None:
    links = {path.relative_to(layer.root).as_posix() for path in layer.root.rglob("*.py*") if path.is_symlink()}
    assert links == set(COLD)
    found = {path.relative_to(layer.root).as_posix() for path in layer.root.rglob("*.py*")} - links
    own = {name for name in found if name.startswith("_layer_minimizer") or "/" not in name} - {"single.pyc"}
    assert found - own == {"tree/__init__.pyc", "single.pyc", "space/inner/__init__.pyc", "tree/real.py"}


def test_they_are_imported_with_what_lies_beside_them(layer: ColdLayer) -> None:
    layer.run(
        """
        import tree, tree.real, tree.cold, single, space.inner.deep, importlib, pickle
        assert (tree.VALUE, tree.leaf.VALUE, tree.real.VALUE, tree.cold.VALUE) == ("data", "leaf", "real", "cold")
        assert (single.VALUE, space.inner.deep.VALUE) == ("single", "deep")
        for module, name in ((tree, "tree/__init__"), (tree.leaf, "tree/leaf"), (single, "single")):
            assert module.__file__ == module.__spec__.origin == R + "/" + name + ".py", module.__file__
        assert tree.__path__ == [R + "/tree"] and tree.branch.HERE == R + "/tree/branch"
        assert pickle.loads(pickle.dumps(tree.leaf.fail)) is tree.leaf.fail
        tree.ORDER.append("again")
        assert importlib.reload(tree) is tree and tree.ORDER == ["tree"]
        try:
            import tree.never
        except ModuleNotFoundError as exc:
            assert exc.name == "tree.never"
        else:
            raise AssertionError
        """
    )


def test_none_of_it_is_restored_to_be_imported(layer: ColdLayer) -> None:
    layer.run("import tree, single, space.inner.deep; assert os.listdir(PUT_BACK) == ['.root']")


def test_their_sources_are_listed_and_opened_as_files(layer: ColdLayer) -> None:
    layer.run(
        f"""
        import importlib.util, inspect, pkgutil, tree
        names = ["__init__.py", "__main__.py", "branch", "cold.py", "leaf.py", "real.py"]
        assert sorted(os.listdir(R + "/tree")) == names, os.listdir(R + "/tree")
        assert sorted(m.name for m in pkgutil.iter_modules(tree.__path__)) == [
            "__main__", "branch", "cold", "leaf", "real"
        ]
        path = tree.leaf.__file__
        assert os.path.isfile(path) and os.path.isdir(R + "/tree/branch")
        source = {TREE["tree/leaf.py"]!r}
        assert open(path).read() == source and os.path.getsize(path) == len(source)
        assert pkgutil.get_data("tree.leaf", "leaf.py").decode() == source
        assert tree.leaf.__loader__.get_source("tree.leaf") == source
        assert pkgutil.get_data("tree.branch", "data.txt") == b"data"
        assert "raise ValueError" in inspect.getsource(tree.leaf.fail)
        assert tree.leaf.fail.__code__.co_filename == path
        """
    )


def test_import_hooks_that_change_sources_get_them(layer: ColdLayer) -> None:
    """As type checkers at run time, coverage and tracing tools install them."""
    layer.run(
        """
        import importlib.abc, importlib.machinery
        class Changed(importlib.machinery.SourceFileLoader):
            def source_to_code(self, data, path, *_name):  # 3.15 passes the module's name
                return super().source_to_code(bytes(data).replace(b"'leaf'", b"'changed'"), path)
        class Hook(importlib.abc.MetaPathFinder):
            def find_spec(self, name, path=None, target=None):
                spec = importlib.machinery.PathFinder.find_spec(name, path, target)
                if spec is not None and name.startswith("tree"):
                    assert isinstance(spec.loader, importlib.machinery.SourceFileLoader), spec.loader
                    if name == "tree.leaf":
                        spec.loader = Changed(spec.loader.name, spec.loader.path)
                    else:
                        spec.loader.__class__ = type("Same", (Changed, type(spec.loader)), {})
                return spec
        sys.meta_path.insert(0, Hook())
        import tree
        assert (tree.leaf.VALUE, tree.VALUE) == ("changed", "data")
        """
    )


def test_sources_that_were_left_out_are_named(layer_of: Callable[..., ColdLayer], python: str) -> None:
    layer = layer_of(python, {}, {}, {"lone.py": "def fail():\n    1 / 0\n"}, left_out={"lone.py": "lone 1.0"})
    layer.run("import lone; assert lone.__file__ == R + '/lone.py' and not os.path.exists(lone.__file__)")
    said = layer.fail("import lone; lone.fail()")
    assert 'lone.py", line 2, in fail' in said
    assert "layer_minimizer: lone.py of lone 1.0 was left out of this layer" in said


def test_tracebacks_show_sources_and_no_frame_of_ours(layer: ColdLayer) -> None:
    said = layer.fail("import tree; tree.leaf.fail()")
    assert "raise ValueError(VALUE)" in said
    assert "_layer_minimizer" not in said


def test_programs_and_children(layer: ColdLayer, tmp_path: Path) -> None:
    done = layer.start("-m", "tree", "x")
    assert done.stdout == "main tree ['x']\n", done.stderr
    program = tmp_path / "program.py"
    program.write_text(
        "import multiprocessing, tree.leaf\n"
        "def work(x):\n    return tree.leaf.VALUE + x\n"
        "if __name__ == '__main__':\n"
        "    with multiprocessing.get_context('spawn').Pool(1) as pool:\n        print(pool.map(work, 'ab'))\n"
    )
    done = layer.start(str(program))
    assert done.stdout == "['leafa', 'leafb']\n", done.stderr


def test_what_stands_in_their_places_starts_the_layer(layer: ColdLayer) -> None:
    """Where nobody has: neither site nor PYTHONPATH, a program that sets up sys.path by itself."""
    program = (
        f"import sys; sys.path.insert(0, {str(layer.root)!r}); assert '_layer_minimizer' not in sys.modules\n"
        "import space.inner.deep, single, tree\n"
        "assert (space.inner.deep.VALUE, single.VALUE, tree.VALUE) == ('deep', 'single', 'data')\n"
        f"assert single.__file__ == {str(layer.root)!r} + '/single.py', single.__file__\n"
        "assert type(single.__loader__).__name__ == 'PackedLoader' and single.__spec__.loader is single.__loader__\n"
    )
    done = layer.start("-I", "-S", "-c", program)
    assert (done.returncode, done.stderr) == (0, "")


def test_what_stands_in_their_places_starts_the_layer_after_their_sources_were_read(layer: ColdLayer) -> None:
    layer.run("import inspect, tree; assert inspect.getsource(tree); open(R + '/single.py').close()")
    program = f"import sys; sys.path.insert(0, {str(layer.root)!r}); import tree.leaf, single; print(single.VALUE)\n"
    done = layer.start_again("-I", "-S", "-c", program)
    assert (done.stdout, done.stderr) == ("single\n", "")


def test_two_layers(layer_of: Callable[..., ColdLayer], cpython: str, tmp_path: Path) -> None:
    layer = layer_of(cpython, {"a/cold.py": "x = 1\n"}, {}, {"a/__init__.py": "x = 'a'\n", "a/one.py": "x = 1\n"})
    for path, text in (("a/two.py", "x = 2\n"), ("b.py", "x = 'b'\n")):
        (layer.root / path).write_text(text)
    pack(cpython, layer.root, ["a/two.py", "b.py"], tmp_path / "compile", compressed=True)
    assert len(list((layer.root / packed_bytecode.CODE).iterdir())) == 2
    layer.run("import a.one, a.two, b, a.cold; assert (a.x, a.one.x, a.two.x, b.x, a.cold.x) == ('a', 1, 2, 'b', 1)")


def test_modules_of_the_runtime_beside_folders_of_their_names(
    layer_of: Callable[..., ColdLayer], cpython: str, tmp_path: Path
) -> None:
    layer = layer_of(cpython, {"a/cold.py": "x = 1\n"})
    own = layer.root / cold_store.PACKAGE
    compiler = bytecode.Compiler(interpreter.describe_interpreter(cpython), str(layer.root), tmp_path / "compile")
    paths = [file.relative_to(layer.root).as_posix() for file in own.glob("*.py")]
    bytecode.compile_modules(paths, layer.root, compiler, with_source=())
    packed_bytecode.pack_runtime(layer.root, compressed=False, small=False, stand_ins=True)
    files = [layer.root / name for name in (packed_bytecode.RUNTIME, packed_bytecode.SUBSTITUTES)]
    names = {stem.rpartition("/")[2] for file in files for stem in packed_bytecode.stems_in(file)}
    assert {"order", "snapshot", "standard", "standin"} <= names
    for name in names:
        (own / name).mkdir(exist_ok=True)
    layer.run(
        f"""
        import importlib
        for name in {sorted(names)}:
            module = importlib.import_module("_layer_minimizer." + name)
            assert module.__file__ == R + "/_layer_minimizer/" + name + ".py"
        """
    )


@pytest.mark.parametrize("compressed", [False, True])
def test_a_damaged_file_ends_the_process_and_is_named(
    layer_of: Callable[..., ColdLayer], python: str, *, compressed: bool
) -> None:
    sources = {"big.py": f"X = {os.urandom(3000).hex()!r}\n", "small.py": "X = 1\n"}
    layer = layer_of(python, {}, {}, sources, compressed=compressed)
    checksums.write_checksums(layer.root, lambda _path: ())
    (file,) = (layer.root / packed_bytecode.CODE).iterdir()
    whole = file.read_bytes()
    layer.run("import big, small; assert small.X == 1")
    table = len(whole) - int(whole.split(b"\n", 1)[0].split()[1])
    assert table > 1000
    assert packed_bytecode.stems_in(file) == ("big", "small")
    first, last = whole.index(b"\n") + 3, len(whole) - 100
    for damaged in (whole[:-1], whole[:20], b"", flipped(whole, first), flipped(whole, last), flipped(whole, 2)):
        file.write_bytes(damaged)
        compared = {"LAYER_MINIMIZER_CHECK": "all"} if len(damaged) == len(whole) else {}
        said = layer.fail("import small, big; print(small.X)", **compared)
        assert f"layer_minimizer: {packed_bytecode.CODE}/{file.name} " in said, said
        assert "Traceback" not in said
    file.unlink()
    assert f"{file.name} is missing" in layer.fail("import small")


def flipped(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


def test_each_byte_of_a_file_counts(tmp_path: Path) -> None:
    (tmp_path / "m.pyc").write_bytes(b"bytecode" * 50)
    packed_bytecode.pack(packed_bytecode.read(["m"], tmp_path, compressed=True), tmp_path)
    (file,) = (tmp_path / packed_bytecode.CODE).iterdir()
    assert packed_bytecode.stems_in(file) == ("m",)
    data = file.read_bytes()
    file.write_bytes(flipped(data, data.index(b"\n") + 5))
    with pytest.raises(ValueError, match="checksum"):
        packed_bytecode.stems_in(file)


def test_what_is_not_worth_it_stays(tmp_path: Path) -> None:
    size = 300_000
    (tmp_path / "m.pyc").write_bytes(bytes(size))
    assert packed_bytecode.is_worth_it(["m"], tmp_path, 0)
    assert packed_bytecode.is_worth_it(["m"], tmp_path, size - 131_073)
    assert not packed_bytecode.is_worth_it(["m"], tmp_path, size - 131_072)


def test_bytecode_is_compressed_where_that_makes_it_smaller(tmp_path: Path) -> None:
    texts = {"even": bytes(5000), "random": os.urandom(5000)}
    for stem, text in texts.items():
        (tmp_path / f"{stem}.pyc").write_bytes(text)
    assert packed_bytecode.read(texts, tmp_path, compressed=False) == texts
    assert packed_bytecode.read(texts, tmp_path, compressed=True) == {**texts, "even": zlib.compress(bytes(5000), 9)}


def test_what_leads_to_modules() -> None:
    stems = ["a/__init__", "a/b", "a/c/__init__", "a/c/d", "n/e", "n/f/__init__", "g", "a/space/h"]
    assert packed_bytecode.modules_to_start(stems) == ["a/__init__", "a/space/h", "g", "n/e", "n/f/__init__"]
