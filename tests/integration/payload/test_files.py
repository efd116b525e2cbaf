"""Cold data files are found and read with Python's own functions, by every CPython, as if they lay in their places."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from .conftest import ColdLayer

HOT = {
    "warm/__init__.py": "",
    "warm/there.txt": "there",
    "warm/plain/real.txt": "real",
    "kept-1.0.dist-info/RECORD": "warm/__init__.py,,\nwarm/data.txt,,\n",
}
COLD = {
    "warm/data.txt": "data \u00e9\n",
    "warm/sub/a.bin": bytes(range(256)),
    "warm/sub/deep/b.txt": "b",
    "warm/plain/cold.txt": "cold",
    "warm/tool.sh": "#!/bin/sh\n",
    "cold/__init__.py": "",
    "cold/mod.py": "",
    "cold/words.txt": "words",
    "cold/pkg/__init__.py": "",
    "gone-2.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: gone\nVersion: 2.0\n",
    "gone-2.0.dist-info/RECORD": "cold/__init__.py,,\n",
    "gone-2.0.dist-info/entry_points.txt": "[gone.group]\nname = cold.mod:thing\n",
    "kept-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: kept\nVersion: 1.0\n",
    "kept-1.0.dist-info/entry_points.txt": "[some.group]\nname = warm:thing\n",
    "large.bin": bytes(range(251)) * 40000,
    "empty.txt": "",
}


@pytest.fixture
def layer(layer_of: Callable[..., ColdLayer], cpython: str) -> ColdLayer:
    return layer_of(cpython, COLD, HOT)


def test_open_in_every_way(layer: ColdLayer) -> None:
    layer.run(
        r"""
        import io, pathlib, pickle, shutil, tokenize, codecs
        path = R + "/warm/data.txt"
        text = "data " + chr(0xe9) + "\n"
        assert open(path, encoding="utf-8").read() == text
        assert io.open is open and io.open(file=path, mode="rb").read() == text.encode()
        assert open(path).name == path and open(path.encode(), "rb").name == path.encode()
        assert pathlib.Path(path).read_text(encoding="utf-8") == text
        assert pathlib.Path(path).open("rb").read() == text.encode()
        assert codecs.open(path, encoding="utf-8").read() == text
        assert tokenize.open(R + "/cold/mod.py").read() == ""
        assert open(R + "/large.bin", "rb").read() == bytes(range(251)) * 40000
        assert open(R + "/empty.txt").read() == ""
        assert open(R + "/warm/../warm//sub/./a.bin", "rb").read() == bytes(range(256))
        handle = os.open(path, os.O_RDONLY)
        assert os.read(handle, 99) == text.encode() and open(handle, "rb").name == handle
        os.chdir(R)
        assert open("warm/plain/cold.txt").read() == "cold" and os.path.isfile("warm/data.txt")
        folder = os.open(R + "/warm", os.O_RDONLY)
        assert os.read(os.open("data.txt", os.O_RDONLY, dir_fd=folder), 4) == b"data"
        assert os.stat("data.txt", dir_fd=folder).st_size == len(text.encode())
        own = open(path, opener=lambda name, flags: os.open(name, flags))
        assert own.read(4) == "data"
        shutil.copy2(path, os.environ["TMPDIR"] + "/copy")
        assert open(os.environ["TMPDIR"] + "/copy", "rb").read() == text.encode()
        os.unlink(os.environ["TMPDIR"] + "/copy")
        assert pickle.loads(pickle.dumps(open)) is open and pickle.loads(pickle.dumps(os.stat)) is os.stat
        """
    )


def test_errors_stay_what_they_were(layer: ColdLayer) -> None:
    layer.run(
        """
        import errno
        def fails(error, function, *args):
            try:
                function(*args)
            except error as exc:
                assert exc.__cause__ is None
                return exc
            raise AssertionError((function, args))
        for path in (R + "/warm/never", R + "/never/x", "/never", "never", b"/never"):
            assert fails(FileNotFoundError, open, path).filename == path
            assert fails(FileNotFoundError, os.stat, path).filename == path
            fails(FileNotFoundError, os.listdir, path), fails(FileNotFoundError, os.scandir, path)
            assert not os.path.exists(path) and not os.access(path, os.F_OK)
        fails(NotADirectoryError, os.stat, R + "/warm/there.txt/x")
        fails(IsADirectoryError, open, R + "/warm/sub"), fails(IsADirectoryError, open, R + "/warm")
        fails(TypeError, open), fails(TypeError, open, 1.5), fails(ValueError, open, R + "/warm/data.txt", "q")
        fails(OSError, os.stat, 999), fails(ValueError, open, "a" + chr(0))
        """
    )


def test_nothing_cold_can_be_changed(layer: ColdLayer) -> None:
    """As everything in a layer, which Lambda mounts read-only; a change would be there for all processes."""
    layer.run(
        """
        import errno, io, pathlib
        def fails(function, *args):
            try:
                function(*args)
            except OSError as exc:
                assert exc.errno == errno.EROFS, exc
                return exc
            raise AssertionError((function, args))
        def ask(path):
            for mode in ("w", "wb", "a", "r+", "rb+", "r+b", "w+"):
                assert fails(open, path, mode).filename == path
            for flags in (os.O_RDWR, os.O_WRONLY, os.O_RDONLY | os.O_TRUNC, os.O_WRONLY | os.O_CREAT):
                fails(os.open, path, flags)
            fails(io.FileIO, path, "w"), fails(pathlib.Path(os.fsdecode(path)).write_text, "x")
            fails(os.truncate, path, 1), fails(os.chmod, path, 0o600), fails(os.utime, path)
            fails(os.utime, path, (1, 1)), fails(os.chown, path, 0, 0)
            assert not os.access(path, os.W_OK)
        path = R + "/warm/sub/a.bin"
        ask(path)
        assert os.listdir(PUT_BACK) == [".root"]
        os.chdir(R + "/warm")
        ask("sub/a.bin")
        assert open(path, "rb").read() == bytes(range(256))
        ask(path), ask("sub/a.bin"), ask(path.encode())
        folder = os.open(R + "/warm/sub", os.O_RDONLY)
        for flags in (os.O_RDWR, os.O_RDONLY | os.O_TRUNC):
            fails(lambda: os.open("a.bin", flags, dir_fd=folder))
        fails(lambda: os.chmod("a.bin", 0o600, dir_fd=folder)), fails(lambda: os.utime("a.bin", dir_fd=folder))
        assert open(path, "rb").read() == bytes(range(256)) and os.stat(path).st_mode & 0o777 == 0o644
        """
    )


def test_questions_about_existence(layer: ColdLayer) -> None:
    layer.run(
        """
        import pathlib, stat
        for path in (R + "/warm/data.txt", R + "/warm/sub/a.bin", R + "/empty.txt", R + "/cold/mod.py"):
            some = pathlib.Path(path)
            assert os.path.exists(path) and os.path.lexists(path) and os.path.isfile(path) and not os.path.isdir(path)
            assert some.exists() and some.is_file() and not some.is_dir() and not some.is_symlink()
            assert not os.path.islink(path) and os.path.realpath(path) == os.path.realpath(R) + path[len(R):]
            assert some.resolve() == pathlib.Path(R).resolve() / path[len(R) + 1:]
            status = os.stat(path)
            assert os.stat(path.encode()).st_ino == status.st_ino == os.stat(some).st_ino
            assert os.path.getsize(path) == status.st_size == len(open(path, "rb").read()) == some.stat().st_size
            assert os.path.samefile(path, path) and os.path.getmtime(path) == status.st_mtime
            assert status.st_mtime_ns // 10**9 == int(status.st_mtime) == status[8]
            assert os.access(path, os.R_OK) and os.access(path, os.F_OK) and not os.access(path, os.R_OK | os.W_OK)
            assert stat.S_ISREG(os.lstat(path).st_mode)
        for path in (R + "/cold", R + "/warm/sub", R + "/warm/sub/deep", R + "/gone-2.0.dist-info", R + "/cold/"):
            assert os.path.isdir(path) and not os.path.isfile(path) and pathlib.Path(path).is_dir()
            assert os.access(path, os.X_OK)
        assert not os.access(R + "/warm/data.txt", os.X_OK)
        assert not os.path.exists(R + "/war") and not os.path.exists(R + "/warm/sub/a.bi")
        """
    )


def test_listings_hold_real_and_cold_entries(layer: ColdLayer) -> None:
    layer.run(
        """
        import glob, pathlib
        assert sorted(os.listdir(R + "/warm")) == ["__init__.py", "data.txt", "plain", "sub", "there.txt", "tool.sh"]
        assert sorted(os.listdir((R + "/warm/plain").encode())) == [b"cold.txt", b"real.txt"]
        assert {"cold", "warm", "large.bin", "gone-2.0.dist-info"} <= set(os.listdir(R))
        found = {entry.name: entry for entry in os.scandir(R + "/warm")}
        assert found["data.txt"].is_file() and not found["data.txt"].is_dir() and found["sub"].is_dir()
        assert found["sub"].path == R + "/warm/sub" == os.fspath(found["sub"])
        assert found["data.txt"].stat().st_size == 8 and found["data.txt"].inode() and not found["sub"].is_symlink()
        assert not found["data.txt"].is_symlink() and found["data.txt"].is_file(follow_symlinks=False)
        assert found["data.txt"].stat(follow_symlinks=False).st_size == 8
        with os.scandir((R + "/cold").encode()) as scan:
            assert sorted(entry.name for entry in scan) == [b"__init__.py", b"mod.py", b"pkg", b"words.txt"]
        walked = {folder[len(R):]: (sorted(dirs), sorted(files)) for folder, dirs, files in os.walk(R + "/warm")}
        assert walked["/warm/sub"] == (["deep"], ["a.bin"]) and walked["/warm/plain"] == ([], ["cold.txt", "real.txt"])
        assert sorted(glob.glob(R + "/warm/*/*.txt")) == [R + "/warm/plain/cold.txt", R + "/warm/plain/real.txt"]
        assert glob.glob(R + "/**/b.txt", recursive=True) == [R + "/warm/sub/deep/b.txt"]
        assert [str(path) for path in pathlib.Path(R).glob("*/sub/*.bin")] == [R + "/warm/sub/a.bin"]
        assert sorted(path.name for path in pathlib.Path(R, "warm/sub").rglob("*")) == ["a.bin", "b.txt", "deep"]
        assert sorted(path.name for path in pathlib.Path(R, "warm/plain").iterdir()) == ["cold.txt", "real.txt"]
        os.chdir(R + "/warm/plain")
        assert sorted(os.listdir()) == sorted(os.listdir(".")) == ["cold.txt", "real.txt"]
        assert sorted(entry.path for entry in os.scandir()) == ["./cold.txt", "./real.txt"]
        assert sorted(os.listdir(os.open(R + "/warm/plain", os.O_RDONLY))) == ["cold.txt", "real.txt"]
        assert os.listdir(PUT_BACK) == [".root"]
        """
    )


def test_modules_that_kept_the_functions_are_served(layer: ColdLayer) -> None:
    code = f"""
        import sys, glob, pathlib, tokenize, ctypes, pkgutil
        assert "_layer_minimizer" not in sys.modules
        sys.path.insert(0, {str(layer.root)!r})
        import _layer_minimizer
        _layer_minimizer.start()
        R = {str(layer.root)!r}
        path = pathlib.Path(R, "warm/data.txt")
        assert path.exists() and path.read_bytes() and path.resolve() and path.stat().st_size == 8
        assert sorted(each.name for each in path.parent.glob("plain/*.txt")) == ["cold.txt", "real.txt"]
        assert "data.txt" in [each.name for each in path.parent.iterdir()]
        assert tokenize.open(R + "/cold/mod.py").read() == ""
        """
    layer.run(code, PYTHONPATH="")


def test_pkgutil(layer: ColdLayer) -> None:
    layer.run(
        """
        import pkgutil
        listed = sorted(module.name for module in pkgutil.iter_modules([R]) if module.name in ("warm", "cold"))
        assert listed == ["cold", "warm"]
        assert [tuple(module)[1:] for module in pkgutil.iter_modules([R + "/cold"])] == [("mod", False), ("pkg", True)]
        assert {"cold", "cold.mod", "cold.pkg", "warm"} <= {module.name for module in pkgutil.walk_packages([R])}
        import warm, cold
        assert pkgutil.get_data("warm", "data.txt") == open(R + "/warm/data.txt", "rb").read()
        assert pkgutil.get_data("warm", "there.txt") == b"there"
        assert pkgutil.get_data("cold", "words.txt") == b"words"
        try:
            pkgutil.get_data("warm", "never.txt")
        except FileNotFoundError as exc:
            assert exc.filename == R + "/warm/never.txt"
        """
    )


def test_resources(layer: ColdLayer) -> None:
    if layer.python.endswith("python3.6"):
        pytest.skip("importlib.resources came with 3.7")
    layer.run(
        """
        import warnings
        warnings.simplefilter("ignore")
        from importlib import resources
        for package, name in (("warm", "data.txt"), ("warm", "there.txt"), ("cold", "words.txt")):
            module = __import__(package)
            expected = open(os.path.join(R, package, name), "rb").read()
            if hasattr(resources, "read_binary"):
                assert resources.read_binary(package, name) == expected
                assert resources.open_text(module, name, encoding="utf-8").read() == expected.decode()
                assert resources.is_resource(package, name) and not resources.is_resource(package, "never")
                assert name in list(resources.contents(package))
                with resources.path(package, name) as path:
                    assert os.lstat(str(path)) and os.system("test -f " + str(path)) == 0
            if hasattr(resources, "files"):
                there = resources.files(package).joinpath(name)
                assert there.read_bytes() == expected and there.is_file()
                assert name in [each.name for each in resources.files(package).iterdir()]
                with resources.as_file(there) as path:
                    assert os.system("test -f " + str(path)) == 0 and path.read_bytes() == expected
        """
    )


def test_metadata(layer: ColdLayer) -> None:
    if layer.python.endswith(("python3.6", "python3.7")):
        pytest.skip("importlib.metadata came with 3.8")
    layer.run(
        """
        from importlib import metadata
        assert metadata.version("gone") == "2.0" and metadata.version("kept") == "1.0"
        assert [str(path) for path in metadata.distribution("gone").files] == ["cold/__init__.py"]
        assert metadata.distribution("kept").metadata["Name"] == "kept"
        points = metadata.entry_points()
        groups = points.groups if hasattr(points, "groups") else points
        assert {"gone.group", "some.group"} <= set(groups)
        assert {"gone", "kept"} <= {each.metadata["Name"] for each in metadata.distributions()}
        """
    )


def test_files_beside_a_restored_one_are_found(layer: ColdLayer) -> None:
    """What opened a file by a link to it may know its path where it was restored, and look beside it."""
    layer.run(
        """
        open(R + "/warm/data.txt").close()
        folder = PUT_BACK + "/warm"
        assert os.path.isdir(folder + "/plain") and sorted(os.listdir(folder + "/plain")) == ["cold.txt", "real.txt"]
        assert sorted(os.listdir(folder)) == sorted(os.listdir(R + "/warm"))
        assert sorted(entry.name for entry in os.scandir(folder)) == sorted(os.listdir(R + "/warm"))
        assert open(folder + "/there.txt").read() == "there" and os.path.isfile(folder + "/there.txt")
        assert open(folder + "/plain/cold.txt").read() == "cold" and os.path.isdir(folder + "/plain")
        assert not os.path.exists(folder + "/never")
        """
    )
    assert layer.restored() == {"warm/data.txt", "warm/plain/cold.txt"}
    folders = [layer.put_back, layer.put_back / "warm", layer.put_back / "warm/plain"]
    assert not any(path.is_symlink() for path in folders)
    assert {path.stat().st_mode & 0o777 for path in folders} == {0o700}


def test_restored_files_are_those_of_the_environment(layer: ColdLayer) -> None:
    """Their bytes, permissions and times: those that the layer was unpacked with."""
    sources = layer.root.with_name("R.source")
    os.utime(layer.root / "large.bin", (1234567, 1234567), follow_symlinks=False)
    layer.run(
        """
        assert os.stat(R + "/large.bin").st_mtime == 1234567
        before = {name: os.stat(R + "/" + name) for name in ("large.bin", "empty.txt", "warm/sub/a.bin")}
        for name, known in before.items():
            open(R + "/" + name).close()
            now = os.stat(R + "/" + name)
            assert (now.st_size, now.st_mode, now.st_mtime) == (known.st_size, known.st_mode, known.st_mtime), name
        """
    )
    assert layer.restored() == {"large.bin", "empty.txt", "warm/sub/a.bin"}
    for name in layer.restored():
        assert (layer.put_back / name).read_bytes() == (sources / name).read_bytes()


def test_links_of_the_program_to_cold_files(layer: ColdLayer, tmp_path: Path) -> None:
    layer.environment["LINK"] = str(tmp_path / "link")
    layer.run(
        """
        path, link = R + "/warm/data.txt", os.environ["LINK"]
        os.symlink(path, link)
        assert os.path.islink(link) and os.readlink(link) == path and os.path.getsize(link) == 8
        assert not os.path.islink(path) and os.path.exists(link) and os.path.realpath(link) == os.path.realpath(path)
        for _ in "ab":
            with open(link, "rb") as file:
                own = "/proc/self/fd/%d" % file.fileno()
                assert os.readlink(own) == os.path.realpath(own) == os.path.realpath(path), os.readlink(own)
                assert os.path.islink(own) and os.path.samefile(own, path) and file.read(4) == b"data"
            for ask in (os.readlink, lambda path: os.readlink("data.txt", dir_fd=os.open(R + "/warm", os.O_RDONLY))):
                try:
                    ask(path)
                except OSError as exc:
                    assert exc.errno == 22, exc
                else:
                    raise AssertionError
        os.unlink(link)
        """
    )
