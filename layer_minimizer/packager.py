"""Turns a plan into a layer: a staged copy of the kept files, then a reproducible zip. Checks Lambda's limits."""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
import zipfile
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

from layer_minimizer import progress
from layer_minimizer.errors import PackError
from layer_minimizer.model import LayerArchive

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from layer_minimizer.model import Bundled, InstalledFile, Inventory, KeepPlan

    # Writes the library of a site-relative path and source below a folder, gives the bytes written, 0 for "not I".
    PlaceLibrary = Callable[[str, Path, Path], int]

# https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html
LAMBDA_UNZIPPED_BYTES = 262_144_000
LAMBDA_DIRECT_UPLOAD_BYTES = 50 * 1024 * 1024
LAMBDA_TMP_BYTES = 512 * 1024 * 1024
NO_DISTRIBUTION = "(no distribution)"
SYSTEM_LIBRARIES = "(libraries of this machine)"
# Lambda has it on LD_LIBRARY_PATH: https://docs.aws.amazon.com/lambda/latest/dg/packaging-layers.html
LIBRARY_FOLDER = "lib"
# The oldest time that a zip can hold: a layer must not depend on when it was made.
_EPOCH = (1980, 1, 1, 0, 0, 0)
_UNIX = 3


class Layout(StrEnum):
    """Where in a layer the packages lie; Lambda puts both on sys.path, and runs ``.pth`` files in the first only."""

    SITE = "site"  # python/lib/python3.x/site-packages/
    FLAT = "flat"  # python/

    def prefix(self, python: str) -> str:
        """Give the folder of the packages within the layer for the version ``python`` (``3.11.7``)."""
        if self is Layout.FLAT:
            return "python"
        return f"python/lib/python{'.'.join(python.split('.')[:2])}/site-packages"


@dataclass(frozen=True, slots=True)
class Beside:
    """The bytes that share Lambda's limit with a layer: the function's, its models', those of the layers below."""

    code: int = 0
    models: int = 0
    layers: int = 0

    @property
    def total(self) -> int:
        """All of them together."""
        return self.code + self.models + self.layers

    def __str__(self) -> str:
        """Say what there is."""
        parts = (("the function", self.code), ("its models", self.models), ("other layers", self.layers))
        return ", ".join(f"{name} {size:,}" for name, size in parts if size)


ALONE = Beside()


@dataclass(frozen=True, slots=True)
class Budget:
    """How large a layer may be unzipped together with what is beside it, and whether the user has set that himself."""

    limit: int = LAMBDA_UNZIPPED_BYTES
    chosen: bool = False

    @property
    def whose(self) -> str:
        """Whose limit it is."""
        return "--max-size" if self.chosen else "AWS Lambda's limit for a function and its layers together"

    def check(self, plan: KeepPlan, beside: Beside = ALONE) -> None:
        """Refuse a plan whose files are too large together.

        Raises:
            PackError: it is; the text names the largest distributions and what to do.
        """
        sizes: Counter[str] = Counter()
        for decision in plan.kept:
            sizes[decision.distribution or NO_DISTRIBUTION] += decision.size
        self.check_sizes(sizes, beside)

    def check_sizes(self, sizes: Counter[str], beside: Beside = ALONE) -> None:
        """Refuse a layer of these bytes by distribution, as `check` does.

        Raises:
            PackError: it is too large.
        """
        layer = sizes.total()
        excess = layer + beside.total - self.limit
        if excess <= 0:
            return
        largest = "\n".join(f"  {size / 1e6:9.1f} MB  {name}" for name, size in sizes.most_common(10))
        together = f", and {layer + beside.total:,} with what is beside it ({beside})" if beside.total else ""
        model = f"{what_fits(self, layer, beside)}; or " if excess <= beside.models else ""
        top = next(iter(sizes.most_common(1)), (NO_DISTRIBUTION, 0))[0]
        raise PackError(
            f"the layer would be {layer:,} bytes unzipped{together}; {self.whose} is {self.limit:,}.\n"
            f"The largest distributions in it:\n{largest}\n"
            f"What to do: {model}put a large one into a layer of its own and name it with --provided {top}; "
            f"leave files away that you know are not needed with --exclude; ask why one is kept with --explain {top}; "
            "or, for a container image or another place without this limit, raise it with --max-size 1GB"
        )


def what_fits(budget: Budget, layer: int, beside: Beside) -> str:
    """Say what to do about a layer of ``layer`` bytes that fits, but not together with what is beside it."""
    excess = layer + beside.total - budget.limit
    if excess > beside.models:
        return f"make the layer smaller: --max-size {budget.limit - beside.total} --cold auto leaves room"
    tmp = "" if beside.models < LAMBDA_TMP_BYTES else f" (set ephemeral storage to more than {beside.models:,} bytes)"
    return (
        f"keep the models ({beside.models:,} bytes) out of the function's zip: with them it is {excess:,} bytes over "
        f"the limit, without them {beside.models - excess:,} under it. The handler can take them from S3 into /tmp{tmp}"
        " when it starts, or from an EFS file system"
    )


def check_output(output: Path, option: str = "--output") -> None:
    """Make sure, before the work begins, that ``output`` can be written at its end.

    Raises:
        PackError: it cannot.
    """
    if os.path.isdir(output):  # also where somebody may not look
        raise PackError(f"{output} is a folder; {option} takes the name of a file")
    try:
        with unfinished(output) as part:
            part.touch()
    except OSError as exc:
        raise PackError(f"{option}: cannot write {output}: {exc.strerror}; name another place") from exc


def check_folder(folder: Path, option: str, *, new_levels: int = 1) -> None:
    """Make sure, before the work begins, that files can be written into ``folder``, which need not be there yet.

    Of its path the last ``new_levels`` folders may be missing.

    Raises:
        PackError: it cannot.
    """
    existing = folder
    for _ in range(new_levels):
        if os.path.lexists(existing):
            break
        existing = existing.parent
    if os.path.lexists(existing) and not os.path.isdir(existing):
        raise PackError(f"{existing} is no folder; {option} takes the name of one")
    if not os.path.lexists(existing):
        raise PackError(f"{option} {folder}: there is no folder {existing} to make it in")
    try:
        with unfinished(existing / "report") as part:
            part.touch()
    except OSError as exc:
        raise PackError(f"{option}: cannot write into {existing}: {exc.strerror}; name another place") from exc


def stage(  # noqa: PLR0913, PLR0917 - what is copied, where to, and in which form
    plan: KeepPlan,
    inventory: Inventory,
    folder: Path,
    layout: Layout,
    place: PlaceLibrary | None = None,
    copies: Mapping[str, str] | None = None,
) -> Counter[str]:
    """Copy the kept files into ``folder`` as the layer will have them; the originals are only read.

    ``place`` may write a shared library in another form; what it adds beside it counts as that distribution's.
    ``copies`` of another kept file beside them become links to it. Gives the staged bytes by distribution.

    Raises:
        PackError: a file cannot be copied, or its name cannot stand in a zip.
    """
    top = folder / layout.prefix(plan.python)
    kept = {decision.path for decision in plan.kept}
    sizes: Counter[str] = Counter()
    try:
        top.mkdir(parents=True)
        for path in plan.folders:
            _refuse_name(path)
            (top / path).mkdir(parents=True, exist_ok=True)
        files = [file for file in inventory.files if file.path in kept]
        total = sum(file.size for file in files)
        with progress.step("laying the layer out", total=total, in_bytes=True) as step:
            for file in files:
                _refuse_name(file.path)
                original = (copies or {}).get(file.path, "")
                link = file.link or (original in kept and original.rpartition("/")[2]) or ""
                sizes[file.distribution or NO_DISTRIBUTION] += _stage_file(file, top, link, place)
                step.advance(file.size)
    except OSError as exc:
        raise PackError(f"cannot copy {exc.filename} into {folder}: {exc.strerror}; TMPDIR sets another place") from exc
    return sizes


def _stage_file(file: InstalledFile, top: Path, link: str, place: PlaceLibrary | None) -> int:
    """Put one file, or a link in its place, below ``top``; give its bytes there."""
    target = top / file.path
    target.parent.mkdir(parents=True, exist_ok=True)
    if link:
        target.symlink_to(link)
        return len(link)
    size = place(file.path, Path(file.source), top) if place is not None and ".so" in file.path else 0
    if not size:
        shutil.copyfile(file.source, target)
        size = file.size
    target.chmod(0o755 if file.executable else 0o644)
    return size


def add_libraries(bundled: Iterable[Bundled], folder: Path) -> Counter[str]:
    """Copy libraries of this machine to where Lambda's loader finds them; give their bytes.

    Raises:
        PackError: one cannot be copied.
    """
    sizes: Counter[str] = Counter()
    for library in bundled:
        target = folder / LIBRARY_FOLDER / library.name
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(library.source, target)
            target.chmod(0o755)
        except OSError as exc:
            raise PackError(f"cannot copy {library.source} into {folder}: {exc.strerror}") from exc
        sizes[SYSTEM_LIBRARIES] += library.bytes
    return sizes


def entries(archive: Path) -> tuple[tuple[str, int], ...]:
    """Give the names in a layer, and their permission bits."""
    with zipfile.ZipFile(archive) as source:
        return tuple((entry.filename, entry.external_attr >> 16) for entry in source.infolist())


def _refuse_name(path: str) -> None:
    try:
        path.encode("utf-8")
    except UnicodeEncodeError as exc:
        raise PackError(
            f"{os.fsencode(path)!r} is kept, but its name is no UTF-8 and cannot stand in a zip: "
            "rename it, or leave it away with --exclude"
        ) from exc


@contextmanager
def unfinished(output: Path) -> Iterator[Path]:
    """Give the name under which an output is written until it is proved; it never stays behind."""
    part = part_of(output)
    try:
        yield part
    finally:
        part.unlink(missing_ok=True)


def part_of(output: Path) -> Path:
    """Give the name under which this process writes an output that is not finished."""
    return output.with_name(f".{output.name}.{os.getpid()}.part")


def write_zip(folder: Path, target: Path) -> LayerArchive:
    """Zip a staged layer: sorted names, fixed times and permission bits, so that equal files make equal bytes.

    Raises:
        PackError: the zip cannot be written.
    """
    files = size = 0
    try:
        with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
            paths = _sorted_paths(folder)
            total = sum(path.lstat().st_size for path in paths)
            with progress.step("zipping", total=total, in_bytes=True) as step:
                for path in paths:
                    _zip_path(archive, path, path.relative_to(folder).as_posix())
                    if not path.is_dir() or path.is_symlink():
                        files += 1
                        size += path.lstat().st_size
                    step.advance(path.lstat().st_size)
        zipped = target.stat().st_size
        digest = _sha256(target)
    except OSError as exc:
        raise PackError(f"cannot write {target.parent}/: {exc.strerror}; make room or choose another --output") from exc
    return LayerArchive(target, digest, files, size, zipped)


def _zip_path(archive: zipfile.ZipFile, path: Path, name: str) -> None:
    """Add a file, a symbolic link or an empty folder."""
    mode = path.lstat().st_mode
    if stat.S_ISDIR(mode):
        if not any(path.iterdir()):
            archive.writestr(_entry(f"{name}/", stat.S_IFDIR | 0o755), b"")
    elif stat.S_ISLNK(mode):
        archive.writestr(_entry(name, stat.S_IFLNK | 0o777), os.fsencode(path.readlink()))
    else:
        entry = _entry(name, stat.S_IFREG | (0o755 if mode & 0o100 else 0o644))
        entry.file_size = path.stat().st_size
        with path.open("rb") as source, archive.open(entry, "w") as sink:
            shutil.copyfileobj(source, sink, 1 << 20)


def upload_warnings(archive: LayerArchive, whose: str = "") -> tuple[str, ...]:
    """Say what stands in the way of a direct upload."""
    if archive.zipped_bytes <= LAMBDA_DIRECT_UPLOAD_BYTES:
        return ()
    size = f"{archive.zipped_bytes:,} bytes zipped are over the {LAMBDA_DIRECT_UPLOAD_BYTES:,} of a direct upload"
    return (f"{whose}{size}: it has to go through S3",)


def _sorted_paths(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*"), key=lambda path: path.relative_to(folder).as_posix())


def _entry(name: str, mode: int) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name, _EPOCH)
    entry.create_system = _UNIX
    entry.external_attr = mode << 16
    entry.compress_type = zipfile.ZIP_DEFLATED
    return entry


def _sha256(path: Path) -> str:
    with path.open("rb") as source:
        return hashlib.file_digest(source, "sha256").hexdigest()


def unzip(archive: Path, folder: Path) -> None:
    """Unpack a layer as Lambda does, with permission bits and symbolic links.

    Raises:
        PackError: there is no room for it.
    """
    try:
        with zipfile.ZipFile(archive) as source:
            for entry in source.infolist():
                target = folder / entry.filename
                mode = entry.external_attr >> 16
                if entry.is_dir():
                    target.mkdir(parents=True, exist_ok=True)
                    continue
                target.parent.mkdir(parents=True, exist_ok=True)
                target.unlink(missing_ok=True)  # a layer below this one may have it
                if stat.S_ISLNK(mode):
                    target.symlink_to(os.fsdecode(source.read(entry)))
                    continue
                with source.open(entry) as data, target.open("wb") as sink:
                    shutil.copyfileobj(data, sink, 1 << 20)
                target.chmod(stat.S_IMODE(mode))
    except OSError as exc:
        raise PackError(f"cannot unpack the layer into {folder}: {exc.strerror}; TMPDIR sets another place") from exc
