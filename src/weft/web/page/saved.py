"""A run and all below it as a folder that opens from a disk: the front, and beside it the answers that it asks for.

Each answer is a script that calls `weftData(PATH, ANSWER)`, because a page from a disk may not fetch.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from starlette.requests import Request

import weft
from weft.store.base import Store
from weft.web.page import cells, costs, shape, unusual
from weft.web.page.answer import encoded
from weft.web.page.app import PROCESSES, STATES
from weft.web.page.book import Book
from weft.web.page.books import Books
from weft.web.page.effect import one_effect
from weft.web.page.folder import write_front
from weft.web.page.logs import list_logs
from weft.web.page.rows import bands, buckets, page_of_rows
from weft.web.page.runs import line, one_run, sums_of, tree

ROWS, EFFECTS = 1_000, 100
"""Rows in one file, and rows whose effects are in one."""
LINES = 2_000
"""Lines of the journal that are told: the first ones."""


async def save(store: Store, id: str, folder: Path) -> int:
    """Write run `id` into `folder`, made if missing; gives how many spans it has. Raises UnknownRun and OSError."""
    books = Books(store)
    book = await books.read(id)
    write_front(folder)
    data = folder / "data"
    data.mkdir(exist_ok=True)
    for name, (path, answer) in (await _answers(store, book)).items():
        _write(data / f"{name}.js", path, answer)
    base = f"/api/runs/{id}"
    for start in range(0, book.total, ROWS):
        _write(data / f"rows-{start}.js", f"{base}/rows", page_of_rows(book, _asked({"from": start, "count": ROWS})))
    for start in range(0, book.total, EFFECTS):
        told = {
            place.node.id: await one_effect(store, books, place.leaf, place.node)
            for place in book.rows(start, EFFECTS)
            if place.node is not None
        }
        _write(data / f"effects-{start}.js", "/api/effects", told)
    return book.total


async def _answers(store: Store, book: Book) -> dict[str, tuple[str, Any]]:
    """By name of the file: the path of the question, and the answer."""
    base, root = f"/api/runs/{book.id}", book.root
    about = {
        "weft": weft.__version__, "store": None, "read_only": True, "signed_in": True, "token_needed": False,
        "now": store.clock(), "states": STATES, "static": True,
    }  # fmt: skip
    runs = {"items": [line(root.row, root.state, sums_of(root))], "next": None, "partial": False}
    small = book.total <= shape.LARGEST
    return {
        "about": ("/api/about", about),
        "runs": ("/api/runs", runs),
        "run": (base, await one_run(store, book)),
        "tree": (f"{base}/tree", tree(book, PROCESSES)),
        "graph": (f"{base}/graph", await shape.graph(book) if small else None),
        "template": (f"{base}/template", await shape.template(book, may_load=False)),
        "costs": (f"{base}/costs", costs.of_run(book, _asked({}))),
        "logs": (f"{base}/logs", await list_logs(store, book, _asked({"limit": LINES}))),
        "memory": (f"{base}/memory", cells.of_run(book)),
        "unusual": (f"{base}/unusual", await unusual.of_run(store, book.id)),
        "buckets": (f"{base}/buckets", buckets(book, _asked({}))),
        "bands": (f"{base}/bands", bands(book, _asked({}))),
    }


def _asked(query: dict[str, Any]) -> Request:
    """A question as it comes over HTTP."""
    return Request({"type": "http", "method": "GET", "headers": [], "query_string": urlencode(query).encode()})


def _write(file: Path, path: str, answer: Any) -> None:
    # U+2028 and U+2029 end a line in old scripts, and nothing that was said may end this one.
    told = encoded(answer).replace(b"\xe2\x80\xa8", b"\\u2028").replace(b"\xe2\x80\xa9", b"\\u2029")
    file.write_bytes(b"weftData(%s, %s);\n" % (encoded(path), told))
