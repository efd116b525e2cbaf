"""The files in site-packages folders, and their distributions."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from layer_minimizer.core.errors import PlanError
from layer_minimizer.environment.inventory import take_inventory
from layer_minimizer.model.installed import InstalledFile, Inventory, PthFile
from layer_minimizer.model.trace import ForeignRoot

MakeSite = Callable[..., Path]


Take = Callable[..., Inventory]


HEADER = "Metadata-Version: 1.2\nName: {}\nVersion: 1.0\n"


@pytest.fixture
def take(build: Any) -> Take:
    def run(*sites: Path, foreign: tuple[ForeignRoot, ...] = ()) -> Inventory:
        return take_inventory(build.interpreter(*sites), foreign)

    return run


def owners(inventory: Inventory) -> dict[str, str]:
    return {file.path: file.distribution for file in inventory.files}


def by_path(inventory: Inventory) -> dict[str, InstalledFile]:
    return {file.path: file for file in inventory.files}


# ---- owners -------------------------------------------------------------------------------------------------------


def test_record_has_the_owner_of_a_file(make_site: MakeSite, take: Take) -> None:
    site = make_site("Some.Thing", {"pkg/__init__.py": "x = 1\n", "pkg/data, more.txt": "", "_single.py": ""}, "2.0")
    make_site("other", {"other.py": ""})
    found = take(site)
    assert owners(found) == {
        "Some.Thing-2.0.dist-info/METADATA": "some-thing",
        "Some.Thing-2.0.dist-info/RECORD": "some-thing",
        "_single.py": "some-thing",
        "other-1.0.dist-info/METADATA": "other",
        "other-1.0.dist-info/RECORD": "other",
        "other.py": "other",
        "pkg/__init__.py": "some-thing",
        "pkg/data, more.txt": "some-thing",
    }
    assert list(owners(found)) == sorted(owners(found))
    assert by_path(found)["pkg/__init__.py"].size == 6
    assert by_path(found)["pkg/__init__.py"].source == str(site / "pkg/__init__.py")
    assert [(d.name, d.version) for d in found.distributions] == [("other", "1.0"), ("some-thing", "2.0")]
    assert found.warnings == ()
    assert {"pkg", "other-1.0.dist-info"} <= found.folders


def test_a_file_that_no_record_claims_belongs_to_the_owner_of_its_folder(
    make_site: MakeSite, take: Take, write: Any
) -> None:
    make_site("one", {"shared/one.py": "", "ns/one/__init__.py": ""})
    make_site("two", {"shared/two.py": ""})
    site = make_site("pkg", {"pkg/__init__.py": "", "pkg/data/a.txt": ""})
    added = ["loose.py", "other/x.py", "shared/x.py", "ns/x.py", "pkg/extra.py", "pkg/data/b.txt", "pkg/new/deep/c.txt"]
    write(site, {**dict.fromkeys(added, ""), "pkg-1.0.dist-info/INSTALLER": "x"})
    found = owners(take(site))
    assert [found[path] for path in added] == ["", "", "", "", "pkg", "pkg", "pkg"]
    assert found["pkg-1.0.dist-info/INSTALLER"] == "pkg"


def test_a_namespace_package_is_split_over_its_distributions(make_site: MakeSite, take: Take) -> None:
    make_site("ns-one", {"ns/one/__init__.py": ""})
    site = make_site("ns-two", {"ns/two/__init__.py": "", "ns/two/deep/x.py": ""})
    found = owners(take(site))
    assert (found["ns/one/__init__.py"], found["ns/two/__init__.py"], found["ns/two/deep/x.py"]) == (
        "ns-one", "ns-two", "ns-two"
    )  # fmt: skip


def test_without_record_the_files_are_identified_by_folder_names(make_site: MakeSite, take: Take) -> None:
    site = make_site("my-pkg", {"my_pkg/__init__.py": "", "my_pkg/sub/x.txt": "", "my_pkg2.py": ""}, record=False)
    found = take(site)
    assert owners(found)["my_pkg/sub/x.txt"] == "my-pkg"
    assert owners(found)["my_pkg2.py"] == ""
    assert len(found.warnings) == 1
    assert "my-pkg 1.0 has no RECORD" in found.warnings[0]


def test_top_level_names_identify_the_files_without_a_record(make_site: MakeSite, take: Take) -> None:
    names = {"top_level.txt": "yaml\n_yaml\n"}
    site = make_site("PyYAML", {"yaml/__init__.py": "", "_yaml.py": ""}, record=False, metadata=names)
    assert owners(take(site))["yaml/__init__.py"] == owners(take(site))["_yaml.py"] == "pyyaml"


def test_an_egg_info_folder_lists_its_files(write: Any, take: Take, tmp_path: Path) -> None:
    site = write(tmp_path / "site", {
        "old/__init__.py": "", "old_tool.py": "", "old-1.0-py3.6.egg-info/PKG-INFO": HEADER.format("old"),
        "old-1.0-py3.6.egg-info/installed-files.txt": "../old/__init__.py\n../old_tool.py\nPKG-INFO\n",
    })  # fmt: skip
    found = take(site)
    assert set(owners(found).values()) == {"old"}
    assert found.distributions[0].metadata == "old-1.0-py3.6.egg-info"


def test_an_egg_info_file_is_a_distribution(write: Any, take: Take, tmp_path: Path) -> None:
    site = write(tmp_path / "site", {"old/__init__.py": "", "old-1.0.egg-info": HEADER.format("old")})
    found = take(site)
    assert owners(found) == {"old-1.0.egg-info": "old", "old/__init__.py": "old"}
    assert "old 1.0 has no RECORD" in found.warnings[0]


@pytest.mark.parametrize("content", ["", "Version: 1.0\n", None])
def test_an_incomplete_installation_is_a_warning(
    make_site: MakeSite, take: Take, write: Any, content: str | None
) -> None:
    site = make_site("pkg", {"pkg.py": ""})
    write(site, {"half-1.0.dist-info/INSTALLER": ""} | ({"half-1.0.dist-info/METADATA": content} if content else {}))
    found = take(site)
    assert [d.name for d in found.distributions] == ["pkg"]
    assert len(found.warnings) == 1
    assert "half-1.0.dist-info" in found.warnings[0]


def test_a_damaged_record_does_not_lose_files(make_site: MakeSite, take: Take, write: Any) -> None:
    site = make_site("pkg", {"pkg/__init__.py": ""})
    write(site, {"pkg-1.0.dist-info/RECORD": b'pkg/__init__.py,,\n\n"\x00\xff\n'})
    assert "pkg/__init__.py" in owners(take(site))


def test_an_editable_distribution_is_recognised(make_site: MakeSite, take: Take, write: Any, tmp_path: Path) -> None:
    origin = {"direct_url.json": '{"url": "file:///x", "dir_info": {"editable": true}}'}
    site = make_site("my-edited", {"__editable__.my_edited.pth": "/elsewhere\n"}, metadata=origin)
    make_site("plain", {"plain.py": ""}, metadata={"direct_url.json": '{"url": "file:///x", "dir_info": {}}'})
    make_site("odd", {"odd.py": ""}, metadata={"direct_url.json": "[]"})
    source = write(tmp_path / "src", {"edited/__init__.py": "", "edited/sub/x.py": "", "edited/__pycache__/x.pyc": ""})
    single = write(tmp_path / "src", {"one.py": "1"}) / "one.py"
    found = take(site, foreign=(ForeignRoot("edited", str(source / "edited")), ForeignRoot("one.py", str(single))))
    assert {d.name: d.editable for d in found.distributions} == {"my-edited": True, "plain": False, "odd": False}
    assert {path for path, owner in owners(found).items() if owner == "my-edited" and ".dist-info" not in path} == {
        "__editable__.my_edited.pth", "edited/__init__.py", "edited/sub/x.py", "one.py"
    }  # fmt: skip
    assert by_path(found)["edited/sub/x.py"].source == str(source / "edited/sub/x.py")


def test_of_several_editable_distributions_the_names_decide(make_site: MakeSite, take: Take, write: Any) -> None:
    origin = {"direct_url.json": '{"dir_info": {"editable": true}}'}
    site = make_site("one", {}, metadata=origin)
    make_site("two", {}, metadata=origin)
    source = write(site.parent / "src", {"two/__init__.py": "", "third/__init__.py": ""})
    roots = tuple(ForeignRoot(name, str(source / name)) for name in ("two", "third"))
    found = owners(take(site, foreign=roots))
    assert found["two/__init__.py"] == "two"
    assert found["third/__init__.py"] == "third"


def test_the_groups_of_entry_points_are_read_but_for_programs(make_site: MakeSite, take: Take) -> None:
    entry_points = "[console_scripts]\nrun = pkg:run\n\n[ host.steps ]\none = pkg:one\n[host_more]\ntwo = pkg:two\n"
    site = make_site("pkg", {"pkg.py": ""}, metadata={"entry_points.txt": entry_points})
    make_site("plain", {"plain.py": ""})
    make_site("damaged", {"damaged.py": ""}, metadata={"entry_points.txt": "[host.steps]\nno value\n"})
    assert {d.name: d.groups for d in take(site).distributions} == {
        "pkg": ("host.steps", "host_more"), "plain": (), "damaged": ()
    }  # fmt: skip


def test_metadata_that_is_not_utf8_is_read(make_site: MakeSite, take: Take, write: Any) -> None:
    site = make_site("pkg", {"pkg.py": ""})
    metadata = b"Metadata-Version: 1.2\nName: Pkg\nVersion: 1.0\nAuthor: Ren\xe9\n\nRen\xe9\n"
    write(site, {"pkg-1.0.dist-info/METADATA": metadata, "pkg-1.0.dist-info/direct_url.json": b"\xff"})
    assert [(d.name, d.version, d.editable) for d in take(site).distributions] == [("pkg", "1.0", False)]


# ---- files --------------------------------------------------------------------------------------------------------


def test_bytecode_caches_are_left_out_and_sourceless_modules_are_not(make_site: MakeSite, take: Take) -> None:
    site = make_site("pkg", {"pkg.py": "", "__pycache__/pkg.cpython-311.pyc": "x", "bare.pyc": "x"})
    found = take(site)
    assert {path for path in owners(found) if ".dist-info" not in path} == {"pkg.py", "bare.pyc"}
    assert "__pycache__" not in found.folders


def test_the_permission_to_execute_is_noted(make_site: MakeSite, take: Take) -> None:
    site = make_site("pkg", {"pkg/tool": "", "pkg/data": ""})
    (site / "pkg/tool").chmod(0o755)
    found = by_path(take(site))
    assert (found["pkg/tool"].executable, found["pkg/data"].executable) == (True, False)


def test_names_that_are_no_utf8(make_site: MakeSite, take: Take) -> None:
    site = make_site("pkg", {"pkg/\udcff\udcfe.txt": "", "pkg/\u00fc.txt": ""})
    found = owners(take(site))
    assert found["pkg/\udcff\udcfe.txt"] == found["pkg/\u00fc.txt"] == "pkg"


def test_links_within_the_site_stay_links(make_site: MakeSite, take: Take) -> None:
    site = make_site("pkg", {"pkg/lib.so.1": "elf", "pkg/v1/x.txt": "x"})
    (site / "pkg" / "lib.so").symlink_to("lib.so.1")
    (site / "pkg" / "data").symlink_to(site / "pkg" / "v1")
    (site / "top.txt").symlink_to("pkg/v1/x.txt")
    found = by_path(take(site))
    assert found["pkg/lib.so"].link == "lib.so.1"
    assert found["pkg/lib.so"].size == len("lib.so.1")
    assert found["pkg/data"].link == "v1"
    assert found["top.txt"].link == "pkg/v1/x.txt"
    assert "pkg/data/x.txt" not in found
    assert not found["pkg/lib.so"].executable


def test_links_out_of_the_site_are_what_they_lead_to(
    make_site: MakeSite, take: Take, write: Any, tmp_path: Path
) -> None:
    site = make_site("pkg", {"pkg/__init__.py": ""})
    outside = write(tmp_path / "outside", {"x.txt": "four", "sub/y.txt": ""})
    (site / "pkg" / "x.txt").symlink_to(outside / "x.txt")
    (site / "pkg" / "folder").symlink_to(outside)
    found = by_path(take(site))
    assert (found["pkg/x.txt"].link, found["pkg/x.txt"].size) == ("", 4)
    assert {"pkg/folder/x.txt", "pkg/folder/sub/y.txt"} <= found.keys()


def test_links_that_lead_nowhere_or_in_circles_do_not_hang_or_break_the_walk(
    make_site: MakeSite, take: Take, write: Any, tmp_path: Path
) -> None:
    site = make_site("pkg", {"pkg/__init__.py": ""})
    (site / "pkg" / "nowhere").symlink_to("absent")
    (site / "pkg" / "up").symlink_to("..")
    (site / "pkg" / "here").symlink_to(".")
    (site / "pkg" / "self").symlink_to("self")
    (site / "pkg" / "one").symlink_to("two")
    (site / "pkg" / "two").symlink_to("one")
    outside = write(tmp_path / "outside", {"x.txt": ""})
    (outside / "again").symlink_to(outside)
    (site / "pkg" / "outside").symlink_to(outside)
    found = owners(take(site))
    assert {"pkg/__init__.py", "pkg/outside/x.txt"} <= found.keys()
    assert not {"pkg/nowhere", "pkg/self", "pkg/one", "pkg/up/pkg/__init__.py"} & found.keys()
    assert len([path for path in found if path.endswith("x.txt")]) <= 2


def test_what_is_neither_file_nor_folder_is_left_out(make_site: MakeSite, take: Take) -> None:
    site = make_site("pkg", {"pkg/__init__.py": ""})
    os.mkfifo(site / "pkg" / "pipe")
    assert "pkg/pipe" not in owners(take(site))


def test_a_folder_that_may_not_be_read_is_named(make_site: MakeSite, take: Take) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may read everything")
    site = make_site("pkg", {"pkg/__init__.py": "", "pkg/secret/x": ""})
    (site / "pkg" / "secret").chmod(0)
    try:
        with pytest.raises(PlanError, match="pkg/secret"):
            take(site)
    finally:
        (site / "pkg" / "secret").chmod(0o755)


# ---- several folders ----------------------------------------------------------------------------------------------


def test_the_first_folder_shadows_the_second(make_site: MakeSite, take: Take) -> None:
    upper = make_site("pkg", {"pkg/__init__.py": "upper", "pkg/same.py": ""}, "2.0", site="upper")
    lower = make_site("pkg", {"pkg/__init__.py": "lower!", "pkg/only.py": ""}, "1.0", site="lower")
    found = take(upper, lower)
    assert by_path(found)["pkg/__init__.py"].source == str(upper / "pkg/__init__.py")
    assert by_path(found)["pkg/only.py"].source == str(lower / "pkg/only.py")
    assert [(f.path, f.source) for f in found.shadowed] == [("pkg/__init__.py", str(lower / "pkg/__init__.py"))]
    assert [(d.name, d.version) for d in found.distributions] == [("pkg", "2.0")]


def test_an_environment_without_packages_is_refused(take: Take, tmp_path: Path) -> None:
    (tmp_path / "site").mkdir()
    with pytest.raises(PlanError, match="no packages installed"):
        take(tmp_path / "site")


# ---- .pth ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("# a comment\n\n", PthFile("x.pth", runs_code=False, folders=(), leaves_site=False)),
        ("import _x; _x.start()\n", PthFile("x.pth", runs_code=True, folders=(), leaves_site=False)),
        ("import\t_x\n", PthFile("x.pth", runs_code=True, folders=(), leaves_site=False)),
        ("sub/lib\n", PthFile("x.pth", runs_code=False, folders=("sub/lib",), leaves_site=False)),
        (
            "./sub\n../site/sub/lib  \n",
            PthFile("x.pth", runs_code=False, folders=("sub", "sub/lib"), leaves_site=False),
        ),
        ("../elsewhere\n", PthFile("x.pth", runs_code=False, folders=(), leaves_site=True)),
        ("/somewhere/else\nimport _x\nsub\n", PthFile("x.pth", runs_code=True, folders=("sub",), leaves_site=True)),
        (".\n", PthFile("x.pth", runs_code=False, folders=(), leaves_site=False)),
        ("importlib_folder\n", PthFile("x.pth", runs_code=False, folders=("importlib_folder",), leaves_site=False)),
        ("sub\r\nimport os\r\n", PthFile("x.pth", runs_code=True, folders=("sub",), leaves_site=False)),
        ("bad\x00name\nsub\n", PthFile("x.pth", runs_code=False, folders=("sub",), leaves_site=False)),
    ],
)
def test_kinds_of_pth_files(make_site: MakeSite, take: Take, text: str, expected: PthFile) -> None:
    site = make_site("pkg", {"x.pth": text, "sub/lib/y.py": "", "sub/not_at_top.pth": "import os\n"})
    assert take(site).pth == (expected,)


@pytest.mark.parametrize(
    ("name", "normal"), [("Foo", "foo"), ("a_b", "a-b"), ("a.-_b", "a-b"), ("ruamel.yaml.clib", "ruamel-yaml-clib")]
)
def test_names_have_one_spelling(make_site: MakeSite, take: Take, name: str, normal: str) -> None:
    site = make_site(name, {"x.py": ""})
    assert [distribution.name for distribution in take(site).distributions] == [normal]


def test_programs_are_told_from_files_that_are_only_called_executable(make_site: MakeSite, take: Take) -> None:
    files = {
        "tool/bin/native-1.0": b"\x7fELF",
        "tool/script": "#!/bin/sh\n",
        "tool/notes": "no program\n",
        "tool/module.py": "#!/usr/bin/env python\n",
        "tool/lib.so.1": b"\x7fELF",
        "tool/off": b"\x7fELF",
    }
    site = make_site("tool", files)
    for path in files.keys() - {"tool/off"}:
        (site / path).chmod(0o755)
    assert {file.path for file in take(site).files if file.program} == {"tool/bin/native-1.0", "tool/script"}


def test_requirements_are_read_from_metadata_and_from_an_egg(make_site: MakeSite, take: Take, write: Any) -> None:
    header = "Metadata-Version: 2.1\nName: tool\nVersion: 1.0\nRequires-Dist: a>1; extra == 'x'\n"
    site = make_site("tool", {"tool.py": ""}, metadata={"METADATA": header})
    write(site / "old.egg-info", {"PKG-INFO": "Name: old\nVersion: 1.0\n", "requires.txt": "b\n\n[y]\nc\n"})
    found = {each.name: each.requires for each in take(site).distributions}
    assert found == {"tool": ("a>1; extra == 'x'",), "old": ("b", 'c; extra == "y"')}
