"""`weft ps` and `show`: what runs there are, and what happened in them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from weft.cli.failures import reported
from weft.cli.look import ask, find_run, records_of, state_of
from weft.cli.picture import Form
from weft.cli.probed import probed
from weft.cli.views import View, view
from weft.cli.words import AsJson, RunId, StorePlace

if TYPE_CHECKING:
    from weft.cli.tree import Family
    from weft.core.record import AnyRecord
    from weft.runtime.inbox import OpenQuestion
    from weft.store.base import ProcessRow, Store


@reported
def ps(
    state: Annotated[list[str] | None, typer.Option(help="Only runs in this state; repeat.")] = None,
    all: Annotated[bool, typer.Option("--all", "-a", help="Children too.")] = False,
    tree: Annotated[bool, typer.Option("--tree", help="Children below those who started them.")] = False,
    limit: Annotated[int, typer.Option(min=1, help="At most so many.")] = 50,
    store: StorePlace = None,
    json: AsJson = False,
) -> None:
    """List runs, the newest first."""
    from weft.cli.render import out, plain_row, runs_table, show
    from weft.cli.tree import drawn, families, plain

    async def look(opened: Store) -> list[tuple[ProcessRow, str]]:
        rows = await opened.rows(roots=not all, limit=limit if not state else 100_000)
        found = [(row, await state_of(opened, row)) for row in rows]
        return [pair for pair in found if not state or pair[1] in state][:limit]

    async def descend(opened: Store) -> list[Family]:
        return await families(opened, [row for row, _ in await look(opened)])

    if tree:
        found = ask(store, descend)
        if json:
            out(plain(found))
        for one in [] if json else drawn(found):
            show(one)
        return
    rows = ask(store, look)
    if json:
        out([plain_row(*pair) for pair in rows])
    elif rows:
        show(runs_table(rows))
    else:
        print("no runs" + (f" in state {', '.join(state)}" if state else "") + "; start one with: weft run FILE")


@reported
def show_(
    run: RunId,
    effects: Annotated[int, typer.Option("--effects", min=0, help="How many effects to show.")] = 100,
    graph: Annotated[bool, typer.Option("--graph", help="What came after what, and its numbers.")] = False,
    form: Annotated[Form, typer.Option("--as", help="With --graph: text, dot, mermaid or svg.")] = "text",
    timeline: Annotated[bool, typer.Option("--timeline", help="When what was done.")] = False,
    tree: Annotated[bool, typer.Option("--tree", help="Effects and children below their process.")] = False,
    probes: Annotated[bool, typer.Option("--probes", help="What probes saw (weft run --probe).")] = False,
    store: StorePlace = None,
    json: AsJson = False,
) -> None:
    """Show a run: its state, its input and result, and every effect in the order it reached the program."""
    from weft.core.errors import BadInput

    views: dict[View, bool] = {"graph": graph, "timeline": timeline, "tree": tree}
    wanted = [name for name, is_wanted in views.items() if is_wanted]
    if len(wanted) + probes > 1:
        raise BadInput("say one of --graph, --timeline, --tree and --probes")
    if wanted:
        view(run, wanted[0], form, effects, store, json)
        return
    if probes and form == "text":
        probed(run, effects, store, json)
        return
    if form != "text":
        raise BadInput(f"--as {form} goes with --graph")
    from weft.cli.render import age, journal_table, out, plain_column, plain_record, plain_row, show
    from weft.runtime.inbox import questions
    from weft.store.handover import gone

    async def look(opened: Store) -> tuple[ProcessRow, str, list[AnyRecord], list[ProcessRow], list[OpenQuestion]]:
        row = await find_run(opened, run)
        records, children = await records_of(opened, row.id), await opened.rows(parent=row.id)
        return row, await state_of(opened, row), records, children, await questions(opened, process=row.id)

    row, state, records, children, asked = ask(store, look)
    if json:
        parts = {"journal": [plain_record(r) for r in records], "children": [plain_row(c, c.state) for c in children]}
        out({**plain_row(row, state), **parts})
        return
    import json as js

    def line(name: str, text: object) -> None:
        print(f"{name:<9} {text}")

    line("run", row.id)
    line("workflow", f"{row.workflow}  ({row.source})")
    line("state", f"{state}, {age(row.updated - row.created)} long, {len(records):,} records")
    if row.forked:
        line("forked", row.forked)
    if row.parent:
        line("parent", row.parent)
    line("input", _cut(js.dumps(plain_column(row.input), ensure_ascii=False)))
    for name in ("result", "error"):
        data = getattr(row, name)
        if data is not None:
            line(name, _cut(js.dumps(plain_column(data), ensure_ascii=False)))
    for child in reversed(children):
        line("child", f"{child.id}  {child.workflow}  {child.state}")
    for question in asked:
        line("asks", f"{question.text}  (weft answer {question.id} …)")
    if effects and records:
        print()
        show(journal_table(records, effects))
    if state == "interrupted":
        print(f"\ncontinue it with: weft resume {row.id}")
    elif state == "moved":
        print(f"\n{gone(row)}")


def _cut(text: str, width: int = 300) -> str:
    return text if len(text) <= width else text[: width - 1] + "…"
