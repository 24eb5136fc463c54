"""`weft query`: questions in SQL about what runs did."""

from __future__ import annotations

import csv as csv_
import sys
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from weft.cli.failures import reported
from weft.cli.words import AsJson, StorePlace

if TYPE_CHECKING:
    from rich.table import Table

    from weft.store.base import Store
    from weft.trace.query import Answer

SHOWN = 1000
"""Rows that are printed for a person."""


@reported
def query(
    question: Annotated[
        str | None, typer.Argument(metavar="SELECT", help="One select of SQL. [default: list the tables]")
    ] = None,
    run: Annotated[str | None, typer.Option(metavar="RUN", help="Only this run and its children.")] = None,
    csv: Annotated[bool, typer.Option("--csv", help="Print CSV.")] = False,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write the answer there: .parquet, .csv or .json (lines).")
    ] = None,
    store: StorePlace = None,
    json: AsJson = False,
) -> None:
    """Ask in SQL what runs did: tables runs, effects, bodies, generations, tool_calls, messages.

    They are made of the journals for each query, by DuckDB (extra `query`); nothing is written to the store.
    """
    from weft.cli.host import say
    from weft.cli.look import ask, find_run
    from weft.trace import query as queries

    if question is None:
        _tell(json)
        return
    words = question

    async def work(opened: Store) -> Answer:
        within = None if run is None else (await find_run(opened, run)).id
        return await queries.ask(opened, words, run=within, into=output)

    answer = ask(store, work)
    if output is not None:
        say({"file": str(output), "rows": answer.size}, f"{answer.size:,} rows in {output}", json)
    elif json:
        from weft.cli.render import out

        out([dict(zip(answer.columns, map(_plain, row), strict=True)) for row in answer.rows])
    elif csv:
        writer = csv_.writer(sys.stdout, lineterminator="\n")
        writer.writerow(answer.columns)
        writer.writerows([_plain(value) for value in row] for row in answer.rows)
    else:
        _show(answer)


def _tell(json: bool) -> None:
    """The tables and their columns."""
    from weft.cli.render import out
    from weft.trace.query.tables import TABLES

    if json:
        out(TABLES)
        return
    for name, columns in TABLES.items():
        print(f"{name}: {', '.join(columns)}")


def _show(answer: Answer) -> None:
    from weft.cli.render import show

    show(_table(answer))
    if answer.size > SHOWN:
        print(f"the first {SHOWN:,} of {answer.size:,} rows; -o FILE, --csv and --json have all")


def _table(answer: Answer) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False)
    for place, column in enumerate(answer.columns):
        number = bool(answer.rows) and isinstance(answer.rows[0][place], int | float)
        table.add_column(column, justify="right" if number else "left", overflow="fold")
    for row in answer.rows[:SHOWN]:
        table.add_row(*(Text("" if value is None else _short(value)) for value in row))
    return table


def _short(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    return str(_plain(value))


def _plain(value: Any) -> Any:
    """A value of an answer in JSON types."""
    if isinstance(value, datetime):
        return value.isoformat(timespec="milliseconds")
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, dict):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return value if isinstance(value, str | int | float | bool | None) else str(value)
