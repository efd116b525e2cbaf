"""Rules for files that C code opens, with the real distributions: such files cannot be restored on demand.

The same layer made without rules has these files in its cold store, and fails.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from layer_minimizer.layer.archive import unzip
from layer_minimizer.pipeline import minimize
from layer_minimizer.plan import rules

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

HANDLER = """
def lxml(schema):
    from lxml import etree
    if not schema:
        return etree.fromstring("<a/>").tag
    from lxml import isoschematron
    namespace = "http://purl.oclc.org/dsdl/schematron"
    rule = '<rule context="a"><assert test="b">x</assert></rule>'
    text = '<schema xmlns="%s"><pattern id="p">%s</pattern></schema>' % (namespace, rule)
    return isoschematron.Schematron(etree.fromstring(text)).validate(etree.fromstring("<a/>"))

def fiona(code):
    import fiona.crs
    return fiona.crs.CRS.from_epsg(code).to_wkt() if code else len(fiona.supported_drivers)

def rasterio(code):
    import rasterio.crs
    return rasterio.crs.CRS.from_epsg(code).to_wkt() if code else rasterio.__version__

def pyproj(code):
    import pyproj
    return pyproj.CRS.from_epsg(code).to_wkt() if code else pyproj.__version__

def certifi(tls):
    import os
    import certifi
    if not tls:
        return certifi.__name__
    import ssl
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(os.path.join(os.path.dirname(certifi.__file__), "cacert.pem"))
    return len(context.get_ca_certs()) > 50

def pillow(kind):
    import io
    from PIL import Image
    out = io.BytesIO()
    Image.linear_gradient("L").convert("RGB").save(out, kind)
    return Image.open(io.BytesIO(out.getvalue())).convert("RGB").getpixel((3, 100))[0] // 8

def tzdata(zone):
    import datetime
    import zoneinfo
    zoneinfo.reset_tzpath([])
    return str(zoneinfo.ZoneInfo(zone).utcoffset(datetime.datetime(2024, 7, 1)))

def netcdf4(compression):
    import netCDF4
    with netCDF4.Dataset("x.nc", "w", memory=100000) as data:
        data.createDimension("x", 1000)
        variable = data.createVariable("v", "i4", ("x",), compression=compression)
        variable[:] = list(range(1000))
        return int(variable[:].sum())

def rdkit(features):
    import os
    from rdkit import Chem, RDConfig
    molecule = Chem.MolFromSmiles("CCO")
    if not features:
        return Chem.MolToSmiles(molecule)
    from rdkit.Chem import ChemicalFeatures, FragmentCatalog
    file = os.path.join(RDConfig.RDDataDir, "BaseFeatures.fdef")
    found = len(ChemicalFeatures.BuildFeatureFactory(file).GetFeaturesForMol(molecule))
    groups = os.path.join(RDConfig.RDDataDir, "FunctionalGroups.txt")
    return [found, FragmentCatalog.FragCatParams(1, 6, groups).GetNumFuncGroups()]

def opencc(conversion):
    import opencc
    return opencc.OpenCC(conversion).convert("\\u6c49\\u5b57\\u8f6f\\u4ef6")

def opencv_python_headless(name):
    import os
    import cv2
    classifier = cv2.CascadeClassifier(os.path.join(cv2.data.haarcascades, name))
    assert not classifier.empty()
    return classifier.getOriginalWindowSize()

def handler(event, context):
    return globals()[event[0].replace("-", "_")](event[1])
"""
# By distribution: a traced input, and another one.
CASES = {
    "certifi": (0, 1),
    "lxml": (0, 1),
    "opencc": ("s2t", "t2s"),
    "opencv-python-headless": ("haarcascade_eye.xml", "haarcascade_smile.xml"),
}
# Later releases do not have such files.
RELEASES = {"opencv-python-headless": "<5"}
# As in a function, the .pth file of the layer starts its runtime.
RUN = """
import json, site, sys
sys.path[:0] = sys.argv[1:3]
site.addsitedir(sys.argv[2])
import handler
print(json.dumps(handler.handler(json.loads(sys.argv[3]), None)))
"""


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Return a folder with the handler, and an environment with one distribution."""

    def make(name: str) -> Path:
        folder = tmp_path_factory.mktemp(name)
        subprocess.run([sys.executable, "-m", "venv", folder / "env"], check=True)
        requirement = name + RELEASES.get(name, "")
        subprocess.run([folder / "env/bin/pip", "install", "-q", "--only-binary=:all:", requirement], check=True)
        (folder / "task").mkdir()
        (folder / "task/handler.py").write_text(HANDLER)
        return folder

    return make


def run(folder: Path, packages: Path, event: object) -> subprocess.CompletedProcess[str]:
    base = os.path.realpath(sys.executable)
    command = [base, "-I", "-S", "-B", "-c", RUN, folder / "task", packages, json.dumps(event)]
    return subprocess.run(command, text=True, capture_output=True, check=False)


def layer_of(folder: Path, event: object, name: str) -> Path:
    (folder / "event.json").write_text(json.dumps({"tests": [{"name": "seen", "event": event}]}))
    minimize(
        entry=folder / "task/handler.py",
        events=[folder / "event.json"],
        python=str(folder / "env/bin/python"),
        output=folder / f"{name}.zip",
        effort=0,
        native="off",
    )
    unzip(folder / f"{name}.zip", folder / name)
    return next((folder / name).glob("python/lib/*/site-packages"))


def distributions_with_rules() -> set[str]:
    files = Path(rules.__file__).parent.glob("*.toml")
    return {tomllib.loads(file.read_text("utf-8"))["distribution"] for file in files}


def in_turns(names: Iterable[str]) -> list[Any]:
    """Return the parameters of a test that is distributed over three commits."""
    return [pytest.param(name, marks=pytest.mark.turn(at % 3 + 1)) for at, name in enumerate(sorted(names))]


def test_every_rule_has_a_case() -> None:
    assert distributions_with_rules() == CASES.keys()


@pytest.mark.parametrize("name", in_turns(CASES))
def test_only_the_rule_keeps_what_c_code_opens(
    environment: Callable[[str], Path], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = environment(name)
    seen, unseen = ([name, value] for value in CASES[name])
    with_rule = layer_of(folder, seen, "with")
    expected = run(folder, next(folder.glob("env/lib/*/site-packages")), unseen)
    assert expected.returncode == 0, expected.stderr
    monkeypatch.setattr(rules, "load_rules", lambda: ())
    without = layer_of(folder, seen, "without")
    # The layers must not find files of the original environment.
    (folder / "env").rename(folder / "away")
    found = run(folder, with_rule, unseen)
    assert (found.returncode, found.stdout) == (0, expected.stdout), found.stderr
    assert run(folder, without, seen).returncode == 0
    assert run(folder, without, unseen).returncode != 0


# By distribution: a traced input, and another one that works without a rule.
NO_RULE = {
    "fiona": (0, 27700),
    "netcdf4": ("zlib", "zstd"),
    "pillow": ("PNG", "AVIF"),
    "pyproj": (0, 27700),
    "rasterio": (0, 27700),
    "rdkit": (0, 1),
    "tzdata": ("Europe/Berlin", "Asia/Tokyo"),
}


@pytest.mark.parametrize("name", in_turns(NO_RULE))
def test_other_inputs_of_these_need_no_rule(environment: Callable[[str], Path], name: str) -> None:
    """Files that Python opens are restored; libraries and data that C code opens are kept in place."""
    assert name not in distributions_with_rules()
    folder = environment(name)
    seen, unseen = ([name, value] for value in NO_RULE[name])
    layer = layer_of(folder, seen, "layer")
    expected = run(folder, next(folder.glob("env/lib/*/site-packages")), unseen)
    assert expected.returncode == 0, expected.stderr
    (folder / "env").rename(folder / "away")
    found = run(folder, layer, unseen)
    assert (found.returncode, found.stdout) == (0, expected.stdout), found.stderr
