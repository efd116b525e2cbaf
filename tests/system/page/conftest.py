"""A browser without network access, which opens reports as files."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING, Any

import pytest

from layer_minimizer.report.html import render

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from playwright.sync_api import Browser, Page

_QUIET = (
    "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
)  # fmt: skip
SIZES = {"desktop": (1280, 800), "phone": (390, 844), "small phone": (360, 640)}


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright controls the browser")
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if chromium is None:
        pytest.skip("Chromium is not installed")
    arguments = [*_QUIET, *(["--no-sandbox"] if os.geteuid() == 0 else [])]
    with playwright.sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=chromium, args=arguments)
        yield started
        started.close()


@pytest.fixture
def show(browser: Browser, tmp_path: Path) -> Iterator[Callable[..., Page]]:
    """Return a function that opens a report; no page may log an error or request another file."""
    complaints: list[str] = []
    contexts = []

    def open_report(
        report: dict[str, Any],
        fragment: str = "",
        *,
        size: str = "desktop",
        scheme: str = "light",
        prepare: str = "",
        **more: Any,
    ) -> Page:
        file = tmp_path / f"report-{len(contexts)}.html"
        file.write_text(render(report), encoding="utf-8")
        width, height = SIZES[size]
        viewport = {"width": width, "height": height}
        context = browser.new_context(viewport=viewport, color_scheme=scheme, offline=True, **more)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(60_000)
        if prepare:
            page.add_init_script(prepare)
        page.on("console", lambda message: complaints.append(f"console: {message.text}"))
        page.on("pageerror", lambda error: complaints.append(f"error: {error}"))
        page.on("dialog", lambda dialog: complaints.append(f"dialog: {dialog.message}"))
        own = file.as_uri()
        page.on(
            "request", lambda request: request.url.split("#")[0] == own or complaints.append(f"request: {request.url}")
        )
        page.goto(own + fragment)
        if more.get("java_script_enabled", True):
            page.wait_for_selector("html:not([data-state=loading])", state="attached")
        return page

    yield open_report
    for context in contexts:
        context.close()
    assert complaints == []
