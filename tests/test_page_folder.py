"""A run as a folder, opened from the disk in a real browser: no server, no network, the same page."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import weft
from tests import page_runs
from tests.servers.browser import tab
from weft.store import open_store
from weft.web.page.saved import save

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

expect = pytest.importorskip("playwright.sync_api", reason="the browser's tests need the extra `test`").expect


async def _saved(folder: Path) -> str:
    place = str(folder / "journal.db")
    async with weft.Runtime(place) as runtime:
        run = await runtime.start(page_runs.everything)
        await run
    store = open_store(place)
    try:
        await save(store, run.id, folder / "page")
    finally:
        await store.close()
    return run.id


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    folder = tmp_path_factory.mktemp("folder")
    made: list[str] = []
    thread = threading.Thread(target=lambda: made.append(asyncio.run(_saved(folder))))  # this one may have a loop
    thread.start()
    thread.join()
    return folder / "page" / "index.html", made[0]


@pytest.fixture
def shown(browser: Browser, saved: tuple[Path, str]) -> Iterator[Page]:
    with tab(browser, offline=True) as page:
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        page.goto(saved[0].as_uri())
        yield page
        assert all(url.startswith(("file:", "data:")) for url in asked)


def test_a_saved_run_has_its_timeline_effects_and_parts(shown: Page, saved: tuple[Path, str]) -> None:
    shown.get_by_role("link", name="everything").click()
    rows = shown.locator(".row:not([hidden])")
    rows.filter(has_text="fails").click()
    panel = shown.get_by_label("Details")
    panel.get_by_text("there is no map").first.wait_for()
    rows.filter(has_text="generate").first.click()
    panel.get_by_text("Who knows about owls?").wait_for()
    rows.filter(has_text="everything").click()
    panel.get_by_text("Result").wait_for()
    shown.keyboard.press("n")
    panel.get_by_text("there is no map").first.wait_for()
    shown.get_by_label("Show", exact=True).select_option("failed")
    expect(rows).to_have_count(1)
    for key, there in {
        "2": ".drawing .node",
        "3": ".line.warning, .line.error",
        "4": "tbody tr",
        "5": "tbody tr",
    }.items():
        shown.keyboard.press(key)
        shown.locator(there).first.wait_for()
    shown.keyboard.press("6")
    shown.get_by_text("parrot").first.wait_for()


def test_nothing_can_be_done_to_a_saved_run(shown: Page, saved: tuple[Path, str]) -> None:
    shown.goto(f"{saved[0].as_uri()}#/run/{saved[1]}")
    shown.locator(".row", has_text="look").first.wait_for()
    for name in ("Fork", "Cancel", "Resume"):
        expect(shown.get_by_role("button", name=name)).to_have_count(0)
    shown.get_by_text("saved run").wait_for()
    shown.goto(f"{saved[0].as_uri()}#/memory")
    shown.get_by_role("alert").get_by_text("This is a saved run").wait_for()
