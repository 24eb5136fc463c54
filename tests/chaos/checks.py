"""What must be true when all is over: from the journal, from what the server noted, and from what the steps wrote down.

The server is made to note, by triggers, who wrote each segment, when each runtime was born and taken over, and each
admission to a queue with a rate. All times are of one machine: the steps write its monotonic clock, the server its
wall clock, and `WALL` is the difference.
"""

from __future__ import annotations

import math
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from tests.chaos import programs
from tests.servers.postgres import Postgres
from weft.core.codec import decode
from weft.core.record import End, Outcome, decode_records
from weft.store.base import CANCELLED, DONE, ProcessRow, Store

WALL = time.time() - time.monotonic()
SLACK = 0.01
"""Seconds that an admission may take from the moment it is made to the moment it is noted."""

_NOW = "extract(epoch FROM clock_timestamp())::float8"
NOTES = f"""
CREATE SCHEMA chaos;
CREATE TABLE chaos.writes (process text, first bigint, owner text, at float8);
CREATE TABLE chaos.lives (owner text PRIMARY KEY, born float8, gone float8);
CREATE TABLE chaos.admissions (queue text, at float8);
INSERT INTO chaos.lives SELECT owner, {_NOW} FROM weft.owners;
CREATE FUNCTION chaos.wrote() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    INSERT INTO chaos.writes SELECT process, first,
        (SELECT owner FROM weft.owners o WHERE o.xmin = pg_current_xact_id()::xid), {_NOW} FROM fresh;
    RETURN NULL; END $$;
CREATE TRIGGER wrote AFTER INSERT ON weft.segments REFERENCING NEW TABLE AS fresh
    FOR EACH STATEMENT EXECUTE FUNCTION chaos.wrote();
CREATE FUNCTION chaos.lived() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    IF TG_OP = 'INSERT' THEN INSERT INTO chaos.lives VALUES (NEW.owner, {_NOW});
    ELSE UPDATE chaos.lives SET gone = {_NOW} WHERE owner = OLD.owner; END IF;
    RETURN NULL; END $$;
CREATE TRIGGER lived AFTER INSERT OR DELETE ON weft.owners FOR EACH ROW EXECUTE FUNCTION chaos.lived();
CREATE FUNCTION chaos.admitted() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    INSERT INTO chaos.admissions SELECT queue, {_NOW} FROM fresh;
    RETURN NULL; END $$;
CREATE TRIGGER admitted AFTER INSERT ON weft.starts REFERENCING NEW TABLE AS fresh
    FOR EACH STATEMENT EXECUTE FUNCTION chaos.admitted();
"""


class Life(NamedTuple):
    """One runtime, from its registration until it left or was taken over; wall clock."""

    owner: str
    born: float
    gone: float

    @property
    def pid(self) -> int:
        return int(self.owner.rpartition("-")[2])


class Execution(NamedTuple):
    """One execution of a step; monotonic clock. `over`: when it ended, its worker died, or was taken over."""

    tag: str
    begin: float
    over: float
    after: str
    late: bool
    """It began in a worker that had been taken over, and did not know yet."""


class Journaled(NamedTuple):
    """The outcome of a step. `at`: when it was written, wall clock."""

    token: str
    at: float


def note(server: Postgres, database: str) -> None:
    """Let the server note what it is asked to do."""
    server.execute(NOTES, database)


def lives(server: Postgres, database: str) -> list[Life]:
    lines = server.execute("SELECT owner, born, coalesce(gone, 'infinity') FROM chaos.lives", database).splitlines()
    return [Life(owner, float(born), float(gone)) for owner, born, gone in (line.split("|") for line in lines)]


def executions(log: Path, lives: Iterable[Life], died: Mapping[int, float]) -> dict[str, Execution]:
    """By token. `died`: when the operating-system processes that were killed had died."""
    begun: dict[str, tuple[float, str]] = {}
    ended: dict[str, float] = {}
    for line in log.read_text().splitlines():
        word, token, nanoseconds, after = line.split("\t")
        if word == "in":
            assert token not in begun
            begun[token] = int(nanoseconds) / 1e9, after
        else:
            ended[token] = int(nanoseconds) / 1e9
    by_pid: dict[int, list[Life]] = defaultdict(list)
    for life in sorted(lives, key=lambda life: life.born):
        by_pid[life.pid].append(life)
    found = {}
    for token, (begin, after) in begun.items():
        tag, _, rest = token.partition("#")
        pid = int(rest.partition(".")[0])
        life = next(life for life in reversed(by_pid[pid]) if life.born <= begin + WALL + 0.01)
        gone = life.gone - WALL
        over = min(ended.get(token, math.inf), died.get(pid, math.inf), gone)
        assert over < math.inf, f"{token} has neither ended nor died"
        found[token] = Execution(tag, begin, max(over, begin), after, begin > gone)
    return found


async def journaled(
    store: Store, rows: Iterable[ProcessRow], written: Mapping[tuple[str, int], float]
) -> list[Journaled]:
    """Outcomes of steps. What is wrong with a journal by itself is an AssertionError."""
    found = []
    for row in rows:
        length, effects, seen, last = 0, set(), [], None
        for segment in await store.segments([row.id]):
            assert segment.first == length, f"the journal of {row.id} ({row.workflow}) has a hole at {length}"
            for record in decode_records(segment.records):
                length, last = length + 1, record
                if not isinstance(record, Outcome):
                    continue
                assert record.effect not in effects, f"effect {record.effect} of {row.id} has two outcomes"
                effects.add(record.effect)
                assert isinstance(record.value, bytes)
                value = decode(record.value) if record.kind == "step" else None
                if isinstance(value, str):
                    seen.append(value)
                    found.append(Journaled(value, written[row.id, segment.first]))
        assert isinstance(last, End), f"the journal of {row.id} ({row.workflow}) ends with {last}"
        assert length == row.length, f"{row.id} ({row.workflow}, {row.state}) has {length} records, not {row.length}"
        if row.state == DONE:
            saw = decode(row.result or b"")["seen"]
            assert sorted(saw) == sorted(seen), f"the body of {row.id} ({row.workflow}) saw {saw}, journaled is {seen}"
    return found


def most(intervals: Iterable[tuple[float, float]]) -> int:
    """How many of these overlap at most."""
    changes = sorted((at, change) for begin, end in intervals for at, change in ((begin, 1), (end, -1)))
    now = highest = 0
    for _, change in changes:  # where one ends as another begins, the end comes first
        now += change
        highest = max(highest, now)
    return highest


def check_steps(ran: Mapping[str, Execution], outcomes: Iterable[Journaled]) -> dict[str, int]:
    """Steps whose outcome is known never ran again, at-most-once ones never twice, and nobody acted on what he saw
    before it was durable."""
    by_tag = Counter(run.tag for run in ran.values())
    for tag, count in by_tag.items():
        assert not tag.startswith("once ") or count == 1, f"{tag} ran {count} times"
    at = {outcome.token: outcome.at for outcome in outcomes}
    settled: dict[str, float] = {}
    for token, when in at.items():
        tag = token.partition("#")[0]
        assert token in ran, f"{token} is journaled, and never ran"
        assert tag not in settled, f"{tag} is journaled twice"
        settled[tag] = when
    for token, run in ran.items():
        if run.tag in settled and not run.late:
            assert run.begin + WALL < settled[run.tag] + 0.01, f"{token} ran after {run.tag} was journaled"
        if run.after:
            assert run.after in at, f"{token} was given {run.after}, which is not in the journal"
            assert run.begin + WALL + 0.01 > at[run.after], f"{token} was given {run.after} before that was durable"
    return {"executions": len(ran), "repeated": sum(by_tag.values()) - len(by_tag)}


def check_limits(ran: Mapping[str, Execution], at: Iterable[Journaled]) -> dict[str, int]:
    """The highest number of holders of each limited queue."""
    known = {outcome.token for outcome in at}
    highest = {}
    for queue, words in ((programs.NARROW, ("narrow",)), (programs.BOTH, ("both",))):
        steps = [run for run in ran.values() if run.tag.split(" ")[-1].rstrip("0123456789") in words and not run.late]
        highest[queue.name] = most((run.begin, run.over) for run in steps)
    crew: dict[str, list[float]] = defaultdict(list)
    for token, run in ran.items():
        name, _, word = run.tag.partition(" crew ")
        if (word == "first" and not run.late) or (word == "last" and token in known):
            crew[name] += [run.begin, run.over]
    highest[programs.CREW.name] = most((min(times), max(times)) for times in crew.values())
    for queue in (programs.NARROW, programs.BOTH, programs.CREW):
        assert queue.concurrency is not None
        assert highest[queue.name] <= queue.concurrency, f"{highest[queue.name]} at once in {queue}"
    return highest


def check_rates(server: Postgres, database: str, ran: Mapping[str, Execution]) -> None:
    lines = server.execute("SELECT queue, at FROM chaos.admissions ORDER BY at", database).splitlines()
    admitted: dict[str, list[float]] = defaultdict(list)
    for queue, at in (line.split("|") for line in lines):
        admitted[queue].append(float(at))
    for queue in (programs.PACED, programs.BOTH, programs.BEAT):
        assert queue.rate is not None
        count, seconds = queue.rate
        times = admitted[queue.name]
        for first, over in zip(times, times[count:], strict=False):
            assert over - first >= seconds - SLACK, f"{count + 1} starts within {over - first:.3f} s in {queue}"
    started = sum(run.tag.rstrip("0123456789").endswith(" paced") for run in ran.values())
    assert started <= len(admitted["paced"]), "a paced step ran without having been admitted"


def check_fencing(server: Postgres, database: str) -> dict[tuple[str, int], float]:
    """No segment was written but by a living runtime; when each was written."""
    query = "SELECT process, first, coalesce(owner, ''), at FROM chaos.writes"
    gone = {life.owner: life.gone for life in lives(server, database)}
    written = {}
    for line in server.execute(query, database).splitlines():
        process, first, owner, at = line.split("|")
        assert owner, f"segment {first} of {process} was written by nobody"
        assert float(at) <= gone[owner], f"{owner} wrote segment {first} of {process} after it had been taken over"
        assert (process, int(first)) not in written
        written[process, int(first)] = float(at)
    return written


def check_rest(server: Postgres, database: str) -> None:
    """Nothing is left of what is over: letters, places in queues, waits."""
    for table, where in (
        ("inbox", "box <> 'weft.cancel'"),  # a process that is cancelled before it began reads no letter
        ("tickets", "owner IN (SELECT owner FROM weft.owners)"),
        ("waits", "process NOT IN (SELECT owner FROM weft.owners)"),
    ):
        left = server.execute(f"SELECT * FROM weft.{table} WHERE {where} LIMIT 5", database)
        assert not left, f"left in weft.{table}: {left}"


def check_results(rows: Iterable[ProcessRow], expected: Mapping[str, Any], names: Mapping[str, str]) -> None:
    """As an undisturbed run's. `names`: of the processes that were submitted, by id."""
    for row in rows:
        state = CANCELLED if row.workflow.endswith(".forever") else DONE
        assert row.state == state, f"{row.workflow} {row.id} is {row.state}: {decode(row.error) if row.error else ''}"
        if row.id in names:
            name = names[row.id]
            value = [word.replace(name, "NAME", 1) for word in decode(row.result or b"")["value"]]
            assert value == expected[row.workflow], f"{row.workflow} {row.id} returned {value}"
