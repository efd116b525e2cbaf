"""The HTML report for users of a keyboard or a screen reader."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from . import reports

if TYPE_CHECKING:
    from collections.abc import Callable

    from playwright.sync_api import Page

    Show = Callable[..., Page]


@pytest.fixture(scope="module")
def report() -> dict[str, Any]:
    return reports.realistic(1500)


def violations(page: Page) -> list[str]:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe checks accessibility")
    found = axe.Axe().run(page).response["violations"]
    return [f"{each['id']}: {[node['html'][:200] for node in each['nodes']][:3]}" for each in found]


@pytest.mark.parametrize("size", ["desktop", "phone"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing(show: Show, report: dict[str, Any], scheme: str, size: str) -> None:
    page = show(report, scheme=scheme, size=size)
    assert violations(page) == []
    library = report["libraries"][0]["path"]
    page.evaluate("(path) => layerReport.show(path)", library)
    page.evaluate("document.querySelectorAll('button.more').forEach((button) => button.click())")
    assert page.locator("button.more:visible").count() == 0
    page.get_by_role("combobox").fill("torch")
    page.keyboard.press("ArrowDown")
    assert page.locator("#results").is_visible()
    assert violations(page) == []


def test_axe_finds_nothing_in_a_report_of_next_to_nothing(show: Show) -> None:
    assert violations(show(reports.bare())) == []


def focused(page: Page) -> str:
    return str(page.evaluate("(({id, role, textContent}) => id || role || textContent)(document.activeElement)"))


def item(page: Page) -> dict[str, Any]:
    """Return the attributes of the focused tree item, which screen readers read."""
    return dict(
        page.evaluate(
            """() => Object.fromEntries([...document.activeElement.attributes].map(({name, value}) => [name, value]))"""
        )
    )


def tab_to(page: Page, expected: str) -> None:
    for _ in range(40):
        page.keyboard.press("Tab")
        if focused(page) == expected:
            return
    pytest.fail(f"the Tab key does not reach {expected}")


def test_the_keyboard_alone_reaches_everything(show: Show, report: dict[str, Any]) -> None:
    page = show(report)
    page.keyboard.press("Tab")
    assert focused(page) == "Skip to the files"
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    assert focused(page) == "search"
    page.keyboard.type("numpy")
    page.keyboard.press("ArrowDown")
    active = page.get_by_role("combobox").get_attribute("aria-activedescendant")
    assert page.locator(f"#{active}").get_attribute("aria-selected") == "true"
    page.keyboard.press("Enter")
    assert page.locator("#trail button").all_inner_texts() == ["Environment", "numpy"]
    page.keyboard.press("Tab")
    page.keyboard.press("ArrowRight")
    assert page.get_by_label("Layer after").is_checked()
    page.keyboard.press("Tab")
    page.keyboard.press("Space")
    assert not page.locator("#legend").get_by_label("kept").is_checked()
    page.keyboard.press("Space")
    tab_to(page, "details-body")
    tab_to(page, "treeitem")


def test_the_tree_is_walked_with_the_arrow_keys(show: Show, report: dict[str, Any]) -> None:
    page = show(report)
    assert page.locator("#tree [tabindex='0']").count() == 1
    tab_to(page, "treeitem")
    first = item(page)
    assert first["aria-label"].startswith("torch, distribution, ")
    assert (first["aria-level"], first["aria-expanded"], first["aria-posinset"]) == ("1", "false", "1")
    page.keyboard.press("ArrowRight")
    assert item(page)["aria-expanded"] == "true"
    page.keyboard.press("ArrowRight")
    assert item(page)["aria-level"] == "2"
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowDown")
    inner = item(page)
    assert inner["aria-level"] == "3"
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")
    assert item(page)["aria-label"] == first["aria-label"]
    assert page.locator("#tree [aria-level='2']").count() == 0
    page.keyboard.press("End")
    assert item(page)["aria-posinset"] == item(page)["aria-setsize"]
    page.keyboard.press("Home")
    assert item(page)["aria-label"] == first["aria-label"]
    page.keyboard.type("sy")
    assert item(page)["aria-label"].startswith("sympy, ")
    assert page.locator("#tree [tabindex='0']").count() == 1


def test_enter_in_the_tree_shows_details_and_escape_zooms_out(show: Show, report: dict[str, Any]) -> None:
    page = show(report)
    assert page.locator("#details-body").get_attribute("aria-live") == "polite"
    tab_to(page, "treeitem")
    page.keyboard.type("pillow")
    page.keyboard.press("Enter")
    assert page.locator("#trail button").all_inner_texts() == ["Environment", "pillow"]
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    while "aria-expanded" in item(page):
        page.keyboard.press("ArrowDown")
    file = item(page)["aria-label"]
    page.keyboard.press("Enter")
    assert item(page)["aria-selected"] == "true"
    subject = page.locator("#details .subject").inner_text()
    assert file.startswith(f"{subject.rsplit('/', 1)[-1]}, file, ")
    page.keyboard.press("Escape")
    assert page.locator("#trail button").all_inner_texts() == ["Environment"]
    assert focused(page) == "treeitem"


def test_a_folder_of_thousands_is_built_by_and_by(show: Show) -> None:
    report = reports.bare()
    row = report["files"][0]
    report["files"] = [row | {"path": f"many/file_{n}.py", "bytes": 10_000 - n} for n in range(5000)]
    page = show(report)
    tab_to(page, "treeitem")
    for _ in range(3):
        page.keyboard.press("ArrowRight")
    assert page.locator("#tree [aria-level='3']").count() == 201
    page.keyboard.press("End")
    assert item(page)["aria-label"] == "Show 200 more of 5,000"
    page.keyboard.press("Enter")
    assert (item(page)["aria-posinset"], item(page)["aria-setsize"]) == ("201", "5000")
    page.get_by_role("combobox").fill("file_4321.py")
    page.keyboard.press("Enter")
    selected = page.locator("#tree [aria-selected=true]")
    assert selected.get_attribute("aria-posinset") == "4322"
    assert page.locator("#details .subject").inner_text() == "many/file_4321.py"


def test_what_is_on_the_page_has_headings_and_landmarks(show: Show, report: dict[str, Any]) -> None:
    page = show(report)
    assert page.get_by_role("heading", level=1).count() == 1
    assert page.get_by_role("banner").count() == 1
    assert page.get_by_role("main").count() == 1
    headings = page.get_by_role("heading", level=2).all_inner_texts()
    assert headings == [
        "How the limit is used", "Files", "Import time", "Shared libraries", "Stand-ins", "Not exercised",
        "Repaired", "Further details",
    ]  # fmt: skip
    assert page.get_by_role("img").get_attribute("aria-describedby") == "hint"
