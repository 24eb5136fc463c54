"""The page in a real browser: first paint and scrolling of a run of 100,000 effects, and how old live news are.

The browser is headless Chromium with software rendering: no graphics card takes part, so a desk does better. Page and
server share this machine's cores with the program that is looked at.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import msgspec

import weft
from benchmarks.report import Measure, Report
from tests.servers.browser import Unavailable, chromium, tab

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

CHILDREN, EACH = 100, 998
"""Each child is an effect of the run, and its end another one; each has so many of its own: 100,000 in all."""
SPEEDS = (60, 1_200)
"""Pixels a frame: as a hand does it, and as one who pulls the bar."""
FIGURE = "page, 100,000 effects, software rendering"
BARS = ("first paint within 1 s", "rows drawn within 1 s", "50 frames/s while scrolling", "live within 300 ms")


class Paint(msgspec.Struct):
    """Seconds from asking for the page until the browser paints something, and until rows are drawn."""

    something: float
    rows: float


class Scroll(msgspec.Struct):
    """`rate`: frames/s that the page was asked for; `slowest`: ms of the longest; `drawn`: frames/s by the trace."""

    rate: float
    slowest: float
    drawn: float


go_on = weft.Mailbox("observe-go-on", int)


@weft.step(effect="pure")
async def mark(number: int) -> int:
    return number


@weft.workflow
async def many(number: int) -> float:
    """As many effects as there are, most of the quickest kind."""
    total = 0.0
    for at in range(EACH):
        total += await mark(at) if at % 50 == 0 else weft.random()
    return total


@weft.workflow
async def large() -> float:
    return sum(await asyncio.gather(*(many(number) for number in range(CHILDREN))))


@weft.workflow
async def ticks(count: int) -> int:
    """An effect each time it is told to."""
    for number in range(count):
        await go_on.receive()
        await mark(number)
    return count


# Notes when the first rows are to be seen, and when each row is first seen to be over.
WATCH = """
window.seen = {}; window.firstRows = null;
const look = () => {
  for (const row of document.querySelectorAll('.rows .row:not([hidden])')) {
    if (!row.querySelector('.label')?.textContent) continue;
    window.firstRows ??= performance.now();
    if (!row.classList.contains('running')) window.seen[row.id] ??= Date.now() / 1000;
  }
  requestAnimationFrame(look);
};
addEventListener('DOMContentLoaded', look);
"""

SCROLL = """
async ([seconds, speed]) => {
  const list = document.querySelector('.rows');
  const frames = []; const from = performance.now();
  await new Promise((done) => requestAnimationFrame(function step(now) {
    frames.push(now);
    list.scrollTop += speed;
    now - from < seconds * 1000 ? requestAnimationFrame(step) : done();
  }));
  return { frames, top: list.scrollTop };
}
"""


def measure(report: Report, *, quick: bool) -> None:
    """Adds the figures of the page, and their bars."""
    looks, rounds, seconds = (2, 1, 2) if quick else (7, 2, 4)
    try:
        with tempfile.TemporaryDirectory() as folder:
            place = str(Path(folder, "journal.db"))
            run = asyncio.run(_make(place))
            with chromium() as browser, _server(place) as address:
                url = f"{address}/#/run/{run}"
                first = _paint(browser, url)  # nobody looked before: the server reads the journal
                again = [_paint(browser, url) for _ in range(looks)]
                scrolls = {speed: [_scroll(browser, url, speed, seconds) for _ in range(rounds)] for speed in SPEEDS}
                late = _live(browser, address, place, 10 if quick else 40)
    except Unavailable as missing:
        report.add(FIGURE, Measure(name="Weft", unit="s", note=str(missing)))
        for what in BARS:
            report.bar(FIGURE, what, None)
        return
    _tell(report, first, again, scrolls, late)


def _tell(
    report: Report, first: Paint, again: list[Paint], scrolls: dict[int, list[Scroll]], late: list[float]
) -> None:
    for name, paints in {"first look of all": [first], "later looks": again}.items():
        report.add(FIGURE, Measure(name=f"first paint, {name}", unit="s", runs=[one.something for one in paints]))
        report.add(FIGURE, Measure(name=f"rows drawn, {name}", unit="s", runs=[one.rows for one in paints]))
    for speed, found in scrolls.items():
        more = {
            "slowest frame ms": max(one.slowest for one in found),
            "drawn by the trace": median(x.drawn for x in found),
        }
        name = f"scrolling, {speed} px a frame"
        report.add(FIGURE, Measure(name=name, unit="frames/s", runs=[one.rate for one in found], more=more))
    report.add(FIGURE, Measure(name="live, from an effect's end to the frame that shows it", unit="s", runs=late))
    paint, rows, scroll, live = BARS
    report.bar(FIGURE, paint, first.something, most=1.0, unit="s")
    report.bar(FIGURE, rows, median(one.rows for one in again), most=1.0, unit="s")
    slowest = min(median(one.rate for one in found) for found in scrolls.values())
    report.bar(FIGURE, scroll, slowest, least=50, unit="frames/s")
    report.bar(FIGURE, live, median(late), most=0.3, unit="s")


async def _make(place: str) -> str:
    async with weft.Runtime(place, durability="process") as runtime:
        run = await runtime.start(large)
        await run
        return run.id


@contextlib.contextmanager
def _server(place: str) -> Iterator[str]:
    """`weft web` in a process of its own."""
    command = [sys.executable, "-m", "weft", "web", "--store", place, "--port", "0", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        try:
            assert process.stdout is not None
            said = ""
            while not said.rstrip().endswith("}"):
                said += process.stdout.readline()
            yield json.loads(said)["address"]
        finally:
            process.terminate()


def _paint(browser: Browser, url: str) -> Paint:
    """In a tab that is open, with nothing of the page kept."""
    with tab(browser) as page:
        page.add_init_script(WATCH)
        page.goto(url.partition("/#")[0] + "/api/about")
        page.goto(url)
        page.wait_for_function("() => window.firstRows", timeout=60_000)
        paint = page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime")
        return Paint(paint / 1000, page.evaluate("window.firstRows") / 1000)


def _scroll(browser: Browser, url: str, speed: int, seconds: int) -> Scroll:
    """While the list moves by `speed` pixels a frame, for so long."""
    with tab(browser) as page:
        page.goto(url)
        page.wait_for_selector(".rows .row .label:text('large')", timeout=60_000)
        browser.start_tracing(page=page, categories=["disabled-by-default-devtools.timeline.frame"])
        found = page.evaluate(SCROLL, [seconds, speed])
        events = json.loads(browser.stop_tracing())["traceEvents"]
        assert found["top"] >= speed * 50, "it did not scroll"
    frames = found["frames"]
    gaps = [after - before for before, after in pairwise(frames)]
    drawn = sum(event["name"] == "DrawFrame" for event in events)
    return Scroll(1000 * len(gaps) / (frames[-1] - frames[0]), max(gaps), drawn / seconds)


def _live(browser: Browser, address: str, place: str, count: int) -> list[float]:
    """Seconds from the end of each effect until the page shows that it is over."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()

    def there(work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, loop).result(30)

    async def begin() -> tuple[weft.Runtime, str]:
        runtime = await weft.Runtime(place).__aenter__()
        return runtime, (await runtime.start(ticks, count)).id

    runtime, run = there(begin())
    try:
        with tab(browser, viewport={"width": 1280, "height": 300 + 24 * (3 * count + 8)}) as page:
            page.add_init_script(WATCH)
            page.goto(f"{address}/#/run/{run}")
            page.wait_for_function("() => window.firstRows", timeout=30_000)
            for _ in range(count):
                there(runtime.send(run, "observe-go-on", 1))
                page.wait_for_timeout(217)  # no multiple of the server's pace
            page.wait_for_timeout(1000)
            return _ages(page, address, run)
    finally:
        there(runtime.close())
        loop.call_soon_threadsafe(loop.stop)
        thread.join()


def _ages(page: Page, address: str, run: str) -> list[float]:
    seen = page.evaluate("window.seen")
    rows = page.evaluate("async (url) => (await fetch(url)).json()", f"{address}/api/runs/{run}/rows?count=1000")[
        "rows"
    ]
    marks = [row for row in rows if row["name"].endswith("mark")]
    return [seen[f"row-{row['index']}"] - row["end"] for row in marks]
