"""The real store and runtime under every interleaving of small agents, and bugs that must be found by it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

import weft
from benchmarks.memory.schedules import ANOMALIES, LEVELS, Schedule, make, read, write
from verify.bugs import BUGS
from verify.interleavings import CASTS, find, interleavings, play, play_effects
from verify.judge import judge
from verify.scheduled import RETRIES, land, scene
from weft.core.errors import BadInput

SERVER = 60
"""Schedules of each cast that are played on a server, where each takes longer."""


def test_interleavings_are_all_there_and_distinct() -> None:
    found = list(interleavings([2, 1, 2]))
    assert len(found) == 30  # 5! / (2! 1! 2!)
    assert len({tuple(order) for order in found}) == 30
    assert all(sorted(order) == [0, 0, 1, 2, 2] for order in found)


def test_no_interleaving_breaks_what_a_level_promises(tmp_path: Path) -> None:
    async def main() -> int:
        played = 0
        async with weft.Runtime(tmp_path / "journal.db", durability="process") as runtime:
            for cast in CASTS:
                one = await play(runtime, cast, played)
                assert one.faults == []
                assert one.attempts <= RETRIES + 1
                played += one.schedules
            one = await play_effects(runtime, 4)
            assert one.faults == []
        return played + one.schedules

    assert asyncio.run(main()) == 2924


def test_nor_on_a_server(postgres_url: str) -> None:
    async def main() -> None:
        async with weft.Runtime(postgres_url) as runtime:
            for number, cast in enumerate(CASTS):
                one = await play(runtime, cast, number * SERVER, SERVER)
                assert one.faults == []

    asyncio.run(main())


@pytest.mark.parametrize("bug", BUGS)
def test_a_planted_bug_is_found(tmp_path: Path, bug: str) -> None:
    assert asyncio.run(find(str(tmp_path / "journal.db"), bug)) > 0


def test_hostile_schedules_bite_below_the_level_and_not_at_it(store: str) -> None:
    async def occurs(runtime: weft.Runtime, namespace: str, level: str, schedule: Schedule) -> bool:
        if schedule.anomaly == "A6":
            _, landed = await land(runtime, namespace, level, schedule.computed)  # type: ignore[arg-type]
            return landed != sorted(landed)
        run = await runtime.start(scene, namespace, level, schedule.agents, schedule.order, schedule.tools)  # type: ignore[arg-type]
        judgement = await judge(runtime.store, run.id, namespace, schedule.agents, await run)
        if level == LEVELS[schedule.anomaly][1]:
            assert judgement.serial
            assert judgement.failed == []
        return schedule.anomaly in judgement.kinds()

    async def main() -> None:
        async with weft.Runtime(store, durability="process") as runtime:
            for anomaly in ANOMALIES:
                below, at = LEVELS[anomaly]
                for number, schedule in enumerate(make(anomaly, 12, seed=7)):
                    assert await occurs(runtime, f"{anomaly}b{number}", below, schedule), schedule
                    assert not await occurs(runtime, f"{anomaly}a{number}", at, schedule), schedule

    asyncio.run(main())


def test_schedules_travel_by_file(tmp_path: Path) -> None:
    made = [one for anomaly in ANOMALIES for one in make(anomaly, 5)]
    write(tmp_path / "schedules.jsonl", made)
    assert read(tmp_path / "schedules.jsonl") == made
    assert made == [one for anomaly in ANOMALIES for one in make(anomaly, 5)]  # the seed decides


@pytest.mark.parametrize(("line", "why"), [
    ("{", "not a schedule"),
    ('{"anomaly": "A9"}', "A9"),
    ('{"anomaly": "A1", "agents": [[["read", "x"]]], "order": [1]}', "there are 1 agents"),
    ('{"anomaly": "A6", "computed": [0, 2]}', "must be an order"),
])  # fmt: skip
def test_a_bad_schedule_is_named_by_its_line(tmp_path: Path, line: str, why: str) -> None:
    file = tmp_path / "schedules.jsonl"
    file.write_text('{"anomaly": "A6", "computed": [1, 0]}\n' + line + "\n")
    with pytest.raises(BadInput, match=f":2: not a schedule: .*{why}|:2: not a schedule"):
        read(file)
    with pytest.raises(BadInput, match="can't be read"):
        read(tmp_path / "none")
