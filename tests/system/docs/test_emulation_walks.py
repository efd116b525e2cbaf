"""The commands that make a layer for arm64 on another machine, where QEMU runs its Python."""

from __future__ import annotations

import json
import shlex
import zipfile
from typing import TYPE_CHECKING

from tests.support import emulation

from .claims import walks
from .documents import MANUAL

if TYPE_CHECKING:
    from .conftest import Desk
    from .documents import Shown

HANDLER = """\
import io

from PIL import Image


def handler(event, context):
    out = io.BytesIO()
    Image.new("RGB", (event["size"], 16), (10, 200, 30)).save(out, "PNG")
    return {"pixel": Image.open(out).getpixel((3, 3))}
"""


@walks(f"{MANUAL}/packages.md", "sudo apt-get install qemu-user-static binfmt-support mmdebstrap")
def test_a_layer_for_arm64(desk: Desk, shown: list[Shown]) -> None:
    emulated = emulation.prefix()
    unpack = "sudo mmdebstrap --variant=extract --architectures=arm64 --include=python3,libstdc++6,base-files bookworm"
    link = f"ln -s {emulation.arm64_root()}"
    desk.write({"handler.py": HANDLER, "event.json": '{"size": 8}', "requirements.txt": "pillow==11.3.0\n"})
    changes = {
        "sudo apt-get install": "apt-get --simulate install",  # without a change to the machine
        # The same has been done, in the cache of the tests.
        unpack: link,
        "minimize --platform": f"{shlex.join(emulated)} minimize --json --platform",
    }
    out = desk.run(shown[0], changes).out
    report = json.loads(out[out.index("\n{") :])
    assert report["verification"]["mismatches"] == 0
    assert report["verification"]["isolated"] is True
    with zipfile.ZipFile(desk.folder / "layer.zip") as archive:
        names = [name.rpartition("/")[2] for name in archive.namelist()]
    assert "_imaging.cpython-311-aarch64-linux-gnu.so" in names
    assert "pages-4096" in names
    libraries = {library["path"]: library for library in report["libraries"]}
    compacted = [library for library in libraries.values() if not library["problem"]]
    assert len(compacted) > 3
    assert all(library["shipped"] + library["cold"] < library["file"] for library in compacted)
    assert all(library["shipped"] == library["file"] for library in libraries.values() if library["problem"])
    assert report["missing_observers"] == []
