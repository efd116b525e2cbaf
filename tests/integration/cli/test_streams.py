"""Standard streams that are closed, full, or not read: the command continues, and results stay separate."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.places import TOOL
from tests.support.sites import Environment, stocked_env

if TYPE_CHECKING:
    from tests.support.desk import Desk

env = stocked_env
FULL = Path("/dev/full")


def shell(desk: Desk, env: Environment, redirected: str, *arguments: str) -> tuple[int, str, str]:
    """Run the command in a shell, with redirections; return its exit code, standard output and error."""
    done = subprocess.run(
        ["bash", "-c", f'set -o pipefail\n"$@" {redirected}', "bash", *TOOL, *desk.arguments(env, *arguments)],
        env=desk.variables(),
        cwd=desk.folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    desk.require_clean()
    return done.returncode, done.stdout, done.stderr


@pytest.fixture(autouse=True)
def _handler(desk: Desk) -> None:
    desk.write(
        "handler.py",
        "import sys, alpha\n\ndef handler(event, context):\n"
        "    print('said')\n    print('and this', file=sys.stderr)\n    return alpha.VALUE\n",
    )


@pytest.mark.parametrize("redirected", ["2>&-", "2>/dev/full", "2>&- <&-"])
def test_without_standard_error_the_result_is_all_there_is(desk: Desk, env: Environment, redirected: str) -> None:
    code, out, err = shell(desk, env, redirected, "--json")
    assert (code, err) == (0, "")
    assert json.loads(out)["verified"] is True


@pytest.mark.parametrize("arguments", [(), ("--json",)])
@pytest.mark.parametrize("redirected", [">&-", "| true", ">&- 2>&- <&-"])
def test_where_nobody_reads_the_result_the_layer_is_made(
    desk: Desk, env: Environment, redirected: str, arguments: tuple[str, ...]
) -> None:
    code, out, err = shell(desk, env, redirected, "-q", *arguments)
    assert (code, out, err) == (0, "", "")
    assert desk.output.exists()


@pytest.mark.skipif(not FULL.exists(), reason="there is no /dev/full here")
@pytest.mark.parametrize("arguments", [(), ("--json",)])
def test_a_result_that_cannot_be_printed_is_an_error(desk: Desk, env: Environment, arguments: tuple[str, ...]) -> None:
    code, _, err = shell(desk, env, f">{FULL}", "-q", *arguments)
    assert code == 5
    assert err == ("minimize: the result cannot be printed: No space left on device; all files have been written\n")
    assert desk.output.exists()


def test_growth_is_told_by_the_exit_code_although_nobody_reads(desk: Desk, env: Environment) -> None:
    code, out, _ = shell(desk, env, "", "--json")
    assert code == 0
    report = json.loads(out)
    old, new = desk.folder / "old.json", desk.folder / "new.json"
    new.write_text(out)
    old.write_text(json.dumps({**report, "layer": {**report["layer"], "unzipped_bytes": 1}}))
    compared = " ".join([*TOOL, "diff", str(old), str(new), "--fail-above", "5%"])
    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {compared} 2>/dev/null | true"], env=desk.variables(), check=False
    )
    assert done.returncode == 9
