"""The file explorer of the HTML report: details, clicks, search, filter, zoom, links."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest

from . import reports

if TYPE_CHECKING:
    from collections.abc import Callable

    from playwright.sync_api import Locator, Page

    Show = Callable[..., Page]

# The tooltips of the treemap for a grid of points.
SURVEY = """(step) => {
  const canvas = document.getElementById("treemap"), tip = document.getElementById("tip"), text = [];
  const {left, top, width, height} = canvas.getBoundingClientRect();
  for (let y = step / 2; y < height; y += step) for (let x = step / 2; x < width; x += step) {
    canvas.dispatchEvent(new PointerEvent("pointermove", {clientX: left + x, clientY: top + y}));
    text.push(tip.hidden ? "" : tip.textContent);
  }
  return text;
}"""
TERMS = """() => Object.fromEntries([...document.querySelectorAll("#details-body > dl:first-of-type dt")].map(
  (term) => [term.textContent, term.nextElementSibling.textContent]))"""


@pytest.fixture(scope="module")
def report() -> dict[str, Any]:
    return reports.realistic(1500)


def subject(page: Page) -> str:
    return page.locator("#details .subject").inner_text()


def chain(report: dict[str, Any], row: dict[str, Any]) -> list[str]:
    """Return the chain of causes from a file to the entry, from the report's JSON."""
    files = {each["path"]: each for each in reversed(report["files"])}
    imports = {each["module"]: each for each in report["imports"]}
    steps, seen, cause = [], {row["path"]}, row["cause"]
    while cause and cause not in seen:
        seen.add(cause)
        if cause in files:
            steps.append(f"{cause}: {files[cause]['evidence']}")
            cause = files[cause]["cause"]
        elif cause in imports:
            importer = imports[cause]["importer"]
            steps.append(
                f"{cause} is imported by {importer}, line {imports[cause]['line']}"
                if importer
                else f"{cause} (the entry)"
            )
            cause = importer
        else:
            break
    return steps


def middle(page: Page, path: str) -> tuple[float, float]:
    box = page.evaluate("(path) => layerReport.rectangle(path)", path)
    assert box["exact"]
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


def bytes_in(text: str) -> int:
    """Return the exact number of "153.8 kB (153,846 bytes)"."""
    found = re.search(r"([\d,]+) bytes?\)?$", text)
    assert found, text
    return int(found[1].replace(",", ""))


@pytest.mark.parametrize("verdict", reports.VERDICTS)
def test_a_click_on_a_file_shows_what_became_of_it(show: Show, report: dict[str, Any], verdict: str) -> None:
    row = max((row for row in report["files"] if row["verdict"] == verdict), key=lambda row: row["bytes"])
    page = show(report)
    page.evaluate("(path) => layerReport.show(path)", row["path"])
    page.evaluate("document.getElementById('treemap').scrollIntoView({block: 'center'})")
    at = middle(page, row["path"])
    page.locator("#trail button").first.focus()
    page.evaluate("document.getElementById('details-body').replaceChildren()")
    page.mouse.click(*at)
    assert subject(page) == row["path"]
    text = page.evaluate(TERMS)
    assert text["Distribution"] == (row["distribution"] or "(no distribution)")
    assert bytes_in(text["Installed"]) == row["bytes"]
    assert bytes_in(text["In the layer"]) == row["shipped"]
    assert text["Verdict"].startswith(f"{verdict}: ")
    assert text["Reason"].startswith(f"{row['reason']} ")
    assert len(text["Reason"]) > len(row["reason"]) + 20
    assert text["Evidence"] == row["evidence"]
    assert page.locator("#details .chain li").all_inner_texts() == chain(report, row)


def test_chains_end_at_the_entry(report: dict[str, Any]) -> None:
    chains = [chain(report, row) for row in report["files"] if row["cause"]]
    assert len(chains) > 50
    assert {steps[-1] for steps in chains} == {"handler (the entry)"}


def test_every_number_in_the_details_is_the_reports(show: Show, report: dict[str, Any]) -> None:
    page = show(report)
    rows = report["files"][::15]
    text = page.evaluate(
        f"""(paths) => paths.map((path) => {{
            layerReport.show(path);
            return [document.querySelector("#details .subject").textContent, ({TERMS})()];
        }})""",
        [row["path"] for row in rows],
    )
    assert [(path, bytes_in(terms["Installed"]), bytes_in(terms["In the layer"])) for path, terms in text] == [
        (row["path"], row["bytes"], row["shipped"]) for row in rows
    ]


@pytest.mark.parametrize(("view", "size"), [("before", "bytes"), ("after", "shipped")])
def test_sums_by_distribution_are_the_reports(show: Show, report: dict[str, Any], view: str, size: str) -> None:
    expected: Counter[str] = Counter()
    for row in report["files"]:
        expected[row["distribution"] or "(no distribution)"] += row[size]
    page = show(report, f"#view={view}")
    sums = {}
    for item in page.locator("#tree > [role=treeitem]").all():
        item.locator("> .row .name").click()
        terms = page.evaluate(TERMS)
        sums[subject(page)] = bytes_in(terms["Installed" if view == "before" else "In the layer"])
    own = sums.pop("(added by layer_minimizer)")
    assert sums == expected
    if view == "after":
        assert {name: size for name, size in sums.items() if size} == report["distributions"]
    assert own == (0 if view == "before" else report["layer"]["unzipped_bytes"] - expected.total())


@pytest.mark.parametrize(("view", "size"), [("before", "bytes"), ("after", "shipped")])
def test_areas_are_bytes(show: Show, report: dict[str, Any], view: str, size: str) -> None:
    page = show(report, f"#view={view}")
    owner = {row["path"]: row["distribution"] for row in report["files"]}
    seen = [text.split(" · ")[0] for text in page.evaluate(SURVEY, 12)]
    hits = Counter(owner[path] for path in seen if path in owner)
    assert hits.total() > len(seen) / 2
    expected: Counter[str] = Counter()
    for row in report["files"]:
        expected[row["distribution"]] += row[size]
    for name, bytes_ in expected.items():
        # Headers and gaps reduce each area.
        assert abs(hits[name] / hits.total() - bytes_ / expected.total()) < 0.05, name
    if view == "after":
        assert any(
            "runtime and tables" in text or "added by layer_minimizer" in text for text in page.evaluate(SURVEY, 30)
        )


def test_the_legend_filters(show: Show, report: dict[str, Any]) -> None:
    page = show(report)
    legend = page.locator("#legend")
    shown = {text.rsplit(" · ", 1)[-1] for text in page.evaluate(SURVEY, 16)}
    assert {"dropped", "compacted", "cold"} <= shown
    legend.get_by_label("dropped").uncheck()
    after = page.evaluate(SURVEY, 16)
    assert "dropped" not in {text.rsplit(" · ", 1)[-1] for text in after}
    assert "compacted" in {text.rsplit(" · ", 1)[-1] for text in after}
    left = sum(row["bytes"] for row in report["files"] if row["verdict"] != "dropped")
    assert page.locator("#trail .sum").inner_text() == f"{left / 1e6:,.1f} MB"
    for verdict in ("kept", "compacted", "cold", "stand-in", "the layer's own"):
        legend.get_by_label(verdict).uncheck()
    assert set(page.evaluate(SURVEY, 50)) == {""}
    # A selected file is visible even if a filter excludes it.
    dropped = next(row for row in report["files"] if row["verdict"] == "dropped")
    page.evaluate("(path) => layerReport.show(path)", dropped["path"])
    assert legend.get_by_label("dropped").is_checked()


def test_search_finds_by_path_distribution_and_module(show: Show, report: dict[str, Any]) -> None:
    page = show(report)
    row = max((r for r in report["files"] if r["verdict"] == "kept"), key=lambda r: r["path"].count("/"))
    module = row["path"].removesuffix(".py").replace("/", ".")
    field, options = page.get_by_role("combobox"), page.locator("#results [role=option]")
    field.fill(module)
    assert options.locator(".name").all_inner_texts() == [row["path"]]
    assert page.locator("#found").inner_text().startswith("1 file,")
    field.fill("scikit-learn")
    assert options.first.locator(".kind").inner_text() == "distribution"
    field.fill("SCIPY")
    files = sum("scipy" in each["path"] for each in report["files"])
    assert page.locator("#found").inner_text().startswith(f"{files:,} files, ")
    field.fill("no such thing")
    assert options.count() == 0
    assert page.locator("#found").inner_text() == "No match."
    field.fill(PurePosixPath(row["path"]).name)
    options.first.click()
    assert subject(page) == row["path"]
    assert not page.locator("#results").is_visible()
    selected = page.locator("#tree [aria-selected=true]")
    assert selected.locator("> .row .name").inner_text() == PurePosixPath(row["path"]).name
    box, frame = selected.locator("> .row").bounding_box(), page.locator("#tree").bounding_box()
    assert box is not None
    assert frame is not None
    assert frame["y"] <= box["y"] < frame["y"] + frame["height"]
    assert page.evaluate("(path) => layerReport.rectangle(path).exact", row["path"])


def trail(page: Page) -> list[str]:
    return page.locator("#trail button").all_inner_texts()


def header_of(page: Page, name: str) -> Locator:
    return page.locator("#tree").get_by_role("treeitem", name=re.compile(f"^{re.escape(name)}, "))


def test_zoom_into_a_folder_and_out_again(show: Show, report: dict[str, Any]) -> None:
    page = show(report)
    assert trail(page) == ["Environment"]
    canvas = page.locator("#treemap")
    canvas.scroll_into_view_if_needed()
    canvas.click(position={"x": 20, "y": 8})
    assert trail(page) == ["Environment", "torch"]
    assert page.locator("#treemap").get_attribute("aria-label", timeout=1000).startswith("Treemap of torch: ")  # type: ignore[union-attr]
    canvas.click(position={"x": 20, "y": 8})
    assert trail(page) == ["Environment", "torch", "torch"]
    owner = {row["path"]: row["distribution"] for row in report["files"]}
    inside = {owner.get(text.split(" · ")[0], "torch") for text in page.evaluate(SURVEY, 24)}
    assert inside == {"torch"}
    page.keyboard.press("Escape")
    assert trail(page) == ["Environment", "torch"]
    page.keyboard.press("Backspace")
    assert trail(page) == ["Environment"]
    page.keyboard.press("Escape")
    assert trail(page) == ["Environment"]
    header_of(page, "scipy").locator("> .row .name").click()
    assert trail(page) == ["Environment", "scipy"]
    page.locator("#trail button").first.click()
    assert trail(page) == ["Environment"]


def test_an_address_names_a_file(show: Show, report: dict[str, Any]) -> None:
    row = max((row for row in report["files"] if row["shipped"]), key=lambda row: row["shipped"])
    page = show(report, f"#path={quote(row['path'])}&view=after")
    assert subject(page) == row["path"]
    assert page.get_by_label("Layer after").is_checked()
    again = show(report, page.locator("#details .note a").get_attribute("href"))
    assert subject(again) == row["path"]
    assert again.get_by_label("Layer after").is_checked()
    assert page.screenshot() == again.screenshot()
    other = report["files"][5]["path"]
    page.evaluate("(path) => (location.hash = `#path=${path}`)", other)
    page.wait_for_function("(path) => document.querySelector('#details .subject').textContent === path", arg=other)


def test_an_address_names_a_folder_a_distribution_or_nothing(show: Show, report: dict[str, Any]) -> None:
    assert trail(show(report, "#distribution=numpy")) == ["Environment", "numpy"]
    assert trail(show(report, "#distribution=numpy&path=numpy")) == ["Environment", "numpy", "numpy"]
    page = show(report, "#path=no/such.py")
    assert subject(page) == "Environment"
    for nothing in ("#path=%ff%", "#distribution=none", "#explorer", "#", "#=&&=", "#path"):
        page.evaluate("(fragment) => (location.hash = fragment)", nothing)
        assert page.get_attribute("html", "data-state") == "ready"
        assert subject(page) == "Environment"


def test_a_file_that_is_not_in_the_layer_is_shown_where_it_was(show: Show, report: dict[str, Any]) -> None:
    page = show(report, "#view=after")
    gone = max((row for row in report["files"] if not row["shipped"]), key=lambda row: row["bytes"])
    page.get_by_role("combobox").fill(gone["path"])
    page.keyboard.press("Enter")
    assert subject(page) == gone["path"]
    assert page.get_by_label("Environment before").is_checked()


def test_a_link_in_a_table_leads_to_the_file(show: Show, report: dict[str, Any]) -> None:
    page = show(report)
    link = page.locator("#libraries tbody a").first
    path = link.inner_text()
    link.click()
    assert subject(page) == path
    assert page.locator("#details").bounding_box()["y"] < 800  # type: ignore[index]
    library = next(each for each in report["libraries"] if each["path"] == path)
    text = page.locator("#details-body").inner_text()
    for key in ("file", "mapped", "hot", "shipped", "cold"):
        assert f"{library[key]:,} bytes" in text
