"""Live events over real HTTP: nothing lost and nothing doubled, whatever is cut; on both stores."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import takewhile
from typing import Any

import pytest

import weft
from tests.programs import drive
from tests.servers.page import Client, Elsewhere, Event, until
from weft.model import script
from weft.web.page.ring import KEPT, Ring

go_on = weft.Mailbox("page-go-on", int)


@weft.step
async def mark(number: int) -> int:
    return number


@weft.workflow
async def below(number: int) -> int:
    return await mark(-number)


@weft.workflow
async def obeys() -> int:
    """Makes as many effects as it is told, until it is told 0."""
    made = 0
    while (count := await go_on.receive()) > 0:
        for _ in range(count):
            made += 1
            await mark(made)
        if made % 5 == 0:
            await below(made)
    return made


@weft.workflow
async def tells() -> str:
    await go_on.receive()
    async with script(["Hello there."]).stream("Hi.") as stream:
        async for _ in stream:
            pass
    return stream.reply.text


def marks(events: list[Event]) -> list[str]:
    """Ids of the marks that events tell of as over."""
    spans = [one for event in events if event.name == "spans" for one in event.data["spans"]]
    return [one["id"] for one in spans if one["name"].endswith(".mark") and one["end"] is not None]


def heard(events: Iterator[Event], count: int) -> list[Event]:
    """Events up to the one with which so many marks were told."""
    found: list[Event] = []
    while len(marks(found)) < count:
        found.append(next(events))
    return found


def tell(elsewhere: Elsewhere, id: str, count: int) -> None:
    elsewhere(elsewhere.runtime.send(id, "page-go-on", count))


def test_a_viewer_that_is_cut_loses_nothing_and_sees_nothing_twice(client: Client, elsewhere: Elsewhere) -> None:
    id = elsewhere.start(obeys)
    path = f"/api/runs/{id}/live"
    with client.events(path) as events:
        assert next(events).name == "hello"
        tell(elsewhere, id, 2)
        seen = heard(events, 2)
    for count in (3, 1, 4):  # each time it sleeps while they are made
        tell(elsewhere, id, count)
        total = len(marks(seen)) + count + (count == 3) + (count == 4)
        until(lambda total=total: client.get(f"/api/runs/{id}/rows?q=mark")["total"] >= total)  # type: ignore[misc]
        with client.events(path, last=seen[-1].id) as events:
            first = next(events)
            assert first.name == "hello" and first.id == seen[-1].id
            seen += heard(events, total - len(marks(seen)))
    rows = client.get(f"/api/runs/{id}/rows?q=mark")["rows"]
    assert sorted(marks(seen)) == sorted(one["id"] for one in rows)
    tell(elsewhere, id, 0)
    with client.events(path, last=seen[-1].id) as events:
        rest = list(events)  # the server ends it
    assert rest[-1].name == "end" and rest[-1].data == {"state": "done"} and not marks(rest)
    with client.events(path, last=rest[-1].id) as events:
        assert [event.name for event in events] == ["hello"]


def test_who_comes_from_elsewhere_or_too_late_reads_anew(client: Client, elsewhere: Elsewhere) -> None:
    id = elsewhere.start(obeys)
    for last in ("00000000-5", "nonsense", "a-b", "-"):
        with client.events(f"/api/runs/{id}/live", last=last) as events:
            assert next(events).name == "reset"
    with client.events(f"/api/runs/{id}/live?last=00000000-5") as events:
        assert next(events).name == "reset"


def test_a_run_that_is_over_says_so_at_once(client: Client, store: str) -> None:
    async def go(runtime: weft.Runtime) -> str:
        run = await runtime.start(below, 3)
        await run
        return run.id

    with client.events(f"/api/runs/{drive(store, go)}/live") as events:
        assert [event.name for event in events] == ["hello", "end"]
    assert client.get("/api/runs/nobody/live")["status"] == 404


def test_there_are_only_so_many_viewers(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("weft.web.page.live.VIEWERS", 2)
    with client.events("/api/live") as one, client.events("/api/live") as other:
        assert next(one).name == next(other).name == "hello"
        assert client.get("/api/live")["error"]["code"] == "too_many"
    until(lambda: "error" not in _hello(client))


def _hello(client: Client) -> str:
    """What a viewer gets first: a greeting, or why it gets none."""
    try:
        with client.events("/api/live") as events:
            return next(events).name
    except AssertionError as error:
        return str(error)


def test_the_list_hears_of_runs_and_of_questions(client: Client, elsewhere: Elsewhere) -> None:
    with client.events("/api/live") as events:
        assert next(events).name == "hello"
        id = elsewhere.start(obeys)

        def of_run(event: Event) -> Any:
            return next((one for one in event.data.get("runs", ()) if one["id"] == id), None)

        first = next(event for event in events if event.name == "runs" and of_run(event))
        assert of_run(first)["workflow"] == obeys.name
        tell(elsewhere, id, 3)
        grown = next(event for event in events if of_run(event) and (of_run(event)["effects"] or 0) >= 4)
        tell(elsewhere, id, 0)
        ended = next(event for event in events if of_run(event) and of_run(event)["state"] == "done")
    with client.events("/api/live", last=grown.id) as events:
        again = list(takewhile(lambda event: event.id != ended.id, events))
        assert again[0].name == "hello"


def test_words_come_while_they_are_read(client: Client, elsewhere: Elsewhere) -> None:
    id = elsewhere.start(tells)
    with client.events(f"/api/runs/{id}/live") as events:
        assert next(events).name == "hello"
        tell(elsewhere, id, 1)
        told = [event.data for event in events if event.name == "tokens"]
    assert "".join(one["text"] for one in told) == "Hello there."
    assert told[-1]["done"] and not any(one["restarted"] or one["reasoning"] for one in told)
    row = client.get(f"/api/runs/{id}/rows?kind=generation")["rows"][0]
    assert {one["stream"] for one in told} == {told[0]["stream"]} and told[-1]["id"] in (row["id"], None)


def test_a_ring_keeps_the_last_events_and_knows_which() -> None:
    ring = Ring()
    for number in range(KEPT + 5):
        ring.push("x", {"number": number})
    assert ring.known(f"{ring.epoch}-{ring.number}") == ring.number
    assert ring.known(f"{ring.epoch}-5") == 5 and ring.known(f"{ring.epoch}-4") is None
    assert ring.known(f"{ring.epoch}-{ring.number + 1}") is None and ring.known(f"x-{ring.number}") is None
    assert len(ring.since(5) or ()) == KEPT and ring.since(4) is None and ring.since(ring.number) == []
