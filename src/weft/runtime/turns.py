"""The order in which the effects of one operation's steps take place.

Steps that an operation calls beside each other compute in parallel. From L3 on their effects are let out one after the
other, in the order of the calls, as a processor retires instructions: each begins when the one before is over, and is
written down durably, so that no crash between the two lets the earlier one happen after the later. Below L3 the order
is only noted.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextvars import ContextVar
from functools import partial
from typing import Any

from weft.core.crossing import executing
from weft.core.memory import Order
from weft.runtime.commit import settle


class Turns:
    """Of one operation, whose beginning is effect `number`."""

    def __init__(self, number: int, *, strict: bool) -> None:
        self.number = number
        self.strict = strict
        self.noted = 0
        """How many effects have taken place."""
        self._line: list[Turn] = []

    def enter(self, order: Order) -> Turn:
        """A step is called that has effects; calls come in their order."""
        turn = Turn(self, order)
        if order != "commutes":
            self._line.append(turn)
        return turn

    def passed(self, place: int) -> None:
        """On replay: an effect that took place before."""
        self.noted = max(self.noted, place)

    def leave(self, turn: Turn) -> None:
        if turn in self._line:
            first = self._line[0] is turn
            self._line.remove(turn)
            if first and self._line:
                self._line[0].comes()

    def first(self, turn: Turn) -> bool:
        return not self.strict or self._line[0] is turn


class Turn:
    """Of one step in it."""

    def __init__(self, turns: Turns, order: Order) -> None:
        self.turns = turns
        self.order = order
        self.place = 0
        """Of its effects, once they have taken place."""
        self._waiting: list[Callable[[], None]] = []

    def when(self, then: Callable[[], None]) -> None:
        """Call `then` when it is this step's turn: at once, if it is."""
        if self.order == "commutes" or self.turns.first(self):
            then()
        else:
            self._waiting.append(then)

    def comes(self) -> None:
        waiting, self._waiting = self._waiting, []
        for then in waiting:
            then()

    async def taken(self) -> None:
        """Return when it is this step's turn, and note that its effects take place now."""
        come: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.when(partial(settle, come, None))
        await come
        self.note()

    def note(self) -> None:
        if not self.place:
            self.turns.noted += 1
            self.place = self.turns.noted

    def said(self) -> tuple[int, int]:
        """As the journal has it: of which operation, in which place."""
        return self.turns.number, self.place

    def over(self) -> None:
        """The step's outcome is durable, or nobody waits for it any more."""
        self._waiting.clear()
        self.turns.leave(self)


turning: ContextVar[Turns | None] = ContextVar("weft_turning", default=None)
"""Those of the operation that the body's code is in."""


async def turn() -> None:
    """Inside a step with ``order="staged"``: what came before computes; what comes now are its effects. In an operation
    at L3 it waits until those of all calls before are over. Anywhere else it returns at once."""
    execution: Any = executing.get()
    mine: Turn | None = getattr(execution, "turn", None)
    if mine is not None and mine.order == "staged":
        await mine.taken()
