"""The servers and the relay that other tests build on do what they say, in health and in each fault."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Iterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from tests.servers.postgres import Postgres, Unavailable
from tests.servers.relay import Relay

ROOT = Path(__file__).parents[1]


@pytest.fixture
def own(postgres: Postgres) -> Iterator[Postgres]:
    """A server to maltreat."""
    with Postgres() as server:
        yield server


@pytest.fixture
def relay(postgres: Postgres, postgres_url: str) -> Iterator[Relay]:
    with Relay("127.0.0.1", postgres.port) as wire:
        yield wire


async def lost(work: Awaitable[object]) -> None:
    """`work` fails because its connection is gone."""
    with pytest.raises((OSError, asyncpg.PostgresConnectionError, asyncpg.InterfaceError)):
        await asyncio.wait_for(work, 30)


async def silent(work: asyncio.Task[Any]) -> None:
    """`work` doesn't end by itself in a while."""
    done, _ = await asyncio.wait({work}, timeout=0.3)
    assert not done


def test_data_survive_restart_and_kill_on_the_same_port(own: Postgres) -> None:
    url = own.create("kept")
    own.execute("CREATE TABLE t (n int)", "kept")
    own.execute("INSERT INTO t VALUES (1)", "kept")
    own.restart("immediate")
    own.execute("INSERT INTO t VALUES (2)", "kept")
    own.kill()
    assert not own.running
    with pytest.raises(RuntimeError, match="refused"):
        own.execute("SELECT 1", "kept")
    own.start()
    own.restart("smart")
    assert own.url("kept") == url
    assert own.execute("SELECT n FROM t ORDER BY n", "kept").split() == ["1", "2"]
    assert own.log().count("not properly shut down") == 2


def test_kill_leaves_no_backend(own: Postgres) -> None:
    async def main() -> int:
        connection = await asyncpg.connect(own.url())
        backend: int = connection.get_server_pid()
        sleeping = asyncio.create_task(connection.execute("SELECT pg_sleep(600)"))
        await asyncio.sleep(0)
        own.kill()
        await lost(sleeping)
        return backend

    backend = asyncio.run(main())
    with pytest.raises(OSError):  # no such process, or one that init hasn't yet buried
        Path(f"/proc/{backend}/cwd").readlink()


def test_settings_and_defaults() -> None:
    with Postgres(settings={"fsync": "on", "cluster_name": "it's set"}) as server:
        shown = [server.execute(f"SHOW {name}") for name in ("fsync", "cluster_name", "max_connections")]
    assert shown == ["on", "it's set", "200"]


def test_each_database_is_fresh(postgres: Postgres, postgres_url: str) -> None:
    name = postgres_url.rpartition("/")[2]
    postgres.execute("CREATE TABLE t (n int)", name)
    other = postgres.create()
    assert other != postgres_url
    count = "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'"
    assert (postgres.execute(count, name), postgres.execute(count, other.rpartition("/")[2])) == ("1", "0")
    postgres.drop(other.rpartition("/")[2])


def test_nothing_is_left_of_a_killed_tester(postgres: Postgres, tmp_path: Path) -> None:
    code = (
        "import time\nfrom tests.servers.postgres import Postgres\nserver = Postgres()\nserver.start()\n"
        "print(server.folder, server._server.pid, flush=True)\ntime.sleep(600)"
    )
    with subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True) as tester:
        assert tester.stdout is not None
        folder, pid = tester.stdout.readline().split()
        assert Path(folder).exists()
        os.kill(int(pid), 0)
        tester.send_signal(signal.SIGKILL)
    while Path(folder).exists() or Path(f"/proc/{pid}/exe").exists():  # the test's own limit ends a vain wait
        time.sleep(0.05)


def test_close_leaves_nothing(postgres: Postgres) -> None:
    with Postgres() as server:
        folder = server.folder
    assert not folder.exists()
    assert not server.running


def test_small_disk_fills_and_frees(own: Postgres) -> None:
    try:
        tablespace = own.small_tablespace(32)
    except Unavailable as error:
        pytest.skip(str(error))
    own.create("small", tablespace=tablespace)
    own.execute("CREATE TABLE t (body text)", "small")
    insert = "INSERT INTO t SELECT repeat(md5(n::text), 30) FROM generate_series(1, 1000) n"
    own.execute(insert, "small")
    own.fill()
    with pytest.raises(RuntimeError, match="No space left on device"):
        own.execute(insert, "small")
    assert own.execute("SELECT count(*) FROM t", "small") == "1000"
    own.free()
    own.restart("immediate")
    own.execute(insert, "small")
    assert own.execute("SELECT count(*) FROM t", "small") == "2000"


def test_relay_passes_queries(relay: Relay, postgres_url: str) -> None:
    async def main() -> None:
        connection = await asyncpg.connect(relay.url(postgres_url))
        assert await connection.fetchval("SELECT length($1)", "x" * 3_000_000) == 3_000_000
        assert len(await connection.fetchval("SELECT repeat('y', 3000000)")) == 3_000_000
        assert relay.connections == 1
        await connection.close()

    asyncio.run(main())
    while relay.connections:  # the relay forgets it as soon as both ends have closed
        time.sleep(0.01)


def test_relay_keeps_user_password_and_options_in_urls() -> None:
    with Relay("127.0.0.1", 9) as relay:
        url = relay.url("postgresql://me:p%40ss@db.example:5432/d?sslmode=disable")
        assert url == f"postgresql://me:p%40ss@127.0.0.1:{relay.port}/d?sslmode=disable"


def test_relay_delays_each_way(relay: Relay, postgres_url: str) -> None:
    async def main() -> None:
        connection = await asyncpg.connect(relay.url(postgres_url))
        relay.delay(0.2)
        start = time.monotonic()
        assert await connection.fetchval("SELECT 1") == 1
        assert time.monotonic() - start >= 0.4
        relay.delay(0)
        await connection.close()

    asyncio.run(main())


def test_relay_frozen_is_silent_and_thaws(relay: Relay, postgres_url: str) -> None:
    async def main() -> None:
        connection = await asyncpg.connect(relay.url(postgres_url))
        relay.freeze()
        query = asyncio.create_task(connection.fetchval("SELECT 1"))
        newcomer = asyncio.create_task(asyncpg.connect(relay.url(postgres_url)))
        await silent(query)
        await silent(newcomer)
        relay.thaw()
        assert await query == 1
        await (await newcomer).close()
        await connection.close()

    asyncio.run(main())


def test_relay_cuts_and_takes_new_connections(relay: Relay, postgres_url: str) -> None:
    async def main() -> None:
        connection = await asyncpg.connect(relay.url(postgres_url))
        query = asyncio.create_task(connection.execute("SELECT pg_sleep(600)"))
        await silent(query)
        relay.cut()
        assert relay.connections == 0
        await lost(query)
        await lost(connection.fetchval("SELECT 1"))
        connection = await asyncpg.connect(relay.url(postgres_url))
        assert await connection.fetchval("SELECT 1") == 1
        await connection.close()

    asyncio.run(main())


def test_relay_refuses_and_accepts(relay: Relay, postgres_url: str) -> None:
    async def main() -> None:
        connection = await asyncpg.connect(relay.url(postgres_url))
        relay.refuse()
        with pytest.raises(ConnectionRefusedError):
            await asyncpg.connect(relay.url(postgres_url))
        assert await connection.fetchval("SELECT 1") == 1
        relay.accept()
        await (await asyncpg.connect(relay.url(postgres_url))).close()
        await connection.close()

    asyncio.run(main())


def test_relay_half_closed_does_the_work_but_keeps_the_answer(relay: Relay, postgres_url: str) -> None:
    async def main() -> None:
        direct = await asyncpg.connect(postgres_url)
        await direct.execute("CREATE TABLE t (n int)")
        connection = await asyncpg.connect(relay.url(postgres_url))
        relay.half_close()
        insert = asyncio.create_task(connection.execute("INSERT INTO t VALUES (1)"))
        while not await direct.fetchval("SELECT count(*) FROM t"):
            pass
        await silent(insert)
        relay.thaw()
        assert await insert == "INSERT 0 1"
        await connection.close()
        await direct.close()

    asyncio.run(main())


def test_relay_drops_after_so_many_bytes_from_the_client(relay: Relay, postgres_url: str) -> None:
    async def main() -> None:
        direct = await asyncpg.connect(postgres_url)
        await direct.execute("CREATE TABLE t (body text)")
        connection = await asyncpg.connect(relay.url(postgres_url))
        relay.drop_after(50_000)
        await lost(connection.execute(f"INSERT INTO t VALUES ('{'x' * 100_000}')"))
        assert relay.connections == 0
        connection = await asyncpg.connect(relay.url(postgres_url))  # each new one has its own 50,000
        await connection.execute("INSERT INTO t VALUES ('small')")
        relay.drop_after(None)
        await connection.execute(f"INSERT INTO t VALUES ('{'x' * 100_001}')")
        assert await direct.fetchval("SELECT array_agg(length(body) ORDER BY 1) FROM t") == [5, 100_001]
        await connection.close()
        await direct.close()

    asyncio.run(main())


def test_relay_resets_a_client_whose_server_is_dead(own: Postgres) -> None:
    async def main() -> None:
        with Relay("127.0.0.1", own.port) as relay:
            connection = await asyncpg.connect(relay.url(own.url()))
            own.kill()
            await lost(connection.fetchval("SELECT 1"))
            await lost(asyncpg.connect(relay.url(own.url())))
            own.start()
            await (await asyncpg.connect(relay.url(own.url()))).close()

    asyncio.run(main())
