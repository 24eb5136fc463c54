"""Actions from the page, on both stores: answers, forks, cancellation, signals, letters, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest

import weft
from tests.programs import drive
from tests.servers.page import Client, Elsewhere, until

said = weft.Mailbox("page-said", str)


@weft.step
async def double(number: int) -> int:
    return 2 * number


@weft.workflow
async def doubles(number: int, more: int = 0) -> int:
    return await double(number) + await double(more)


@weft.workflow
async def asks(what: str) -> str:
    sure = await weft.ask(f"Do <b>{what}</b>?", bool)
    return await said.receive() if sure else "no"


@weft.step(needs="shell:git push {branch}")
async def push(branch: str) -> str:
    return f"pushed {branch}"


@weft.workflow
async def pushes(branch: str) -> str:
    try:
        return await push(branch)
    except weft.errors.Denied as error:
        return error.why


@weft.workflow
async def sleeps() -> None:
    await weft.sleep(600)


def state(client: Client, id: str, *wanted: str) -> dict[str, Any]:
    def look() -> Any:
        run = client.get(f"/api/runs/{id}")
        return run if run["state"] in wanted else None

    found: dict[str, Any] = until(look)
    return found


def test_a_question_is_answered_and_a_letter_sent(client: Client, elsewhere: Elsewhere) -> None:
    id = elsewhere.start(asks, "it")
    one = until(lambda: client.get("/api/inbox")["items"])[0]
    assert (one["run"], one["kind"], one["text"], one["verdicts"]) == (id, "question", "Do <b>it</b>?", None)
    assert client.get(f"/api/runs/{id}")["questions"] == 1
    effect = client.get(f"/api/effects/{one['id']}")
    assert effect["question"]["id"] == one["id"] and effect["span"]["status"] == "waiting"
    bad = client.post(f"/api/inbox/{one['id']}/answer", {"value": "perhaps"})
    assert bad["status"] == 400 and "true" in bad["error"]["message"]
    assert client.post(f"/api/inbox/{one['id']}/answer", {})["status"] == 400
    assert client.post(f"/api/inbox/{one['id']}/answer", {"value": True, "who": 5})["status"] == 400
    done = client.post(f"/api/inbox/{one['id']}/answer", {"text": "yes", "who": "ada"})
    assert done["run"] == id
    until(lambda: not client.get("/api/inbox")["items"])
    assert client.post(f"/api/inbox/{one['id']}/answer", {"value": True})["error"]["code"] == "unknown_question"
    approvals = client.get(f"/api/effects/{one['id']}")["approvals"]
    assert [one["who"] for one in approvals] == ["ada"]
    assert client.post(f"/api/runs/{id}/send", {"box": "page-said", "value": 5})["status"] == 400
    assert client.post(f"/api/runs/{id}/send", {"box": "", "value": "x"})["status"] == 400
    assert client.post(f"/api/runs/{id}/send", {"box": "page-said"})["status"] == 400
    assert client.post(f"/api/runs/{id}/send", {"box": "page-said", "value": "hello"})["box"] == "page-said"
    assert state(client, id, "done")["result"]["value"] == "hello"


@pytest.mark.parametrize(("word", "result"), [("once", "pushed main"), ("never", "ada said no")])
def test_an_approval_is_given_or_refused(client: Client, store: str, word: str, result: str) -> None:
    asking = Elsewhere(store, weft.Policy(base="program", ask=("shell:git push **",)))
    try:
        id = asking.start(pushes, "main")
        one = until(lambda: client.get("/api/inbox?queue=default")["items"])[0]
        assert one["kind"] == "approval" and one["verdicts"] == ["once", "always", "never"]
        assert one["requests"][0]["action"] == "shell.run" and "main" in one["arguments"]
        assert client.get("/api/inbox?queue=nobody")["items"] == []
        assert client.post(f"/api/inbox/{one['id']}/answer", {"value": "perhaps"})["status"] == 400
        client.post(f"/api/inbox/{one['id']}/answer", {"value": word, "who": "ada"})
        assert state(client, id, "done")["result"]["value"] == result
        effect = client.get(f"/api/effects/{one['id']}")
        assert [(each["verdict"], each["who"]) for each in effect["approvals"]] == [(word, "ada")]
        assert effect["span"]["status"] == ("ok" if word == "once" else "denied")
    finally:
        asking.close()


def test_a_fork_takes_another_input_or_another_outcome(client: Client, store: str) -> None:
    async def go(runtime: weft.Runtime) -> str:
        run = await runtime.start(doubles, 4, more=1)
        await run
        return run.id

    id = drive(store, go)
    shown = client.get(f"/api/runs/{id}")["input"]["value"]
    assert shown == {"*": [4], "**": {"more": 1}}
    for body, result in (
        ({"at": 1}, 10),
        ({"at": 1, "input": {"*": [5], "**": {"more": 1}}}, 12),
        ({"at": 1, "input": [6]}, 12),
        ({"at": 1, "input": {"number": 7, "more": 2}}, 18),
        ({"at": 2, "value": 100}, 108),
    ):
        fork = client.post(f"/api/runs/{id}/fork", body)
        one = state(client, fork["run"], "done")
        assert one["result"]["value"] == result and one["forked"] == f"{id}@{body['at']}"
    for bad in ({}, {"at": "1"}, {"at": 0}, {"at": True}, {"at": 99}, {"at": 1, "input": {"wrong": 1}},
                {"at": 1, "input": [1, 2, 3, 4]}):  # fmt: skip
        assert client.post(f"/api/runs/{id}/fork", bad)["status"] == 400


def test_runs_are_paused_resumed_and_cancelled(client: Client, elsewhere: Elsewhere) -> None:
    id = elsewhere.start(sleeps)
    assert client.post(f"/api/runs/{id}/signal", {"what": "dance"})["status"] == 400
    assert client.post(f"/api/runs/{id}/resume", {})["error"]["code"] == "conflict"
    client.post(f"/api/runs/{id}/signal", {"what": "pause"})
    state(client, id, "paused")
    client.post(f"/api/runs/{id}/resume", {})
    state(client, id, "running", "waiting")
    assert client.post(f"/api/runs/{id}/cancel", {})["run"] == id
    assert state(client, id, "cancelled")["error"]
    assert client.post(f"/api/runs/{id}/cancel", {})["state"] == "cancelled"
    other = elsewhere.start(sleeps)
    client.post(f"/api/runs/{other}/signal", {"what": "kill"})
    state(client, other, "killed")


def test_an_interrupted_run_is_found_and_goes_on(client: Client, store: str) -> None:
    other = Elsewhere(store)
    id = other.start(asks, "that")
    until(lambda: client.get("/api/inbox")["items"])
    other.close()
    assert [one["id"] for one in client.get("/api/runs?state=interrupted")["items"]] == [id]
    assert client.post(f"/api/runs/{id}/resume", {})["state"] in ("running", "waiting")
    one = client.get("/api/inbox")["items"][0]
    client.post(f"/api/inbox/{one['id']}/answer", {"value": False})
    assert state(client, id, "done")["result"]["value"] == "no"


def test_an_action_on_nothing_says_so(client: Client) -> None:
    for path in ("cancel", "resume", "signal", "send", "fork"):
        assert client.post(f"/api/runs/nobody/{path}", {})["error"]["code"] == "unknown_run"
    assert client.post("/api/inbox/nobody/answer", {"value": 1})["error"]["code"] == "unknown_question"
