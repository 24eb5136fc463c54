"""What comes of an agent's work."""

from __future__ import annotations

from typing import Generic, Literal

import msgspec
from typing_extensions import TypeVar

from weft.model.message import Message
from weft.model.request import Usage

T = TypeVar("T", default=str)

Ending = Literal["done", "limit", "refused"]
"""It handed in; it came to a limit and handed in what there was; the model refused."""


class Answer(msgspec.Struct, Generic[T], frozen=True, kw_only=True, omit_defaults=True):
    """`output`: what was handed in, of the agent's output type (None if nothing of it came). `messages`: the whole
    conversation, to go on from. `agent`: who answered, after hand-offs."""

    output: T
    messages: list[Message]
    ended: Ending = "done"
    agent: str = ""
    turns: int = 0
    usage: Usage = Usage()
    money: float | None = None
    """US dollars; None where a price is not known."""
