"""Whatever the environment has is there for whoever asks, in whatever way; ways.py has the ways, run on both."""

from __future__ import annotations

import gettext
import io
import json
import os
import shutil
import sqlite3
import struct
import subprocess
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from .conftest import ColdLayer

WAYS = Path(__file__).with_name("ways.py")
# Valid for a hundred years; its key exists no more.
CERTIFICATE = """\
-----BEGIN CERTIFICATE-----
MIIBdDCCARmgAwIBAgIUQ2Af8E/J7Zpx2/xJadaTJsC0kDQwCgYIKoZIzj0EAwIw
DjEMMAoGA1UEAwwDa2l0MCAXDTI2MTEzMDA3NTM0MVoYDzIxMjYxMTA2MDc1MzQx
WjAOMQwwCgYDVQQDDANraXQwWTATBgcqhkjOPQIBBggqhkjOPQMBBwNCAAQSvN3l
xf8ehwR8mcMtgG3l+hnogHkeuukCY3SpfAfo0UIn/j9mY2Jo+jWMVqtsCl8Z6ynE
k13CerjERIYfi13+o1MwUTAdBgNVHQ4EFgQUZJxBQUzTiAntLZfcImpmaPJ5XhIw
HwYDVR0jBBgwFoAUZJxBQUzTiAntLZfcImpmaPJ5XhIwDwYDVR0TAQH/BAUwAwEB
/zAKBggqhkjOPQQDAgNJADBGAiEA1b0QOwkhVWQc4mxs+Ac5IBGeRGtNS5qu2d0V
Zvccf4MCIQDvto4kguaTEY7076AWWsFEzVfP/GS8KQNhv2O5M2v3aQ==
-----END CERTIFICATE-----
"""


def zipped(name: str, content: str) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        archive.writestr(name, content)
    return made.getvalue()


def catalog(text: str, translation: str) -> bytes:
    """Return a compiled catalog with one message."""
    one, two = text.encode() + b"\0", translation.encode() + b"\0"
    start = 7 * 4
    head = struct.pack("<7I", 0x950412DE, 0, 1, start, start + 8, 0, start + 16)
    places = struct.pack("<4I", len(one) - 1, start + 16, len(two) - 1, start + 16 + len(one))
    return head + places + one + two


def database(folder: Path) -> bytes:
    file = folder / "places.db"
    with sqlite3.connect(file) as table:
        table.execute("CREATE TABLE places (name TEXT)")
        table.execute("INSERT INTO places VALUES ('here')")
    table.close()
    return file.read_bytes()


HOT = {"kit/__init__.py": "", "kit/kept.txt": "kept"}


def cold_files(folder: Path) -> Mapping[str, str | bytes]:
    return {
        "kit/cmds/__init__.py": "",
        "kit/cmds/hello.py": "def twice(x):\n    return 2 * x\n\n\nif __name__ == '__main__':\n    print('hello')\n",
        "kit/data/note.txt": "noted",
        "kit/data/set.ini": "[a]\nb = c\n",
        "kit/data/set.xml": "<set/>",
        "kit/data/deep/er.txt": "deeper",
        "kit/data/table.dat": "v",
        "kit/data/table.dir": "'k', (0, 1)\n",
        "kit/data/table.bak": "'k', (0, 1)\n",
        "kit/extra.zip": zipped("delta.py", "NAME = 'delta'\n"),
        "kit/locale/de/LC_MESSAGES/kit.mo": catalog("Yes", "Ja"),
        "kit/plugins/gamma.py": "NAME = 'gamma'\n",
        "kit/plugins/script.py": "import os\nprint(open(os.path.dirname(__file__) + '/../data/note.txt').read())\n",
        "kit/run.sh": '#!/bin/sh\ncat "$(dirname "$0")/data/note.txt" && echo "run $1"\n',
        "kit/vendor/beta.py": "NAME = 'beta'\n",
        "kit/roots.pem": CERTIFICATE,
        "kit/places.db": database(folder),
    }


def asked(layer: ColdLayer, site: Path) -> dict[str, Any]:
    """Run all ways on a site folder."""
    done = layer.start_again(str(WAYS), str(site), str(layer.put_back), PYTHONPATH=str(site))
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout.splitlines()[-1]))


@pytest.fixture
def kit(layer_of: Callable[..., ColdLayer], python: str, tmp_path: Path) -> ColdLayer:
    """Return a layer; beside it lies the environment that it was made of."""
    cold = cold_files(tmp_path)
    (tmp_path / "R.source/kit").mkdir(parents=True)
    (tmp_path / "R.source/kit/run.sh").touch(0o755)
    layer = layer_of(python, cold, HOT)
    for path, content in HOT.items():
        (tmp_path / "R.source" / path).write_text(content)
    return layer


def test_every_way_gives_what_the_environment_gives(kit: ColdLayer, cpython: str) -> None:
    kit.python = cpython
    expected, found = asked(kit, kit.root.with_name("R.source")), asked(kit, kit.root)
    assert len(expected) > 55
    # What this CPython lacks.
    lacking = {name for name, answer in expected.items() if "error" in answer}
    assert lacking <= {"by_resources", "sqlite", "sqlite_by_uri", "authorities", "stdio"}, expected
    assert {name: found[name] for name in expected if found[name] != expected[name]} == {}


PROGRAM = """
#include <dirent.h>
#include <stdio.h>
int main(int count, char **arguments) {
    char text[99] = "";
    FILE *file = fopen(arguments[1], "r");
    if (!file || !fgets(text, sizeof text, file)) return 9;
    puts(text);
    return 0;
}
"""


@pytest.fixture
def static_program(tmp_path: Path) -> str:
    """Return a program that is linked statically, and prints the first line of a file."""
    gcc = shutil.which("gcc")
    if gcc is None:
        pytest.skip("there is no gcc")
    (tmp_path / "program.c").write_text(PROGRAM)
    made = subprocess.run(
        [gcc, "-static", "-o", tmp_path / "program", tmp_path / "program.c"], capture_output=True, check=False
    )
    if made.returncode != 0:
        pytest.skip("there is no static C library")
    return str(tmp_path / "program")


def test_static_programs_find_what_they_are_told(kit: ColdLayer, static_program: str) -> None:
    """They cannot load the runtime: what their arguments and their working folder name is restored before."""
    kit.run(
        f"""
        import shutil, subprocess
        program = {static_program!r}
        def ask(*arguments, **options):
            shutil.rmtree(PUT_BACK)
            return subprocess.check_output((program,) + arguments, **options)
        assert ask(R + "/kit/data/note.txt") == b"noted\\n"
        assert ask("note.txt", cwd=R + "/kit/data") == b"noted\\n"
        assert ask("data/note.txt", cwd=R + "/kit") == b"noted\\n"
        assert ask("data/../data/note.txt", cwd=R + "/kit", env={{}}) == b"noted\\n"
        shutil.rmtree(PUT_BACK)
        assert subprocess.check_output(program + " " + R + "/kit/data/note.txt", shell=True) == b"noted\\n"
        shutil.rmtree(PUT_BACK)
        inner = "import subprocess, sys; print(subprocess.check_output(sys.argv[1:]).decode())"
        command = [sys.executable, "-ISE", "-c", inner, program, R + "/kit/data/note.txt"]
        assert subprocess.check_output(command, env={{}}) == b"noted\\n\\n"
        """
    )
    assert kit.restored() == {"kit/data/note.txt"}


def test_a_static_program_of_the_layer_finds_what_lies_beside_it(
    layer_of: Callable[..., ColdLayer], python: str, static_program: str, tmp_path: Path
) -> None:
    (tmp_path / "R.source/p").mkdir(parents=True)
    (tmp_path / "R.source/p/program").touch(0o755)
    layer = layer_of(
        python, {"p/program": Path(static_program).read_bytes(), "p/data.txt": "data", "other.txt": "other"}
    )
    layer.run(
        """
        import subprocess
        assert subprocess.check_output([R + "/p/program", "data.txt"], cwd=R + "/p") == b"data\\n"
        """
    )
    assert layer.restored() == {"p/program", "p/data.txt"}


def test_the_catalog_is_one() -> None:
    assert gettext.GNUTranslations(io.BytesIO(catalog("Yes", "Ja"))).gettext("Yes") == "Ja"
    assert os.path.exists(WAYS)
