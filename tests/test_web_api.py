"""The page's API over real HTTP: runs, spans, effects, memory, costs and the inbox, on both stores."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from typing import NamedTuple

import pytest

import weft
from tests.programs import drive
from tests.servers.page import Client, page
from weft.model import Usage, script
from weft.model.message import Message
from weft.model.request import Reply


@weft.step
async def look(number: int) -> int:
    return number


@weft.step(retries=weft.Retry(attempts=3, delay=0))
async def shaky(number: int) -> str:
    if number:
        raise ValueError("no <b>luck</b>")
    return "x" * 100_000


@weft.workflow
async def child(number: int) -> int:
    return await look(number) + await look(number + 1)


@weft.workflow
async def family(count: int) -> list[int]:
    await look(0)
    found = [await child(number) for number in range(count)]
    await look(9)
    return found


@weft.workflow
async def long(count: int) -> None:
    for _ in range(count):
        weft.random()


@weft.workflow
async def fails(number: int) -> str:
    large = await shaky(0)
    return large[:number] + await shaky(number)


@weft.workflow
async def talks(secret: str) -> str:
    sealed = weft.label(secret, "secret")
    told = Reply(message=Message("assistant", "<hello>"), usage=Usage(input=7, output=2), model="parrot")
    reply = await script([told]).chat("Say <hello>.")
    await look.sealed(3)
    return reply.text if sealed else ""


notes = weft.Memory("page-notes", int)


@notes.operation()
async def set_to(op: weft.Operation[int], value: int) -> None:
    op.write("count", await op.read("count", 0) + value)


@weft.workflow
async def remembers(value: int) -> None:
    await set_to(value)
    await set_to(value)


class Held(NamedTuple):
    client: Client
    family: str
    fails: str


@pytest.fixture
def held(store: str) -> Iterator[Held]:
    """A page on a store with two runs, one of them with children."""

    async def go(runtime: weft.Runtime) -> tuple[str, str]:
        first = await runtime.start(family, 3)
        await first
        second = await runtime.start(fails, 4)
        with pytest.raises(ValueError):
            await second
        return first.id, second.id

    ids = drive(store, go)
    with page(store) as client:
        yield Held(client, *ids)


def test_runs_are_listed_searched_and_paged(held: Held) -> None:
    get = held.client.get
    found = get("/api/runs")
    assert [one["id"] for one in found["items"]] == [held.fails, held.family]
    failed, done = found["items"]
    assert (failed["state"], done["state"], found["next"], found["partial"]) == ("failed", "done", None, False)
    assert failed["error"] == {"type": "ValueError", "message": "no <b>luck</b>"}
    assert (failed["effects"], failed["failed"], failed["running"]) == (2, 1, 0)
    assert done["ended"] >= done["started"] and done["seconds"] >= 0

    def ids(query: str) -> list[str]:
        return [one["id"] for one in get(f"/api/runs?{query}")["items"]]

    assert ids("state=done") == [held.family]
    assert ids("state=done&state=failed") == [held.fails, held.family]
    assert ids("q=LUCK") == ids("error=luck") == [held.fails]
    assert ids("q=family") == [held.family] and ids(f"q={held.fails[-6:]}") == [held.fails]
    assert len(ids("children=1")) == 5
    assert ids(f"workflow={family.name}") == [held.family]
    assert ids("until=1000") == ids("cost_over=0.1") == []
    assert len(ids("since=1000")) == 2
    page_one = get("/api/runs?limit=1")
    assert [one["id"] for one in page_one["items"]] == [held.fails]
    assert ids(f"limit=1&after={page_one['next']}") == [held.family]


def test_one_run_says_what_it_and_all_below_it_did(held: Held) -> None:
    run = held.client.get(f"/api/runs/{held.family[2:]}")
    assert run["id"] == held.family and run["input"]["value"] == [3] and run["result"]["value"] == [1, 3, 5]
    assert run["children"] == 3
    assert run["total"]["processes"] == 4 and run["total"]["end"] >= run["total"]["start"]
    failed = held.client.get(f"/api/runs/{held.fails}")
    assert "shaky" in failed["traceback"] and failed["result"] is None
    tree = held.client.get(f"/api/runs/{held.family}/tree")
    assert [one["workflow"] for one in tree["children"]] == [child.name] * 3
    assert [one["effects"] for one in tree["children"]] == [2, 2, 2] and tree["cut"] is False
    assert held.client.get(f"/api/runs/{held.family}/result") == [1, 3, 5]


def test_rows_lie_in_tree_order_and_come_by_their_place(held: Held) -> None:
    get, base = held.client.get, f"/api/runs/{held.family}"
    rows = get(f"{base}/rows?count=1000")
    total = rows["total"]
    assert [one["index"] for one in rows["rows"]] == list(range(total))
    first = rows["rows"][0]
    assert (first["id"], first["kind"], first["depth"], first["below"]) == (held.family, "process", 0, total - 1)
    parents = {one["id"]: one for one in rows["rows"]}
    for one in rows["rows"][1:]:
        around = parents[one["parent"]]
        assert around["index"] < one["index"] <= around["index"] + around["below"]
        assert one["depth"] == around["depth"] + 1
        assert one["status"] == "ok" and one["end"] >= one["start"]
    assert sum(one["kind"] == "process" for one in rows["rows"]) == 4
    for start in range(total):
        part = get(f"{base}/rows?from={start}&count=3")["rows"]
        assert part == rows["rows"][start : start + 3]
    last = rows["rows"][-1]
    assert get(f"{base}/rows?at={last['id']}&count=6")["found"] == last["index"]
    children = get(f"{base}/spans?limit=2")
    seen = children["items"]
    while children["next"]:
        children = get(f"{base}/spans?limit=2&after={children['next']}")
        seen += children["items"]
    assert seen == [one for one in rows["rows"] if one["parent"] == held.family]
    spawn = next(one for one in seen if one["below"])
    assert [one["kind"] for one in get(f"{base}/spans?parent={spawn['id']}")["items"]] == ["process"]


def test_rows_can_be_found_and_counted_from_far(held: Held) -> None:
    get, base = held.client.get, f"/api/runs/{held.family}"
    total = get(f"{base}/rows")["total"]
    looks = get(f"{base}/rows?q=look")
    assert looks["total"] == 8 and all(one["name"].endswith("look") for one in looks["rows"])
    assert get(f"{base}/rows?kind=process")["total"] == 4
    assert get(f"{base}/rows?status=failed")["total"] == 0
    found = get(f"{base}/find?q=look&from=0")
    assert found["index"] == looks["rows"][0]["index"]
    assert get(f"{base}/find?q=look&from={total}&back=1")["index"] == looks["rows"][-1]["index"]
    assert get(f"{base}/find?q=nothing")["index"] is None
    far = get(f"{base}/buckets?n=7")
    assert sum(one["spans"] for one in far["buckets"]) == total - 4 and len(far["buckets"]) == 7
    assert sum(one["kinds"].get("step", 0) for one in far["buckets"]) == 8
    near = get(f"{base}/bands?n=5")["bands"]
    assert near[0]["from"] == 0 and near[-1]["to"] == total
    assert all(one["to"] == after["from"] for one, after in itertools.pairwise(near))


def test_a_run_has_its_graph_and_its_template_and_differs_from_another(held: Held) -> None:
    get = held.client.get
    graph = get(f"/api/runs/{held.family}/graph")
    ids = {one["id"] for one in graph["nodes"]}
    assert graph["report"]["nodes"] == len(ids) > 8 and not graph["folded"]
    assert all(edge["from"] in ids and edge["to"] in ids for edge in graph["edges"])
    assert all(one["width"] > 0 and one["height"] > 0 for one in graph["nodes"])
    template = get(f"/api/runs/{held.family}/template")
    assert any("look" in one["name"] for one in template["nodes"]) and template["report"]["plasticity"] == "select"
    same = get(f"/api/compare?a={held.family}&b={held.family}")
    assert same["same"] and same["first"] is None and same["rows"] == [] and same["alike"] > 8
    other = get(f"/api/compare?a={held.family}&b={held.fails}")
    assert not other["same"] and other["first"]["why"] and other["a"]["id"] == held.family
    assert {one["kind"] for one in other["rows"]} >= {"only_a", "only_b"}
    assert get(f"/api/compare?a={held.family}")["status"] == 400
    assert get(f"/api/compare?a={held.family}&b=nobody")["error"]["code"] == "unknown_run"


def test_an_effect_tells_all_of_itself_and_large_values_apart(held: Held) -> None:
    get = held.client.get
    rows = get(f"/api/runs/{held.fails}/rows?kind=step")["rows"]
    large, failed = (get(f"/api/effects/{one['id']}") for one in rows)
    assert large["output"]["cut"] and large["output"]["bytes"] > 100_000 and len(large["output"]["text"]) == 4_000
    assert get(large["output"]["href"]) == "x" * 100_000
    assert large["input"]["value"] == [0] and get(large["input"]["href"]) == [0] if "href" in large["input"] else True
    assert failed["error"]["message"] == "no <b>luck</b>" and failed["output"] is None
    assert [one["number"] for one in failed["attempts"]] == [1, 2] and failed["span"]["attempts"] == 3
    logs = get(f"/api/runs/{held.fails}/logs?limit=2")
    assert len(logs["items"]) == 2 and logs["next"]
    rest = get(f"/api/runs/{held.fails}/logs?after={logs['next']}")
    assert [one["seq"] for one in (*logs["items"], *rest["items"])] == list(range(2 + len(rest["items"])))
    assert rest["items"][-1]["level"] == "error" and "no <b>luck</b>" in rest["items"][-1]["text"]
    assert get(f"/api/runs/{held.fails}/logs?tail=1&limit=1")["items"] == rest["items"][-1:]


def test_a_generation_shows_its_messages_and_cost_and_sealed_values_stay_sealed(store: str) -> None:
    async def go(runtime: weft.Runtime) -> str:
        run = await runtime.start(talks, "the-secret-itself")
        await run
        return run.id

    id = drive(store, go)
    with page(store) as client:
        row = client.get(f"/api/runs/{id}/rows?kind=generation")["rows"][0]
        assert (row["tokens_in"], row["tokens_out"]) == (7, 2)
        one = client.get(f"/api/effects/{row['id']}")
        assert one["messages"][0]["role"] == "user"
        assert one["messages"][0]["parts"][0]["content"] == "Say <hello>."
        assert one["reply"]["parts"][0]["content"] == "<hello>" and one["tokens"]["input"] == 7
        sealed = [one["id"] for one in client.get(f"/api/runs/{id}/rows?q=look")["rows"]]
        shown = client.get(f"/api/effects/{sealed[0]}")
        assert shown["output"]["sealed"] and shown["output"]["value"].startswith("<labelled")
        spent = client.get(f"/api/runs/{id}/costs")
        assert spent["points"][-1]["tokens_in"] == 7 and spent["by"]["parrot"]["generations"] == 1
        over = client.get("/api/costs?by=model&n=3")
        assert sum(one["tokens_out"] for one in over["buckets"]) == 2 and not over["partial"]


def test_memory_has_its_cells_and_their_history(store: str) -> None:
    drive(store, lambda runtime: runtime.run(remembers, 1))
    with page(store) as client:
        assert client.get("/api/memory")["items"][0]["namespace"] == "page-notes"
        cell = client.get("/api/memory/cells?namespace=page-notes")["items"][0]
        assert cell["cell"] == "page-notes/count" and cell["version"] == 2
        past = client.get("/api/memory/history?cell=page-notes/count&limit=1")
        assert [one["version"] for one in past["items"]] == [2] and past["next"]
        older = client.get(f"/api/memory/history?cell=page-notes/count&after={past['next']}")
        assert [one["version"] for one in older["items"]] == [1]
        assert client.get("/api/memory/value?cell=page-notes/count&version=1")["body"]["value"] == 1
        assert client.get("/api/memory/value?cell=page-notes/count")["body"]["value"] == 2
        run = client.get("/api/runs")["items"][0]["id"]
        assert client.get(f"/api/runs/{run}/memory")["cells"]


def test_the_first_rows_of_a_long_run_come_while_the_rest_is_read(store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("weft.web.page.app.PATIENCE", 0.001)

    async def go(runtime: weft.Runtime) -> str:
        run = await runtime.start(long, 6_000)
        await run
        return run.id

    id = drive(store, go, durability="process")
    with page(store) as client:
        first = client.get(f"/api/runs/{id}/rows")
        assert len(first["rows"]) == 200 and (first["reading"] or first["total"] == 6_001)
        with client.events(f"/api/runs/{id}/live") as events:
            told = list(events)
        assert told[0].name == "hello" and told[-1].name == "end"
        if first["reading"]:
            assert any(one.name == "reset" or (one.name == "spans" and one.data["more"]) for one in told)
        last = client.get(f"/api/runs/{id}/rows?from=5990")
        assert (last["reading"], last["total"], len(last["rows"])) == (False, 6_001, 11)


def test_a_list_reads_so_much_and_says_what_it_does_not_know(held: Held, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("weft.web.page.sums.AT_ONCE", 1)
    monkeypatch.setattr("weft.web.page.sums.PIECE", 1)
    rounds = [held.client.get("/api/runs?children=1")["items"] for _ in range(60)]
    assert all(one["effects"] is None for one in rounds[0])
    assert [one["effects"] for one in rounds[-1]] == [2, 2, 2, 2, 8]  # nothing was counted twice
    monkeypatch.setattr("weft.web.page.sums.MOST", 1)
    monkeypatch.setattr("weft.web.page.sums.AT_ONCE", 50_000)
    assert held.client.get("/api/costs")["partial"] is False  # they are known by now


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("/api/runs/nobody", 404, "unknown_run"),
        ("/api/runs/nobody/rows", 404, "unknown_run"),
        ("/api/runs/{run}/live/x", 404, "unknown_url"),
        ("/api/runs/{run}/nothing", 404, "unknown_url"),
        ("/api/nothing", 404, "unknown_url"),
        ("/api/runs/{run}/rows?from=-1", 400, "bad_input"),
        ("/api/runs/{run}/rows?count=1001", 400, "bad_input"),
        ("/api/runs/{run}/rows?count=many", 400, "bad_input"),
        ("/api/runs/{run}/rows?at=nobody:1", 404, "unknown_effect"),
        ("/api/runs/{run}/rows?at={run}:99", 404, "unknown_effect"),
        ("/api/runs/{run}/rows?at={run}:-1", 404, "unknown_effect"),
        ("/api/runs/{run}/buckets?n=2001", 400, "bad_input"),
        ("/api/runs/{run}/buckets?since=nan", 400, "bad_input"),
        ("/api/runs/{run}/buckets?since=9&until=1", 400, "bad_input"),
        ("/api/runs/{run}/find", 400, "bad_input"),
        ("/api/runs/{run}/find?q=x&back=2", 400, "bad_input"),
        ("/api/runs/{run}/spans?after=%00", 400, "bad_input"),
        ("/api/runs?state=happy", 400, "bad_input"),
        ("/api/runs?limit=0", 400, "bad_input"),
        ("/api/runs?after=e30", 400, "bad_input"),
        ("/api/costs?by=colour", 400, "bad_input"),
        ("/api/costs?since=5&until=1", 400, "bad_input"),
        ("/api/effects/{run}", 404, "unknown_effect"),
        ("/api/effects/{run}:99", 404, "unknown_effect"),
        ("/api/effects/{run}:x", 404, "unknown_effect"),
        ("/api/effects/nobody:1", 404, "unknown_run"),
        ("/api/effects/{run}:1/soul", 404, "unknown_effect"),
        ("/api/memory/cells", 400, "bad_input"),
        ("/api/memory/cells?namespace=none", 404, "unknown_memory"),
        ("/api/memory/history?cell=none/such", 404, "unknown_memory"),
        ("/api/memory/value?cell=none/such", 404, "unknown_memory"),
    ],
)
def test_what_is_wrong_is_said(wrong: Held, path: str, status: int, code: str) -> None:
    found = wrong.client.get(path.replace("{run}", wrong.family))
    assert (found["status"], found["error"]["code"]) == (status, code)
    assert found["error"]["message"]


@pytest.fixture(scope="module")
def wrong(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Held]:
    place = str(tmp_path_factory.mktemp("wrong") / "journal.db")

    async def go(runtime: weft.Runtime) -> str:
        run = await runtime.start(child, 1)
        await run
        return run.id

    id = drive(place, go)
    with page(place) as client:
        yield Held(client, id, "")


def test_a_hostile_name_stays_text(store: str) -> None:
    """The API gives JSON only, never to be read as a page."""
    with page(store) as client:
        status, headers, body = client.ask("GET", "/api/runs/%3Cscript%3Ealert(1)%3C/script%3E")
        assert status == 404 and headers["content-type"] == "application/json"
        assert headers["x-content-type-options"] == "nosniff" and json.loads(body)["error"]["code"]
