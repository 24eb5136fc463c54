"""Kills the child at random points, lets it finish, and compares everything with a run that was left alone."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from tests.programs import until_dead
from tests.servers.postgres import Postgres
from weft.core.codec import decode_args
from weft.core.record import AnyRecord, End, Outcome, decode_records
from weft.store import open_store

ROOT = Path(__file__).parents[2]
COPIES = 2
Journals = dict[str, tuple[str, str, list[tuple[int, str, str, str, bool]]]]


class Scene:
    """One store, one execution log, and the processes that come and go."""

    def __init__(self, store: str, log: Path, durability: str) -> None:
        self.store = store
        self.log = log
        self.durability = durability
        self.kills = 0

    def launch(self) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "tests.crash.child", self.store, self.durability, str(COPIES)],
            cwd=ROOT,
            env={
                **os.environ,
                "WEFT_POLICY": "all",
                "WEFT_CRASH_LOG": str(self.log),
                "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}",
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def finish(self) -> dict[str, list[str]]:
        child = self.launch()
        out, err = child.communicate(timeout=60)
        assert child.returncode == 0, err
        result: dict[str, list[str]] = json.loads(out.splitlines()[-1])
        return result

    def kill_after(self, seconds: float) -> None:
        """SIGKILL some time after the programs began, unless they have ended before."""
        child = self.launch()
        assert child.stdout is not None
        child.stdout.readline()
        time.sleep(seconds)
        child.send_signal(signal.SIGKILL)
        _, err = child.communicate()
        assert child.returncode in (0, -signal.SIGKILL), err
        self.kills += child.returncode != 0
        until_dead(self.store)  # on a server, what it has sent may still be written until then

    def executions(self) -> Counter[str]:
        return Counter(self.log.read_text().split("\n")[:-1]) if self.log.exists() else Counter()

    def journals(self) -> Journals:
        """By process: its workflow, its state, and its outcomes as (effect, kind, name, arguments, ok)."""

        async def read() -> Journals:
            store = open_store(self.store)
            found: Journals = {}
            for row in await store.rows(limit=10_000):
                records: list[AnyRecord] = []
                for segment in await store.segments([row.id]):
                    assert segment.first == len(records), f"the journal of {row.id} has a hole or two writers"
                    records += decode_records(segment.records)
                outcomes = []
                for record in records:
                    if isinstance(record, Outcome):
                        assert isinstance(record.args, bytes)
                        args = repr(decode_args(record.args))
                        outcomes.append((record.effect, record.kind, record.name, args, record.ok))
                assert (row.state in ("done", "failed", "cancelled")) == any(isinstance(r, End) for r in records)
                found[row.id] = (row.workflow, row.state, outcomes)
            await store.close()
            return found

        return asyncio.run(read())


def steps_done(journals: Journals) -> Counter[str]:
    """Tags of the steps whose outcome is journaled."""
    tags: Counter[str] = Counter()
    for _, _, outcomes in journals.values():
        for _, kind, name, args, _ in outcomes:
            if kind == "step":
                word = name.rpartition(".")[2]
                tag = msgspec.json.decode(json.dumps(args.split("'")[1]))
                tags[f"{word} {tag}" if word in ("once", "flaky") else tag] += 1
    return tags


def crash(scene: Scene, draw: random.Random, expected: dict[str, list[str]], length: float) -> int:
    """One scene with one to four kills; the number of kills."""
    for _ in range(draw.randint(1, 4)):
        scene.kill_after(draw.random() ** 2 * length)
        journaled, before = steps_done(scene.journals()), scene.executions()
        settled = {tag: before[tag] for tag in journaled}
        check_settled(scene, settled)
    assert scene.finish() == expected
    journals, ran = scene.journals(), scene.executions()
    for tag, count in ran.items():
        if tag.startswith("once "):
            assert count == 1, f"{tag} ran {count} times"
        elif tag.startswith("flaky "):
            assert 3 <= count <= 3 + scene.kills, f"{tag} ran {count} times"
        else:
            assert count <= 1 + scene.kills, f"{tag} ran {count} times after {scene.kills} kills"
    for tag, count in steps_done(journals).items():
        assert count == 1, f"{tag} is journaled {count} times"
    for id, (workflow, state, outcomes) in journals.items():
        assert state == ("cancelled" if workflow.endswith("forever") else "done"), f"{workflow} {id} is {state}"
        effects = [effect for effect, *_ in outcomes]
        assert len(effects) == len(set(effects)), f"an effect of {id} has two outcomes"
    return scene.kills


def check_settled(scene: Scene, settled: dict[str, int]) -> None:
    """What was journaled at an earlier kill has not run again since."""
    earlier: dict[str, int] = getattr(scene, "settled", {})
    now = scene.executions()
    for tag, count in earlier.items():
        assert now[tag] == count, f"{tag} was journaled, and ran again"
    scene.settled = settled  # type: ignore[attr-defined]


@contextmanager
def staged(server: Postgres | None, durability: str) -> Iterator[Scene]:
    """A scene on an empty store: in a file, or on a server."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        store = str(folder / "journal.db") if server is None else server.create()
        try:
            yield Scene(store, folder / "log", durability)
        finally:
            if server is not None:
                server.drop(store.rpartition("/")[2])


def run(
    points: int,
    seed: int,
    server: Postgres | None = None,
    report: Callable[[dict[str, int]], object] = lambda totals: None,
) -> dict[str, int]:
    """Kill at `points` random points, half under each durability. Returns counts."""
    draw = random.Random(seed)
    totals = {"kills": 0, "scenes": 0}
    with staged(server, "full") as alone:
        began = time.monotonic()
        expected = alone.finish()
        length = max(0.1, time.monotonic() - began - 0.3)
        baseline = steps_done(alone.journals())
    assert baseline and all(count == 1 for count in baseline.values())
    while totals["kills"] < points:
        with staged(server, ("full", "process")[totals["scenes"] % 2]) as scene:
            totals["kills"] += crash(scene, draw, expected, length)
        totals["scenes"] += 1
        report(totals)
    return totals
