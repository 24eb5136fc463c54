"""The shared store under faults: owners that fall silent, answers that get lost, a server that is away."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import asyncpg
import pytest

from tests.servers.postgres import Postgres
from tests.servers.relay import Relay
from tests.stores import Place, commit, eventually, ids, row, rows, until
from weft.core.errors import LeaseLost, StoreError, StoreUnreachable
from weft.core.queue import Queue
from weft.store import Batch, Message, Segment, Store
from weft.store.base import Want
from weft.store.ledger import Account, Charge
from weft.store.postgres import lease

SHORT = {"heartbeat": 0.5}
"""Of those that are to be taken over."""
LONG = {"heartbeat": 1.0}
"""Of those that take over: their own lease outlasts a slow machine."""


@pytest.fixture
def place(postgres_url: str) -> Place:
    return Place("postgres", postgres_url)


@pytest.fixture
def relay(postgres: Postgres) -> Iterator[Relay]:
    with Relay("127.0.0.1", postgres.port) as relay:
        yield relay


async def asked(place: Place, query: str) -> list[tuple[Any, ...]]:
    """What the server itself answers."""
    connection = await asyncpg.connect(place.url)
    try:
        return [tuple(found) for found in await connection.fetch(query)]
    finally:
        await connection.close()


def letter(text: str) -> dict[str, Any]:
    """A batch of which two would be seen: letters have no key."""
    return {"messages": [Message(0, "p", "box", text.encode())]}


async def letters(place: Place) -> list[str]:
    return [payload.decode() for (payload,) in await asked(place, "SELECT payload FROM weft.inbox ORDER BY id")]


# --- who falls silent -------------------------------------------------------------------------------------------


def test_who_was_taken_over_writes_nothing_more(place: Place, relay: Relay) -> None:
    async def main() -> None:
        first = await place.beside("postgres", relay.url(place.url)).owner("first", {"shop.order": "v1"}, **SHORT)
        lost: list[StoreError] = []
        first.listen(lambda hint: None, lost.append)
        await commit(
            first,
            rows=rows(
                row("runs", owner="first", length=1),
                row("sleeps", owner="first", state="waiting", wake_at=1.0),
                row("free", state="queued", queue="q"),
            ),
            accounts={"runs": Account("runs", limits={"turns": 5.0})},
        )
        await first.follow("first", ["event"])
        assert (await first.admit("first", Queue("q", concurrency=9), [Want("t")], 0)).tickets == ["t"]
        second = await place.owner("second", **LONG)
        heard: list[str] = []
        second.listen(heard.append, lambda error: pytest.fail(str(error)))
        assert await second.claim("second", ["runs"]) == []

        relay.freeze()
        late: list[BaseException | None] = []
        first.commit(
            Batch(rows=rows(row("runs", owner="first", state="done", length=9)), **letter("late")), late.append
        )
        [taken] = await eventually(lambda: second.claim("second", ["runs"]))
        assert (taken.owner, taken.strikes, taken.length) == ("second", 1, 1)
        await until(lambda: "queue" in heard)  # there is work for everybody
        assert ids(await second.claim("second", ["sleeps"])) == ["sleeps"]
        assert await asked(place, "SELECT owner FROM weft.owners") == [("second",)]
        assert await asked(place, "SELECT ticket FROM weft.tickets UNION ALL SELECT key FROM weft.waits") == []

        relay.thaw()
        await until(lambda: len(late) == 1 and len(lost) == 1)
        assert isinstance(late[0], LeaseLost) and isinstance(lost[0], LeaseLost)
        assert "runtime first was silent for over 0.875 s" in str(late[0])
        refused = (
            commit(first, **letter("later")),
            first.insert(row("new", key="k", owner="first")),
            first.register("first", {}),
            first.reserve([Charge("runs:1:1", "runs", {"turns": 1.0})]),
        )
        for use in refused:
            with pytest.raises(LeaseLost):
                await use
        # Nor does it take or wake anything.
        await commit(second, rows=rows(row("asleep", owner="first", state="waiting", wake_at=1.0)))
        assert await first.due("first", 9.0, 9) == []
        assert await first.claim("first") == []
        admission = await first.admit("first", Queue("q", concurrency=9), [Want("u")], 9)
        assert (admission.rows, admission.tickets) == ([], [])
        await first.follow("first", ["event"])
        assert await asked(place, "SELECT ticket FROM weft.tickets UNION ALL SELECT key FROM weft.waits") == []
        runs = await second.row("runs")
        assert runs is not None and (runs.state, runs.owner, runs.length) == ("running", "second", 1)
        assert await letters(place) == [] and await second.row("new") is None
        assert len(lost) == 1
        await first.close()  # and takes nothing of the other's along
        assert await second.alive("second")
        await commit(second, **letter("goes on"))

    place.run(main)


def test_who_was_silent_and_not_taken_over_goes_on(place: Place, relay: Relay) -> None:
    async def main() -> None:
        first = await place.beside("postgres", relay.url(place.url)).owner("first", **SHORT)
        first.listen(lambda hint: None, lambda error: pytest.fail(str(error)))
        await commit(first, **letter("before"))
        looker = place.open()

        async def over() -> bool:
            return not await looker.alive("first")

        relay.freeze()
        await eventually(over)
        relay.thaw()
        await commit(first, **letter("after"))
        await eventually(lambda: looker.alive("first"))
        assert await letters(place) == ["before", "after"]

    place.run(main)


def test_a_loop_that_a_step_blocks_costs_no_lease_and_one_that_stands_still_does(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        first = await place.owner("first", **SHORT)
        lost: list[StoreError] = []
        first.listen(lambda hint: None, lost.append)
        await commit(first, rows=rows(row("p", owner="first")))
        second = await asyncio.to_thread(Elsewhere, place)
        try:
            time.sleep(2.0)  # noqa: ASYNC251  # over two leases
            await commit(first, **letter("after"))
            assert second.do(second.store.claim("second")) == [] and lost == []
            monkeypatch.setattr(lease, "STALLED", 2.0)  # a loop that turns shows it each second
            while not second.do(second.store.claim("second")):  # this loop stands still meanwhile
                time.sleep(0.05)  # noqa: ASYNC251
            with pytest.raises(LeaseLost):
                await commit(first, **letter("too late"))
            assert await letters(place) == ["after"]
        finally:
            await asyncio.to_thread(second.close)

    place.run(main)


class Elsewhere:
    """A store in the loop of another thread."""

    def __init__(self, place: Place) -> None:
        import threading

        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.thread.start()
        self.store: Store = self.do(Place("postgres", place.url).owner("second", **LONG))

    def do(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(60)

    def close(self) -> None:
        self.do(self.store.close())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()
        self.loop.close()


def test_nobody_is_taken_over_because_the_server_was_away(place: Place, postgres: Postgres) -> None:
    async def main() -> None:
        stores = {name: await place.owner(name, **SHORT) for name in ("a", "b", "c")}
        for name, store in stores.items():
            store.listen(lambda hint: None, lambda error: pytest.fail(str(error)))
            await commit(store, rows=rows(row(name, owner=name)))
        postgres.kill()
        await asyncio.sleep(2 * 0.875)
        await asyncio.to_thread(postgres.start)
        await asyncio.gather(*(commit(store, **letter(name)) for name, store in stores.items()))
        for _ in range(10):  # some leases' time: whoever were taken for dead would be by now
            await asyncio.sleep(0.1)
            for name, store in stores.items():
                assert await store.claim(name) == []
        assert sorted(await letters(place)) == ["a", "b", "c"]

    place.run(main)


def test_nobody_is_taken_over_because_the_network_was_away(place: Place, postgres: Postgres, relay: Relay) -> None:
    async def main(last: Relay) -> None:
        urls = {"a": relay.url(place.url), "b": last.url(place.url)}
        stores = {name: await place.beside("postgres", url).owner(name, **LONG) for name, url in urls.items()}
        for name, store in stores.items():
            store.listen(lambda hint: None, lambda error: pytest.fail(str(error)))
            await commit(store, rows=rows(row(name, owner=name)))
        relay.freeze()
        last.freeze()
        await eventually(lambda: asked(place, "SELECT FROM weft.owners HAVING max(expires) < clock_timestamp()"))
        relay.thaw()
        # Who is back first finds the other's lease over, as his own was.
        await eventually(lambda: asked(place, "SELECT FROM weft.owners WHERE expires > clock_timestamp()"))
        last.thaw()
        living = "SELECT FROM weft.owners HAVING min(expires) > clock_timestamp() AND count(*) = 2"
        await eventually(lambda: asked(place, living))
        for name, store in stores.items():
            await commit(store, **letter(name))
            assert await store.claim(name) == []

    with Relay("127.0.0.1", postgres.port) as last:
        place.run(lambda: main(last))


# --- answers that get lost --------------------------------------------------------------------------------------


def test_a_commit_whose_answer_is_lost_is_applied_once(place: Place, relay: Relay) -> None:
    async def main() -> None:
        store = await place.beside("postgres", relay.url(place.url)).owner("me")
        await commit(store, **letter("0"), segments=[Segment("p", 0, b"")])  # such a statement is known from now on
        answers: list[BaseException | None] = []
        for n in range(1, 6):
            relay.half_close()
            store.commit(Batch(**letter(str(n)), segments=[Segment("p", n, b"")]), answers.append)
            while len(await letters(place)) < n + 1:  # the server has done it, and we do not know
                await asyncio.sleep(0.005)
            assert len(answers) == n - 1
            relay.cut()
            relay.heal()
            await until(lambda n=n: len(answers) == n)  # type: ignore[misc]
        assert answers == [None] * 5
        assert await letters(place) == [str(n) for n in range(6)]

    place.run(main)


def test_a_commit_is_applied_once_wherever_the_connection_breaks(place: Place, relay: Relay) -> None:
    async def main() -> None:
        store = await place.beside("postgres", relay.url(place.url)).owner("me")
        await commit(store, **letter("first"))
        sent = ["first"]
        for size in (0, 1, 5, 30, 80, 200, 400, 800, 1600):
            relay.drop_after(size)  # of each connection, so that some attempts die while they log in
            texts = [f"{size}-{n}" for n in range(3)]
            waiting = [asyncio.ensure_future(commit(store, **letter(text))) for text in texts]
            await asyncio.sleep(0.03)
            relay.drop_after(None)
            await asyncio.gather(*waiting)
            sent += texts
        assert await letters(place) == sent

    place.run(main)


def test_after_a_commit_that_nobody_knows_of_the_next_is_applied(place: Place, relay: Relay) -> None:
    async def main() -> None:
        store = await place.beside("postgres", relay.url(place.url)).owner("me", patience=0.3, statement_timeout=0.5)
        await commit(store, **letter("before"))
        relay.half_close()
        with pytest.raises(StoreUnreachable, match="does not answer"):
            await commit(store, **letter("doubtful"))
        relay.heal()
        assert await letters(place) == ["before", "doubtful"]
        await commit(store, **letter("after"))
        await commit(store, **letter("and after"))
        assert await letters(place) == ["before", "doubtful", "after", "and after"]

    place.run(main)


def test_a_commit_that_was_given_up_never_comes_after_the_next(place: Place, relay: Relay) -> None:
    async def main() -> None:
        store = await place.beside("postgres", relay.url(place.url)).owner("me", patience=0.5)
        await commit(store, **letter("before"))
        holds = await asyncpg.connect(place.url)
        async with holds.transaction():
            await holds.execute("SELECT FROM weft.owners WHERE owner = 'me' FOR UPDATE")
            given = asyncio.ensure_future(commit(store, **letter("given up")))
            blocked = "SELECT pid FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%inbox%'"
            while not given.done():  # each attempt waits for the lock at the server when its connection breaks
                if await asked(place, blocked):
                    relay.cut()
                await asyncio.sleep(0.01)
            assert isinstance(given.exception(), StoreUnreachable)
            after = asyncio.ensure_future(commit(store, **letter("after")))
            await asyncio.sleep(0.1)
        await holds.close()
        await after
        assert await asked(place, blocked) == []
        found = await letters(place)
        # It may have been applied, as whoever gave up was told; but once, and before what came later.
        assert found in (["before", "after"], ["before", "given up", "after"])

    place.run(main)


HOLD = """
CREATE FUNCTION weft.hold() RETURNS trigger LANGUAGE plpgsql
    AS 'BEGIN PERFORM pg_advisory_xact_lock_shared(77); RETURN NULL; END';
CREATE CONSTRAINT TRIGGER hold AFTER INSERT OR UPDATE ON weft.processes
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION weft.hold()
"""
"""From now on whoever changes a process waits at the end of his transaction for lock 77."""


async def hold_commits(place: Place) -> None:
    connection = await asyncpg.connect(place.url)
    await connection.execute(HOLD)
    await connection.close()


async def lose_the_answer(place: Place, relay: Relay, use: Callable[[], Awaitable[Any]], applied: str) -> Any:
    """What `use` answers whose first transaction is committed, as `applied` finds, without an answer to it."""
    holds = await asyncpg.connect(place.url)
    await holds.execute("SELECT pg_advisory_lock(77)")
    asking = asyncio.ensure_future(use())
    await eventually(lambda: asked(place, "SELECT FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"))
    relay.half_close()
    assert await asked(place, applied) == []
    await holds.close()
    await eventually(lambda: asked(place, applied))
    assert not asking.done()
    relay.cut()
    relay.heal()
    return await asking


def test_what_was_given_in_an_answer_that_got_lost_is_told(place: Place, relay: Relay) -> None:
    queue = Queue("q", concurrency=5)

    async def main() -> None:
        store = await place.beside("postgres", relay.url(place.url)).owner("me", {"shop.order": "v1"})
        await commit(
            store,
            rows=rows(
                row("a"),
                row("b", state="queued", queue="q"),
                row("c", state="waiting", owner="me", wake_at=1.0),
            ),
        )
        await hold_commits(place)
        hints: list[str] = []
        store.listen(hints.append, lambda error: pytest.fail(str(error)))
        uses: list[tuple[str, Callable[[], Awaitable[Any]]]] = [
            ("a", lambda: store.claim("me", ["a"])),
            ("b", lambda: store.admit("me", queue, [Want("t")], 1)),
            ("c", lambda: store.due("me", 2.0, 9)),
        ]
        for id, use in uses:
            hints.clear()
            mine = f"SELECT FROM weft.processes WHERE id = '{id}' AND owner = 'me' AND state = 'running'"
            answer = await lose_the_answer(place, relay, use, mine)
            assert ids(getattr(answer, "rows", answer)) == []
            assert getattr(answer, "tickets", ["t"]) == ["t"]  # it was asked for again with the rest
            await until(lambda: "owned" in hints)
            assert id in ids(await store.owned("me"))
        # A step that asks once more is let in once more, and holds one place.
        assert (await store.admit("me", queue, [Want("t")], 0)).tickets == ["t"]
        assert (await store.admit("me", Queue("q", concurrency=2), [Want("u")], 0)).tickets == []

    place.run(main)


def test_a_key_that_was_taken_in_an_answer_that_got_lost_is_ours(place: Place, relay: Relay) -> None:
    async def main() -> None:
        store = await place.beside("postgres", relay.url(place.url)).owner("me")
        await hold_commits(place)
        known = await lose_the_answer(
            place, relay, lambda: store.insert(row("p", key="k")), "SELECT FROM weft.processes WHERE id = 'p'"
        )
        assert known is None
        taken = await store.insert(row("q", key="k"))
        assert taken is not None and taken.id == "p"

    place.run(main)


def test_who_listens_hears_again_after_the_connection_broke(place: Place, relay: Relay) -> None:
    async def main() -> None:
        store = await place.beside("postgres", relay.url(place.url)).owner("me", **LONG)
        other = await place.owner("you", **LONG)
        await commit(store, rows=rows(row("p", owner="me")))
        hints: list[str] = []
        store.listen(hints.append, lambda error: pytest.fail(str(error)))
        await commit(other, **letter("news"))
        await until(lambda: "news" in hints)
        hints.clear()
        relay.cut()
        # Whatever was told meanwhile was lost: it is as if all had been told.
        await until(lambda: set(hints) >= {"news", "ended", "event", "queue", "owned"})
        hints.clear()
        await commit(other, **letter("news"))
        await until(lambda: "news" in hints)

    place.run(main)


# --- limits of time ---------------------------------------------------------------------------------------------


def test_a_server_that_comes_back_in_time_costs_only_time(place: Place, postgres: Postgres) -> None:
    async def main() -> None:
        store = await place.owner("me", patience=600.0)
        await commit(store, **letter("before"))
        postgres.kill()
        waiting = [asyncio.ensure_future(commit(store, **letter(str(n)))) for n in range(3)]
        reading = asyncio.ensure_future(store.inbox(["p"]))
        await asyncio.sleep(0.2)
        assert not any(one.done() for one in (*waiting, reading))
        await asyncio.to_thread(postgres.start)
        await asyncio.gather(*waiting)
        assert await letters(place) == ["before", "0", "1", "2"]
        assert [m.payload for m in await reading][:1] == [b"before"]

    place.run(main)


def test_a_server_that_stays_away_is_an_error_when_patience_is_over(place: Place, relay: Relay) -> None:
    async def main() -> None:
        url = relay.url(place.url)
        store = await place.beside("postgres", url).owner("me", patience=0.2)
        await commit(store, **letter("before"))
        relay.refuse()
        relay.cut()
        for use in (commit(store, **letter("lost")), store.row("p"), store.claim("me"), store.delete(["p"])):
            with pytest.raises(StoreUnreachable, match=rf"{relay.port}/.* does not answer .*start it or check the URL"):
                await use
        relay.heal()
        await commit(store, **letter("after"))
        assert await letters(place) == ["before", "after"]

    place.run(main)


def test_a_request_that_takes_too_long_is_given_up_and_the_next_is_served(place: Place) -> None:
    async def main() -> None:
        store = await place.owner("me", pool=1, statement_timeout=0.3, patience=0.5)
        await commit(store, **letter("before"))
        holds = await asyncpg.connect(place.url)
        async with holds.transaction():
            await holds.execute("LOCK TABLE weft.inbox, weft.segments IN ACCESS EXCLUSIVE MODE")
            with pytest.raises(StoreError, match=r"timeout|Timeout"):
                await store.segments(["p"])
            assert await store.row("p") is None  # on the only connection there is
            with pytest.raises(StoreError, match=r"timeout|Timeout"):
                await commit(store, **letter("given up"))
            await commit(store, rows=rows(row("p")))
        await holds.close()
        await commit(store, **letter("after"))
        assert await letters(place) == ["before", "after"]

    place.run(main)


def test_closing_ends_whatever_the_network_does(place: Place, relay: Relay) -> None:
    async def main() -> None:
        stores = [
            await place.beside("postgres", relay.url(place.url)).owner(f"o{n}", patience=0.5, statement_timeout=0.5)
            for n in range(2)
        ]
        answers: list[BaseException | None] = []
        relay.freeze()
        stores[0].commit(Batch(**letter("on its way")), answers.append)
        await asyncio.wait_for(asyncio.gather(*(store.close() for store in stores)), 60)
        assert len(answers) == 1 and isinstance(answers[0], StoreError)
        relay.heal()
        assert await asked(place, "SELECT count(*) FROM weft.owners") == [(2,)]  # until their leases are over
        for store in stores:
            with pytest.raises(StoreError, match="closed"):
                await store.row("p")

    place.run(main)
