"""`weft top`: the runs of a store that are executed now, what they are doing, and what of this machine their commands
take.

Runs and effects are the journal's; what commands take is posted by the governor of each Weft process of this user on
this machine (`weft.runtime.governor.posted`). A run that another machine executes is shown without its commands."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any

import typer

from weft.cli.failures import reported
from weft.cli.look import ask, records_of, state_of
from weft.cli.words import AsJson, StorePlace

if TYPE_CHECKING:
    from rich.table import Table

    from weft.core.record import Started
    from weft.runtime.governor.posted import Posted
    from weft.store.base import ProcessRow, Store

MOST = 200
"""Runs that are looked at."""


@dataclass
class Shown:
    """One run. `effects`: those known to be under way: of long ones, and of those that must not be done twice."""

    row: ProcessRow
    state: str
    effects: list[Started]
    calls: list[Posted] = field(default_factory=list)


@dataclass
class View:
    """`others`: commands of Weft processes here that belong to no run of this store."""

    runs: list[Shown]
    others: list[Posted]


@reported
def top(
    once: Annotated[bool, typer.Option("--once", help="Look once, and end.")] = False,
    every: Annotated[float, typer.Option(min=0.2, help="Seconds between two looks.")] = 1.0,
    store: StorePlace = None,
    json: AsJson = False,
) -> None:
    """Show the runs that are executed now, and what their commands take of this machine. Ends with ctrl-C."""
    import time

    from weft.cli.render import out, show
    from weft.core.errors import BadInput
    from weft.runtime.governor import posted

    try:
        posted.watch()
    except OSError as error:
        raise BadInput(str(error)) from None
    time.sleep(posted.WAIT)
    known: dict[str, tuple[int, list[Started]]] = {}
    view = _look(store, known)
    if json:
        out(plain(view, time.time()))
    elif once or not sys.stdout.isatty():
        show(table(view, time.time()))
    else:
        from rich.live import Live

        with Live(table(view, time.time()), auto_refresh=False, screen=True) as live:
            try:
                while True:
                    time.sleep(every)
                    posted.watch()
                    live.update(table(_look(store, known), time.time()), refresh=True)
            except KeyboardInterrupt:
                return


def _look(place: str | None, known: dict[str, tuple[int, list[Started]]]) -> View:
    from weft.runtime.governor.posted import calls

    runs = ask(place, lambda store: _runs(store, known))
    by_id = {one.row.id: one for one in runs}
    others: list[Posted] = []
    for call in calls():
        (by_id[call.run].calls if call.run in by_id else others).append(call)
    return View(runs, others)


async def _runs(store: Store, known: dict[str, tuple[int, list[Started]]]) -> list[Shown]:
    """Those that some runtime executes. `known`: what is under way in journals that have not grown since."""
    from weft.store.base import QUEUED, RUNNING, WAITING

    found = []
    for row in await store.rows(states=[RUNNING, WAITING, QUEUED], limit=MOST):
        state = await state_of(store, row)
        if row.owner is None or state == "interrupted":
            continue
        if row.id not in known or known[row.id][0] != row.length or not row.length:
            known[row.id] = row.length, await _under_way(store, row.id)
        found.append(Shown(row, state, known[row.id][1]))
    return found


async def _under_way(store: Store, id: str) -> list[Started]:
    from weft.core.record import Outcome, Started

    records = await records_of(store, id)
    ended = {one.effect for one in records if isinstance(one, Outcome)}
    begun = {one.effect: one for one in records if isinstance(one, Started) and one.effect not in ended}
    return [begun[number] for number in sorted(begun)]


# --- for programs ---------------------------------------------------------------------------------------------------


def plain(view: View, now: float) -> dict[str, Any]:
    """As JSON has it: times in seconds, memory in bytes."""
    return {
        "runs": [
            {
                "run": one.row.id,
                "workflow": one.row.workflow,
                "state": one.state,
                "parent": one.row.parent,
                "priority": one.row.priority,
                "owner": one.row.owner,
                "seconds": round(now - one.row.created, 3),
                "effects": [
                    {"number": each.effect, "kind": each.kind, "name": each.name, "seconds": round(now - each.at, 3)}
                    for each in one.effects
                ],
                "calls": [_plain_call(call) for call in one.calls],
            }
            for one in view.runs
        ],
        "others": [_plain_call(call) for call in view.others],
    }


def _plain_call(call: Posted) -> dict[str, Any]:
    import msgspec

    found: dict[str, Any] = msgspec.to_builtins(call)
    return found


# --- for people -----------------------------------------------------------------------------------------------------


def table(view: View, now: float) -> Table:
    """Each run, below it what it does, and below that the commands that do it."""
    from rich.table import Table

    from weft.cli.render import age

    made = Table(box=None, pad_edge=False)
    for heading in ("run", "state", "for", "memory", "peak", "cpu", "read", "written", "stalled", ""):
        right = heading not in ("run", "state", "")
        made.add_column(heading, no_wrap=True, overflow="ellipsis", justify="right" if right else "left")
    for one in view.runs:
        made.add_row(f"{one.row.id}  {one.row.workflow}", one.state, age(now - one.row.created))
        for effect in one.effects:
            made.add_row(f"  #{effect.effect} {effect.name}", "", age(now - effect.at))
            for call in one.calls:
                if call.number == effect.effect:
                    made.add_row(*_cells(call, now, "    "))
        for call in one.calls:
            if call.number not in {effect.effect for effect in one.effects}:
                made.add_row(*_cells(call, now, f"  #{call.number} "))
    for call in view.others:
        made.add_row(*_cells(call, now, f"({call.pid}) "))
    if not view.runs and not view.others:
        made.add_row("nothing runs; `weft ps` lists what ran")
    return made


def _cells(call: Posted, now: float, before: str) -> list[str]:
    from weft.cli.render import age
    from weft.core.errors import size_text

    usage, seconds = call.usage, max(call.usage.seconds, 0.001)
    limit = f" of {size_text(call.limit)}" if call.limit is not None else ""
    waited = f"was paused for {usage.paused_seconds:.1f} s" if usage.paused_seconds >= 0.1 else ""
    return [
        before + call.command,
        "paused" if call.paused else "runs",
        age(now - call.began),
        size_text(call.memory) + limit,
        size_text(usage.memory_peak),
        f"{usage.cpu_seconds:.1f} s {usage.cpu_seconds / seconds:4.0%}",
        size_text(usage.read_bytes),
        size_text(usage.written_bytes),
        f"{usage.pressure:.1f} s",
        waited,
    ]
