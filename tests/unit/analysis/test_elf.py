"""The ELF reader, with libraries from a real linker, compared with what the real loader loads."""

from pathlib import Path

import pytest

from layer_minimizer.analysis.elf import Dynamic, is_elf_name, needed_files, read_dynamic, rpath_folders, search_folders
from layer_minimizer.core.errors import PlanError

OWNER = "pkg/sub/ext.so"


def dynamic(*needed: str, rpath: tuple[str, ...] = (), runpath: tuple[str, ...] = ()) -> Dynamic:
    return Dynamic(needed=needed, rpath=rpath, runpath=runpath, soname="", machine="x86_64")


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("a/lib.so", True),
        ("a/lib.so.1", True),
        ("libcrypto.so.1.0.2k", True),
        ("libopenblas-r0-0cf96a72.3.23.dev.so", True),
        ("_C.cpython-311-x86_64-linux-gnu.so", True),
        ("a.so/data.txt", False),
        ("a.so.py", False),
        ("libso", False),
        ("a.so.1.debug", False),
        ("also", False),
    ],
)
def test_libraries_are_recognized_by_their_names(path: str, *, expected: bool) -> None:
    assert is_elf_name(path) is expected


def test_a_library_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(PlanError, match=r"gone\.so cannot be read \(No such file"):
        read_dynamic(tmp_path / "gone.so")


@pytest.mark.parametrize(
    ("folder", "expected"),
    [
        ("$ORIGIN", "pkg/sub/lib.so"),
        ("${ORIGIN}", "pkg/sub/lib.so"),
        ("$ORIGIN/", "pkg/sub/lib.so"),
        ("$ORIGIN/../../pkg.libs", "pkg.libs/lib.so"),
        ("$ORIGIN/./x//../lib", "pkg/sub/lib/lib.so"),
        ("$ORIGIN/../..", "lib.so"),
        ("$ORIGIN/../../..", None),
        ("$ORIGIN/../../../site/pkg", None),
        ("$ORIGINAL", None),
        ("$ORIGIN/$LIB", None),
        ("/pkg/sub", None),
        ("/x/$ORIGIN", None),
        ("pkg/sub", None),
        ("", None),
    ],
)
def test_folders_are_those_inside_the_site(folder: str, expected: str | None) -> None:
    found = () if expected is None else (expected,)
    everywhere = dynamic("lib.so", runpath=(folder,))
    inside = {"pkg/sub/lib.so", "pkg.libs/lib.so", "pkg/sub/lib/lib.so", "lib.so"}
    assert needed_files(OWNER, everywhere, inside.__contains__) == found
    assert needed_files(OWNER, dynamic("lib.so", rpath=(folder,)), inside.__contains__) == found


@pytest.mark.parametrize(
    ("of_library", "inherited", "expected"),
    [
        (dynamic("a.so", "libc.so.6", "b.so", rpath=("$ORIGIN",)), (), ("pkg/sub/a.so", "pkg/sub/b.so")),
        (dynamic("a.so", rpath=("$ORIGIN/..", "$ORIGIN")), (), ("pkg/a.so",)),
        (dynamic("a.so", rpath=("$ORIGIN",), runpath=("$ORIGIN/..",)), (), ("pkg/a.so",)),
        (dynamic("b.so", rpath=("$ORIGIN",), runpath=("$ORIGIN/..",)), (), ()),
        (dynamic("b.so", rpath=("$ORIGIN",), runpath=("",)), (), ()),
        (dynamic("a.so"), ("libs", "pkg"), ("libs/a.so",)),
        (dynamic("a.so", rpath=("$ORIGIN",)), ("libs",), ("pkg/sub/a.so",)),
        (dynamic("a.so", runpath=("$ORIGIN/absent",)), ("libs",), ()),
        (dynamic("./a.so", "/pkg/a.so", "pkg/a.so", rpath=("$ORIGIN",)), ("",), ()),
        (dynamic("a.so"), ("",), ("a.so",)),
    ],
)
def test_files_are_found_in_the_order_of_the_loader(
    of_library: Dynamic, inherited: tuple[str, ...], expected: tuple[str, ...]
) -> None:
    present = {"a.so", "pkg/a.so", "pkg/sub/a.so", "pkg/sub/b.so", "libs/a.so"}
    assert needed_files(OWNER, of_library, present.__contains__, inherited) == expected


def test_folders_of_this_machine_are_absolute() -> None:
    source = Path("/env/lib/site/pkg/ext.so")
    folders = ("$ORIGIN/../../x", "/abs/./y", "relative", "", "$LIB/z")
    assert search_folders(source, dynamic(rpath=folders)) == ("/env/lib/x", "/abs/y")
    assert search_folders(source, dynamic(rpath=folders, runpath=("${ORIGIN}",))) == ("/env/lib/site/pkg",)


def test_only_rpath_applies_to_dependencies() -> None:
    assert rpath_folders(OWNER, dynamic(rpath=("$ORIGIN/..", "/abs"))) == ("pkg",)
    assert rpath_folders(OWNER, dynamic(rpath=("$ORIGIN",), runpath=("$ORIGIN",))) == ()
