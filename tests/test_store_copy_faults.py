"""`weft store copy` when it is killed, when a store is damaged or full, and as a command."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import shlex
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import weft
from tests import moves
from tests.moves import asked, copy, digests, executable, inside, later, move, opened, states
from tests.programs import drive, fresh, parked, ran  # noqa: F401
from tests.servers.postgres import Postgres
from tests.test_docs import BLOCK
from weft.core.errors import StoreCorrupt, StoreFull
from weft.core.record import decode_records
from weft.store.base import ARRIVING, FINISHED

ROOT = Path(__file__).parents[1]
WEFT = str(Path(sys.executable).parent / "weft")

# Kills itself at the n-th moment before or after a write; a letter comes to `letter` while the copy is read back.
KILLED = """
import asyncio, os, signal, sys
from weft.store import Batch, Message, open_store
from weft.store.copy import copy
from weft.store.copy.crossing import Crossing
from weft.store.postgres import PostgresOptions

source, target, last, letter = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4]
left = last

def moment():
    global left
    left -= 1
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)

def counted(store):
    commit, delete, claim = store.commit, store.delete, store.claim
    def commits(batch, done):
        moment()
        commit(batch, lambda error: (moment(), done(error)))
    async def deletes(ids):
        moment()
        count = await delete(ids)
        moment()
        return count
    async def claims(*args, **options):
        moment()
        rows = await claim(*args, **options)
        moment()
        return rows
    store.commit, store.delete, store.claim = commits, deletes, claims
    return store

compare = Crossing._compare

async def and_a_letter_comes(self, written):
    if letter in written and not await self.source.inbox([letter]):
        other = open_store(source)
        await other.register("sender", {})
        done = asyncio.get_running_loop().create_future()
        other.commit(Batch(messages=[Message(0, letter, "moves-later", b"\\x07")]), done.set_result)
        await done
        await other.close()
    return await compare(self, written)

Crossing._compare = and_a_letter_comes

async def main():
    options = PostgresOptions(heartbeat=0.3)
    here, there = (counted(open_store(place, options=options)) for place in (source, target))
    report = await copy(here, there)
    assert not report.left, report
    await here.close()
    await there.close()

asyncio.run(main())
"""


def killed(source: str, target: str, moment: int, letter: str) -> bool:
    """Copy in another process, which dies at this moment. False if it lived to its end."""
    environment = {**os.environ, "PYTHONPATH": str(Path(weft.__file__).parents[1])}
    command = [sys.executable, "-c", KILLED, source, target, str(moment), letter]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode in (0, -signal.SIGKILL), done.stderr
    return done.returncode != 0


async def few(runtime: weft.Runtime) -> dict[str, str]:
    """A family with a finished child, a letter and payloads in it; one of whom nothing is left to do; one alone."""
    ids = {"large": (await runtime.start(moves.carries, 40_000)).id}
    ids["family"] = (await runtime.start(moves.pair)).id
    ids["alone"] = (await runtime.start(moves.adds, "alone")).id
    await runtime.end_of(ids["large"])
    await parked(runtime, ids["family"])
    await parked(runtime, ids["alone"])
    children = [row.id for row in await runtime.store.rows(parent=ids["family"])]
    await runtime.send(children[0], "moves", 30)
    await runtime.end_of(children[0])
    ids["child"] = children[1]
    return ids


async def finish(runtime: weft.Runtime, ids: dict[str, str], letters: int, begun: bool) -> None:
    """`letters` came later; `begun`: the first letter was received before."""
    await runtime.resume_all()
    await runtime.send(ids["child"], "moves", 4)
    if not begun:
        await runtime.send(ids["alone"], "moves", 1)
    for number in range(3 - letters):
        await runtime.send(ids["alone"], "moves-later", number)
    assert await (await runtime.resume(ids["family"])) == 34
    assert await (await runtime.resume(ids["alone"])) == [1, *[7] * letters, *range(3 - letters)]


def check_rerun(here: str, there: str, ids: dict[str, str], before: dict[str, bytes], *, gone_on: bool) -> None:
    """After a copy that was killed: what must be true at once, and that another copy ends it."""
    assert not executable(here) & executable(there), "a run can be executed in both"
    posted = any(inside(place)[ids["alone"]].letters for place in (here, there) if ids["alone"] in states(place))
    steps = len(ran)
    if gone_on and ids["alone"] in executable(here):
        drive(here, lambda runtime: _one_more_letter(runtime, ids["alone"]))
        assert len(ran) == steps
    report = move(here, there)
    assert report.left == [] and executable(here) == set()
    assert set(states(there).values()) <= {*FINISHED, "waiting"} and ARRIVING not in states(there).values()
    assert executable(there) == {ids["family"], ids["child"], ids["alone"]}
    after = digests(there)
    assert after.keys() == before.keys()
    assert {id for id in after if after[id] != before[id]} <= {ids["alone"]}
    assert letters_of(there, ids["alone"]) == posted


def letters_of(place: str, id: str) -> int:
    """How many letters have come to the box `moves-later` of this run, received or not."""
    content = inside(place)[id]
    assert {letter.payload for letter in content.letters} <= {b"\x07"}
    records = [record for segment in content.segments for record in decode_records(segment.records)]
    return len(content.letters) + sum(getattr(record, "name", "") == later.name for record in records)


async def _one_more_letter(runtime: weft.Runtime, id: str) -> None:
    """Somebody resumes a run at the source between two copies: its journal gets longer there."""
    run = await runtime.resume(id)
    await runtime.send(run.id, "moves", 1)
    await runtime.journal.barrier()
    while (await runtime.row(id)).length < 3 or id in runtime.active:
        await asyncio.sleep(0.02)


@pytest.mark.parametrize("gone_on", [False, True])
def test_killed_at_any_moment_another_copy_ends_it(tmp_path: Path, gone_on: bool) -> None:
    origin = str(tmp_path / "origin.db")
    ids = drive(origin, few)
    before, moments, finished = digests(origin), 0, 0
    for moment in range(1, 100, 2 if gone_on else 1):
        here, there = str(tmp_path / f"here{moment}.db"), str(tmp_path / f"there{moment}.db")
        shutil.copy(origin, here)
        if not killed(here, there, moment, ids["alone"]):
            break
        moments += 1
        check_rerun(here, there, ids, before, gone_on=gone_on)
        if moments % 3 == 0:
            letters, begun = letters_of(there, ids["alone"]), inside(there)[ids["alone"]].row.length >= 3
            ran.clear()
            drive(there, lambda runtime, letters=letters, begun=begun: finish(runtime, ids, letters, begun))
            assert ran == ["alone got 50000"]
            finished += 1
    assert moments >= (6 if gone_on else 12) and finished >= 2


def test_a_copy_that_is_killed_often_makes_no_crash_loop(tmp_path: Path) -> None:
    """A run that kills its process five times is not started again by itself; this one has killed nobody."""
    here, there = str(tmp_path / "here.db"), str(tmp_path / "there.db")
    moves.stalled.clear()

    async def begin(runtime: weft.Runtime) -> str:
        run = await runtime.start(moves.hurried)
        while not moves.stalled:
            await asyncio.sleep(0.01)
        return run.id

    id = drive(here, begin)
    for _ in range(6):
        assert killed(here, there, 3, id)
    assert inside(here)[id].state == "running" and (inside(here)[id].row.owner or "").startswith("copy-")
    assert move(here, there).handed == 1 and inside(there)[id].row.strikes == 0

    async def end(runtime: weft.Runtime) -> str:
        return str(await (await runtime.resume(id)))

    assert drive(there, end) == "after" and ran == ["before", "stalls", "stalls"]


@pytest.mark.parametrize("way", ["there", "back"])
def test_killed_on_the_way_to_or_from_a_server(tmp_path: Path, postgres: Postgres, way: str) -> None:
    origin = str(tmp_path / "origin.db")
    ids = drive(origin, few)
    before = digests(origin)
    moments = 0
    for moment in range(1, 200, 5):
        url = postgres.create()
        file = str(tmp_path / f"file{moment}.db")
        if way == "there":
            shutil.copy(origin, file)
        else:
            shutil.copy(origin, tmp_path / "again.db")
            assert move(str(tmp_path / "again.db"), url).handed == 3
        here, there = (file, url) if way == "there" else (url, file)
        lived = not killed(here, there, moment, ids["alone"])
        if not lived:
            moments += 1
            check_rerun(here, there, ids, before, gone_on=False)
        postgres.drop(url.rpartition("/")[2])
        if lived:
            break
    assert moments >= 3


# --- damage -----------------------------------------------------------------------------------------------------


async def three(runtime: weft.Runtime) -> dict[str, str]:
    ids = {}
    for name, workflow, args in (("one", moves.gets, (1,)), ("bad", moves.adds, ("bad",)), ("two", moves.gets, (1,))):
        ids[name] = (await runtime.start(workflow, *args)).id  # type: ignore[arg-type]
    for id in ids.values():
        await parked(runtime, id)
    return ids


DAMAGE = {
    "a payload is gone": "DELETE FROM payloads",
    "a payload is another": "UPDATE payloads SET data = zeroblob(50000)",
    "the journal is gone": "DELETE FROM segments WHERE process = '{bad}'",
    "a record is gone": "UPDATE segments SET first = first + 100 WHERE process = '{bad}'",
    "a record is nonsense": "UPDATE segments SET records = x'91c1' WHERE process = '{bad}'",
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_run_is_named_and_the_others_go(tmp_path: Path, damage: str) -> None:
    here, there = str(tmp_path / "here.db"), str(tmp_path / "there.db")
    ids = drive(here, three)
    with sqlite3.connect(here) as connection:
        connection.execute(DAMAGE[damage].format(bad=ids["bad"]))
    connection.close()
    before = digests(here)
    report = move(here, there)
    assert [(left.run, left.why) for left in report.left] == [(ids["bad"], "damaged")]
    assert ids["bad"] in report.left[0].text
    assert executable(there) == states(there).keys() == {ids["one"], ids["two"]}
    assert executable(here) == {ids["bad"]} and digests(here) == {ids["bad"]: before[ids["bad"]]}


def test_a_damaged_file_stops_the_copy_and_stays(tmp_path: Path) -> None:
    here, there = str(tmp_path / "here.db"), str(tmp_path / "there.db")
    ids = drive(here, three)
    with Path(here).open("r+b") as file:
        size = file.seek(0, os.SEEK_END)
        for page in range(4096 * 2, size, 4096):
            file.seek(page)
            file.write(b"\xff" * 512)
    damaged = Path(here).read_bytes()
    with pytest.raises(StoreCorrupt, match=r"here\.db"):
        move(here, there)
    assert states(there) == {} and len(ids) == 3
    assert Path(here).read_bytes()[8192:] == damaged[8192:]


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
@pytest.mark.parametrize("table", ["inbox", "payloads", "segments"])
def test_what_reads_back_otherwise_is_not_handed_over(
    tmp_path: Path, request: pytest.FixtureRequest, kind: str, table: str
) -> None:
    here = str(tmp_path / "here.db")
    there = str(tmp_path / "there.db") if kind == "sqlite" else request.getfixturevalue("postgres_url")
    id = drive(here, lambda runtime: _with_a_letter(runtime))
    before = digests(here)
    spoil, mend = _spoiled(there, table, request)
    spoil()
    with pytest.raises(StoreCorrupt, match=f"run {id} reads back from .* otherwise"):
        move(here, there)
    assert executable(there) == set() and executable(here) == {id} and digests(here) == before
    assert asked(here, lambda store: store.rows())[0].owner is None
    mend()
    assert move(here, there).handed == 1 and digests(there) == before


async def _with_a_letter(runtime: weft.Runtime) -> str:
    run = await runtime.start(moves.adds, "spoiled")
    await parked(runtime, run.id)
    await runtime.send(run.id, "moves-later", 1)
    return run.id


def _spoiled(place: str, table: str, request: pytest.FixtureRequest) -> tuple[Callable[[], Any], Callable[[], Any]]:
    """Make a store that writes something else than it is given; and mend it."""
    asked(place, lambda store: store.rows())  # makes the tables
    column = {"inbox": "payload", "payloads": "data", "segments": "records"}[table]
    if not place.startswith("postgres"):

        def run(sql: str) -> None:
            connection = sqlite3.connect(place)
            connection.execute(sql)
            connection.commit()
            connection.close()

        where = {"inbox": "id = new.id", "payloads": "hash = new.hash", "segments": "process = new.process"}[table]
        trigger = (
            f"CREATE TRIGGER spoil AFTER INSERT ON {table} BEGIN UPDATE {table} SET {column} = x'90' WHERE {where}; END"
        )
        return lambda: run(trigger), lambda: run("DROP TRIGGER spoil")
    server: Postgres = request.getfixturevalue("postgres")
    database = place.rpartition("/")[2]
    body = f"BEGIN new.{column} = '\\x90'; RETURN new; END"
    function = f"CREATE FUNCTION spoil() RETURNS trigger AS $$ {body} $$ LANGUAGE plpgsql;"
    trigger = f"CREATE TRIGGER spoil BEFORE INSERT ON weft.{table} FOR EACH ROW EXECUTE FUNCTION spoil()"
    return (
        lambda: server.execute(function + trigger, database),
        lambda: server.execute(f"DROP TRIGGER spoil ON weft.{table}", database),
    )


def test_a_full_disk_there_leaves_all_here(tmp_path: Path) -> None:
    here, there = str(tmp_path / "here.db"), str(tmp_path / "there.db")
    ids = drive(here, three)
    before = digests(here)

    async def full() -> None:
        source, target = opened(here), opened(there)
        pages = target._writer.execute("PRAGMA page_count").fetchone()[0]  # type: ignore[attr-defined]
        target._writer.execute(f"PRAGMA max_page_count = {pages + 4}")  # type: ignore[attr-defined]
        with pytest.raises(StoreFull, match=r"there\.db"):
            await copy(source, target)
        await source.close()
        await target.close()

    asyncio.run(full())
    assert executable(here) == set(ids.values()) and executable(there) == set() and digests(here) == before
    assert {row.owner for row in asked(here, lambda store: store.rows())} == {None}
    assert move(here, there).handed == 3 and digests(there) == before


# --- the command ------------------------------------------------------------------------------------------------

PROGRAM = """
import asyncio
import weft

@weft.step
async def plus(x: int) -> int:
    return x + 1

@weft.workflow
async def add(x: int) -> int:
    return await plus(x)

@weft.workflow
async def slow(count: int = 15) -> int:
    for i in range(count):
        await plus(i)
        await asyncio.sleep(0.15)
    return count
"""


def journal(place: str | Path, id: str) -> bytes:
    return b"".join(segment.records for segment in asked(str(place), lambda store: store.segments([id])))


class Shell:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "shop.py").write_text(PROGRAM)
        self.environment = {k: v for k, v in os.environ.items() if not k.startswith("WEFT_")} | {"COLUMNS": "160"}

    def __call__(self, *words: str, code: int = 0) -> tuple[str, str]:
        done = subprocess.run(
            [WEFT, *words], cwd=self.folder, capture_output=True, text=True, timeout=60, env=self.environment
        )
        assert done.returncode == code and "Traceback" not in done.stderr, done.stdout + done.stderr
        return done.stdout, done.stderr

    def begin(self, *words: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [WEFT, *words], cwd=self.folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env=self.environment,
        )  # fmt: skip

    def running(self, *words: str) -> tuple[subprocess.Popen[str], str]:
        """A run that has got on a little, and its id."""
        child = self.begin("run", "shop.py:slow", "--store", "here.db", *words)
        assert child.stderr is not None
        id = child.stderr.readline().split()[1]
        while len(journal(self.folder / "here.db", id)) < 200:
            assert child.poll() is None
            time.sleep(0.02)
        return child, id

    def interrupted(self) -> str:
        """The id of a run whose process was killed."""
        child, id = self.running()
        child.kill()
        child.communicate()
        return id


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    return Shell(tmp_path)


def test_a_killed_run_moves_and_is_finished_there(shell: Shell, postgres_url: str) -> None:
    shell("run", "shop.py:add", "-i", "x=1", "--store", "here.db")
    id = shell.interrupted()
    before = journal(shell.folder / "here.db", id)
    said, _ = shell("store", "copy", "here.db", postgres_url)
    assert "2 runs copied" in said and f"weft resume --all --store {postgres_url}" in said
    here, there = [line.split() for line in said.splitlines()[1:3]]
    assert here[1] == there[0] and len(there[0]) == 32
    for words in (["resume", id], ["cancel", id], ["send", id, "box", "1"]):
        _, refused = shell(*words, "--store", "here.db", code=3)
        assert f"run {id} has moved to {postgres_url}" in refused and refused.count("\n") == 1
    shown, _ = shell("show", id, "--store", "here.db")
    assert "moved" in shown and f"weft show {id} --store {postgres_url}" in shown
    assert "moved" in shell("ps", "--store", "here.db")[0] and "interrupted" in shell("ps", "--store", postgres_url)[0]
    assert "1 run resumed" in shell("resume", "--all", "--store", postgres_url)[0]
    whole = [r["record"] for r in json.loads(shell("show", id, "--store", postgres_url, "--json")[0])["journal"]]
    done = [one for one in whole if one != "started"]  # a step with which it was perhaps killed is begun with care
    assert done == ["outcome"] * 30 + ["end"] and journal(postgres_url, id).startswith(before)
    again = json.loads(shell("store", "copy", "here.db", postgres_url, "--json")[0])
    assert (again["copied"], again["there"], again["gone"], again["left"]) == (0, 1, 1, [])
    assert again["digest"] == again["digest_there"]


def test_exit_codes_say_what_was_left(shell: Shell) -> None:
    worker, _ = shell.running("-i", "count=400")
    said, why = shell("store", "copy", "here.db", "there.db", code=3)
    assert "0 runs copied" in said and "is being executed by another process" in why
    worker.terminate()
    worker.communicate(timeout=60)
    shell("run", "shop.py:add", "-i", "x=1", "--key", "k", "--store", "here.db")
    shell("run", "shop.py:add", "-i", "x=2", "--key", "k", "--store", "there.db")
    _, why = shell("store", "copy", "here.db", "there.db", code=4)
    assert "idempotency key 'k'" in why
    left = json.loads(shell("store", "copy", "here.db", "there.db", "--json", code=4)[0])
    assert left["gone"] == 1 and [one["why"] for one in left["left"]] == ["conflict"]


@pytest.mark.parametrize(
    ("source", "target", "code", "says"),
    [
        ("here.db", "here.db", 2, "are one store"),
        ("none.db", "there.db", 4, "there is no journal none.db"),
        ("shop.py", "there.db", 4, "shop.py"),
        ("here.db", "shop.py", 4, "shop.py"),
        ("here.db", "mysql://user@host/db", 4, "there is no store for"),
        ("mysql://user:sesame@host/db", "there.db", 4, "there is no store for"),
        ("here.db", "postgresql://user:sesame@127.0.0.1:1/db", 4, "does not answer"),
    ],
)
def test_bad_input_is_a_sentence(shell: Shell, source: str, target: str, code: int, says: str) -> None:
    shell("run", "shop.py:add", "-i", "x=1", "--store", "here.db")
    before = digests(str(shell.folder / "here.db"))
    out, why = shell("store", "copy", source, target, code=code)
    *warnings, last = why.splitlines()
    assert out == "" and says in last and last.startswith("weft: ") and "sesame" not in why
    assert all("trying again" in warning for warning in warnings)
    assert digests(str(shell.folder / "here.db")) == before and not (shell.folder / "none.db").exists()


def test_interrupted_it_says_so_and_can_be_repeated(shell: Shell) -> None:
    id = shell.interrupted()
    asked(str(shell.folder / "there.db"), lambda store: store.rows())
    lock = sqlite3.connect(shell.folder / "there.db", isolation_level=None)
    lock.execute("BEGIN IMMEDIATE")
    child = shell.begin("store", "copy", "here.db", "there.db")
    owners = shell.folder / "here.db.owners"
    while not list(owners.glob("copy-*")):
        assert child.poll() is None
        time.sleep(0.01)
    child.send_signal(signal.SIGTERM)
    time.sleep(0.2)
    lock.execute("ROLLBACK")
    lock.close()
    _, why = child.communicate(timeout=60)
    assert child.returncode == 130 and "repeat the same command" in why
    assert executable(str(shell.folder / "here.db")) == {id}
    shell("store", "copy", "here.db", "there.db")
    assert executable(str(shell.folder / "there.db")) == {id}


def test_on_a_terminal_there_is_a_bar(shell: Shell) -> None:
    shell("run", "shop.py:add", "-i", "x=1", "--store", "here.db")
    leader, follower = pty.openpty()
    child = subprocess.Popen(
        [WEFT, "store", "copy", "here.db", "there.db"], cwd=shell.folder, stdout=subprocess.PIPE, stderr=follower,
        env={**shell.environment, "TERM": "xterm"},
    )  # fmt: skip
    os.close(follower)
    out, _ = child.communicate(timeout=60)
    shown = b""
    try:
        while part := os.read(leader, 4096):
            shown += part
    except OSError:  # the end of a terminal
        pass
    os.close(leader)
    assert child.returncode == 0 and b"1 runs copied" in out and b"copying" in shown and b"1/1" in shown


def test_the_page_does_what_it_says(shell: Shell, postgres_url: str) -> None:
    shell("run", "shop.py:add", "-i", "x=1")
    commands = 0
    for language, _, body in BLOCK.findall((ROOT / "docs/how-to/move.md").read_text()):
        if language == "console":
            for line in body.splitlines():
                words = shlex.split(line.replace("postgresql://weft@db.example/weft", postgres_url), comments=True)
                assert words[0] == "weft"
                shell(*words[1:])
                commands += 1
    assert commands >= 3
