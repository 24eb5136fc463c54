"""Programs that models write, killed and gone on with: `python -m benchmarks.agents.programs [--quick] [--json FILE]`

A program with 50 calls in parallel is killed with SIGKILL at random points and finished by another process. With tools
that may be repeated its result must be the one of a run that was left alone, and no call whose outcome had been
journaled may run again; with tools that may not, none may begin twice, and the program is told of those under way.
Then: what it takes to go on from a snapshot, in a worker that never saw the program.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import signal
import sys
import time
import traceback
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any

import weft
from benchmarks.report import Measure, Report
from weft.agent.program import Granted, Limits, perform
from weft.agent.program.slice import Outcome, Slice, Sliced, Spent, Text
from weft.core import record
from weft.core.codec import decode, decode_args
from weft.runtime.sandbox import choose
from weft.runtime.sandbox.monty import Monty
from weft.store.base import DONE
from weft.tool import Toolset, tool

CALLS = 50
log = Path("log")
"""Where the tools of this process write that they ran."""


def _note(n: int) -> None:
    with log.open("a") as file:
        file.write(f"{n}\n")


async def _work(n: int) -> int:
    _note(n)
    await asyncio.sleep(0.01 * (n * 7 % 23))
    return n * n


work = tool(name="work", effect="idempotent")(_work)
once = tool(name="once", effect="at_most_once")(_work)
PROGRAM = f"""
import asyncio

async def one(n: int) -> int:
    try:
        return await CALLED(n)
    except RuntimeError as error:
        if "under way" not in str(error):
            raise
        return -1

found = await asyncio.gather(*[one(n) for n in range({CALLS})])
found.append(await one({CALLS}))
found
"""


@weft.workflow(name="programs.bench")
async def bench(name: str) -> list[int]:
    done = await perform(PROGRAM.replace("CALLED", name), Toolset(work, once))
    return done.value  # type: ignore[no-any-return]


async def _run(store: str, name: str) -> None:
    async with weft.Runtime(store) as runtime:
        await runtime.run(bench.options(key="it"), name)


def _child(folder: Path, name: str) -> int:
    """A process of its own that runs the program, or goes on with it."""
    pid = os.fork()
    if pid:
        return pid
    global log
    status = 1
    try:
        log = folder / "log"
        asyncio.run(_run(str(folder / "journal.db"), name))
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)


def _finish(folder: Path, name: str) -> float:
    """Run it to its end; the seconds that this took."""
    began = perf_counter()
    _, status = os.waitpid(_child(folder, name), 0)
    assert status == 0, f"the program did not end well: {status}"
    return perf_counter() - began


def _journal(folder: Path) -> tuple[dict[int, Any], Any]:
    """The calls whose outcome is journaled, and the result, if there is one."""

    async def look() -> tuple[dict[int, Any], Any]:
        async with weft.Runtime(str(folder / "journal.db")) as runtime:
            rows = await runtime.store.rows(limit=2)
            if not rows:
                return {}, None
            records = [one for one in await runtime.recovery.records(rows[0].id) if isinstance(one, record.Outcome)]
            calls = [one for one in records if one.name in ("work", "once")]
            done = {decode_args(one.args)[1]["n"]: one.ok for one in calls}  # type: ignore[arg-type]
            assert len(done) == len(calls), "the journal has a call twice"
            row = rows[0]
            result = decode(row.result) if row.state == DONE and isinstance(row.result, bytes) else None
            return done, result

    return asyncio.run(look())


def kills(report: Report, name: str, points: int, seed: int = 7) -> None:
    """Kill it once at each of so many random points; a kill that came too late does not count."""
    draw = random.Random(seed)
    assert Granted(work, once).text  # what is imported for it is not imported by each child
    alone = [n * n for n in range(CALLS + 1)]
    with TemporaryDirectory() as place:
        length = _finish(Path(place), name)
    hit = same = again = twice = told = 0
    tries = 0
    while hit < points:
        tries += 1
        with TemporaryDirectory() as place:
            folder = Path(place)
            pid = _child(folder, name)
            time.sleep(draw.uniform(0.2, 1.0) * length)
            os.kill(pid, signal.SIGKILL)
            _, status = os.waitpid(pid, 0)
            if not os.WIFSIGNALED(status):
                continue
            hit += 1
            settled, _ = _journal(folder)
            before = _ran(folder)
            _finish(folder, name)
            _, result = _journal(folder)
            ran = _ran(folder)
            again += sum(ran[n] > before[n] for n in settled)
            twice += sum(count > 1 for count in ran.values())
            unknown = {n for n, value in enumerate(result) if value == -1}
            told += len(unknown)
            expected = [-1 if n in unknown else value for n, value in enumerate(alone)]
            same += result == expected and (name == "once" or not unknown) and unknown.isdisjoint(settled)
    figure = f"killed, {name}"
    note = f"{CALLS} calls in parallel; {hit} kills, {tries - hit} more came too late"
    report.add(figure, Measure(name="same result", unit="runs", runs=[same], note=note))
    report.add(figure, Measure(name="journaled calls that ran again", unit="calls", runs=[again]))
    report.add(figure, Measure(name="calls under way that began again", unit="calls", runs=[twice]))
    report.add(figure, Measure(name="calls of unknown outcome, told to the program", unit="calls", runs=[told]))
    report.bar(figure, "the same result", same, least=points)
    report.bar(figure, "no journaled call runs again", again, most=0)
    if name == "once":
        report.bar(figure, "no call begins twice", twice, most=0)


def _ran(folder: Path) -> Counter[int]:
    path = folder / "log"
    return Counter(map(int, path.read_text().split())) if path.exists() else Counter()


# --- snapshots ----------------------------------------------------------------------------------------------------


def snapshots(report: Report, rounds: int) -> None:
    """Milliseconds to go on from a snapshot: in a warm pool of workers, and with a pool that has to be started."""
    granted = Granted(work)
    small = "await work(1)\n1"
    parallel = f"import asyncio\nlen(await asyncio.gather(*[work(n) for n in range({CALLS})]))"
    large = "kept = [{'n': n, 'text': str(n) * 5} for n in range(10_000)]\nawait work(1)\nlen(kept)"
    for what, source in {"one call": small, f"{CALLS} calls": parallel, "10,000 dicts": large}.items():
        text = Text(source, ("work",), granted.text, Limits())
        waiting = asyncio.run(Sliced(text, 0.0, Spent()).first(0.5))
        assert waiting.state, waiting.told
        note = f"{len(waiting.state) / 1000:,.0f} kB"
        report.add("resume", Measure(name=f"{what}, warm", unit="ms", runs=_resumed(text, waiting, rounds), note=note))
        cold = [one for _ in range(max(3, rounds // 5)) for one in _resumed(text, waiting, 1, warm=False)]
        report.add("resume", Measure(name=f"{what}, cold", unit="ms", runs=cold, note="the workers are started, too"))
    for name in ("one call, warm", "one call, cold", f"{CALLS} calls, warm", f"{CALLS} calls, cold"):
        measure = report.one("resume", name)
        report.bar("resume", f"{name}: at most 50 ms", measure.value if measure else None, most=50, unit="ms")


def _resumed(text: Text, waiting: Slice, rounds: int, warm: bool = True) -> list[float]:
    outcomes: dict[int, Outcome] = {called.id: ("value", 1) for called in waiting.calls}

    async def main() -> list[float]:
        wall = choose("python")
        assert isinstance(wall, Monty)
        if warm:
            await Sliced(text, 0.0, Spent()).next(waiting, outcomes)
        found = []
        for _ in range(rounds):
            began = perf_counter()
            ended = await Sliced(text, 0.0, Spent()).next(waiting, outcomes)
            found.append((perf_counter() - began) * 1e3)
            assert ended.ended == "done", ended.told
        await wall.close()
        return found

    return asyncio.run(main())


def costs(report: Report, rounds: int) -> None:
    """Milliseconds of what comes before and around a program's own work."""
    granted = Granted(work)
    text = Text("await work(1)\n1", ("work",), granted.text, Limits())

    async def checked() -> list[float]:
        wall = choose("python")
        assert isinstance(wall, Monty)
        found = []
        for _ in range(rounds + 2):
            began = perf_counter()
            await Sliced(text, 0.0, Spent()).first(0.5)
            found.append((perf_counter() - began) * 1e3)
        await wall.close()
        return found[2:]

    report.add("begin", Measure(name="check and run to its first wait", unit="ms", runs=asyncio.run(checked())))


def tell(report: Report, quick: bool) -> None:
    """All of it."""
    points, rounds = (4, 5) if quick else (100, 40)
    kills(report, "work", points)
    kills(report, "once", points // 2)
    snapshots(report, rounds)
    costs(report, rounds)


def main() -> int:
    """See the top of the file."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.agents.programs", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few kills: within 30 s")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything there")
    given = parser.parse_args()
    os.environ.setdefault("WEFT_POLICY", "all")
    report = Report("programs")
    tell(report, given.quick)
    return report.finish(given.json)


if __name__ == "__main__":
    sys.exit(main())
