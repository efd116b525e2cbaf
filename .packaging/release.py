"""Makes the sdist and the wheels in a folder, each twice, and checks them. Run by release.sh in an environment for it.

A wheel is for the machine on which the tool runs, but has the native libraries for all processors: they go into layers
for others, too. There is none for musl: the libraries need glibc (the loader's audit interface and indirect functions),
so that a wheel for musl would be one without them, which is what the sdist installs there.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[1]
# glibc 2.17: the oldest C library of a Lambda runtime, and of the images in which wheels for Linux are built.
PLATFORMS = ("manylinux_2_17_x86_64", "manylinux_2_17_aarch64")


def main() -> None:
    """Write the files into the folder that is the argument; end with a message if a check fails."""
    folder = Path(sys.argv[1])
    with tempfile.TemporaryDirectory(prefix="layer_minimizer-") as scratch:
        first, second = (made_files(Path(scratch, number)) for number in ("1", "2"))
        for one, other in zip(first, second, strict=True):
            if one.name != other.name or one.read_bytes() != other.read_bytes():
                sys.exit(f"{one.name} differs when it is built again")
        check(first)
        folder.mkdir(parents=True, exist_ok=True)
        for file in first:
            print(shutil.copy(file, folder / file.name))


def made_files(scratch: Path) -> list[Path]:
    """Return a new sdist, and the wheels made of it, with nothing of an earlier build."""
    dist, zig = scratch / "dist", str(scratch / "zig")
    build("--sdist", CHECKOUT, dist, {})
    (sdist,) = dist.iterdir()
    with tarfile.open(sdist) as archive:
        archive.extractall(scratch, filter="data")
    source = scratch / sdist.name.removesuffix(".tar.gz")
    variables = {"ZIG_GLOBAL_CACHE_DIR": zig, "ZIG_LOCAL_CACHE_DIR": zig}
    for platform in PLATFORMS:
        build("--wheel", source, dist, {**variables, "LAYER_MINIMIZER_WHEEL_PLATFORM": platform})
    return sorted(dist.iterdir())


def build(what: str, source: Path, folder: Path, variables: dict[str, str]) -> None:
    """Run the build of one file."""
    run("build", "--no-isolation", what, "--outdir", folder, source, **variables)


def check(files: list[Path]) -> None:
    """End with a message if an index would refuse one of the files, or a tag promises what is not so."""
    run("twine", "check", "--strict", *files)
    for file in files:
        if file.suffix == ".whl":
            # The answer is wrapped like a paragraph.
            shown = " ".join(run("auditwheel", "show", file).split())
            platform = file.stem.rpartition("-")[2]
            if f'is consistent with the following platform tag: "{platform}"' not in shown:
                sys.exit(f"{file.name}: {shown}")


def run(module: str, *arguments: str | Path, **variables: str) -> str:
    """Return the output of a module that is run as a program; show it and end if that fails."""
    command = [sys.executable, "-m", module, *map(str, arguments)]
    environment = {**os.environ, "SOURCE_DATE_EPOCH": "1580601600", **variables}
    done = subprocess.run(  # noqa: S603 - installed for this
        command, check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment
    )
    if done.returncode:
        sys.exit(f"{' '.join(command)}\n{done.stdout}")
    return done.stdout


main()
