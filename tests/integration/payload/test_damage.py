"""A damaged store gives the right result, or an error that names the file, the store and a way out."""

from __future__ import annotations

import json
import random
import zlib
from typing import TYPE_CHECKING

import pytest

from layer_minimizer.layer.cold_store import ColdFile, write_store
from layer_minimizer.payload.runtime.store import ColdStore, ColdStoreError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from .conftest import ColdLayer

FILES = {
    "a/__init__.py": b"x = 1\n" * 50,
    "a/data.bin": bytes(range(256)) * 9,
    "a/lib.so": b"\x7fELF" + bytes(14) + b"\x3e\x00" + b"\xe8\x01\x02\x03\x00" * 400,
    "b.py": b"y = 2\n",
    "c/\u00fc.txt": "\u00fc".encode(),
}
DROPPED = {"pandas": "pandas"}


@pytest.fixture(params=["xz", "zlib"])
def root(request: pytest.FixtureRequest, tmp_path: Path, write: Callable[..., Path]) -> Path:
    source = write(tmp_path / "source", FILES)
    top = tmp_path / "R"
    files = [ColdFile(path, source / path) for path in FILES]
    write_store(files, top, layer="l", dropped=DROPPED, compression=request.param)
    return top


def everything(root: Path) -> dict[str, object]:
    """Ask a store everything; each answer is its error where there is one."""
    questions = {path: lambda store, path=path: store.read(path) for path in FILES}
    questions |= {
        f"{path}?": lambda store, path=path: path in store for path in (*FILES, "a/never", "d/never", "never.py")
    }
    questions |= {f"names {folder}": lambda store, folder=folder: store.names(folder) for folder in ("", "a", "c", "d")}
    questions |= {"dropped": lambda store: (store.dropped("pandas"), store.dropped("numpy"))}
    return {name: answer(question, root, name) for name, question in questions.items()}


def answer(question: Callable[[ColdStore], object], root: Path, name: str) -> object:
    try:
        return question(ColdStore(str(root)))
    except ColdStoreError as exc:
        said = str(exc)
    assert str(root / "_layer_minimizer/cold") in said
    assert "deploy the layer again" in said
    assert name not in FILES or "header" in said or "cannot restore" in said or "cannot be read" in said
    return ColdStoreError


def test_what_a_whole_store_says(root: Path) -> None:
    said = everything(root)
    assert {path: said[path] for path in FILES} == FILES
    assert said["a/never?"] is said["never.py?"] is False
    assert said["b.py?"] is True
    assert said["names "] == ["a", "b.py", "c"]
    assert said["names a"] == ["__init__.py", "data.bin", "lib.so"]
    assert said["names d"] == []
    assert said["dropped"] == ("pandas", "")


@pytest.mark.parametrize("part", ["index", "data"])
def test_flipped_bits(root: Path, part: str) -> None:
    right = everything(root)
    target = next(root.glob(f"_layer_minimizer/cold/*/{part}"))
    whole = target.read_bytes()
    chance = random.Random(20)
    failed = 0
    for at in range(len(whole)):
        target.write_bytes(whole[:at] + bytes([whole[at] ^ 1 << chance.randrange(8)]) + whole[at + 1 :])
        said = everything(root)
        assert all(said[name] in (right[name], ColdStoreError) for name in right), at
        failed += said != right
    assert failed > 0.9 * len(whole)


@pytest.mark.parametrize("part", ["index", "data"])
def test_cut_emptied_and_missing(root: Path, part: str) -> None:
    right = everything(root)
    target = next(root.glob(f"_layer_minimizer/cold/*/{part}"))
    whole = target.read_bytes()
    for length in {0, 1, len(whole) // 2, len(whole) - 1}:
        target.write_bytes(whole[:length])
        said = everything(root)
        assert said != right
        assert all(said[name] in (right[name], ColdStoreError) for name in right)
    target.unlink()
    said = everything(root)
    assert {said[path] for path in FILES} == {ColdStoreError}


def test_a_store_of_another_format_is_refused(root: Path) -> None:
    index = next(root.glob("_layer_minimizer/cold/*/index"))
    line, _check, rest = index.read_bytes().split(b"\n", 2)
    line = json.dumps({**json.loads(line), "format": 9}).encode() + b"\n"
    index.write_bytes(line + b"%08x\n" % zlib.crc32(line) + rest)
    with pytest.raises(ColdStoreError, match="format 9"):
        ColdStore(str(root)).read("b.py")


def test_what_a_program_sees(layer_of: Callable[..., ColdLayer], cpython: str) -> None:
    layer = layer_of(cpython, {"cold.py": "x = 1\n" * 99, "a/t.txt": "t" * 999}, {"a/__init__.py": ""})
    data = next(layer.root.glob("_layer_minimizer/cold/*/data"))
    data.write_bytes(data.read_bytes()[:-9] + b"012345678")
    layer.run(
        """
        for action, kind in (
            (lambda: __import__("cold"), ImportError),
            (lambda: open(R + "/a/t.txt"), OSError),
            (lambda: __import__("pkgutil").get_data("a", "t.txt"), OSError),
        ):
            try:
                action()
            except kind as exc:
                assert not isinstance(exc, (FileNotFoundError, ModuleNotFoundError)), exc
                assert R + "/_layer_minimizer/cold/" in str(exc) and "/data is damaged" in str(exc), exc
                assert "again" in str(exc), exc
                assert ("cold.py" if kind is ImportError else "a/t.txt") in str(exc), exc
            else:
                raise AssertionError
        """
    )
    data.with_name("index").write_bytes(b"")
    layer.run(
        """
        import json, a
        for action, kind in ((lambda: __import__("cold"), ImportError), (lambda: open(R + "/a/t.txt"), OSError)):
            try:
                action()
            except kind as exc:
                assert not isinstance(exc, (FileNotFoundError, ModuleNotFoundError)), exc
                assert R + "/_layer_minimizer/cold/" in str(exc) and "/index is damaged" in str(exc), exc
            else:
                raise AssertionError
        assert open(R + "/a/__init__.py").read() == ""
        """
    )


def test_a_python_without_lzma_says_so(layer_of: Callable[..., ColdLayer], cpython: str) -> None:
    layer = layer_of(cpython, {"cold.py": "x = 1\n" * 99})
    said = layer.fail("import sys; sys.modules['lzma'] = None; import cold")
    assert "ImportError: cold: " in said
    assert "is compressed, and this Python cannot read it" in said
