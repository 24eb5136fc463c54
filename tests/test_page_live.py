"""A run that goes on while a browser looks at it: news, streams, questions, forks and a hand on it; nothing is lost or
doubled where the connection was cut."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests import page_runs
from tests.servers.browser import tab
from tests.servers.page import Client, Elsewhere, page, until
from tests.servers.relay import Relay
from weft.web.page.safety import Access

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

expect = pytest.importorskip("playwright.sync_api", reason="the browser's tests need the extra `test`").expect


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tmp_path_factory.mktemp("page") / "journal.db")


@pytest.fixture(scope="module")
def client(place: str) -> Iterator[Client]:
    with page(place) as found:
        yield found


@pytest.fixture(scope="module")
def elsewhere(place: str) -> Iterator[Elsewhere]:
    found = Elsewhere(place)
    yield found
    found.close()


@pytest.fixture
def shown(browser: Browser, client: Client) -> Iterator[Page]:
    with tab(browser, base_url=client.address) as page:
        yield page


def tell(elsewhere: Elsewhere, run: str, count: int) -> None:
    elsewhere(elsewhere.runtime.send(run, "page-runs-go-on", count))


def state(client: Client, run: str) -> str:
    return str(client.get(f"/api/runs/{run}")["state"])


# --- news -----------------------------------------------------------------------------------------------------------


def test_a_new_run_and_its_effects_appear_by_themselves(shown: Page, client: Client, elsewhere: Elsewhere) -> None:
    shown.goto("/")
    shown.get_by_text("live", exact=True).wait_for()
    run = elsewhere.start(page_runs.obeys)
    row = shown.locator(".runs tbody tr", has_text="obeys").first
    row.get_by_text("waiting").wait_for()
    row.get_by_role("link").click()
    marks = shown.locator(".row:not([hidden])", has_text="mark")
    shown.locator(".row", has_text="obeys").wait_for()
    for count in (1, 3, 6):
        tell(elsewhere, run, count)
    expect(marks).to_have_count(10)
    tell(elsewhere, run, 0)
    shown.locator(".head .state.done").wait_for()
    expect(shown.get_by_role("button", name="Cancel")).to_have_count(0)


def test_a_cut_connection_loses_and_doubles_nothing(browser: Browser, client: Client, elsewhere: Elsewhere) -> None:
    run = elsewhere.start(page_runs.obeys)
    port = int(client.address.rpartition(":")[2])
    with Relay("127.0.0.1", port) as relay, tab(browser, base_url=f"http://127.0.0.1:{relay.port}") as shown:
        shown.goto(f"/#/run/{run}")
        shown.locator(".row", has_text="obeys").wait_for()
        marks = shown.locator(".row:not([hidden])", has_text="mark")
        tell(elsewhere, run, 2)
        expect(marks).to_have_count(2)
        for count in (3, 1):
            relay.refuse()
            relay.cut()
            tell(elsewhere, run, count)
            shown.locator(".link-state.lost").wait_for()
            with shown.expect_request(lambda request: f"{run}/live?last=" in request.url):
                relay.accept()
            shown.locator(".link-state.live").wait_for()
        tell(elsewhere, run, 1)
        expect(marks).to_have_count(7)
        expect(shown.locator(".row:not([hidden])")).to_have_count(client.get(f"/api/runs/{run}/rows")["total"])


def test_words_of_a_stream_are_shown_while_they_come(shown: Page, client: Client, elsewhere: Elsewhere) -> None:
    run = elsewhere.start(page_runs.streams)
    shown.goto(f"/#/run/{run}")
    shown.locator(".row", has_text="streams").wait_for()
    tell(elsewhere, run, 1)
    generation = shown.locator(".row", has_text="generate").filter(has_text="parrot")
    generation.first.click()
    shown.get_by_label("Details").get_by_text("One. Two. Three.").first.wait_for()


# --- people ---------------------------------------------------------------------------------------------------------


def test_questions_are_answered_in_the_inbox(shown: Page, client: Client, elsewhere: Elsewhere) -> None:
    run = elsewhere.start(page_runs.asks, "it")
    shown.goto("/#/inbox")
    shown.get_by_text("Do <b>it</b>?").wait_for()  # as text
    expect(shown.locator(".badge")).to_have_text("1")
    shown.get_by_role("button", name="Yes").click()
    shown.get_by_text("Under which name?").wait_for()
    shown.keyboard.press("/")
    shown.keyboard.type("Ann")
    shown.get_by_role("button", name="Answer").click()
    shown.get_by_text("Nobody asks anything").wait_for()
    assert until(lambda: client.get(f"/api/runs/{run}")["result"])["value"] == "Ann"
    expect(shown.locator(".badge")).to_have_count(0)


def test_an_approval_is_given_on_the_page_of_its_run(
    browser: Browser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = str(tmp_path / "journal.db")
    monkeypatch.setenv("WEFT_ASK", "file.write:/nowhere/**")
    elsewhere = Elsewhere(place)
    try:
        with page(place) as client, tab(browser, base_url=client.address) as shown:
            run = elsewhere.start(page_runs.wants)
            shown.goto(f"/#/run/{run}")
            shown.get_by_text("file.write /nowhere/x").first.wait_for()
            shown.get_by_role("button", name="Allow once").click()
            shown.locator(".head .state.done").wait_for()
            shown.locator(".row", has_text="touches").click()
            shown.get_by_label("Details").get_by_text("approved once").wait_for()
    finally:
        elsewhere.close()


# --- a hand on runs -------------------------------------------------------------------------------------------------


def test_a_run_is_forked_from_an_effect_with_another_outcome(shown: Page, client: Client, elsewhere: Elsewhere) -> None:
    run = elsewhere.start(page_runs.everything)
    until(lambda: state(client, run) == "done")
    shown.goto(f"/#/run/{run}?effect={run}:1")
    shown.get_by_role("button", name="Fork from here").click()
    dialog = shown.get_by_role("dialog")
    dialog.get_by_label("Give an effect another outcome").check()
    field = dialog.get_by_label("Its outcome, as JSON")
    assert "3 letters" in field.input_value()
    field.fill("no JSON")
    dialog.get_by_role("button", name="Start the fork").click()
    dialog.get_by_role("alert").get_by_text("is no JSON").wait_for()
    field.fill(json.dumps("4 owls"))
    dialog.get_by_role("button", name="Start the fork").click()
    shown.wait_for_function("(run) => !location.hash.includes(run)", arg=run)
    shown.locator(".head .state.done").wait_for()
    fork = re.findall(r"run/(\w+)", shown.url)[0]
    assert client.get(f"/api/runs/{fork}")["result"]["value"]["found"] == "4 owls."
    assert client.get(f"/api/runs/{fork}")["forked"] == f"{run}@1"
    shown.get_by_role("link", name="compare", exact=True).click()
    shown.get_by_text("What changed first").wait_for()


def test_a_run_is_forked_with_another_input(shown: Page, client: Client, elsewhere: Elsewhere) -> None:
    run = elsewhere.start(page_runs.everything)
    until(lambda: state(client, run) == "done")
    shown.goto(f"/#/run/{run}")
    shown.get_by_role("button", name="Fork").click()
    dialog = shown.get_by_role("dialog")
    dialog.get_by_label("Give the workflow another input").check()
    dialog.get_by_label("Input of the workflow").fill('{"topic": "bats"}')
    dialog.get_by_role("button", name="Start the fork").click()
    shown.wait_for_function("(run) => !location.hash.includes(run)", arg=run)
    shown.locator(".head .state.done").wait_for()
    fork = re.findall(r"run/(\w+)", shown.url)[0]
    assert "bats" in client.get(f"/api/runs/{fork}")["result"]["value"]["found"]


def test_a_run_is_paused_resumed_and_cancelled(shown: Page, client: Client, elsewhere: Elsewhere) -> None:
    run = elsewhere.start(page_runs.obeys)
    shown.goto(f"/#/run/{run}")
    shown.get_by_role("button", name="Pause").click()
    shown.locator(".head .state.paused").wait_for()
    shown.get_by_role("button", name="Resume").click()
    shown.locator(".head .state.waiting").wait_for()
    shown.get_by_role("button", name="Cancel").click()
    shown.get_by_role("button", name="Leave it").click()
    assert state(client, run) == "waiting"
    shown.get_by_role("button", name="Cancel").click()
    shown.get_by_role("button", name="Cancel the run").click()
    shown.locator(".head .state.cancelled").wait_for()
    assert state(client, run) == "cancelled"


def test_a_run_that_nobody_executes_says_so_and_is_resumed(browser: Browser, tmp_path: Path) -> None:
    place = str(tmp_path / "journal.db")
    died = Elsewhere(place)
    run = died.start(page_runs.obeys)
    died.close()
    with page(place) as client, tab(browser, base_url=client.address) as shown:
        shown.goto(f"/#/run/{run}")
        shown.get_by_text("Nobody executes this run now").wait_for()
        shown.get_by_role("button", name="Resume").click()
        shown.locator(".head .state.waiting").wait_for()


def test_a_server_that_only_shows_offers_no_hand(browser: Browser, place: str, elsewhere: Elsewhere) -> None:
    run = elsewhere.start(page_runs.asks, "that")
    with page(place, Access.at("127.0.0.1", read_only=True)) as client, tab(browser, base_url=client.address) as shown:
        shown.goto(f"/#/run/{run}")
        shown.get_by_text("This server only shows").wait_for()
        for name in ("Cancel", "Fork", "Yes", "Pause"):
            expect(shown.get_by_role("button", name=name)).to_have_count(0)
        shown.get_by_text("read only").wait_for()
