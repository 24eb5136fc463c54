"""A real Chromium without a window, through Playwright; and what one does with a page of Weft again and again."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


class Unavailable(Exception):
    """There is no browser here; the message says what is missing."""


@contextlib.contextmanager
def chromium() -> Iterator[Browser]:
    """Raises Unavailable."""
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        raise Unavailable("the package playwright is not here: it is in the extra `test`") from None
    path = next(filter(None, map(shutil.which, NAMES)), None)
    if path is None:
        raise Unavailable("there is no Chromium here; Debian's package is called chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        try:
            yield browser
        finally:
            browser.close()


@contextlib.contextmanager
def tab(browser: Browser, **options: Any) -> Iterator[Page]:
    """A page of its own, with nothing kept. An error or a warning in it fails the test."""
    context = browser.new_context(**{"viewport": {"width": 1280, "height": 800}, **options})
    context.set_default_timeout(30_000)
    page = context.new_page()
    wrong: list[str] = []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("console", lambda said: wrong.append(said.text) if said.type == "error" and _matters(said.text) else None)
    try:
        yield page
    finally:
        context.close()
    assert not wrong, wrong


def _matters(text: str) -> bool:
    """Answers that are errors are told by the page itself, and the browser notes them too."""
    return not text.startswith("Failed to load resource")
