"""Ask a model: `await model.chat("...")`, with tools, under a schema, streamed, many at once.

    model = weft.model.local("smollm2-135m", slots=4)             # the embedded engine
    model = weft.model.Model("anthropic:claude-sonnet-5")          # a provider, with $ANTHROPIC_API_KEY
    model = weft.model.open("http://localhost:8000/v1", "name")    # any OpenAI-compatible server
    reply = await model.chat("Is this a fix? ...", schema=Literal["yes", "no"])

Whoever answers, requests and replies are the same. Every generation is the effect `generate`, so inside a workflow it
is journaled and a replay never generates again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable
from urllib.parse import urlencode

import msgspec

from weft.core.content import ToolSpec
from weft.core.errors import AnswerMisfit, BadInput, ModelError
from weft.core.queue import Queue
from weft.core.retry import Retry
from weft.core.step import Step
from weft.model import scripted
from weft.model.answer import Shape, parse, schema_of
from weft.model.catalogue import DEFAULT
from weft.model.engine.protocol import Sampling
from weft.model.engine.subtasks import Limits, Solved, Tool
from weft.model.engine.threads import Woven
from weft.model.generate import RETRY, generate
from weft.model.message import Message, Parts, conversation
from weft.model.request import Reply, Request
from weft.model.spec import CONTEXT, SLOTS, Local, where
from weft.model.stream import Stream

if TYPE_CHECKING:
    from weft.model.streams import Column, Grid


@runtime_checkable
class HasSpec(Protocol):
    """A tool: what says how a model is to see it."""

    @property
    def spec(self) -> ToolSpec: ...


@runtime_checkable
class HasSpecs(Protocol):
    """Several tools."""

    @property
    def specs(self) -> Sequence[ToolSpec]: ...


Tools = Iterable[ToolSpec | HasSpec] | HasSpecs


class Asked:
    """What any model may be asked, of one provider or of several: `chat`, `stream`, `classify`. Whoever derives from it
    says how a request is answered."""

    spec: str

    async def ask(self, request: Request, stream: str = "") -> Reply:
        """The reply to a request; its events go to the channel `stream`."""
        raise NotImplementedError

    @property
    def embedded(self) -> bool:
        """Whether it runs in this machine's own engine, which always tells likelihoods."""
        return False

    async def chat(
        self,
        messages: Parts | Sequence[Message | dict[str, Any]],
        *,
        system: str | None = None,
        schema: Shape | None = None,
        tools: Tools = (),
        mends: int = 1,
        **settings: Any,
    ) -> Reply:
        """One answer. `messages` is the user's text, or turns; `system` goes before them.

        `schema` (a type or a JSON schema) is enforced, and `.data` holds the value; an answer that does not fit goes
        back to the model with what is wrong, up to `mends` times. `tools` may be called: `.calls` holds the calls,
        nothing is carried out. The other settings are those of `weft.model.Request`: `tool_choice`, `parallel`,
        `max_tokens`, `temperature`, `top_p`, `top_k`, `stop`, `seed`, `effort`, `deterministic`, `logprobs`,
        `score`, `timeout` (in seconds), `cached`, `extra`.

        Raises PromptTooLong, ModelTimeout, ModelBusy, ModelCrashed (the next call starts the engine again),
        ModelUnavailable, KeyRefused, UnknownModel, AnswerMisfit for answers that do not fit, and ModelError for other
        refusals.
        """
        request = request_of(messages, system=system, schema=schema, tools=tools, **settings)
        while True:
            reply = await self.ask(request)
            try:
                return self._with_data(reply, schema)
            except AnswerMisfit as misfit:
                if mends < 1 or reply.finish == "length":
                    raise
                mends -= 1
                again = [*request.messages, reply.message, Message("user", _mend(misfit))]
                request = msgspec.structs.replace(request, messages=again)

    def stream(
        self,
        messages: Parts | Sequence[Message | dict[str, Any]],
        *,
        system: str | None = None,
        schema: Shape | None = None,
        tools: Tools = (),
        **settings: Any,
    ) -> Stream:
        """The same, event by event: ``async with model.stream(...) as stream: async for event in stream: ...``. The
        last event, `Finished`, holds the reply. After a crash or a lost connection it begins anew, and says so
        (`Restarted`); if a tool call had been read by then, it ends instead, with `finish="interrupted"`, for nobody
        knows whether the model would call it again."""
        request = request_of(messages, system=system, schema=schema, tools=tools, **settings)
        return Stream(lambda key: self.ask(request, key), lambda reply: self._with_data(reply, schema))

    async def batch(
        self,
        many: Sequence[Parts | Sequence[Message | dict[str, Any]]],
        *,
        system: str | None = None,
        schema: Shape | None = None,
        tools: Tools = (),
        **settings: Any,
    ) -> list[Reply | ModelError]:
        """One answer, or the error in its place, to each of many. Where the provider has a batch API it answers at its
        leisure (within a day) for half the price; else they are asked beside each other."""
        shared: dict[str, Any] = {"system": system, "schema": schema, "tools": tools, **settings}
        requests = [request_of(messages, **shared) for messages in many]
        return [self._shaped(reply, schema) for reply in await self.ask_all(requests)] if requests else []

    async def ask_all(self, requests: Sequence[Request]) -> list[Reply | ModelError]:
        """The reply to each request, or the error in its place."""
        replies = await asyncio.gather(*map(self.ask, requests), return_exceptions=True)
        for reply in replies:
            if isinstance(reply, BaseException) and not isinstance(reply, ModelError):
                raise reply
        return replies  # type: ignore[return-value]

    def _shaped(self, reply: Reply | ModelError, schema: Shape | None) -> Reply | ModelError:
        try:
            return reply if isinstance(reply, ModelError) else self._with_data(reply, schema)
        except AnswerMisfit as misfit:
            return misfit

    def _with_data(self, reply: Reply, schema: Shape | None) -> Reply:
        if schema is None or reply.calls or reply.refusal:
            return reply
        return msgspec.structs.replace(reply, data=parse(reply.text, schema, self.spec, reply.finish))

    async def classify(
        self,
        text: str,
        labels: Sequence[str],
        *,
        system: str | None = None,
        examples: Sequence[tuple[str, str]] = (),
        timeout: float = 600.0,  # noqa: ASYNC109 (it travels with the request)
    ) -> str:
        """The one of `labels` that fits `text`, after `examples` of (text, label). For many texts with the same
        labels make one `weft.model.Classifier`."""
        from weft.model.classify import Classifier

        return await Classifier(self, labels, system=system, examples=examples, timeout=timeout)(text)

    def __repr__(self) -> str:
        return f"<model {self.spec}>"


class Model(Asked):
    """A model by its spec: `NAME[?slots=N&context=N]` or a `.gguf` path (local), `PROVIDER:NAME`, `http://HOST/v1#NAME`.

    `queue` limits how often it is asked, by all processes that share a store; `retries` says how often a generation
    of a workflow is tried (three times if nothing is said, and as late as the provider asks)."""

    def __init__(self, spec: str, *, queue: Queue | None = None, retries: Retry | int | None = RETRY) -> None:
        self.spec = spec
        self._where = where(spec)
        if queue is None and isinstance(self._where, Local):
            queue = Queue(f"model:{spec}", concurrency=self._where.slots)
        self._options: dict[str, Any] = {"queue": queue, "retries": retries}
        self._generate: Step[..., Reply] = generate.options(**self._options)

    @property
    def embedded(self) -> bool:
        return isinstance(self._where, Local)

    async def ask(self, request: Request, stream: str = "") -> Reply:
        if stream:
            return await self._generate(self.spec, request, stream)
        return await self._generate(self.spec, request)

    async def threads(
        self,
        prefix: str,
        outlines: Sequence[str] = (),
        *,
        stop: str | Sequence[str] = (),
        max_tokens: int = 256,
        temperature: float = 0.0,
        top_p: float = 1.0,
        top_k: int = 0,
        seed: int = 0,
        timeout: float = 600.0,  # noqa: ASYNC109 (it travels with the request)
    ) -> Woven:
        """Go on from `prefix`, a text as it is (no chat template is put around it), in several places at once.

        With `outlines`, a thread goes on from the prefix and each of them, until one of `stop` or for `max_tokens`;
        they don't see each other, and are joined in this order. Without, the model outlines the threads itself, which
        it must have been trained for (ThreadWeaver), and writes `max_tokens` in all. The embedded engine computes the
        prefix once; of other servers only OpenAI-style ones with completions will do.

        Raises BadInput, OutOfCells when all of it does not fit the engine, and what `chat` raises."""
        from weft.model.threads import asked_of, written

        asked = asked_of(stop, max_tokens, temperature, top_p, top_k, seed, timeout)
        return await written(self.spec, prefix, tuple(outlines), asked, **self._options)

    def streams(self, columns: Sequence[Column], prefix: str = "") -> Grid:
        """Several streams after a common `prefix`, of which the model reads some and writes others at the same time, a
        token of each in a row: ``async with model.streams([Column("user", "User:"), Column("answer", "Answer:",
        writes=True)]) as grid``. See `weft.model.streams`; only the embedded engine has them. Raises BadInput."""
        from weft.model.streams import Grid, look, opened_of

        if not self.embedded:
            raise BadInput(f"the model {self.spec!r} is none of the embedded engine, and no other has streams")
        return Grid(self.spec, opened_of(columns, prefix), look.options(**self._options))

    async def subtasks(
        self,
        prompt: str,
        tools: Sequence[Tool] = (),
        *,
        limits: Limits | None = None,
        stack: int = 2,
        room: int | None = None,
        temperature: float = 0.0,
        seed: int = 0,
    ) -> Solved:
        """Reason after `prompt` (as it is: no chat template) as a tree of subtasks in one JSON text, with tool calls in
        its middle; finished subtasks are dropped from the cells, so the text may be many times longer than what fits.
        Tools are called by the workflow, so they are journaled. `stack`: how many finished lists stay in the cells;
        `room`: the most cells. See `weft.model.engine.subtasks`; only the embedded engine can. Raises BadInput,
        OutOfCells."""
        from weft.model.subtasks import Asked, solved

        if not self.embedded:
            raise BadInput(f"the model {self.spec!r} is none of the embedded engine, and no other has subtasks")
        asked = Asked(prompt, limits or Limits(), stack, room, Sampling(temperature, seed=seed))
        return await solved(self.spec, asked, tools, **self._options)

    async def ask_all(self, requests: Sequence[Request]) -> list[Reply | ModelError]:
        from weft.model.batch import offered, run_batch

        if not offered(self.spec):
            return await super().ask_all(requests)
        lines = await run_batch(self.spec, requests)
        return [line.reply or ModelError(f"{self.spec}: {line.error}") for line in lines]


def local(name: str = DEFAULT, *, slots: int = SLOTS, context: int = CONTEXT) -> Model:
    """A model of the catalogue (or a `.gguf` file) in the embedded engine: `slots` generations at once, of at most
    `context` tokens each, prompt included. Nothing is fetched or started before the first generation."""
    changed = {k: v for k, v, usual in (("slots", slots, SLOTS), ("context", context, CONTEXT)) if v != usual}
    return Model(f"{name}?{urlencode(changed)}" if changed else name)


def open_model(url: str, name: str, *, dialect: str = "openai") -> Model:
    """A model on a server of your own, such as `http://localhost:8000/v1`, that speaks a provider's dialect; its key is
    that provider's (`$OPENAI_API_KEY`)."""
    return Model(f"{url}#{name}" if dialect == "openai" else f"{dialect}+{url}#{name}")


def script(replies: scripted.Script, *, name: str = "test") -> Model:
    """A model whose replies are fixed: a list of them, or a function of the request. For tests."""
    scripted.register(name, replies)
    return Model(f"script:{name}")


_SETTINGS = frozenset(Request.__struct_fields__) - {"messages", "schema", "tools"}


def request_of(
    messages: Parts | Sequence[Message | dict[str, Any]],
    *,
    system: str | None = None,
    schema: Shape | None = None,
    tools: Tools = (),
    **settings: Any,
) -> Request:
    """The request that `chat` makes of what it is given. Raises BadInput."""
    unknown = settings.keys() - _SETTINGS
    if unknown:
        raise BadInput(f"a generation has no setting {sorted(unknown)[0]!r}; it has {', '.join(sorted(_SETTINGS))}")
    for name in ("stop", "score"):
        if name in settings:
            settings[name] = [settings[name]] if isinstance(settings[name], str) else [*settings[name]]
    request = Request(
        messages=conversation(messages, system),
        schema=None if schema is None else schema_of(schema),
        tools=specs_of(tools),
        **settings,
    )
    try:
        return msgspec.convert(msgspec.structs.asdict(request), Request)
    except msgspec.ValidationError as error:
        raise BadInput(f"a setting of the generation does not fit: {error}") from None


def specs_of(tools: Tools) -> list[ToolSpec]:
    """How a model is to see these tools."""
    if isinstance(tools, HasSpecs):
        return [*tools.specs]
    found = []
    for tool in tools:
        if isinstance(tool, ToolSpec):
            found.append(tool)
        elif isinstance(tool, HasSpec):
            found.append(tool.spec)
        else:
            raise BadInput(f"{tool!r} is no tool; mark the function with @weft.tool.tool")
    return found


def _mend(misfit: AnswerMisfit) -> str:
    return f"That does not fit what was asked for: {misfit}. Answer again, so that it fits."
