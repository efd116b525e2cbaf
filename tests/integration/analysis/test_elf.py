"""The ELF reader, with libraries from a real linker, compared with what the real loader loads."""

import platform
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from layer_minimizer.analysis.elf import (
    Dynamic,
    VersionRequirement,
    is_elf_name,
    library_closure,
    read_dynamic,
    read_versions,
    unresolved_names,
)
from layer_minimizer.core.errors import PlanError

RPATH = "-Wl,--disable-new-dtags,-rpath,"
RUNPATH = "-Wl,--enable-new-dtags,-rpath,"


Build = Callable[..., Path]


def gcc(*arguments: str | Path) -> None:
    subprocess.run(["gcc", *map(str, arguments)], check=True, capture_output=True)


@pytest.fixture
def site(tmp_path: Path) -> Path:
    folder = tmp_path / "site"
    folder.mkdir()
    return folder


@pytest.fixture
def build(site: Path, tmp_path: Path) -> Build:
    """Return a function that compiles libraries with the given DT_NEEDED names."""
    source = tmp_path / "empty.c"
    source.write_text("")

    def compile_library(path: str, *flags: str, needs: tuple[str, ...] = ()) -> Path:
        target = site / path
        target.parent.mkdir(parents=True, exist_ok=True)
        libraries = [site / name for name in needs]
        # The linker must not search for indirect dependencies: the tests do that.
        linking = ["-Wl,--no-as-needed", "-Wl,--unresolved-symbols=ignore-all", f"-Wl,-soname,{target.name}"]
        gcc("-shared", "-nostdlib", "-fPIC", source, "-o", target, *linking, *flags, *libraries)
        return target

    return compile_library


def closure_of(site: Path, *roots: str) -> tuple[tuple[str, str], ...]:
    return library_closure(roots, lambda path: read_dynamic(site / path), lambda path: (site / path).is_file())


def loaded(site: Path, root: str) -> set[str]:
    code = "import ctypes, sys; ctypes.CDLL(sys.argv[1]); print(open('/proc/self/maps').read())"
    command = [sys.executable, "-c", code, str(site / root)]
    ran = subprocess.run(command, capture_output=True, check=True, text=True)
    paths = {Path(line.split(maxsplit=5)[5]) for line in ran.stdout.splitlines() if line.count("/")}
    return {path.relative_to(site).as_posix() for path in paths if path.is_relative_to(site)}


def test_all_entries_for_the_loader_are_read(build: Build) -> None:
    build("liba.so.1")
    build("libb.so")
    needs = ("liba.so.1", "libb.so")
    found = read_dynamic(build("pkg/old.so", RPATH + "$ORIGIN/../x:/abs:$ORIGIN", needs=needs))
    expected = Dynamic(
        needed=("liba.so.1", "libb.so"),
        rpath=("$ORIGIN/../x", "/abs", "$ORIGIN"),
        runpath=(),
        soname="old.so",
        machine=platform.machine(),
    )
    assert found == expected
    found = read_dynamic(build("pkg/new.so", RUNPATH + "${ORIGIN}/é", needs=("libb.so",)))
    assert found is not None
    assert (found.needed, found.rpath, found.runpath) == (("libb.so",), (), ("${ORIGIN}/é",))


def test_a_library_without_section_headers_is_read(build: Build) -> None:
    build("libb.so")
    library = build("a.so", RUNPATH + "$ORIGIN", needs=("libb.so",))
    whole = read_dynamic(library)
    content = bytearray(library.read_bytes())
    content[0x28:0x30] = bytes(8)  # e_shoff
    content[0x3C:0x40] = bytes(4)  # e_shnum, e_shstrndx
    library.write_bytes(content)
    assert read_dynamic(library) == whole
    assert whole is not None
    assert whole.needed == ("libb.so",)


def test_files_that_the_loader_cannot_load_are_none(build: Build, tmp_path: Path) -> None:
    script = tmp_path / "libncurses.so"
    script.write_text("INPUT(libncurses.so.6 -ltinfo)\n")
    assert read_dynamic(script) is None
    script.write_text("")
    assert read_dynamic(script) is None
    source = tmp_path / "start.c"
    source.write_text("void _start(void) {}\n")
    gcc("-c", source, "-o", tmp_path / "start.o")
    assert read_dynamic(tmp_path / "start.o") is None
    gcc("-static", "-nostdlib", source, "-o", tmp_path / "static")
    assert read_dynamic(tmp_path / "static") is None
    library = build("a.so", "-g")
    subprocess.run(["objcopy", "--only-keep-debug", library, tmp_path / "a.so.debug"], check=True)
    assert read_dynamic(tmp_path / "a.so.debug") is None


@pytest.mark.parametrize("kept", [4, 16, 63, 64, 200, 0.5, -1])
def test_a_library_that_is_cut_short_is_an_error(build: Build, kept: float) -> None:
    library = build("a.so", RUNPATH + "$ORIGIN")
    content = library.read_bytes()
    library.write_bytes(content[: int(kept * len(content)) if kept == 0.5 else int(kept)])
    with pytest.raises(PlanError, match=r"a\.so is cut short or corrupt .*: reinstall the distribution"):
        read_dynamic(library)


@pytest.fixture
def versioned(tmp_path: Path) -> Path:
    return compile_versioned(tmp_path)


@pytest.fixture(scope="module")
def versioned_bytes(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return compile_versioned(tmp_path_factory.mktemp("versioned")).read_bytes()


def compile_versioned(tmp_path: Path) -> Path:
    """Compile a library that requires symbol versions of another one."""
    (tmp_path / "other.c").write_text(
        "int a(void) { return 1; }\nint b(void) { return 2; }\nint c(void) { return 3; }\n"
    )
    (tmp_path / "other.map").write_text("FOO_1.0 { a; };\nFOO_2.99 { b; } FOO_1.0;\nFOO_3.0 { c; } FOO_2.99;\n")
    other = tmp_path / "libother.so.1"
    script = f"-Wl,--version-script={tmp_path}/other.map"
    gcc("-shared", "-nostdlib", "-fPIC", tmp_path / "other.c", "-o", other, script, "-Wl,-soname,libother.so.1")
    (tmp_path / "user.c").write_text(
        "int a(void);\nint b(void);\nint c(void) __attribute__((weak));\n"
        "int own(void) { return a() + b() + (c ? c() : 0); }\n"
    )
    gcc("-shared", "-nostdlib", "-fPIC", tmp_path / "user.c", "-o", tmp_path / "user.so", other)
    return tmp_path / "user.so"


def test_versions_are_read_with_a_symbol_that_uses_each(versioned: Path) -> None:
    found = set(read_versions(versioned))
    expected = {
        VersionRequirement("libother.so.1", "FOO_1.0", "a"),
        VersionRequirement("libother.so.1", "FOO_2.99", "b"),
    }
    # The linker decides whether a version that only weak symbols use is a weak requirement.
    assert found - {VersionRequirement("libother.so.1", "FOO_3.0", "c")} == expected


def test_a_weak_requirement_is_ignored(versioned: Path) -> None:
    content = bytearray(versioned.read_bytes())
    before = read_versions(versioned)
    place = content.index(elf_hash(b"FOO_2.99").to_bytes(4, "little"))
    content[place + 4] |= 2  # vna_flags
    versioned.write_bytes(content)
    assert set(before) - set(read_versions(versioned)) == {VersionRequirement("libother.so.1", "FOO_2.99", "b")}


def elf_hash(name: bytes) -> int:
    value = 0
    for byte in name:
        value = (value << 4) + byte
        value = (value ^ (value & 0xF0000000) >> 24) & 0x0FFFFFFF
    return value


def test_versions_without_section_headers_have_no_symbols(versioned: Path) -> None:
    content = bytearray(versioned.read_bytes())
    content[0x28:0x30] = bytes(8)  # e_shoff
    content[0x3C:0x40] = bytes(4)  # e_shnum, e_shstrndx
    whole = read_versions(versioned)
    versioned.write_bytes(content)
    assert [each.symbol for each in read_versions(versioned)] == [""] * len(whole)
    assert [each.version for each in read_versions(versioned)] == [each.version for each in whole]


def test_a_file_without_versions_needs_none(build: Build, tmp_path: Path) -> None:
    assert read_versions(build("a.so")) == ()
    (tmp_path / "script.so").write_text("INPUT(libc.so.6)\n")
    assert read_versions(tmp_path / "script.so") == ()


def test_the_versions_of_every_library_that_python_loads_are_those_of_readelf() -> None:
    maps = Path("/proc/self/maps").read_text().splitlines()
    libraries = {line.split(maxsplit=5)[5] for line in maps if line.count("/")}
    read = 0
    for library in sorted(path for path in libraries if is_elf_name(path)):
        printed = subprocess.run(["readelf", "-VW", library], capture_output=True, check=True, text=True).stdout
        needs = re.findall(r"Name: (\S+)  Flags: (?:none|BASE)  Version:", printed.partition("Version needs")[2])
        assert sorted(each.version for each in read_versions(Path(library))) == sorted(needs), library
        read += len(needs)
    assert read


@settings(deadline=None, max_examples=200)
@given(data=st.data())
def test_corrupt_version_tables_raise_no_other_errors(versioned_bytes: bytes, data: st.DataObject) -> None:
    content = bytearray(versioned_bytes)
    table = content.index(elf_hash(b"FOO_2.99").to_bytes(4, "little"))
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(table - 40, table + 40) | st.integers(4, len(content) - 1))
        content[place] = data.draw(st.integers(0, 255))
    with tempfile.TemporaryDirectory() as folder:
        library = Path(folder, "a.so")
        library.write_bytes(content)
        try:
            found = read_versions(library)
        except PlanError as error:
            assert "reinstall" in str(error)  # noqa: PT017 - either of two outcomes is right
        else:
            assert all(isinstance(each, VersionRequirement) for each in found)


@pytest.fixture(scope="module")
def intact(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    folder = tmp_path_factory.mktemp("intact")
    (folder / "empty.c").write_text("")
    gcc("-shared", "-nostdlib", folder / "empty.c", "-o", folder / "a.so", RUNPATH + "$ORIGIN")
    return (folder / "a.so").read_bytes()


@settings(deadline=None, max_examples=300)
@given(data=st.data())
def test_corrupt_bytes_raise_no_other_errors(intact: bytes, data: st.DataObject) -> None:
    content = bytearray(intact)
    for _ in range(data.draw(st.integers(1, 4))):
        # The headers are at the start, the dynamic segment and the section headers follow later.
        place = data.draw(st.integers(4, 400) | st.integers(4, len(content) - 1))
        content[place] = data.draw(st.integers(0, 255))
    with tempfile.TemporaryDirectory() as folder:
        library = Path(folder, "a.so")
        library.write_bytes(content)
        try:
            found = read_dynamic(library)
        except PlanError as error:
            assert "reinstall" in str(error)  # noqa: PT017 - either of two outcomes is right
        else:
            assert found is None or isinstance(found, Dynamic)


def test_names_not_found_in_the_site_are_unresolved(build: Build, site: Path) -> None:
    build("libs/libb.so")
    build("libs/liba.so", needs=("libs/libb.so",))
    build("pkg/old.so", RPATH + "$ORIGIN/../libs", needs=("libs/liba.so",))
    roots = ("pkg/old.so", "libs/liba.so", "libs/libb.so")

    def elsewhere(*present: str) -> dict[str, tuple[str, ...]]:
        return unresolved_names(present, lambda path: read_dynamic(site / path), present.__contains__)

    assert elsewhere(*roots) == {}
    assert elsewhere(*roots[1:]) == {"libs/liba.so": ("libb.so",)}
    assert elsewhere(*roots[:1]) == {"pkg/old.so": ("liba.so",)}
    assert elsewhere(*roots[:2]) == {"libs/liba.so": ("libb.so",)}


def test_an_rpath_reaches_further_than_a_runpath_does(build: Build, site: Path) -> None:
    build("libs/libb.so")
    build("libs/liba.so", needs=("libs/libb.so",))
    build("pkg/old.so", RPATH + "$ORIGIN/../libs", needs=("libs/liba.so",))
    build("pkg/new.so", RUNPATH + "$ORIGIN/../libs", needs=("libs/liba.so",))
    expected = (("libs/liba.so", "pkg/old.so"), ("libs/libb.so", "libs/liba.so"))
    assert closure_of(site, "pkg/old.so") == expected
    assert loaded(site, "pkg/old.so") == {"pkg/old.so", "libs/liba.so", "libs/libb.so"}
    assert closure_of(site, "pkg/new.so") == (("libs/liba.so", "pkg/new.so"),)
    with pytest.raises(subprocess.CalledProcessError) as failed:
        loaded(site, "pkg/new.so")
    assert "libb.so: cannot open shared object file" in failed.value.stderr


def test_an_rpath_reaches_past_a_library_that_has_a_runpath(build: Build, site: Path) -> None:
    build("libs/far.so")
    build("libs/inner/middle.so", needs=("libs/far.so",))
    build("libs/first.so", RUNPATH + "$ORIGIN/inner", needs=("libs/inner/middle.so",))
    build("root.so", RPATH + "$ORIGIN/libs", needs=("libs/first.so",))
    found = closure_of(site, "root.so")
    assert found == (
        ("libs/first.so", "root.so"),
        ("libs/inner/middle.so", "libs/first.so"),
        ("libs/far.so", "libs/inner/middle.so"),
    )
    assert loaded(site, "root.so") == {"root.so", *dict(found)}


def test_libraries_that_need_each_other_are_followed_once(build: Build, site: Path) -> None:
    build("libb.so")
    build("liba.so", RUNPATH + "$ORIGIN", needs=("libb.so",))
    build("libb.so", RUNPATH + "$ORIGIN", needs=("liba.so",))
    build("root.so", RUNPATH + "$ORIGIN", needs=("liba.so", "libb.so"))
    assert closure_of(site, "root.so") == (("liba.so", "root.so"), ("libb.so", "root.so"))
    assert closure_of(site, "libb.so", "liba.so") == (("libb.so", "liba.so"), ("liba.so", "libb.so"))
    assert loaded(site, "root.so") == {"root.so", "liba.so", "libb.so"}


def test_a_library_is_searched_with_the_folders_of_every_library_that_loads_it(build: Build, site: Path) -> None:
    for folder in ("one", "two"):
        build(f"{folder}/deep.so")
    build("shared.so", needs=("one/deep.so",))
    for folder in ("one", "two"):
        build(f"{folder}/root.so", f"{RPATH}$ORIGIN:$ORIGIN/..", needs=("shared.so",))
    found = dict(closure_of(site, "two/root.so", "one/root.so"))
    assert found == {"shared.so": "one/root.so", "one/deep.so": "shared.so", "two/deep.so": "shared.so"}
    assert loaded(site, "one/root.so") | loaded(site, "two/root.so") == {"one/root.so", "two/root.so", *found}


def test_a_linker_script_has_no_dependencies(build: Build, site: Path) -> None:
    build("libb.so")
    build("root.so", RUNPATH + "$ORIGIN", needs=("libb.so",))
    (site / "libb.so").write_text("INPUT(libc.so.6)\n")
    assert closure_of(site, "root.so", "libb.so") == (("libb.so", "root.so"),)
