"""Answers about a whole run, kept for as long as they are true, or for a while that their making is worth.

Many viewers ask the same of one run, and of a long one each answer costs a look at all of it. What was made in a second
may be ten seconds old before it is made again, unless the run is over: then the last word is always made.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Awaitable, Callable
from time import monotonic
from typing import Any, NamedTuple

from weft.web.page.answer import encoded
from weft.web.page.book import Book

WORTH = 10.0
"""How much longer an answer is kept than it took to make."""
MOST = 256
"""Answers that are kept."""


class _Answer(NamedTuple):
    book: Book
    revision: int
    until: float
    data: bytes


class Kept:
    """The answers of one page, by question."""

    def __init__(self) -> None:
        self._answers: OrderedDict[str, _Answer] = OrderedDict()

    async def answer(self, book: Book, question: str, make: Callable[[], Any]) -> bytes:
        """The answer to a question about this run, as JSON; `make` gives it, or something that is awaited for it."""
        kept = self._answers.get(question)
        if kept is not None and kept.book is book and (
            kept.revision == book.revision or (monotonic() < kept.until and not book.over)
        ):  # fmt: skip
            return kept.data
        revision, began = book.revision, monotonic()
        made = make()
        data = encoded(await made if isinstance(made, Awaitable) else made)
        if book.reading:
            return data  # of a part of it
        took = monotonic() - began
        self._answers[question] = _Answer(book, revision, monotonic() + WORTH * took, data)
        self._answers.move_to_end(question)
        while len(self._answers) > MOST:
            self._answers.popitem(last=False)
        return data
