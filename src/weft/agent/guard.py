"""Guards: functions that look at what goes into an agent or comes out of it, and let it pass, change it, or stop it."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from weft.core.errors import WeftError
from weft.model.message import Message

InputGuard = Callable[[list[Message]], "list[Message] | Awaitable[list[Message] | None] | None"]
"""Told what is said to the agent; returns what is said instead, or None to let it pass. Raises Tripped."""
OutputGuard = Callable[[Any], "Any | Awaitable[Any]"]
"""Told what the agent hands in; returns that, or what is handed in instead. Raises Tripped."""


class Tripped(WeftError):
    """A guard stopped the agent. `told`: words that the model may see, to try again; without them the run fails."""

    def __init__(self, why: str, told: str = "") -> None:
        self.why = why
        self.told = told
        super().__init__(why, told)

    def __str__(self) -> str:
        return self.why


async def guarded_input(guards: Sequence[InputGuard], messages: list[Message]) -> list[Message]:
    """The messages as the guards leave them."""
    for guard in guards:
        changed = guard(messages)
        changed = await changed if inspect.isawaitable(changed) else changed
        messages = messages if changed is None else changed
    return messages


async def guarded_output(guards: Sequence[OutputGuard], output: Any) -> Any:
    """The output as the guards leave it."""
    for guard in guards:
        changed = guard(output)
        output = await changed if inspect.isawaitable(changed) else changed
    return output
