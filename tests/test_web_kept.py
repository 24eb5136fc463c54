"""Costly answers are made once for all who ask, and never stay behind a run that is over."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest

from weft.web.page import kept
from weft.web.page.book import Book
from weft.web.page.kept import MOST, Kept


def test_an_answer_is_made_again_when_it_is_worth_it(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(kept, "monotonic", lambda: now[0])
    state = SimpleNamespace(revision=1, over=False, reading=True)
    book, made = cast(Book, state), [0]

    def make() -> int:
        now[0] += 2.0  # it takes so long
        made[0] += 1
        return made[0]

    async def later() -> int:
        return make()

    async def main() -> None:
        answers = Kept()

        async def ask(question: str = "q", by: Any = make) -> bytes:
            return await answers.answer(book, question, by)

        assert await ask() == b"1"
        made[0], state.reading = 0, False  # that was of a part of it, and is not kept
        assert [await ask(), await ask()] == [b"1", b"1"]  # nothing has changed
        state.revision = 2
        now[0] += 19.0
        assert await ask() == b"1"  # it is not worth it yet
        now[0] += 2.0
        assert await ask(by=later) == b"2"
        state.revision, state.over = 3, True
        assert [await ask(), await ask()] == [b"3", b"3"]  # the last word
        assert await ask("another") == b"4"
        assert (
            await answers.answer(cast(Book, SimpleNamespace(revision=3, over=True, reading=False)), "q", make) == b"5"
        )
        for number in range(MOST):
            await ask(f"q{number}", lambda: 0)
        assert await ask("another") == b"6"  # it was forgotten

    asyncio.run(main())
