"""What only the shared store has: a schema that several versions work on, URLs, passwords, TLS."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
import traceback
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from tests.servers.postgres import Postgres, Unavailable
from tests.servers.tls import Front, certificate
from tests.stores import SOURCE, Place, commit, ids, row, rows, until
from weft.core.errors import (
    BadInput,
    MissingExtra,
    StoreCorrupt,
    StoreError,
    StoreReadOnly,
    StoreTooNew,
    StoreUnreachable,
)
from weft.store import Message, Segment, Store, open_store
from weft.store.postgres import PostgresOptions, PostgresStore, schema

PATIENT = PostgresOptions(patience=600.0)
"""For errors that no second try mends: nobody is to wait so long for them."""
WITHOUT_PATIENCE = PostgresOptions(patience=0.0)


@pytest.fixture
def place(postgres_url: str) -> Place:
    return Place("postgres", postgres_url)


async def asked(url: str, query: str, *values: Any) -> list[tuple[Any, ...]]:
    """What the server itself answers."""
    connection = await asyncpg.connect(url)
    try:
        return [tuple(found) for found in await connection.fetch(query, *values)]
    finally:
        await connection.close()


async def works(store: Store, owner: str, id: str) -> None:
    """Use every part of a store once."""
    await commit(
        store, payloads={id.encode(): b"x"}, references={(id, id.encode())},
        rows=rows(row(id, owner=owner, state="waiting", wake_at=1.0)), segments=[Segment(id, 0, b"s")],
        messages=[Message(0, id, "b", b"m")], events=[(id, b"v", id)], waits={id: [id]},
    )  # fmt: skip
    assert await store.news(owner) == [id]
    assert ids(await store.due(owner, 2.0, 9)) == [id]
    assert [s.records for s in await store.segments([id])] == [b"s"]
    assert await store.payload(id.encode()) == b"x"
    inbox = await store.inbox([id])
    await commit(store, taken=[inbox[0].id], rows=rows(row(id, state="done")))
    assert await store.delete([id]) == 1


# --- the schema -------------------------------------------------------------------------------------------------


def test_the_tables_are_made_once_however_many_come_first(place: Place) -> None:
    async def main() -> None:
        stores = [place.open() for _ in range(6)]
        assert await asyncio.gather(*(store.rows() for store in stores)) == [[]] * 6
        for n, store in enumerate(stores):
            await store.register(f"o{n}", {})
        for n, store in enumerate(stores):
            await works(store, f"o{n}", f"p{n}")
        assert await asked(place.url, "SELECT version, oldest FROM weft.schema") == [(schema.VERSION, schema.OLDEST)]

    place.run(main)


@pytest.mark.parametrize("version", range(1, schema.VERSION))
def test_tables_of_every_older_weft_are_brought_up_with_all_that_is_in_them(place: Place, version: int) -> None:
    async def main() -> None:
        connection = await asyncpg.connect(place.url)
        await connection.execute(
            "CREATE SCHEMA weft; CREATE TABLE weft.schema (version integer NOT NULL, oldest integer NOT NULL)"
        )
        for step in schema.MIGRATIONS[:version]:
            await connection.execute(step)
        await connection.execute(f"INSERT INTO weft.schema VALUES ({version}, 1)")
        await connection.execute(
            """INSERT INTO weft.processes (id, workflow, source, version, state, priority, tenant, created, started,
                updated, strikes, length, input) VALUES ('old', 'shop.order', '', 'v1', 'waiting', 2, 'acme', 1, 2, 3,
                0, 1, 'in'); INSERT INTO weft.segments (process, first, records) VALUES ('old', 0, 'records')"""
        )
        await connection.close()
        store = await place.owner("me")
        expected = row(
            "old", version="v1", state="waiting", priority=2, tenant="acme", created=1.0, started=2.0, updated=3.0,
            length=1, input=b"in",
        )  # fmt: skip
        assert await store.rows() == [expected]
        assert await store.segments(["old"]) == [Segment("old", 0, b"records")]
        await works(store, "me", "new")
        assert ids(await store.claim("me")) == ["old"]
        assert await asked(place.url, "SELECT version FROM weft.schema") == [(schema.VERSION,)]

    place.run(main)


LATER = """
    ALTER TABLE weft.processes ADD COLUMN mood text NOT NULL DEFAULT 'calm';
    ALTER TABLE weft.segments ADD COLUMN weight integer;
    CREATE INDEX processes_mood ON weft.processes (mood);
    CREATE TABLE weft.moods (mood text PRIMARY KEY);
"""


def upgrade(monkeypatch: pytest.MonkeyPatch, step: str = LATER, oldest: int = schema.OLDEST) -> None:
    """From now on this is the next Weft."""
    monkeypatch.setattr(schema, "VERSION", schema.VERSION + 1)
    monkeypatch.setattr(schema, "MIGRATIONS", (*schema.MIGRATIONS, step))
    monkeypatch.setattr(schema, "OLDEST", oldest)


def test_workers_of_two_versions_go_on_beside_each_other(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        old = await place.owner("old")
        await works(old, "old", "before")
        stop, written = asyncio.Event(), 0

        async def write() -> None:
            nonlocal written
            while not stop.is_set():
                await works(old, "old", f"meanwhile-{written}")
                written += 1

        writing = asyncio.create_task(write())
        await until(lambda: written > 2)
        with monkeypatch.context() as patch:
            upgrade(patch)
            new = await place.owner("new")
            await works(new, "new", "by the new")
            before = written
            await until(lambda: written > before + 2)
        stop.set()
        await writing
        assert await asked(place.url, "SELECT version FROM weft.schema") == [(schema.VERSION + 1,)]
        # One of the old version may come back, too, and finds nothing to bring up.
        again = await place.owner("again")
        await works(again, "again", "later")
        await works(new, "new", "by the new again")
        assert await asked(place.url, "SELECT version FROM weft.schema") == [(schema.VERSION + 1,)]
        await asked(place.url, "SELECT mood FROM weft.moods")

    place.run(main)


def test_what_only_a_newer_weft_can_use_is_refused_and_left_as_it_is(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        old = await place.owner("old", heartbeat=0.2)
        lost: list[StoreError] = []
        old.listen(lambda hint: None, lost.append)
        await works(old, "old", "before")
        with monkeypatch.context() as patch:
            upgrade(patch, oldest=schema.VERSION + 1)
            await works(await place.owner("new"), "new", "by the new")
        message = rf"newer Weft \(it needs schema {schema.VERSION + 1}, this one knows {schema.VERSION}\); upgrade"
        with pytest.raises(StoreTooNew, match=message):
            await place.open(patience=600.0).rows()
        # Who was there already stops, too, as soon as it sees it.
        await until(lambda: bool(lost))
        assert isinstance(lost[0], StoreTooNew)
        with pytest.raises(StoreTooNew, match=message):
            await commit(old, rows=rows(row("after")))
        assert await asked(place.url, "SELECT id FROM weft.processes WHERE id = 'after'") == []
        assert await asked(place.url, "SELECT version FROM weft.schema") == [(schema.VERSION + 1,)]

    place.run(main)


def test_a_migration_that_fails_changes_nothing(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        old = await place.owner("old")
        await works(old, "old", "before")
        with monkeypatch.context() as patch:
            upgrade(patch, LATER + "ALTER TABLE weft.moods ADD COLUMN mood text;")
            with pytest.raises(StoreError, match=r"DuplicateColumnError.*; nothing was applied"):
                await place.open().rows()
        assert await asked(place.url, "SELECT version FROM weft.schema") == [(schema.VERSION,)]
        assert await asked(place.url, "SELECT to_regclass('weft.moods')") == [(None,)]
        await works(old, "old", "after")

    place.run(main)


def test_tables_of_somebody_else_are_named(place: Place, postgres: Postgres) -> None:
    async def main() -> None:
        postgres.execute("CREATE SCHEMA weft", place.url.rpartition("/")[2])
        await works(await place.owner("me"), "me", "p")  # an empty schema of that name will do
        await asked(place.url, "ALTER TABLE weft.events RENAME TO other")
        with pytest.raises(StoreCorrupt, match=r"tables of the journal at .* are missing or foreign"):
            await place.open().events(["e"])

    place.run(main)


def test_who_may_only_read_reads_and_is_told_so_at_writing(place: Place, postgres: Postgres) -> None:
    database = place.url.rpartition("/")[2]
    url = place.url.replace("//postgres@", "//weft_reader@")

    async def main() -> None:
        assert postgres.execute("SELECT count(*) FROM pg_roles WHERE rolname = 'weft_reader'") == "0"
        postgres.execute("CREATE ROLE weft_reader LOGIN")
        with pytest.raises(StoreReadOnly, match=r"weft_reader@.* may not be written .*grant this user the rights"):
            await place.beside("postgres", url).open().rows()
        await commit(await place.owner("me"), rows=rows(row("p", state="done")))
        grant = "GRANT USAGE ON SCHEMA weft TO weft_reader; GRANT SELECT ON ALL TABLES IN SCHEMA weft TO weft_reader"
        postgres.execute(grant, database)
        reader = place.beside("postgres", url).open()
        assert ids(await reader.rows()) == ["p"]
        for use in (reader.register("reader", {}), reader.delete(["p"])):
            with pytest.raises(StoreReadOnly, match="may not be written"):
                await use

    try:
        place.run(main)
    finally:
        postgres.execute("DROP OWNED BY weft_reader", database)
        postgres.execute("DROP ROLE weft_reader")


# --- the way to the server --------------------------------------------------------------------------------------


async def refused(url: str, options: PostgresOptions = WITHOUT_PATIENCE) -> StoreError:
    """The error of a store that cannot be reached, after a look at all that a log would show of it."""
    store = open_store(url, "full", options)
    with pytest.raises(StoreError) as caught:
        await store.rows()
    await store.close()
    shown = store.url + "".join(traceback.format_exception(caught.value, limit=0)) + repr(caught.value)
    for part in ("s3cret", "Zq7Kx", "Wv9Jm"):
        assert part not in shown, shown
    return caught.value


def refusal(url: str, options: PostgresOptions = WITHOUT_PATIENCE) -> StoreError:
    return asyncio.run(refused(url, options))


@pytest.mark.parametrize("between", ["", *"/#?@:%[] &=+\\^|\"'\t", "%zz", "%41", "://", "℀"])
def test_a_password_is_never_shown_whatever_is_in_it(between: str) -> None:
    for tail in ("127.0.0.1:1/weft", "127.0.0.1:port/weft", "[::1/weft", "127.0.0.1:1/weft?sslmode=sure"):
        assert "weft:***@" in str(refusal(f"postgresql://weft:Zq7Kx{between}Wv9Jm@{tail}"))


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("postgresql://weft:s3cret@127.0.0.1:port/weft", r"weft:\*\*\*@127\.0\.0\.1:port/weft names no PostgreSQL"),
        ("postgresql://weft@127.0.0.1:1/weft?password=s3cret&sslmode=sure", r"password=\*\*\*.*sslmode"),
        ("postgresql://weft@127.0.0.1:1/weft?sslmode=verify-full&sslrootcert=/no/such.pem", "such.pem"),
        ("postgresql://127.0.0.1:1/weft?sslmode", "names no PostgreSQL server"),
    ],
)  # fmt: skip
def test_urls_that_name_no_server(url: str, message: str) -> None:
    error = refusal(url, PATIENT)
    assert not isinstance(error, StoreUnreachable)
    assert re.search(message, str(error)), str(error)


def test_a_server_that_is_not_there_is_named() -> None:
    error = refusal("postgresql://weft:s3cret@127.0.0.1:1/weft")
    assert isinstance(error, StoreUnreachable)
    assert "postgresql://weft:***@127.0.0.1:1/weft does not answer" in str(error) and "start it" in str(error)


def test_a_database_and_a_user_that_are_not_there_are_named(place: Place) -> None:
    base, _, database = place.url.rpartition("/")
    assert 'database "nothere" does not exist; check the URL' in str(refusal(f"{base}/nothere", PATIENT))
    stranger = place.url.replace("//postgres@", "//stranger:s3cret@")
    assert 'role "stranger" does not exist; check the URL' in str(refusal(stranger, PATIENT))
    assert "refused" in str(refusal(f"{base}/{database}?no_such_setting=1", PATIENT))


def test_the_urls_own_settings_come_first(place: Place) -> None:
    async def shown(url: str, name: str, **options: Any) -> str:
        store = place.beside("postgres", url).open(**options)
        assert isinstance(store, PostgresStore)
        return await store._server.ask(lambda c: c.fetchval(f"SHOW {name}"))  # type: ignore[no-any-return]

    async def main() -> None:
        assert await shown(place.url, "application_name") == "weft"
        assert await shown(place.url + "?application_name=mine", "application_name") == "mine"
        assert await shown(place.url, "statement_timeout", statement_timeout=7.5) == "7500ms"
        assert await shown(place.url + "?statement_timeout=1234", "statement_timeout") == "1234ms"
        assert await shown(place.url, "synchronous_commit") == "on"
        store = PostgresStore(place.url, "process")
        assert await store._server.ask(lambda c: c.fetchval("SHOW synchronous_commit")) == "off"
        await store.close()

    place.run(main)


def test_options_that_make_no_sense_are_refused() -> None:
    for wrong in ({"heartbeat": 0.05}, {"pool": 0}, {"statement_timeout": 0}, {"patience": -1}):
        with pytest.raises(BadInput, match=next(iter(wrong))):
            PostgresOptions(**wrong)


def test_without_the_driver_the_extra_is_named() -> None:
    code = """if True:
        import sys
        sys.modules["asyncpg"] = None
        import weft.store
        from weft.core.errors import MissingExtra
        try:
            weft.store.open_store("postgresql://weft:s3cret@127.0.0.1/weft")
        except MissingExtra as error:
            print(error)
    """
    done = subprocess.run(
        [sys.executable, "-c", code], env={"PYTHONPATH": SOURCE}, capture_output=True, text=True, check=True
    )
    assert done.stdout == "a store in PostgreSQL needs the extra `postgres`: pip install 'weft[postgres]'\n"
    assert issubclass(MissingExtra, ImportError)


# --- passwords and TLS ------------------------------------------------------------------------------------------


def test_a_wrong_password_is_refused_at_once() -> None:
    try:
        with Postgres() as server:
            rules = server.folder / "data" / "pg_hba.conf"
            rules.write_text("host all weft 127.0.0.1/32 scram-sha-256\n" + rules.read_text())
            server.execute("CREATE ROLE weft LOGIN PASSWORD 's3cret'")
            server.execute("SELECT pg_reload_conf()")
            url = server.create().replace("//postgres@", "//weft:{}@")
            asyncio.run(asked(url.format("s3cret"), "SELECT 1"))
            error = refusal(url.format("Zq7Kx"), PATIENT)
    except Unavailable as unavailable:
        pytest.skip(str(unavailable))
    assert not isinstance(error, StoreUnreachable)
    assert f"weft:***@127.0.0.1:{server.port}/" in str(error) and "refused the connection" in str(error)
    assert "check the URL's user" in str(error)


def test_a_server_without_tls_is_told_from_one_that_is_away(place: Place) -> None:
    error = refusal(f"{place.url}?sslmode=require", PATIENT)
    assert not isinstance(error, StoreUnreachable)
    assert "offers no TLS, which the URL asks for; turn it on there" in str(error)

    async def main() -> None:
        assert await place.beside("postgres", place.url + "?sslmode=prefer").open().rows() == []

    place.run(main)


def test_the_urls_tls_options_are_the_drivers(place: Place, tmp_path: Path) -> None:
    folders = [tmp_path / name for name in ("ours", "other", "elsewhere")]
    for folder in folders:
        folder.mkdir()
    try:
        ours, other = certificate(folders[0], "127.0.0.1"), certificate(folders[1], "127.0.0.1")
        elsewhere = certificate(folders[2], "10.9.9.9")
    except Unavailable as error:
        pytest.skip(str(error))
    port = int(place.url.rpartition(":")[2].partition("/")[0])

    def through(front: Front, query: str) -> str:
        return place.url.replace(f":{port}/", f":{front.port}/") + query

    async def main() -> None:
        async with Front(ours, port).open() as front:
            for n, query in enumerate(
                (
                    "?sslmode=require",
                    f"?sslmode=verify-ca&sslrootcert={ours}",
                    f"?sslmode=verify-full&sslrootcert={ours}",
                )
            ):
                before = front.encrypted
                owner = await place.beside("postgres", through(front, query)).owner(f"o{n}")
                await works(owner, f"o{n}", f"p{n}")
                await owner.close()
                assert front.encrypted >= before + 3 and front.plain == 0  # one that writes, one that beats …
            assert await place.beside("postgres", through(front, "?sslmode=disable")).open().rows() == []
            assert front.plain == 1
            for mode in ("verify-ca", "verify-full"):
                error = await refused(through(front, f"?sslmode={mode}&sslrootcert={other}"), PATIENT)
                assert not isinstance(error, StoreUnreachable)
                assert "is not trusted (self-signed certificate); name that of its authority with" in str(error)
        async with Front(elsewhere, port).open() as front:
            assert (
                await place.beside("postgres", through(front, f"?sslmode=verify-ca&sslrootcert={elsewhere}"))
                .open()
                .rows()
                == []
            )
            error = await refused(through(front, f"?sslmode=verify-full&sslrootcert={elsewhere}"), PATIENT)
            assert "is not trusted (IP address mismatch, certificate is not valid for '127.0.0.1')" in str(error)
            nonsense = tmp_path / "nonsense.pem"
            nonsense.write_text("no certificate")
            error = await refused(through(front, f"?sslmode=verify-full&sslrootcert={nonsense}"), PATIENT)
            assert not isinstance(error, StoreUnreachable) and "TLS" in str(error)

    place.run(main)
