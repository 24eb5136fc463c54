"""The real client against loopback servers of five providers, over every fault of the wire: the same events whoever
answers, a typed error or the right reply whatever goes wrong, no hanging, and no key in any error."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from email.utils import formatdate
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import weft
from tests.servers.providers import (
    KEY,
    NAMES,
    Broken,
    Call,
    Chopped,
    Comments,
    Crlf,
    Fails,
    Fault,
    Flood,
    Foreign,
    Garbage,
    Joined,
    MidCharacter,
    Providers,
    Refuse,
    Silent,
    SlowHeaders,
    Tokens,
    Turn,
    Unended,
)
from weft.core.errors import KeyRefused, ModelBusy, ModelError, ModelTimeout, ModelUnavailable, UnknownModel
from weft.model import (
    Event,
    Finished,
    Message,
    Model,
    PartDone,
    Reasoning,
    Reply,
    Text,
    ToolCall,
    ToolResult,
    ToolSpec,
    Usage,
    client,
)
from weft.model.cassette import Cassette
from weft.model.channel import events_of
from weft.model.event import coalesce

SECONDS = 20
"""None of these takes longer, or it hangs."""
WEATHER = ToolSpec(
    "weather",
    "What the weather is.",
    {
        "type": "object",
        "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
        "required": ["city", "days"],
        "additionalProperties": False,
    },
)
CALLS = [
    Call("weather", {"city": "Zürich", "days": 2}, id="call_0", pieces=5),
    Call("weather", {"city": "東京 🗼", "days": 1}, id="call_1", pieces=7),
]
ASKS = Turn(
    reasoning=["The user ", "wants wéather", " twice."], text=["I'll ", "löok 🌦", " it up."], calls=CALLS,
    usage=Tokens(input=40, output=25),
)  # fmt: skip
SAYS = Turn(text=["Rain in Zürich", ", sun in 東京."], usage=Tokens(input=90, output=12))
FINAL = "Rain in Zürich, sun in 東京."


@pytest.fixture(autouse=True)
def _keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for provider in ("OPENAI", "ANTHROPIC", "GEMINI", "OLLAMA"):
        monkeypatch.setenv(f"{provider}_API_KEY", KEY)


def model(server: Providers, provider: str, name: str = "m") -> Model:
    return Model(f"{provider}+{server.base(provider)}#{name}")


async def reply_to(model: Model, messages: Any, streamed: bool, **settings: Any) -> tuple[Reply, list[Event]]:
    """The reply, and the events of it: those that came, or those that it would have come in."""
    async with asyncio.timeout(SECONDS):
        if not streamed:
            reply = await model.chat(messages, tools=[WEATHER], **settings)
            return reply, [*events_of(reply)]
        async with model.stream(messages, tools=[WEATHER], **settings) as stream:
            events = [event async for event in stream]
    last = events.pop()
    assert isinstance(last, Finished)
    return last.reply, events


def ask(server: Providers, provider: str, streamed: bool, **settings: Any) -> Reply:
    return asyncio.run(reply_to(model(server, provider), "Weather?", streamed, **settings))[0]


def log(events: Sequence[Event]) -> list[Event]:
    """The events as a consumer sees them who looks once; without the seals and ids that are each provider's own."""
    return [event for event in coalesce(events) if not isinstance(event, PartDone)]


def bare(reply: Reply) -> Reply:
    """The reply without what is each provider's own: ids, seals, how long it took, what it could not be told."""
    parts = tuple(
        Reasoning(content=part.content) if isinstance(part, Reasoning) else part for part in reply.message.parts
    )
    message = Message("assistant", parts)
    return msgspec.structs.replace(reply, message=message, id="", seconds=0.0, first=None, lost=())


# --- one program, one log -------------------------------------------------------------------------------------------


async def program(model: Model, streamed: bool) -> list[Any]:
    """An agent's turns with tools, and all that it saw."""
    messages = [Message("system", "Be brief."), Message("user", "What's the weather in Zürich and 東京?")]
    seen: list[Any] = []
    while True:
        reply, events = await reply_to(model, messages, streamed)
        seen += [*log(events), bare(reply)]
        messages.append(reply.message)
        if not reply.calls:
            return seen
        results = [
            ToolResult.of(call.id, f"{call.name} of {call.arguments}", name=call.name)  # as an agent would
            for call in reply.calls
        ]
        messages.append(Message("tool", results))


def expected() -> list[Any]:
    """What everyone must see, from the script alone."""
    called = [ToolCall(id=call.id, name=call.name, arguments=call.object) for call in CALLS]
    words = (Reasoning(content="".join(ASKS.reasoning)), Text(content="".join(ASKS.text)))
    message = Message("assistant", (*words, *called))
    first = Reply(message=message, finish="tool_call", usage=Usage(input=40, output=25), model="m")
    last = Reply(message=Message("assistant", FINAL), usage=Usage(input=90, output=12), model="m")
    return [*log([*events_of(first)]), first, *log([*events_of(last)]), last]


@pytest.mark.parametrize("streamed", [True, False], ids=["streamed", "whole"])
@pytest.mark.parametrize("provider", NAMES)
def test_one_program_has_one_log_whoever_answers(provider: str, streamed: bool) -> None:
    with Providers(ASKS, SAYS) as server:
        assert asyncio.run(program(model(server, provider), streamed)) == expected()
    assert [got.refused for got in server.requests] == ["", ""]


@pytest.mark.parametrize("provider", NAMES)
def test_calls_in_turns_are_told_apart(provider: str) -> None:
    with Providers(msgspec.structs.replace(ASKS, interleaved=True)) as server:
        reply, events = asyncio.run(reply_to(model(server, provider), "Weather?", True))
    assert [call.arguments for call in reply.calls] == [call.object for call in CALLS]
    told = {event.index: event.call for event in events if isinstance(event, weft.model.Called)}
    assert told == dict(enumerate(reply.calls))


THINKERS = {"openai-responses": "gpt-5", "anthropic": "claude-opus-4-6", "gemini": "gemini-3-pro"}
SEALED = Turn(reasoning=["Hm."], calls=CALLS, signature="EqQBCgIYAhIM1gbcDa9GJwZA2b3h")


@pytest.mark.parametrize("streamed", [True, False], ids=["streamed", "whole"])
@pytest.mark.parametrize("provider", THINKERS)
def test_seals_go_back_as_they_came(provider: str, streamed: bool) -> None:
    """The servers refuse a conversation whose seals are missing or others."""
    sealed = msgspec.structs.replace(SEALED, reasoning=[] if provider == "gemini" else SEALED.reasoning)
    with Providers(sealed, SAYS) as server:
        asyncio.run(program(model(server, provider, THINKERS[provider]), streamed))
    assert [got.refused for got in server.requests] == ["", ""]
    assert SEALED.signature.encode() in server.requests[1].body


@pytest.mark.parametrize("streamed", [True, False], ids=["streamed", "whole"])
@pytest.mark.parametrize("provider", NAMES)
def test_what_it_took_is_counted_one_way(provider: str, streamed: bool) -> None:
    """Whether the provider counts cached and reasoning tokens within the others or beside them."""
    used = Tokens(input=100, output=50, cache_read=30, cache_write=20, reasoning=10)
    with Providers(Turn(text=["Hi"], usage=used)) as server:
        usage = ask(server, provider, streamed).usage
    assert (usage.input, usage.output) == (100, 50)
    assert usage.cache_read == (0 if provider == "ollama" else 30)
    assert usage.cache_write == (20 if provider == "anthropic" else 0)
    assert usage.reasoning == (0 if provider in ("anthropic", "ollama") else 10)


@pytest.mark.parametrize("streamed", [True, False], ids=["streamed", "whole"])
@pytest.mark.parametrize("provider", NAMES)
@pytest.mark.parametrize(
    ("turn", "finish"),
    [
        (Turn(text=["Hi"]), "stop"),
        (Turn(text=["Hi"], finish="length"), "length"),
        (Turn(text=["Hi"], finish="content_filter"), "content_filter"),
        (Turn(calls=CALLS), "tool_call"),
        (Turn(calls=[Call("weather", "", id="x")]), "tool_call"),
        (Turn(refusal=["I can't ", "help."]), None),
    ],
    ids=["stop", "length", "filter", "calls", "no-arguments", "refusal"],
)
def test_every_end_is_told(turn: Turn, finish: str | None, provider: str, streamed: bool) -> None:
    if finish == "content_filter" and provider == "ollama":
        pytest.skip("Ollama has no filter")
    if turn.calls and turn.calls[0].arguments == "" and provider in ("gemini", "ollama"):
        turn = Turn(calls=[Call("weather", {}, id="x")])
    with Providers(turn) as server:
        reply = ask(server, provider, streamed)
    assert finish is None or reply.finish == finish
    if turn.refusal and provider.startswith("openai"):  # the others have no words of their own for it
        assert reply.refusal == "I can't help."
    assert [call.name for call in reply.calls] == [call.name for call in turn.calls]
    if turn.calls and turn.calls[0].arguments in ("", {}):
        assert reply.calls[0].arguments == {}


@pytest.mark.parametrize("streamed", [True, False], ids=["streamed", "whole"])
@pytest.mark.parametrize("provider", NAMES)
def test_a_cassette_plays_the_same_program(provider: str, streamed: bool, tmp_path: Path) -> None:
    with Providers(ASKS, SAYS, faults=[Chopped(7), MidCharacter()]) as server:
        asked = model(server, provider)
        with Cassette(tmp_path / "c.jsonl", "once"):
            asyncio.run(program(asked, streamed))
    with Cassette(tmp_path / "c.jsonl") as cassette:
        assert asyncio.run(program(asked, streamed)) == expected()
    assert cassette.unused == []
    assert KEY not in (tmp_path / "c.jsonl").read_text()


WORDS = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=12)
ARGUMENTS = st.dictionaries(WORDS, st.one_of(WORDS, st.integers(-(2**53), 2**53), st.booleans(), st.none()), max_size=3)
TURNS = st.builds(
    Turn,
    text=st.lists(WORDS, max_size=4),
    calls=st.lists(st.builds(Call, st.just("weather"), ARGUMENTS, pieces=st.integers(1, 9)), max_size=3),
    interleaved=st.booleans(),
)


@pytest.mark.parametrize("provider", NAMES)
def test_any_turn_is_the_same_however_it_comes(provider: str) -> None:
    """Whatever is said, and wherever its bytes are cut: the reply is the script's, streamed or not."""

    @given(
        TURNS,
        st.lists(st.sampled_from([Chopped(1), Chopped(5), MidCharacter(), Crlf(), Comments(), Joined()]), max_size=3),
    )
    @settings(max_examples=15, deadline=None)
    def check(turn: Turn, faults: list[Fault]) -> None:
        server.turns = [turn]
        server.faults.append(tuple(faults))
        for streamed in (True, False):
            reply = ask(server, provider, streamed)
            assert reply.text == "".join(turn.text)
            assert [call.arguments for call in reply.calls] == [call.object for call in turn.calls]

    with Providers() as server:
        check()


# --- faults that must not show --------------------------------------------------------------------------------------

HARMLESS: list[tuple[Fault, ...]] = [
    (Chopped(1),),
    (Chopped(3),),
    (MidCharacter(),),
    (Joined(),),
    (Crlf(),),
    (Comments(),),
    (SlowHeaders(),),
    (Chopped(1), Crlf(), Comments()),
    (MidCharacter(), Crlf()),
    (Joined(), Chopped(1000)),
]


def told(faults: tuple[Fault, ...]) -> str:
    return "+".join(type(fault).__name__ for fault in faults)


@pytest.mark.parametrize("faults", HARMLESS, ids=told)
@pytest.mark.parametrize("provider", NAMES)
def test_how_the_bytes_travel_does_not_show(provider: str, faults: tuple[Fault, ...]) -> None:
    with Providers(ASKS, SAYS, faults=[faults, faults]) as server:
        assert asyncio.run(program(model(server, provider), streamed=True)) == expected()


@pytest.mark.parametrize("provider", NAMES)
def test_a_frame_of_a_megabyte(provider: str) -> None:
    long = "wörd " * 200_000
    with Providers(Turn(text=["Here: ", long, "."])) as server:
        assert ask(server, provider, streamed=True).text == f"Here: {long}."


@pytest.mark.parametrize("provider", ["openai", "anthropic"])
def test_an_end_without_its_last_frame_is_an_end_if_the_reason_was_told(provider: str) -> None:
    with Providers(SAYS, faults=[Unended()]) as server:
        assert ask(server, provider, streamed=True).text == FINAL


# --- faults that are told -------------------------------------------------------------------------------------------

SOON = formatdate((time.time() // 86400 + 2) * 86400, usegmt=True)  # the same text for all workers of pytest-xdist
FAULTS: list[tuple[Fault, type[ModelError]]] = [
    (Refuse(429, retry_after="7"), ModelBusy),
    (Refuse(429, retry_after=SOON), ModelBusy),
    (Refuse(429), ModelBusy),
    (Refuse(529), ModelBusy),
    (Refuse(500), ModelUnavailable),
    (Refuse(502), ModelUnavailable),
    (Refuse(503), ModelUnavailable),
    (Refuse(401), KeyRefused),
    (Refuse(403), KeyRefused),
    (Refuse(404), UnknownModel),
    (Refuse(400), ModelError),
    (Refuse(418), ModelError),
    (Foreign(), ModelError),
    (Foreign("application/json", '"just a text"'), ModelError),
    (Foreign("application/json", "[]"), ModelError),
    (Foreign("application/json", "null"), ModelError),
    (Foreign("application/json", "{}"), ModelError),
    (Foreign("application/json", "\xff\xfe"), ModelError),
    (Foreign("text/event-stream", "data: [1, 2]\n\n"), ModelError),
    (Foreign("application/x-ndjson", "[1, 2]\n"), ModelError),
    (Garbage(), ModelError),
    (Garbage(0), ModelError),
    (Broken(0), ModelUnavailable),
    (Broken(1), ModelUnavailable),
    (Broken(3), ModelUnavailable),
    (Broken(3, reset=True), ModelUnavailable),
]
STREAM_FAULTS: list[tuple[Fault, type[ModelError]]] = [
    (Fails(0), ModelUnavailable),
    (Fails(3), ModelUnavailable),
    (Fails(3, "overloaded"), ModelUnavailable),
    (Fails(3, "limited"), ModelUnavailable),
]


def called(value: Any) -> str | None:
    if isinstance(value, Fault):
        return "-".join(str(each)[:20] for each in (type(value).__name__, *msgspec.structs.astuple(value)))
    return None


@pytest.mark.parametrize("streamed", [True, False], ids=["streamed", "whole"])
@pytest.mark.parametrize("provider", NAMES)
@pytest.mark.parametrize(("fault", "error"), FAULTS, ids=called)
def test_every_fault_has_its_error(fault: Fault, error: type[ModelError], provider: str, streamed: bool) -> None:
    with Providers(ASKS, faults=[fault]) as server, pytest.raises(error) as raised:
        ask(server, provider, streamed)
    discreet(raised.value)
    if isinstance(raised.value, ModelBusy) and isinstance(fault, Refuse) and fault.retry_after:
        wait = raised.value.retry_after
        assert wait == 7 if fault.retry_after == "7" else wait is not None and 0 < wait <= 2 * 86400


@pytest.mark.parametrize("provider", NAMES)
@pytest.mark.parametrize(("fault", "error"), STREAM_FAULTS, ids=called)
def test_an_error_in_mid_stream_has_its_class(fault: Fault, error: type[ModelError], provider: str) -> None:
    with Providers(ASKS, faults=[fault]) as server, pytest.raises(error) as raised:
        ask(server, provider, streamed=True)
    discreet(raised.value)


@pytest.mark.parametrize("provider", ["openai-responses", "gemini", "ollama"])
def test_an_end_that_never_came_is_told(provider: str) -> None:
    with Providers(ASKS, faults=[Unended()]) as server, pytest.raises(ModelUnavailable, match="broke off"):
        ask(server, provider, streamed=True)


@pytest.mark.parametrize("streamed", [True, False], ids=["streamed", "whole"])
@pytest.mark.parametrize("provider", NAMES)
@pytest.mark.parametrize("fault", [Silent(), Silent(0), Silent(2)], ids=called)
def test_silence_ends_at_the_time_limit(fault: Fault, provider: str, streamed: bool) -> None:
    with Providers(ASKS, faults=[fault]) as server, pytest.raises(ModelTimeout) as raised:
        ask(server, provider, streamed, timeout=0.05)
    discreet(raised.value)


@pytest.mark.parametrize("streamed", [True, False], ids=["streamed", "whole"])
@pytest.mark.parametrize("provider", NAMES)
def test_a_flood_is_not_read_to_its_end(provider: str, streamed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "LARGEST", 300_000)
    with Providers(ASKS, faults=[Flood(1 << 40)]) as server, pytest.raises(ModelError) as raised:
        ask(server, provider, streamed)
    assert not isinstance(raised.value, ModelTimeout)


# --- keys -----------------------------------------------------------------------------------------------------------


def discreet(error: BaseException | None) -> None:
    """The key is nowhere in an error, nor in those that led to it."""
    while error is not None:
        assert KEY not in f"{error} {error!r} {error.args}"
        error = error.__cause__ or error.__context__


@pytest.mark.parametrize("provider", NAMES)
@pytest.mark.parametrize(
    "wrong", ["sk-proj-1234567890abcdef", "pass phrase", "p.w$d1!", "ünsafe", "read-from-a-file\n"]
)
def test_a_wrong_key_is_not_said_though_the_provider_says_it(
    provider: str, wrong: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("OPENAI", "ANTHROPIC", "GEMINI", "OLLAMA"):
        monkeypatch.setenv(f"{name}_API_KEY", wrong)
    with Providers() as server, pytest.raises(KeyRefused) as raised:
        ask(server, provider, streamed=False)
    said = f"{raised.value} {raised.value!r} {raised.value.__cause__!r} {raised.value.__context__!r}"
    assert wrong.strip() not in said
    assert f"{provider.partition('-')[0].upper()}_API_KEY" in said


@pytest.mark.parametrize("provider", [name for name in NAMES if name != "ollama"])
def test_no_key_is_told(provider: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI", "ANTHROPIC", "GEMINI"):
        monkeypatch.delenv(f"{name}_API_KEY")
    with Providers() as server, pytest.raises(KeyRefused, match=f"{provider.partition('-')[0].upper()}_API_KEY"):
        ask(server, provider, streamed=True)


@pytest.mark.parametrize("streamed", [True, False], ids=["streamed", "whole"])
@pytest.mark.parametrize("provider", NAMES)
def test_an_unknown_model_is_told_by_name(provider: str, streamed: bool) -> None:
    with Providers(models=["other"]) as server, pytest.raises(UnknownModel, match=r"\bm\b"):
        ask(server, provider, streamed)


# --- in a workflow --------------------------------------------------------------------------------------------------


def test_what_passes_is_tried_again_until_it_is_right(tmp_path: Path) -> None:
    """Over all five at once: a refusal, a broken stream, then the reply; the log has only the last attempt."""

    @weft.workflow
    async def agent(spec: str) -> str:
        reply, events = await reply_to(Model(spec), "Weather?", True)
        assert log(events) == [event for event in expected() if not isinstance(event, Reply)][: len(log(events))]
        return reply.text

    async def main(servers: list[Providers]) -> list[str]:
        async with weft.Runtime(tmp_path / "journal.db") as runtime:
            specs = [model(server, name).spec for server, name in zip(servers, NAMES, strict=True)]
            return [*await asyncio.gather(*(runtime.run(agent, spec) for spec in specs))]

    servers = [Providers(ASKS, faults=[Refuse(503), Broken(2), None]) for _ in NAMES]
    for server in servers:
        server.__enter__()
    try:
        assert asyncio.run(main(servers)) == ["I'll löok 🌦 it up."] * 5
    finally:
        for server in servers:
            server.__exit__()
    assert [len(server.requests) for server in servers] == [3] * 5


def test_a_reader_who_leaves_ends_the_generation() -> None:
    """The provider's line is closed, so it generates no more."""

    async def main(provider: str) -> None:
        async with model(server, provider).stream("Weather?") as stream:
            async for _ in stream:
                break
        async with asyncio.timeout(SECONDS):
            while server.open:
                await asyncio.sleep(0.01)

    with Providers(Turn(text=["x"] * 100_000, pause=0.001)) as server:
        for provider in NAMES:
            asyncio.run(main(provider))
