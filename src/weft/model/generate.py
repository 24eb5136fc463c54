"""The effect `generate`: one generation, whoever makes it. It takes the model's *spec*, a text, and plain data.

What an operating-system process shares (the engine, connections, the key) is found when it runs and never journaled.
Its outcome is the whole `Reply`, streamed or not, so a replay never generates again.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterator
from contextlib import aclosing
from functools import cache
from pathlib import Path

import msgspec

from weft.core.content import Text
from weft.core.errors import (
    AnswerMisfit,
    BadInput,
    EngineUnfit,
    KeyRefused,
    ModelBusy,
    ModelCrashed,
    ModelTimeout,
    ModelUnavailable,
    PromptTooLong,
    UnknownModel,
)
from weft.core.retry import Retry
from weft.core.step import primitive
from weft.model import channel, constrain, scripted
from weft.model.cache import Replies, key_of
from weft.model.client import Server, exchange, frames
from weft.model.dialect import Call, Dialect
from weft.model.dialect.chat import Embedded
from weft.model.dialect.gather import text_of
from weft.model.price import money
from weft.model.repair import repair
from weft.model.request import Reply, Request, Usage
from weft.model.spec import Local, Remote, Script, Where, where
from weft.runtime.effects import charge, hold_back
from weft.runtime.guard import exempt

log = logging.getLogger("weft.model")

_NOT_EXACT = "the same tokens every time can't be promised here"
ANSWER = 4096
"""Tokens that are reserved for the answer of a hosted model if no `max_tokens` is given."""
TRANSIENT = (ModelBusy, ModelUnavailable, ModelTimeout, ModelCrashed)
"""What may be better at the next try, or at another provider."""
RETRY = Retry(attempts=3, delay=0.5, max_delay=30, jitter=0.25, on=(ModelBusy, ModelUnavailable, ModelCrashed))
"""How often a generation of a process is tried, unless said otherwise. It waits as long as the provider says."""


def _needs(spec: str, request: Request, stream: str = "") -> Iterator[tuple[str, str]]:
    found = where(spec)
    yield "model.generate", found.resource
    if isinstance(found, Local) and found.file:
        yield "file.read", found.name


def cost_of(spec: str, request: Request, stream: str = "") -> dict[str, float]:
    """The most tokens that it may take: those of the answer, and the prompt's (about one for 3 bytes); and the money
    that these cost, where the price is known."""
    found = where(spec)
    most = found.context if isinstance(found, Local) else ANSWER
    prompt = length(request)
    most = request.max_tokens or most
    price = money(found.place, found.name, Usage(input=prompt, output=most))
    return {"tokens": prompt + most} | ({"money": price} if price else {})


def length(request: Request) -> int:
    """Tokens of a prompt, roughly: one for 3 bytes of its words."""
    texts = [part.content for message in request.messages for part in message.parts if isinstance(part, Text)]
    texts += [result.text for message in request.messages for result in message.results]
    texts += [text_of(call.arguments) for message in request.messages for call in message.calls]
    tools = len(msgspec.json.encode(request.tools)) // 3 if request.tools else 0
    return sum(len(text.encode()) // 3 + 8 for text in texts) + tools


@primitive(name="generate", role="generation", effect="pure", needs=_needs, cost=cost_of)
async def generate(spec: str, request: Request, stream: str = "") -> Reply:
    """The generation itself: a journaled step, which needs the right to the model: `model:local/NAME` for the embedded
    engine, `model:PROVIDER/NAME`, or `model:HOST/NAME`. `Model.chat` calls it; `spec` says which model, `stream` is the
    key of the channel that is told the events. Of a budget it reserves the tokens and the money that it may take, and
    takes those that it did."""
    found = where(spec)
    told = channel.channel(stream) if stream else None
    if told is not None:
        before = told.called
        if before is not None:
            charge(tokens=0, money=0)
            return before
        told.begin()
    began = time.perf_counter()
    try:
        reply = await _kept(spec, found, request, told) if request.cached else await _reply(found, request, told)
    except (PromptTooLong, ModelUnavailable, KeyRefused, UnknownModel) as error:
        charge(tokens=0, money=0)  # nothing was generated
        if isinstance(error, ModelBusy) and error.retry_after:
            hold_back(error.retry_after)  # the others that share the queue need not be told one by one
        raise
    if reply.cached:
        charge(tokens=0, money=0)
        return reply
    cost = money(found.place, found.name, reply.usage)
    charge(tokens=reply.usage.input + reply.usage.output, money=cost or 0)
    first = None if told is None or told.first is None else round(told.first - began, 6)
    return msgspec.structs.replace(reply, money=cost, seconds=round(time.perf_counter() - began, 6), first=first)


async def _kept(spec: str, found: Where, request: Request, told: channel.Channel | None) -> Reply:
    """The reply that was kept of an equal request, or a new one, which is kept."""
    replies = Replies()
    key = key_of(spec, request)
    kept = await asyncio.to_thread(replies.get, key)
    if kept is not None:
        if told is not None:
            told.finish(kept)
        return msgspec.structs.replace(kept, cached=True, seconds=0.0, money=0.0)
    reply = await _reply(found, request, told)
    if reply.finish in ("stop", "tool_call"):
        await asyncio.to_thread(replies.put, key, reply)
    return reply


async def _reply(found: Where, request: Request, told: channel.Channel | None) -> Reply:
    constrain.check(request)
    messages, mended = repair(request.messages)
    asked = msgspec.structs.replace(request, messages=messages) if mended else request
    match found:
        case Script():
            reply = await scripted.answer(found.name, asked)
            if told is not None:
                told.finish(reply)
        case Local():
            reply = await _local(found, asked, told)
        case Remote():
            if request.deterministic is True:
                raise BadInput(
                    f"{found.resource} can't promise the same tokens every time; ask the embedded engine, leave "
                    "deterministic out, or write deterministic='try'"
                )
            reply = await _remote(found, asked, told)
    if request.deterministic == "try" and not isinstance(found, Local | Script):
        mended = [*mended, _NOT_EXACT]
    return msgspec.structs.replace(reply, lost=(*reply.lost, *mended)) if mended else reply


async def _local(found: Local, request: Request, told: channel.Channel | None) -> Reply:
    """By the embedded engine; where that does not fit the library, by the library's own server."""
    from weft.model.embedded import answered

    try:
        host = await asyncio.to_thread(found.host)
    except EngineUnfit as error:
        if request.deterministic is True:
            raise
        _warn_once(str(error))
        reply = await _served(found, request, told)
        return msgspec.structs.replace(reply, lost=(*reply.lost, _NOT_EXACT)) if request.deterministic else reply
    return await answered(found, host, request, told)


@cache
def _warn_once(why: str) -> None:
    with exempt():  # a log record has a time
        log.warning("the wheel's own server answers instead of the local engine, with fewer features: %s", why)


async def _served(found: Local, request: Request, told: channel.Channel | None) -> Reply:
    """By the wheel's own server, which enforces schemas and nothing else."""
    engine = await asyncio.to_thread(found.server)
    address = await asyncio.to_thread(engine.address)
    server = Server(f"{address.url}/v1", address.key, found.name, request.timeout)
    asked = constrain.constrained(request)
    try:
        reply = await _one(server, Embedded(), asked, None if request.tools else told)
    except ModelUnavailable as error:
        crash = await asyncio.to_thread(engine.crashed)
        if crash is not None:
            raise crash from error
        raise
    reply = msgspec.structs.replace(constrain.unconstrained(request, reply), model=Path(found.name).name)
    if request.tools and told is not None:
        told.finish(reply)
    return reply


async def _remote(found: Remote, request: Request, told: channel.Channel | None) -> Reply:
    """By a server. One that does not keep to the choice among tools is asked once more, under a schema."""
    server = Server(found.base(), found.key(), found.name, request.timeout)
    spoken = found.dialect
    choosing = bool(request.tools) and request.tool_choice != "auto"
    reply = await _one(server, spoken, request, None if choosing else told)
    if choosing and not constrain.kept(request, reply):
        second = await _one(server, spoken, constrain.constrained(request), None)
        second = constrain.unconstrained(request, second)
        if not constrain.kept(request, second):
            raise AnswerMisfit(
                f"{found.name} did not call {_wanted(request)}, even when its answer had to fit a schema of it; "
                "its server ignores both: use another, or tool_choice='auto'"
            )
        reply = msgspec.structs.replace(second, usage=reply.usage + second.usage)
    if choosing and told is not None:
        told.finish(reply)
    return reply


def _wanted(request: Request) -> str:
    choice = request.tool_choice
    return {"required": "a tool", "none": "no tool"}.get(choice, f"the tool {choice!r}")


async def _one(server: Server, spoken: Dialect, request: Request, told: channel.Channel | None) -> Reply:
    """One exchange with a server."""
    call = spoken.call(server.model, request, stream=told is not None)
    if told is None:
        reply = spoken.reply(await exchange(server, spoken, call), request)
    else:
        reply = await _streamed(server, spoken, call, request, told)
    if not reply.model:
        reply = msgspec.structs.replace(reply, model=server.model)
    return msgspec.structs.replace(reply, lost=(*call.lost, *reply.lost)) if call.lost else reply


async def _streamed(server: Server, spoken: Dialect, call: Call, request: Request, told: channel.Channel) -> Reply:
    decoder = spoken.decoder(request)
    async with aclosing(frames(server, spoken, call)) as each:
        async for frame in each:
            await told.offer([*decoder.feed(frame)])
    reply = decoder.end()
    told.finish(reply)
    return reply
