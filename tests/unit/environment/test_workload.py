"""Reading of the user's files, and the task root in which the workload runs."""

import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from layer_minimizer.core.errors import TraceError, UsageError
from layer_minimizer.environment.workload import load_workload
from layer_minimizer.execution.task_root import make_task_root, workload_files
from layer_minimizer.model.workload import Event, Workload

SMALL, LARGE = 1 << 20, 1 << 28
Write = Callable[..., Path]


@pytest.fixture
def entry(tmp_path: Path) -> Path:
    path = tmp_path / "function" / "handler.py"
    path.parent.mkdir()
    path.write_text("def handler(event, context):\n    pass\n")
    return path


def events(tmp_path: Path, entry: Path, *contents: Any) -> tuple[Event, ...]:
    files = []
    for number, content in enumerate(contents):
        files.append(tmp_path / f"event{number}.json")
        files[-1].write_text(json.dumps(content))
    return load_workload(entry, events=files).events


# ---- reading ------------------------------------------------------------------------------------------------------


def test_a_workload_without_anything_else(entry: Path) -> None:
    assert load_workload(entry) == Workload(entry)


def test_paths_become_absolute(entry: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (entry.parent / "m.bin").write_text("")
    monkeypatch.chdir(entry.parent)
    assert load_workload("handler.py", models=["m.bin"]) == Workload(entry, "", (entry.parent / "m.bin",))


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ({"a": 1}, [Event("event0.json", {"a": 1})]),
        (None, [Event("event0.json", None)]),
        ("text", [Event("event0.json", "text")]),
        ([{"a": 1}, 2], [Event("event0.json[0]", {"a": 1}), Event("event0.json[1]", 2)]),
        ([], []),
        ({"tests": [{"name": "n", "event": [1], "context": {"k": 1}}]}, [Event("n", [1], {"k": 1})]),
        ({"tests": [{"event": 1}]}, [Event("event0.json[0]", 1)]),
        ({"tests": "no list"}, [Event("event0.json", {"tests": "no list"})]),
    ],
)
def test_forms_of_events(tmp_path: Path, entry: Path, content: Any, expected: list[Event]) -> None:
    assert list(events(tmp_path, entry, content)) == expected


def test_events_keep_the_order_of_their_files(tmp_path: Path, entry: Path) -> None:
    assert [e.payload for e in events(tmp_path, entry, 1, [2, 3], {"tests": [{"event": 4}]})] == [1, 2, 3, 4]


@given(names=st.lists(st.sampled_from(["a", "a #2", "a #3", "b", "a #2 #2"]), max_size=9))
def test_names_of_events_are_unique(names: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        entry = Path(folder, "h.py")
        entry.touch()
        tests = [{"name": name, "event": number} for number, name in enumerate(names)]
        found = events(Path(folder), entry, {"tests": tests})
    assert len({e.name for e in found}) == len(names)
    assert [e.payload for e in found] == list(range(len(names)))
    assert all(e.name.startswith(name) for e, name in zip(found, names, strict=True))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not valid JSON"),
        ("", "not valid JSON"),
        ('{"tests": [{"name": "x"}]}', 'test 0 has no "event"'),
        ('{"tests": [{"event": 1}, 5]}', "test 1"),
        ('{"tests": [{"event": 1, "context": []}]}', "context"),
    ],
)
def test_events_that_cannot_be_used_are_errors(tmp_path: Path, entry: Path, text: str, message: str) -> None:
    file = tmp_path / "broken.json"
    file.write_text(text)
    with pytest.raises(UsageError) as caught:
        load_workload(entry, events=[file])
    assert message in str(caught.value)
    assert "broken.json" in str(caught.value)


def test_an_event_in_another_encoding_is_an_error(tmp_path: Path, entry: Path) -> None:
    file = tmp_path / "latin.json"
    file.write_bytes('"\u00fc"'.encode("latin-1"))
    with pytest.raises(UsageError, match="not valid JSON"):
        load_workload(entry, events=[file])


def test_files_that_are_missing_are_errors(tmp_path: Path, entry: Path) -> None:
    with pytest.raises(UsageError, match=r"absent\.py.*--entry"):
        load_workload(tmp_path / "absent.py")
    with pytest.raises(UsageError, match=r"absent\.bin"):
        load_workload(entry, models=[tmp_path / "absent.bin"])
    with pytest.raises(UsageError, match=r"absent\.json"):
        load_workload(entry, events=[tmp_path / "absent.json"])


def test_files_of_the_wrong_kind_are_errors(tmp_path: Path, entry: Path) -> None:
    (tmp_path / "handler.txt").touch()
    with pytest.raises(UsageError, match=r"\.py file"):
        load_workload(tmp_path / "handler.txt")
    with pytest.raises(UsageError, match="no such entry"):
        load_workload(tmp_path)
    with pytest.raises(UsageError, match="not a regular file"):
        load_workload(entry, models=[tmp_path])


def test_two_files_of_one_name_are_refused(tmp_path: Path, entry: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "m.bin").touch()
    with pytest.raises(UsageError, match=r"m\.bin"):
        load_workload(entry, models=[tmp_path / "a" / "m.bin", tmp_path / "b" / "m.bin"])


def test_lambdas_notation_of_a_handler_is_understood(entry: Path) -> None:
    assert load_workload(entry, handler="handler.run").handler == load_workload(entry, handler="run").handler == "run"
    with pytest.raises(UsageError, match=r"other\.run names the file other\.py"):
        load_workload(entry, handler="other.run")


# ---- the task root ------------------------------------------------------------------------------------------------


def state(folder: Path) -> dict[str, tuple[float, int, bytes]]:
    return {
        str(path): (path.lstat().st_mtime_ns, path.lstat().st_mode, path.read_bytes() if path.is_file() else b"")
        for path in folder.rglob("*")
    }


def test_the_task_root_has_the_entrys_folder_and_the_models(entry: Path, write: Write, tmp_path: Path) -> None:
    write(entry.parent, {"lib/helper.py": "", "data.txt": "x", "lib/deep/y.txt": "y"})
    model = write(tmp_path / "models", {"m.bin": "weights"}) / "m.bin"
    (entry.parent / "lib" / "helper.py").chmod(0o755)
    before = state(entry.parent)
    make_task_root(Workload(entry, "", (model,)), tmp_path / "root", ())
    found = {str(p.relative_to(tmp_path / "root")) for p in (tmp_path / "root").rglob("*") if p.is_file()}
    assert found == {"handler.py", "lib/helper.py", "data.txt", "lib/deep/y.txt", "m.bin"}
    assert (tmp_path / "root" / "lib" / "helper.py").stat().st_mode & 0o777 == 0o755
    assert (tmp_path / "root" / "m.bin").read_text() == "weights"
    assert state(entry.parent) == before


def test_a_small_file_is_a_copy_that_may_be_written_to(entry: Path, write: Write, tmp_path: Path) -> None:
    write(entry.parent, {"small.txt": b"x" * SMALL})
    make_task_root(Workload(entry), tmp_path / "root", ())
    copy = tmp_path / "root" / "small.txt"
    assert not copy.is_symlink()
    copy.write_text("changed")
    assert (entry.parent / "small.txt").read_bytes() == b"x" * SMALL


def sparse(path: Path) -> Path:
    """Create a large sparse file."""
    with path.open("wb") as out:
        out.truncate(LARGE)
    return path


def test_a_large_file_is_not_copied(entry: Path, tmp_path: Path) -> None:
    original = sparse(entry.parent / "large.bin")
    make_task_root(Workload(entry), tmp_path / "root", ())
    assert (tmp_path / "root" / "large.bin").samefile(original)


def test_a_large_file_of_another_file_system_is_linked(entry: Path) -> None:
    shared = Path("/dev/shm")
    if not os.access(shared, os.W_OK) or shared.stat().st_dev == entry.stat().st_dev:
        pytest.skip("there is no second file system to write to")
    original = sparse(entry.parent / "large.bin")
    with tempfile.TemporaryDirectory(dir=shared) as folder:
        make_task_root(Workload(entry), Path(folder, "root"), ())
        placed = Path(folder, "root", "large.bin")
        assert placed.is_symlink()
        assert placed.samefile(original)


def test_a_model_wins_over_a_file_of_its_name_next_to_the_entry(entry: Path, write: Write, tmp_path: Path) -> None:
    write(entry.parent, {"m.bin": "old"})
    model = write(tmp_path / "models", {"m.bin": "new"}) / "m.bin"
    make_task_root(Workload(entry, "", (model,)), tmp_path / "root", ())
    assert (tmp_path / "root" / "m.bin").read_text() == "new"
    assert (entry.parent / "m.bin").read_text() == "old"


def test_histories_caches_and_environments_stay_out(entry: Path, write: Write, tmp_path: Path) -> None:
    write(entry.parent, {
        ".git/config": "", "__pycache__/x.pyc": "", "node_modules/x.js": "", ".tox/x": "", "lib/__pycache__/y.pyc": "",
        "venv/pyvenv.cfg": "", "venv/lib/x.py": "", "site/pkg.py": "", "lib/x.py": "", "lib/env/pyvenv.cfg": "",
    })  # fmt: skip
    make_task_root(Workload(entry), tmp_path / "root", [str(entry.parent / "site")])
    found = {str(p.relative_to(tmp_path / "root")) for p in (tmp_path / "root").rglob("*")}
    assert found == {"handler.py", "lib", "lib/x.py"}


def test_a_task_root_within_the_entrys_folder_does_not_contain_itself(entry: Path) -> None:
    root = entry.parent / "scratch" / "task"
    make_task_root(Workload(entry), root, ())
    assert {str(p.relative_to(root)) for p in root.rglob("*")} == {"handler.py", "scratch"}


def test_links_lead_where_they_led(entry: Path, write: Write, tmp_path: Path) -> None:
    outside = write(tmp_path / "outside", {"x.txt": "x"})
    (entry.parent / "data").symlink_to("../outside")
    (entry.parent / "circle").symlink_to("circle")
    (entry.parent / "self").symlink_to(".")
    make_task_root(Workload(entry), tmp_path / "root", ())
    assert (tmp_path / "root" / "data" / "x.txt").samefile(outside / "x.txt")


def test_a_linked_small_file_is_a_copy(entry: Path, write: Write, tmp_path: Path) -> None:
    original = write(tmp_path / "outside", {"x.txt": "x"}) / "x.txt"
    (entry.parent / "x.txt").symlink_to(original)
    make_task_root(Workload(entry), tmp_path / "root", ())
    (tmp_path / "root" / "x.txt").write_text("changed")
    assert original.read_text() == "x"


def test_what_is_neither_file_nor_folder_stays_out(entry: Path, tmp_path: Path) -> None:
    os.mkfifo(entry.parent / "pipe")
    make_task_root(Workload(entry), tmp_path / "root", ())
    assert [p.name for p in (tmp_path / "root").iterdir()] == ["handler.py"]


def test_a_place_that_cannot_be_written_is_an_error(entry: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(TraceError, match="task root"):
        make_task_root(Workload(entry), tmp_path / "file" / "root", ())


def test_a_folder_that_has_two_names_is_in_the_function_by_both(entry: Path, write: Write) -> None:
    write(entry.parent, {"v1/model.txt": "1", "lib/deep/x.txt": "x"})
    for link, target in (("latest", "v1"), ("z", "lib"), ("lib/deep/up", ".."), ("lib/self", ".")):
        (entry.parent / link).symlink_to(target)
    found = {name for name, _ in workload_files(entry, ())}
    assert found == {"handler.py", "v1/model.txt", "latest/model.txt", "lib/deep/x.txt", "z/deep/x.txt"}
