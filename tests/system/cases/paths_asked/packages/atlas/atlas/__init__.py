"""Maps in a folder of the package, of which many questions are asked before one is opened."""

import glob
import os
import stat
from pathlib import Path

MAPS = Path(__file__).resolve().parent / "maps"

if not os.path.isdir(MAPS):
    raise ImportError("atlas is not installed as a whole")


def countries():
    return sorted(entry.name for entry in os.scandir(MAPS) if entry.is_dir())


def towns(country):
    return sorted(os.path.basename(path)[:-4] for path in glob.glob(str(MAPS / country / "*.txt")))


def size(country, town):
    status = os.stat(MAPS / country / f"{town}.txt")
    return [status.st_size, stat.S_ISREG(status.st_mode)]


def find(town):
    for folder in sorted(MAPS.iterdir()):
        if (folder / f"{town}.txt").exists() and os.access(folder / f"{town}.txt", os.R_OK):
            return folder.name
    return None


def read(country, town):
    return (MAPS / country / f"{town}.txt").read_text("utf-8").strip()


def walk():
    return [sum(len(files) for _, _, files in os.walk(MAPS)), len(list(MAPS.rglob("*.txt")))]
