"""What only the store in a file has: threads, polling, owners as locked files, a size on disk."""

from __future__ import annotations

import asyncio
import fcntl
import sqlite3
import threading
from pathlib import Path

import pytest

from tests.stores import Mode, commit, row, rows, until
from weft.core.errors import BadInput, StoreError
from weft.store import Batch, Segment, Store, open_store
from weft.store.sqlite import SQLiteStore


@pytest.fixture(params=["full", "process"])
def mode(request: pytest.FixtureRequest) -> Mode:
    chosen: Mode = request.param
    return chosen


def names(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir())


def test_nothing_but_the_file_is_left_after_closing(tmp_path: Path, mode: Mode) -> None:
    async def main() -> None:
        store = open_store(tmp_path / "j.db", mode)
        await store.register("me", {})
        await commit(store, rows=rows(row("p")))
        assert names(tmp_path) == ["j.db", "j.db-shm", "j.db-wal", "j.db.owners"]
        await store.close()

    asyncio.run(main())
    assert names(tmp_path) == ["j.db"]


# --- writing ----------------------------------------------------------------------------------------------------


def test_batches_behind_one_that_fails_in_the_writing_thread_fail_too(tmp_path: Path) -> None:
    async def main() -> None:
        store = SQLiteStore(tmp_path / "j.db", "full")
        await commit(store, segments=[Segment("p", 0, b"a")])
        errors: list[BaseException | None] = []
        with store._busy:  # the writer has taken the first and waits; the others are queued behind it
            store.commit(Batch(segments=[Segment("p", 0, b"twice")]), errors.append)
            await until(store._queue.empty)
            store.commit(Batch(segments=[Segment("p", 1, b"")]), errors.append)
            store.commit(Batch(segments=[Segment("p", 2, b"")]), errors.append)
        await until(lambda: len(errors) == 3)
        assert all(isinstance(error, StoreError) for error in errors)
        await commit(store, segments=[Segment("p", 1, b"")])
        assert [s.first for s in await store.segments(["p"])] == [0, 1]
        await store.close()

    asyncio.run(main())


def test_a_value_above_sqlites_limit_is_refused_by_name(tmp_path: Path, mode: Mode) -> None:
    async def main() -> None:
        store = SQLiteStore(tmp_path / "j.db", mode)
        await commit(store, payloads={b"h": bytes(20_000_000)}, references={("p", b"h")})
        assert await store.payload(b"h") == bytes(20_000_000)
        # SQLite's own limit, moved from 1 GB to 1 MB for this connection.
        store._writer.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, 1_000_000)
        with pytest.raises(StoreError, match="larger than the 1 GB"):
            await commit(store, payloads={b"i": bytes(1_000_001)}, segments=[Segment("p", 0, b"")])
        assert await store.segments(["p"]) == []
        await store.close()

    asyncio.run(main())


def test_a_payload_takes_its_space_once_and_gives_it_back(tmp_path: Path, mode: Mode) -> None:
    big = bytes(2_000_000)
    file = tmp_path / "j.db"

    async def main() -> None:
        store = SQLiteStore(file, mode)
        for id in ("a", "b"):
            await commit(store, payloads={b"h": big}, references={(id, b"h")}, rows=rows(row(id, state="done")))
        await commit(store, rows=rows(row("alive")))
        await store.close()
        assert len(big) < file.stat().st_size < 2 * len(big)
        store = SQLiteStore(file, mode)
        assert await store.delete(["a", "b"]) == 2
        await store.vacuum()
        assert [one.id for one in await store.rows()] == ["alive"]
        await store.close()
        assert file.stat().st_size < len(big) / 4

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


# --- polling ----------------------------------------------------------------------------------------------------


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
        with pytest.raises(StoreError, match="closed"):
            mine.changed()

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


# --- owners -----------------------------------------------------------------------------------------------------


def test_an_owner_is_a_file_that_others_find_locked(tmp_path: Path, mode: Mode) -> None:
    async def main() -> None:
        mine, other = open_store(tmp_path / "j.db", mode), open_store(tmp_path / "j.db", mode)
        await mine.register("me", {"shop.order": "v1"})
        assert names(tmp_path / "j.db.owners") == ["me"]
        for name in ("../escape", "", ".hidden", "a\0b"):
            with pytest.raises(BadInput, match="can not name a runtime"):
                await other.alive(name)
        await mine.close()
        assert not (tmp_path / "j.db.owners").exists()
        await other.register("me", {})
        await other.close()

    asyncio.run(main())


def test_files_of_the_dead_are_swept_by_who_comes(tmp_path: Path, mode: Mode) -> None:
    async def main() -> None:
        store = open_store(tmp_path / "j.db", mode)
        folder = tmp_path / "j.db.owners"
        folder.mkdir()
        for name in ("dead", "killed"):
            (folder / name).write_text("12345\nshop.order@v1\n")
        other = sqlite3.connect(tmp_path / "j.db", isolation_level=None)
        other.execute("INSERT INTO tickets VALUES ('t', 'q', '', 0, 'dead', 1.0, 0)")
        assert not await store.alive("dead")
        await store.register("me", {})
        assert names(folder) == ["me"]
        assert other.execute("SELECT * FROM tickets").fetchall() == []
        other.close()
        await store.close()

    asyncio.run(main())


def test_two_who_ask_at_once_do_not_take_each_other_for_the_owner(tmp_path: Path) -> None:
    store = open_store(tmp_path / "j.db")
    (tmp_path / "j.db.owners").mkdir()
    with (tmp_path / "j.db.owners" / "dead").open("w") as asked:
        fcntl.flock(asked, fcntl.LOCK_SH)  # as another process does that asks at this moment
        assert not asyncio.run(store.alive("dead"))
    asyncio.run(store.close())


def test_an_owners_file_that_goes_while_it_is_looked_at_stands_for_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        store, other = open_store(tmp_path / "j.db"), open_store(tmp_path / "j.db")
        await store.register("me", {"shop.order": "v2"})
        await other.register("you", {"shop.order": "v1"})
        await commit(store, rows=rows(row("p", version="v1", started=1.0)))
        assert await store.claim("me", queues=[]) == []  # theirs fits better
        read = Path.read_text

        def closes_first(path: Path) -> str:
            if path.name == "you":
                path.unlink(missing_ok=True)
            return read(path)

        monkeypatch.setattr(Path, "read_text", closes_first)
        assert [one.id for one in await store.claim("me", queues=[])] == ["p"]
        await other.close()
        await store.close()

    asyncio.run(main())
