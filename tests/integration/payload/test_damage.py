"""A damaged store gives the right result, or ends the process with a line that names the file and a way out."""

from __future__ import annotations

import json
import os
import random
import shutil
import struct
import zlib
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from .conftest import ColdLayer

FILES = {
    "a/__init__.py": "x = 1\n" * 50,
    "a/data.bin": bytes(range(256)) * 9,
    "a/lib.so": b"\x7fELF" + bytes(14) + b"\x3e\x00" + b"\xe8\x01\x02\x03\x00" * 400,
    "b.py": "y = 2\n",
    "c/\u00fc.txt": "\u00fc".encode(),
    "empty": "",
}
DAMAGES = 150  # of each file

# Asks in a child for each damage, as the runtime reads a store once.
DRIVER = """
import json, os, shutil, sys
root, put_back, part, damages, files = json.loads(sys.stdin.read())
def ask():
    sys.path.insert(0, root)
    import _layer_minimizer
    _layer_minimizer.start(root)
    for path, size in files.items():
        assert os.path.isfile(root + "/" + path) and os.path.getsize(root + "/" + path) == size, path
    assert not os.path.exists(root + "/a/never") and not os.path.isfile(root + "/c")
    try:
        import gone
    except ImportError as exc:
        assert "gone.py of Gone 1.0 was left out" in str(exc), exc
    for path, size in files.items():
        with open(root + "/" + path, "rb") as file:
            read = file.read()
        with open(root + ".source/" + path, "rb") as file:
            assert read == file.read(), path
with open(part, "rb") as file:
    whole = file.read()
said = []
for kind, at, bit in damages:
    shutil.rmtree(put_back, ignore_errors=True)
    with open(part, "wb") as file:
        file.write(whole[:at] if kind == "cut" else whole[:at] + bytes([whole[at] ^ bit]) + whole[at + 1:])
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        os.dup2(writing, 2)
        try:
            ask()
        except BaseException as exc:
            os.write(2, repr(exc).encode())
            os._exit(9)
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        text = pipe.read()
    said.append((os.waitpid(child, 0)[1], text))
print(json.dumps(said))
"""


@pytest.fixture
def layer(layer_of: Callable[..., ColdLayer], python: str) -> ColdLayer:
    return layer_of(python, FILES, left_out={"gone.py": "Gone 1.0"})


def part_of(layer: ColdLayer, name: str) -> Path:
    return next(layer.root.glob("_layer_minimizer/cold/*")) / name


def asked(layer: ColdLayer, part: Path, damages: list[tuple[str, int, int]]) -> list[tuple[int, str]]:
    """Return the status of a process for each damage, and what it said."""
    sizes = {path: len(content if isinstance(content, bytes) else content.encode()) for path, content in FILES.items()}
    order = json.dumps([str(layer.root), str(layer.put_back), str(part), damages, sizes])
    done = layer.start_again("-I", "-S", "-c", DRIVER, text=order, LAYER_MINIMIZER_LOG="")
    assert done.returncode == 0, done.stderr
    return [(status, text) for status, text in json.loads(done.stdout)]


def ended(status: int, text: str, part: Path) -> bool:
    """Return whether a process was ended with the right line; it must have succeeded otherwise."""
    if not status:
        return False
    assert status == 1 << 8, text
    lines = [line for line in text.splitlines() if "was left out" not in line]
    assert len(lines) == 1, text
    assert lines[0].startswith(f"layer_minimizer: {part} is "), text
    assert "is not what was proved. Deploy it again" in text
    return True


@pytest.mark.parametrize("name", ["index", "data"])
def test_flipped_bits(layer: ColdLayer, name: str) -> None:
    part, dice = part_of(layer, name), random.Random(20)
    size = part.stat().st_size
    # All of the head, and places all over the rest.
    places = {*range(min(40, size)), *dice.sample(range(size), min(DAMAGES, size)), size - 1}
    said = asked(layer, part, [("flip", at, 1 << dice.randrange(8)) for at in sorted(places)])
    failed = sum(ended(status, text, part) for status, text in said)
    assert failed > 0.9 * len(said), (failed, len(said))


@pytest.mark.parametrize("name", ["index", "data"])
def test_cut_and_emptied(layer: ColdLayer, name: str) -> None:
    part = part_of(layer, name)
    size = part.stat().st_size
    for status, text in asked(layer, part, [("cut", length, 0) for length in (1, size // 2, size - 1)]):
        assert ended(status, text, part)
    ((status, text),) = asked(layer, part, [("cut", 0, 0)])
    assert status == 1 << 8
    assert " has no index" in text or f"{part} is missing" in text


def test_missing(layer: ColdLayer) -> None:
    index, data = part_of(layer, "index"), part_of(layer, "data")
    data.unlink()
    said = layer.fail(f"open({str(layer.root)!r} + '/a/data.bin')")
    assert said.startswith(f"layer_minimizer: {data} is missing: the layer in {layer.root} is not what was proved.")
    index.unlink()
    said = layer.fail("pass")
    assert said.startswith(f"layer_minimizer: {index.parent} has no index: the layer in {layer.root} is not what")
    assert "Traceback" not in said


def test_a_store_of_another_format_is_refused(layer: ColdLayer) -> None:
    index = part_of(layer, "index")
    after = index.read_bytes()[12:]
    index.write_bytes(struct.pack("<QI", int.from_bytes(b"LLYFIDX9", "little"), zlib.crc32(after)) + after)
    said = layer.fail("import b")
    assert said.startswith(f"layer_minimizer: {index} is damaged")


def test_what_a_program_sees(layer_of: Callable[..., ColdLayer], cpython: str) -> None:
    """Nothing: it cannot take a damaged layer for one that lacks an optional file, and go on."""
    layer = layer_of(cpython, {"cold.py": "x = 1\n" * 99, "a/t.txt": "t" * 999}, {"a/__init__.py": ""})
    data = part_of(layer, "data")
    data.write_bytes(data.read_bytes()[:-9] + b"012345678")
    for action in (
        "import cold",
        f"open({str(layer.root)!r} + '/a/t.txt')",
        "__import__('pkgutil').get_data('a', 't.txt')",
    ):
        said = layer.fail(f"print('before')\ntry:\n    {action}\nexcept BaseException:\n    print('caught')\n")
        assert said == (
            f"layer_minimizer: {data} is damaged, or there is no memory left: the layer in {layer.root} is not what "
            "was proved. Deploy it again, or build it anew; where another layer is meant to replace that file, "
            "LAYER_MINIMIZER_CHECK=off lets it run\n"
        )
    # What needs none of it runs.
    layer.run(
        "import json, a; assert open(R + '/a/__init__.py').read() == '' and os.path.getsize(R + '/a/t.txt') == 999"
    )


def test_a_child_program_that_is_refused_says_so(layer_of: Callable[..., ColdLayer], python: str) -> None:
    layer = layer_of(python, {"t.txt": os.urandom(99)})
    data = part_of(layer, "data")
    data.write_bytes(bytes(99))
    said = layer.fail(
        f"import subprocess, sys\nsys.exit(subprocess.call(['cat', {str(layer.root / 't.txt')!r}]))",
    )
    assert said.startswith(f"layer_minimizer: {data} is damaged")


def test_a_layer_that_was_unpacked_without_its_links_is_refused(
    layer_of: Callable[..., ColdLayer], cpython: str
) -> None:
    """Many programs write files with the targets, Python's own zipfile among them, and some leave links out."""
    layer = layer_of(cpython, {"m.py": "x = 1\n", "d/t.txt": "text"}, {"d/other.txt": "other"}, checked=True)
    links = [path for path in layer.root.rglob("*") if path.is_symlink()]
    assert len(links) == 3
    for link in links:
        target = os.readlink(link)
        link.unlink()
        link.write_text(target)
    for _ in "ab":
        said = layer.fail("print('ran')")
        assert said.startswith(f"layer_minimizer: {part_of(layer, '')}/link is not the symbolic link that it was"), said
        assert "unpack the layer with a program that keeps links, as unzip does" in said
        for link in links:
            link.unlink(missing_ok=True)


# ---- files in their places ----------------------------------------------------------------------------------------

KEPT = {"d/text.txt": "kept text", "d/other.txt": "other", "m.py": "x = 1\n", "e/__init__.py": "y = 2\n"}
WHYS = {
    "flipped": "is damaged (its checksum is wrong)",
    "grown": "is cut short, or has grown",
    "cut": "is cut short, or has grown",
    "gone": "is missing",
}


def damage(path: Path, how: str) -> None:
    content = path.read_bytes()
    if how == "gone":
        path.unlink()
    else:
        path.write_bytes(
            {"flipped": bytes([content[0] ^ 1]) + content[1:], "grown": content + b"?", "cut": content[:-1]}[how]
        )


@pytest.fixture
def kept(layer_of: Callable[..., ColdLayer], python: str) -> ColdLayer:
    return layer_of(python, {"cold.txt": "cold"}, KEPT, checked=True)


@pytest.mark.parametrize("how", list(WHYS))
def test_a_damaged_kept_file_ends_whoever_opens_it(kept: ColdLayer, how: str) -> None:
    path = kept.root / "d/text.txt"
    whole = path.read_bytes()
    damage(path, how)
    line = f"layer_minimizer: d/text.txt {WHYS[how]}: the layer in {kept.root} is not what was proved. Deploy it again"
    asked = {
        "open": f"open({str(path)!r})",
        "os.open": f"import os; os.open({str(path)!r}, os.O_RDONLY)",
        "C": f"import ctypes; ctypes.CDLL(None).fopen({os.fsencode(path)!r}, b'r')",
        "program": f"import subprocess, sys; sys.exit(subprocess.call(['cat', {str(path)!r}]))",
    }
    for name, asking in asked.items():
        program = asking if name == "program" else f"try:\n    {asking}\nexcept BaseException:\n    pass\n"
        if how == "flipped":  # contents are compared only if that is wanted
            assert kept.start("-c", program).returncode == 0
            continue
        said = kept.fail(program)
        assert said.startswith(line), (name, said)
        assert said.count("\n") == 1, (name, said)
    # What needs it not runs, and without the check all does.
    kept.run("assert open(R + '/d/other.txt').read() == 'other' and open(R + '/cold.txt').read() == 'cold'")
    if how != "gone":
        found = kept.run("print(open(R + '/d/text.txt').read())", LAYER_MINIMIZER_CHECK="off")
        assert found != whole.decode() + "\n"
    # All are compared at the start, if that is wanted.
    assert kept.start("-c", "pass").returncode == 0
    assert kept.fail("pass", LAYER_MINIMIZER_CHECK="all").startswith(line)


def test_a_missing_kept_file_ends_whoever_asks_or_lists(kept: ColdLayer) -> None:
    (kept.root / "d/text.txt").unlink()
    for asking in (
        "os.path.exists(R + '/d/text.txt')",
        "os.listdir(R + '/d')",
        "list(os.walk(R))",
        "os.chdir(R + '/d') or os.stat('text.txt')",
    ):
        said = kept.fail(f"import os\nR = {str(kept.root)!r}\ntry:\n    {asking}\nexcept BaseException:\n    pass\n")
        assert said.startswith("layer_minimizer: d/text.txt is missing: the layer in "), (asking, said)


@pytest.mark.parametrize("how", ["flipped", "grown", "gone"])
def test_a_damaged_kept_module_is_refused(layer_of: Callable[..., ColdLayer], cpython: str, how: str) -> None:
    """Programs catch the ImportError of what they take to be optional, and go on without it."""
    layer = layer_of(cpython, {}, KEPT, checked=True)
    damage(layer.root / "e/__init__.py", how)
    compared = {"LAYER_MINIMIZER_CHECK": "all"} if how == "flipped" else {}
    said = layer.fail("try:\n    import e\nexcept BaseException:\n    e = None\n", **compared)
    assert said.startswith(f"layer_minimizer: e/__init__.py {WHYS[how]}: "), said


def test_a_damaged_table_is_refused(kept: ColdLayer) -> None:
    (table,) = kept.root.glob("_layer_minimizer/check/*")
    whole = table.read_bytes()
    for content in (whole[:-1], b"", whole[:20], whole[:40] + bytes([whole[40] ^ 1]) + whole[41:]):
        table.write_bytes(content)
        said = kept.fail("pass")
        assert said.startswith(f"layer_minimizer: {table} is damaged"), said


def test_without_the_native_runtime_files_are_compared_at_the_start(kept: ColdLayer) -> None:
    shutil.rmtree(kept.root / "layer_minimizer.libs")
    said = kept.fail("print('ran')")
    assert said.startswith("layer_minimizer: layer_minimizer.libs/liblayercold-"), said
    assert " is missing (No such file or directory)" in said
