"""Exports and queries of a run of many effects, and what it costs that every run can be traced.

- *export*: a run of 100,000 effects (a tenth of them generations by a script and calls of a tool) is exported in each
  form, interleaved. Seconds are CPU time of this process, so that others on the machine don't count; the limit beside
  them is reading and decoding the same journal and doing nothing with it. `--quick`: 10,000 effects, times ten.
- *tracing*: while the run goes on, everything that this process opens to write, and every connection that it makes, is
  listed by the interpreter's audit hook. Besides the journal there must be nothing: the exports above are made from the
  journal afterwards, so there is no second log, and nothing that tracing could cost.
"""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
from collections.abc import Awaitable, Callable
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from time import process_time
from typing import Any

import weft
from benchmarks.report import Measure, Report
from weft.cli.export import write_lines
from weft.core.content import ToolCall
from weft.model import Message, Model
from weft.model.request import Reply, Usage
from weft.model.scripted import register
from weft.store import open_store
from weft.store.base import Store
from weft.tool.declare import tool
from weft.trace.export import chrome, genai, ocel, otlp, xes
from weft.trace.export.content import Content
from weft.trace.reading import read_records

EFFECTS = 100_000
BAR = 5.0
"""Seconds for 100,000 effects."""
Form = Callable[[Store, str, Path], Awaitable[object]]


@weft.step(effect="pure")
async def observed_step(number: int) -> int:
    return number


@tool(effect="pure")
async def observed_look(at: int) -> str:
    """Look there."""
    return f"there is {at}"


@weft.workflow(name="observe.many")
async def many(effects: int) -> int:
    """Twenty effects at once: 18 steps, a generation, a call of a tool."""
    model = Model("script:observe")
    for first in range(0, effects, 20):
        steps = (observed_step(first + n) for n in range(18))
        asked = model.chat([Message("user", "Where is it?")])
        called = observed_look.call(ToolCall(id=str(first), name="observed_look", arguments={"at": first}))
        await asyncio.gather(*steps, asked, called)
    return effects


def measure(report: Report, *, quick: bool) -> None:
    register("observe", lambda _: Reply(message=Message("assistant", "There."), usage=Usage(input=9, output=2)))
    with tempfile.TemporaryDirectory(prefix="weft-observe-") as folder:
        asyncio.run(_measure(report, Path(folder), EFFECTS // 10 if quick else EFFECTS, 3))


async def _measure(report: Report, folder: Path, effects: int, rounds: int) -> None:
    place = folder / "journal.db"
    run = await _run(report, place, effects)
    store = open_store(str(place))
    try:
        forms = _forms()
        times: dict[str, list[float]] = {name: [] for name in forms}
        for _ in range(rounds):
            for name, form in forms.items():
                began = process_time()
                await form(store, run, folder / f"out.{name.replace(' ', '-')}")
                times[name].append((process_time() - began) * EFFECTS / effects)
    finally:
        await store.close()
    scaled = "" if effects == EFFECTS else f"{effects:,} effects, times {EFFECTS // effects}"
    limit = median(times["reading alone"])
    for name, found in times.items():
        report.add("export", Measure(name=name, unit="s of CPU for 100,000 effects", runs=found, note=scaled))
        if name != "reading alone":
            why = f"{median(found) / limit:.1f} times reading the journal and doing nothing"
            report.bar("export", f"{name}, seconds for 100,000 effects", median(found), most=BAR, why=why)


def _forms() -> dict[str, Form]:
    async def query(store: Store, run: str, path: Path) -> None:
        from weft.trace.query import ask

        await ask(store, "select * from effects", run=run, into=path.with_suffix(".parquet"))

    found: dict[str, Form] = {
        "reading alone": lambda store, run, path: _read(store, run),
        "jsonl": lambda store, run, path: write_lines(store, [run], path),
        "otlp json": lambda store, run, path: otlp.write(genai.spans_of_run(store, run), path),
        "otlp with content": lambda store, run, path: otlp.write(genai.spans_of_run(store, run, Content()), path),
        "chrome": lambda store, run, path: chrome.write(store, [run], path),
        "xes": lambda store, run, path: xes.write(store, [run], path),
        "ocel": lambda store, run, path: ocel.write(store, [run], path),
    }
    if otlp.protobuf_there():
        found["otlp protobuf"] = lambda store, run, path: otlp.write(
            genai.spans_of_run(store, run), path.with_suffix(".pb")
        )
    if find_spec("duckdb") is not None:
        found["query to parquet"] = query
    return found


async def _read(store: Store, run: str) -> int:
    return sum([1 async for _ in read_records(store, run)])


async def _run(report: Report, place: Path, effects: int) -> str:
    """A run, watched. Returns its id."""
    opened: list[str] = []
    watching = True

    def hook(event: str, args: tuple[Any, ...]) -> None:
        if watching and event == "open" and isinstance(args[2], int) and args[2] & (os.O_WRONLY | os.O_RDWR):
            opened.append(str(args[0]))
        elif watching and event in ("socket.connect", "subprocess.Popen"):
            opened.append(event)

    async with weft.Runtime(place) as runtime:
        sys.addaudithook(hook)  # it stays as long as the interpreter does
        run = await runtime.start(many, effects)
        await run.result()
        watching = False
        id = run.id
    others = [name for name in opened if not name.startswith(str(place))]
    why = f"during {effects:,} effects; {', '.join(others[:3]) or 'only SQLite wrote'}"
    report.add("tracing", Measure(name="opened to write", unit="files and connections", runs=[float(len(others))]))
    report.bar("tracing", "files and connections besides the journal", float(len(others)), most=0, why=why)
    return id
