"""A layer's bytes: the same wherever they are built, the same files after unzipping, within Lambda's limits."""

import hashlib
import os
import random
import shutil
import stat
import tempfile
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from layer_minimizer.aws.limits import LAMBDA_UNZIPPED_BYTES
from layer_minimizer.core.errors import PackError
from layer_minimizer.core.files import check_output, unfinished
from layer_minimizer.environment.inventory import take_inventory
from layer_minimizer.layer.archive import unzip, write_zip
from layer_minimizer.layer.layout import Layout
from layer_minimizer.model.installed import InstalledFile, Inventory
from layer_minimizer.model.plan import Decision, KeepPlan, Reason, Verdict
from layer_minimizer.pack.budget import Budget, ReservedBytes, size_advice
from layer_minimizer.pack.staging import stage

PREFIX = "python/lib/python3.11/site-packages"


def keep(inventory: Inventory, *paths: str, folders: Iterable[str] = ()) -> KeepPlan:
    decisions = tuple(
        Decision(
            file.path, file.size, file.distribution,
            *((Verdict.KEPT, Reason.TRACED) if file.path in paths else (Verdict.DROPPED, Reason.UNUSED)), "",
        )
        for file in inventory.files
    )  # fmt: skip
    return KeepPlan("3.11.7", decisions, tuple(folders), ())


def tree(folder: Path) -> dict[str, tuple[str, int | None, bytes]]:
    """Return kind, permission bits and content of everything below a folder."""
    found: dict[str, tuple[str, int | None, bytes]] = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink():
            found[name] = ("link", None, os.fsencode(os.readlink(path)))
        elif path.is_dir():
            found[name] = ("folder", None, b"")
        else:
            found[name] = ("file", stat.S_IMODE(path.stat().st_mode), path.read_bytes())
    return found


@pytest.fixture
def staged(make_site: Callable[..., Path], build: Any, tmp_path: Path) -> Path:
    """A staged layer with a program, a link, an empty folder and names beyond ASCII."""
    site = make_site("pkg", {
        "pkg/__init__.py": "x = 1\n", "pkg/run.sh": "#!/bin/sh\n", "pkg/v1/data.bin": os.urandom(3000),
        "pkg/n\u00e4me \u4e2d.txt": "", "pkg/dropped.py": "",
    })  # fmt: skip
    (site / "pkg" / "run.sh").chmod(0o775)
    (site / "pkg" / "__init__.py").chmod(0o600)
    (site / "pkg" / "data").symlink_to("v1")
    inventory = take_inventory(build.interpreter(site))
    kept = ["pkg/__init__.py", "pkg/run.sh", "pkg/v1/data.bin", "pkg/n\u00e4me \u4e2d.txt", "pkg/data"]
    folder = tmp_path / "staged"
    stage(keep(inventory, *kept, folders=["pkg/empty"]), inventory, folder, Layout.SITE)
    return folder


# ---- stage --------------------------------------------------------------------------------------------------------


def test_only_kept_files_are_staged_with_lambdas_permissions(staged: Path) -> None:
    found = {name.removeprefix(f"{PREFIX}/"): entry for name, entry in tree(staged / PREFIX).items()}
    assert {name: kind for name, (kind, _, _) in found.items()} == {
        "pkg": "folder", "pkg/empty": "folder", "pkg/v1": "folder", "pkg/__init__.py": "file", "pkg/run.sh": "file",
        "pkg/v1/data.bin": "file", "pkg/n\u00e4me \u4e2d.txt": "file", "pkg/data": "link",
    }  # fmt: skip
    assert found["pkg/run.sh"][1] == 0o755
    assert found["pkg/__init__.py"][1] == 0o644
    assert found["pkg/data"][2] == b"v1"


def test_a_flat_layer_has_its_packages_at_the_top(make_site: Callable[..., Path], build: Any, tmp_path: Path) -> None:
    inventory = take_inventory(build.interpreter(make_site("pkg", {"pkg.py": "1"})))
    stage(keep(inventory, "pkg.py"), inventory, tmp_path / "out", Layout.FLAT)
    assert (tmp_path / "out" / "python" / "pkg.py").read_text() == "1"
    assert Layout.SITE.prefix("3.6.15") == "python/lib/python3.6/site-packages"


def test_a_link_out_of_the_site_is_shipped_as_what_it_leads_to(
    make_site: Callable[..., Path], build: Any, tmp_path: Path
) -> None:
    site = make_site("pkg", {"pkg/__init__.py": ""})
    (tmp_path / "outside.txt").write_text("content")
    (site / "pkg" / "link.txt").symlink_to(tmp_path / "outside.txt")
    inventory = take_inventory(build.interpreter(site))
    stage(keep(inventory, "pkg/link.txt"), inventory, tmp_path / "out", Layout.FLAT)
    copy = tmp_path / "out" / "python" / "pkg" / "link.txt"
    assert not copy.is_symlink()
    assert copy.read_text() == "content"


def test_a_kept_name_that_cannot_be_stored_in_a_zip_is_refused(
    make_site: Callable[..., Path], build: Any, tmp_path: Path
) -> None:
    inventory = take_inventory(build.interpreter(make_site("pkg", {"pkg/bad\udcff.txt": ""})))
    with pytest.raises(PackError, match=r"bad\\xff\.txt.*--exclude"):
        stage(keep(inventory, "pkg/bad\udcff.txt"), inventory, tmp_path / "out", Layout.SITE)


def test_an_empty_folder_whose_name_cannot_be_stored_in_a_zip_is_refused(
    make_site: Callable[..., Path], build: Any, tmp_path: Path
) -> None:
    inventory = take_inventory(build.interpreter(make_site("pkg", {"pkg/a.txt": "", "pkg/bad\udcff/b.txt": ""})))
    with pytest.raises(PackError, match=r"bad\\xff"):
        stage(keep(inventory, "pkg/a.txt", folders=["pkg/bad\udcff"]), inventory, tmp_path / "out", Layout.SITE)


def test_an_error_names_a_file_that_was_deleted(make_site: Callable[..., Path], build: Any, tmp_path: Path) -> None:
    site = make_site("pkg", {"pkg.py": ""})
    inventory = take_inventory(build.interpreter(site))
    (site / "pkg.py").unlink()
    with pytest.raises(PackError, match=r"pkg\.py.*No such file"):
        stage(keep(inventory, "pkg.py"), inventory, tmp_path / "out", Layout.SITE)


# ---- zip ----------------------------------------------------------------------------------------------------------


def test_unzipping_restores_what_was_zipped(staged: Path, tmp_path: Path) -> None:
    archive = write_zip(staged, tmp_path / "layer.zip")
    unzip(archive.path, tmp_path / "opt")
    assert tree(tmp_path / "opt") == tree(staged)


def test_the_archive_has_its_sizes_and_digest(staged: Path, tmp_path: Path) -> None:
    archive = write_zip(staged, tmp_path / "layer.zip")
    files = [entry for entry in tree(staged).values() if entry[0] != "folder"]
    assert archive.files == len(files) == 5
    assert archive.unzipped_bytes == sum(len(content) for _, _, content in files)
    assert archive.zipped_bytes == archive.path.stat().st_size
    assert archive.sha256 == hashlib.sha256(archive.path.read_bytes()).hexdigest()


def test_other_programs_read_the_zip_the_same(staged: Path, tmp_path: Path) -> None:
    write_zip(staged, tmp_path / "layer.zip")
    with zipfile.ZipFile(tmp_path / "layer.zip") as archive:
        assert archive.testzip() is None
        entries = {entry.filename: entry for entry in archive.infolist()}
    assert list(entries) == sorted(entries)
    assert {entry.date_time for entry in entries.values()} == {(1980, 1, 1, 0, 0, 0)}
    assert stat.S_ISLNK(entries[f"{PREFIX}/pkg/data"].external_attr >> 16)
    assert entries[f"{PREFIX}/pkg/empty/"].is_dir()
    assert f"{PREFIX}/pkg/" not in entries
    assert stat.S_IMODE(entries[f"{PREFIX}/pkg/run.sh"].external_attr >> 16) == 0o755


def test_permissions_of_group_and_others_make_no_difference(staged: Path, tmp_path: Path) -> None:
    first = write_zip(staged, tmp_path / "one.zip").sha256
    (staged / PREFIX / "pkg" / "run.sh").chmod(0o700)
    (staged / PREFIX / "pkg" / "__init__.py").chmod(0o600)
    assert write_zip(staged, tmp_path / "two.zip").sha256 == first


def test_another_content_or_permission_makes_other_bytes(staged: Path, tmp_path: Path) -> None:
    first = write_zip(staged, tmp_path / "one.zip").sha256
    (staged / PREFIX / "pkg" / "run.sh").chmod(0o644)
    second = write_zip(staged, tmp_path / "two.zip").sha256
    (staged / PREFIX / "pkg" / "__init__.py").write_text("x = 2\n")
    assert len({first, second, write_zip(staged, tmp_path / "three.zip").sha256}) == 3


NAMES = st.text(
    st.characters(codec="utf-8", exclude_characters="/\0\\", exclude_categories=["C"]), min_size=1, max_size=9
)
NAME = NAMES.filter(lambda name: name.strip(".") and len(name.encode()) < 200)


@given(
    st.dictionaries(
        st.lists(NAME, min_size=1, max_size=3).map("/".join),
        st.tuples(st.binary(max_size=99), st.booleans()),
        max_size=6,
    )
)
def test_any_tree_survives_the_zip(files: dict[str, tuple[bytes, bool]]) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name, "in")
        folder.mkdir()
        for path, (content, executable) in files.items():
            target = folder / path
            if any(parent.is_file() for parent in target.parents) or target.is_dir():
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)
            target.chmod(0o755 if executable else 0o644)
        write_zip(folder, Path(name, "layer.zip"))
        Path(name, "out").mkdir()
        unzip(Path(name, "layer.zip"), Path(name, "out"))
        assert tree(Path(name, "out")) == tree(folder)


def test_a_zip_that_cannot_be_written_is_an_error(staged: Path, tmp_path: Path) -> None:
    with pytest.raises(PackError, match="cannot write"):
        write_zip(staged, tmp_path / "absent" / "layer.zip")


def test_a_layer_that_cannot_be_unpacked_is_an_error(staged: Path, tmp_path: Path) -> None:
    archive = write_zip(staged, tmp_path / "layer.zip")
    (tmp_path / "opt").write_text("a file")
    with pytest.raises(PackError, match="cannot unpack"):
        unzip(archive.path, tmp_path / "opt")


# ---- output -------------------------------------------------------------------------------------------------------


def test_a_part_file_never_stays(tmp_path: Path) -> None:
    output = tmp_path / "layer.zip"

    def fail() -> None:
        with unfinished(output) as part:
            part.write_text("half")
            assert part.parent == tmp_path
            raise PackError("no room")

    with pytest.raises(PackError, match="no room"):
        fail()
    assert list(tmp_path.iterdir()) == []
    with unfinished(output) as part:
        part.write_text("whole")
        part.replace(output)
    assert [path.name for path in tmp_path.iterdir()] == ["layer.zip"]


def test_an_output_that_can_be_written_leaves_no_trace_of_the_test(tmp_path: Path) -> None:
    check_output(tmp_path / "layer.zip")
    assert list(tmp_path.iterdir()) == []


def test_an_output_that_is_a_folder_or_lies_nowhere_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PackError, match="is a folder"):
        check_output(tmp_path)
    with pytest.raises(PackError, match="cannot write"):
        check_output(tmp_path / "absent" / "layer.zip")


# ---- limits -------------------------------------------------------------------------------------------------------


def sized(**sizes: int) -> KeepPlan:
    decisions = [
        Decision(f"{name}/{part}", size // 2, name, Verdict.KEPT, Reason.TRACED, "")
        for name, size in sizes.items()
        for part in "ab"
    ]
    decisions.append(Decision("dropped", 10**9, "dropped", Verdict.DROPPED, Reason.UNUSED, ""))
    return KeepPlan("3.11.7", tuple(decisions), (), ())


def test_a_layer_of_exactly_the_limit_is_allowed() -> None:
    assert LAMBDA_UNZIPPED_BYTES == 250 * 1024 * 1024
    Budget().check(sized(big=LAMBDA_UNZIPPED_BYTES))
    with pytest.raises(PackError):
        Budget().check(sized(big=LAMBDA_UNZIPPED_BYTES + 2))


def test_a_layer_over_the_limit_names_the_largest_distributions_and_what_to_do() -> None:
    with pytest.raises(PackError) as caught:
        Budget().check(sized(small=2_000_000, huge=300_000_000, middle=50_000_000))
    text = str(caught.value)
    assert text.index("huge") < text.index("middle") < text.index("small")
    assert "352,000,000" in text
    assert "262,144,000" in text
    assert "300.0 MB" in text
    assert "dropped" not in text
    assert "Lambda" in text
    assert all(option in text for option in ("--provided huge", "--exclude", "--explain huge", "--max-size"))


def test_a_limit_set_by_the_user_is_named() -> None:
    with pytest.raises(PackError, match="--max-size is 1,000"):
        Budget(1000, user_set=True).check(sized(a=2000))


def test_reserved_bytes_count() -> None:
    reserved = ReservedBytes(code=100, layers=200)
    Budget(2300, user_set=True).check(sized(a=2000), reserved)
    with pytest.raises(PackError, match="the function 100, other layers 200") as caught:
        Budget(2298, user_set=True).check(sized(a=2000), reserved)
    assert "2,300" in str(caught.value)
    assert "S3" not in str(caught.value)


def test_models_that_do_not_fit_can_be_stored_elsewhere() -> None:
    with pytest.raises(PackError, match="700 bytes over the limit, without them 300 under it") as caught:
        Budget(2400, user_set=True).check(sized(a=2000), ReservedBytes(code=100, models=1000))
    assert "ephemeral" not in str(caught.value)
    assert "more than 600,000,000 bytes" in size_advice(Budget(), 0, ReservedBytes(models=600_000_000))


def test_a_layer_that_leaves_no_room_for_code_alone_has_to_shrink() -> None:
    assert "--max-size 1900" in size_advice(Budget(2000), 1950, ReservedBytes(code=100))


def test_files_without_a_distribution_are_counted_too() -> None:
    plan = KeepPlan("3.11.7", (Decision("x", 2000, "", Verdict.KEPT, Reason.TRACED, ""),), (), ())
    with pytest.raises(PackError, match="no distribution"):
        Budget(1000).check(plan)


def test_links_to_folders_are_not_followed_into(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    (folder / "real").mkdir(parents=True)
    (folder / "real" / "x").write_text("x")
    (folder / "link").symlink_to("real")
    (folder / "real" / "up").symlink_to("..")
    archive = write_zip(folder, tmp_path / "layer.zip")
    assert archive.files == 3
    with zipfile.ZipFile(archive.path) as source:
        assert source.namelist() == ["link", "real/up", "real/x"]


def test_an_installed_file_keeps_its_size_in_the_plan() -> None:
    file = InstalledFile("a", 5, "a", "/a")
    assert keep(Inventory((file,), (), (), frozenset()), "a").kept[0].size == 5


def test_what_is_compressed_already_is_stored(tmp_path: Path) -> None:
    stage = tmp_path / "stage"
    stage.mkdir()
    noise = random.Random(1).randbytes(2 << 20)
    for name, content in (
        ("large", noise),
        ("mixed", bytes(2 << 20) + noise),
        ("late", noise + b"text " * 99_999),
        ("small", noise[:99]),
    ):
        (stage / name).write_bytes(content)
    write_zip(stage, tmp_path / "layer.zip")
    with zipfile.ZipFile(tmp_path / "layer.zip") as archive:
        assert archive.testzip() is None
        methods = {entry.filename: entry.compress_type for entry in archive.infolist()}
        assert archive.read("large") == noise
    stored, others = zipfile.ZIP_STORED, dict.fromkeys(("mixed", "late", "small"), zipfile.ZIP_DEFLATED)
    assert methods == {"large": stored, **others}


def test_a_link_in_a_zip_leads_nothing_out_of_the_folder(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept.txt").write_text("mine")
    for entry in ("python/a/kept.txt", "python/a/new/", "python/a/new/deep.txt"):
        with zipfile.ZipFile(tmp_path / "bad.zip", "w") as archive:
            link = zipfile.ZipInfo("python/a")
            link.external_attr = (stat.S_IFLNK | 0o777) << 16
            archive.writestr(link, str(outside))
            archive.writestr(entry, "theirs" if not entry.endswith("/") else "")
        with pytest.raises(PackError, match=f"{entry} lies outside of the layer, by way of a link in it"):
            unzip(tmp_path / "bad.zip", tmp_path / "opt")
        shutil.rmtree(tmp_path / "opt")
    assert [(path.name, path.read_text()) for path in outside.iterdir()] == [("kept.txt", "mine")]


def test_files_of_a_zip_without_permission_bits_can_be_read(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "layer.zip", "w") as archive:
        for name in ("python/a.py", "python/b/"):
            entry = zipfile.ZipInfo(name)
            entry.create_system, entry.external_attr = 0, 0x20  # of MS-DOS: to be archived
            archive.writestr(entry, "")
    unzip(tmp_path / "layer.zip", tmp_path / "opt")
    assert stat.S_IMODE((tmp_path / "opt/python/a.py").stat().st_mode) == 0o644
