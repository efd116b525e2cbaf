"""The three ways in which the runtime is started, and what must not be disturbed by them."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.support.sites import Environment

    from .conftest import ColdLayer

MODULES = {"coldmod.py": "value = 5\n", "warm/data.txt": "data"}
USE = "import coldmod; assert coldmod.value == 5; assert open({!r} + '/warm/data.txt').read() == 'data'"


def test_site_folder_of_a_virtual_environment(layer_of: Callable[..., ColdLayer], each_env: Environment) -> None:
    layer = layer_of(each_env.python, MODULES, {"warm/__init__.py": ""}, root=each_env.site)
    (each_env.site / "sitecustomize.py").unlink()
    layer.run(USE.format(str(layer.root)), PYTHONPATH="")
    isolated = layer.start("-I", "-c", USE.format(str(layer.root)))
    assert (isolated.returncode, isolated.stderr) == (0, "")


def test_addsitedir_later(layer_of: Callable[..., ColdLayer], cpython: str) -> None:
    layer = layer_of(cpython, MODULES, {"warm/__init__.py": ""})
    layer.run(f"import site; site.addsitedir(R)\n{USE.format(str(layer.root))}", PYTHONPATH="")


def test_a_start_file_takes_the_place_of_the_pth_file(
    layer_of: Callable[..., ColdLayer], python_of: Callable[[str], str], tmp_path: Path
) -> None:
    """So layers start from CPython 3.18 on, where no line with ``import`` of a ``.pth`` file is run (PEP 829)."""
    python = python_of("3.15")
    layer = layer_of(python, MODULES, {"warm/__init__.py": ""})
    assert (layer.root / "layer_minimizer.start").read_text() == "layer_minimizer_start:begin\n"
    code = f"import site; site.addsitedir({str(layer.root)!r})\n{USE.format(str(layer.root))}"
    done = layer.start("-v", "-c", code, PYTHONPATH="")
    assert done.returncode == 0, done.stderr
    said = f"import lines in {layer.root}/layer_minimizer.pth are suppressed due to matching"
    assert said in done.stderr
    # Without it such a Python would start nothing.
    (layer.root / "layer_minimizer.start").write_text("")
    assert "No module named 'coldmod'" in layer.start("-c", code, PYTHONPATH="").stderr
    assert not (layer_of(python_of("3.6"), MODULES, root=tmp_path / "older").root / "layer_minimizer.start").exists()


def test_a_damaged_layer_does_not_start_by_its_start_file(
    layer_of: Callable[..., ColdLayer], python_of: Callable[[str], str]
) -> None:
    layer = layer_of(python_of("3.15"), MODULES, checked=True)
    code = f"import site; site.addsitedir({str(layer.root)!r}); print('started')"
    assert layer.start("-c", code, PYTHONPATH="").stdout == "started\n"
    next((layer.root / "_layer_minimizer").glob("check.py*")).unlink()
    done = layer.start("-c", code, PYTHONPATH="")
    assert (done.returncode, done.stdout) == (1, "")
    assert "is missing or damaged: deploy the layer again" in done.stderr


def test_start_files_of_packages_run_where_the_layer_is_in_pythonpath(
    layer_of: Callable[..., ColdLayer], python_of: Callable[[str], str]
) -> None:
    own = "import sys\n\ndef begin():\n    sys.began = sys.__dict__.get('began', 0) + 1\n"
    hot = {"own.py": own, "own.start": "own:begin\n", "own.pth": "import sys; sys.ran = True\nmore\n", "more/x.py": ""}
    layer = layer_of(python_of("3.15"), MODULES, hot)
    layer.run("import x, coldmod; assert sys.began == 1 and not hasattr(sys, 'ran')")
    older = layer_of(python_of("3.13"), MODULES, hot, name="older")
    older.run("import x, coldmod; assert sys.ran and not hasattr(sys, 'began')")


def test_pth_without_its_caller_serves_its_own_folder(layer_of: Callable[..., ColdLayer], python: str) -> None:
    layer = layer_of(python, MODULES, {"warm/__init__.py": ""})
    line = (layer.root / "layer_minimizer.pth").read_text()
    assert len(line.splitlines()) == 1
    assert line.startswith("import sys, _layer_minimizer; ")
    layer.run(
        f"sys.path.append(R)\nexec(compile({line!r}, 'pth', 'exec'))\n{USE.format(str(layer.root))}", PYTHONPATH=""
    )


def test_libraries_for_smaller_pages_than_the_system_has_end_the_start(
    layer_of: Callable[..., ColdLayer], python: str
) -> None:
    """A kernel for arm64 may have pages of 64 KiB; this one refuses what would be for 1 KiB."""
    layer = layer_of(python, MODULES)
    marks = layer.root / "layer_minimizer.libs"
    marks.mkdir(exist_ok=True)
    size = os.sysconf("SC_PAGE_SIZE")
    for larger in (size, 16 * size):
        (marks / f"pages-{larger}").touch()
    layer.run("import coldmod")
    (marks / "pages-1024").touch()
    done = layer.start("-c", "import coldmod")
    assert done.returncode == 1
    assert done.stderr == (
        f"layer_minimizer: the shared libraries of the layer in {layer.root} are for systems with memory pages of "
        f"1 KiB, this one has {size >> 10}: build it on one like this, or with --native off\n"
    )


def test_nothing_happens_without_site(layer_of: Callable[..., ColdLayer], cpython: str) -> None:
    layer = layer_of(cpython, MODULES)
    done = layer.start("-S", "-c", "import sys; assert '_layer_minimizer' not in sys.modules; import coldmod")
    assert "No module named 'coldmod'" in done.stderr


def test_the_next_sitecustomize_runs(
    layer_of: Callable[..., ColdLayer], cpython: str, tmp_path: Path, write: Callable[..., Path]
) -> None:
    layer = layer_of(cpython, MODULES, {"warm/__init__.py": ""})
    own = write(tmp_path / "own", {"sitecustomize.py": "import coldmod\nseen = [coldmod.value, __file__]\n"})
    both = f"{layer.root}:{own}"
    code = f"import sitecustomize; assert sitecustomize.seen == [5, {str(own / 'sitecustomize.py')!r}]"
    layer.run(code, PYTHONPATH=both)
    # Twice on the path, by name and by link, it must not come back to itself.
    (tmp_path / "link").symlink_to(layer.root)
    layer.run(code, PYTHONPATH=f"{layer.root}:{tmp_path / 'link'}:{both}")
    layer.run("import sitecustomize; assert not hasattr(sitecustomize, 'seen')")


def test_errors_of_the_next_sitecustomize_are_its_own(
    layer_of: Callable[..., ColdLayer], cpython: str, tmp_path: Path, write: Callable[..., Path]
) -> None:
    layer = layer_of(cpython, MODULES)
    for broken in ("import no_such_thing\n", "1 / 0\n"):
        own = write(tmp_path / "own", {"sitecustomize.py": broken})
        alone = layer.start("-c", "import sys; print('sitecustomize' in sys.modules)", PYTHONPATH=str(own))
        both = layer.start("-c", "import sys; print('sitecustomize' in sys.modules)", PYTHONPATH=f"{layer.root}:{own}")
        assert (both.returncode, both.stdout) == (alone.returncode, alone.stdout)
        assert both.stderr.splitlines()[-1:] == alone.stderr.splitlines()[-1:]


def test_a_sitecustomize_of_the_layer_is_left_alone(layer_of: Callable[..., ColdLayer], python: str) -> None:
    layer = layer_of(python, MODULES, {"sitecustomize.py": "own = True\n"})
    layer.run("import sitecustomize; assert sitecustomize.own; assert '_layer_minimizer' not in sys.modules")


def test_two_layers(layer_of: Callable[..., ColdLayer], cpython: str) -> None:
    first = layer_of(cpython, {"one.py": "x = 1\n", "both.py": "x = 'first'\n"}, name="A")
    second = layer_of(cpython, {"two.py": "x = 2\n", "both.py": "x = 'second'\n", "d/t.txt": "2"}, name="B")
    code = """
        import one, two, both
        assert (one.x, two.x, both.x) == (1, 2, "first")
        assert open(os.path.dirname(two.__file__) + "/d/t.txt").read() == "2"
        assert open(two.__file__).read() == "x = 2\\n" and open(one.__file__).read() == "x = 1\\n"
        assert [type(each).__name__ for each in sys.meta_path].count("LayerFinder") == 1
        """
    first.run(code, PYTHONPATH=f"{first.root}:{second.root}")
    first.run(
        f"import site; site.addsitedir({str(first.root)!r}); site.addsitedir({str(second.root)!r})\n"
        + code.strip().replace("\n        ", "\n"),
        PYTHONPATH="",
    )


def test_one_layer_below_another(layer_of: Callable[..., ColdLayer], python: str) -> None:
    outer = layer_of(python, {"outer.py": "x = 1\n"}, name="A")
    inner = layer_of(python, {"inner.py": "x = 2\n"}, name="B", root=outer.root / "lib/site-packages")
    outer.run("import outer, inner; assert (outer.x, inner.x) == (1, 2)", PYTHONPATH=f"{outer.root}:{inner.root}")


def test_starting_again_changes_nothing(layer_of: Callable[..., ColdLayer], cpython: str, tmp_path: Path) -> None:
    layer = layer_of(cpython, MODULES, {"warm/__init__.py": ""})
    (tmp_path / "link").symlink_to(layer.root)
    layer.run(
        f"""
        import _layer_minimizer as runtime
        before = list(sys.meta_path), list(sys.path_hooks), open, os.stat
        for root in (None, R, R + "/", {str(tmp_path / "link")!r}):
            runtime.start(root)
        assert before == (sys.meta_path, sys.path_hooks, open, os.stat)
        assert sys.meta_path[-1].__class__.__name__ == "LayerFinder"
        assert open({str(tmp_path / "link")!r} + "/warm/data.txt").read() == "data"
        """
    )


def test_a_layer_that_cannot_be_written(layer_of: Callable[..., ColdLayer], cpython: str) -> None:
    layer = layer_of(cpython, MODULES, {"warm/__init__.py": ""})
    folders = [layer.root, *(path for path in layer.root.rglob("*") if path.is_dir())]
    before = sorted(map(str, layer.root.rglob("*")))
    for folder in folders:
        folder.chmod(0o555)
    try:
        layer.environment["PYTHONDONTWRITEBYTECODE"] = ""
        layer.run(USE.format(str(layer.root)))
    finally:
        for folder in folders:
            folder.chmod(0o755)
    assert sorted(map(str, layer.root.rglob("*"))) == before
    assert stat.S_IMODE(os.stat(next(layer.root.glob("_layer_minimizer/cold/*/data"))).st_mode) == 0o644
