"""Which call each result answers, in a conversation read from the wire.

Some providers leave out the ids of calls, others the names of tools in results: what one side lacks the other tells.
"""

from __future__ import annotations

from collections.abc import Iterable

from weft.core.content import ToolCall
from weft.model.message import Message


class Pairs:
    """Told of all calls and results in their order."""

    def __init__(self) -> None:
        self._names: dict[str, str] = {}
        self._open: list[str] = []

    def call(self, id: str, name: str) -> str:
        """The id of this call: its own, or the number that it has among all calls."""
        id = id or f"call_{len(self._names)}"
        self._names[id] = name
        self._open.append(id)
        return id

    def result(self, id: str, name: str) -> tuple[str, str]:
        """The id and the name of this result: its own, or those of the call that it answers."""
        if not id:
            waiting = (call for call in self._open if self._names[call] == name)
            id = next(waiting, "") or f"call_{len(self._names)}_{name}"
        if id in self._open:
            self._open.remove(id)
        return id, name or self._names.get(id, "")


def names_of(messages: Iterable[Message]) -> dict[str, str]:
    """The tool that each call's id stands for."""
    return {part.id: part.name for message in messages for part in message.parts if isinstance(part, ToolCall)}
