"""What goes in and out of a program: exceptions, large values, many values, no secrets; what can't be kept is named."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import weft
from tests.programs import drive
from tests.servers.postgres import Postgres
from weft.core import codec
from weft.core.errors import NotStorable, RemoteError


class Gone(Exception):
    pass


@weft.step
async def raises(kind: str) -> None:
    raise {"gone": Gone, "exit": SystemExit, "stop": StopIteration, "cancel": asyncio.CancelledError}[kind]("farewell")


@weft.workflow
async def raising(kind: str) -> str:
    try:
        await raises(kind)
    except Exception as error:
        return type(error).__name__
    return "nothing"


@weft.workflow
async def letting(kind: str) -> None:
    await raises(kind)


def test_exceptions_of_every_sort(store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def use(runtime: weft.Runtime) -> None:
        assert await runtime.run(raising, "gone") == "Gone"
        for kind in ("exit", "stop", "cancel"):
            assert await runtime.run(raising, kind) == "RuntimeError"
        run = await runtime.start(letting, "gone")
        with pytest.raises(Gone, match="farewell"):
            await run
        monkeypatch.delattr(sys.modules[__name__], "Gone")
        with pytest.raises(RemoteError, match=r"Gone: farewell"):
            await run

    drive(store, use)


@weft.step
async def gives(what: str) -> Any:
    return {"lock": asyncio.Lock, "nested": lambda: {"a": [1, {2, print}]}}[what]()


@weft.workflow
async def giving(what: str) -> Any:
    return await gives(what)


@weft.workflow
async def returning() -> Any:
    return {"items": [1, 2, open]}


def test_values_that_cannot_be_stored_are_named_by_path(store: str) -> None:
    async def use(runtime: weft.Runtime) -> None:
        with pytest.raises(NotStorable, match="result"):
            await runtime.run(giving, "lock")
        with pytest.raises(NotStorable, match=r"\['?\"?a\"?'?\]\[1\]"):
            await runtime.run(giving, "nested")
        with pytest.raises(NotStorable, match=r"result.*items.*\[2\]"):
            await runtime.run(returning)

    drive(store, use)


@weft.step(effect="pure")
async def echo(value: Any) -> Any:
    return value


@weft.workflow
async def large(value: bytes) -> int:
    first = await echo(value)
    second = await echo(first)
    return len(second) if first == second == value else -1


def test_large_payloads_are_stored_once(store: str, request: pytest.FixtureRequest) -> None:
    size = 30_000_000 if "://" in store else 100_000_000  # a server compresses it each time it is offered

    async def use(runtime: weft.Runtime) -> None:
        run = await runtime.start(large, os.urandom(1000) * (size // 1000))
        assert await run == size
        assert await (await runtime.fork(run.id, at=2)) == size

    drive(store, use)
    kept = payloads(request.getfixturevalue("postgres"), store) if "://" in store else Path(store).stat().st_size
    assert 2 * size <= kept < 2.6 * size  # the input, and one payload


def payloads(server: Postgres, store: str) -> int:
    """Bytes of large values in the database; on its disk they are compressed."""
    return int(server.execute("SELECT sum(length(data)) FROM weft.payloads", store.rpartition("/")[2]))


@weft.workflow
async def many(count: int) -> int:
    total = 0
    for start in range(0, count, 5_000):
        total += sum(await asyncio.gather(*(echo(i) for i in range(start, start + 5_000))))
    return total


def test_tens_of_thousands_of_effects(store: str) -> None:
    count = 20_000 if "://" in store else 50_000

    async def use(runtime: weft.Runtime) -> None:
        run = await runtime.start(many, count)
        assert await run == sum(range(count))
        assert len(await runtime.recovery.records(run.id)) == count + 1
        assert await (await runtime.fork(run.id, at=count)) == sum(range(count))

    drive(store, use)


@weft.step
async def leaks(token: str) -> dict[str, str]:
    return {"header": f"Bearer {token}", "seen": os.environ["DEMO_API_KEY"]}


@weft.workflow
async def leaky(token: str) -> Any:
    got = await leaks(token)
    try:
        await fails_with(token)
    except ValueError as error:
        return got, str(error)


@weft.step
async def fails_with(token: str) -> None:
    raise ValueError(f"{token} was refused")


def files(server: Postgres, store: str) -> Iterator[Path]:
    """Where the server keeps a database: its tables and its write-ahead log."""
    database = store.rpartition("/")[2]
    server.execute("CHECKPOINT")
    number = server.execute(f"SELECT oid FROM pg_database WHERE datname = '{database}'")
    yield from (server.folder / "data" / "base" / number).iterdir()
    yield from (server.folder / "data" / "pg_wal").iterdir()


def test_secrets_never_reach_the_disk(
    store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    secret = "sk-very-secret-0123456789"
    monkeypatch.setenv("DEMO_API_KEY", secret)

    async def use(runtime: weft.Runtime) -> None:
        run = await runtime.start(leaky, secret)
        result = await run
        assert secret not in repr(result) and "[secret:DEMO_API_KEY]" in repr(result)
        server = request.getfixturevalue("postgres") if "://" in store else None
        written = files(server, store) if server else tmp_path.iterdir()  # noqa: ASYNC240
        contents = [file.read_bytes() for file in written if file.is_file()]
        assert any(b"[secret:DEMO_API_KEY]" in content for content in contents)
        assert not any(secret.encode() in content for content in contents)

    drive(store, use)


def test_exported_errors_are_plain() -> None:
    try:
        raise Gone("x") if "Gone" in globals() else ValueError("x")
    except Exception as error:
        plain = codec.to_plain(error)
    assert json.dumps(plain) and plain["message"] == "x"
