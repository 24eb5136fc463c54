"""A generation by the engine of this machine: messages in, a reply out, in one batch with all others of the process.

Schemas are enforced token by token, tools by a schema over the tools (`weft.model.constrain`): every choice among
them is kept. The turns of one conversation of a process are a *program*: what it said stays in cells, the longer the
likelier the tool that it called is back soon. A `deterministic` request is decoded apart (`weft.model.engine.exact`);
inside a process what is final of it is kept as it grows, so after a crash it goes on where it was.
"""

from __future__ import annotations

import asyncio
import hashlib
from contextlib import aclosing
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from weft.core.content import Blob, File, Uri
from weft.core.crossing import crossing
from weft.core.errors import BadInput, ModelTimeout, PromptTooLong
from weft.model import constrain
from weft.model.channel import Channel
from weft.model.dialect.likelihood import scored
from weft.model.engine import kept
from weft.model.engine.asked import Ask
from weft.model.engine.grammar import Grammar, for_answers
from weft.model.engine.host import Host
from weft.model.engine.prompt import prompted
from weft.model.engine.protocol import Sampling
from weft.model.engine.resumed import place_of, resumed
from weft.model.engine.sample import check_sampling
from weft.model.message import Message
from weft.model.request import Finish, Reply, Request
from weft.model.spec import Local
from weft.model.writing import Tell, Writing

SCORED = 200
"""How many likely tokens are looked at for the labels that are to be scored."""


class Extra(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What `Request.extra` may hold for the engine."""

    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    program: str = ""
    """Whose turn it is, if it is not that of a conversation of the process that asks."""
    priority: int = 0
    """Larger goes first."""
    last: bool = False
    """The program asks nothing more: keep nothing of it."""


async def answered(found: Local, host: Host, request: Request, told: Channel | None) -> Reply:
    """The reply to a request. Raises BadInput, PromptTooLong, ModelTimeout, ModelCrashed, AnswerMisfit."""
    work = _Work(found, host, request)
    tell: Tell | None = None
    if told is not None and not request.tools:  # a call is told whole: what the model writes is JSON of another form
        loop, put = asyncio.get_running_loop(), told.put
        tell = lambda events: loop.call_soon_threadsafe(put, events)  # noqa: E731
    try:
        async with asyncio.timeout(request.timeout) as clock:
            reply = await host.run(work.reply(tell))
    except TimeoutError as error:
        if not clock.expired():
            raise
        late = f"{found.name} did not answer within {request.timeout:g} s; raise timeout, or lower max_tokens"
        raise ModelTimeout(late) from error
    reply = constrain.unconstrained(request, reply)
    if told is not None:
        told.finish(reply)
    return reply


class _Work:
    """One request. What is wrong with it is found before it is queued."""

    def __init__(self, found: Local, host: Host, request: Request) -> None:
        self.found, self.host, self.request = found, host, request
        self.asked = constrain.constrained(request)
        self.name = Path(found.name).name
        self.messages = [_plain(message, self.name) for message in self.asked.messages]
        self.extra = _extra(request)
        self.sampling = _sampling(request)
        self.likely = SCORED if request.score else request.logprobs or 0
        _check(request, self.extra, self.likely)
        here = crossing()
        self.inside = here is not None
        self.program = self.extra.program
        if here is not None and not self.program:
            self.program = f"{here.run}/{_digest(self.messages[:1])}"
            if host.joins(here.run, self.program):
                here.at_leave(partial(host.leave, here.run))

    # --- in the host's loop -----------------------------------------------------------------------------------------

    async def reply(self, tell: Tell | None) -> Reply:
        engine, asked, more = self.host.engine, self.asked, _thinking(self.asked)
        prompt = await prompted(engine, self.messages, **more)
        room = self.found.context - len(prompt)
        if room < 1:
            raise PromptTooLong(
                f"the prompt for {self.name} has {len(prompt)} tokens, and its context holds {self.found.context}; "
                "shorten it or open the model with a larger context"
            )
        rules = None if asked.schema is None else _rules(self.host, asked.schema)
        most = min(asked.max_tokens or room, room)
        opened = (await engine.detokenize(prompt[-4:])).rstrip().endswith(b"<think>")
        writing = Writing(engine, asked, opened, tell)
        write = self._exactly if asked.deterministic else self._batched
        finish, found = await write(prompt, most, rules, writing)
        reply = scored(writing.end(finish, len(prompt), found), self.request, False)
        lost = [f"the engine does not enforce all of the schema: {each}" for each in rules.ignored] if rules else []
        return msgspec.structs.replace(reply, model=self.name, lost=(*reply.lost, *lost))

    async def _batched(
        self, prompt: list[int], most: int, rules: Grammar | None, writing: Writing
    ) -> tuple[Finish, int]:
        """In the batch. Returns why it ended, and how much of the prompt was in cells."""
        batcher, extra = self.host.batcher, self.extra
        program = self.program if extra.program or not batcher.busy(self.program) else ""
        turn = batcher.generate(
            Ask(
                prompt=prompt, most=most, program=program, sampling=self.sampling, priority=extra.priority,
                last=extra.last, rules=rules, likely=max(self.likely, int(self.request.logprobs is not None)),
                frequency=extra.frequency_penalty, presence=extra.presence_penalty,
                calls=self._called if program else None,
            )
        )  # fmt: skip
        try:
            async for token in turn:
                writing.token(token)
                if writing.stopped:
                    break
        finally:
            turn.cancel()  # of no effect if it is over
        writing.likely(turn.likely, self.likely)
        return "stop" if writing.stopped or turn.finish == "stop" else "length", turn.turn.reused

    async def _exactly(
        self, prompt: list[int], most: int, rules: Grammar | None, writing: Writing
    ) -> tuple[Finish, int]:
        """Apart from the batch, the same whatever that does."""
        exact = await self.host.exactly()
        place = place_of(exact, prompt, most, self.sampling, self.asked.schema) if self.inside else None
        async with (
            self.host.exact_places,
            aclosing(resumed(exact, prompt, most, self.sampling, rules, place)) as tokens,
        ):
            ended = False
            async for token in tokens:
                ended = token in exact.engine.end
                if not ended:
                    writing.token(token)
                if ended or writing.stopped:
                    break
        if place is not None:
            await asyncio.to_thread(kept.drop, place)
        ended = ended or writing.stopped or (rules is not None and rules.ended)
        return "stop" if ended else "length", 0

    def _called(self, tokens: list[int]) -> str:
        """The tool that the program waits for after these tokens; "" if it calls none."""
        try:
            said = msgspec.json.decode(b"".join(map(self.host.engine.piece, tokens)))
        except msgspec.DecodeError:
            return ""
        tool = said.get("tool") if isinstance(said, dict) and self.request.tools else None
        return tool if isinstance(tool, str) else ""


def _check(request: Request, extra: Extra, likely: int) -> None:
    if not 0 <= likely <= SCORED:
        raise BadInput(f"logprobs tells of 0 to {SCORED} tokens at each place, not {likely}")
    if request.max_tokens is not None and request.max_tokens < 1:
        raise BadInput(f"max_tokens is 1 or more, not {request.max_tokens}")
    if not all(request.stop):
        raise BadInput("stop holds an empty text; leave it out")
    if request.deterministic and (likely or request.logprobs is not None or extra != Extra()):
        raise BadInput(
            "a deterministic generation tells no likelihoods and has no penalties, programs and priorities; leave "
            "logprobs, score and extra out"
        )


def _extra(request: Request) -> Extra:
    try:
        return msgspec.convert(request.extra, Extra)
    except msgspec.ValidationError as error:
        known = ", ".join(Extra.__struct_fields__)
        raise BadInput(f"extra does not fit the embedded engine ({error}); it knows {known}") from None


def _sampling(request: Request) -> Sampling:
    """Nothing is left to chance: without a temperature it is 0, without a seed 0."""
    top_p = 1.0 if request.top_p is None else request.top_p
    temperature = request.temperature or 0.0
    if top_p == 0:
        temperature, top_p = 0.0, 1.0  # only the likeliest
    sampling = Sampling(temperature, request.top_k or 0, top_p, request.seed or 0)
    check_sampling(sampling)
    return sampling


def _thinking(request: Request) -> dict[str, Any]:
    """What a template may want to know of how long to think: under a schema not at all, unless said otherwise."""
    if request.effort is not None:
        return {"enable_thinking": request.effort != "none", "reasoning_effort": request.effort}
    return {"enable_thinking": False} if request.schema is not None else {}


def _rules(host: Host, schema: dict[str, Any]) -> Grammar:
    return Grammar(host.engine, schema=for_answers(schema))


def _plain(message: Message, name: str) -> dict[str, Any]:
    """A message as chat templates know it."""
    media = next((part for part in message.parts if isinstance(part, Blob | Uri | File)), None)
    if media is not None:
        raise BadInput(f"{name} reads text only, and a message holds a part of another kind: {media.modality}")
    plain: dict[str, Any] = {"role": message.role, "content": message.text}
    if message.reasoning:
        plain["reasoning_content"] = message.reasoning
    return plain | ({"name": message.name} if message.name else {})


def _digest(messages: list[dict[str, Any]]) -> str:
    return hashlib.blake2b(msgspec.msgpack.encode(messages), digest_size=8).hexdigest()
