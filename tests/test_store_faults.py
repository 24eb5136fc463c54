"""The SQLite store under faults: killed processes, full, read-only and damaged disks, foreign and newer files."""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import pytest

import weft.store
from weft.core.errors import StoreCorrupt, StoreError, StoreFull, StoreReadOnly, StoreTooNew
from weft.store import Batch, ProcessRow, Segment, Store, open_store
from weft.store.sqlite import schema

SOURCE = str(Path(weft.store.__file__).parents[2])
Mode = Literal["full", "process"]


@pytest.fixture(params=["full", "process"])
def mode(request: pytest.FixtureRequest) -> Mode:
    chosen: Mode = request.param
    return chosen


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MB of its own."""
    place = tmp_path / "disk"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "weft-test", str(place)]
    try:
        subprocess.run(command, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"needs a small disk, and may not mount one here: {error}")
    yield place
    subprocess.run(["umount", str(place)], check=True)


async def commit(store: Store, **fields: Any) -> None:
    done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    store.commit(Batch(**fields), lambda error: done.set_exception(error) if error else done.set_result(None))
    await done


def fill(path: Path, payload: int = 20_000) -> None:
    """Make a journal of 50 runs, 1 MB in all."""

    async def main() -> None:
        store = open_store(path)
        for n in range(50):
            await commit(
                store,
                payloads={f"h{n}".encode(): os.urandom(payload)},
                references={(f"p{n}", f"h{n}".encode())},
                rows={f"p{n}": ProcessRow(id=f"p{n}", workflow="w", input=bytes(500))},
                segments=[Segment(f"p{n}", m, bytes(200)) for m in range(10)],
            )
        await store.close()

    asyncio.run(main())


def read_all(path: Path) -> None:
    async def main() -> None:
        store = open_store(path)
        try:
            for n in range(50):
                await store.row(f"p{n}")
                await store.segments([f"p{n}"])
                await store.payload(f"h{n}".encode())
        finally:
            await store.close()

    asyncio.run(main())


# --- death ----------------------------------------------------------------------------------------------

COMMIT_FOREVER = """
import asyncio, os, sys
from weft.store import open_store, Batch, ProcessRow, Segment
async def main():
    path, mode, begin = sys.argv[1], sys.argv[2], int(sys.argv[3])
    store = open_store(path, mode)
    def acknowledge(number, error):
        assert error is None
        os.write(1, b"%d\\n" % number)
    for n in range(begin, 10**9):
        batch = Batch(
            payloads={b"h%d" % n: bytes(n % 7 * 1000)},
            rows={"p0": ProcessRow(id="p0", workflow="w", length=n + 1)},
            segments=[Segment(f"p{i}", n, b"%d" % n) for i in range(10)],
            events=[("last", b"%d" % n, "p0")],
        )
        store.commit(batch, lambda error, n=n: acknowledge(n, error))
        if n % 5 == 0:
            await asyncio.sleep(0)
        if n % 40 == 0:  # let the queue run empty now and then
            await asyncio.sleep(0.005)
asyncio.run(main())
"""


async def whole_batches(path: Path, mode: Mode = "full") -> int:
    """How many batches the journal holds, each of them whole."""
    store = open_store(path, mode)
    held = [[s.first for s in await store.segments([f"p{i}"])] for i in range(10)]
    row, last = await store.row("p0"), (await store.events(["last"])).get("last")
    count = len(held[0])
    assert held == [list(range(count))] * 10
    assert (row.length if row else 0) == count
    assert (int(last) + 1 if last else 0) == count
    for n in range(count):
        assert await store.payload(b"h%d" % n) == bytes(n % 7 * 1000)
    await store.close()
    return count


def test_killed_in_the_midst_of_commits(tmp_path: Path, mode: Mode) -> None:
    path, chance, count = tmp_path / "j.db", random.Random(7), 0
    for _ in range(6):
        writer = subprocess.Popen(
            [sys.executable, "-c", COMMIT_FOREVER, str(path), mode, str(count)],
            env={"PYTHONPATH": SOURCE},
            stdout=subprocess.PIPE,
        )
        assert writer.stdout is not None
        for _ in range(chance.randrange(1, 120)):
            assert writer.stdout.readline()
        writer.kill()
        acknowledged = [int(n) for n in writer.stdout.read().split(b"\n")[:-1]]
        writer.stdout.close()
        assert writer.wait() == -9
        before, count = count, asyncio.run(whole_batches(path, mode))
        assert count > before
        if acknowledged:
            assert count > acknowledged[-1]


def test_a_log_torn_anywhere_holds_whole_batches(tmp_path: Path) -> None:
    path = tmp_path / "j.db"
    fill_process = subprocess.Popen(
        [sys.executable, "-c", COMMIT_FOREVER, str(path), "process", "0"],
        env={"PYTHONPATH": SOURCE},
        stdout=subprocess.PIPE,
    )
    assert fill_process.stdout is not None
    for _ in range(30):
        fill_process.stdout.readline()
    fill_process.kill()
    fill_process.communicate()
    log = Path(f"{path}-wal")
    size, chance, counts = log.stat().st_size, random.Random(3), set()
    for n, length in enumerate(sorted(chance.sample(range(size // 2, size), 12))):
        copy = tmp_path / f"copy{n}.db"
        shutil.copy(path, copy)
        Path(f"{copy}-wal").write_bytes(log.read_bytes()[:length])
        counts.add(asyncio.run(whole_batches(copy)))
    assert len(counts) > 1
    assert max(counts) <= asyncio.run(whole_batches(path))


def test_a_program_that_ends_without_closing_loses_nothing(tmp_path: Path) -> None:
    code = """if True:
        import asyncio, sys
        from weft.store import open_store, Batch, Segment
        async def main():
            store, done = open_store(sys.argv[1]), asyncio.Event()
            await store.register("me", {})
            store.commit(Batch(segments=[Segment("p", 0, b"x")]), lambda error: done.set())
            await done.wait()
        asyncio.run(main())
    """
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "j.db")], env={"PYTHONPATH": SOURCE}, check=True)

    async def main() -> None:
        store = open_store(tmp_path / "j.db")
        assert await store.segments(["p"]) == [Segment("p", 0, b"x")]
        assert not await store.alive("me")
        await store.close()

    asyncio.run(main())


def test_a_forked_child_does_not_keep_a_dead_owner_alive(tmp_path: Path) -> None:
    code = """if True:
        import asyncio, os, sys
        from weft.store import open_store
        store = open_store(sys.argv[1])
        asyncio.run(store.register("me", {}))
        if os.fork():
            sys.stdin.readline()
            os.kill(os.getpid(), 9)
        print("child", flush=True)
        sys.stdin.buffer.raw.read()  # until the test closes it
        os._exit(0)
    """

    owner = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "j.db")],
        env={"PYTHONPATH": SOURCE},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert owner.stdin is not None and owner.stdout is not None
    assert owner.stdout.readline() == b"child\n"
    store = open_store(tmp_path / "j.db")
    assert asyncio.run(store.alive("me"))
    owner.kill()
    assert owner.wait() == -9
    assert not asyncio.run(store.alive("me"))
    owner.stdin.close()
    assert owner.stdout.read() == b""  # the child lived until here
    owner.stdout.close()
    asyncio.run(store.close())


def test_two_processes_write_at_once(tmp_path: Path) -> None:
    code = """if True:
        import asyncio, sys
        from weft.store import open_store, Batch, Segment
        async def main():
            store, errors = open_store(sys.argv[1], sys.argv[2]), []
            for n in range(300):
                store.commit(Batch(segments=[Segment(sys.argv[3], n, b"x")]), errors.append)
                await asyncio.sleep(0)
            await store.close()
            assert errors == [None] * 300, errors
        asyncio.run(main())
    """
    writers = [
        subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "j.db"), mode, name], env={"PYTHONPATH": SOURCE})
        for name, mode in (("a", "full"), ("b", "process"), ("c", "full"))
    ]
    assert [writer.wait() for writer in writers] == [0, 0, 0]

    async def main() -> None:
        store = open_store(tmp_path / "j.db")
        for name in "abc":
            assert [s.first for s in await store.segments([name])] == list(range(300))
        await store.close()

    asyncio.run(main())


def test_a_lock_that_never_ends(tmp_path: Path, mode: Mode, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schema, "BUSY_SECONDS", 0.05)

    async def main() -> None:
        store = open_store(tmp_path / "j.db", mode)
        other = sqlite3.connect(tmp_path / "j.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreError, match="locked by another program"):
            await commit(store, segments=[Segment("p", 0, b"")])
        with pytest.raises(StoreError, match="locked by another program"):
            await store.claim("me")
        other.execute("ROLLBACK")
        other.close()
        await commit(store, segments=[Segment("p", 0, b"")])
        await store.close()

    asyncio.run(main())


# --- disks ----------------------------------------------------------------------------------------------


def test_a_full_disk(small_disk: Path, mode: Mode) -> None:
    async def main() -> None:
        path = small_disk / "j.db"
        store = open_store(path, mode)
        ballast = small_disk / "ballast"
        ballast.write_bytes(bytes(250_000))
        kept = 0
        with pytest.raises(StoreFull, match=r"j\.db is full; free some space"):
            while True:
                await commit(
                    store,
                    segments=[Segment("p", kept, bytes(1000))],
                    payloads={b"%d" % kept: os.urandom(30_000)},
                )
                kept += 1
        assert kept > 3
        with pytest.raises(StoreFull):
            await commit(store, segments=[Segment("p", kept, bytes(100_000))])
        assert [s.first for s in await store.segments(["p"])] == list(range(kept))
        ballast.unlink()
        await commit(store, segments=[Segment("p", kept, bytes(1000))])
        await store.close()
        store = open_store(path, mode)
        assert [s.first for s in await store.segments(["p"])] == list(range(kept + 1))
        await store.close()

    asyncio.run(main())


@pytest.mark.parametrize("free", range(0, 100_000, 8192))
def test_opening_on_a_full_disk(small_disk: Path, free: int) -> None:
    with (small_disk / "ballast").open("wb", buffering=0) as ballast:
        while True:
            try:
                ballast.write(bytes(4096))
            except OSError:
                break
        ballast.truncate(ballast.tell() - free)
    with pytest.raises(StoreFull):
        open_store(small_disk / "folder" / "j.db")
    (small_disk / "ballast").unlink()
    asyncio.run(open_store(small_disk / "folder" / "j.db").close())


def test_a_disk_mounted_read_only(small_disk: Path) -> None:
    asyncio.run(open_store(small_disk / "j.db").close())
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    for place in (small_disk / "j.db", small_disk / "new.db", small_disk / "folder" / "j.db"):
        with pytest.raises(StoreReadOnly, match="write access"):
            open_store(place)


def as_somebody_else(path: Path) -> str:
    """What opening `path` gives a user without rights: root has them all, so it hands them off in a fork."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            if os.getuid() == 0:
                os.setgroups([])
                os.setgid(65534)
                os.setuid(65534)
            open_store(path)
            os.write(write, b"opened")
        except BaseException as error:
            os.write(write, f"{type(error).__name__}: {error}".encode())
        os._exit(0)
    os.close(write)
    os.waitpid(pid, 0)
    with os.fdopen(read) as answer:
        return answer.read()


def test_files_and_folders_without_permission() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        path = folder / "j.db"
        asyncio.run(open_store(path).close())
        try:
            folder.chmod(0o777)
            path.chmod(0o444)
            assert as_somebody_else(path).startswith(f"StoreReadOnly: {path} may not be written")
            path.chmod(0o666)
            folder.chmod(0o555)
            assert as_somebody_else(path).startswith("StoreReadOnly")
            assert as_somebody_else(folder / "new.db").startswith("StoreReadOnly")
            assert as_somebody_else(folder / "deep" / "new.db").startswith("StoreReadOnly")
            folder.chmod(0o777)
            assert as_somebody_else(path) == "opened"
        finally:
            folder.chmod(0o700)


# --- files ----------------------------------------------------------------------------------------------


def test_a_journal_of_a_newer_schema(tmp_path: Path) -> None:
    path = tmp_path / "j.db"
    asyncio.run(open_store(path).close())
    connection = sqlite3.connect(path)
    connection.execute(f"PRAGMA user_version = {schema.VERSION + 1}")
    connection.close()
    with pytest.raises(StoreTooNew, match=r"j\.db was written by a newer Weft .* upgrade with `pip install"):
        open_store(path)


@pytest.mark.parametrize("content", [b"x", b"hi", b"# My notes\n" * 200, b"SQLite format 3\0" + bytes(84), bytes(5000)])
def test_a_file_of_something_else(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "notes.md"
    path.write_bytes(content)
    with pytest.raises(StoreCorrupt, match=r"notes\.md"):
        open_store(path)
    assert path.read_bytes() == content
    assert list(tmp_path.iterdir()) == [path]


def test_a_database_of_something_else(tmp_path: Path) -> None:
    path = tmp_path / "app.db"
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE users (name)")
    connection.close()
    with pytest.raises(StoreCorrupt, match=r"app\.db is not a Weft journal"):
        open_store(path)


def test_an_empty_file_becomes_a_journal(tmp_path: Path) -> None:
    (tmp_path / "empty.db").touch()
    connection = sqlite3.connect(tmp_path / "begun.db")  # as left by a death before the tables were made
    connection.execute("PRAGMA journal_mode = WAL")
    connection.close()
    for name in ("empty.db", "begun.db"):
        asyncio.run(open_store(tmp_path / name).close())
        asyncio.run(open_store(tmp_path / name).close())


def test_a_truncated_file(tmp_path: Path) -> None:
    path = tmp_path / "j.db"
    fill(path)
    read_all(path)
    size = path.stat().st_size
    for length in (size - 4096, size // 2, 4096, 1000):
        os.truncate(path, length)
        with pytest.raises(StoreCorrupt, match=r"j\.db is damaged .* restore it from a copy"):
            read_all(path)


def test_a_damaged_file(tmp_path: Path, mode: Mode) -> None:
    path = tmp_path / "j.db"
    fill(path)
    content = path.read_bytes()
    connection = sqlite3.connect(path)
    size = connection.execute("PRAGMA page_size").fetchone()[0]
    roots = [n for (n,) in connection.execute("SELECT rootpage FROM sqlite_master WHERE rootpage > 1")]
    connection.close()
    with path.open("r+b") as file:  # each table's first page, but for that of the schema: the file can be opened
        for page in roots:
            file.seek((page - 1) * size)
            file.write(b"\xaa" * size)
    with pytest.raises(StoreCorrupt, match=r"j\.db is damaged"):
        read_all(path)

    async def write() -> None:
        store = open_store(path, mode)
        try:
            for work in (
                commit(store, segments=[Segment("p1", 99, b"")]),
                store.claim("me"),
                store.delete(["p1"]),
                store.stats(),
                store.due("me", 0.0, 1),
            ):
                with pytest.raises(StoreCorrupt, match=r"j\.db is damaged"):
                    await work
        finally:
            await store.close()

    asyncio.run(write())
    path.write_bytes(b"\xaa" * 100 + content[100:])
    with pytest.raises(StoreCorrupt):
        open_store(path)
