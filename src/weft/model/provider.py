"""Ask a model: `await model.chat("...")`, under a JSON schema if wanted, many at once.

    model = weft.model.local("smollm2-135m", slots=4)            # the embedded engine
    model = weft.model.open("http://localhost:8000/v1", "name")   # any OpenAI-compatible server
    reply = await model.chat("Is this a fix? ...", schema=Literal["yes", "no"])

Both kinds are reached by one HTTP client in one dialect. Every generation is the step `generate`, so inside a workflow
it is journaled and a replay never generates again. It takes the model's *spec*, a string, and plain data; what a
process shares (the engine, the key) is found when it runs and never journaled.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlencode

import msgspec

from weft.core.crossing import authorised
from weft.core.declare import primitive
from weft.core.errors import (
    BadInput,
    MissingExtra,
    ModelError,
    ModelTimeout,
    ModelUnavailable,
    PromptTooLong,
)
from weft.core.pattern import url_resource
from weft.core.queue import Queue
from weft.model.answer import Shape, parse, schema_of
from weft.model.catalogue import DEFAULT, find
from weft.model.engine import Address, Engine, shared_engine
from weft.model.fetch import fetch
from weft.runtime.effects import charge

SLOTS = 4
CONTEXT = 2048
ANSWER = 4096
"""Tokens that are reserved for the answer of a hosted model if no `max_tokens` is given."""
_LOCAL_TOP, _HOSTED_TOP = 200, 20
"""How many likely tokens are asked for, to find the labels' among them."""
_UNLIKELY = -30.0
_FRAME = ' \n":{'


class Message(msgspec.Struct, frozen=True):
    """One turn of a conversation; `role` is "system", "user" or "assistant"."""

    role: str
    content: str


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """All that decides a generation."""

    messages: list[Message]
    schema: dict[str, Any] | None = None
    max_tokens: int | None = None
    temperature: float = 0.0
    seed: int = 0
    timeout: float = 600.0
    score: list[str] = []
    """Labels whose log-probabilities are wanted."""


class Reply(msgspec.Struct, frozen=True, kw_only=True):
    """An answer: its text, the value parsed from it if a schema was given, and what it took."""

    text: str
    data: Any = None
    input_tokens: int = 0
    output_tokens: int = 0
    seconds: float = 0.0
    finish: str = "stop"
    scores: dict[str, float] = {}
    """The log-probability of each label asked for in `Request.score`, as far as its first token tells."""


class Model:
    """A model by its spec: `NAME[?slots=N&context=N]` or a `.gguf` path (local), `openai:NAME`, `http://HOST/v1#NAME`."""

    def __init__(self, spec: str) -> None:
        self.spec = spec
        self._where = _where(spec)
        slots = self._where.slots if isinstance(self._where, _Local) else None
        queue = None if slots is None else Queue(f"model:{spec}", concurrency=slots)
        self._generate = generate.options(queue=queue)

    @property
    def embedded(self) -> bool:
        """Whether it runs in this machine's own engine, which always tells likelihoods."""
        return isinstance(self._where, _Local)

    async def chat(
        self,
        messages: str | Sequence[Message | dict[str, str]],
        *,
        system: str | None = None,
        schema: Shape | None = None,
        max_tokens: int | None = None,
        temperature: float = 0.0,
        seed: int = 0,
        timeout: float = 600.0,  # noqa: ASYNC109 (it travels with the request)
        score: Sequence[str] = (),
    ) -> Reply:
        """One answer. `messages` is the user's text, or turns; `schema` (a type or a JSON schema) is enforced, and
        `.data` holds the value; `timeout` in seconds. `score` names labels whose likelihoods are wanted as well.

        Raises PromptTooLong, ModelTimeout, ModelCrashed (the next call starts the engine again), ModelUnavailable,
        and ModelError for other refusals and for answers that do not fit the schema.
        """
        request = Request(
            messages=_turns(messages, system),
            schema=None if schema is None else schema_of(schema),
            max_tokens=max_tokens,
            temperature=temperature,
            seed=seed,
            timeout=timeout,
            score=list(score),
        )
        reply = await self._generate(self.spec, request)
        if schema is None:
            return reply
        return msgspec.structs.replace(reply, data=parse(reply.text, schema, self.spec, reply.finish))

    async def classify(
        self,
        text: str,
        labels: Sequence[str],
        *,
        system: str | None = None,
        examples: Sequence[tuple[str, str]] = (),
        timeout: float = 600.0,  # noqa: ASYNC109
    ) -> str:
        """The one of `labels` that fits `text`, after `examples` of (text, label). For many texts with the same
        labels make one `weft.model.Classifier`."""
        from weft.model.classify import Classifier

        return await Classifier(self, labels, system=system, examples=examples, timeout=timeout)(text)

    def __repr__(self) -> str:
        return f"<model {self.spec}>"


def local(name: str = DEFAULT, *, slots: int = SLOTS, context: int = CONTEXT) -> Model:
    """A model of the catalogue (or a `.gguf` file) in the embedded engine: `slots` generations at once, of at most
    `context` tokens each, prompt included. Nothing is fetched or started before the first generation."""
    changed = {k: v for k, v, usual in (("slots", slots, SLOTS), ("context", context, CONTEXT)) if v != usual}
    return Model(f"{name}?{urlencode(changed)}" if changed else name)


def open_model(url: str, name: str) -> Model:
    """A model on an OpenAI-compatible server, such as `http://localhost:8000/v1`; its key is `$OPENAI_API_KEY`."""
    return Model(f"{url}#{name}")


def _needs(spec: str, request: Request) -> Iterator[tuple[str, str]]:
    where = _where(spec)
    yield "model.generate", where.resource
    if isinstance(where, _Local) and where.file:
        yield "file.read", where.name


def _cost(spec: str, request: Request) -> dict[str, float]:
    """The most tokens that it may take: those of the answer, and the prompt's (about one for 3 bytes)."""
    where = _where(spec)
    most = where.context if isinstance(where, _Local) else ANSWER
    prompt = sum(len(turn.content.encode()) // 3 + 8 for turn in request.messages)
    return {"tokens": prompt + (request.max_tokens or most)}


@primitive(name="generate", effect="pure", needs=_needs, cost=_cost)
async def generate(spec: str, request: Request) -> Reply:
    """The generation itself: a journaled step, which needs the right to the model: `model:local/NAME` for the embedded
    engine, `model:openai/NAME`, or `model:HOST/NAME`. `Model.chat` calls it; `spec` says which model. Of a budget it
    reserves the tokens that it may take, and takes those that it did."""
    where = _where(spec)
    try:
        if isinstance(where, _Remote):
            reply = await _post(where.address(), where.name, request, None)
        else:
            engine = await asyncio.to_thread(where.engine)
            address = await asyncio.to_thread(engine.address)
            reply = await _post(address, where.name, request, engine)
    except (PromptTooLong, ModelUnavailable):
        charge(tokens=0)  # nothing was generated
        raise
    charge(tokens=reply.input_tokens + reply.output_tokens)
    return reply


class _Local(msgspec.Struct, frozen=True):
    name: str
    slots: int
    context: int

    @property
    def file(self) -> bool:
        """Whether it is a file of the user's, and none of the catalogue."""
        return self.name.endswith(".gguf")

    @property
    def resource(self) -> str:
        return f"local/{Path(self.name).name}"

    def engine(self) -> Engine:
        path = Path(authorised("file.read", self.name)) if self.file else fetch(self.name)
        return shared_engine(self.name, path, self.slots, self.context)


class _Remote(msgspec.Struct, frozen=True):
    url: str
    name: str
    place: str
    """How a capability calls the server: `openai`, or its host, with the port if it is not the usual one."""

    @property
    def resource(self) -> str:
        return f"{self.place}/{self.name}"

    def address(self) -> Address:
        return Address(self.url.rstrip("/").removesuffix("/v1"), os.environ.get("OPENAI_API_KEY", ""))


def _where(spec: str) -> _Local | _Remote:
    if spec.startswith("openai:"):
        base = os.environ.get("OPENAI_BASE_URL", "https://api.openai.com/v1")
        return _Remote(base, spec.removeprefix("openai:"), "openai")
    if spec.startswith(("http://", "https://")):
        url, _, name = spec.partition("#")
        if not name:
            raise BadInput(f"the model {spec!r} names no model on that server; write http://HOST/v1#NAME")
        host = url_resource(url).removesuffix(":443" if url.startswith("https") else ":80")
        return _Remote(url, name, host)
    name, _, settings = spec.partition("?")
    if not name.endswith(".gguf"):
        find(name)
    try:
        numbers = {key: int(value) for key, value in parse_qsl(settings, strict_parsing=bool(settings))}
        if numbers.keys() - {"slots", "context"} or any(number < 1 for number in numbers.values()):
            raise ValueError
    except ValueError:
        raise BadInput(f"the model {spec!r} is not understood; write NAME?slots=N&context=N, both >= 1") from None
    return _Local(name, numbers.get("slots", SLOTS), numbers.get("context", CONTEXT))


def _turns(messages: str | Sequence[Message | dict[str, str]], system: str | None) -> list[Message]:
    if isinstance(messages, str):
        messages = [Message("user", messages)]
    turns = [msgspec.convert(m, Message) if isinstance(m, dict) else m for m in messages]
    if not turns:
        raise BadInput("chat() was given no messages; give a text or at least one turn")
    return turns if system is None else [Message("system", system), *turns]


async def _post(address: Address, name: str, request: Request, engine: Engine | None) -> Reply:
    try:
        import httpx2
    except ImportError as error:
        raise MissingExtra("asking a model needs the extra `local`: pip install 'weft[local]'") from error

    body, wrapped = _body(name, request, remote=engine is None)
    headers = {"Authorization": f"Bearer {address.key}"} if address.key else {}
    limits = httpx2.Timeout(request.timeout, connect=min(30.0, request.timeout))
    began = time.perf_counter()
    try:
        # Nothing on loopback is encrypted; making a TLS context would cost 30 ms.
        async with httpx2.AsyncClient(
            verify=address.url.startswith("https:"), timeout=limits, trust_env=engine is None
        ) as client:
            answer = await client.post(f"{address.url}/v1/chat/completions", json=body, headers=headers)
    except httpx2.TimeoutException as error:
        raise ModelTimeout(
            f"{name} did not answer within {request.timeout:g} s; raise timeout, or lower max_tokens"
        ) from error
    except httpx2.TransportError as error:
        crash = await asyncio.to_thread(engine.crashed) if engine is not None else None
        if crash is not None:
            raise crash from error
        raise ModelUnavailable(
            f"the connection to {name} at {address.url} failed ({error or type(error).__name__}); "
            "check the address and that the server runs"
        ) from error
    if answer.status_code != 200:
        raise _refusal(name, answer.status_code, answer.text)
    return _reply(name, answer.content, request, wrapped, time.perf_counter() - began)


def _body(name: str, request: Request, *, remote: bool) -> tuple[dict[str, Any], bool]:
    """The request in the dialect of chat completions, and whether the schema was put inside an object: hosted APIs
    take only objects at the root."""
    body: dict[str, Any] = {
        "model": name,
        "messages": [{"role": m.role, "content": m.content} for m in request.messages],
        "temperature": request.temperature,
        "seed": request.seed,
    }
    if request.score:
        body |= {"logprobs": True, "top_logprobs": _HOSTED_TOP if remote else _LOCAL_TOP}
    if request.max_tokens is not None:
        body["max_tokens"] = request.max_tokens
    schema = request.schema
    wrapped = remote and schema is not None and schema.get("type") != "object"
    if wrapped:
        schema = {
            "type": "object",
            "properties": {"answer": schema},
            "required": ["answer"],
            "additionalProperties": False,
        }
    if schema is not None:
        body["response_format"] = {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}}
    return body, wrapped


class _Usage(msgspec.Struct):
    prompt_tokens: int = 0
    completion_tokens: int = 0


class _Said(msgspec.Struct):
    content: str | None = None


class _Likely(msgspec.Struct):
    token: str
    logprob: float
    top_logprobs: list[_Likely] = []


class _Likelihoods(msgspec.Struct):
    content: list[_Likely] | None = None


class _Choice(msgspec.Struct):
    message: _Said
    logprobs: _Likelihoods | None = None
    finish_reason: str | None = None


class _Completion(msgspec.Struct):
    choices: list[_Choice]
    usage: _Usage | None = None


def _reply(name: str, content: bytes, request: Request, wrapped: bool, seconds: float) -> Reply:
    try:
        answer = msgspec.json.decode(content, type=_Completion)
        choice = answer.choices[0]
        text = choice.message.content or ""
        finish = choice.finish_reason or "stop"
        if wrapped:
            text = _unwrapped(text)
    except (msgspec.MsgspecError, LookupError, TypeError) as error:
        raise ModelError(
            f"{name} answered something that is not a chat completion ({error}): {content[:80]!r}; "
            "check that the address is an OpenAI-compatible one"
        ) from error
    usage = answer.usage or _Usage()
    return Reply(
        text=text,
        input_tokens=usage.prompt_tokens,
        output_tokens=usage.completion_tokens,
        seconds=round(seconds, 6),
        finish=finish,
        scores=_scores(request.score, choice.logprobs, wrapped) if request.score else {},
    )


def _unwrapped(text: str) -> str:
    """What `text` holds under "answer"; the text itself if it was cut short, which `parse` then tells."""
    try:
        return msgspec.json.encode(msgspec.json.decode(text)["answer"]).decode()
    except (msgspec.DecodeError, LookupError, TypeError):
        return text


def _scores(labels: list[str], likelihoods: _Likelihoods | None, wrapped: bool) -> dict[str, float]:
    """Each label's log-probability at the first token that is more than quotes and blanks (the second, if the first
    is the name of the field the answer was wrapped in)."""
    tokens = likelihoods.content if likelihoods and likelihoods.content else []
    words = [token for token in tokens if token.token.strip(_FRAME)][wrapped:]
    scores = dict.fromkeys(labels, _UNLIKELY)
    for likely in words[0].top_logprobs if words else []:
        start = likely.token.strip(_FRAME)
        for label in labels if len(start) > 1 else []:
            if label.startswith(start):
                scores[label] = max(scores[label], likely.logprob)
    return scores


def _refusal(name: str, status: int, text: str) -> ModelError:
    try:
        detail = msgspec.json.decode(text)["error"]
        message, kind = str(detail.get("message")), f"{detail.get('type')} {detail.get('code')}"
    except (msgspec.DecodeError, LookupError, TypeError, AttributeError):
        detail, message, kind = {}, text[:200], ""
    if "context" in kind:
        asked, room = detail.get("n_prompt_tokens"), detail.get("n_ctx")
        counts = f"has {asked} tokens, and its context holds {room}" if asked and room else f"is too long ({message})"
        return PromptTooLong(f"the prompt for {name} {counts}; shorten it or open the model with a larger context")
    if status in (401, 403):
        return ModelError(f"{name} refused the key (HTTP {status}: {message[:200]}); set OPENAI_API_KEY")
    if status == 404:
        return ModelError(f"no model {name} at this address (HTTP 404: {message[:200]}); check its name")
    if status == 429 or status >= 500:
        return ModelUnavailable(f"{name} cannot answer now (HTTP {status}: {message[:300]}); try again later")
    return ModelError(
        f"{name} refused the request (HTTP {status}: {message[:300]}); correct the messages or the schema"
    )
