"""The mappings of an environment: computed on first access, and only once."""

from pathlib import Path
from typing import Any

from layer_minimizer.analysis import elf
from layer_minimizer.environment.site import Site
from tests.support.sites import write_files


def place(build: Any, folder: Path) -> Site:
    files = {"a/x.txt": "text", "a/lib.so": "no library", "pip/__init__.py": "pip"}
    sources = write_files(folder / "site", files)
    owners = {path: (path.split("/")[0], len(text)) for path, text in files.items()}
    return Site(build.interpreter(sources), build.inventory(owners, sources=sources))


def test_where_files_lie(build: Any, tmp_path: Path) -> None:
    site = place(build, tmp_path)
    assert site.sources["a/x.txt"].read_text() == "text"
    assert site.files["a/x.txt"].distribution == "a"
    assert site.sources is site.sources


def test_the_size_is_without_distributions_that_only_install(build: Any, tmp_path: Path) -> None:
    size = place(build, tmp_path).installed_size
    assert (size.files, size.bytes, size.distributions) == (2, 14, 1)


def test_libraries_are_read_once(build: Any, tmp_path: Path, monkeypatch: Any) -> None:
    read: list[Path] = []
    real = elf.read_dynamic

    def read_dynamic(path: Path) -> Any:
        read.append(path)
        return real(path)

    monkeypatch.setattr(elf, "read_dynamic", read_dynamic)
    site = place(build, tmp_path)
    assert site.library_closure(["a/lib.so"]) == site.library_closure(["a/lib.so"]) == ()
    assert read == [site.sources["a/lib.so"]]


def test_two_sites_are_two_whatever_they_have(build: Any, tmp_path: Path) -> None:
    site = place(build, tmp_path)
    assert site == site  # noqa: PLR0124 - it is a key of memos
    assert site != Site(site.interpreter, site.inventory)
