"""SIGKILL at random points of checkpoint, fork and restore: what is there is whole, and one run goes on."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

import weft
from tests.crash.turning import NAME, turns
from tests.programs import drive, until_dead
from weft.core.codec import decode
from weft.runtime.checkpoint import find
from weft.runtime.cut import decode_cut
from weft.runtime.handle import restored
from weft.store import ProcessRow, Store, open_store
from weft.store.base import FINISHED
from weft.trace.audit import verify

ROOT = Path(__file__).parents[1]
KILLS = int(os.environ.get("WEFT_CRASH_POINTS", "24")) // 3


def kill_after(store: str, log: Path, seconds: float) -> None:
    child = subprocess.Popen(
        [sys.executable, "-m", "tests.crash.turning", store],
        cwd=ROOT,
        env={**os.environ, "WEFT_CRASH_LOG": str(log), "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert child.stdout is not None
    child.stdout.readline()
    time.sleep(seconds)
    child.send_signal(signal.SIGKILL)
    _, err = child.communicate()
    assert child.returncode == -signal.SIGKILL, err


async def check(store: Store) -> int:
    """How many runs there are. Every one is whole, every checkpoint too, and one goes on in the place of the first."""
    assert [flaw async for _, found in verify(store) for flaw in found] == []
    roots = await store.rows(roots=True, limit=10_000)
    for root in roots:
        tree = (await store.subtree(root.id)).rows
        assert len(tree) == 3, f"{root.id} has {len(tree)} processes"
        for row in tree.values():
            count = 0
            for segment in await store.segments([row.id]):
                assert segment.first == count
                count += len(weft.core.record.decode_records(segment.records))
            assert count == row.length or row.state not in FINISHED
    for made in await store.checkpoints():
        cut = decode_cut((await find(store, made.id)).body)
        assert len(cut.places) == 3 or made.name != NAME
    [first] = [row for row in roots if row.key is not None]
    last = await follow(store, first)
    assert last.state not in FINISHED
    unfinished = {row.id for row in roots if row.state not in FINISHED}
    for made in await store.checkpoints():
        ended = decode((await find(store, made.id)).heirs or b"\x80")
        assert not unfinished & ended.keys()
    assert last.id in unfinished and len(unfinished) <= 2  # besides, perhaps, a fork that was not killed yet
    return len(roots)


async def follow(store: Store, row: ProcessRow) -> ProcessRow:
    while (reason := restored(row)) is not None:
        checkpoint = await store.checkpoint(reason.checkpoint)
        assert checkpoint is not None
        [row] = await store.rows(ids=[decode(checkpoint.heirs)[row.id]])
    return row


async def looked_at(place: str) -> int:
    store = open_store(place)
    try:
        return await check(store)
    finally:
        await store.close()


def test_killed_in_the_middle_of_checkpoint_fork_and_restore(
    store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw = random.Random(int(os.environ.get("WEFT_CRASH_SEED", "7")))
    log = tmp_path / "log"
    monkeypatch.setenv("WEFT_CRASH_LOG", str(log))
    runs, kills = 0, KILLS if "://" not in store else max(2, KILLS // 3)
    while kills > 0 or runs <= 3:  # on a busy machine few get far between two kills
        kills -= 1
        kill_after(store, log, draw.random() * (1.0 if "://" in store else 0.5))
        until_dead(store)
        runs = asyncio.run(looked_at(store))
        for row in asyncio.run(left_over(store)):  # a fork that was not killed yet
            drive(store, lambda runtime, id=row: runtime.signal(id, "kill"))

    async def complete(runtime: weft.Runtime) -> list[list[str]]:
        run = await runtime.restore(NAME)
        for id in (await runtime.store.subtree(run.id)).rows:
            await runtime.send(id, "turning.go", "on")
        first = await runtime.start(turns.options(key="turns"))  # by its first name
        assert await run == await first
        return await run

    result = drive(store, complete)
    assert [(tag, word) for tag, _, word in result] == [("kid 0", "on"), ("kid 1", "on")]
    counts = Counter(line.rstrip(".") for line in log.read_text().splitlines())
    assert counts["kid 0"] == counts["kid 1"] == counts["top"] == 1, "a step before the checkpoint was made again"


async def left_over(place: str) -> list[str]:
    store = open_store(place)
    try:
        roots = await store.rows(roots=True, limit=10_000)
        [first] = [row for row in roots if row.key is not None]
        last = await follow(store, first)
        return [row.id for row in roots if row.state not in FINISHED and row.id != last.id]
    finally:
        await store.close()
