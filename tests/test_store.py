"""The SQLite store keeps what it is given: rows, journals, payloads, mail, events, owners."""

from __future__ import annotations

import asyncio
import fcntl
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, Literal

import pytest
from msgspec.structs import replace

import weft.store
from weft.core.errors import BadInput, StoreCorrupt, StoreError
from weft.store import Batch, Message, ProcessRow, Segment, Store, open_store
from weft.store.sqlite import SQLiteStore

SOURCE = str(Path(weft.store.__file__).parents[2])
Mode = Literal["full", "process"]


@pytest.fixture(params=["full", "process"])
def mode(request: pytest.FixtureRequest) -> Mode:
    chosen: Mode = request.param
    return chosen


async def commit(store: Store, **fields: Any) -> None:
    """Commit one batch and wait until it is durable."""
    done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    store.commit(Batch(**fields), lambda error: done.set_exception(error) if error else done.set_result(None))
    await done


async def until(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0.001)


def row(id: str, **fields: Any) -> ProcessRow:
    return ProcessRow(id=id, workflow="shop.order", **fields)


def rows(*given: ProcessRow) -> dict[str, ProcessRow]:
    return {one.id: one for one in given}


async def elsewhere(code: str, *arguments: object) -> str:
    """Run `code` in another operating-system process; its output."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, *map(str, arguments), env={"PYTHONPATH": SOURCE}, stdout=subprocess.PIPE
    )
    output, _ = await process.communicate()
    assert process.returncode == 0
    return output.decode().strip()


FULL_ROW = ProcessRow(
    id="p1",
    workflow="shop.order",
    source="shop.py",
    version="abc",
    state="waiting",
    parent="p0",
    forked="p9@4",
    key="order-7",
    queue="api",
    priority=3,
    created=1.5,
    updated=2.5,
    wake_at=3.5,
    owner="me",
    strikes=2,
    length=5,
    input=b"\x00in",
    result=b"\xffout",
    error=b"bad",
)


def test_everything_comes_back_after_reopening(tmp_path: Path, mode: Mode) -> None:
    async def write() -> None:
        store = open_store(tmp_path / "j.db", mode)
        await commit(
            store,
            payloads={b"h1": b"large"},
            references={("p1", b"h1")},
            rows=rows(FULL_ROW),
            segments=[Segment("p1", 3, b"later"), Segment("p1", 0, b"first"), Segment("p2", 0, b"other")],
            messages=[Message(0, "p1", "box", b"one"), Message(0, "p1", "box", b"two")],
            events=[("go", b"1", "p1"), ("go", b"2", "p1")],
            waits={"p1": ["go", "stop"], "p2": ["go"]},
        )
        await store.close()

    async def read() -> None:
        store = open_store(tmp_path / "j.db", mode)
        assert await store.row("p1") == FULL_ROW
        assert await store.row("p2") is None
        assert await store.segments("p1") == [Segment("p1", 0, b"first"), Segment("p1", 3, b"later")]
        assert await store.payload(b"h1") == b"large"
        inbox = await store.inbox("p1")
        assert [m.payload for m in inbox] == [b"one", b"two"]
        assert 0 < inbox[0].id < inbox[1].id
        assert await store.event("go") == b"2"
        assert await store.event("stop") is None
        assert sorted(await store.waiting("go")) == ["p1", "p2"]
        with pytest.raises(StoreCorrupt, match="lacks the payload"):
            await store.payload(b"none")

        await commit(
            store,
            taken=[inbox[0].id],
            waits={"p1": []},
            rows=rows(replace(FULL_ROW, length=9, state="done", wake_at=None, workflow="another", key="k")),
        )
        assert [m.payload for m in await store.inbox("p1")] == [b"two"]
        assert await store.waiting("go") == ["p2"]
        assert await store.waiting("stop") == []
        # What a process is stays; how it is doing changes.
        assert await store.row("p1") == replace(FULL_ROW, length=9, state="done", wake_at=None)
        await store.close()

    asyncio.run(write())
    asyncio.run(read())
    assert [file.name for file in tmp_path.iterdir()] == ["j.db"]


def test_batches_are_applied_in_order_and_answered_in_order(tmp_path: Path, mode: Mode) -> None:
    async def main() -> None:
        store = open_store(tmp_path / "j.db", mode)
        answers: list[int] = []
        thread = threading.get_ident()

        def answer(number: int, error: BaseException | None) -> None:
            assert error is None
            assert threading.get_ident() == thread
            answers.append(number)

        for number in range(700):
            batch = Batch(
                rows=rows(row("p", length=number)),
                segments=[Segment("p", number, str(number).encode())],
                messages=[Message(0, "p", "box", str(number).encode())],
                events=[("last", str(number).encode(), "p")],
                waits={"p": [f"key-{number}"]},
            )
            store.commit(batch, lambda error, number=number: answer(number, error))  # type: ignore[misc]
        await commit(store, rows=rows(row("q")))
        assert answers == list(range(700))
        wanted = [str(number).encode() for number in range(700)]
        assert [s.records for s in await store.segments("p")] == wanted
        assert [m.payload for m in await store.inbox("p")] == wanted
        assert await store.event("last") == b"699"
        assert await store.waiting("key-698") == []
        assert await store.waiting("key-699") == ["p"]
        last = await store.row("p")
        assert last is not None and last.length == 699
        await store.close()

    asyncio.run(main())


def test_one_batch_with_many_rows_of_every_kind(tmp_path: Path, mode: Mode) -> None:
    count = 1777

    async def main() -> None:
        store = open_store(tmp_path / "j.db", mode)
        await commit(
            store,
            payloads={f"h{n}".encode(): b"x" for n in range(count)},
            references={(f"p{n}", f"h{n}".encode()) for n in range(count)},
            rows=rows(*(row(f"p{n}") for n in range(count))),
            segments=[Segment("p0", n, b"s") for n in range(count)],
            messages=[Message(0, "p0", "b", str(n).encode()) for n in range(count)],
            events=[(f"e{n}", b"v", "p0") for n in range(count)],
            waits={f"p{n}": ["one", f"two-{n}"] for n in range(count)},
        )
        assert len(await store.rows(limit=5000)) == count
        assert len(await store.segments("p0")) == count
        inbox = await store.inbox("p0")
        assert [m.payload for m in inbox] == [str(n).encode() for n in range(count)]
        assert len(await store.waiting("one")) == count
        assert await store.waiting(f"two-{count - 1}") == [f"p{count - 1}"]
        await commit(store, taken=[m.id for m in inbox], waits={f"p{n}": [] for n in range(count)})
        assert await store.inbox("p0") == []
        assert await store.waiting("one") == []
        await store.close()

    asyncio.run(main())


def test_a_batch_that_fails_leaves_nothing_and_takes_those_behind_it_along(tmp_path: Path) -> None:
    async def main() -> None:
        store = SQLiteStore(tmp_path / "j.db", "full")
        await commit(store, segments=[Segment("p", 0, b"a")])
        errors: list[BaseException | None] = []
        with store._busy:  # the writer has taken the first and waits; the second is queued behind it
            store.commit(
                Batch(rows=rows(row("p")), segments=[Segment("p", 0, b"twice")], events=[("e", b"", "p")]),
                errors.append,
            )
            await until(store._queue.empty)
            store.commit(Batch(segments=[Segment("p", 1, b"")]), errors.append)
            store.commit(Batch(segments=[Segment("p", 2, b"")]), errors.append)
        await until(lambda: len(errors) == 3)
        assert all(isinstance(error, StoreError) for error in errors)
        assert "j.db" in str(errors[0])
        assert await store.row("p") is None
        assert await store.event("e") is None
        assert [s.first for s in await store.segments("p")] == [0]
        await commit(store, segments=[Segment("p", 1, b"")])
        assert [s.first for s in await store.segments("p")] == [0, 1]
        await store.close()

    asyncio.run(main())


def test_commits_work_again_after_a_reported_failure(tmp_path: Path, mode: Mode) -> None:
    async def main() -> None:
        store = open_store(tmp_path / "j.db", mode)
        await commit(store, segments=[Segment("p", 0, b"a")])
        with pytest.raises(StoreError, match="segments"):
            await commit(store, segments=[Segment("p", 0, b"b")])
        await commit(store, segments=[Segment("p", 1, b"c")])
        assert [s.records for s in await store.segments("p")] == [b"a", b"c"]
        await store.close()

    asyncio.run(main())


def test_a_value_above_sqlites_limit_is_refused_by_name(tmp_path: Path, mode: Mode) -> None:
    async def main() -> None:
        store = SQLiteStore(tmp_path / "j.db", mode)
        await commit(store, payloads={b"h": bytes(100_000_000)}, references={("p", b"h")})
        assert await store.payload(b"h") == bytes(100_000_000)
        # SQLite's own limit, moved from 1 GB to 1 MB for this connection.
        store._writer.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, 1_000_000)
        with pytest.raises(StoreError, match="larger than the 1 GB"):
            await commit(store, payloads={b"i": bytes(1_000_001)}, segments=[Segment("p", 0, b"")])
        assert await store.segments("p") == []
        await store.close()

    asyncio.run(main())


def test_rows_are_filtered_and_newest_first(tmp_path: Path, mode: Mode) -> None:
    async def main() -> None:
        store = open_store(tmp_path / "j.db", mode)
        await commit(
            store,
            rows=rows(
                row("a", state="done", created=1, updated=10),
                row("b", state="running", created=2, updated=20),
                row("b1", state="waiting", created=3, updated=30, parent="b"),
                row("b2", state="done", created=4, updated=40, parent="b"),
                row("c", state="failed", created=5, updated=50),
            ),
        )

        async def ids(**filters: Any) -> list[str]:
            return [one.id for one in await store.rows(**filters)]

        assert await ids() == ["c", "b2", "b1", "b", "a"]
        assert await ids(limit=2) == ["c", "b2"]
        assert await ids(roots=True) == ["c", "b", "a"]
        assert await ids(parent="b") == ["b2", "b1"]
        assert await ids(states=["done"]) == ["b2", "a"]
        assert await ids(states=["done", "failed", "waiting"]) == ["c", "b2", "b1", "a"]
        assert await ids(states=["done", "failed", "waiting"], limit=2) == ["c", "b2"]
        assert await ids(states=["done", "failed"], roots=True, before=50.0) == ["a"]
        assert await ids(states=["done"], parent="b", before=40.5) == ["b2"]
        assert sorted(await store.find("b")) == ["b", "b1", "b2"]
        assert await store.find("%") == []
        await store.close()

    asyncio.run(main())


def test_50_000_parked_processes_are_found_by_time(tmp_path: Path, mode: Mode) -> None:
    count = 50_000

    async def main() -> None:
        store = open_store(tmp_path / "j.db", mode)
        assert await store.next_wake("me") is None
        parked = [row(f"p{n}", state="waiting", owner="me", wake_at=1000.0 + n) for n in range(count)]
        await commit(store, rows=rows(*reversed(parked)))
        await commit(
            store,
            rows=rows(
                row("never", state="waiting", owner="me"),
                row("theirs", state="waiting", owner="you", wake_at=1.0),
                row("awake", state="running", owner="me", wake_at=1.0),
            ),
        )
        assert await store.next_wake("me") == 1000.0
        assert await store.due("me", 999.9, 100) == []
        assert await store.due("me", 1002.0, 100) == parked[:3]
        assert [p.id for p in await store.due("me", 9e9, 2)] == ["p3", "p4"]  # the others run
        await commit(store, rows=rows(*(row(f"p{n}", state="done") for n in range(count - 1))))
        assert await store.next_wake("me") == 1000.0 + count - 1
        await store.close()

    asyncio.run(main())


def test_payloads_are_stored_once_and_deleted_with_the_last_that_needs_them(tmp_path: Path, mode: Mode) -> None:
    async def main() -> None:
        store = SQLiteStore(tmp_path / "j.db", mode)
        big = bytes(2_000_000)
        for id in ("a", "b"):
            await commit(
                store,
                payloads={b"shared": big, id.encode(): b"own"},
                references={(id, b"shared"), (id, id.encode())},
                rows=rows(row(id, state="done")),
                segments=[Segment(id, 0, b"x")],
                messages=[Message(0, id, "box", b"m")],
                events=[(f"event-{id}", b"v", id)],
                waits={id: ["k"]},
            )
        await commit(store, rows=rows(row("alive")))
        assert (tmp_path / "j.db").stat().st_size < 2 * len(big)

        assert await store.delete(["a", "alive", "nobody"]) == 1
        assert await store.row("a") is None
        assert await store.segments("a") == []
        assert await store.inbox("a") == []
        assert await store.waiting("k") == ["b"]
        assert await store.event("event-a") is None
        assert await store.event("event-b") == b"v"
        assert await store.payload(b"shared") == big
        assert await store.payload(b"b") == b"own"
        with pytest.raises(StoreError):
            await store.payload(b"a")

        assert await store.delete(["b"]) == 1
        with pytest.raises(StoreError):
            await store.payload(b"shared")
        await store.vacuum()
        assert [one.id for one in await store.rows()] == ["alive"]
        await store.close()
        assert (tmp_path / "j.db").stat().st_size < len(big)

    asyncio.run(main())


def test_a_key_belongs_to_the_first(tmp_path: Path, mode: Mode) -> None:
    async def main() -> None:
        store = open_store(tmp_path / "j.db", mode)
        first = row("a", key="order-7", input=b"1")
        assert await store.insert(first) is None
        assert await store.insert(row("b", key="order-7")) == first
        assert await store.insert(row("c", key="order-8")) is None
        assert await store.insert(row("d")) is None
        assert await store.insert(row("e")) is None
        with pytest.raises(StoreError, match=r"processes\.id"):
            await store.insert(row("a", key="order-9"))
        assert await store.row("b") is None
        await store.close()

    asyncio.run(main())


INSERT_KEYS = """
import asyncio, sys
from weft.store import open_store, ProcessRow
async def main():
    path, name = sys.argv[1:]
    store = open_store(path, "process")
    won = 0
    for n in range(200):
        won += await store.insert(ProcessRow(id=f"{name}-{n}", workflow="w", key=f"key-{n}")) is None
    await store.close()
    print(won)
asyncio.run(main())
"""


def test_a_key_has_one_winner_among_processes(tmp_path: Path) -> None:
    async def main() -> None:
        path = tmp_path / "j.db"  # not there yet: the three race to make it, too
        won = await asyncio.gather(*(elsewhere(INSERT_KEYS, path, name) for name in "abc"))
        assert sum(map(int, won)) == 200
        store = open_store(path)
        assert len({one.key for one in await store.rows()}) == len(await store.rows()) == 200
        await store.close()

    asyncio.run(main())


def test_a_key_has_one_winner_among_threads(tmp_path: Path) -> None:
    stores = [open_store(tmp_path / "j.db", mode) for mode in ("full", "process")]
    won: list[str] = []

    async def insert(store: Store, name: str) -> None:
        for n in range(100):
            if await store.insert(row(f"{name}-{n}", key=f"key-{n}")) is None:
                won.append(f"key-{n}")
        await store.close()

    threads = [threading.Thread(target=asyncio.run, args=(insert(store, str(n)),)) for n, store in enumerate(stores)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(won) == sorted(f"key-{n}" for n in range(100))


def test_changed_reports_others_only(tmp_path: Path, mode: Mode) -> None:
    async def main() -> None:
        mine, other = open_store(tmp_path / "j.db", mode), open_store(tmp_path / "j.db", "process")
        assert not mine.changed()
        await commit(mine, rows=rows(row("a")))
        await mine.insert(row("b", key="k"))
        assert await mine.row("a") is not None
        assert not mine.changed()
        assert other.changed()
        assert not other.changed()
        await commit(other, rows=rows(row("c")))
        assert mine.changed()
        assert not mine.changed()
        assert await mine.row("c") is not None
        await other.close()
        await mine.close()

    asyncio.run(main())


def test_changed_never_waits_for_the_writer_nor_stays_silent_for_ever(tmp_path: Path) -> None:
    async def main() -> None:
        store = SQLiteStore(tmp_path / "j.db", "full")
        with store._busy:
            polls = [store.changed() for _ in range(40)]
        assert sum(polls) == 2
        assert not store.changed()
        await store.close()

    asyncio.run(main())


# --- owners ---------------------------------------------------------------------------------------------


def test_an_owner_lives_until_its_store_closes(tmp_path: Path, mode: Mode) -> None:
    async def main() -> None:
        mine, other = open_store(tmp_path / "j.db", mode), open_store(tmp_path / "j.db", mode)
        assert not await mine.alive("me")
        await mine.register("me")
        await mine.register("me")
        assert await mine.alive("me")
        assert await other.alive("me")
        with pytest.raises(StoreError, match="already at work"):
            await other.register("me")
        with pytest.raises(BadInput):
            await other.alive("../escape")
        await mine.close()
        assert not await other.alive("me")
        assert not (tmp_path / "j.db.owners").exists()
        await other.register("me")
        await other.close()

    asyncio.run(main())


DIE_AS_OWNER = """
import asyncio, os, sys
from weft.store import open_store, Batch, ProcessRow
async def main():
    path, name, progress = sys.argv[1:]
    store = open_store(path, "full")
    await store.register(name)
    taken = await store.claim(name)
    print(*sorted(f"{row.id}:{row.strikes}" for row in taken), flush=True)
    for row in taken:
        row.length += int(progress)
    done = asyncio.Event()
    store.commit(Batch(rows={row.id: row for row in taken} | {"dummy": ProcessRow(
        id="dummy", workflow="w", state="done")}), lambda error: done.set())
    await done.wait()
    os.kill(os.getpid(), 9)
asyncio.run(main())
"""


async def die_as_owner(path: Path, name: str, progress: int) -> list[str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        DIE_AS_OWNER,
        str(path),
        name,
        str(progress),
        env={"PYTHONPATH": SOURCE},
        stdout=subprocess.PIPE,
    )
    output, _ = await process.communicate()
    assert process.returncode == -9
    return output.decode().split()


def test_strikes_count_deaths(tmp_path: Path, mode: Mode) -> None:
    async def main() -> None:
        path = tmp_path / "j.db"
        store = open_store(path, mode)
        await commit(
            store,
            rows=rows(row("run", length=3), row("park", state="waiting"), row("over", state="done")),
        )
        assert await die_as_owner(path, "o1", 1) == ["park:0", "run:0"]
        assert await die_as_owner(path, "o2", 0) == ["park:0", "run:1"]
        assert await die_as_owner(path, "o3", 0) == ["park:0", "run:2"]
        assert await die_as_owner(path, "o4", 1) == ["park:0", "run:3"]
        assert not await store.alive("o4")
        assert (tmp_path / "j.db.owners" / "o4").exists()
        await store.register("me")
        assert [file.name for file in (tmp_path / "j.db.owners").iterdir()] == ["me"]
        taken = await store.claim("me")
        assert [(one.id, one.owner, one.strikes) for one in taken] == [("run", "me", 4), ("park", "me", 0)]
        assert await store.claim("me") == []
        await store.close()

    asyncio.run(main())


def test_two_who_ask_at_once_do_not_take_each_other_for_the_owner(tmp_path: Path) -> None:
    store = open_store(tmp_path / "j.db")
    (tmp_path / "j.db.owners").mkdir()
    with (tmp_path / "j.db.owners" / "dead").open("w") as asked:
        fcntl.flock(asked, fcntl.LOCK_SH)  # as another process does that asks at this moment
        assert not asyncio.run(store.alive("dead"))
    asyncio.run(store.close())


def test_a_living_owner_keeps_its_processes(tmp_path: Path, mode: Mode) -> None:
    async def main() -> None:
        mine, other = open_store(tmp_path / "j.db", mode), open_store(tmp_path / "j.db", mode)
        await mine.register("me")
        await other.register("you")
        await commit(mine, rows=rows(*(row(f"p{n}", created=n) for n in range(10)), row("z", state="done")))
        assert [one.id for one in await mine.claim("me", ["p4", "p7", "z", "gone"])] == ["p4", "p7"]
        assert await other.claim("you", ["p4"]) == []
        assert [one.id for one in await other.claim("you", limit=3)] == ["p0", "p1", "p2"]
        assert await mine.claim("me", []) == []
        await mine.close()
        assert [one.id for one in await other.claim("you", ["p7"])] == ["p7"]
        assert len(await other.claim("you")) == 6
        await other.close()

    asyncio.run(main())


CLAIM = """
import asyncio, sys
from weft.store import open_store
async def main():
    path, name = sys.argv[1:]
    store = open_store(path, "process")
    await store.register(name)
    taken = []
    while more := await store.claim(name, limit=7):
        taken += more
    print(*(row.id for row in taken), flush=True)
    sys.stdin.read()
    await store.close()
asyncio.run(main())
"""


def test_a_process_is_claimed_once(tmp_path: Path) -> None:
    async def main() -> None:
        path = tmp_path / "j.db"
        store = open_store(path)
        await commit(store, rows=rows(*(row(f"p{n}", owner="dead") for n in range(300))))
        claimers = [
            await asyncio.create_subprocess_exec(
                sys.executable,
                "-c",
                CLAIM,
                str(path),
                name,
                env={"PYTHONPATH": SOURCE},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                limit=2**20,
            )
            for name in ("a", "b", "c")
        ]
        taken: list[str] = []
        for claimer in claimers:
            assert claimer.stdout is not None
            taken += (await claimer.stdout.readline()).decode().split()
        assert sorted(taken) == sorted(f"p{n}" for n in range(300))
        for claimer in claimers:
            await claimer.communicate(b"")
        await store.close()

    asyncio.run(main())
    assert [file.name for file in tmp_path.iterdir()] == ["j.db"]


# --- opening --------------------------------------------------------------------------------------------


def run(work: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(work)


def test_places_of_a_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("WEFT_STORE", raising=False)
    run(open_store().close())
    assert (tmp_path / ".weft" / "journal.db").is_file()
    assert (tmp_path / ".weft" / ".gitignore").read_text() == "*\n"
    monkeypatch.setenv("WEFT_STORE", "sqlite:///from-environment.db")
    run(open_store().close())
    assert (tmp_path / "from-environment.db").is_file()
    store = open_store(f"sqlite:///{tmp_path}/deep/down/j.db", "process")
    assert store.url == f"sqlite:///{tmp_path}/deep/down/j.db"
    run(store.close())
    assert (tmp_path / "deep" / "down" / "j.db").is_file()
    run(open_store("odd name?mode=memory#.db").close())
    assert (tmp_path / "odd name?mode=memory#.db").is_file()


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("postgresql://db/weft", "later version"),
        ("redis://host", "there is no store"),
        ("sqlite://", "there is no store"),
        ("sqlite:///", "names no file"),
        (":memory:", "names no file"),
        (".", "is a folder"),
    ],
)
def test_places_that_are_no_store(place: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(StoreError, match=message):
        open_store(place)
    assert list(tmp_path.iterdir()) == []


def test_closing_twice_and_using_a_closed_store(tmp_path: Path, mode: Mode) -> None:
    async def main() -> None:
        store = open_store(tmp_path / "j.db", mode)
        errors: list[BaseException | None] = []
        store.commit(Batch(segments=[Segment("p", 0, b"")]), errors.append)
        await store.close()
        await store.close()
        assert errors == [None]
        store.commit(Batch(segments=[Segment("p", 1, b"")]), errors.append)
        assert isinstance(errors[1], StoreError)
        for use in (store.row("p"), store.claim("me"), store.register("me")):
            with pytest.raises(StoreError, match="closed"):
                await use
        with pytest.raises(StoreError, match="closed"):
            store.changed()

    asyncio.run(main())


def test_importing_the_room_does_not_load_sqlite3() -> None:
    code = "import sys, weft.store; sys.exit('sqlite3' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], env={"PYTHONPATH": SOURCE}).returncode == 0
