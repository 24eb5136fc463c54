"""Two workers on one store, killed again and again while their agents commit: no update lost, none made twice.

Each agent moves one unit at a time from one account to another, at L1, and counts its moves in a third cell. Whatever
is killed, in the end the accounts sum up to what there was, the counts to the moves that were asked for, and the
history has no anomaly.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from rich.console import Console

import weft
from benchmarks.report import Measure, Report
from benchmarks.server import Postgres
from benchmarks.trials import place
from verify.judge import contents
from weft.store import open_store
from weft.trace.anomalies import check
from weft.trace.journal_history import history_of_runs

AGENTS, MOVES, ACCOUNTS = 6, 12, 4
LIMIT = 300.0
bank: weft.Memory[int] = weft.Memory("bank", int)


@weft.step(name="kills.think", effect="pure")
async def think(seconds: float) -> None:
    await asyncio.sleep(seconds)


@bank.operation(retries=50)
async def move(op: weft.Operation[int], source: str, target: str, count: str) -> None:
    had, has = await op.read(source, 100), await op.read(target, 100)
    done = await op.read(count, 0)
    await think(0.002)
    op.write(source, had - 1)
    op.write(target, has + 1)
    op.write(count, done + 1)


@weft.workflow(name="kills.agent")
async def agent(number: int) -> None:
    for at in range(MOVES):
        source = (number + at) % ACCOUNTS
        target = (source + 1 + at % (ACCOUNTS - 1)) % ACCOUNTS
        await move(f"a{source}", f"a{target}", f"count{number}")


def measure(report: Report, kills: int, console: Console) -> None:
    with TemporaryDirectory(prefix="bench-", dir=place()) as folder:
        _tell(report, "SQLite", _scene(str(Path(folder, "journal.db")), kills, console))
    try:
        with Postgres(place()) as server, server.database() as url:
            _tell(report, "PostgreSQL", _scene(url, kills, console))
    except FileNotFoundError as missing:
        report.bar("killed in commits on PostgreSQL", "wrong", None, most=0, why=str(missing))


def _scene(url: str, kills: int, console: Console) -> dict[str, Any]:
    """Rounds of agents, until so many workers have been killed."""
    killed, rounds, wrong, operations = 0, 0, list[str](), 0
    deadline = time.monotonic() + LIMIT
    draw = random.Random(kills)
    while killed < kills and time.monotonic() < deadline:
        ids = asyncio.run(_submit(url, rounds))
        killed += _killed_until_done(url, ids, kills - killed, draw, deadline)
        rounds += 1
        found, more = asyncio.run(_judged(url, ids, rounds))
        wrong += found
        operations += more
        console.print(f"[dim]{url.partition(':')[0]}: {killed} of {kills} kills, {operations} commits[/]")
    return {"killed": killed, "wrong": wrong, "commits": operations}


async def _submit(url: str, round: int) -> list[str]:
    async with weft.Runtime(url) as runtime:
        return [(await runtime.submit(agent.options(key=f"{round}/{one}"), one)).id for one in range(AGENTS)]


def _killed_until_done(url: str, ids: list[str], most: int, draw: random.Random, deadline: float) -> int:
    workers = [_worker(url) for _ in range(2)]
    killed = 0
    try:
        while not asyncio.run(_over(url, ids)):
            if time.monotonic() > deadline:
                raise TimeoutError(f"agents are not done after {LIMIT:.0f} s")
            if killed < most:
                time.sleep(draw.uniform(0.05, 0.4))
                victim = draw.randrange(2)
                workers[victim].send_signal(signal.SIGKILL)
                workers[victim].wait()
                killed += 1
                workers[victim] = _worker(url)
            else:
                time.sleep(0.2)
    finally:
        for one in workers:
            one.kill()
            one.wait()
    return killed


def _worker(url: str) -> subprocess.Popen[str]:
    child = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.memory.kills", url], stdout=subprocess.PIPE, text=True, env={**os.environ}
    )
    assert child.stdout is not None
    child.stdout.readline()  # it is up
    return child


async def _over(url: str, ids: list[str]) -> bool:
    store = open_store(url)
    try:
        return len(await store.ended(ids)) == len(ids)
    finally:
        await store.close()


async def _judged(url: str, ids: list[str], rounds: int) -> tuple[list[str], int]:
    store = open_store(url)
    try:
        wrong = [f"agent {row.id} {row.state}" for row in await store.ended(ids) if row.state != "done"]
        held = await contents(store, "bank")
        accounts = {name: value for name, value in held.items() if not name.startswith("count")}
        if sum(accounts.values()) != 100 * len(accounts):
            wrong.append(f"the accounts sum up to {sum(accounts.values())}, not {100 * len(accounts)}")
        for one in range(AGENTS):
            if held[f"count{one}"] != rounds * MOVES:
                wrong.append(f"agent {one} made {held[f'count{one}']} moves of {rounds * MOVES}")
        history = await history_of_runs(store, ids)
        wrong += [finding.words for finding in check(history, "L1")]
        if len(history) != AGENTS * MOVES:
            wrong.append(f"the journals tell of {len(history)} commits, not {AGENTS * MOVES}")
        return wrong, len(history)
    finally:
        await store.close()


def _tell(report: Report, store: str, found: dict[str, Any]) -> None:
    figure = f"killed in commits on {store}"
    more = {"commits": float(found["commits"])}
    report.add(figure, Measure(name="two workers", unit="kills", runs=[found["killed"]], more=more))
    report.bar(figure, "lost, doubled or stale", len(found["wrong"]), most=0, why="; ".join(found["wrong"][:3]))


async def _work(url: str) -> None:
    async with weft.Runtime(url, queues=["default"]):
        print("up", flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_work(sys.argv[1]))
