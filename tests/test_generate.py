"""Generations as effects: streams that survive replay and kill -9, tool choices that hold, retries, several models."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import pytest

import weft
import weft.model
from tests.programs import drive, outcomes
from tests.servers.chat import calling, chat_server, piece, said
from weft.core.errors import (
    AnswerMisfit,
    BadInput,
    KeyRefused,
    ModelBusy,
    ModelError,
    ModelTimeout,
    ModelUnavailable,
)
from weft.core.record import AnyRecord, Outcome
from weft.model import (
    Called,
    Finished,
    Message,
    Model,
    Reply,
    Restarted,
    TextDelta,
    ToolCall,
    ToolResult,
    ToolSpec,
    Usage,
)
from weft.model.channel import Channel
from weft.store import open_store
from weft.trace.reading import read_records

LOOK = ToolSpec("look", "Look at a place.", {"type": "object", "properties": {"at": {"type": "string"}}})
WAIT = ToolSpec(
    "wait",
    "Wait.",
    {
        "type": "object",
        "properties": {"for": {"$ref": "#/$defs/S"}},
        "$defs": {"S": {"type": "integer", "maximum": 60}},
    },
)


@pytest.fixture(scope="module", autouse=True)
def end_engines() -> Iterator[None]:
    yield
    weft.model.close()


def chat(model: weft.model.Asked, *args: Any, **kwargs: Any) -> Reply:
    return asyncio.run(model.chat(*args, **kwargs))


# --- streams ---------------------------------------------------------------------------------------------------------


@weft.step(name="generate.written", effect="pure")
async def written(path: str, line: str) -> None:
    with open(path, "a") as file:  # noqa: ASYNC230, PTH123
        file.write(line + "\n")


@weft.workflow(name="generate.reads")
async def reads(url: str, path: str) -> list[Any]:
    seen: list[Any] = []
    async with weft.model.open(url, "m").stream("Go on.", tools=[LOOK]) as stream:
        async for event in stream:
            seen.append(event)
            match event:
                case TextDelta(text):
                    await written(path, text)
                case Called(call=call):
                    await written(path, f"called {call.name}")
                case Restarted():
                    await written(path, "restarted")
    await written(path, "end")
    return [seen, stream.reply]


def events_of(seen: list[Any]) -> list[str]:
    return [type(event).__name__ for event in seen]


def test_a_stream_in_a_workflow_is_read_once_and_replays_without_a_server(store: str, tmp_path: Path) -> None:
    chunks = [
        piece(content="one "),
        0.05,
        piece(content="two"),
        0.05,
        calling(0, "c", "look", '{"at": "x"}'),
        piece("tool_calls"),
    ]
    log = str(tmp_path / "log")
    with chat_server(lambda body, n: chunks) as server:
        seen, reply = drive(store, lambda runtime: runtime.run(reads.options(id="r1"), server.url, log))
    assert len(server.requests) == 1 and server.requests[0]["stream"] is True
    assert events_of(seen) == ["TextDelta", "TextDelta", "CallStarted", "CallDelta", "Called", "Finished"]
    assert reply.text == "one two" and reply.calls == (ToolCall(id="c", name="look", arguments={"at": "x"}),)

    async def again(runtime: weft.Runtime) -> Any:
        last = max(number for number, *_ in await outcomes(runtime, "r1"))
        run = await runtime.fork("r1", at=last)
        return await run

    assert drive(store, again) == [seen, reply]  # all but the last line was read from the journal
    assert len(server.requests) == 1
    assert Path(log).read_text().split() == ["one", "two", "called", "look", "end", "end"]


PROGRAM = """
import sys, asyncio, weft
from tests.test_generate import reads
from tests.programs import impatient
async def main():
    async with weft.Runtime(impatient(sys.argv[1])) as runtime:
        run = await runtime.start(reads.options(id="r1"), sys.argv[2], sys.argv[3]) if len(sys.argv) > 3 else None
        await run
asyncio.run(main())
"""


async def durable(place: str, lines: int) -> None:
    """Wait until the journal knows of so many written lines, and so of all that was read before."""
    store = open_store(place)
    try:
        while sum([_is_written(record) async for _, record in read_records(store, "r1")]) < lines:
            await asyncio.sleep(0.02)
    finally:
        await store.close()


def _is_written(record: AnyRecord) -> bool:
    return isinstance(record, Outcome) and record.name == "generate.written"


def killed_when(store: str, url: str, log: Path, line: str) -> None:
    """Run the workflow in a process of its own, and kill it when it has written this line."""
    child = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, store, url, str(log)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(["src", "."])},
    )
    deadline = time.monotonic() + 30
    while not (log.exists() and line in log.read_text()):
        assert child.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    asyncio.run(asyncio.wait_for(durable(store, len(log.read_text().splitlines())), 30))
    child.send_signal(signal.SIGKILL)
    child.wait()


def resumed(store: str) -> Any:
    async def use(runtime: weft.Runtime) -> Any:
        return await (await runtime.resume("r1"))

    return drive(store, use)


def test_a_stream_that_a_crash_cut_short_begins_anew_and_says_so(tmp_path: Path) -> None:
    store, log = str(tmp_path / "journal.db"), tmp_path / "log"

    def answer(body: Any, number: int) -> Any:
        if number == 1:
            return [piece(content="one "), 60]
        return [piece(content="uno "), piece(content="due"), piece("stop")]

    with chat_server(answer) as server:
        killed_when(store, server.url, log, "one")
        seen, reply = resumed(store)
    assert len(server.requests) == 2
    assert events_of(seen)[:2] == ["TextDelta", "Restarted"] and reply.text == "uno due"
    assert "".join(e.text for e in seen if isinstance(e, TextDelta)) == "one uno due"
    assert isinstance(seen[-1], Finished) and seen[-1].reply == reply


def test_a_tool_call_that_was_read_before_a_crash_is_not_asked_for_again(tmp_path: Path) -> None:
    store, log = str(tmp_path / "journal.db"), tmp_path / "log"

    def answer(body: Any, number: int) -> Any:
        return [piece(content="I look. "), calling(0, "c1", "look", '{"at": "x"}'), piece("tool_calls"), 60]

    with chat_server(answer) as server:
        killed_when(store, server.url, log, "called look")
        seen, reply = resumed(store)
    assert len(server.requests) == 1
    assert reply.finish == "interrupted" and reply.calls == (ToolCall(id="c1", name="look", arguments={"at": "x"}),)
    assert reply.text == "I look. "
    assert sum(isinstance(event, Called) for event in seen) == 1 and not any(isinstance(e, Restarted) for e in seen)
    assert log.read_text().count("called look") == 1


def test_a_lost_connection_is_tried_again_within_the_stream(tmp_path: Path) -> None:
    def answer(body: Any, number: int) -> Any:
        return [piece(content="one "), ConnectionError] if number == 1 else [piece(content="two"), piece("stop")]

    with chat_server(answer) as server:
        seen, reply = drive(
            str(tmp_path / "j.db"), lambda runtime: runtime.run(reads, server.url, str(tmp_path / "log"))
        )
    assert reply.text == "two" and len(server.requests) == 2
    assert [e.text for e in seen if isinstance(e, TextDelta)] in (["one ", "two"], ["two"])
    assert any(isinstance(event, Restarted) for event in seen)


def test_who_reads_hears_of_the_first_piece_before_the_others_that_came_with_it_are_taken_in() -> None:
    async def use() -> list[int]:
        stream = Channel()

        async def read() -> int:
            events = (await stream.take()).events
            stream.told += events
            return len(events)

        first = asyncio.create_task(read())
        for number in range(100):
            await stream.offer([TextDelta(str(number))])
        return [await first, await read()]

    assert asyncio.run(use()) == [1, 99]


def test_leaving_a_stream_early_ends_the_generation() -> None:
    async def first(url: str) -> str:
        async with weft.model.open(url, "m").stream("Go on.") as stream:
            async for event in stream:
                assert isinstance(event, TextDelta)
                return event.text
        return ""

    with chat_server(lambda body, n: [piece(content="one"), *[0.05, piece(content=".")] * 100]) as server:
        assert asyncio.run(first(server.url)) == "one"
        deadline = time.monotonic() + 30
        while not server.left and time.monotonic() < deadline:
            time.sleep(0.02)
    assert server.left == 1


def test_a_stream_is_read_once_and_has_no_reply_before_its_end() -> None:
    stream = weft.model.script(["Hello."]).stream("Hi.")
    with pytest.raises(BadInput, match="not read to its end"):
        _ = stream.reply

    async def twice() -> str:
        text = (await stream.whole()).text
        with pytest.raises(BadInput, match="read once"):
            aiter(stream)
        return text

    assert asyncio.run(twice()) == "Hello."


@pytest.mark.parametrize("ending", ["cut", "error", "late"])
def test_what_goes_wrong_in_mid_stream_is_a_typed_error(ending: str) -> None:
    ends: dict[str, Any] = {
        "cut": [piece(content="one"), ConnectionError],
        "error": [piece(content="one"), {"error": {"message": "overloaded", "type": "server_error", "code": 503}}],
        "late": [piece(content="one"), 60],
    }
    expected = {"cut": ModelUnavailable, "error": ModelError, "late": ModelTimeout}[ending]

    async def read(url: str) -> None:
        async with weft.model.open(url, "m").stream("Go on.", timeout=0.5) as stream:
            async for _ in stream:
                pass

    with chat_server(lambda body, n: ends[ending]) as server, pytest.raises(expected):
        asyncio.run(read(server.url))


# --- tools -----------------------------------------------------------------------------------------------------------


def test_a_choice_that_the_server_ignores_is_made_under_a_schema() -> None:
    def answer(body: Any, number: int) -> Any:
        if "response_format" not in body:
            return said("I would rather talk.")
        schema = body["response_format"]["json_schema"]["schema"]
        assert '"look"' in json.dumps(schema) and '"wait"' not in json.dumps(schema)
        return said('{"tool": "look", "arguments": {"at": "x"}}')

    with chat_server(answer) as server:
        reply = chat(weft.model.open(server.url, "m"), "Go on.", tools=[LOOK, WAIT], tool_choice="look")
    assert reply.calls == (ToolCall(id="call_0", name="look", arguments={"at": "x"}),)
    assert reply.finish == "tool_call" and reply.usage == Usage(20, 10) and len(server.requests) == 2


def test_a_server_that_ignores_even_a_schema_is_an_error() -> None:
    with chat_server(lambda body, n: said("No.")) as server, pytest.raises(AnswerMisfit, match="no whole tool call"):
        chat(weft.model.open(server.url, "m"), "Go on.", tools=[LOOK], tool_choice="required")


def test_who_can_not_promise_the_same_tokens_can_be_asked_all_the_same() -> None:
    with chat_server(lambda body, n: said("Yes.")) as server:
        model = weft.model.open(server.url, "m")
        with pytest.raises(BadInput, match="can't promise the same tokens"):
            chat(model, "Go on.", deterministic=True)
        reply = chat(model, "Go on.", deterministic="try")
    assert reply.text == "Yes." and "the same tokens every time can't be promised here" in reply.lost
    assert len(server.requests) == 1 and "deterministic" not in server.requests[0]


@pytest.mark.parametrize(("choice", "called"), [("required", True), ("wait", True), ("none", False)])
def test_the_embedded_engine_keeps_to_every_choice(choice: str, called: bool) -> None:
    model = weft.model.local("smollm2-135m", context=1024)
    history = [
        Message("user", "Look at the door."),
        Message("assistant", [ToolCall(id="1", name="look", arguments={"at": "door"})]),
        Message("tool", [ToolResult.of("1", "It is open.", name="look")]),
        Message("user", "And now?"),
    ]
    reply = chat(model, history, tools=[LOOK, WAIT], tool_choice=choice, max_tokens=60)
    assert bool(reply.calls) == called
    if called:
        assert reply.calls[0].name in (("look", "wait") if choice == "required" else (choice,))
        assert reply.calls[0].id == "call_1" and reply.finish == "tool_call"


def test_the_embedded_engine_streams_the_same_call(tmp_path: Path) -> None:
    model = weft.model.local("smollm2-135m", context=1024)
    asked: dict[str, Any] = {"tools": [LOOK], "tool_choice": "look", "max_tokens": 60}
    whole = chat(model, "Look at the door.", **asked)

    async def streamed() -> Reply:
        return await model.stream("Look at the door.", **asked).whole()

    assert asyncio.run(streamed()).calls == whole.calls != ()


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"tool_choice": "required"}, "has no tools"),
        ({"tools": [LOOK], "tool_choice": "jump"}, "none of the tools look"),
        ({"tools": [LOOK, LOOK]}, "two tools named 'look'"),
        ({"tools": [len]}, "is no tool"),
        ({"temprature": 1}, "no setting 'temprature'"),
        ({"temperature": "hot"}, "does not fit"),
        ({"max_tokens": 1.5}, "does not fit"),
    ],
)
def test_bad_settings_are_refused_before_anything_is_sent(asked: dict[str, Any], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        chat(weft.model.script(["x"]), "Hi.", **asked)


@pytest.mark.parametrize("messages", [[], [{"role": "user"}], [{"role": "king", "content": "x"}], [3], None])
def test_what_is_no_message_is_refused(messages: Any) -> None:
    with pytest.raises(BadInput):
        chat(weft.model.script(["x"]), messages)


# --- answers that fit ------------------------------------------------------------------------------------------------


def test_an_answer_that_does_not_fit_goes_back_with_what_is_wrong() -> None:
    asked: list[Any] = []

    def reply(request: Any) -> str:
        asked.append(request.messages)
        return "maybe" if len(asked) == 1 else '"yes"'

    model = weft.model.script(reply)
    assert chat(model, "Yes or no?", schema=Literal["yes", "no"]).data == "yes"
    assert [m.role for m in asked[1]] == ["user", "assistant", "user"] and "does not fit" in asked[1][2].text
    asked.clear()
    with pytest.raises(AnswerMisfit):
        chat(model, "Yes or no?", schema=Literal["yes", "no"], mends=0)


# --- retries and several models --------------------------------------------------------------------------------------


@weft.workflow(name="generate.asks")
async def asks(url: str) -> str:
    return (await weft.model.open(url, "m").chat("Hi.")).text


def test_a_busy_provider_is_asked_again_when_it_says_so(store: str) -> None:
    times: list[float] = []

    def answer(body: Any, number: int) -> Any:
        times.append(time.monotonic())
        return (429, {"Retry-After": "1.2"}, {"error": {"message": "slow down"}}) if number == 1 else said("Here.")

    with chat_server(answer) as server:
        assert drive(store, lambda runtime: runtime.run(asks, server.url)) == "Here."
    assert times[1] - times[0] >= 1.2


def test_a_refused_key_is_not_tried_again_and_not_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-very-secret")
    refusal = (401, {}, {"error": {"message": "Incorrect API key provided: sk-very-secret", "code": "invalid_api_key"}})
    with chat_server(lambda body, n: refusal) as server, pytest.raises(KeyRefused, match="OPENAI_API_KEY") as caught:
        drive(str(tmp_path / "j.db"), lambda runtime: runtime.run(asks, server.url))
    assert len(server.requests) == 1 and "very-secret" not in str(caught.value)


@weft.workflow(name="generate.routes")
async def routes(kind: str) -> str:
    one, two = "script:busy", "script:free"
    model = weft.model.fallback(one, two) if kind == "fallback" else weft.model.balance({one: 1, two: 1})
    return (await model.chat("Hi.")).text


def test_a_fallback_answers_where_the_first_is_busy(tmp_path: Path) -> None:
    weft.model.script([ModelBusy("busy", 0.01)], name="busy")
    weft.model.script(["Here."], name="free")
    assert drive(str(tmp_path / "j.db"), lambda runtime: runtime.run(routes, "fallback")) == "Here."
    for _ in range(4):
        assert drive(str(tmp_path / "j.db"), lambda runtime: runtime.run(routes, "balance")) == "Here."


def test_a_balance_asks_by_weight_and_a_fallback_raises_what_is_nobodys_fault() -> None:
    weft.model.script(["a"], name="a")
    weft.model.script(["b"], name="b")
    model = weft.model.balance({"script:a": 9, "script:b": 1})
    said_by = [chat(model, "Hi.").text for _ in range(200)]
    assert 140 < said_by.count("a") < 200
    weft.model.script([BadInput("no")], name="bad")
    with pytest.raises(BadInput, match="no"):
        chat(weft.model.fallback("script:bad", "script:a"), "Hi.")
    with pytest.raises(BadInput, match="at least one"):
        weft.model.fallback()
    with pytest.raises(BadInput, match="above 0"):
        weft.model.balance({"script:a": 0})


# --- scripts ---------------------------------------------------------------------------------------------------------


def test_a_script_goes_by_the_turns_of_the_conversation_and_ends() -> None:
    model = weft.model.script(["one", ToolCall(id="1", name="look"), Message("assistant", "three")])
    history = [Message("user", "Go.")]
    for text, calls in (("one", 0), ("", 1), ("three", 0)):
        reply = chat(model, history)
        assert (reply.text, len(reply.calls)) == (text, calls)
        history += [reply.message, Message("user", "Go on.")]
    with pytest.raises(ModelError, match="3 replies, and was asked for number 4"):
        chat(model, history)
    with pytest.raises(ModelError, match="no script named 'nobody'"):
        chat(Model("script:nobody"), "Hi.")
    with pytest.raises(BadInput, match="give a list of replies"):
        weft.model.script("just text")


# --- the cache and the price -----------------------------------------------------------------------------------------


def test_a_reply_may_be_kept_and_is_paid_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WEFT_CACHE", str(tmp_path / "replies"))
    with chat_server(lambda body, n: said(f"answer {n}")) as server:
        model = weft.model.open(server.url, "m")
        first, again = chat(model, "Hi.", cached=True), chat(model, "Hi.", cached=True)
        other = chat(model, "Hi.")
    assert first.text == again.text == "answer 1" and other.text == "answer 2"
    assert not first.cached and again.cached and again.money == 0 and len(server.requests) == 2


def test_a_budget_of_money_is_kept_by_the_price_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prices = tmp_path / "prices.toml"
    monkeypatch.setenv("WEFT_PRICES", str(prices))
    with chat_server(lambda body, n: said("Here.")) as server:
        prices.write_text(f'["127.0.0.1:{server.port}"]\n"m" = {{ input = 1000.0, output = 2000.0 }}\n')

        async def use(runtime: weft.Runtime) -> Any:
            run = await runtime.start(asks.options(budget=weft.Budget(money=20.0)), server.url)
            return await run, await runtime.ledger.left(run.id)

        text, left = drive(str(tmp_path / "j.db"), use)
        assert text == "Here." and left["money"] == pytest.approx(20 - 10 * 0.001 - 5 * 0.002)
        poor = asks.options(budget=weft.Budget(money=0.001))
        with pytest.raises(weft.errors.BudgetExceeded):
            drive(str(tmp_path / "j.db"), lambda runtime: runtime.run(poor, server.url))
    assert len(server.requests) == 1


def test_an_address_from_the_environment_may_lack_its_scheme(monkeypatch: pytest.MonkeyPatch) -> None:
    with chat_server(
        lambda body, n: (200, {}, {"model": "m", "message": {"content": "Here."}, "done": True})
    ) as server:
        monkeypatch.setenv("OLLAMA_HOST", f"127.0.0.1:{server.port}")
        assert chat(Model("ollama:m"), "Hi.").text == "Here."
