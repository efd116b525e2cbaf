"""A workspace in which tests run the command; after every run it checks that nothing is left behind."""

from __future__ import annotations

import os
import stat
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from . import command
from .places import PACKAGE
from .pythons import MAIN

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from .command import Ended
    from .sites import Environment


def listing(*roots: Path) -> dict[str, tuple[object, ...]]:
    """Return mode, time, owner and content of every file in ``roots``."""
    found: dict[str, tuple[object, ...]] = {}
    for root in roots:
        for folder, folders, names in os.walk(root):
            for path in (folder, *(os.path.join(folder, name) for name in (*folders, *names))):
                status = os.lstat(path)
                content: object = None
                if stat.S_ISLNK(status.st_mode):
                    content = os.readlink(path)
                elif stat.S_ISREG(status.st_mode):
                    content = hash(Path(path).read_bytes())
                found[path] = (status.st_mode, status.st_mtime_ns, status.st_uid, content)
    return found


@dataclass
class Desk:
    """A folder with the user's files, and the folders in which the command could leave files behind.

    ``watched``: further folders that no run may change.
    """

    folder: Path
    watched: list[Path] = field(default_factory=list)

    def __post_init__(self) -> None:
        for path in (self.work, self.tmp, self.home, self.output.parent):
            path.mkdir(parents=True)

    @property
    def work(self) -> Path:
        return self.folder / "work"

    @property
    def tmp(self) -> Path:
        return self.folder / "tmp"

    @property
    def home(self) -> Path:
        return self.folder / "home"

    @property
    def output(self) -> Path:
        return self.folder / "out" / "layer.zip"

    def write(self, name: str, content: str | bytes) -> Path:
        path = self.work / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    def variables(self, more: Mapping[str, str] | None = None) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "XDG_", "COV"))}
        return {**kept, "HOME": str(self.home), "TMPDIR": str(self.tmp), **(more or {})}

    def arguments(self, env: Environment | None, *args: object, entry: object = "handler.py") -> list[str]:
        arguments = [str(arg) for arg in args]
        if entry and "--entry" not in arguments:
            arguments += ["--entry", str(self.work / str(entry))]
        if env is not None:
            arguments += ["--python", env.python]
        if "--output" not in arguments and not {"--save-trace", "--save-plan", "--explain"} & set(arguments):
            arguments += ["--output", str(self.output)]
        # Most tests do not need stand-ins, bytecode, a cold store, license texts or repeated runs.
        defaults = {"--effort": "0", "--bytecode": "source", "--cold": "drop", "--licenses": "drop", "--runs": "1"}
        for option, value in defaults.items():
            if option not in arguments:
                arguments += [option, value]
        return arguments

    def minimize(
        self,
        env: Environment | None,
        *args: object,
        entry: object = "handler.py",
        code: int = 0,
        variables: Mapping[str, str] | None = None,
        prefix: Sequence[str] = (),
        cwd: Path | None = None,
        apart: bool = False,
    ) -> Ended:
        """Run the command, and require its exit code, no changed file, and no file left behind.

        It runs in this process, unless ``apart``.
        """
        watched = [self.work, self.home, *self.watched, *([env.root] if env else [])]
        before = listing(*watched)
        ended = command.run(
            self.arguments(env, *args, entry=entry),
            self.variables(variables),
            cwd or self.folder,
            prefix=prefix,
            apart=apart,
        )
        assert ended.code == code, f"exit code {ended.code}, not {code}\n{ended.err}\n{ended.out}"
        assert listing(*watched) == before
        self.require_clean()
        if code:
            assert ended.out == ""
            assert not self.output.exists()
            assert str(PACKAGE) not in ended.err
            assert "harness.py" not in ended.err
        return ended

    def fails(self, env: Environment | None, code: int, texts: Sequence[str], *args: object, **kwargs: object) -> Ended:
        """Run the command, and require that it fails with ``code`` and a message that contains all ``texts``."""
        ended = self.minimize(env, *args, code=code, **kwargs)  # type: ignore[arg-type]
        missing = [text for text in texts if text not in ended.err]
        assert not missing, f"{missing} not in:\n{ended.err}"
        return ended

    def require_clean(self) -> None:
        """Require that no scratch folder and no unfinished output exists."""
        assert os.listdir(self.tmp) == []
        assert [str(path) for path in self.folder.rglob("*.part")] == []
        assert {path.name for path in self.output.parent.iterdir()} <= {self.output.name}

    def kept(self, version: str = MAIN, layout: str = "site") -> set[str]:
        """Return the site-relative names of the files in place in the layer, without this tool's runtime."""
        prefix = "python/" if layout == "flat" else f"python/lib/python{version}/site-packages/"
        with zipfile.ZipFile(self.output) as archive:
            entries = [entry for entry in archive.infolist() if not entry.is_dir()]
            names = [entry.filename for entry in entries if not is_cold(archive, entry)]
            assert all(name.startswith(prefix) for name in names), names
            own = {f"{prefix}layer_minimizer{end}" for end in (".pth", ".start", "_start.py")}
            if f"{prefix}sitecustomize.py" in names and b"_layer_minimizer" in archive.read(
                f"{prefix}sitecustomize.py"
            ):
                own.add(f"{prefix}sitecustomize.py")
        runtime = (f"{prefix}_layer_minimizer/", f"{prefix}layer_minimizer.libs/liblayercold-")
        return {name.removeprefix(prefix) for name in names if name not in own and not name.startswith(runtime)}


def placed(archive: zipfile.ZipFile) -> list[str]:
    """Return the names of the entries of a layer without the links in the places of cold files."""
    return [entry.filename for entry in archive.infolist() if not is_cold(archive, entry)]


def is_cold(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> bool:
    """Return whether an entry of a layer is the link in the place of a cold file."""
    return stat.S_ISLNK(entry.external_attr >> 16) and archive.read(entry).startswith(b"/tmp/.layer_minimizer-")
