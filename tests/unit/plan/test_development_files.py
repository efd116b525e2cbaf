"""Which files are for development only: nothing that a package in use could run, or that its programs read."""

import pytest

from layer_minimizer.model.installed import InstalledFile
from layer_minimizer.plan.development_files import is_for_development, program_folders

PROGRAMS = ("zig/zig", "cmake/data/bin/cmake", "torch/bin/protoc", "run", "draw/tests/tool-1.0")
FILES = (*PROGRAMS, "torch/__init__.py", "cmake/__init__.py", "zig/__init__.py", "draw/__init__.py")


@pytest.mark.parametrize(
    ("path", "dropped"),
    [
        *((path, False) for path in PROGRAMS),
        ("zig/lib/std.h", False),
        ("zig/tests/data.txt", False),
        ("cmake/data/bin/rc.def", False),
        ("cmake/data/share/Modules/Find.cmake", False),
        ("cmake/other/Find.cmake", True),
        ("torch/bin/data.h", False),
        ("torch/include/torch.h", True),
        ("torch/tests/data.txt", True),
        ("top.h", True),
        ("draw/bin/data", False),
        ("draw/bin/draw.pc", True),
    ],
)
def test_development_files(path: str, *, dropped: bool) -> None:
    files = [InstalledFile(each, 1, "", "", executable=each in PROGRAMS, program=each in PROGRAMS) for each in FILES]
    file = InstalledFile(path, 1, "", "", executable=path in PROGRAMS, program=path in PROGRAMS)
    assert is_for_development(file, (), program_folders(files)) is dropped
