"""Which call each result answers, in a conversation read from the wire.

Some providers leave out the ids of calls, others the names of tools in results: what one side lacks the other tells.
"""

from __future__ import annotations

from collections.abc import Iterable

from weft.core.content import ToolCall
from weft.core.errors import BadInput, ModelError
from weft.model.message import Message

_ROLES = ("system", "user", "assistant", "tool")


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


def understood(dialect: str, messages: Iterable[Message]) -> list[Message]:
    """The messages as they are read. Raises BadInput if what they are read from is not of this dialect."""
    try:
        read = [*messages]
    except (LookupError, TypeError, AttributeError, ValueError, ModelError) as error:
        raise BadInput(f"these are no messages as {dialect} writes them ({error!r})") from None
    for message in read:
        if message.role not in _ROLES:
            raise BadInput(f"{dialect} has no messages of role {message.role!r}; there are {', '.join(_ROLES)}")
    return read
