"""A chat as a workflow: what is said to it (the mailbox `agent.said`) goes to the agent, turn after turn, for days.

    run = await runtime.start(chat, "helper", "", "helper.py")
    await runtime.send(run.id, "agent.said", "Hello!")
    await runtime.send(run.id, "agent.order", "stop")       # or "undo", "end"

A failure of a turn is told, and the chat goes on. Who sits in front of it sees what happens by `watchers`; after a
restart they are told again what was, and that it was.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from copy import copy
from typing import Any, Literal

import msgspec

from weft.agent.agent import Agent
from weft.agent.conversation import Conversation, said
from weft.agent.event import AgentEvent, Ended
from weft.agent.guard import Tripped
from weft.core.errors import BadInput, BudgetExceeded, Denied, ModelError
from weft.core.workflow import registry, workflow
from weft.model.message import Message
from weft.model.provider import Model
from weft.runtime.effects import Mailbox, current

Order = Literal["stop", "undo", "end"]
orders: Mailbox[Order] = Mailbox("agent.order", Order)  # type: ignore[call-overload]
"""Stop what you do; forget the last thing said and all that followed; end the chat."""

SHORT = 200
"""Tokens of an answer by an embedded model that no agent says more about."""


class Asked(msgspec.Struct, frozen=True):
    """Something was said, and the agent begins with it."""

    words: str


class Stands(msgspec.Struct, frozen=True):
    """The agent waits for the next words. `why`: a failure or an order that ended the last turn before its end."""

    messages: list[Message]
    why: str = ""


ChatEvent = AgentEvent | Asked | Stands
watchers: dict[str, Callable[[ChatEvent, bool], None]] = {}
"""By run: told each event, and whether it is of a replay. They are called in the body, so they only take note."""


@workflow(name="weft.chat")
async def chat(agent: str, model: str = "", file: str = "") -> list[Message]:
    """A chat with the agent of this name, on another model than its own if one is given. `file` declares it. Returns
    the conversation when it is told to end."""
    talk = found(agent, model).conversation()
    began: list[int] = []
    """Where in the conversation each thing that was said begins."""
    order = asyncio.create_task(orders.receive())
    words = asyncio.create_task(said.receive())
    why = ""
    while True:
        tell(Stands([*talk.messages], why))
        why = ""
        await asyncio.wait({order, words}, return_when=asyncio.FIRST_COMPLETED)
        if words.done():
            began.append(len(talk.messages))
            why = await _one(talk, words.result(), order)
            words = asyncio.create_task(said.receive())
        if order.done():
            given, order = order.result(), asyncio.create_task(orders.receive())
            if given == "end":
                return talk.messages
            if given == "undo" and began:
                talk.undo(began.pop())
                why = "undone"


async def _one(talk: Conversation[Any], words: str, order: asyncio.Task[Order]) -> str:
    """Say it, and see it through, until there is an order; why it did not come to its end, if it did not."""
    tell(Asked(words))
    work = asyncio.create_task(_watched(talk, words))
    try:
        await asyncio.wait({work, order}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        if not work.done():
            work.cancel()
            await asyncio.gather(work, return_exceptions=True)
    return "stopped" if work.cancelled() else work.result()


async def _watched(talk: Conversation[Any], words: str) -> str:
    try:
        async for event in talk.events(words):
            tell(event)
    except (ModelError, BudgetExceeded, Denied, Tripped, BadInput) as error:
        return str(error)
    return ""


def tell(event: ChatEvent) -> None:
    """To whoever watches."""
    here = current()
    if here.id in watchers:
        watchers[here.id](event, here.replaying)


def found(name: str, model: str) -> Agent[Any]:
    """The agent of this name, on this model. Raises BadInput if there is none."""
    agent = registry.get(name) if name else _plain(model)
    if not isinstance(agent, Agent):
        raise BadInput(f"there is no agent {name!r} here; give the file that declares it, and say Agent(name=...)")
    if model:
        agent = copy(agent)
        agent.model = Model(model)
    return agent


def _plain(model: str) -> Agent[str]:
    """A model alone. The small ones of this machine do not know when to end."""
    settings: dict[str, Any] = {"max_tokens": SHORT} if Model(model).embedded else {}
    return Agent(model, name="weft.plain", **settings)


__all__ = ["Asked", "ChatEvent", "Ended", "Order", "Stands", "chat", "found", "orders", "tell", "watchers"]
