"""What `weft show RUN --probes` prints: a table for each probe and each call that it saw."""

from __future__ import annotations

from typing import TYPE_CHECKING

from weft.cli.look import ask, find_run

if TYPE_CHECKING:
    from weft.store.base import Store
    from weft.trace.probed import Sight

ROWS = 25
"""Of a table that are printed for a person."""


def probed(run: str, most: int, store: str | None, json: bool) -> None:
    """`most`: tables that are printed."""
    import msgspec

    from weft.cli.render import out

    found = ask(store, lambda opened: _read(opened, run))
    if json:
        out([msgspec.structs.asdict(one) for one in found])
        return
    if not found:
        print("no probe saw anything of this run; see one with: weft run FILE --probe hotness:STEP")
    for one in found[:most]:
        _print(one)
    if len(found) > most:
        print(f"… {len(found) - most:,} more (--effects N)")


async def _read(store: Store, run: str) -> list[Sight]:
    from weft.trace.probed import read_probed

    row = await find_run(store, run)
    return [one async for one in read_probed(store, row.id)]


def _print(one: Sight) -> None:
    from rich.table import Table

    from weft.cli.render import show

    tries = f", attempt {one.attempt}" if one.attempt > 1 else ""
    print(f"#{one.effect} {one.name}{tries}: {one.probe}" + (f"  ({one.of})" if one.of else ""))
    if one.rows and one.columns:
        table = Table(box=None, pad_edge=True)
        for place, heading in enumerate(one.columns):
            numbers = all(isinstance(row[place], int) for row in one.rows)
            table.add_column(heading.replace("_", " "), justify="right" if numbers else "left")
        for row in one.rows[:ROWS]:
            table.add_row(*("" if cell is None else str(cell) for cell in row))
        show(table)
    elif one.rows:
        print(f"  {len(one.rows)} times")
    elif not one.note:
        print("  nothing")
    if more := one.left_out + max(0, len(one.rows) - ROWS):
        print(f"  … {more:,} more rows" + ("" if one.left_out else " (--json)"))
    if one.note:
        print(f"  {one.note}")
    print()
