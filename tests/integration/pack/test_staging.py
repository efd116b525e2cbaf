"""A layer's bytes: the same wherever they are built, the same files after unzipping, within Lambda's limits."""

import json
import os
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

PACK = """
import json, os, sys
from pathlib import Path
from layer_minimizer.environment.inventory import take_inventory
from layer_minimizer.layer.archive import write_zip
from layer_minimizer.layer.layout import Layout
from layer_minimizer.model.interpreter import Interpreter
from layer_minimizer.model.plan import Decision, KeepPlan, Reason, Verdict
from layer_minimizer.pack.staging import stage
os.umask(int(sys.argv[3], 8))
inventory = take_inventory(Interpreter("", "", (3, 11, 7), "", "", (sys.argv[1],), (), (), (), ""))
decisions = [Decision(f.path, f.size, "", Verdict.KEPT, Reason.TRACED, "") for f in inventory.files]
plan = KeepPlan("3.11.7", tuple(decisions), ("pkg/empty", "pkg/hollow/deep"), ())
stage(plan, inventory, Path(sys.argv[2], "stage"), Layout.SITE)
print(json.dumps(write_zip(Path(sys.argv[2], "stage"), Path(sys.argv[2], "layer.zip")).sha256))
"""


def test_the_same_files_make_the_same_bytes_everywhere(make_site: Callable[..., Path], tmp_path: Path) -> None:
    site = make_site("pkg", {f"pkg/{name}.py": name * 100 for name in ("b", "a", "__init__", "\u00fc", "B")})
    (site / "pkg" / "tool").write_text("#!/bin/sh\n")
    (site / "pkg" / "tool").chmod(0o755)
    (site / "pkg" / "link").symlink_to("a.py")
    digests = set()
    for number, (umask, zone, seed) in enumerate([("000", "UTC", "0"), ("077", "Asia/Tokyo", "1"), ("022", "", "77")]):
        folder = tmp_path / f"run{number}" / ("deep" * number or "x")
        folder.mkdir(parents=True)
        os.utime(site / "pkg" / "a.py", (10**9 * number, 10**9 * number))
        variables = os.environ | {"TZ": zone, "PYTHONHASHSEED": seed, "LC_ALL": "C.UTF-8" if number else "C"}
        packed = subprocess.run(
            [sys.executable, "-c", PACK, site, folder, umask], check=True, capture_output=True, env=variables
        )
        digests.add(json.loads(packed.stdout))
        assert stat.S_IMODE((folder / "layer.zip").stat().st_mode) == 0o666 & ~int(umask, 8)
    assert len(digests) == 1
