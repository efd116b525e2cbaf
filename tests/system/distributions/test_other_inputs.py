"""Other inputs than the traced one, with real distributions: no event touches the files that they need.

Most of these files are opened by code in C or C++: databases, grammars, dictionaries, certificates, plugins. The others
are read by Python, or are libraries that are loaded late.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from layer_minimizer.layer.archive import unzip
from layer_minimizer.layer.cold_store import PUT_BACK
from layer_minimizer.pipeline import minimize

if TYPE_CHECKING:
    from pathlib import Path

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
INPUTS = {
    "certifi": (0, 1),
    "fiona": (0, 27700),
    "lxml": (0, 1),
    "netcdf4": ("zlib", "zstd"),
    "opencc": ("s2t", "t2s"),
    "opencv-python-headless": ("haarcascade_eye.xml", "haarcascade_smile.xml"),
    "pillow": ("PNG", "AVIF"),
    "pyproj": (0, 27700),
    "rasterio": (0, 27700),
    "rdkit": (0, 1),
    "tzdata": ("Europe/Berlin", "Asia/Tokyo"),
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


def environment(folder: Path, name: str) -> Path:
    """Install a distribution and write the handler into the folder; return the folder with its packages."""
    subprocess.run([sys.executable, "-m", "venv", folder / "env"], check=True)
    requirement = name + RELEASES.get(name, "")
    subprocess.run([folder / "env/bin/pip", "install", "-q", "--only-binary=:all:", requirement], check=True)
    (folder / "task").mkdir()
    (folder / "task/handler.py").write_text(HANDLER)
    return next(folder.glob("env/lib/*/site-packages"))


def layer_of(folder: Path, event: object) -> Path:
    """Make a layer with the default options; return its folder with packages."""
    (folder / "event.json").write_text(json.dumps({"tests": [{"name": "seen", "event": event}]}))
    minimize(
        entry=folder / "task/handler.py",
        events=[folder / "event.json"],
        python=str(folder / "env/bin/python"),
        output=folder / "layer.zip",
    )
    unzip(folder / "layer.zip", folder / "layer")
    return next((folder / "layer").glob("python/lib/*/site-packages"))


def run(folder: Path, packages: Path, event: object) -> subprocess.CompletedProcess[str]:
    base = os.path.realpath(sys.executable)
    command = [base, "-I", "-S", "-B", "-c", RUN, folder / "task", packages, json.dumps(event)]
    return subprocess.run(command, text=True, capture_output=True, check=False)


@pytest.mark.parametrize("name", sorted(INPUTS))
def test_other_inputs_work_as_in_the_environment(tmp_path: Path, name: str) -> None:
    packages = environment(tmp_path, name)
    seen, unseen = ([name, value] for value in INPUTS[name])
    layer = layer_of(tmp_path, seen)
    expected = [run(tmp_path, packages, event) for event in (unseen, seen)]
    assert [ran.returncode for ran in expected] == [0, 0], [ran.stderr for ran in expected]
    # The layer must find neither files of the original environment nor what an earlier run restored.
    (tmp_path / "env").rename(tmp_path / "away")
    for store in layer.glob("_layer_minimizer/cold/*"):
        shutil.rmtree(f"{PUT_BACK}{store.name}", ignore_errors=True)
    for event, ran in zip((unseen, seen), expected, strict=True):
        found = run(tmp_path, layer, event)
        assert (found.returncode, found.stdout) == (0, ran.stdout), found.stderr
