"""Cassettes: what is recorded from real servers is played the same, without a network and without secrets."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path
from typing import Any

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st

import weft
from tests.servers import free_port
from tests.servers.providers import (
    Broken,
    Call,
    Chopped,
    Fault,
    MidCharacter,
    Providers,
    Refuse,
    Silent,
    Turn,
)
from weft.core.errors import BadInput, ModelBusy, ModelError, ModelTimeout, ModelUnavailable
from weft.model import client
from weft.model.cassette import Cassette, CassetteError, NotRecorded
from weft.model.cassette.tape import Exchange, Question, read, write
from weft.model.request import Reply

WEATHER = Turn(text=["It r", "ains in Zü", "rich ✓"], calls=[Call("umbrella", {"open": True}, id="call_1")])


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "key-of-the-loopback-providers")


def ask(url: str, text: str = "Will it rain?") -> Reply:
    return asyncio.run(weft.model.open(url, "m").chat(text))


def told(url: str, text: str = "Will it rain?") -> list[Any]:
    async def main() -> list[Any]:
        async with weft.model.open(url, "m").stream(text) as stream:
            return [event async for event in stream]

    return asyncio.run(main())[:-1]  # the last one holds the seconds it took


async def chunks(url: str, body: dict[str, Any], headers: dict[str, str] | None = None) -> list[bytes]:
    """What the client reads, piece by piece."""
    http = await client.client_of(url)
    async with http.stream("POST", url, json=body, headers=headers or {}) as answer:
        return [chunk async for chunk in answer.aiter_raw()]


def body(**more: Any) -> dict[str, Any]:
    return {"model": "m", "messages": [{"role": "user", "content": "Will it rain?"}], **more}


BEARER = {"authorization": "Bearer key-of-the-loopback-providers"}


# --- recorded and played --------------------------------------------------------------------------------------------


def test_what_was_recorded_is_played_without_the_server(tmp_path: Path) -> None:
    path = tmp_path / "cassettes" / "weather.jsonl"
    with Providers(WEATHER) as server:
        base = server.base("openai")
        with Cassette(path, "once"):
            reply, events = ask(base), told(base)
    with Cassette(path) as cassette:
        again, events_again = ask(base), told(base)
    assert (again.message, again.usage, again.id) == (reply.message, reply.usage, reply.id)
    assert events_again == events
    assert cassette.unused == []
    assert len(server.requests) == 2


@pytest.mark.parametrize("fault", [None, Chopped(1), Chopped(13), MidCharacter()])
def test_chunks_come_as_they_came(tmp_path: Path, fault: Fault | None) -> None:
    with Providers(WEATHER, faults=[fault]) as server:
        url = server.base("openai") + "/chat/completions"
        with Cassette(tmp_path / "c.jsonl", "all"):
            came = asyncio.run(chunks(url, body(stream=True), BEARER))
    with Cassette(tmp_path / "c.jsonl"):
        assert asyncio.run(chunks(url, body(stream=True), BEARER)) == came
    assert len(came) > 5


def test_the_file_is_for_people(tmp_path: Path) -> None:
    with Providers(WEATHER) as server, Cassette(tmp_path / "c.jsonl", "once"):
        told(server.base("openai"))
    lines = [json.loads(line) for line in (tmp_path / "c.jsonl").read_text().splitlines()]
    assert [line["line"] for line in lines[:3]] == ["cassette", "request", "answer"]
    assert lines[1]["json"]["messages"] == [{"role": "user", "content": "Will it rain?"}]
    assert any("rich ✓" in line.get("text", "") for line in lines[3:-1])
    assert lines[-1] == {"line": "end"}
    assert "Zü" in (tmp_path / "c.jsonl").read_text()  # and not as an escape


@pytest.mark.parametrize(
    ("fault", "error", "words"),
    [
        (Refuse(429, retry_after="7"), ModelBusy, "asked too much"),
        (Refuse(500), ModelUnavailable, "asked too much"),
        (Broken(1), ModelUnavailable, "failed|broke off"),
        (Broken(1, reset=True), ModelUnavailable, "failed|broke off"),
    ],
)
def test_what_went_wrong_goes_wrong_again(tmp_path: Path, fault: Fault, error: type[ModelError], words: str) -> None:
    tape = Cassette(tmp_path / "c.jsonl", "all")
    with Providers(WEATHER, faults=[fault]) as server, tape, pytest.raises(error, match=words) as first:
        told(server.base("openai"))
    with Cassette(tmp_path / "c.jsonl"), pytest.raises(error) as second:
        told(server.base("openai"))
    assert str(second.value) == str(first.value)


def test_a_server_that_was_not_there_is_not_there_again(tmp_path: Path) -> None:
    url = f"http://127.0.0.1:{free_port()}/v1"
    with Cassette(tmp_path / "c.jsonl", "all"), pytest.raises(ModelUnavailable):
        ask(url)
    with Providers(WEATHER) as server, Cassette(tmp_path / "c.jsonl"), pytest.raises(ModelUnavailable):
        ask(server.base("openai"))
    assert server.requests == []


@pytest.mark.parametrize("fault", [Silent(), Silent(2)])
def test_silence_is_played_without_waiting(tmp_path: Path, fault: Fault) -> None:
    async def main(seconds: float) -> None:
        async with weft.model.open(server.base("openai"), "m").stream("Will it rain?", timeout=seconds) as stream:
            await stream.whole()

    tape = Cassette(tmp_path / "c.jsonl", "all")
    with Providers(WEATHER, faults=[fault]) as server, tape, pytest.raises(ModelTimeout):
        asyncio.run(main(0.1))
    with Cassette(tmp_path / "c.jsonl"), pytest.raises(ModelTimeout):
        asyncio.run(main(1000))


def test_a_workflow_is_recorded_and_played(tmp_path: Path) -> None:
    @weft.workflow
    async def plan(base: str) -> str:
        reply = await weft.model.open(base, "m").chat("Will it rain?")
        more = await weft.model.open(base, "m").chat([*map(dict, TURNS), {"role": "user", "content": "Sure?"}])
        return reply.text + more.text

    def run(base: str, name: str) -> str:
        async def main() -> str:
            async with weft.Runtime(tmp_path / name) as runtime:
                return await runtime.run(plan, base)

        return asyncio.run(main())

    TURNS = [{"role": "user", "content": "Will it rain?"}, {"role": "assistant", "content": "Yes."}]
    with Providers(Turn(text=["Yes."]), Turn(text=[" Sure."])) as server:
        base = server.base("openai")
        with Cassette(tmp_path / "c.jsonl", "once"):
            assert run(base, "one.db") == "Yes. Sure."
    with Cassette(tmp_path / "c.jsonl"):
        assert run(base, "two.db") == "Yes. Sure."


def test_many_at_once(tmp_path: Path) -> None:
    async def all_of(url: str) -> list[bytes]:
        each = [chunks(url, body(seed=n % 10), BEARER) for n in range(50)]
        return [b"".join(found) for found in await asyncio.gather(*each)]

    with Providers(WEATHER) as server, Cassette(tmp_path / "c.jsonl", "once"):
        url = server.base("openai") + "/chat/completions"
        came = asyncio.run(all_of(url))
    with Cassette(tmp_path / "c.jsonl") as cassette:
        assert asyncio.run(all_of(url)) == came
    assert cassette.unused == []


# --- which request is which -----------------------------------------------------------------------------------------


def test_the_order_of_keys_and_the_port_of_this_machine_are_free(tmp_path: Path) -> None:
    with Providers(WEATHER) as server, Cassette(tmp_path / "c.jsonl", "once"):
        url = server.base("openai") + "/chat/completions"
        came = asyncio.run(chunks(url, body(seed=1, temperature=0), BEARER))
    other = f"http://127.0.0.1:{free_port()}/v1/chat/completions"
    turned = dict(reversed(body(seed=1, temperature=0).items()))
    with Cassette(tmp_path / "c.jsonl"):
        assert asyncio.run(chunks(other, turned)) == came


def test_equal_requests_are_answered_in_their_order_and_no_more_often(tmp_path: Path) -> None:
    with Providers() as server, Cassette(tmp_path / "c.jsonl", "once"):
        for text in ("one", "two"):
            server.turns = [Turn(text=[text])]
            ask(server.base("openai"))
    with Cassette(tmp_path / "c.jsonl") as cassette:
        assert ask(server.base("openai")).text == "one"
        assert cassette.unused == ["POST http://127.0.0.1/v1/chat/completions"]
        assert ask(server.base("openai")).text == "two"
        with pytest.raises(NotRecorded, match="2 times, and was made once more"):
            ask(server.base("openai"))


def test_a_request_that_was_not_recorded_is_shown_beside_the_nearest_one(tmp_path: Path) -> None:
    with Providers() as server, Cassette(tmp_path / "c.jsonl", "once"):
        ask(server.base("openai"), "What is the capital of Spain?")
        ask(server.base("openai"), "Will it rain?")
    with Cassette(tmp_path / "c.jsonl"), pytest.raises(NotRecorded) as error:
        ask(server.base("openai"), "Will it snow?")
    said = str(error.value)
    assert "record='all'" in said and "recorded, request 2" in said
    assert [line.split('"')[-2] for line in said.splitlines() if line[:2] in ("- ", "+ ")] == [
        "Will it rain?",
        "Will it snow?",
    ]
    assert "key-of" not in said


def test_the_difference_is_short_however_long_the_requests(tmp_path: Path) -> None:
    with Providers() as server, Cassette(tmp_path / "c.jsonl", "once"):
        ask(server.base("openai"), "a" * 100_000)
    with Cassette(tmp_path / "c.jsonl"), pytest.raises(NotRecorded) as error:
        asyncio.run(chunks(server.base("openai") + "/chat/completions", body(stop=[f"{n}" for n in range(1000)])))
    assert len(str(error.value)) < 10_000


def test_there_is_no_network_where_nothing_was_recorded(tmp_path: Path) -> None:
    said = r"no cassette .*none\.jsonl .*record='once'"
    with Providers() as server, Cassette(tmp_path / "none.jsonl"), pytest.raises(NotRecorded, match=said):
        ask(server.base("openai"))
    assert server.requests == []
    assert not (tmp_path / "none.jsonl").exists()


# --- secrets --------------------------------------------------------------------------------------------------------


def test_no_secret_is_written(tmp_path: Path) -> None:
    """Neither from headers nor from addresses, nor where a server says it back, be it cut over two chunks."""
    secret = "key-of-the-loopback-providers"
    echo = Turn(text=[f"Your key is {secret}, or so."])
    with Providers(echo, faults=[Chopped(7)]) as server, Cassette(tmp_path / "c.jsonl", "once"):
        url = server.base("openai") + "/chat/completions"
        headers = {**BEARER, "cookie": "session=oatmeal-cookie", "x-my-own": "homemade-secret"}
        came = asyncio.run(chunks(url, body(stream=True), headers))
        asyncio.run(chunks(url, body(), {"authorization": "Bearer the-wrong-key-of-mine"}))
        gemini = f"{server.base('gemini')}/v1beta/models/m:generateContent?key={secret}&alt=json"
        asyncio.run(chunks(gemini, {"contents": [{"parts": [{"text": f"I am {secret}"}]}]}))
    assert secret in b"".join(came).decode()
    text = (tmp_path / "c.jsonl").read_text()
    for each in (secret, "oatmeal-cookie", "homemade-secret", "the-wrong-key-of-mine"):
        assert each not in text
    played = b"".join(chunk for exchange in read(tmp_path / "c.jsonl") for chunk in exchange.chunks).decode()
    assert secret not in played and "Your key is *****" in played
    assert '"authorization":"(removed)"' in text and "key=(removed)" in text
    with Cassette(tmp_path / "c.jsonl"):
        again = asyncio.run(chunks(url, body(stream=True)))  # nor is a key needed to play it
    assert [len(chunk) for chunk in again] == [len(chunk) for chunk in came]


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://me:pass-word@host.example/v1?b=2&a=1#x", "https://host.example/v1?a=1&b=2"),
        ("https://host.example:443/v1", "https://host.example/v1"),
        ("https://host.example:8443/v1", "https://host.example:8443/v1"),
        ("http://127.0.0.1:8000/v1", "http://127.0.0.1/v1"),
        ("http://[::1]:8000/v1", "http://[::1]/v1"),
        ("https://h/?api_key=abc&max_tokens=3", "https://h/?api_key=(removed)&max_tokens=3"),
        ("https://h/?X-Amz-Signature=abc", "https://h/?X-Amz-Signature=(removed)"),
    ],
)
def test_addresses(url: str, shown: str) -> None:
    assert Question("GET", url, {}, b"").cleaned().url == shown


def test_an_answers_headers_keep_what_is_no_secret(tmp_path: Path) -> None:
    exchange = Exchange(Question("POST", "https://h/", {}, b""))
    exchange.status = 200
    exchange.headers = {
        "content-type": "text/plain", "x-ratelimit-remaining-tokens": "12", "retry-after": "3", "set-cookie": "a=b",
        "openai-organization": "org-of-mine", "date": "today",
    }  # fmt: skip
    write(tmp_path / "c.jsonl", [exchange])
    assert read(tmp_path / "c.jsonl")[0].headers == {
        "content-type": "text/plain", "x-ratelimit-remaining-tokens": "12", "retry-after": "3",
        "set-cookie": "(removed)", "openai-organization": "(removed)",
    }  # fmt: skip


# --- the file -------------------------------------------------------------------------------------------------------


@given(
    st.lists(st.binary(max_size=40), max_size=6), st.binary(max_size=40), st.sampled_from(["whole", "left", "silent"])
)
def test_any_bytes_are_kept(tmp_path_factory: pytest.TempPathFactory, came: list[bytes], sent: bytes, how: Any) -> None:
    path = tmp_path_factory.mktemp("tape") / "c.jsonl"
    exchange = Exchange(Question("POST", "https://h/", {}, sent))
    exchange.status, exchange.chunks, exchange.how = 200, came, how
    write(path, [exchange, exchange])
    found = read(path)
    assert [each.chunks for each in found] == [came, came]
    assert [each.how for each in found] == [how, how]
    assert found[0].question.key == exchange.question.key


def test_a_file_that_breaks_off_anywhere_is_refused(tmp_path: Path) -> None:
    with Providers(Turn(text=["Hi"])) as server, Cassette(tmp_path / "whole.jsonl", "once"):
        ask(server.base("openai"))
        ask(server.base("openai"), "And you?")
    whole = (tmp_path / "whole.jsonl").read_bytes()
    ends = {at for at in range(len(whole)) if whole[at : at + 1] == b"\n"}
    for size in {*range(0, len(whole) - 1, 7), *ends, *(at + 1 for at in ends)} - {len(whole), len(whole) - 1}:
        (tmp_path / "cut.jsonl").write_bytes(whole[:size])
        with pytest.raises(CassetteError, match=r"cut\.jsonl, line \d+: .*record it anew"):
            read(tmp_path / "cut.jsonl")


@pytest.mark.parametrize(
    ("lines", "why"),
    [
        (["hello"], "line 1: .*malformed"),
        (['{"line": "cassette", "version": 2, "exchanges": 0}'], "version 2 is not known"),
        (['{"line": "request", "method": "GET", "url": "https://h/"}'], "line 1: the line 'request' can't be here"),
        (['{"line": "cassette", "version": 1, "exchanges": 1}', '{"line": "chunk", "text": "x"}'], "'chunk' can't be"),
        (['{"line": "cassette", "version": 1, "exchanges": 1}', '{"line": "chunk", "wrong": "x"}'], "line 2: .*wrong"),
        (['{"line": "cassette", "version": 1, "exchanges": 0}', "", '{"line": "end"}'], "line 2"),
        (['{"line": "answer", "status": 200}'], "'answer' can't be"),
    ],
)
def test_a_file_that_is_none_is_refused(tmp_path: Path, lines: list[str], why: str) -> None:
    (tmp_path / "c.jsonl").write_text("\n".join([*lines, ""]))
    with pytest.raises(CassetteError, match=why), Cassette(tmp_path / "c.jsonl"):
        pytest.fail("it was taken")


def test_a_folder_is_no_cassette(tmp_path: Path) -> None:
    with pytest.raises(CassetteError, match="can't be read"), Cassette(tmp_path):
        pytest.fail("it was taken")


def test_line_ends_of_another_system_do_no_harm(tmp_path: Path) -> None:
    with Providers() as server, Cassette(tmp_path / "c.jsonl", "once"):
        ask(server.base("openai"))
    (tmp_path / "c.jsonl").write_bytes((tmp_path / "c.jsonl").read_bytes().replace(b"\n", b"\r\n"))
    with Cassette(tmp_path / "c.jsonl"):
        assert ask(server.base("openai")).text == "Hello"


def test_writing_is_all_or_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Providers() as server, Cassette(tmp_path / "c.jsonl", "once"):
        ask(server.base("openai"))
    before = (tmp_path / "c.jsonl").read_bytes()

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    tape = Cassette(tmp_path / "c.jsonl", "all")
    with Providers(Turn(text=["new"])) as server, pytest.raises(OSError, match="No space"), tape:
        ask(server.base("openai"))
        monkeypatch.setattr(os, "fsync", full)
    assert (tmp_path / "c.jsonl").read_bytes() == before
    assert [*tmp_path.iterdir()] == [tmp_path / "c.jsonl"]


# --- modes ----------------------------------------------------------------------------------------------------------


def test_once_records_once_and_all_records_anew(tmp_path: Path) -> None:
    path = tmp_path / "c.jsonl"
    with Providers() as server:
        for record, says, hears in (("once", "a", "a"), ("once", "b", "a"), ("none", "b", "a"), ("all", "c", "c")):
            server.turns = [Turn(text=[says])]
            with Cassette(path, record):  # type: ignore[arg-type]
                assert ask(server.base("openai")).text == hears
    with Cassette(path):
        assert ask(server.base("openai")).text == "c"


def test_what_a_failing_block_recorded_is_not_kept(tmp_path: Path) -> None:
    with Providers() as server, pytest.raises(AssertionError), Cassette(tmp_path / "c.jsonl", "once"):
        ask(server.base("openai"))
        raise AssertionError
    assert [*tmp_path.iterdir()] == []


def test_nothing_recorded_leaves_the_file_alone(tmp_path: Path) -> None:
    with Providers() as server, Cassette(tmp_path / "c.jsonl", "once"):
        ask(server.base("openai"))
    before = (tmp_path / "c.jsonl").read_bytes()
    with Cassette(tmp_path / "c.jsonl", "all"):
        pass
    assert (tmp_path / "c.jsonl").read_bytes() == before


def test_two_cassettes_of_one_loop_are_kept_apart(tmp_path: Path) -> None:
    async def main() -> None:
        for name in ("a", "b", "c"):
            server.turns = [Turn(text=[name])]
            with Cassette(tmp_path / name, "once"):
                await weft.model.open(server.base("openai"), "m").chat("Who?")
        for name in ("c", "a", "b"):
            with Cassette(tmp_path / name):
                assert (await weft.model.open(server.base("openai"), "m").chat("Who?")).text == name

    with Providers() as server:
        asyncio.run(main())
        assert len(server.requests) == 3


def test_an_answer_that_was_left_early_is_played_as_far(tmp_path: Path) -> None:
    async def two(url: str) -> list[bytes]:
        http = await client.client_of(url)
        async with http.stream("POST", url, json=body(stream=True), headers=BEARER) as answer:
            found = aiter(answer.aiter_raw())
            return [await anext(found), await anext(found)]

    with Providers(WEATHER) as server, Cassette(tmp_path / "c.jsonl", "once"):
        url = server.base("openai") + "/chat/completions"
        came = asyncio.run(two(url))
    with Cassette(tmp_path / "c.jsonl"):
        assert asyncio.run(two(url)) == came
    with Cassette(tmp_path / "c.jsonl"), pytest.raises(CassetteError, match="only as far as its reader had read"):
        asyncio.run(chunks(url, body(stream=True)))


def test_bad_use(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="none, once, all"):
        Cassette(tmp_path / "c.jsonl", "new_episodes")  # type: ignore[arg-type]
    cassette = Cassette(tmp_path / "c.jsonl")
    with cassette, pytest.raises(BadInput, match="in use already"), cassette:
        pass


def test_a_transport_of_ones_own_is_wrapped_the_same(tmp_path: Path) -> None:
    """`wrap` is all that another client needs."""

    async def get(cassette: Cassette) -> httpx2.Response:
        answer = httpx2.MockTransport(lambda request: httpx2.Response(418, text="short and stout"))
        async with httpx2.AsyncClient(transport=cassette.wrap(answer)) as http:
            return await http.get("https://host.example/tea", headers={"x-api-key": "never-written"})

    cassette = Cassette(tmp_path / "c.jsonl", "all")
    with cassette:
        assert asyncio.run(get(cassette)).status_code == 418
    with Cassette(tmp_path / "c.jsonl") as cassette:
        assert asyncio.run(get(cassette)).text == "short and stout"
    assert "never-written" not in (tmp_path / "c.jsonl").read_text()
