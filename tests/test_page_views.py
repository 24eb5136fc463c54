"""Every view of the page in a real browser, over the real server: what is shown, by mouse, by keyboard, on a phone, in
the dark, and to those who can't see it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests import page_runs
from tests.servers.browser import tab
from tests.servers.page import Client, Elsewhere, page, until
from weft.web.page.safety import Access

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

expect = pytest.importorskip("playwright.sync_api", reason="the browser's tests need the extra `test`").expect


class Site:
    """A server with some runs: `done`, `failed`, `asking` and `approving`."""

    def __init__(self, client: Client, elsewhere: Elsewhere) -> None:
        self.client = client
        self.elsewhere = elsewhere
        self.done = elsewhere.start(page_runs.everything)
        self.again = elsewhere.start(page_runs.everything, "bats")
        self.asking = elsewhere.start(page_runs.asks, "it")
        until(lambda: self.state(self.done) == self.state(self.again) == "done")
        until(lambda: client.get("/api/inbox")["items"])

    def state(self, run: str) -> str:
        return str(self.client.get(f"/api/runs/{run}")["state"])

    def rows(self, run: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.client.get(f"/api/runs/{run}/rows?count=1000")["rows"]
        return found

    def effect(self, run: str, name: str) -> str:
        return next(str(row["id"]) for row in self.rows(run) if row["name"].endswith(name) and row["kind"] != "spawn")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    place = str(tmp_path_factory.mktemp("page") / "journal.db")
    with closing(Elsewhere(place)) as elsewhere, page(place) as client:
        yield Site(client, elsewhere)


@pytest.fixture
def shown(browser: Browser, site: Site) -> Iterator[Page]:
    with tab(browser, base_url=site.client.address) as page:
        yield page


# --- runs -----------------------------------------------------------------------------------------------------------


def test_runs_are_searched_and_filtered_and_the_address_keeps_it(shown: Page, site: Site) -> None:
    shown.goto("/")
    rows = shown.locator(".runs tbody tr")
    expect(rows).to_have_count(3)
    shown.keyboard.press("/")
    shown.keyboard.type("everything")
    expect(rows).to_have_count(2)
    assert "q=everything" in shown.url
    shown.get_by_label("Search runs").fill("")
    shown.get_by_role("button", name="waiting").click()
    expect(rows).to_have_count(1)
    rows.filter(has_text="asks").wait_for()
    assert "state=waiting" in shown.url and "q=" not in shown.url
    shown.get_by_role("button", name="killed").click()
    shown.get_by_role("button", name="waiting").click()
    shown.get_by_text("No run fits").wait_for()
    shown.get_by_role("link", name="show all runs").click()
    rows.filter(has_text="everything").first.wait_for()
    shown.get_by_label("runs started by runs").check()
    rows.filter(has_text="below").first.wait_for()


def test_the_keyboard_goes_through_runs_into_one_and_back(shown: Page, site: Site) -> None:
    shown.goto("/")
    shown.locator(".runs tbody tr").nth(2).wait_for()
    for key in "jjj":
        shown.keyboard.press(key)
    shown.keyboard.press("Enter")
    shown.wait_for_url(f"**/#/run/{site.done}")
    shown.locator(".row", has_text="look").first.wait_for()
    shown.keyboard.press("j")
    shown.keyboard.press("j")
    panel = shown.get_by_label("Details")
    panel.get_by_role("heading", name="look").wait_for()
    shown.keyboard.press("Escape")
    panel.wait_for(state="detached")
    shown.keyboard.press("n")
    panel.get_by_text("there is no map").first.wait_for()
    shown.keyboard.press("?")
    shown.get_by_role("dialog", name="Keys").get_by_text("next, previous failure").wait_for()
    shown.keyboard.press("Escape")
    shown.keyboard.press("Escape")
    shown.keyboard.press("Escape")
    shown.wait_for_url("**/#/runs")


# --- one run --------------------------------------------------------------------------------------------------------


def test_the_waterfall_shows_the_tree_with_times_and_folds(shown: Page, site: Site) -> None:
    shown.goto(f"/#/run/{site.done}")
    rows = shown.locator(".row:not([hidden])")
    rows.filter(has_text="fails").wait_for()
    names = [text.split()[0] for text in rows.locator(".label").all_inner_texts()]
    told = sorted(site.rows(site.done), key=lambda row: row["index"])
    assert len(names) == len(told) and names[0] == "everything"
    child = rows.filter(has_text="below").first
    assert child.get_attribute("aria-level") == "2" and child.get_attribute("aria-expanded") == "true"
    child.locator(".twist").click()
    expect(rows).to_have_count(len(told) - next(row["below"] for row in told if row["kind"] == "spawn"))
    boxes = [one.bounding_box() for one in rows.locator(".bar").all()]
    widths = [box["width"] for box in boxes if box]
    assert max(widths) == widths[0]  # nothing outlasts the run


def test_the_window_of_time_is_zoomed_panned_and_reset(shown: Page, site: Site) -> None:
    shown.goto(f"/#/run/{site.done}")
    bar = shown.locator(".row", has_text="everything").locator(".bar").first
    shown.locator(".row", has_text="look").first.wait_for()
    ticks = shown.locator(".tick-mark")
    before = ticks.all_inner_texts()
    shown.keyboard.press("+")
    shown.keyboard.press("+")
    shown.wait_for_function("(before) => document.querySelector('.marks').innerText !== before", arg="\n".join(before))
    closer = ticks.all_inner_texts()
    shown.keyboard.press("]")
    shown.wait_for_function("(before) => document.querySelector('.marks').innerText !== before", arg="\n".join(closer))
    shown.keyboard.press("0")
    expect(ticks).to_have_text(before)
    assert bar.is_visible()


def test_effects_are_found_and_narrowed(shown: Page, site: Site) -> None:
    shown.goto(f"/#/run/{site.done}")
    shown.locator(".row", has_text="look").first.wait_for()
    shown.keyboard.press("/")
    shown.keyboard.type("fails")
    shown.keyboard.press("Enter")
    shown.get_by_label("Details").get_by_text("LookupError", exact=True).wait_for()
    shown.get_by_label("Find an effect").fill("no such thing")
    shown.get_by_label("Find an effect").press("Enter")
    shown.get_by_text("nothing says").wait_for()
    shown.get_by_label("Show", exact=True).select_option("failed")
    shown.get_by_text("1 row", exact=True).wait_for()
    assert "only=failed" in shown.url
    shown.get_by_label("Show", exact=True).select_option("process")
    shown.get_by_text("3 rows", exact=True).wait_for()
    rows = shown.locator(".row:not([hidden])")
    assert rows.all_inner_texts()[0].startswith("everything") and not rows.first.get_attribute("aria-expanded")
    shown.get_by_label("Find an effect").fill("look")
    shown.get_by_label("Find an effect").press("Enter")  # it is none of these: all are shown again
    shown.locator(".row[aria-selected=true]", has_text="look").wait_for()


def test_of_a_long_run_only_what_is_in_sight_is_there(shown: Page, site: Site) -> None:
    run = site.elsewhere.start(page_runs.long, 5_000)
    until(lambda: site.state(run) == "done")
    total = site.client.get(f"/api/runs/{run}/rows")["total"]
    asked: list[str] = []
    shown.on("request", lambda request: asked.append(request.url) if "/rows?" in request.url else None)
    shown.goto(f"/#/run/{run}")
    shown.get_by_text(f"{total:,} rows").wait_for()
    rows = shown.locator(".row:not([hidden])")
    last = shown.locator(f"#row-{total - 1}")
    shown.keyboard.press("End")
    last.get_by_text("random").wait_for()
    assert rows.count() < 80 and len(asked) <= 4
    fold = shown.locator("#row-1")
    shown.keyboard.press("Home")
    fold.locator(".twist").click()
    shown.keyboard.press("End")
    last.get_by_text("random").wait_for()
    shown.keyboard.press("j")
    shown.keyboard.press("k")
    shown.locator(f"#row-{total - 2}[aria-selected=true]").wait_for()
    shown.locator(".rows").evaluate("(list) => { list.scrollTop = list.scrollHeight / 2; }")
    rows.filter(has_text="random").first.wait_for()
    before = shown.locator(".rows").evaluate("(list) => list.scrollTop")
    shown.goto(f"/#/run/{run}?effect={run}:4000")  # a place shows what it names
    shown.locator(".row[aria-selected=true]").wait_for()
    assert shown.locator(".rows").evaluate("(list) => list.scrollTop") != before


def test_an_effect_tells_all_of_itself(shown: Page, site: Site) -> None:
    generation = site.effect(site.done, "generate")
    shown.goto(f"/#/run/{site.done}?effect={generation}")
    panel = shown.get_by_label("Details")
    panel.get_by_text("Who knows about owls?").wait_for()
    text = panel.inner_text()
    for part in ("I'll look.", "look", "parrot", "30 in, 12 out", "capability", "owls"):
        assert part in text, part
    shown.goto(f"/#/run/{site.done}?effect={site.effect(site.done, 'look')}")
    panel.get_by_text("3 letters about <b>owls</b>").wait_for()  # as text, not as bold
    assert panel.locator("b", has_text="owls").count() == 0
    shown.goto(f"/#/run/{site.done}?effect={site.effect(site.done, 'fails')}")
    panel.get_by_text("Traceback", exact=True).click()
    panel.get_by_text('raise LookupError(f"there is no {why}")').wait_for()
    shown.goto(f"/#/run/{site.done}?effect={site.done}")
    panel.get_by_text("Result").wait_for()
    assert "sums" in panel.inner_text()


def test_graph_log_processes_memory_and_costs_of_a_run(shown: Page, site: Site) -> None:
    shown.goto(f"/#/run/{site.done}")
    shown.get_by_role("link", name="Graph").click()
    nodes = shown.locator(".drawing .node")
    nodes.filter(has_text="look").first.wait_for()
    assert nodes.count() >= 8 and shown.locator(".drawing .edge").count() >= 8
    shown.keyboard.press("0")  # all of it
    nodes.filter(has_text="fails").first.click()
    shown.get_by_label("Details").get_by_text("there is no map").first.wait_for()
    shown.get_by_role("button", name="What could run").click()
    nodes.filter(has_text="start").first.wait_for()  # of the template
    shown.keyboard.press("3")
    shown.locator(".line.error, .line.warning", has_text="there is no map").first.wait_for()
    shown.keyboard.press("4")
    shown.locator("tbody tr", has_text="below").nth(1).wait_for()
    shown.keyboard.press("5")
    shown.get_by_role("link", name="page_notes", exact=True).wait_for()
    shown.keyboard.press("6")
    shown.locator("tbody tr", has_text="parrot").wait_for()
    assert shown.locator(".chart .stroke").count() in (0, 1)


# --- of the store ---------------------------------------------------------------------------------------------------


def test_memory_shows_all_versions_of_a_cell(shown: Page, site: Site) -> None:
    shown.goto("/#/memory")
    shown.get_by_role("link", name="plan").click()
    shown.locator(".value", has_text="second").wait_for()
    shown.get_by_label("Versions").get_by_role("link").last.click()
    shown.locator(".value", has_text="first").wait_for()
    assert "version=" in shown.url


def test_costs_and_a_comparison_of_two_runs(shown: Page, site: Site) -> None:
    shown.goto("/#/costs?span=1h&by=model")
    shown.get_by_text("Tokens in").wait_for()
    shown.goto(f"/#/compare?a={site.done}&b={site.again}")
    shown.get_by_text("What changed first").wait_for()
    shown.locator(".diff tbody tr").first.wait_for()
    shown.goto(f"/#/compare?a={site.done}&b={site.done}")
    shown.get_by_text("did the same").wait_for()


def test_what_is_not_there_says_so_and_leads_on(shown: Page, site: Site) -> None:
    shown.goto("/#/run/nothing")
    shown.get_by_role("alert").get_by_text("nothing").wait_for()
    shown.goto("/#/elsewhere")
    shown.get_by_role("link", name="All runs").click()
    shown.locator(".runs").wait_for()
    shown.goto(f"/#/run/{site.done}?effect={site.done}:999")
    shown.get_by_role("alert").first.wait_for()


# --- for everybody --------------------------------------------------------------------------------------------------


def test_light_and_dark_follow_the_system_until_told_otherwise(browser: Browser, site: Site) -> None:
    with tab(browser, base_url=site.client.address, color_scheme="dark") as shown:
        shown.goto("/")
        shown.locator(".runs").wait_for()
        ground = "getComputedStyle(document.body).backgroundColor"
        dark = shown.evaluate(ground)
        assert shown.evaluate("document.documentElement.dataset.theme") == "dark"
        shown.keyboard.press("t")
        assert shown.evaluate(ground) != dark
        shown.reload()
        shown.locator(".runs").wait_for()
        assert shown.evaluate("document.documentElement.dataset.theme") == "light"


def test_a_phone_shows_everything_without_a_sideways_scroll(browser: Browser, site: Site) -> None:
    places = [
        "runs",
        f"run/{site.done}",
        f"run/{site.done}?tab=graph",
        f"run/{site.asking}",
        "inbox",
        "memory",
        "costs",
    ]
    with tab(browser, base_url=site.client.address, viewport={"width": 375, "height": 740}, has_touch=True) as shown:
        for place in [*places, f"compare?a={site.done}&b={site.again}"]:
            shown.goto(f"/#/{place}")
            shown.locator("h1").first.wait_for()
            wide = shown.evaluate(
                "Math.max(document.documentElement.scrollWidth, document.querySelector('main').scrollWidth)"
            )
            assert wide <= 375, (place, wide)
        shown.goto(f"/#/run/{site.done}")
        shown.locator(".row", has_text="look").first.tap()
        shown.get_by_label("Details").get_by_role("heading", name="look").wait_for()
        assert shown.get_by_label("Timeline").is_hidden()
        shown.get_by_role("button", name="Close").tap()
        shown.get_by_label("Timeline").wait_for()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(browser: Browser, site: Site, scheme: Any) -> None:
    axe = pytest.importorskip("axe_playwright_python", reason="axe-core comes with the extra `test`")
    script = (Path(axe.__file__).parent / "axe.min.js").read_text()
    run = f"run/{site.done}?effect={site.effect(site.done, 'generate')}"
    places = ["runs", run, f"run/{site.done}?tab=graph", f"run/{site.asking}", f"compare?a={site.done}&b={site.again}"]
    if scheme == "light":
        places += [f"run/{site.done}?tab=log", "inbox", "memory?cell=page_notes/plan", "costs"]
    rules = "{}" if scheme == "light" else "{ runOnly: ['color-contrast'] }"  # what else there is has no colour
    with tab(browser, base_url=site.client.address, color_scheme=scheme, bypass_csp=True) as shown:
        shown.goto("/")
        shown.evaluate(script)
        for place in places:
            shown.evaluate("(place) => { location.hash = place; }", f"#/{place}")
            shown.locator("h1").first.wait_for()
            time.sleep(0.3)  # until what is fetched is there, too
            found = shown.evaluate(f"axe.run({rules})")
            bad = [
                (one["id"], [node["target"] for node in one["nodes"]][:4])
                for one in found["violations"]
                if one["impact"] in ("serious", "critical")
            ]
            assert not bad, (place, bad)


def test_a_token_is_taken_from_the_address_or_asked_for(browser: Browser, tmp_path: Path) -> None:
    token = "a-token-of-some-length"
    with page(str(tmp_path / "journal.db"), Access.at("127.0.0.1", token)) as client:
        with tab(browser, base_url=client.address) as shown:
            shown.goto("/")
            shown.get_by_label("Token").fill("wrong wrong wrong")
            shown.get_by_role("button", name="Sign in").click()
            shown.get_by_role("alert").get_by_text("not the token").wait_for()
            shown.get_by_label("Token").fill(token)
            shown.get_by_role("button", name="Sign in").click()
            shown.get_by_text("Nothing has run yet").wait_for()
        with tab(browser, base_url=client.address) as shown:
            shown.goto(f"/#token={token}")
            shown.get_by_text("Nothing has run yet").wait_for()
            assert token not in shown.url and token not in str(shown.evaluate("JSON.stringify(localStorage)"))
