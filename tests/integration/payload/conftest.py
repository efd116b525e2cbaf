"""Layers with a cold store, and programs that run on them in real interpreters."""

import os
import shutil
import subprocess
import tempfile
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from layer_minimizer.environment import interpreter
from layer_minimizer.layer import packed_bytecode
from layer_minimizer.layer.cold_chunks import ColdFile
from layer_minimizer.layer.cold_store import write_links
from layer_minimizer.pack import bytecode, checksums, stand_ins
from tests.support.cold_layers import lay_out, put_back_folder
from tests.support.pythons import version_of

Content = str | bytes


@dataclass
class ColdLayer:
    """A site folder with real and cold files, and the interpreter that uses it.

    ``put_back`` is where its cold files are restored.
    """

    root: Path
    python: str
    temp: Path
    put_back: Path
    environment: dict[str, str] = field(default_factory=dict)

    def start(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run the interpreter on the layer, of which nothing has been restored."""
        shutil.rmtree(self.put_back, ignore_errors=True)
        return self.start_again(*arguments, **environment)

    def start_again(
        self,
        *arguments: str,
        text: str | None = None,
        **environment: str,
    ) -> subprocess.CompletedProcess[str]:
        """Run the interpreter on the layer, with what earlier processes have restored."""
        base = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "LAYER_MINI"))}
        chosen = {"PYTHONPATH": str(self.root), "TMPDIR": str(self.temp), **self.environment, **environment}
        return subprocess.run(
            [self.python, "-B", *arguments],
            check=False,
            capture_output=True,
            text=True,
            input=text,
            timeout=120,
            env={**base, **{name: value for name, value in chosen.items() if value}},
        )

    def run(self, code: str, **environment: str) -> str:
        """Run a program that must succeed and must leave nothing behind but whole files, where they are restored.

        ``R`` is the site folder in it, ``PUT_BACK`` the folder of restored files.
        """
        prelude = f"import os, sys\nR, PUT_BACK = {str(self.root)!r}, {str(self.put_back)!r}\n"
        done = self.start("-c", prelude + textwrap.dedent(code), **environment)
        assert done.returncode == 0, done.stdout + done.stderr
        assert list(self.temp.iterdir()) == []
        assert not (self.put_back / ".part").exists()
        return done.stdout

    def restored(self) -> set[str]:
        """Return which cold files have been restored."""
        return {
            path.relative_to(self.put_back).as_posix()
            for path in self.put_back.rglob("*")
            if path.is_file() and not path.is_symlink()
        }

    def fail(self, code: str, **environment: str) -> str:
        """Run a program that must fail, and give what it says."""
        done = self.start("-c", textwrap.dedent(code), **environment)
        assert done.returncode == 1, done.stdout + done.stderr
        return done.stderr


@pytest.fixture
def temp() -> Iterator[Path]:
    """Return a temporary folder for programs. Its path is short, since names of sockets cannot have many characters."""
    with tempfile.TemporaryDirectory(prefix="cold-") as folder:
        yield Path(folder)


@pytest.fixture
def layer_of(tmp_path: Path, temp: Path, write: Callable[..., Path]) -> Callable[..., ColdLayer]:
    """Make a layer: ``layer_of(python, hot={path: content}, cold={path: content}, packed={path: source})``.

    ``left_out`` maps files that it does not have to their owners; a ``checked`` one refuses to run damaged;
    ``compressed`` says how the bytecode of ``packed`` modules is stored.
    """

    def make(
        python: str,
        cold: Mapping[str, Content],
        hot: Mapping[str, Content] | None = None,
        packed: Mapping[str, Content] | None = None,
        *,
        name: str = "R",
        root: Path | None = None,
        needs: Mapping[str, tuple[str, ...]] | None = None,
        dropped: Mapping[str, str] | None = None,
        left_out: Mapping[str, str] | None = None,
        checked: bool = False,
        compressed: bool = False,
    ) -> ColdLayer:
        root = root or tmp_path / name
        root.mkdir(parents=True, exist_ok=True)
        write(root, hot or {})
        source = write(tmp_path / f"{name}.source", cold)
        files = [ColdFile(path, source / path, (needs or {}).get(path, ())) for path in cold]
        store = lay_out(files, root, left_out=left_out, dropped=dropped, linked=False, python=version_of(python))
        if packed:
            pack(python, write(root, packed), list(packed), tmp_path / "compile", compressed=compressed)
        write_links(store, root)
        if checked:
            checksums.write_checksums(root, lambda _path: ())
        return ColdLayer(root, python, temp, put_back_folder(store))

    return make


def pack(python: str, root: Path, paths: Sequence[str], scratch: Path, *, compressed: bool) -> None:
    """Turn sources in a layer into what its builder makes of them."""
    compiler = bytecode.Compiler(interpreter.describe_interpreter(python), str(root), scratch)
    bytecode.compile_modules(paths, root, compiler, with_source=())
    stems = [path.removesuffix(".py") for path in paths]
    packed_bytecode.pack(packed_bytecode.read(stems, root, compressed=compressed), root)
    stand_ins.write_starters(packed_bytecode.modules_to_start(stems), root, compiler)


@pytest.fixture
def python(base_python: str) -> str:
    """One interpreter, for what depends on none."""
    return base_python
