"""`weft logs`: what a run wrote into its journal, a line for each record, as it comes.

There is no second log: effects, attempts that failed, decisions and the end are records of the journal (what a program
prints or gives to `logging` goes where the process that executes it was told to).
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from weft.cli.failures import reported
from weft.cli.look import find_run
from weft.cli.words import AsJson, RunId, StorePlace

if TYPE_CHECKING:
    from weft.core.record import AnyRecord
    from weft.store.base import Store

EVERY = 0.2
"""Seconds between two looks."""


class Line(NamedTuple):
    run: str
    record: AnyRecord


@reported
def logs(
    run: RunId,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the run ends.")] = False,
    timers: Annotated[bool, typer.Option("--timers", help="asyncio's own timers, too.")] = False,
    store: StorePlace = None,
    json: AsJson = False,
) -> None:
    """Print a run's records as lines, its children's among them. Ends with the run, or with ctrl-C."""
    import asyncio

    from weft.cli.place import default_store
    from weft.store import open_store

    async def main() -> None:
        opened = open_store(store or default_store())
        try:
            row = await find_run(opened, run)
            async for line in _lines(opened, row.id, follow):
                if timers or getattr(line.record, "kind", "") != "timer":
                    _print(line, row.id, json)
        finally:
            await opened.close()

    asyncio.run(main())


async def _lines(store: Store, root: str, follow: bool) -> AsyncIterator[Line]:
    """The records of a run and of its children, each look's in the order of their times."""
    import asyncio

    from weft.store.base import FINISHED
    from weft.trace.reading import read_records

    seen: dict[str, int] = {root: 0}
    while True:
        row = await store.row(root)
        over = row is None or row.state in FINISHED
        found: list[Line] = []
        for run in list(seen):
            async for number, record in read_records(store, run, seen[run]):
                seen[run] = number + 1
                found.append(Line(run, record))
                if (child := _child(record)) is not None:
                    seen.setdefault(child, 0)
        for run in [run for run, number in seen.items() if number == 0]:
            async for number, record in read_records(store, run):
                seen[run] = number + 1
                found.append(Line(run, record))
        for line in sorted(found, key=lambda each: each.record.at):
            yield line
        if over or not follow:
            return
        await asyncio.sleep(EVERY)


def _child(record: AnyRecord) -> str | None:
    from weft.core.codec import decode_plain
    from weft.core.record import Outcome

    if isinstance(record, Outcome) and record.kind in ("spawn", "detach") and record.ok and type(record.value) is bytes:
        return str(decode_plain(record.value))
    return None


def _print(line: Line, root: str, json: bool) -> None:
    import json as js
    import sys
    from datetime import datetime

    from weft.cli.render import plain_record

    if json:
        print(js.dumps({"process": line.run, **plain_record(line.record)}, ensure_ascii=False), flush=True)
        return
    at = datetime.fromtimestamp(line.record.at).strftime("%H:%M:%S.%f")[:-3]
    who = "" if line.run == root else f"[{line.run[-6:]}] "
    text = f"{at} {who}{words(line.record)}"
    colour = "\x1b[31m" if sys.stdout.isatty() and getattr(line.record, "ok", True) is False else ""
    print(f"{colour}{text}\x1b[0m" if colour else text, flush=True)


def words(record: AnyRecord) -> str:
    """A record in one line."""
    from weft.cli.picture import duration
    from weft.cli.render import mark, short
    from weft.core.record import Attempt, Decision, Outcome, Started

    match record:
        case Outcome():
            took = f"  {duration(max(0.0, record.at - record.started))}" if record.started else ""
            sign, tries = "✓" if record.ok else "✗", f"  {record.attempts} tries" if record.attempts > 1 else ""
            call = f"{_name(record)}({_arguments(record.args)})"
            return f"{sign} #{record.effect} {call} → {short(record.value)}{took}{tries}"
        case Started():
            return f"▸ #{record.effect} {_name(record)}({_arguments(record.args)})"
        case Attempt():
            return f"! #{record.effect} {record.name}: attempt {record.attempt} failed: {short(record.error)}"
        case Decision():
            return f"? #{record.effect} {record.verdict}: {record.action} {record.resource}"
    return f"· {mark(record)}"


def _name(record: Any) -> str:
    from weft.cli.render import effect_name
    from weft.trace.reading import kind_of

    return effect_name(kind_of(record.kind, record.role, record.name), record.name)


def _arguments(args: Any) -> str:
    from weft.cli.render import short

    text = short(args, 42)
    return text[1:-1] if text.startswith("[") and text.endswith("]") else text
