"""What is unusual in a run, on its page: over HTTP on both stores, and in a real browser, while the run fails."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, suppress
from typing import TYPE_CHECKING

import pytest

import weft
from tests.programs import drive
from tests.servers.browser import tab
from tests.servers.page import Client, Elsewhere, page

if TYPE_CHECKING:
    from playwright.sync_api import Browser

may_go = weft.Mailbox("page-unusual-may-go", int)


@weft.step(effect="pure")
async def pressed(number: int) -> str:
    return f"{number + 2} plates pressed\nexit status {0 if number >= 0 else 3}"


@weft.step
async def sent(number: int) -> int:
    if number < 0:
        raise ConnectionError("the courier <b>is away</b>")
    return number


@weft.workflow
async def prints(number: int) -> int:
    await pressed(number)
    return await sent(await may_go.receive() + number)


async def printed(runtime: weft.Runtime, number: int) -> str:
    run = await runtime.start(prints, number)
    await runtime.send(run.id, "page-unusual-may-go", 0)
    with suppress(ConnectionError):
        await run.result()
    return run.id


def test_the_api_tells_what_is_unusual(store: str) -> None:
    async def main(runtime: weft.Runtime) -> list[str]:
        return [await printed(runtime, number) for number in (*range(24), -1)]

    runs = drive(store, main)
    with page(store) as client:
        told = client.get(f"/api/runs/{runs[-1]}/unusual")
        assert (told["compared"], told["failed"], told["new_code"]) == (24, 0, False)
        kinds = {one["kind"]: one for one in told["findings"]}  # a busy machine may make it slow, too
        said, failed = kinds["said"], kinds["failed"]
        assert "'exit status 3' (so far 0)" in said["words"]
        assert said["sureness"] == "very sure (96%)" and said["effects"] == [f"{runs[-1]}:1"]
        assert failed["sureness"] == "certain: the journal says so" and failed["effects"] == [f"{runs[-1]}:3"]
        none = {"compared": 0, "failed": 0, "new_code": False, "findings": []}
        assert client.get(f"/api/runs/{runs[0]}/unusual") == none
        assert client.get("/api/runs/nobody/unusual")["error"]["code"] == "unknown_run"


class Site:
    """A server with some runs that are done, and a worker elsewhere."""

    def __init__(self, client: Client, elsewhere: Elsewhere) -> None:
        self.client = client
        self.elsewhere = elsewhere
        self.done = [elsewhere(printed(elsewhere.runtime, number)) for number in range(24)]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    pytest.importorskip("playwright.sync_api", reason="the browser's tests need the extra `test`")
    place = str(tmp_path_factory.mktemp("unusual") / "journal.db")
    with closing(Elsewhere(place)) as elsewhere, page(place) as client:
        yield Site(client, elsewhere)


def test_it_stands_on_the_page_when_a_run_fails_under_ones_eyes(browser: Browser, site: Site) -> None:
    run = site.elsewhere.start(prints, -1)
    with tab(browser, base_url=site.client.address) as shown:
        shown.goto(f"/#/run/{run}")
        panel = shown.locator("details.unusual")
        panel.wait_for()
        assert panel.get_attribute("open") is None
        site.elsewhere(site.elsewhere.runtime.send(run, "page-unusual-may-go", 0))
        panel.get_by_text("Compared with 24 earlier runs that were done.").wait_for()
        said = panel.locator("li", has_text="'exit status 3' (so far 0)")
        assert "very sure (96%)" in said.inner_text()
        panel.locator("li", has_text="ConnectionError: the courier <b>is away</b>").wait_for()
        said.get_by_role("link", name="effect 1").click()
        shown.get_by_label("Details").get_by_role("heading", name="pressed").wait_for()
        assert f"effect={run}%3A1" in shown.url


def test_of_a_run_that_is_done_it_is_asked_for_and_may_be_nothing(browser: Browser, site: Site) -> None:
    with tab(browser, base_url=site.client.address) as shown:
        shown.goto(f"/#/run/{site.done[0]}")
        panel = shown.locator("details.unusual")
        panel.get_by_text("What is unusual").click()
        panel.get_by_text("Compared with 0 earlier runs that were done. Nothing is unusual.").wait_for()
        assert panel.locator("li").count() == 0
