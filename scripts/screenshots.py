"""The pictures of the page in the docs: `python scripts/screenshots.py` writes docs/images/page-*.png.

They are of real runs of `scripts/library.py`, in headless Chromium, with the fonts of this machine.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

PRICES = '[script]\n"*" = { input = 3.0, output = 15.0 }\n'
MOST = 150_000
"""Bytes of a picture."""


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "prices.toml").write_text(PRICES)
        os.environ.update(
            WEFT_PRICES=f"{folder}/prices.toml", WEFT_POLICY="all", WEFT_ASK="file.write:/srv/**", COLUMNS="100"
        )
        from tests.servers.browser import chromium
        from tests.servers.page import Elsewhere, page

        place = f"{folder}/journal.db"
        elsewhere = Elsewhere(place)
        with page(place) as client, chromium() as browser:
            runs = make(client, elsewhere)
            take(client, browser, runs)
        elsewhere.close()
    return 0


def make(client, elsewhere) -> dict[str, str]:  # type: ignore[no-untyped-def]
    """Runs in every state, by the name under which they are shown."""
    import library

    from tests.servers.page import Elsewhere, until

    died = Elsewhere(elsewhere.place)
    died.start(library.watch, "new books")
    until(lambda: client.get("/api/runs?state=waiting")["items"])
    died.close()
    for topic in ("tides", "wind", "moon"):
        elsewhere.start(library.digest, topic)
    shelf = elsewhere.start(library.watch, "returns")
    runs = {
        "asking": elsewhere.start(library.report, ["tides", "harbours", "moon", "currents"]),
        "approving": elsewhere.start(library.report, ["tides", "moon"], "Moon and tides"),
    }
    until(lambda: len(client.get("/api/inbox")["items"]) == 2)
    client.post(f"/api/runs/{shelf}/cancel")
    runs["fork"] = client.post(f"/api/runs/{runs['asking']}/fork", {"at": 1, "value": ["Tides, volume 9"]})["run"]
    until(lambda: len(client.get("/api/inbox")["items"]) == 3)
    return runs


def take(client, browser, runs: dict[str, str]) -> None:  # type: ignore[no-untyped-def]
    """The pictures."""
    asking = f"/#/run/{runs['asking']}"
    rows = client.get(f"/api/runs/{runs['asking']}/rows?count=1000")["rows"]
    generation = [row["id"] for row in rows if row["kind"] == "generation"][1]
    desk = {"viewport": {"width": 1280, "height": 760}, "color_scheme": "light"}
    phone = {"viewport": {"width": 390, "height": 760}, "has_touch": True, "is_mobile": True, "color_scheme": "dark"}
    shots = [
        ("runs", "/#/runs", desk),
        ("run", f"{asking}?effect={generation}", {**desk, "viewport": {"width": 1280, "height": 860}}),
        ("graph", f"{asking}?tab=graph", {**desk, "color_scheme": "dark"}),
        ("inbox", "/#/inbox", desk),
        ("compare", f"/#/compare?a={runs['asking']}&b={runs['fork']}", desk),
        ("phone", asking, phone),
    ]
    folder = HERE.parent / "docs" / "images"
    folder.mkdir(exist_ok=True)
    for name, where, options in shots:
        context = browser.new_context(base_url=client.address, **options)
        shown = context.new_page()
        shown.goto(where)
        shown.locator("h1").first.wait_for()
        shown.wait_for_timeout(900)  # until what is fetched is there, too
        path = folder / f"page-{name}.png"
        shown.screenshot(path=path)
        context.close()
        size = path.stat().st_size
        print(f"{path.relative_to(HERE.parent)}  {size:,} bytes")
        if size > MOST:
            raise SystemExit(f"{path} is larger than {MOST:,} bytes; show less")


if __name__ == "__main__":
    sys.exit(main())
