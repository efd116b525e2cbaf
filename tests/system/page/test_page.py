"""The HTML report as a file: all sizes of reports and screens, all contents, old browsers."""

from __future__ import annotations

import copy
import json
from importlib import resources
from typing import TYPE_CHECKING, Any

import pytest

from layer_minimizer.report.html import render

from . import reports
from .conftest import SIZES

if TYPE_CHECKING:
    from collections.abc import Callable

    from playwright.sync_api import Page

    Show = Callable[..., Page]

_MB = 1_000_000


@pytest.fixture(scope="module")
def report() -> dict[str, Any]:
    return reports.realistic(1500)


def reload_seconds(page: Page) -> float:
    page.reload()
    page.wait_for_selector("html[data-state=ready]", state="attached")
    return float(page.evaluate("performance.getEntriesByName('ready')[0].startTime")) / 1000


def test_26000_files_open_at_once(show: Show) -> None:
    large = reports.realistic(26_000)
    assert len(large["files"]) == 26_000
    assert sum(len(row["path"]) for row in large["files"]) > 26_000 * 40
    assert len(render(large).encode()) < 2 * _MB
    page = show(large)
    assert min(reload_seconds(page) for _ in range(3)) < 2
    # It responds to a click on the treemap and to a search.
    box = page.locator("#treemap").bounding_box()
    assert box is not None
    page.locator("#treemap").click(position={"x": box["width"] / 3, "y": box["height"] / 2})
    assert page.locator("#details .subject").inner_text() != "Environment"
    page.get_by_role("combobox").fill("torch")
    assert "60 shown" in page.locator("#found").inner_text()


def test_it_says_what_came_out(show: Show, report: dict[str, Any]) -> None:
    page = show(report)
    head = page.locator("header").inner_text()
    before, layer = report["before"], report["layer"]
    assert f"{before['bytes'] / 1e6:,.1f} MB" in head
    assert f"{layer['unzipped_bytes'] / 1e6:,.1f} MB" in head
    assert f"{layer['zipped_bytes'] / 1e6:,.1f} MB" in head
    assert (
        "Verified: 3 results, the same on the layer alone (the original environment hidden); 2 files restored" in head
    )
    assert "init 2.4 s, peak 303 of 1,769 MB, /tmp 12 of 512 MB" in head
    assert "Python 3.11.7 · layer_minimizer 0.1.0" in head
    assert report["warnings"][0] in head
    assert page.title() == "handler.py: layer report"


def test_it_says_what_an_image_is_made_of(show: Show, report: dict[str, Any]) -> None:
    digests = [f"sha256:{digit * 64}" for digit in "0123"]
    names = (("base", digests[:2]), ("packages", digests[2:3]), ("function", digests[3:]))
    parts = [
        {"name": name, "digests": listed, "bytes": 2_000_000, "unpacked_bytes": 5_000_000} for name, listed in names
    ]
    image = {
        "path": "app.tar", "digest": f"sha256:{'a' * 64}", "image_id": f"sha256:{'b' * 64}", "tag": "app:latest",
        "base": "bookworm.tar", "parts": parts, "command": ["python3", "task.py"],
        "verified": "podman", "seconds": 1.24,
    }  # fmt: skip
    page = show(report | {"output": "image", "image": image})
    assert page.title() == "handler.py: image report"
    page.get_by_text("Image app:latest, above bookworm.tar").click()
    shown = page.locator("details.image")
    assert "Verified in a container (podman)" in shown.inner_text()
    assert "the last 1.2 s after its start" in shown.inner_text()
    assert shown.locator("tbody tr").nth(0).locator("td").all_inner_texts() == ["2.0 MB", "5.0 MB", "2 layers"]
    assert shown.locator("tbody tr").nth(2).locator("td").last.inner_text() == digests[3]
    assert "python3 task.py" in shown.inner_text()
    assert "Folder of handler.py" in show(report | {"output": "folder"}).locator("header").inner_text()


def test_it_says_what_is_for_a_gpu_and_which_licenses_are_there(show: Show, report: dict[str, Any]) -> None:
    gpu = {
        "files": 3, "bytes": 4_810_500_000, "shipped": 58_400_000, "distributions": {"nvidia-cublas": 1, "torch": 2},
        "cpu_builds": {"torch": "an index of its own"},
    }  # fmt: skip
    head = show(report | {"gpu": gpu}).locator("header").inner_text()
    assert "For a GPU: 4,810.5 MB in 2 distributions, of which 58.4 MB are shipped" in head
    assert "torch has a build without them: an index of its own." in head
    assert "Licenses: 90 texts and METADATA files, 12 of them links to equal ones, 640.0 kB." in head
    assert "Without a license text: blis." in head


def test_the_limit_and_its_parts(show: Show, report: dict[str, Any]) -> None:
    page = show(report)
    layer = report["budget"]["layer"]
    used = layer + 31_000_000 + 14_200_000
    text = page.locator("#budget").inner_text()
    assert f"{used / 1e6:.1f} MB of 262.1 MB" in text
    widths = {
        name: page.locator(f"#budget .bar .{name}").bounding_box()["width"]
        for name in ("layer", "base", "function", "free")
    }  # type: ignore[index]
    whole = sum(widths.values())
    assert widths["layer"] / whole == pytest.approx(layer / 262_144_000, abs=0.01)
    assert widths["free"] / whole == pytest.approx(1 - used / 262_144_000, abs=0.01)
    over = show(report | {"budget": report["budget"] | {"limit": 40_000_000}})
    assert f"{used / 400_000:.1f} %; over the limit" in over.locator("#budget").inner_text()
    assert f"Over the limit {(used - 40_000_000) / 1e6:.1f} MB" in over.locator("#budget").inner_text()
    assert over.locator("#budget .limit").is_visible()


def test_import_times_are_bars(show: Show, report: dict[str, Any]) -> None:
    page = show(report)
    assert "6.81 s before, 1.75 s after" in page.locator("#import-time").inner_text()
    row = page.locator("#import-time tbody tr").first
    assert row.locator("td").all_inner_texts() == ["torch", "3.90 s", "1.30 s"]
    long, short = (row.locator(f".time.{kind}").bounding_box()["width"] for kind in ("before", "after"))  # type: ignore[index]
    assert short / long == pytest.approx(1 / 3, abs=0.02)
    assert "Not measured" in show(report | {"import_time": None}).locator("#import-time").inner_text()


def test_tables_are_sorted_by_any_column_and_shortened(show: Show, report: dict[str, Any]) -> None:
    page = show(report)
    table = page.locator("#stand-ins")
    rows = table.locator("tbody tr")
    assert rows.count() == 12 < len(report["stand_ins"])
    largest = max(report["stand_ins"], key=lambda row: row["bytes"])
    assert rows.first.locator("td").first.inner_text() == largest["module"]
    assert table.locator("th[aria-sort=descending]").inner_text().startswith("Size")
    for order, index in (("ascending", 0), ("descending", -1)):
        table.get_by_role("button", name="Module").click()
        assert table.locator(f"th[aria-sort={order}]").inner_text().startswith("Module")
        assert (
            rows.first.locator("td").first.inner_text() == sorted(row["module"] for row in report["stand_ins"])[index]
        )
    table.get_by_role("button", name=f"Show all {len(report['stand_ins']):,}").click()
    assert rows.count() == len(report["stand_ins"])


def test_a_report_of_next_to_nothing(show: Show) -> None:
    page = show(reports.bare())
    assert page.get_attribute("html", "data-state") == "ready"
    body = page.locator("body").inner_text()
    assert "1 result, the same in 10 runs on the layer alone (no file of the original environment used)" in body
    for text in (
        "Not measured",
        "No library was compacted",
        "No module was replaced by a stand-in",
        "Events imported every module that kept code could import",
    ):
        assert text in body
    for word in ("null", "undefined", "NaN", "Infinity"):
        assert word not in body
    page.locator("#treemap").click(position={"x": 50, "y": 150})
    assert page.locator("#details .subject").inner_text() == "answer.py"


def test_a_report_without_files(show: Show) -> None:
    empty = reports.bare() | {"files": [], "function": None, "budget": None}
    page = show(empty)
    assert page.get_attribute("html", "data-state") == "ready"
    assert not page.locator("#budget").is_visible()


def test_names_are_text_and_run_nothing(show: Show) -> None:
    report = reports.hostile()
    page = show(report)
    page.get_by_role("combobox").fill("p")
    shown = set(page.locator("#results .name").all_inner_texts())
    assert shown >= HOSTILE_SHOWN
    page.keyboard.press("Escape")
    for row in report["files"]:
        page.evaluate("(path) => layerReport.show(path)", row["path"])
        assert page.locator("#details .subject").inner_text() in HOSTILE_SHOWN
        address = page.locator("#details .note a").get_attribute("href")
        again = page.evaluate("(address) => { location.hash = ''; location.hash = address; return address; }", address)
        page.wait_for_function(
            "(address) => document.querySelector('#details .note a').hash === new URL(address, location).hash",
            arg=again,
        )
    page.evaluate("document.querySelectorAll('button.more').forEach((button) => button.click())")
    assert page.evaluate("globalThis.struck") is None
    assert page.locator("img, iframe, object, [onerror]").count() == 0
    assert page.locator("script").count() == 3
    assert page.get_attribute("html", "data-state") == "ready"


HOSTILE_SHOWN = {
    "</script><script>globalThis.struck = 1</script>.py",
    "<img src=x onerror='globalThis.struck = 2'>/a.py",
    "quotes\"'`&amp;.py",
    "\\u202etxt.exe\\u200f.py",
    "line\\nfeed\\ttab\\r.py",
    "no utf-8 \\xff\\x80.py",
    "astral \U0001f40d\U0001f40e/\U0001f40d\U0001f40f.py",
    "-->]]>{{data}}.py",
    "__proto__/constructor",
}


@pytest.mark.parametrize("size", ["phone", "small phone"])
def test_on_a_phone_nothing_is_cut_off(show: Show, report: dict[str, Any], size: str) -> None:
    page = show(report, size=size, has_touch=True, is_mobile=True)
    width, height = SIZES[size]
    assert page.evaluate("document.documentElement.scrollWidth") == width
    canvas = page.locator("#treemap")
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    assert box is not None
    assert box["width"] > width - 40
    page.touchscreen.tap(box["x"] + box["width"] / 2, min(box["y"] + box["height"] / 2, height - 10))
    assert page.locator("#details .subject").inner_text() != "Environment"
    page.locator("#details .subject").scroll_into_view_if_needed()
    assert page.locator("#details .subject").is_visible()
    page.locator("#details .note a").scroll_into_view_if_needed()
    assert page.evaluate("document.documentElement.scrollWidth") == width
    assert page.evaluate("scrollX") == 0


def test_dark_and_light_follow_the_system(show: Show, report: dict[str, Any]) -> None:
    def brightness(page: Page) -> tuple[int, int]:
        colour = page.evaluate(
            "(name) => getComputedStyle(document.body)[name].match(/\\d+/g).map(Number)", "backgroundColor"
        )
        text = page.evaluate("(name) => getComputedStyle(document.body)[name].match(/\\d+/g).map(Number)", "color")
        return sum(colour), sum(text)

    dark, text = brightness(show(report, scheme="dark"))
    assert dark < 100
    assert text > 600
    light, text = brightness(show(report, scheme="light"))
    assert light > 600
    assert text < 200


def test_without_javascript_it_says_what_is_needed(show: Show, report: dict[str, Any]) -> None:
    page = show(report, java_script_enabled=False)
    assert "needs JavaScript" in page.locator("noscript").inner_text()


def test_an_old_browser_gets_a_message(show: Show, report: dict[str, Any]) -> None:
    page = show(report, prepare="delete globalThis.DecompressionStream")
    assert page.get_attribute("html", "data-state") == "failed"
    assert "no DecompressionStream" in page.locator("#state").inner_text()
    assert not page.locator("main").is_visible()


@pytest.mark.parametrize("make", [reports.realistic, reports.bare, reports.hostile])
def test_the_invented_reports_are_what_the_tool_gives(make: Callable[[], dict[str, Any]]) -> None:
    jsonschema = pytest.importorskip("jsonschema", reason="validates against the schema")
    schema = json.loads((resources.files("layer_minimizer.report") / "report.schema.json").read_text("utf-8"))
    jsonschema.Draft202012Validator(schema).validate(make())


def test_a_report_of_json_that_was_read_is_the_same_page(report: dict[str, Any]) -> None:
    assert render(json.loads(json.dumps(report))) == render(copy.deepcopy(report))
