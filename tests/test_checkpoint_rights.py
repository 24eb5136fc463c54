"""A fork never may more than its origin may: revoked rights, rights to one use, approvals and budgets."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from pathlib import Path
from typing import Any

import pytest

import weft
from tests.programs import drive, fresh, ran  # noqa: F401
from weft.core.errors import BudgetExceeded, Denied, ReleaseNeeded
from weft.store import open_store
from weft.store.copy import copy
from weft.trace.audit import verify

go = weft.Mailbox("go", str)


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder of this test."""
    for name in ("WEFT_POLICY", "WEFT_ALLOW", "WEFT_ASK", "WEFT_DENY"):
        monkeypatch.delenv(name, raising=False)
    folder = tmp_path / "inside"
    folder.mkdir()
    (folder / "a.txt").write_text("a")
    monkeypatch.chdir(folder)
    return folder


@weft.step
def read(path: str) -> str:
    return Path(path).read_text()


@weft.step(needs="write:{path}")
def write(path: str, text: str) -> str:
    with Path(path).open("a") as file:
        file.write(text)
    return text


async def tried(call: Awaitable[Any]) -> Any:
    try:
        return await call
    except Denied as error:
        return f"denied {error.action}"


@weft.workflow
async def leaf(path: str) -> list[str]:
    return [await tried(read(path)), await go.receive(), await tried(read(path))]


@weft.workflow
async def stem(path: str) -> Any:
    mine = await tried(read(path))
    child = await weft.spawn(leaf, path)
    await go.receive()
    return [mine, await tried(read(path)), await child]


async def ready(runtime: weft.Runtime, id: str) -> list[str]:
    """The process and the one below it, both waiting for a letter."""
    async with asyncio.timeout(20):
        while True:
            await runtime.journal.barrier()
            rows = (await runtime.store.subtree(id)).rows
            if len(rows) == 2 and all(row.state == "waiting" for row in rows.values()):
                return list(rows)
            await asyncio.sleep(0.02)


async def number(runtime: weft.Runtime, id: str, action: str) -> int:
    """Of the capability that allows an action."""
    row = await runtime.row(id)
    held = (await runtime.rights.image(row.image)).capabilities
    return next(n for n, one in enumerate(held) if action in one.actions and one.effect == "allow")


async def release(runtime: weft.Runtime, id: str) -> Any:
    for one in await ready(runtime, id):
        await runtime.send(one, "go", "on")
    return await weft.Run(runtime, id)


async def sound(runtime: weft.Runtime) -> bool:
    await runtime.journal.barrier()
    return [flaw async for _, found in verify(runtime.store) for flaw in found] == []


ALLOWED = ["a", "a", ["a", "on", "a"]]
DENIED = ["a", "denied file.read", ["a", "on", "denied file.read"]]
CHILD_DENIED = ["a", "a", ["a", "on", "denied file.read"]]


def test_what_is_not_revoked_is_in_a_fork_too(store: str, workspace: Path) -> None:
    async def use(runtime: weft.Runtime) -> None:
        run = await runtime.start(stem, "a.txt")
        await ready(runtime, run.id)
        fork = await runtime.fork_checkpoint(await runtime.checkpoint(run.id))
        assert await release(runtime, fork.id) == ALLOWED
        assert await release(runtime, run.id) == ALLOWED
        assert await sound(runtime)

    drive(store, use)


@pytest.mark.parametrize("when", ["before", "between", "after"])
def test_what_is_revoked_in_the_origin_is_dead_in_forks_and_forks_of_forks(
    store: str, workspace: Path, when: str
) -> None:
    async def use(runtime: weft.Runtime) -> None:
        run = await runtime.start(stem, "a.txt")
        await ready(runtime, run.id)

        async def revoke(now: str) -> None:
            if now == when:
                await runtime.rights.revoke(run.id, await number(runtime, run.id, "file.read"), "me")

        await revoke("before")
        made = await runtime.checkpoint(run.id)
        await revoke("between")
        fork = await runtime.fork_checkpoint(made)
        await ready(runtime, fork.id)
        second = await runtime.fork_checkpoint(await runtime.checkpoint(fork.id))
        await ready(runtime, second.id)
        await revoke("after")
        for one in (run, fork, second):
            assert await release(runtime, one.id) == DENIED
        assert await release(runtime, (await runtime.fork_checkpoint(made)).id) == DENIED
        assert await sound(runtime)

    drive(store, use)


def test_what_is_revoked_in_a_child_or_in_a_fork_is_dead_from_there_on(store: str, workspace: Path) -> None:
    async def use(runtime: weft.Runtime) -> None:
        run = await runtime.start(stem, "a.txt")
        _, child = await ready(runtime, run.id)
        made = await runtime.checkpoint(run.id)
        first = await runtime.fork_checkpoint(made)
        await ready(runtime, first.id)
        below = await runtime.fork_checkpoint(await runtime.checkpoint(first.id))
        await ready(runtime, below.id)
        await runtime.rights.revoke(first.id, await number(runtime, first.id, "file.read"), "me")
        assert await release(runtime, first.id) == await release(runtime, below.id) == DENIED
        await runtime.rights.revoke(child, await number(runtime, child, "file.read"), "me")
        assert await release(runtime, (await runtime.fork_checkpoint(made)).id) == CHILD_DENIED
        assert await release(runtime, run.id) == CHILD_DENIED

    drive(store, use)


def test_a_revocation_outlives_its_process_and_goes_with_a_copy(store: str, workspace: Path, tmp_path: Path) -> None:
    async def use(runtime: weft.Runtime) -> tuple[str, str]:
        run = await runtime.start(stem, "a.txt")
        await ready(runtime, run.id)
        first = await runtime.fork_checkpoint(await runtime.checkpoint(run.id))
        await ready(runtime, first.id)
        made = await runtime.checkpoint(first.id)
        second = await runtime.fork_checkpoint(made)
        await ready(runtime, second.id)
        await runtime.rights.revoke(run.id, await number(runtime, run.id, "file.read"), "me")
        for one in (run, first):
            await runtime.signal(one.id, "kill")
            for row in (await runtime.store.subtree(one.id)).rows.values():
                await runtime.end_of(row.id)
        ids = [id for one in (run, first) for id in (await runtime.store.subtree(one.id)).rows]
        assert await runtime.store.delete(ids) == 4
        third = await runtime.fork_checkpoint(await runtime.checkpoint(second.id))
        assert await release(runtime, second.id) == DENIED
        return third.id, made

    id, _ = drive(store, use)
    other = str(tmp_path / "other.db")

    async def move() -> None:
        source, target = open_store(store), open_store(other)
        report = await copy(source, target)
        assert not report.left
        await source.close()
        await target.close()

    asyncio.run(move())

    async def there(runtime: weft.Runtime) -> None:
        await runtime.resume_all()
        assert await release(runtime, id) == DENIED
        assert await sound(runtime)

    drive(other, there)


# --- once -----------------------------------------------------------------------------------------------------------


@weft.workflow
async def writes(path: str, first: bool) -> list[str]:
    found = [await tried(write(path, "1"))] if first else []
    await weft.checkpoint("here")
    return [*found, await tried(write(path, "2")), await over_there(path)]


@weft.workflow
async def over_there(path: str) -> str:
    return await tried(write(path, "3"))


@pytest.mark.parametrize("first", [True, False])
def test_a_right_to_so_many_uses_is_the_origins_alone(store: str, workspace: Path, first: bool) -> None:
    async def use(runtime: weft.Runtime) -> None:
        run = await runtime.start(writes, "b.txt", first)
        spent = ["1", "2"] if first else ["2", "3"]
        assert (await run)[:2] == spent
        denied = "denied file.write"
        for _ in range(2):
            fork = await runtime.fork_checkpoint("here")
            assert await fork == [*(["1"] if first else []), denied, denied]
        assert (workspace / "b.txt").read_text() == "".join(spent)
        assert await sound(runtime)

    drive(store, use, policy=weft.Policy(allow=("write:./b.txt uses=2",)))


@weft.workflow
async def becomes(path: str) -> None:
    await weft.exec(writes, path, False)


def test_nor_is_it_revived_where_the_origin_became_another_program(store: str, workspace: Path) -> None:
    async def use(runtime: weft.Runtime) -> None:
        run = await runtime.start(becomes, "b.txt")
        assert await run == ["2", "3"]
        assert await (await runtime.fork_checkpoint("here")) == ["denied file.write"] * 2
        assert await (await runtime.fork(run.id, at=3)) == ["denied file.write"] * 2  # time travel neither
        assert (workspace / "b.txt").read_text() == "23"

    drive(store, use, policy=weft.Policy(allow=("write:./b.txt uses=2",)))


def test_what_a_process_became_keeps_its_image_when_others_are_deleted(store: str, workspace: Path) -> None:
    async def begin(runtime: weft.Runtime) -> str:
        run = await runtime.start(turns_into)
        other = await runtime.start(over_there, "b.txt")
        await other
        while run.id in runtime.active:
            await asyncio.sleep(0.02)
        await runtime.store.delete([other.id])
        return run.id

    id = drive(store, begin)

    async def go_on(runtime: weft.Runtime) -> Any:
        run = await runtime.resume(id)
        await runtime.send(id, "go", "on")
        return await run

    assert drive(store, go_on) == "on"


@weft.workflow
async def turns_into() -> None:
    await weft.exec(hears)


@weft.workflow
async def hears() -> str:
    return await go.receive()


# --- approvals ------------------------------------------------------------------------------------------------------


async def question(runtime: weft.Runtime, id: str, but: str = "") -> str:
    async with asyncio.timeout(20):
        while True:
            await runtime.journal.barrier()
            if found := [one.id for one in await runtime.store.questions(process=id) if one.id != but]:
                return found[0]
            await asyncio.sleep(0.02)


@weft.workflow
async def asks_first(path: str) -> list[str]:
    return [await tried(write(path, "x")), await tried(write(path, "x"))]


@pytest.mark.parametrize("word", ["once", "always"])
def test_what_a_person_allows_the_origin_once_a_fork_asks_for_itself(store: str, workspace: Path, word: str) -> None:
    async def use(runtime: weft.Runtime) -> None:
        run = await runtime.start(asks_first, "b.txt")
        asked = await question(runtime, run.id)
        before = await runtime.checkpoint(run.id)
        await runtime.signal(run.id, "pause")
        while await run.status() != "paused":
            await asyncio.sleep(0.02)
        await runtime.people.answer(asked, word, "me")
        answered = await runtime.checkpoint(run.id)  # the answer lies in its box
        await runtime.resume(run.id)
        if word == "once":
            await runtime.people.answer(await question(runtime, run.id, asked), "never", "me")
        assert await run == ["x", "x" if word == "always" else "denied file.write"]
        done = (workspace / "b.txt").read_text()
        for made in (before, answered):
            fork = await runtime.fork_checkpoint(made)
            if await fork.status() == "paused":
                await runtime.resume(fork.id)
            await runtime.people.answer(await question(runtime, fork.id), "never", "me")
            assert await fork == ["denied file.write"] * 2
        assert (workspace / "b.txt").read_text() == done

    drive(store, use, policy=weft.Policy(ask=("write:./b.txt",), allow=("write:./b.txt",)))


# --- labels ---------------------------------------------------------------------------------------------------------


@weft.workflow
async def leaks(path: str) -> list[str]:
    text, found = await read(path), []
    while (what := await go.receive()) != "stop":
        try:
            found.append(await write(what, text))
        except ReleaseNeeded as error:
            await weft.publish("needed", [error.sink, error.value])
            found.append("refused")
    return found


@weft.workflow
async def needed() -> list[str]:
    found: list[str] = await weft.wait_for("needed")
    return found


def test_a_release_is_the_origins_and_what_was_seen_a_fork_has_seen(store: str, workspace: Path) -> None:
    async def use(runtime: weft.Runtime) -> None:
        run = await runtime.start(leaks, "a.txt")
        await runtime.send(run.id, "go", "b.txt")
        sink, value = await runtime.run(needed)
        await at_rest(runtime, run.id)
        await runtime.release(run.id, sink, value)
        await at_rest(runtime, run.id)
        unused = await runtime.checkpoint(run.id)
        await runtime.send(run.id, "go", "b.txt")
        while not (workspace / "b.txt").exists():
            await asyncio.sleep(0.02)
        await at_rest(runtime, run.id)
        used = await runtime.checkpoint(run.id)
        for made, before in ((unused, ["refused"]), (used, ["refused", "a"])):
            fork = await runtime.fork_checkpoint(made)
            for word in ("b.txt", "b.txt", "stop"):
                await runtime.send(fork.id, "go", word)
            assert await fork == [*before, "refused", "refused"]
        fork = await runtime.fork_checkpoint(used)
        await runtime.release(fork.id, sink, value)  # a person may release it there too
        for word in ("b.txt", "b.txt", "stop"):
            await runtime.send(fork.id, "go", word)
        assert await fork == ["refused", "a", "a", "refused"]
        assert (workspace / "b.txt").read_text() == "aa"
        assert await sound(runtime)

    policy = weft.Policy(allow=("write:./",), label=("secret file:./a.txt",))
    drive(store, use, policy=policy)


async def at_rest(runtime: weft.Runtime, id: str) -> None:
    async with asyncio.timeout(20):
        while id in runtime.active:
            await asyncio.sleep(0.02)


# --- budgets --------------------------------------------------------------------------------------------------------


@weft.step(cost=lambda tokens: {"tokens": tokens})
async def generate(tokens: int) -> int:
    ran.append(tokens)
    return tokens


async def as_far_as(calls: int, tokens: int = 10) -> int:
    made = 0
    for _ in range(calls):
        try:
            await generate(tokens)
            made += 1
        except BudgetExceeded:
            break
    return made


@weft.workflow
async def spends(before: int, after: int) -> tuple[int, int, int]:
    first = await as_far_as(before)
    await weft.checkpoint("here")
    return first, await as_far_as(after), await spends_below(after)


@weft.workflow
async def spends_below(calls: int) -> int:
    return await as_far_as(calls)


@weft.workflow
async def above(before: int, after: int, own: float | None) -> Any:
    child = spends if own is None else spends.options(budget=weft.Budget(tokens=own))
    return await child(before, after)


def total() -> int:
    return sum(ran)


def test_forks_spend_the_budget_of_their_origin_and_do_not_multiply_it(store: str) -> None:
    async def use(runtime: weft.Runtime) -> None:
        limited = spends.options(budget=weft.Budget(tokens=100))
        run = await runtime.start(limited, 2, 1)
        assert await run == (2, 1, 1)
        assert total() == 40
        assert await (await runtime.fork_checkpoint("here")) == (2, 1, 1)
        assert await (await runtime.fork_checkpoint("here")) == (2, 1, 1)
        assert await (await runtime.fork_checkpoint("here")) == (2, 1, 1)
        assert await (await runtime.fork_checkpoint("here")) == (2, 0, 0)
        assert total() == 100
        assert await runtime.ledger.left(run.id) == {"tokens": 0.0}

    drive(store, use)


@pytest.mark.parametrize("own", [None, 60.0])
def test_nor_that_of_whoever_is_above(store: str, own: float | None) -> None:
    async def use(runtime: weft.Runtime) -> None:
        run = await runtime.start(above.options(budget=weft.Budget(tokens=100)), 2, 1, own)
        await run
        [child] = await runtime.store.rows(parent=run.id)
        forks = [await runtime.fork_checkpoint("here") for _ in range(6)]
        made = [sum(await fork) - 2 for fork in forks]
        assert sum(made) == (6 if own is None else 2)  # what was left of 100, or of the child's 60
        assert total() == 40 + 10 * sum(made)
        # A fork of all of it, and one of a fork.
        whole = await runtime.fork_checkpoint(await runtime.checkpoint(run.id))
        assert await whole == await run
        again = await runtime.fork_checkpoint(await runtime.checkpoint(forks[0].id))
        assert await again == await forks[0]
        assert await runtime.ledger.left(child.id) == {"tokens": 0.0}

    drive(store, use)


def test_a_fork_is_bounded_by_what_was_left_when_its_origin_is_gone(store: str) -> None:
    async def use(runtime: weft.Runtime) -> None:
        limited = spends.options(budget=weft.Budget(tokens=100))
        run = await runtime.start(limited, 2, 9)
        waiting = await runtime.start(limited, 0, 0)
        await waiting
        assert sum(await run) == 10
        fork = await runtime.fork_checkpoint(await runtime.checkpoint(run.id))
        await fork
        await runtime.store.delete([run.id, *(row.id for row in await runtime.store.rows(parent=run.id))])
        assert await runtime.ledger.left(fork.id) == {"tokens": 0.0}
        assert await sound(runtime)

    drive(store, use)
