"""Runs the harness of the probe in a container of an image, and prints its outcome as JSON, in the last line.

argv[1] is the folder with this file, ``probe/`` and ``settings.json``: the harness's settings, with ``environment``
(variables that the image does not set) and ``sites`` (the folders that Lambda's runtime puts on sys.path; empty where
Python finds the packages by itself). Runs in the image: CPython 3.6 and later, the standard library alone.
"""

import json
import os
import subprocess
import sys
import tempfile
import time

# As the bootstrap of Lambda's images does, then the harness as a program.
AS_LAMBDA = (
    "import runpy, site, sys; harness, sites = sys.argv[1], sys.argv[3:]; sys.path[:0] = sites; "
    "[site.addsitedir(each) for each in sites]; sys.argv[:] = sys.argv[1:3]; "
    "sys.path.insert(0, harness.rpartition('/')[0]); runpy.run_path(harness, run_name='__main__')"
)


def read(path):
    """Return the contents of a file; empty if there is none."""
    try:
        with open(path, "rb") as source:
            return source.read().decode("utf-8", "backslashreplace")
    except OSError:
        return ""


def main():
    folder = sys.argv[1]
    settings = json.loads(read(folder + "/settings.json"))
    scratch = tempfile.mkdtemp()
    for name in ("result", "stdout"):
        settings[name] = scratch + "/" + name
    environment = dict(os.environ)
    environment.update(settings.pop("environment"))
    sites = settings.pop("sites")
    settings.update({"front": sites, "sites": []})
    with open(scratch + "/settings", "w") as out:
        json.dump(settings, out)
    harness = [folder + "/probe/harness.py", scratch + "/settings"]
    command = [sys.executable, "-B"] + (["-c", AS_LAMBDA] + harness + sites if sites else harness)
    begun = time.time()
    code = subprocess.call(command, cwd=settings["root"], env=environment, stdout=2)
    seconds = time.time() - begun
    outcome = read(settings["result"])
    report = {
        "python": list(sys.version_info[:2]),
        "code": code,
        "outcome": json.loads(outcome) if outcome else None,
        "stdout": read(settings["stdout"]),
        "seconds": seconds,
    }
    sys.stdout.write("\n" + json.dumps(report) + "\n")


if __name__ == "__main__":
    main()
