"""Every shipped rule on the real distribution: what the events did not do works on the layer, and only by the rule."""

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from layer_minimizer import minimize
from layer_minimizer.rules import load_rules
from tests.test_rules_of_c_code import CASES

HANDLER = """
import base64, io, os
os.environ["PYTHONTZPATH"] = ""
import certifi, tzdata, zoneinfo
from PIL import Image

def image(kind):
    out = io.BytesIO()
    Image.new("RGB", (8, 8), (9, 99, 199)).save(out, kind)
    return list(Image.open(io.BytesIO(out.getvalue())).convert("RGB").getpixel((3, 3)))

def handler(event, context):
    if "image" in event:
        return image(event["image"])
    if "zone" in event:
        return str(zoneinfo.ZoneInfo(event["zone"]).utcoffset(__import__("datetime").datetime(2024, 7, 1)))
    return len(certifi.contents())
"""
RUN = """
import json, sys
sys.path[:0] = sys.argv[1:3]
import handler
print(json.dumps([handler.handler(event, None) for event in json.loads(sys.argv[3])]))
"""
SEEN = [{"image": "PNG"}, {"zone": "Europe/Berlin"}]
# By distribution; those whose files C code opens have a file of tests of their own.
UNSEEN = {
    "pillow": [{"image": "GIF"}, {"image": "TIFF"}, {"image": "WEBP"}, {"image": "AVIF"}],
    "tzdata": [{"zone": "Asia/Tokyo"}],
    "certifi": [{}],
}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the handler, an environment and its layer."""
    folder = tmp_path_factory.mktemp("rules")
    subprocess.run([sys.executable, "-m", "venv", folder / "env"], check=True)
    names = sorted(UNSEEN)
    subprocess.run([folder / "env/bin/pip", "install", "-q", *names], check=True)
    (folder / "task").mkdir()
    (folder / "task/handler.py").write_text(HANDLER)
    (folder / "events.json").write_text(json.dumps(SEEN))
    report = minimize(
        entry=folder / "task/handler.py",
        events=[folder / "events.json"],
        python=str(folder / "env/bin/python"),
        output=folder / "layer.zip",
        effort=0,
        bytecode="source",
    )
    (folder / "by_rule.json").write_text(json.dumps([d.path for d in report.plan.kept if d.reason.value == "RULE"]))
    with zipfile.ZipFile(folder / "layer.zip") as archive:
        archive.extractall(folder / "layer")
    return folder


def run(place: Path, packages: Path, events: list[object]) -> subprocess.CompletedProcess[str]:
    base = os.path.realpath(sys.executable)
    return subprocess.run(
        [base, "-I", "-S", "-B", "-c", RUN, place / "task", packages, json.dumps(events)],
        env={**os.environ, "PYTHONTZPATH": ""},
        text=True,
        capture_output=True,
        check=False,
    )


def test_every_rule_has_a_case() -> None:
    assert {rule.distribution for rule in load_rules()} == UNSEEN.keys() | CASES.keys()


@pytest.mark.parametrize("distribution", UNSEEN)
def test_rule_keeps_what_other_inputs_need(place: Path, distribution: str) -> None:
    layer = next(place.glob("layer/python/lib/*/site-packages"))
    original = next(place.glob("env/lib/*/site-packages"))
    expected = run(place, original, UNSEEN[distribution])
    assert expected.returncode == 0, expected.stderr
    found = run(place, layer, UNSEEN[distribution])
    assert found.returncode == 0, found.stderr
    assert found.stdout == expected.stdout

    # Without the files that only the rule keeps the same events fail: the rule is needed.
    aside = place / "aside"
    by_rule = json.loads((place / "by_rule.json").read_text())
    rules = {rule.when.split(".")[0] for rule in load_rules() if rule.distribution == distribution}
    moved = [path for path in by_rule if path.split("/")[0] in rules]
    assert moved
    for path in moved:
        (aside / path).parent.mkdir(parents=True, exist_ok=True)
        (layer / path).rename(aside / path)
    try:
        without = run(place, layer, UNSEEN[distribution])
        assert without.returncode != 0 or without.stdout != expected.stdout
    finally:
        for path in moved:
            (aside / path).rename(layer / path)
