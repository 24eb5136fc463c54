"""What probes saw of a step, in a real browser."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import weft
from tests.servers.browser import tab
from tests.servers.page import page
from weft.runtime.probes import Probe

if TYPE_CHECKING:
    from playwright.sync_api import Browser


@weft.step(name="page.probed")
def probed(n: int) -> int:
    total = 0
    for i in range(n):
        total += i
    return total


@weft.workflow(name="page.probing")
async def probing() -> int:
    return await probed(7)


def run(place: str) -> str:
    async def main() -> str:
        watch = Probe("watch", probed, probed.fn.__code__.co_firstlineno + 5, "i > j")
        async with weft.Runtime(place, probes=["hotness:page.probed", watch]) as runtime:
            begun = await runtime.start(probing)
            await begun
            return begun.id

    return asyncio.run(main())


def test_an_effect_shows_what_probes_saw_of_it(browser: Browser, tmp_path: Path) -> None:
    place = str(tmp_path / "journal.db")
    id = ThreadPoolExecutor(1).submit(run, place).result()  # the browser has a loop in this thread
    with page(place) as client, tab(browser, base_url=client.address) as shown:
        shown.goto(f"/#/run/{id}?effect={id}:1")
        panel = shown.get_by_role("complementary", name="Details")
        panel.get_by_role("heading", name="Probe hotness:page.probed").wait_for()
        table = panel.get_by_role("table").first
        assert table.locator("th").all_inner_texts() == ["line", "count"]
        assert table.locator("tr").nth(1).locator("td").nth(1).inner_text() == "7"
        assert panel.get_by_text("the condition raised 1 times").is_visible()
