"""What is said of the connection is done: TLS, time limits, the number of connections."""

from __future__ import annotations

import asyncio
import shutil
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.servers.postgres import Postgres
from weft.core.errors import StoreError
from weft.store import open_store
from weft.store.postgres import PostgresOptions, PostgresStore

SSL_REQUEST = bytes.fromhex("0000000804d2162f")


class Seal:
    """A server's end of TLS before a PostgreSQL that was built without it: it answers the request for TLS, and passes
    on what comes."""

    def __init__(self, target: int, certificate: Path, key: Path) -> None:
        self.target = target
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(certificate, key)
        self.sealed = 0
        """Connections that came by TLS."""
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return  # closed
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        try:
            if client.recv(8, socket.MSG_WAITALL) != SSL_REQUEST:
                return client.close()  # nobody comes in without
            client.sendall(b"S")
            inner = self.context.wrap_socket(client, server_side=True)
        except OSError:
            return client.close()
        self.sealed += 1
        server = socket.create_connection(("127.0.0.1", self.target))
        threading.Thread(target=self._pass, args=(server, inner), daemon=True).start()
        return self._pass(inner, server)

    def _pass(self, source: socket.socket, sink: socket.socket) -> None:
        try:
            while data := source.recv(65536):
                sink.sendall(data)
        except OSError:
            pass
        finally:
            for end in (source, sink):
                end.close()


def certify(folder: Path, name: str) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1 that is its own authority, and its key."""
    certificate, key = folder / f"{name}.pem", folder / f"{name}.key"
    words = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=weft-test"
    command = ["openssl", *words.split(), "-addext", "subjectAltName=IP:127.0.0.1", "-out", certificate, "-keyout", key]
    subprocess.run(command, check=True, capture_output=True)
    return certificate, key


@contextmanager
def sealed(postgres: Postgres, folder: Path) -> Iterator[tuple[Seal, Path]]:
    """A TLS port before the server, and the authority that vouches for it."""
    if shutil.which("openssl") is None:
        pytest.skip("no openssl here, to make certificates with")
    certificate, key = certify(folder, "server")
    seal = Seal(postgres.port, certificate, key)
    try:
        yield seal, certificate
    finally:
        seal.listener.close()


async def asked(url: str, **options: Any) -> dict[str, int]:
    store = open_store(url, options=PostgresOptions(patience=0.0, **options))
    try:
        return (await store.stats()).states
    finally:
        await store.close()


def test_tls_is_as_the_url_says(postgres: Postgres, postgres_url: str, tmp_path: Path) -> None:
    database = urlsplit(postgres_url).path
    with sealed(postgres, tmp_path) as (seal, authority):
        url = f"postgresql://postgres@127.0.0.1:{seal.port}{database}"
        assert asyncio.run(asked(f"{url}?sslmode=verify-full&sslrootcert={authority}")) == {}
        assert seal.sealed > 0
        other, _ = certify(tmp_path, "other")
        with pytest.raises(StoreError, match=r"(?i)certificate"):
            asyncio.run(asked(f"{url}?sslmode=verify-full&sslrootcert={other}"))
        named = url.replace("127.0.0.1", "localhost")
        with pytest.raises(StoreError, match=r"(?i)certificate"):
            asyncio.run(asked(f"{named}?sslmode=verify-full&sslrootcert={authority}"))
        assert asyncio.run(asked(f"{named}?sslmode=verify-ca&sslrootcert={authority}")) == {}
    with pytest.raises(StoreError, match=r"(?i)ssl"):  # the server itself has none, and is not talked to without
        asyncio.run(asked(f"{postgres_url}?sslmode=require"))


async def session(store: PostgresStore, *names: str) -> list[str]:
    return [(await store._fetch(f"SHOW {name}"))[0][0] for name in names]


def test_the_session_is_set_up_as_said_and_the_url_comes_first(postgres_url: str) -> None:
    async def main() -> None:
        names = ("statement_timeout", "lock_timeout", "application_name", "synchronous_commit")
        options = PostgresOptions(statement_timeout=7.0)
        store = PostgresStore(postgres_url, options=options)
        assert await session(store, *names) == ["7s", "7s", "weft", "on"]
        await store.close()
        store = PostgresStore(f"{postgres_url}?lock_timeout=1234&application_name=mine", options=options)
        assert await session(store, *names) == ["7s", "1234ms", "mine", "on"]
        await store.close()
        store = PostgresStore(postgres_url, "process", options)
        assert await session(store, "synchronous_commit") == ["off"]
        await store.close()

    asyncio.run(main())


def test_a_request_that_takes_too_long_is_given_up_and_the_next_one_is_not(postgres_url: str) -> None:
    async def main() -> None:
        import asyncpg

        store = open_store(postgres_url, options=PostgresOptions(statement_timeout=0.3, patience=0.5))
        assert await store.rows() == []
        holder = await asyncpg.connect(postgres_url)
        held = holder.transaction()
        await held.start()
        await holder.execute("LOCK TABLE weft.processes IN ACCESS EXCLUSIVE MODE")
        with pytest.raises(StoreError, match=r"(?i)timeout"):
            await store.rows()
        await held.rollback()
        assert await store.rows() == []
        await holder.close()
        await store.close()

    asyncio.run(main())


def test_no_more_connections_than_the_pool_and_three(postgres: Postgres, postgres_url: str) -> None:
    async def main() -> None:
        store = open_store(postgres_url, options=PostgresOptions(pool=2))
        await store.register("a runtime", {})
        most, database = 0, postgres_url.rpartition("/")[2]
        count = f"SELECT count(*) FROM pg_stat_activity WHERE datname = '{database}' AND application_name = 'weft'"

        async def read() -> None:
            for _ in range(20):
                await store.rows()

        async def watch() -> None:
            nonlocal most
            while not reading.done():
                most = max(most, int(await asyncio.to_thread(postgres.execute, count)))

        reading = asyncio.gather(*(read() for _ in range(30)))
        await asyncio.gather(reading, watch())
        await store.close()
        assert 2 <= most <= 2 + 3

    asyncio.run(main())
