"""`weft diff`: two runs side by side, and what was different first."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from weft.cli.failures import reported
from weft.cli.look import ask, find_run
from weft.cli.words import AsJson, StorePlace

if TYPE_CHECKING:
    from weft.store.base import Store
    from weft.trace.diff import Change, Diff

Other = Annotated[str, typer.Argument(metavar="RUN", help="Another run's id, or part of it.")]


@reported
def diff_(
    one: Annotated[str, typer.Argument(metavar="RUN", help="A run's id, or part of it.")],
    other: Other,
    chance: Annotated[bool, typer.Option("--chance", help="Other times and random numbers are changes, too.")] = False,
    limit: Annotated[int, typer.Option(min=1, help="At most so many changes.")] = 50,
    store: StorePlace = None,
    json: AsJson = False,
) -> None:
    """Compare two runs effect by effect; exits with 1 if they differ. Times and costs are no differences."""
    from weft.cli.render import out

    async def look(opened: Store) -> tuple[Diff, list[tuple[Any, Any]]]:
        from weft.trace.diff import diff

        rows = await find_run(opened, one), await find_run(opened, other)
        found = await diff(opened, rows[0].id, rows[1].id, chance=chance)
        shown = [] if json else [await _values(opened, change) for change in found.changes[:1]]
        return found, shown

    found, values = ask(store, look)
    if json:
        import msgspec

        first = None if found.first is None else msgspec.structs.asdict(found.first)
        changes = [msgspec.structs.asdict(change) for change in found.changes[:limit]]
        out({"one": found.one, "other": found.other, "same": found.same, "first": first, "changes": changes})
    else:
        _say(found, values, limit)
    if not found.is_empty:
        raise typer.Exit(1)


def _say(found: Diff, values: list[tuple[Any, Any]], limit: int) -> None:
    if found.is_empty:
        print(f"the runs are equal: {found.same:,} effects")
        return
    print(f"{found.same:,} effects are equal, {len(found.changes):,} changes; the first:\n")
    for place, change in enumerate(found.changes[:limit]):
        print(_line(change))
        if place == 0 and values:
            for run, value in zip((found.one, found.other), values[0], strict=True):
                if value is not None:
                    print(f"    {run}  {_cut(value)}")
            print()
    if len(found.changes) > limit:
        print(f"… {len(found.changes) - limit:,} more (--limit N)")


def _line(change: Change) -> str:
    number = [one.rpartition(":")[2] if one else "–" for one in (change.one, change.other)]
    where = f"#{number[0]}" if number[0] == number[1] else f"#{number[0]}, #{number[1]}".replace("#–", "–")
    if change.kind == "process":
        where = ""
    name = "the wait for a child" if change.kind == "child" else change.name
    return f"{', '.join(change.what):<20} {where:<10} {name}  {change.place.rpartition('/')[2]}".rstrip()


async def _values(store: Store, change: Change) -> tuple[Any, Any]:
    """What the effect, or the process, was given and what came of it, in both runs."""
    from weft.cli.render import plain_column
    from weft.trace.reading import read_body

    found: list[Any] = []
    for id in (change.one, change.other):
        run, _, number = (id or ":0").rpartition(":")
        if number != "0":
            body = await read_body(store, run, int(number))
            found.append({"arguments": body.arguments, "value": body.value})
        elif row := await store.row(run) if run else None:
            told = {"input": row.input, "state": None, "result": row.result if row.error is None else row.error}
            shown = {what: plain_column(data) for what in change.what if (data := told.get(what))}
            found.append({**shown, "state": row.state} if "state" in change.what else shown)
        else:
            found.append(None)
    return found[0], found[1]


def _cut(value: Any, width: int = 160) -> str:
    import json

    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= width else text[: width - 1] + "…"
