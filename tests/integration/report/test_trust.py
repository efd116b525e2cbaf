"""License texts in a layer, and its bill of materials, compared with what the installed distributions declare."""

from __future__ import annotations

import email
import hashlib
import json
import os
import subprocess
import zipfile
from typing import TYPE_CHECKING, Any

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from layer_minimizer.layer.archive import unzip
from tests.support.pythons import MAIN
from tests.support.sites import write_files

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.support.desk import Desk
    from tests.support.sites import Environment

MIT = "MIT License\n" + "Permission is hereby granted, free of charge, to any person.\n" * 20
SITE = f"python/lib/python{MAIN}/site-packages"
HANDLER = """\
import importlib.metadata
import alpha, beta, gamma, delta


def handler(event, context):
    if event.get("unseen"):
        files = [str(file) for name in ("alpha", "beta") for file in importlib.metadata.files(name) or ()]
        return [importlib.metadata.metadata("beta")["License-Expression"], sorted(files)]
    return [alpha.VALUE, beta.VALUE, gamma.VALUE, delta.VALUE]
"""


def header(name: str, *lines: str) -> str:
    return "\n".join(["Metadata-Version: 2.4", f"Name: {name}", "Version: 1.0", *lines, "", f"About {name}.", ""])


@pytest.fixture
def env(make_env: Callable[..., Environment], desk: Desk) -> Environment:
    """Return an environment with licenses in all the places where they are found."""
    made = make_env(MAIN)
    value = "VALUE = 1\n"
    made.install(
        "alpha",
        {"alpha/__init__.py": value, "alpha/vendored/__init__.py": "", "alpha/vendored/LICENSE": f"{MIT}vendored\n"},
        metadata={
            "METADATA": header(
                "alpha", "License-Expression: MIT", "License-File: LICENSE", "License-File: legal/NOTICE"
            ),
            "licenses/LICENSE": MIT,
            "licenses/legal/NOTICE": "a notice\n",
        },
    )
    made.install(
        "beta",
        {"beta.py": value},
        metadata={
            "METADATA": header("beta", "License-Expression: MIT", "License-File: MIT.txt", "Requires-Dist: alpha"),
            "MIT.txt": MIT,
            "AUTHORS": "somebody\n",
        },
    )
    made.install("gamma", {"gamma.py": value})  # no license at all
    write_files(made.site, {
        "delta/__init__.py": value, "delta/LICENSE.txt": MIT,
        "delta.egg-info/PKG-INFO": header("delta", "License: BSD"),
        "delta.egg-info/top_level.txt": "delta\n",
    })  # fmt: skip
    made.install("epsilon", {"epsilon.py": value}, metadata={"LICENSE": "not used\n"})
    desk.write("handler.py", HANDLER)
    return made


def make(desk: Desk, env: Environment, *arguments: object) -> tuple[Path, dict[str, Any]]:
    """Make a layer; return the folder in which it is unpacked, and the report."""
    report = desk.folder / "report.json"
    desk.minimize(env, "--report-json", report, *arguments)
    folder = desk.folder / "unpacked"
    unzip(desk.output, folder)
    return folder / SITE, json.loads(report.read_text())


def declared(env: Environment) -> dict[str, bytes]:
    """Return the files that each shipped distribution declares, with their contents."""
    found = {}
    for info in ("alpha-1.0.dist-info", "beta-1.0.dist-info"):
        message = email.message_from_bytes((env.site / info / "METADATA").read_bytes())
        for name in message.get_all("License-File") or ():
            path = next(path for path in (f"{info}/licenses/{name}", f"{info}/{name}") if (env.site / path).exists())
            found[path] = (env.site / path).read_bytes()
        found[f"{info}/METADATA"] = (env.site / info / "METADATA").read_bytes()
    assert len(found) == 5
    return found


MORE = [
    "alpha/vendored/LICENSE", "beta-1.0.dist-info/AUTHORS", "delta/LICENSE.txt", "delta.egg-info/PKG-INFO",
    "gamma-1.0.dist-info/METADATA",
]  # fmt: skip


@pytest.mark.parametrize("cold", ["keep", "drop"])
def test_the_texts_lie_in_the_layer(desk: Desk, env: Environment, cold: str) -> None:
    site, report = make(desk, env, "--cold", cold, "--licenses", "keep")
    expected = declared(env) | {name: (env.site / name).read_bytes() for name in MORE}
    if cold == "drop":
        del expected["alpha/vendored/LICENSE"]  # nothing of that is in the layer
    for path, content in expected.items():
        # Whoever opens the layer can read it: no cold file, whose link leads nowhere without the layer's runtime.
        assert (site / path).resolve().is_relative_to(site.resolve()), path
        assert (site / path).read_bytes() == content, path
    assert not list(site.glob("epsilon*"))
    # Equal texts are there once.
    links = {path for path in expected if (site / path).is_symlink()}
    assert len(links) == 2
    assert links < {"alpha-1.0.dist-info/licenses/LICENSE", "beta-1.0.dist-info/MIT.txt", "delta/LICENSE.txt"}
    said = report["licenses"]
    assert (said["files"], said["equal"], said["without"]) == (len(expected), 2, ["gamma"])
    assert said["bytes"] == sum((site / path).lstat().st_size for path in expected) == report["kept"]["LICENSE"]


def test_the_layer_answers_for_metadata_as_the_environment_does(desk: Desk, env: Environment) -> None:
    site, _ = make(desk, env, "--cold", "keep", "--licenses", "keep")
    code = "import handler, json; print(json.dumps(handler.handler({'unseen': 1}, None)))"

    def run(python: str, folder: Path | None) -> str:
        more = {"PYTHONPATH": str(folder)} if folder else {}
        command = [python, "-B", "-c", code]
        ended = subprocess.run(
            command, cwd=desk.work, env={**os.environ, **more}, capture_output=True, text=True, check=True, timeout=60
        )
        return ended.stdout

    base = os.path.realpath(env.python)
    assert run(base, site) == run(env.python, None)


def test_drop_leaves_texts_out(desk: Desk, env: Environment) -> None:
    site, report = make(desk, env, "--cold", "keep", "--licenses", "drop")
    with zipfile.ZipFile(desk.output) as archive:
        assert not [name for name in archive.namelist() if "LICENSE" in name or "MIT.txt" in name or "NOTICE" in name]
    assert (site / "alpha-1.0.dist-info/METADATA").is_symlink()  # cold
    assert report["licenses"]["files"] == 0


def test_the_bill_of_materials(desk: Desk, env: Environment) -> None:
    files = [desk.folder / "one.json", desk.folder / "two.json"]
    for file in files:
        desk.minimize(env, "--cold", "keep", "--sbom", file)
    text = files[0].read_text()
    assert text == files[1].read_text()
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    found = json.loads(text)
    components = {each["name"]: each for each in found["components"]}
    assert {name for name, each in components.items() if each.get("scope") == "excluded"} == {"epsilon"}
    assert {"alpha", "beta", "gamma", "delta"} <= components.keys()
    assert (
        found["metadata"]["component"]["hashes"][0]["content"] == hashlib.sha256(desk.output.read_bytes()).hexdigest()
    )
    assert {each["ref"]: each.get("dependsOn") for each in found["dependencies"]}["beta@1.0"] == ["alpha@1.0"]


def test_an_sbom_that_cannot_be_written_is_an_error_at_once(desk: Desk, env: Environment) -> None:
    desk.fails(env, 5, ["--sbom: cannot write", "use another folder"], "--sbom", desk.folder / "absent" / "sbom.json")
