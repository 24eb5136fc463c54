"""Threads inside one generation, of any model: `await model.threads(prefix, outlines)`.

The embedded engine forks one sequence, all in one effect (`threads`). A server is asked for completions, one effect
(`complete`) for each thread, at the same time; that the prefix is computed once there is up to its cache. The method
is in `weft.model.engine.threads`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from weft.core.errors import BadInput, EngineUnfit, ModelError, ModelUnavailable
from weft.core.step import primitive
from weft.model.client import Server, exchange
from weft.model.dialect import Call, Dialect
from weft.model.dialect.chat import Embedded
from weft.model.engine.local import LocalEngine
from weft.model.engine.opening import shared_engine
from weft.model.engine.protocol import Sampling
from weft.model.engine.threads import (
    OUTLINES,
    OUTLINES_END,
    THREAD_END,
    EngineHand,
    Finish,
    Woven,
    Written,
    spread,
    weave,
)
from weft.model.price import money
from weft.model.request import Usage
from weft.model.spec import Local, Remote, where
from weft.runtime.effects import charge
from weft.runtime.guard import exempt

log = logging.getLogger("weft.model")
_SEQUENCES = 32


class Asked(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How threads, and completions, are to be written."""

    stops: tuple[str, ...] = ()
    most: int = 256
    """Tokens at most: of each thread if there are outlines, else of the whole."""
    sampling: Sampling = Sampling()
    timeout: float = 600.0


def asked_of(
    stop: str | Sequence[str], most: int, temperature: float, top_p: float, top_k: int, seed: int, timeout: float
) -> Asked:
    """The settings, if they make sense. Raises BadInput."""
    stops = (stop,) if isinstance(stop, str) else tuple(stop)
    if most < 1 or not all(stops):
        raise BadInput("threads have max_tokens from 1 on, and no empty stop")
    if not (temperature >= 0 and 0 < top_p <= 1 and top_k >= 0):
        raise BadInput("threads are drawn with a temperature from 0 on, top_p above 0 and up to 1, top_k from 0 on")
    return Asked(stops=stops, most=most, sampling=Sampling(temperature, top_k, top_p, seed), timeout=timeout)


def _needs(spec: str, **_: object) -> Iterator[tuple[str, str]]:
    found = where(spec)
    yield "model.generate", found.resource
    if isinstance(found, Local) and found.file:
        yield "file.read", found.name


def _cost(spec: str, prompt: str, asked: Asked, heads: tuple[str, ...] = ()) -> dict[str, float]:
    """The most tokens that it may take (about one for 3 bytes of the prompt), and their money where it is known."""
    usage = Usage(input=len(prompt.encode()) // 3 + 8, output=asked.most * max(1, len(heads)))
    found = where(spec)
    price = money(found.place, getattr(found, "name", ""), usage)
    return {"tokens": usage.input + usage.output} | ({"money": price} if price else {})


async def engine_of(found: Local) -> LocalEngine:
    """The engine for what drives sequences itself: threads, streams, subtasks. Raises EngineUnfit, ModelUnavailable."""
    try:
        path = await asyncio.to_thread(found.path)
        cells = found.context * found.slots
        return await shared_engine(path, name=found.name, cells=cells, sequences=_SEQUENCES)
    except (ModelUnavailable, EngineUnfit):
        charge(tokens=0, money=0)
        raise


@primitive(name="threads", role="generation", effect="pure", needs=_needs, cost=_cost)
async def threads(spec: str, prompt: str, asked: Asked, heads: tuple[str, ...] = ()) -> Woven:
    """Threads by the embedded engine: a journaled step. `Model.threads` calls it. Without `heads`, the model outlines
    what it writes at the same time. Raises EngineUnfit, OutOfCells, ModelCrashed."""
    found = where(spec)
    if not isinstance(found, Local):
        raise BadInput(f"the model {spec!r} is none of the embedded engine")
    engine = await engine_of(found)
    begin = [] if engine.hello.begin is None else [engine.hello.begin]
    tokens = begin + await engine.tokenize(prompt, special=True)
    sequence = await engine.sequence("threads")
    try:
        hand = EngineHand(engine, sequence, tokens, asked.sampling)
        woven = await (spread(hand, heads, asked.stops, asked.most) if heads else weave(hand, asked.most))
    finally:
        await sequence.close()
    charge(tokens=len(tokens) + woven.count, money=0)
    return woven


@primitive(name="complete", role="generation", effect="pure", needs=_needs, cost=_cost)
async def complete(spec: str, prompt: str, asked: Asked) -> Written:
    """A text goes on, at a server's completions: a journaled step. Special tokens in the prompt mean what they name.
    Raises BadInput for a dialect that has no completions, and what a generation raises."""
    found = where(spec)
    match found:
        case Local():
            address = await asyncio.to_thread(lambda: found.server().address())
            server = Server(f"{address.url}/v1", address.key, found.name, asked.timeout)
            spoken: Dialect = Embedded()
        case Remote(speaks="openai"):
            server = Server(found.base(), found.key(), found.name, asked.timeout)
            spoken = found.dialect
        case _:
            raise BadInput(f"{spec!r} has no completions; threads need the embedded engine or an OpenAI-style server")
    try:
        answer = await exchange(server, spoken, Call("/completions", _body(found.name, prompt, asked)))
    except ModelUnavailable:
        charge(tokens=0, money=0)
        raise
    written, usage = _read(found.name, answer, asked)
    charge(tokens=usage.input + usage.output, money=money(found.place, found.name, usage) or 0)
    return written


def _body(model: str, prompt: str, asked: Asked) -> dict[str, Any]:
    sampling = asked.sampling
    body: dict[str, Any] = {"model": model, "prompt": prompt, "max_tokens": asked.most, "seed": sampling.seed}
    body["temperature"] = sampling.temperature
    if sampling.top_p < 1:
        body["top_p"] = sampling.top_p
    if sampling.top_k:
        body["top_k"] = sampling.top_k
    if asked.stops:
        body["stop"] = list(asked.stops)
    return body


class _Choice(msgspec.Struct):
    text: str
    finish_reason: str | None = None
    stop_reason: str | int | None = None
    """The stop that it came to, where a server says so."""


class _Counts(msgspec.Struct, frozen=True):
    prompt_tokens: int = 0
    completion_tokens: int = 0


class _Answer(msgspec.Struct):
    choices: list[_Choice]
    usage: _Counts = _Counts()


def _read(model: str, answer: Any, asked: Asked) -> tuple[Written, Usage]:
    """What was written, and what it took."""
    try:
        read = msgspec.convert(answer, _Answer)
        choice = read.choices[0]
    except (msgspec.ValidationError, IndexError) as error:
        raise ModelError(f"{model} answered something that is no completion ({error}); is its address right?") from None
    count = read.usage.completion_tokens or len(choice.text.encode()) // 3 + 1
    usage = Usage(input=read.usage.prompt_tokens, output=count)
    if choice.finish_reason == "length":
        return Written(choice.text, count, "length"), usage
    text, finish = _stopped(choice, asked.stops)
    return Written(text, count, finish), usage


def _stopped(choice: _Choice, stops: Sequence[str]) -> tuple[str, Finish]:
    """The text with its stop. Most servers cut that off, and few say whether they came to it or the model ended by
    itself. The marks of the format are put back where they must have been."""
    text = choice.text
    if any(text.endswith(stop) for stop in stops):
        return text, "stop"
    if choice.stop_reason in stops:
        return f"{text}{choice.stop_reason}", "stop"
    opened = text.rfind(OUTLINES) > text.rfind(OUTLINES_END)
    for stop, came in ((OUTLINES_END, opened), (THREAD_END, True)):
        if stop in stops and came:
            return text + stop, "stop"
    return text, "end"


class CompletionHand:
    """Writes by completions: the text is kept here, and sent whole each time."""

    def __init__(self, spec: str, prefix: str, asked: Asked, ask: Any = complete) -> None:
        self.text = prefix
        self._spec = spec
        self._asked = asked
        self._ask = ask

    async def go_on(self, stop: str, most: int) -> Written:
        if most <= 0:
            return Written("", 0, "length")
        asked = msgspec.structs.replace(self._asked, stops=(stop,), most=most)
        written: Written = await self._ask(self._spec, self.text, asked)
        self.text += written.text
        return written

    async def fork(self, heads: Sequence[str], stops: Sequence[str], most: int) -> list[Written]:
        asked = msgspec.structs.replace(self._asked, stops=tuple(stops), most=most)
        return list(await asyncio.gather(*[self._ask(self._spec, self.text + head, asked) for head in heads]))

    async def join(self, heads: Sequence[str], parts: Sequence[Written], tail: str) -> str:
        joined = "".join(head + part.text for head, part in zip(heads, parts, strict=True)) + tail
        self.text += joined
        return joined


async def written(spec: str, prefix: str, heads: tuple[str, ...], asked: Asked, **options: Any) -> Woven:
    """The threads, by whatever the model has: the engine, or completions. `options`: of the steps (queue, retries)."""
    if isinstance(where(spec), Local):
        try:
            return await threads.options(**options)(spec, prefix, asked, heads)
        except EngineUnfit as error:
            with exempt():  # a log record has a time
                log.warning("threads are written by separate requests, for the local engine cannot be used: %s", error)
    hand = CompletionHand(spec, prefix, asked, complete.options(**options))
    return await (spread(hand, heads, asked.stops, asked.most) if heads else weave(hand, asked.most))
