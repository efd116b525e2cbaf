"""Which distributions code refers to."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from layer_minimizer.analysis.local_modules import local_modules
from layer_minimizer.environment.inventory import take_inventory
from layer_minimizer.model.installed import Inventory
from layer_minimizer.plan.references import DistributionReferences, own_code

MakeSite = Callable[..., Path]


@pytest.fixture
def stock(build: Any) -> Callable[[Path], Inventory]:
    return lambda site: take_inventory(build.interpreter(site), ())


WAYS = {
    "import": "import tiff\n",
    "in a function": "def read():\n    import tiff.pages as pages\n    return pages\n",
    "after others": "def read():\n    import os; from json import loads; import tiff; return tiff\n",
    "after a colon": "try: import tiff\nexcept ImportError: tiff = None\n",
    "with others": "import os, json, tiff\n",
    "from": "try:\n    from tiff.pages import Page\nexcept ImportError:\n    Page = None\n",
    "text": "import importlib\n\n\ndef read():\n    return importlib.import_module('tiff')\n",
    "text of a submodule": 'ENGINES = {"t": "tiff.pages:Page"}\n',
    "entry points": "from importlib.metadata import entry_points\n\nFOUND = entry_points(group='images.readers')\n",
}


@pytest.mark.parametrize("source", WAYS.values(), ids=WAYS.keys())
def test_code_names_a_distribution(source: str, make_site: MakeSite, stock: Callable[[Path], Inventory]) -> None:
    make_site("images", {"images/__init__.py": "", "images/plugins.py": source})
    points = {"entry_points.txt": "[console_scripts]\nrun = tiff:main\n\n[images.readers]\ntiff = tiff:read\n"}
    site = make_site("tiff-reader", {"tiff/__init__.py": "", "tiff/pages.py": ""}, metadata=points)
    assert DistributionReferences.of(stock(site), {}).referenced_distributions({"images"}, []) == {
        "tiff-reader": "images/plugins.py names it"
    }


NOT_NAMED = {
    "a word in a comment": "# import tiff\n",
    "a word in a text": "TEXT = 'the tiff format'\n",
    "a longer name": "import tiffany\nfrom tiff_tools import x\nNAME = 'tiffs'\n",
    "an attribute": "def read(x):\n    return x.tiff\n",
    "a command": "GROUP = 'console_scripts'\n",
    "from elsewhere": "from .tiff import Page\n",
}


@pytest.mark.parametrize("source", NOT_NAMED.values(), ids=NOT_NAMED.keys())
def test_what_only_looks_like_a_name_is_none(
    source: str, make_site: MakeSite, stock: Callable[[Path], Inventory]
) -> None:
    make_site("images", {"images/__init__.py": source})
    site = make_site(
        "tiff-reader", {"tiff/__init__.py": ""}, metadata={"entry_points.txt": "[console_scripts]\nt = t\n"}
    )
    assert DistributionReferences.of(stock(site), {}).referenced_distributions({"images"}, []) == {}


@pytest.mark.parametrize(("group", "extends"), [("images.readers", True), ("images_readers", True), ("imag", False)])
def test_a_group_of_entry_points_is_named_after_what_it_extends(
    group: str, make_site: MakeSite, stock: Callable[[Path], Inventory], *, extends: bool
) -> None:
    make_site("images", {"images/__init__.py": ""})
    site = make_site("tiff-reader", {"tiff.py": ""}, metadata={"entry_points.txt": f"[{group}]\ntiff = tiff\n"})
    found = DistributionReferences.of(stock(site), {}).referenced_distributions({"images"}, [])
    assert found == ({"tiff-reader": "it may extend images"} if extends else {})


def test_tests_of_a_distribution_name_nothing(make_site: MakeSite, stock: Callable[[Path], Inventory]) -> None:
    files = {"images/__init__.py": "", "images/tests/helpers.py": "import tiff\n", "images/test_it.py": "import tiff\n"}
    make_site("images", files)
    site = make_site("tiff-reader", {"tiff/__init__.py": ""})
    assert DistributionReferences.of(stock(site), {}).referenced_distributions({"images"}, []) == {}


@pytest.mark.parametrize(
    ("classifier", "found"),
    [
        ("Topic :: Software Development :: Testing", {}),
        ("Topic :: Software Development :: Build Tools", {}),
        ("Topic :: Software Development", {"tiff-reader": "images/__init__.py names it"}),
    ],
)
def test_tools_that_say_so_are_no_part_of_a_program(
    classifier: str, found: Mapping[str, str], make_site: MakeSite, stock: Callable[[Path], Inventory]
) -> None:
    make_site("images", {"images/__init__.py": "import tiff\n"})
    header = f"Metadata-Version: 2.1\nName: tiff-reader\nVersion: 1.0\nClassifier: {classifier}\n"
    site = make_site("tiff-reader", {"tiff/__init__.py": ""}, metadata={"METADATA": header})
    assert DistributionReferences.of(stock(site), {}).referenced_distributions({"images"}, []) == found


TOOL = "Metadata-Version: 2.1\nName: tiff-reader\nVersion: 1.0\nClassifier: Topic :: Software Development :: Testing\n"
REQUIRING = {
    "a requirement": ("Requires-Dist: tiff_reader>=1\n", True),
    "a marker that holds": ("Requires-Dist: tiff-reader; sys_platform != 'win32'\n", True),
    "a marker that does not hold": ("Requires-Dist: tiff-reader; sys_platform == 'win32'\n", False),
    "an installed extra": ("Provides-Extra: all\nRequires-Dist: tiff-reader; extra == 'all'\n", True),
    "an extra of which a part is missing": (
        "Requires-Dist: tiff-reader; extra == 'all'\nRequires-Dist: absent; extra == 'all'\n",
        False,
    ),
    "nothing readable": ("Requires-Dist: tiff-reader (>=\n", False),
}


@pytest.mark.parametrize(("requires", "found"), REQUIRING.values(), ids=REQUIRING.keys())
def test_a_distribution_that_a_used_one_requires_is_no_tool(
    requires: str, make_site: MakeSite, stock: Callable[[Path], Inventory], *, found: bool
) -> None:
    header = f"Metadata-Version: 2.1\nName: images\nVersion: 1.0\n{requires}"
    make_site("images", {"images/__init__.py": "NAME = 'tiff'\n"}, metadata={"METADATA": header})
    site = make_site("tiff-reader", {"tiff/__init__.py": ""}, metadata={"METADATA": TOOL})
    assert bool(DistributionReferences.of(stock(site), {}).referenced_distributions({"images"}, [])) is found


@pytest.mark.parametrize(("kept", "found"), [(["images/__init__.py"], True), (["images/others.py"], False)])
def test_a_distribution_that_kept_code_imports_is_no_tool(
    kept: list[str], make_site: MakeSite, stock: Callable[[Path], Inventory], *, found: bool
) -> None:
    files = {"images/__init__.py": "def read():\n    import tiff\n", "images/others.py": "NAME = 'tiff'\n"}
    make_site("images", files)
    site = make_site("tiff-reader", {"tiff/__init__.py": ""}, metadata={"METADATA": TOOL})
    references = DistributionReferences.of(stock(site), {})
    assert bool(references.referenced_distributions({"images"}, [], kept)) is found
    own = [("handler.py", site / "images/__init__.py")]
    assert references.referenced_distributions(set(), own).keys() >= {"tiff-reader"}


def test_what_is_required_needs_no_name_in_code(make_site: MakeSite, stock: Callable[[Path], Inventory]) -> None:
    """The standard library's zoneinfo reads tzdata, which pandas requires."""
    header = "Metadata-Version: 2.1\nName: {}\nVersion: 1.0\nRequires-Dist: {}\n"
    make_site("clock", {"clock.py": ""}, metadata={"METADATA": header.format("clock", "zones[more]")})
    zones = header.format("zones", "small; extra == 'more'\nRequires-Dist: clock\nRequires-Dist: test; extra == 'test'")
    make_site("zones", {"zones/__init__.py": ""}, metadata={"METADATA": zones})
    make_site("test", {"test.py": ""})
    site = make_site("small", {"small.py": "import test\n"})
    assert DistributionReferences.of(stock(site), {}).referenced_distributions({"clock"}, []) == {
        "zones": "clock requires it",
        "small": "zones requires it",
        "test": "small.py names it",
    }


def test_what_is_reached_names_more(make_site: MakeSite, stock: Callable[[Path], Inventory]) -> None:
    make_site("first", {"first.py": "import second\n"})
    make_site("second", {"second.py": "import third, first\n"})
    make_site("third", {"third.py": ""})
    site = make_site("fourth", {"fourth.py": "import first\n"})
    references = DistributionReferences.of(stock(site), {})
    assert references.referenced_distributions({"first"}, []) == {
        "second": "first.py names it",
        "third": "second.py names it",
    }
    assert references.referenced_distributions({"first", "second"}, []) == {"third": "second.py names it"}
    assert references.referenced_distributions({"third"}, []) == {}


def test_parts_of_a_shared_package_have_names_of_their_own(
    make_site: MakeSite, stock: Callable[[Path], Inventory]
) -> None:
    make_site("user", {"user.py": "from cloud.parts import store\n", "other.py": "import cloud.parts.mail.send\n"})
    make_site("cloud-store", {"cloud/parts/store/__init__.py": ""})
    make_site("cloud-mail", {"cloud/parts/mail/__init__.py": "", "cloud/parts/mail/send.py": ""})
    make_site("cloud-core", {"cloud/core.py": ""})
    site = make_site("cloud-maps", {"cloud/parts/maps.py": ""})
    assert DistributionReferences.of(stock(site), {}).referenced_distributions({"cloud-core"}, []) == {}
    assert DistributionReferences.of(stock(site), {}).referenced_distributions({"user"}, []) == {
        "cloud-store": "user.py names it",
        "cloud-mail": "other.py names it",
    }


def test_the_entry_names_distributions_with_what_it_could_import(
    tmp_path: Path, make_site: MakeSite, stock: Callable[[Path], Inventory], build: Any, write: Any
) -> None:
    site = make_site("tiff-reader", {"tiff/__init__.py": ""})
    folder = write(
        tmp_path / "task",
        {
            "handler.py": "def handler(event, context):\n    import helpers.late\n",
            "helpers/__init__.py": "",
            "helpers/late.py": "import tiff\n",
            "train.py": "import unheard_of\n",
        },
    )
    trace = build.trace(workload=build.trace().workload.__class__(folder / "handler.py"))
    code = own_code(trace, ())
    assert [name for name, _ in code] == ["handler.py", "helpers/__init__.py", "helpers/late.py"]
    assert DistributionReferences.of(stock(site), {}).referenced_distributions(set(), code) == {
        "tiff-reader": "helpers/late.py names it"
    }
    assert local_modules(trace, {"handler.py": folder / "handler.py"}) == {"handler.py"}
    (folder / "handler.py").unlink()
    assert own_code(trace, ()) == []
