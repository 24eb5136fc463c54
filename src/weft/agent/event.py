"""What an agent does, as it does it."""

from __future__ import annotations

from typing import Any

import msgspec

from weft.agent.answer import Answer
from weft.core.content import ToolResult
from weft.model.event import Event
from weft.model.message import Message


class TurnStarted(msgspec.Struct, frozen=True, tag="turn_started"):
    """The model is asked for the `number`-th time (from 1); `left`: turns after this one, if there is a limit."""

    number: int
    agent: str
    left: int | None = None


class Modelled(msgspec.Struct, frozen=True, tag="modelled"):
    """Something of the generation under way."""

    event: Event


class Returned(msgspec.Struct, frozen=True, tag="returned"):
    """A tool call came back."""

    result: ToolResult


class Heard(msgspec.Struct, frozen=True, tag="heard"):
    """Somebody said something meanwhile. A generation that was under way was left for it."""

    message: Message


class Compacted(msgspec.Struct, frozen=True, tag="compacted"):
    """Messages `start` to before `end` of the conversation are `shown` to the model so from now on, and recalled by
    `id`."""

    id: str
    start: int
    end: int
    shown: tuple[Message, ...]


class Ended(msgspec.Struct, frozen=True, tag="ended"):
    """The agent has handed in."""

    answer: Answer[Any]


AgentEvent = TurnStarted | Modelled | Returned | Heard | Compacted | Ended
