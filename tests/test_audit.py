"""The chain of a journal tells every edit, removal and exchange of records, and of input, rights and result."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import weft
from weft.core.record import Outcome, decode_records, encode_records
from weft.store import open_store
from weft.trace.audit import Flaw, judgements, verify


@weft.step
async def double(value: int) -> int:
    return value * 2


@weft.workflow
async def chain(count: int) -> list[int]:
    found = []
    for n in range(count):
        found.append(await double(n))
        if n % 3 == 2:
            await weft.sleep(0.01)  # what came before is a segment of its own
    return found


@weft.workflow
async def family(count: int) -> list[list[int]]:
    return await asyncio.gather(*(chain(count) for _ in range(3)))


def check(store: str, *ids: str) -> list[Flaw]:
    async def main() -> list[Flaw]:
        opened = open_store(store)
        try:
            return [flaw async for _, flaws in verify(opened, ids or None) for flaw in flaws]
        finally:
            await opened.close()

    return asyncio.run(main())


def ran(store: str, workflow: Any, *args: Any) -> str:
    async def main() -> str:
        async with weft.Runtime(store) as runtime:
            run = await runtime.start(workflow, *args)
            await run
            return run.id

    return asyncio.run(main())


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    return tmp_path / "journal.db"


def sql(journal: Path, *statements: tuple[str, tuple[Any, ...]]) -> list[Any]:
    with sqlite3.connect(journal) as connection:
        found = [connection.execute(*statement).fetchall() for statement in statements]
    connection.close()
    return found


def test_journals_of_all_kinds_of_runs_are_what_was_written(store: str) -> None:
    async def main() -> None:
        async with weft.Runtime(store) as runtime:
            runs = [await runtime.start(family, 7), await runtime.start(chain, 9)]
            for run in runs:
                await run
            await (await runtime.fork(runs[1].id, at=4))
            sleeper = await runtime.start(long_sleep)
            await asyncio.sleep(0.3)
            await runtime.cancel(sleeper.id)
            submitted = await runtime.submit(chain, 2)
            await runtime.journal.barrier()
            del submitted

    asyncio.run(main())
    assert check(store) == []


@weft.workflow
async def long_sleep() -> None:
    await double(1)
    await weft.sleep(3600)


def test_a_run_that_was_resumed_has_one_chain(store: str) -> None:
    async def begin() -> str:
        async with weft.Runtime(store) as runtime:
            run = await runtime.start(waits)
            await asyncio.sleep(0.2)
            return run.id

    async def go_on(id: str) -> None:
        async with weft.Runtime(store) as runtime:
            run = await runtime.resume(id)
            await runtime.send(id, "letters", "on")
            await run

    id = asyncio.run(begin())
    asyncio.run(go_on(id))
    assert check(store, id) == []


letters = weft.Mailbox("letters", str)


@weft.workflow
async def waits() -> str:
    await double(1)
    letter = await letters.receive()
    await double(2)
    return letter


def rewrite(journal: Path, id: str, change: Callable[[list[Any]], None]) -> None:
    """Change the records of one segment, as somebody who knows the format would."""
    [rows] = sql(journal, ("SELECT first, records FROM segments WHERE process = ? ORDER BY first", (id,)))
    first, data = max(rows, key=lambda row: len(decode_records(row[1])))
    records = decode_records(data)
    change(records)
    sql(
        journal,
        ("UPDATE segments SET records = ? WHERE process = ? AND first = ?", (encode_records(records), id, first)),
    )


def edited(records: list[Any]) -> None:
    outcome = next(record for record in records if isinstance(record, Outcome))
    outcome.place = outcome.place + "x"


def test_an_edited_record_is_found(journal: Path) -> None:
    id = ran(str(journal), chain, 9)
    rewrite(journal, id, edited)
    [flaw] = check(str(journal))
    assert flaw.process == id
    assert "is not what was written" in flaw.what


def test_a_removed_record_is_found(journal: Path) -> None:
    id = ran(str(journal), chain, 9)
    rewrite(journal, id, lambda records: records.pop())
    assert [flaw.process for flaw in check(str(journal))] == [id]


def test_exchanged_records_are_found(journal: Path) -> None:
    id = ran(str(journal), chain, 9)
    rewrite(journal, id, lambda records: records.reverse())
    assert [flaw.process for flaw in check(str(journal))] == [id]


TAMPERING = {
    "a segment removed from the middle": (
        "DELETE FROM segments WHERE process = :id AND first = (SELECT first FROM segments WHERE process = :id "
        "ORDER BY first LIMIT 1 OFFSET 1)"
    ),
    "the last segment removed": (
        "DELETE FROM segments WHERE process = :id AND first = (SELECT max(first) FROM segments WHERE process = :id)"
    ),
    "all segments removed": "DELETE FROM segments WHERE process = :id",
    "the links removed": "UPDATE segments SET chain = x'' WHERE process = :id",
    "another run's journal put in its place": (
        "UPDATE segments SET records = (SELECT records FROM segments o WHERE o.process <> :id ORDER BY first LIMIT 1), "
        "chain = (SELECT chain FROM segments o WHERE o.process <> :id ORDER BY first LIMIT 1) "
        "WHERE process = :id AND first = 0"
    ),
    "another input": "UPDATE processes SET input = (SELECT input FROM processes o WHERE o.id <> :id) WHERE id = :id",
    "another result": "UPDATE processes SET result = (SELECT result FROM processes o WHERE o.id <> :id) WHERE id = :id",
    "another end": "UPDATE processes SET state = 'failed' WHERE id = :id",
    "another name": "UPDATE processes SET workflow = 'innocent' WHERE id = :id",
    "other rights": "UPDATE images SET data = CAST(data || x'00' AS BLOB)",
}


@pytest.mark.parametrize("what", TAMPERING)
def test_tampering_is_found(journal: Path, what: str) -> None:
    id, other = ran(str(journal), chain, 9), ran(str(journal), chain, 4)
    assert check(str(journal)) == []
    with sqlite3.connect(journal) as connection:
        assert connection.execute(TAMPERING[what], {"id": id}).rowcount > 0
    connection.close()
    found = {flaw.process for flaw in check(str(journal))}
    assert found == ({id, other} if what == "other rights" else {id})


def test_with_a_key_a_forger_who_makes_all_links_anew_is_found(journal: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from weft.core.chain import link
    from weft.store.links import origin

    monkeypatch.setenv("WEFT_AUDIT_KEY", "a long secret that is in no store")
    id = ran(str(journal), chain, 9)
    assert check(str(journal)) == []
    rewrite(journal, id, edited)

    async def forge() -> None:
        opened = open_store(str(journal))
        row = await opened.row(id)
        assert row is not None
        previous = origin(row, b"")
        for segment in await opened.segments([id]):
            previous = link(previous, id, segment.first, segment.records, b"")
            sql(
                journal,
                ("UPDATE segments SET chain = ? WHERE process = ? AND first = ?", (previous, id, segment.first)),
            )
        await opened.close()

    asyncio.run(forge())
    assert [flaw.process for flaw in check(str(journal))] == [id]
    monkeypatch.delenv("WEFT_AUDIT_KEY")
    assert check(str(journal)) == []  # without the key nobody can tell: which is why there is one


def test_decisions_show_the_lineage_of_the_right_that_decided(store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WEFT_POLICY")
    id = ran(store, family, 1)

    async def main() -> None:
        opened = open_store(store)
        [child, *_] = await opened.rows(parent=id)
        mine, its = await judgements(opened, id), await judgements(opened, child.id)
        assert {one.action for one in mine} == {"spawn"}
        assert all(one.verdict == "allow" and one.by[-1].startswith(f"{id}#") for one in mine)
        [step] = its
        assert step.by[0].startswith(f"{id}#")
        assert step.by[-1].startswith(f"{child.id}#")
        await opened.close()

    asyncio.run(main())
