"""`weft memory`: what is in shared memory, who wrote it when, and cutting its past."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from weft.cli.failures import reported
from weft.cli.look import ask
from weft.cli.words import AsJson, StorePlace

if TYPE_CHECKING:
    from collections.abc import Iterable

    from weft.store.base import Store
    from weft.store.memory import Object, Operation

Cell = Annotated[str, typer.Argument(metavar="CELL", help="NAMESPACE/NAME.")]
Namespace = Annotated[str, typer.Argument(metavar="NAMESPACE", help="As `weft memory list` names it.")]
Most = Annotated[int, typer.Option("--limit", min=1, help="At most so many.")]

memories = typer.Typer(name="memory", help="See what is in shared memory, and cut its past.", no_args_is_help=True)


@memories.command(name="list")
@reported
def list_(
    namespace: Annotated[
        str | None, typer.Argument(metavar="NAMESPACE", help="List its cells. [default: list namespaces]")
    ] = None,
    limit: Most = 1000,
    store: StorePlace = None,
    json: AsJson = False,
) -> None:
    """List the namespaces, or the cells of one."""
    from weft.cli.render import out

    if namespace is None:
        spaces = ask(store, lambda opened: opened.spaces())[:limit]
        if json:
            out([{"namespace": one.namespace, "clock": one.at, "cells": one.cells} for one in spaces])
        elif spaces:
            _table("namespace clock> cells>", ((one.namespace, f"{one.at:,}", f"{one.cells:,}") for one in spaces))
        else:
            print("nothing was written to shared memory yet")
        return
    chosen = namespace

    async def look(opened: Store) -> list[Object]:
        await _check(opened, chosen)
        found: list[Object] = []
        while len(found) < limit:
            after = found[-1].cell.partition("/")[2] if found else ""
            page = (await opened.under(chosen, after=after, limit=min(1000, limit - len(found)))).objects
            if not page:
                break
            found += page
        return found

    _versions(ask(store, look), "cell", json)


@memories.command()
@reported
def show(
    cell: Cell,
    version: Annotated[int | None, typer.Option("--version", min=1, help="[default: the newest]")] = None,
    store: StorePlace = None,
    json: AsJson = False,
) -> None:
    """Show the value of a cell. What carries a label is not shown."""
    from weft.cli.render import age, out, plain_value
    from weft.core.clock import time
    from weft.core.sealed import label_of
    from weft.store.base import bytes_of

    async def look(opened: Store) -> tuple[Object, bytes | None]:
        found = await _history(opened, cell, 1 if version is None else 1_000_000)
        one = next((each for each in found if version in (None, each.version)), None)
        if one is None:
            raise _missing(f"version {version} of {cell} is not there; `weft memory history {cell}` lists them")
        data = None if one.value is None else await bytes_of(opened, one.value)
        return one, data

    one, data = ask(store, look)
    label = None if data is None else label_of(data)
    value = None if data is None else f"<labelled {label}>" if label is not None else plain_value(data)
    if json:
        out({**_plain(one), "label": None if label is None else str(label), "value": value})
        return
    print(f"{one.cell}  version {one.version}, {age(time() - one.updated)} ago, by {_author(one)}")
    for link in one.links:
        print(f"  -> {link}")
    out(value) if data is not None else print("deleted")


@memories.command()
@reported
def history(cell: Cell, limit: Most = 1000, store: StorePlace = None, json: AsJson = False) -> None:
    """List the versions of a cell, the newest first."""
    _versions(ask(store, lambda opened: _history(opened, cell, limit)), "version", json)


@memories.command()
@reported
def operations(namespace: Namespace, limit: Most = 50, store: StorePlace = None, json: AsJson = False) -> None:
    """List the operations that were committed in a namespace, the newest first.

    `tainted`: it builds on what was taken back, and its level promises nothing about that.
    """
    from weft.cli.render import out

    async def look(opened: Store) -> list[Operation]:
        await _check(opened, namespace)
        return await opened.recent(namespace, limit)

    found = ask(store, look)
    if json:
        import msgspec

        out([msgspec.structs.asdict(one) for one in found])
        return
    rows = ((one.id, one.level, f"{one.at:,}", one.state, _since(one)) for one in found)
    _table("operation level clock> state at>", rows)


@memories.command()
@reported
def prune(
    namespace: Namespace,
    keep: Annotated[int, typer.Option("--keep", min=1, help="So many of the newest versions of each cell stay.")],
    store: StorePlace = None,
    json: AsJson = False,
) -> None:
    """Delete old versions. A retraction can no longer bring them back: keep what you may still want to."""
    from weft.cli.host import say

    async def cut(opened: Store) -> int:
        await _check(opened, namespace)
        return await opened.prune(namespace, keep)

    count = ask(store, cut)
    say({"namespace": namespace, "deleted": count}, f"{count:,} old versions deleted", json)


# --- what the store has -------------------------------------------------------------------------------------------


async def _check(store: Store, namespace: str) -> None:
    """Raises NoObject unless something was written there."""
    if not (await store.look(namespace, [])).at:
        raise _missing(f"there is no memory {namespace!r} in {store.url}; `weft memory list` lists those there are")


async def _history(store: Store, cell: str, limit: int) -> list[Object]:
    found = await store.versions(cell, limit)
    if not found:
        namespace = cell.partition("/")[0]
        raise _missing(f"nothing was ever written to {cell} in {store.url}; try: weft memory list {namespace}")
    return found


def _missing(text: str) -> Exception:
    from weft.core.errors import NoObject

    return NoObject(text)


# --- as people and programs read it -------------------------------------------------------------------------------


def _size(one: Object) -> int | None:
    return None if one.value is None else len(one.value) if isinstance(one.value, bytes) else one.value.size


def _author(one: Object) -> str:
    return f"{one.operation} of {one.by}" if one.operation else "a retraction"


def _since(one: Operation) -> str:
    return f"{one.retracted_at or one.tainted_at:,}" if one.state != "live" else ""


def _plain(one: Object) -> dict[str, Any]:
    from weft.cli.render import moment

    return {
        "cell": one.cell, "version": one.version, "clock": one.at, "bytes": _size(one), "deleted": one.value is None,
        "links": list(one.links), "updated": moment(one.updated), "by": one.by or None,
        "operation": one.operation or None,
    }  # fmt: skip


def _versions(found: list[Object], first: str, json: bool) -> None:
    from weft.cli.render import age, out
    from weft.core.clock import time

    if json:
        out([_plain(one) for one in found])
        return

    def row(one: Object) -> tuple[str, ...]:
        size = _size(one)
        head = (one.cell, f"{one.version:,}") if first == "cell" else (f"{one.version:,}",)
        return (*head, "deleted" if size is None else f"{size:,}", age(time() - one.updated), one.operation or "-")

    headings = "cell version> bytes> age> operation" if first == "cell" else "version> bytes> age> operation"
    _table(headings, (row(one) for one in found))


def _table(headings: str, rows: Iterable[tuple[str, ...]]) -> None:
    """`>` after a heading: its column stands to the right."""
    from rich.table import Table
    from rich.text import Text

    from weft.cli.render import show

    table = Table(box=None, pad_edge=False)
    for heading in headings.split():
        table.add_column(heading.rstrip(">"), no_wrap=True, justify="right" if heading.endswith(">") else "left")
    for row in rows:
        table.add_row(*map(Text, row))
    show(table)
