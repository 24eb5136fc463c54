"""What a batcher is asked for, and what is heard of it: one turn of a program, and its tokens as they are drawn."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING, Literal, Protocol

import msgspec

from weft.model.engine.protocol import Sampling
from weft.model.engine.turns import Turn

if TYPE_CHECKING:
    from weft.model.engine.batching import Batcher

Finish = Literal["stop", "length", "cancelled"]


class Rules(Protocol):
    """What holds a generation to a grammar (`weft.model.engine.grammar.Grammar`)."""

    def allow(self) -> bytes: ...
    def accept(self, token: int) -> None: ...

    @property
    def ended(self) -> bool:
        """Whether nothing more may be said."""
        ...


class Ask(msgspec.Struct, frozen=True, kw_only=True):
    """One turn: the whole prompt, also what the program said before."""

    prompt: list[int]
    most: int = 256
    """How many tokens it may draw."""
    program: str = ""
    """Whose turn it is; empty: a program of this turn only."""
    sampling: Sampling = Sampling()
    stop: frozenset[int] | None = None
    """The tokens that end it, themselves not told; None: the engine's."""
    priority: int = 0
    last: bool = False
    """The program will ask nothing more: what it holds is given back."""
    calls: Callable[[list[int]], str | None] | None = None
    """Reads what was drawn: the tool that the program now waits for, "" if unknown, None if the program is over."""
    rules: Rules | None = None
    likely: int = 0
    """How many of the likeliest tokens to tell at each place."""
    frequency: float = 0.0
    presence: float = 0.0
    """What is taken off the logit of a token for each time that it was drawn, and once if it was."""

    def bias(self, drawn: Counter[int]) -> dict[int, float] | None:
        """The penalties of the tokens drawn so far."""
        if not (self.frequency or self.presence):
            return None
        return {token: -self.presence - count * self.frequency for token, count in drawn.items()}


class Generation:
    """The tokens of a turn, as they are drawn: iterate it, or await `whole()`."""

    def __init__(self, batcher: Batcher, ask: Ask, turn: Turn, stop: frozenset[int]) -> None:
        self.ask = ask
        self.turn = turn
        self.stop = stop
        self.tokens: list[int] = []
        """What was drawn so far."""
        self.likely: list[list[tuple[int, float]]] = []
        """The likeliest tokens in the place of each, if they were asked for."""
        self.times: Counter[int] = Counter()
        self.finish: Finish | None = None
        self._batcher = batcher
        self._over: Exception | None = None
        self._news = asyncio.Event()

    async def whole(self) -> list[int]:
        """All its tokens. Raises what the engine raised."""
        async for _ in self:
            pass
        return self.tokens

    async def __aiter__(self) -> AsyncIterator[int]:
        read = 0
        while True:
            while read < len(self.tokens):
                read += 1
                yield self.tokens[read - 1]
            if self.finish is not None:
                return
            if self._over is not None:
                raise self._over
            self._news.clear()
            await self._news.wait()

    def cancel(self) -> None:
        """Draw no more. What was drawn stays; a turn that is over is left as it is."""
        self._batcher._cancel(self)

    def _end(self, how: Finish | Exception) -> None:
        if isinstance(how, Exception):
            self._over = how
        else:
            self.finish = how
        self._news.set()

    @property
    def over(self) -> bool:
        return self.finish is not None or self._over is not None
