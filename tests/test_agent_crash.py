"""A process with agents in it is killed with SIGKILL at random points: what they hand in is the same, and no call that
has come back is made again."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

from tests.crash.agents import TURNS, WIDTH
from weft.core.record import Outcome, decode_records
from weft.store import open_store

ROOT = Path(__file__).parents[1]
KILLS = int(os.environ.get("WEFT_AGENT_KILLS", "6"))


def launch(store: Path, log: Path) -> subprocess.Popen[str]:
    child = subprocess.Popen(
        [sys.executable, "-m", "tests.crash.agents", str(store), str(log)],
        cwd=ROOT,
        env={**os.environ, "WEFT_POLICY": "all", "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert child.stdout is not None
    assert child.stdout.readline() == "started\n"
    return child


def finish(store: Path, log: Path) -> list[str]:
    child = launch(store, log)
    assert child.stdout is not None
    out = child.stdout.read()
    assert child.wait(60) == 0
    answers: list[str] = json.loads(out)
    return answers


def outcomes(store: Path, calls: set[str]) -> Counter[str]:
    """Tools (by what they worked on) and generations whose outcome is journaled."""

    async def read() -> Counter[str]:
        opened = open_store(store)
        found = Counter[str]()
        for row in await opened.rows(limit=100):
            for segment in await opened.segments([row.id]):
                for one in decode_records(segment.records):
                    if isinstance(one, Outcome) and one.name.endswith("work"):
                        assert isinstance(one.args, bytes)
                        found[next(name for name in calls if name.encode() in one.args)] += 1
                    elif isinstance(one, Outcome) and one.name == "generate":
                        found["generate"] += 1
        await opened.close()
        return found

    return asyncio.run(read())


def test_agents_that_are_killed_hand_in_the_same_and_repeat_no_call(tmp_path: Path) -> None:
    began = time.monotonic()
    expected = finish(tmp_path / "alone.db", tmp_path / "alone.log")
    length = time.monotonic() - began
    calls = {f"{who}-{turn}-{n}" for who in ("asked", "watched") for turn in range(TURNS) for n in range(WIDTH)}
    assert all(f"{name} is done" in " ".join(expected) for name in calls)
    draw, kills, scene = random.Random(9), 0, 0
    while kills < KILLS:
        scene += 1
        store, log = tmp_path / f"{scene}.db", tmp_path / f"{scene}.log"
        mine, settled = 0, Counter[str]()
        for _ in range(3):
            child = launch(store, log)
            time.sleep(draw.random() * length / 3)
            child.send_signal(signal.SIGKILL)
            child.communicate()
            mine += child.returncode != 0
            ran = Counter(log.read_text().split()) if log.exists() else Counter[str]()
            assert all(ran[name] == count for name, count in settled.items()), "a call that had come back was repeated"
            settled = Counter({name: ran[name] for name in outcomes(store, calls) if name in calls})
        assert finish(store, log) == expected
        kills += mine
        ran = Counter(log.read_text().split())
        assert ran.keys() == calls and all(count <= 1 + mine for count in ran.values())
        assert all(ran[name] == count for name, count in settled.items()), "a call that had come back was repeated"
        journaled = outcomes(store, calls)
        assert journaled.pop("generate") == 2 * (TURNS + 1) + 2
        assert set(journaled.values()) == {1} and len(journaled) == len(calls)
